"""Kustomize, and the schemas of kinds that Kubernetes itself doesn't know, from whatever this machine offers.

Kustomize is `kustomize` or `kubectl kustomize` if a recent one is installed, else it is built with Go and kept under
`$HOMEROOM_CACHE` or the repository's `.cache`. Go modules hold the schemas of KEDA and CloudNativePG, too. A Go that
is too old to build it (Debian's 1.19) fetches a newer one of itself, as newer ones do by themselves. Strimzi has its
schemas in the Java classes that its operator reads them with, on Maven Central.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy/k8s"
MINIMUM = (5, 0)
KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1"
GO_THAT_SWITCHES = (1, 21)
"""From here on Go fetches the version of itself that a module asks for."""
GO = "1.24.6"
SCHEMAS = {
    "keda.sh": "github.com/kedacore/keda/v2@v2.18.3",
    "postgresql.cnpg.io": "github.com/cloudnative-pg/cloudnative-pg@v1.28.0",
}
"""API group → the Go module whose `config/crd/bases` define it."""
STRIMZI = Path(__file__).parent / "strimzi"
BUILD_SECONDS = 280
RUN_SECONDS = 60

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Json = dict[str, Any]
T = TypeVar("T")


class NotHere(Exception):  # noqa: N818 - a state of the machine
    """This machine lacks something; the text says what."""


def cache() -> Path:
    """Where what was fetched or built is kept."""
    chosen = Path(os.environ.get("HOMEROOM_CACHE") or ROOT / ".cache") / "kubernetes"
    chosen.mkdir(parents=True, exist_ok=True)
    return chosen


@functools.cache
def render(folder: Path) -> list[Json]:
    """The manifests of a folder, as `kubectl apply -k` sends them. Raises `NotHere`."""
    text = _run(*find_kustomize(), str(folder), seconds=RUN_SECONDS)
    return [found for found in yaml.load_all(text, LOADER) if found]


def here(ask: Callable[..., T], *args: object) -> T:
    """The answer to a question; the test is skipped, or fails if CI says so, where this machine can't give it."""
    try:
        return ask(*args)
    except NotHere as error:
        if os.environ.get("HOMEROOM_REQUIRE_KUSTOMIZE") == "1":
            pytest.fail(f"HOMEROOM_REQUIRE_KUSTOMIZE=1, but {error}")
        pytest.skip(str(error))


@functools.cache
def find_kustomize() -> tuple[str, ...]:
    """The command that renders a folder. Raises `NotHere`."""
    for program, asked, command in (
        ("kustomize", ("version",), ("build",)),
        ("kubectl", ("version", "--client"), ("kustomize",)),
    ):
        if (path := shutil.which(program)) and _version(path, *asked) >= MINIMUM:
            return (path, *command)
    return (str(_keep(KUSTOMIZE.replace("/", "_"), _build)), "build")


def _version(program: str, *asked: str) -> tuple[int, ...]:
    """The version of Kustomize a program has; kubectl tells its own, too."""
    told = subprocess.run([program, *asked], capture_output=True, text=True, timeout=RUN_SECONDS, check=False).stdout
    found = re.search(r"(?:^|Kustomize Version: *)v(\d+)\.(\d+)", told)
    return (int(found[1]), int(found[2])) if found else (0,)


