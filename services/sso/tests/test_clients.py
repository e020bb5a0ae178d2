"""Clients: created, listed and disabled over REST, declared by the operator."""

import asyncio
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from homeroom.auth import Caller
from homeroom.clock import MovingClock
from homeroom.settings import SettingsError
from homeroom.testing.tokens import calling
from sso.app import create
from sso.clients import Declaration, check
from sso.settings import Settings


async def test_a_secret_is_shown_once(service: Any) -> None:
    """A new client gets a secret that works, and that no later answer shows."""
    boss = await service.boss()
    created = await service.client.post("/v1/clients", headers=boss, json={"id": "portal", "scopes": ["roster.read"]})
    secret = created.json()["secret"]
    listed = await service.client.get("/v1/clients", headers=boss)

    assert created.status_code == 201
    assert (await service.ask("portal", secret)).status_code == 200
    assert {"boss", "gateway", "portal"} == {client["id"] for client in listed.json()["clients"]}
    assert secret not in listed.text


async def test_disabled_clients_get_no_tokens(service: Any) -> None:
    """A deleted client is refused like an unknown one, stays listed as disabled, and its id is not given again."""
    boss = await service.boss()
    created = await service.client.post("/v1/clients", headers=boss, json={"scopes": ["roster.read"]})
    name, secret = created.json()["id"], created.json()["secret"]

    assert (await service.client.delete(f"/v1/clients/{name}", headers=boss)).status_code == 204
    assert (await service.client.delete(f"/v1/clients/{name}", headers=boss)).status_code == 204

    refused = await service.ask(name, secret)
    again = await service.client.post("/v1/clients", headers=boss, json={"id": name, "scopes": ["roster.read"]})
    listed = (await service.client.get("/v1/clients", headers=boss)).json()["clients"]
    assert (refused.status_code, refused.json()["code"]) == (401, "CLIENT_INVALID")
    assert (again.status_code, again.json()["code"]) == (409, "CLIENT_EXISTS")
    assert next(client for client in listed if client["id"] == name)["disabled_at"]


async def test_what_becomes_of_clients_is_written_down(service: Any) -> None:
    """Each client that is made, gets another secret or is disabled leaves a line that says by whom, and no secret."""
    boss = await service.boss()
    wanted = {"id": "portal", "scopes": ["roster.read"], "organization_id": str(uuid.uuid4())}
    created = await service.client.post("/v1/clients", headers=boss, json=wanted)
    await service.client.post("/v1/clients", headers=boss, json=wanted)  # the id is taken: nothing was done
    body = {"overlap_hours": 2}
    changed = await service.client.post("/v1/clients/portal/secrets", headers=boss, json=body)
    for _ in range(2):  # the second time nothing changes
        await service.client.delete("/v1/clients/portal", headers=boss)
    listed = await service.client.get("/v1/sign-in/audit", headers=boss, params={"subject": "client:portal"})

    lines = listed.json()["items"]
    assert [line["action"] for line in lines] == ["client.disable", "client.exchange-secret", "client.create"]
    assert {(line["by"], line["organization_id"]) for line in lines} == {("boss", wanted["organization_id"])}
    assert [line["detail"] for line in lines] == [{}, {"overlap_hours": 2.0}, {"scopes": ["roster.read"]}]
    assert created.json()["secret"] not in listed.text
    assert changed.json()["secret"] not in listed.text


async def test_unknown_clients_can_not_be_deleted(service: Any) -> None:
    """Deleting what is not there says so."""
    boss = await service.boss()
    answer = await service.client.delete("/v1/clients/nobody", headers=boss)
    odd = await service.client.delete("/v1/clients/no%00body", headers=boss)

    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert (odd.status_code, odd.json()["code"]) == (422, "REQUEST_INVALID")


@pytest.mark.parametrize(
    "body",
    [
        {"scopes": ["roster.read"], "secret": "mine"},
        {"scopes": ["everything"]},
        {"scopes": []},
        {"id": "Has Spaces", "scopes": ["roster.read"]},
        {"scopes": ["roster.read"], "organization_id": "not-a-uuid"},
    ],
)
async def test_wrong_clients_are_refused(service: Any, body: dict[str, Any]) -> None:
    """Unknown fields, unknown scopes and odd ids are refused by name."""
    answer = await service.client.post("/v1/clients", headers=await service.boss(), json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")
    assert answer.json()["errors"]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/clients"), ("GET", "/v1/clients"), ("DELETE", "/v1/clients/boss")]
)
async def test_only_admins_look_after_clients(service: Any, method: str, path: str) -> None:
    """Without a token there is nothing to see, and a token without the scope does not help."""
    gateway = {"Authorization": f"Bearer {await service.token('gateway', 'gateway-secret-0123456789')}"}
    body = {"scopes": ["roster.read"]} if method == "POST" else None

    assert (await service.client.request(method, path, json=body)).status_code == 401
    assert (await service.client.request(method, path, json=body, headers=gateway)).status_code == 403


