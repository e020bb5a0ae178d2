"""The Compose file, the image and the origin in front, checked without an engine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from homeroom import messages
from homeroom.bus import Message
from homeroom.bus.deadletter import burial
from homeroom.bus.postgres import PostgresBus
from homeroom.codes import Code
from homeroom.secrets import SealingKeys, seal
from homeroom.settings import Settings
from homeroom.testing.kafka import kafka_version
from homeroom_local.documents import SERVICES, Service
from homeroom_local.origin import ROUTES, find_service
from provider_gateway.inbox.host_key import fingerprints

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "deploy/compose"
SCHEMA = COMPOSE / "compose-spec.json"
"""The Compose specification's own, as compose-go 2.9.1 ships it (Apache-2.0), so that no engine is needed."""
INTERNAL = ("/v1/fingerprints", "/v1/people/")
"""What services serve to each other only."""
CONTRACT = (
    "/v1/organizations",
    "/v1/integrations/{id}",
    "/v1/integrations/{id}/runs",
    "/v1/integrations/{id}/reset",
    "/v1/integrations/{id}/uploads",
    "/v1/integrations/{id}/uploads/more",
    "/v1/inquiries/{id}",
    "/v1/runs/{id}",
    "/v1/runs/{id}/log",
    "/v1/providers",
    "/v1/changes",
    "/ims/oneroster/v1p1/users",
    "/oauth2/token",
    "/oauth2/jwks",
    "/.well-known/openid-configuration",
)
NEVER_OUTSIDE = (
    *("/livez", "/readyz", "/metrics", "/openapi/sso.json", "/", "/v1"),
    *("/v1/fingerprints/1/users", "/v1/people/resolve", "/v1/people/link"),
)

Json = dict[str, Any]


@pytest.fixture(scope="module")
def compose() -> Json:
    """The Compose file with its anchors resolved and its variables at their defaults."""
    text = re.sub(r"\$\{\w+(?::-([^}]*))?\}", r"\1", (ROOT / "docker-compose.yml").read_text("utf-8"))
    found: Json = yaml.safe_load(text)
    return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout's folder, as far as Compose needs it, after `deploy/compose/prepare`."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "docker-compose.yml", root)
    shutil.copytree(COMPOSE, root / "deploy/compose", ignore=shutil.ignore_patterns("secrets"))
    (root / ".venv").symlink_to(sys.prefix)
    _prepare(root)
    return root


@pytest.fixture(scope="module")
def secrets(prepared: Path) -> Path:
    """The folder of secrets that was made."""
    return prepared / "deploy/compose/secrets"


def _prepare(root: Path) -> None:
    answer = _run(root / "deploy/compose/prepare")
    assert answer.returncode == 0, answer.stderr


def _ours(compose: Json) -> dict[str, tuple[Service, str]]:
    """Our containers: the service each one is and its role."""
    packages = {service.package: service for service in SERVICES}
    return {
        name: (packages[container["command"][0]], container["command"][1])
        for name, container in compose["services"].items()
        if container["image"].startswith("homeroom")
    }


def _settings(service: Service, role: str) -> type[Settings]:
    """What a role is configured with; migrations take what the last long-running role takes, the store's no key."""
    if role == "migrate" and service.name == "roster-store":
        return Settings
    return service.roles.get(role) or list(service.roles.values())[-1]


def _run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, timeout=60)


def test_the_file_is_what_the_specification_says(compose: Json) -> None:
    """The Compose file is valid by the Compose specification's own schema."""
    jsonschema.Draft7Validator(json.loads(SCHEMA.read_text("utf-8"))).validate(compose)


def test_compose_itself_takes_the_file(prepared: Path) -> None:
    """Where Docker Compose is installed, it reads the file without a complaint."""
    commands = (["docker", "compose"], ["docker-compose"])
    found = [command for command in commands if shutil.which(command[0]) and not _run(*command, "version").returncode]
    if not found:
        pytest.skip("Docker Compose is not installed here")
    answer = _run(*found[0], "config", "--quiet", cwd=prepared)
    assert (answer.returncode, answer.stderr) == (0, "")


