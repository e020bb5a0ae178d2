"""OpenID software from npm that nobody here wrote, installed once and kept: `node_modules("oidc-provider")`.

It lies in `npm` under HOMEROOM_CACHE, or under .cache of the repository. Without Node or a registry its tests are
skipped with the reason, unless HOMEROOM_REQUIRE_COUNTERPARTS=1 says that they must run.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

ROOT = Path(__file__).parents[4]
HERE = Path(__file__).parent
VERSIONS: Mapping[str, str] = json.loads((HERE / "package.json").read_text("utf-8"))["dependencies"]
INSTALL_SECONDS = 300
START_SECONDS = 30


def node_modules(*packages: str) -> Path:
    """The folder `node_modules` that holds these packages, in the versions of `package.json` beside this file.

    They are installed if they are not there, by one process at a time.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            _give_up(f"{program} is not on this machine")
    wanted = {package: VERSIONS[package] for package in packages}
    folder = Path(os.environ.get("HOMEROOM_CACHE") or ROOT / ".cache") / "npm" / "-".join(sorted(packages))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_there(folder, wanted):
            _install(folder, wanted)
    return folder / "node_modules"


@contextmanager
def running_script(script: str, modules: Path, *arguments: str) -> Iterator[str]:
    """A script of this folder under Node, from its first answer on loopback until the block ends; its origin.

    Its first argument is the port to listen on, `arguments` follow; COUNTERPART_MODULES says where its packages are.
    """
    origin = f"http://127.0.0.1:{(port := _free_port())}"
    command = ["node", "--no-warnings", str(HERE / script), str(port), *arguments]
    environment = {**os.environ, "COUNTERPART_MODULES": str(modules)}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            if not _answers(origin, process):
                said.seek(0)
                raise AssertionError(said.read()[-3000:])
            yield origin
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def _is_there(folder: Path, wanted: Mapping[str, str]) -> bool:
    for package, version in wanted.items():
        described = folder / "node_modules" / package / "package.json"
        if not described.is_file() or json.loads(described.read_text("utf-8"))["version"] != version:
            return False
    return True


def _install(folder: Path, wanted: Mapping[str, str]) -> None:
    described = {"name": "counterparts", "private": True, "dependencies": dict(wanted)}
    (folder / "package.json").write_text(json.dumps(described), "utf-8")
    command = ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev"]
    try:
        done = subprocess.run(command, cwd=folder, timeout=INSTALL_SECONDS, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        _give_up("npm did not finish")
    if done.returncode != 0 or not _is_there(folder, wanted):
        _give_up(f"npm could not install it: {done.stderr[-800:]}")


def _give_up(why: str) -> None:
    """Skip, or fail where these tests must run."""
    if os.environ.get("HOMEROOM_REQUIRE_COUNTERPARTS") == "1":
        pytest.fail(f"a counterpart from npm is needed: {why}")
    pytest.skip(f"a counterpart from npm is not to be had: {why}")


def _answers(origin: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait until it answers; False if it ended, or took too long."""
    deadline = time.monotonic() + START_SECONDS
    with httpx2.Client(timeout=5, trust_env=False) as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                client.get(origin)
            except httpx2.HTTPError:
                time.sleep(0.05)
            else:
                return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