async def test_an_organizations_admin_stays_within_it(service: Any) -> None:
    """Who may see one organization creates, sees and disables clients of that one only, with no more than they have."""
    boss, mine, other = await service.boss(), str(uuid.uuid4()), str(uuid.uuid4())

    async def create_as(headers: dict[str, str], **body: Any) -> Any:
        return await service.client.post("/v1/clients", headers=headers, json=body)

    local = (await create_as(boss, id="local", scopes=["admin"], organization_id=mine)).json()
    await create_as(boss, id="theirs", scopes=["roster.read"], organization_id=other)
    headers = {"Authorization": f"Bearer {await service.token('local', local['secret'])}"}

    statuses = [
        (await create_as(headers, scopes=["roster.read"], organization_id=mine)).status_code,
        (await create_as(headers, scopes=["roster.read"], organization_id=other)).status_code,
        (await create_as(headers, scopes=["roster.read"])).status_code,
        (await create_as(headers, scopes=["fingerprints.read"], organization_id=mine)).status_code,
        (await service.client.delete("/v1/clients/theirs", headers=headers)).status_code,
        (await service.client.delete("/v1/clients/boss", headers=headers)).status_code,
    ]
    listed = (await service.client.get("/v1/clients", headers=headers)).json()["clients"]

    assert statuses == [201, 403, 403, 403, 404, 404]
    assert {client["organization_id"] for client in listed} == {mine}


async def test_clients_are_listed_page_by_page(service: Any) -> None:
    """Following the cursor shows every client once, and a made-up cursor is refused."""
    boss = await service.boss()
    for n in range(5):
        await service.client.post("/v1/clients", headers=boss, json={"id": f"c{n}", "scopes": ["roster.read"]})
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await service.client.get("/v1/clients", headers=boss, params={"cursor": cursor, "limit": 3})).json()
        seen += [client["id"] for client in page["clients"]]
        cursor = page["cursor"]

    assert seen == ["boss", "c0", "c1", "c2", "c3", "c4", "gateway"]
    for made_up in ("é", "AA==", "IA=="):
        odd = await service.client.get("/v1/clients", headers=boss, params={"cursor": made_up})
        assert (odd.status_code, odd.json()["code"]) == (400, "CURSOR_INVALID"), made_up


async def test_declared_clients_follow_the_operator(settings: Settings, clock: MovingClock) -> None:
    """At every start declared clients are as declared, but one that was disabled in an emergency stays disabled."""
    app = create(settings, clock)
    async with calling(app):
        await app.state.clients.disable(Caller("boss", frozenset({"admin"}), None), "gateway")
        await app.state.clients.declare(Declaration("boss", "changed-since-the-last-start", ["roster.read"]))

    async with calling(app):
        assert await app.state.clients.authenticate("gateway", "gateway-secret-0123456789") is None
        boss = await app.state.clients.authenticate("boss", "boss-secret-with-öäü:and-more")

    assert boss is not None
    assert boss.scopes == {"admin"}


async def test_the_command_registers_a_client(
    settings: Settings, clock: MovingClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m sso client` makes a client what its arguments say, as often as it is run."""
    (tmp_path / "secret").write_text("a-secret-from-a-file-0815\n")
    environment = {
        "HOMEROOM_DATABASE_URL": settings.database_url.get_secret_value(),
        "HOMEROOM_ISSUER": settings.issuer,
        "HOMEROOM_SSO_KEY": settings.sso_key.get_secret_value(),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-m", "sso", "client",
            "--id", "cli", "--secret-file", str(tmp_path / "secret"), "--scope", "runs.write", "--scope", "roster.read",
        )  # fmt: skip
        assert await asyncio.wait_for(process.wait(), 60) == 0

    app = create(settings, clock)
    async with calling(app):
        client = await app.state.clients.authenticate("cli", "a-secret-from-a-file-0815")

    assert client is not None
    assert client.scopes == {"runs.write", "roster.read"}


@pytest.mark.parametrize(
    "declaration",
    [
        Declaration("has spaces", "x" * 30, ["admin"]),
        Declaration("short", "x" * 8, ["admin"]),
        Declaration("none", "x" * 30, []),
        Declaration("odd", "x" * 30, ["everything"]),
    ],
)
def test_wrong_declarations_are_refused_at_start(declaration: Declaration) -> None:
    """A short secret, an unknown scope or an odd id is found before anything is served, and no secret is shown."""
    with pytest.raises(ValueError, match=r"client|secret") as caught:
        check(declaration)

    assert "xxxx" not in str(caught.value)


def test_wrong_keys_stop_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing or mistyped HOMEROOM_SSO_KEY stops the start with a text that says how to make one."""
    monkeypatch.setenv("HOMEROOM_DATABASE_URL", "postgresql://db/x")
    monkeypatch.setenv("HOMEROOM_ISSUER", "http://homeroom.test")
    with pytest.raises(SettingsError, match="HOMEROOM_SSO_KEY is not set"):
        Settings.load()
    monkeypatch.setenv("HOMEROOM_SSO_KEY", "mistyped")
    with pytest.raises(SettingsError, match=r"python -m homeroom\.secrets"):
        Settings.load()