def test_every_service_runs_in_every_role(compose: Json) -> None:
    """Each service has a container for each of its roles, and one that migrates where it has a schema."""
    wanted = {(service.name, role) for service in SERVICES for role in service.roles}
    wanted |= {(service.name, "migrate") for service in SERVICES if service.name != "provider-gateway"}
    assert {(service.name, role) for service, role in _ours(compose).values()} == wanted


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_roles_of_the_file_are_roles_of_the_program(compose: Json, service: Service) -> None:
    """What a container's command names is a role its program takes."""
    usage = _run(sys.executable, "-m", service.package).stderr
    roles = set(usage.strip().rpartition(" ")[2].split("|"))
    assert {role for found, role in _ours(compose).values() if found is service} <= roles


def test_every_setting_exists(compose: Json) -> None:
    """Every HOMEROOM variable a container is given is a setting of its service."""
    for name, (service, role) in _ours(compose).items():
        known = {f"HOMEROOM_{field.upper()}" for field in _settings(service, role).model_fields}
        given = {variable.removesuffix("_FILE") for variable in compose["services"][name]["environment"]}
        assert given <= known, name


def test_every_container_is_configured(compose: Json, secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each container's settings load from exactly the variables and secrets it is given."""
    for variable in [variable for variable in os.environ if variable.startswith("HOMEROOM_")]:
        monkeypatch.delenv(variable)
    for name, (service, role) in _ours(compose).items():
        container = compose["services"][name]
        with monkeypatch.context() as patch:
            for variable, value in container["environment"].items():
                if variable.endswith("_FILE"):
                    assert value.startswith("/run/secrets/"), name
                    assert Path(value).name in container["secrets"], name
                patch.setenv(variable, str(value or "").replace("/run/secrets", str(secrets)))
            settings = _settings(service, role).load()
        port = settings.port if role == "api" else settings.health_port
        assert port == (None if role == "migrate" else 8000), name


def test_no_secret_stands_in_the_file(compose: Json) -> None:
    """Secrets come from files only, each for those who need it."""
    for name, container in compose["services"].items():
        for variable in container.get("environment", {}):
            assert variable.endswith("_FILE") or not re.search("SECRET|PASSWORD|KEY|DATABASE_URL|CLIENTS", variable), (
                name
            )
    openers = [
        name for name, found in compose["services"].items() if "gateway-private-keys" in found.get("secrets", ())
    ]
    assert openers == ["provider-gateway-worker"]


def test_what_faces_the_outside_has_no_way_into_the_database(compose: Json) -> None:
    """The gateway, which talks to providers, is given neither the database's address nor its password."""
    for name, (service, _) in _ours(compose).items():
        given = {"database-url", "postgres-password"} & set(compose["services"][name].get("secrets", ()))
        assert given == (set() if service.name == "provider-gateway" else {"database-url"}), name
        known = "HOMEROOM_DATABASE_URL_FILE" in compose["services"][name]["environment"]
        assert known == bool(given), name


def test_secrets_fit_together(secrets: Path) -> None:
    """What the scheduler seals with the made keys, the gateway opens."""
    public, private = ((secrets / name).read_text().strip() for name in ("gateway-public-key", "gateway-private-keys"))
    assert SealingKeys(private).open("integration", seal(public, "integration", "secret")) == "secret"


def test_uploads_are_shared_by_those_who_need_them(compose: Json) -> None:
    """The gateway's containers share one volume of uploads, and all of them know where it is."""
    mounted = {name: found["volumes"] for name, found in compose["services"].items() if name.startswith("provider")}
    place = "uploads:/var/lib/homeroom/uploads"
    roles = ("provider-gateway", "provider-gateway-inbox", "provider-gateway-worker")
    assert mounted == {name: [place] for name in roles}
    for name in mounted:
        assert compose["services"][name]["environment"]["HOMEROOM_UPLOADS_URL"] == place.partition(":")[2]
    assert "mkdir --parents --mode=1777 /var/lib/homeroom/uploads" in (ROOT / "deploy/Dockerfile").read_text()


def test_the_inbox_knows_its_host_key(secrets: Path) -> None:
    """The host key that is made is one the inbox takes, and districts are told its fingerprint."""
    told = (secrets / "sftp-host-key-fingerprint").read_text().strip()
    assert f"ssh-ed25519 {told}" in fingerprints((secrets / "sftp-host-key").read_text())


def test_an_older_installation_gets_what_came_later(prepared: Path, secrets: Path) -> None:
    """Preparing an older installation adds the secrets that stand for themselves and leaves all others as they are."""
    names = ("sftp-host-key", "sftp-host-key-fingerprint", "alert-signing-key", "smtp-password", "store-key")
    later = {secrets / name for name in names}
    for path in later:
        path.unlink()
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    _prepare(prepared)
    assert {path.name: path.read_text() for path in secrets.iterdir() if path not in later} == before
    assert fingerprints((secrets / "sftp-host-key").read_text())
    assert {stat.S_IMODE(path.stat().st_mode) for path in later} == {0o600}


def test_an_older_installation_gets_a_client_for_sso(prepared: Path, secrets: Path) -> None:
    """Preparing an installation from before sso had a client adds it among the clients, which stay as they are."""
    (secrets / "sso-client-secret").unlink()
    path = secrets / "bootstrap-clients"
    before = [each for each in json.loads(path.read_text()) if each["id"] != "sso"]
    path.write_text(json.dumps(before))
    _prepare(prepared)
    *others, added = json.loads(path.read_text())
    assert others == before
    assert added == {
        "id": "sso",
        "secret": (secrets / "sso-client-secret").read_text().strip(),
        "scopes": ["people.resolve"],
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_preparing_twice_changes_nothing(prepared: Path, secrets: Path) -> None:
    """Who prepares again keeps the secrets and the settings that are there."""
    paths = [prepared / ".env", *secrets.iterdir()]
    before = [path.read_text() for path in paths]
    _prepare(prepared)
    assert [path.read_text() for path in paths] == before


def test_secrets_are_their_owners(prepared: Path, secrets: Path) -> None:
    """Folder and files can be read by their owner only, who is the one the containers run as."""
    owner = re.search(r"^SERVICE_USER=(\d+):\d+$", (prepared / ".env").read_text(), re.MULTILINE)
    assert {path.stat().st_uid for path in secrets.iterdir()} == {int(owner[1]) if owner else None}
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o600}


def test_every_secret_is_made(compose: Json, secrets: Path) -> None:
    """Every secret file the Compose file mounts is one that is made."""
    mounted = {Path(secret["file"]).name for secret in compose["secrets"].values()}
    assert mounted <= {path.name for path in secrets.iterdir()}
    assert {secret["file"] for secret in compose["secrets"].values()} == {
        f"deploy/compose/secrets/{name}" for name in compose["secrets"]
    }


def test_secrets_never_reach_an_image_or_the_repository() -> None:
    """The build sees only what the Dockerfile copies, and Git ignores the secrets."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule[0] == "!"} == {source for line in copied for source in line.split()}
    assert _run("git", "check-ignore", "--quiet", "deploy/compose/secrets/sso-key").returncode == 0


def test_images_have_a_tag(compose: Json) -> None:
    """No image floats: each has a version, and Kafka's is the one the tests run on."""
    images = {name: container["image"] for name, container in compose["services"].items()}
    images |= dict(enumerate(re.findall(r"^FROM (\S+)", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)))
    for image in images.values():
        assert re.fullmatch(r"[a-z/-]+:\d+\.\d+\S*", image), image
    assert images["kafka"] == f"apache/kafka:{kafka_version()}"


def test_only_the_origin_and_the_inbox_are_published(compose: Json) -> None:
    """Only the origin and the SFTP inbox have a port outside, on loopback unless they are told otherwise."""
    published = {name: found["ports"] for name, found in compose["services"].items() if "ports" in found}
    assert published == {"origin": ["127.0.0.1:8000:8000"], "provider-gateway-inbox": ["127.0.0.1:2222:2222"]}
    assert {name for name, found in compose["services"].items() if "outside" in found["networks"]} == {
        "origin",
        "provider-gateway-inbox",
        "provider-gateway-worker",
        "roster-store-worker",
        "sso",
        "sso-worker",
        "sync-scheduler-worker",
    }
    assert compose["networks"]["inside"]["internal"] is True


def test_containers_are_kept_up_and_in_bounds(compose: Json) -> None:
    """Whatever stays up has a health check, is started again, and has limits; ours can write nothing but /tmp."""
    ours = _ours(compose)
    for name, found in compose["services"].items():
        migrates = name in ours and ours[name][1] == "migrate"
        assert found["restart"] == ("on-failure:3" if migrates else "unless-stopped"), name
        assert migrates or "healthcheck" in found, name
        assert {"cpus", "memory", "pids"} <= set(found["deploy"]["resources"]["limits"]), name
        assert "no-new-privileges:true" in found["security_opt"], name
        if name in ours or name == "origin":
            assert found["read_only"], name
            assert found["cap_drop"] == ["ALL"], name
            assert not found["user"].startswith("0"), name


def test_nothing_waits_for_what_is_not_there(compose: Json) -> None:
    """Whatever a container waits for exists and can reach the state that is waited for."""
    for name, found in compose["services"].items():
        for other, wait in found.get("depends_on", {}).items():
            awaited = compose["services"][other]
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in awaited, (name, other)
            else:
                assert awaited["command"][1] == "migrate", (name, other)


# ── the origin in front ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def routes() -> list[tuple[re.Pattern[str], str]]:
    """What the origin's configuration sends where, in its order."""
    table = re.search(r"map \$request_uri \$service \{(.*?)\n    \}", (COMPOSE / "nginx.conf").read_text(), re.DOTALL)
    assert table
    return [(re.compile(rule), service) for rule, service in re.findall(r"~(\S+)\s+\"?([\w-]*)\"?;", table[1])]


def _find(routes: list[tuple[re.Pattern[str], str]], path: str) -> str | None:
    return next((service for rule, service in routes if rule.search(path)), None) or None


def test_every_path_of_the_contract_is_routed(routes: list[tuple[re.Pattern[str], str]]) -> None:
    """The contract's paths reach a service, and the same one as in the local installation."""
    for path in (*CONTRACT, *ROUTES):
        assert _find(routes, path) == find_service(path) is not None, path


def test_every_path_of_a_service_is_routed_to_it(routes: list[tuple[re.Pattern[str], str]]) -> None:
    """Each path in a service's OpenAPI document is routed to that service, but for those between services."""
    for service in SERVICES:
        paths: Mapping[str, Any] = service.make_app().openapi()["paths"]
        for path in paths:
            assert _find(routes, path) == (None if path.startswith(INTERNAL) else service.name), path


@pytest.mark.parametrize(
    "path",
    [*NEVER_OUTSIDE, "/v1/changes/../fingerprints/1/users", "/v1/runs/./x", "/v1/organizationsX", "/v1/%63hanges"],
)
def test_nothing_else_is_routed(routes: list[tuple[re.Pattern[str], str]], path: str) -> None:
    """Probes, metrics, internal paths and paths in disguise reach no service."""
    assert _find(routes, path) is None


def test_routes_lead_to_containers(compose: Json, routes: list[tuple[re.Pattern[str], str]]) -> None:
    """Every service that is routed to is an API container the origin waits for."""
    waited = set(compose["services"]["origin"]["depends_on"])
    assert {service for _, service in routes if service} == waited
    assert all(compose["services"][name]["command"][1] == "api" for name in waited)


# ── the runbook's tool ────────────────────────────────────────────────────────────────────────────────────────────


async def test_dead_letters_are_shown_and_sent_again(database_url: str) -> None:
    """The runbook's commands list a dead letter without its content, and put it back where it came from."""
    sent = Message("roster-changes", 3, 17, "i", b'{"givenName": "Ada"}', {}, datetime.now(UTC))
    async with PostgresBus.open(database_url) as bus:
        await bus.ensure_topics(messages.TOPICS)
        await burial(bus, "roster-store")(sent, Code.MESSAGE_UNREADABLE)
        listed = await asyncio.to_thread(_show_letters, "list", database_url)
        assert re.search(r"roster-store +MESSAGE_UNREADABLE +partition 3 offset 17 ", listed)
        assert "Ada" not in listed
        assert await bus.lag("anybody", ["roster-changes"]) == 0
        await asyncio.to_thread(_show_letters, "replay", database_url)
        assert await bus.lag("anybody", ["roster-changes"]) == 1


def _show_letters(action: str, database_url: str) -> str:
    """What a container answers to the command of the runbook."""
    answer = subprocess.run(
        [sys.executable, "-", action, "roster-changes"],
        input=(COMPOSE / "dead_letters.py").read_text("utf-8"),
        env={"HOMEROOM_DATABASE_URL": database_url, "HOMEROOM_ISSUER": "http://127.0.0.1:8000"},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return answer.stdout