def _keep(name: str, make: Callable[[Path], None]) -> Path:
    """A file or folder of the cache, made once; whoever comes meanwhile waits for it."""
    kept = cache() / name
    with (cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            coming = Path(tempfile.mkdtemp(prefix="coming-", dir=kept.parent))
            try:
                make(coming / "made")
                (coming / "made").rename(kept)
            finally:
                shutil.rmtree(coming, ignore_errors=True)
    return kept


# ── with Go ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _build(place: Path) -> None:
    go = _go()
    environment = {"GOBIN": str(place.parent), "CGO_ENABLED": "0", "GOTOOLCHAIN": "auto"}
    _run(*go, "install", KUSTOMIZE, seconds=BUILD_SECONDS, environment=environment)
    (place.parent / "kustomize").rename(place)


@functools.cache
def _go() -> tuple[str, ...]:
    """The command of a Go that can build modules of today. Raises `NotHere`."""
    go = shutil.which("go")
    if go is None:
        raise NotHere("there is neither a Kustomize of version 5 nor Go to build one (Debian: golang-go)")
    version = _run(go, "env", "GOVERSION", seconds=RUN_SECONDS)
    found = re.match(r"go(\d+)\.(\d+)", version)
    if found and (int(found[1]), int(found[2])) < GO_THAT_SWITCHES:
        return (str(_keep(f"go{GO}", functools.partial(_fetch_go, go)) / "bin/go"),)
    return (go,)


def _fetch_go(old: str, place: Path) -> None:
    """Fetch a newer Go with an older one: it is a module, whose files only lack their permission to run."""
    system = _run(old, "env", "GOOS", "GOARCH", seconds=RUN_SECONDS).split()
    shutil.copytree(_fetch_module(old, f"golang.org/toolchain@v0.0.1-go{GO}.{'-'.join(system)}"), place)
    for path in (place, *place.rglob("*")):
        path.chmod(0o755)


def _fetch_module(go: str, module: str) -> Path:
    """The folder of a Go module; Go checks what it gets against its public log of checksums."""
    told = _run(go, "mod", "download", "-json", module, seconds=BUILD_SECONDS, environment={"GOTOOLCHAIN": "auto"})
    return Path(json.loads(told)["Dir"])


@functools.cache
def load_schemas(group: str) -> Mapping[tuple[str, str], Json]:
    """(apiVersion, kind) → JSON schema of an API group, refusing what it doesn't know. Raises `NotHere`."""
    module = SCHEMAS[group]

    def fetch(place: Path) -> None:
        found = {}
        for path in (_fetch_module(_go()[0], module) / "config/crd/bases").glob(f"{group}_*.yaml"):
            spec = yaml.load(path.read_text("utf-8"), LOADER)["spec"]  # noqa: S506 - it is the safe one
            for version in spec["versions"]:
                schema = version["schema"]["openAPIV3Schema"]
                found[f"{spec['group']}/{version['name']} {spec['names']['kind']}"] = _close(schema)
        place.write_text(json.dumps(found), "utf-8")

    kept: Mapping[str, Json] = json.loads(_keep(f"{module.replace('/', '_')}.json", fetch).read_text("utf-8"))
    return {(name.split()[0], name.split()[1]): schema for name, schema in kept.items()}


def _close(schema: Any) -> Any:
    """A schema that refuses unknown fields, where Kubernetes would drop them silently."""
    if isinstance(schema, list):
        return [_close(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _close(part) for key, part in schema.items()}
    is_object = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if is_object and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


# ── with Maven ────────────────────────────────────────────────────────────────────────────────────────────────────


def check_strimzi(manifests: list[Json]) -> list[str]:
    """What Strimzi's own classes don't know in these manifests, or can't read. Raises `NotHere`."""
    maven, java = shutil.which("mvn"), shutil.which("java")
    if not maven or not java:
        raise NotHere("there is no Maven to fetch Strimzi's classes with, or no Java to run them")
    pom = (STRIMZI / "pom.xml").read_text("utf-8")
    version = re.search(r"<strimzi\.version>(.+)</strimzi\.version>", pom)
    assert version

    def fetch(place: Path) -> None:
        goal = ("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={place}")
        _run(maven, "--quiet", "--batch-mode", "--file", str(STRIMZI / "pom.xml"), *goal, seconds=BUILD_SECONDS)

    jars = _keep(f"strimzi-{version[1]}", fetch)
    command = (java, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*", "groovy.ui.GroovyMain")
    text = "\n---\n".join(map(json.dumps, manifests))
    return sorted(set(_run(*command, str(STRIMZI / "check.groovy"), seconds=RUN_SECONDS, text=text).splitlines()))


def _run(*command: str, seconds: float, environment: Mapping[str, str] | None = None, text: str = "") -> str:
    """What a command says. Raises `NotHere` with the end of its complaint."""
    try:
        answer = subprocess.run(
            command,
            input=text,
            env={**os.environ, **(environment or {})},
            cwd=tempfile.gettempdir(),  # Go looks for a module around it
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NotHere(f"{command[0]} {command[1]} did not end within {seconds:.0f} s") from error
    if answer.returncode:
        raise NotHere(f"{command[0]} {command[1]} failed: {(answer.stderr or answer.stdout).strip()[-600:]}")
    return answer.stdout
