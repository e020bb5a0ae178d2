"""Does a connection work? Its self-test, and test sign-ins, after which nobody is signed in or tied."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from connecting import make_certificate, make_connection
from played_provider import CLIENT_ID, SECRET, PlayedProvider, playing_provider
from roster_stand_in import District, PlayedRoster

from homeroom.clock import MovingClock
from homeroom.codes import Code
from sso.settings import Settings

if TYPE_CHECKING:
    from conftest import Service


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    """Settings with which providers may be on loopback."""
    settings.allow_private_endpoints = True
    return settings


@pytest.fixture
async def provider(clock: MovingClock) -> AsyncIterator[PlayedProvider]:
    """A played OpenID provider."""
    async with playing_provider(clock) as played:
        yield played


async def connect(service: Service, provider: PlayedProvider, district: District, **oidc: Any) -> str:
    """The path of a connection to the played provider."""
    entered = {"issuer": provider.issuer, "client_id": CLIENT_ID, "client_secret": SECRET, **oidc}
    place = {"organization_id": str(district.organization_id), "integration_id": str(district.integration_id)}
    body = {"kind": "oidc", "name": "School accounts", "oidc": entered, **place}
    made = await service.client.post("/v1/connections", json=body, headers=await service.boss())
    assert made.status_code == 201, made.text
    return f"/v1/connections/{made.json()['id']}"


async def examine(service: Service, path: str) -> dict[str, dict[str, Any]]:
    """What the self-test says, by the names of the checks."""
    answer = await service.client.post(f"{path}/test", headers=await service.boss())
    assert answer.status_code == 200, answer.text
    assert answer.json()["ok"] is all(one["ok"] is not False for one in answer.json()["checks"])
    return {one["check"]: one for one in answer.json()["checks"]}


async def test_a_good_connection_passes(service: Service, provider: PlayedProvider, district: District) -> None:
    """A connection that works passes every check, and the provider never sees a code that anybody gave."""
    checks = await examine(service, await connect(service, provider, district))

    assert {name for name, one in checks.items() if one["ok"] is not True} == {"clock"}  # it does not say the time
    assert {
        "discovery",
        "issuer",
        "endpoints",
        "keys",
        "algorithms",
        "pkce",
        "token-endpoint",
        "client",
    } <= checks.keys()
    assert {"tenant", "integration", "roster", "license"} <= checks.keys()


async def test_each_kind_of_wrong_is_named(
    service: Service, provider: PlayedProvider, district: District, roster: PlayedRoster
) -> None:
    """Whatever is wrong is said at its own check, with what to do about it; a wrong secret is told from a right one."""
    path = await connect(service, provider, district)
    headers = await service.boss()

    async def find_wrong() -> set[str]:
        checks = await examine(service, path)
        assert all(one["next_step"] for one in checks.values() if one["ok"] is False)
        assert SECRET not in str(checks)
        return {name for name, one in checks.items() if one["ok"] is False}

    for metadata, wrong in (
        ({"issuer": "https://clever.com"}, "issuer"),
        ({"token_endpoint": "file:///etc/passwd"}, "endpoints"),
        ({"id_token_signing_alg_values_supported": ["HS256", "none"]}, "algorithms"),
    ):
        provider.metadata = metadata
        assert await find_wrong() == {wrong}, metadata
    provider.metadata = {}
    for place, manner, wrong in (
        ("/.well-known/openid-configuration", "html", "discovery"),
        ("/.well-known/openid-configuration", "redirect", "discovery"),
        ("/jwks", "not-json", "keys"),
        ("/token", "error", "token-endpoint"),
    ):
        provider.behave = {place: manner}  # type: ignore[dict-item]  # one of the manners
        assert await find_wrong() == {wrong}, (place, manner)
    provider.behave, provider.published = {}, []
    assert await find_wrong() == {"keys"}
    provider.published = None
    roster.applied_at = None
    await service.database.fetch("DELETE FROM person_answer")
    await service.database.fetch("UPDATE license SET revoked_at = now()")
    change = {"enabled": False, "oidc": {"pkce": False, "client_secret": "another-secret"}}
    await service.client.patch(path, json=change, headers=headers)
    assert await find_wrong() == {"client", "enabled", "pkce", "roster", "license"}


async def test_saml_connections_are_looked_at(service: Service, settings: Settings, clock: MovingClock) -> None:
    """A certificate that has run out and an exception for SHA-1 are named."""
    until = clock.now().replace(month=10).isoformat()
    old = make_certificate(begins_days=-400, ends_days=-100)
    _, connection = await make_connection(
        service.database, settings, kind="saml", certificates=[old], allow_sha1_until=until
    )
    checks = await examine(service, f"/v1/connections/{connection}")

    assert {name for name, one in checks.items() if one["ok"] is False} == {
        "certificate",
        "certificate-expired",
        "weak-signatures",
    }


async def begin(service: Service, path: str) -> tuple[str, str]:
    """A test sign-in: where its result is read, and the path of its address."""
    made = (await service.client.post(f"{path}/test-sign-ins", headers=await service.boss())).json()
    return f"{path}/test-sign-ins/{made['id']}", urlsplit(made["url"]).path


async def read(service: Service, place: str) -> dict[str, Any]:
    """How a test sign-in stands."""
    found: dict[str, Any] = (await service.client.get(place, headers=await service.boss())).json()
    return found


async def count_traces(service: Service) -> int:
    """Sessions, people and ties there are."""
    counted: int = await service.database.fetchval(
        "SELECT (SELECT count(*) FROM session) + (SELECT count(*) FROM person) + (SELECT count(*) FROM identity)"
    )
    return counted


async def test_a_test_sign_in_shows_what_came(
    service: Service, provider: PlayedProvider, district: District, roster: PlayedRoster
) -> None:
    """The page and the result name what came and what the roster says; nobody is signed in or tied, no value kept."""
    roster.add(district.integration_id, "user-1")
    path = await connect(service, provider, district)
    place, address = await begin(service, path)
    assert (await read(service, place))["state"] == "waiting"

    sent = await service.client.get(address)
    assert sent.status_code == 303
    assert (await read(service, place))["state"] == "opened"
    back = provider.approve(sent.headers["location"], sourcedId="user-1", name="Ada Secretly")
    page = await service.client.get(back)
    result = await read(service, place)

    assert page.status_code == 200
    assert "The connection works" in page.text
    assert "sourcedId" in page.text
    assert (result["state"], result["ok"]) == ("done", True)
    assert "sourcedId" in result["claims"]
    assert {one["what"] for one in result["findings"]} == {"proof", "tenant", "person", "roster"}
    stored = str(await service.database.fetchval("SELECT jsonb_agg(t) FROM test_sign_in AS t"))
    assert not {"Secretly", "user-1"} & set(page.text.replace("<", " ").split() + stored.replace('"', " ").split())
    assert await count_traces(service) == 0
    again = await service.client.get(address)
    assert (again.status_code, Code.SIGNIN_FLOW_LOST in again.text) == (410, True)


async def test_a_test_sign_in_says_what_is_not_right(
    service: Service, provider: PlayedProvider, district: District
) -> None:
    """Somebody the roster does not have, a key that is missing, and an answer that is refused on the way."""
    path = await connect(service, provider, district)
    results = []
    for claims in ({"sourcedId": "nobody"}, {}):
        place, address = await begin(service, path)
        back = provider.approve((await service.client.get(address)).headers["location"], **claims)
        page = await service.client.get(back)
        assert "not right yet" in page.text
        results.append(await read(service, place))
    wrong = [{one["what"] for one in result["findings"] if not one["ok"]} for result in results]
    assert wrong == [{"roster"}, {"person", "roster"}]

    change = {"tenant": "north", "oidc": {"tenant_claim": "school"}}
    assert (await service.client.patch(path, json=change, headers=await service.boss())).is_success
    for claims, tenant_is_right in (({"school": "south"}, False), ({}, False), ({"school": "north"}, True)):
        place, address = await begin(service, path)
        back = provider.approve((await service.client.get(address)).headers["location"], **claims)
        await service.client.get(back)
        findings = {one["what"]: one["ok"] for one in (await read(service, place))["findings"]}
        assert findings["tenant"] is tenant_is_right, claims

    provider.forge = lambda claims: provider.sign(claims | {"aud": "somebody-else"})
    place, address = await begin(service, path)
    page = await service.client.get(provider.approve((await service.client.get(address)).headers["location"]))
    refused = await read(service, place)
    assert page.status_code == 403
    assert (refused["state"], refused["ok"], refused["code"]) == ("refused", False, Code.SIGNIN_TOKEN_INVALID)
    assert refused["support_id"] in page.text
    assert refused["detail"]
    assert refused["next_step"]
    assert await count_traces(service) == 0
