"""Signing out: from a product, and how products hear of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from roster_stand_in import District, PlayedRoster
from signing_in import Browser, Product, make_product, sign_in_pupil

from homeroom.auth import TokenRefused
from homeroom.clock import SystemClock
from homeroom.service import Parts
from sso.app import keys_of
from sso.provider import logout_deliveries
from sso.provider.logout_deliveries import GIVE_UP_SECONDS, PAUSES, LogoutDeliveries, find_pause
from sso.provider.parts import start_work
from sso.provider.signing import LOGOUT_EVENT
from sso.settings import Settings

BACK = "https://reader.example/signed-out"


@dataclass
class PlayedEndpoint:
    """A product's back-channel endpoint: what it was told, and how it answers."""

    url: str = ""
    status: int = 200
    silent: bool = False
    told: list[str] = field(default_factory=list)
    asked: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        form = parse_qs((await reader.readexactly(length)).decode())
        self.asked += 1
        if self.silent:
            await reader.read()  # until the other side has had enough
            writer.close()
            return
        if self.status == 200:
            self.told += form["logout_token"]
        writer.write(f"HTTP/1.1 {self.status} So\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()


@asynccontextmanager
async def playing_endpoint() -> AsyncIterator[PlayedEndpoint]:
    """An endpoint on loopback."""
    endpoint = PlayedEndpoint()
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
    endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/out"
    try:
        yield endpoint
    finally:
        server.close()


@pytest.fixture
async def product(service: Any, district: District) -> Product:
    """A product of the district that has people back after signing out."""
    return await make_product(service, district.product_id, post_logout_redirect_uris=[BACK])


@pytest.fixture
async def browser(service: Any, settings: Settings, district: District, roster: PlayedRoster) -> Browser:
    """A browser in which a pupil of the district is signed in."""
    return await sign_in_pupil(service, settings, district, roster)


@asynccontextmanager
async def telling(service: Any) -> AsyncIterator[LogoutDeliveries]:
    """What the worker tells products with."""
    state = service.app.state
    async with LogoutDeliveries.open(
        service.database, state.relying_parties, state.signing, allow_private=True
    ) as deliveries:
        yield deliveries


def _log_out(**parameters: str) -> str:
    return f"/oauth2/logout?{urlencode(parameters)}"


async def _is_signed_in(product: Product, browser: Browser) -> bool:
    return "code=" in (await product.ask(browser, prompt="none")).headers["location"]


async def test_a_product_signs_somebody_out(service: Any, product: Product, browser: Browser) -> None:
    """With an ID token of the session it ends without a question, and the browser goes back with the state."""
    tokens = await product.sign_in(browser)
    path = _log_out(id_token_hint=tokens["id_token"], post_logout_redirect_uri=BACK, state="s 1")
    answer = await browser.get(path)
    assert answer.headers["location"] == f"{BACK}?state=s+1"
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert await service.database.fetchval("SELECT count(*) FROM session") == 0
    assert (await product.read_userinfo(tokens["access_token"])).status_code == 401
    assert (await browser.get(path)).headers["location"] == f"{BACK}?state=s+1"


async def test_a_product_signs_out_its_own_user_only(
    service: Any, settings: Settings, product: Product, browser: Browser, district: District, roster: PlayedRoster
) -> None:
    """The ID token of somebody who was here before does not end the session of whoever is here now."""
    tokens = await product.sign_in(browser)
    other = await sign_in_pupil(service, settings, district, roster, "pupil-2")
    answer = await other.get(_log_out(id_token_hint=tokens["id_token"], post_logout_redirect_uri=BACK))
    assert answer.headers["location"] == BACK
    assert await _is_signed_in(product, other)
    assert not await _is_signed_in(product, browser)


async def test_without_proof_the_person_is_asked(product: Product, browser: Browser) -> None:
    """A page that anybody may have sent the browser to ends nothing; the person's own word does."""
    form = {"client_id": product.client_id, "post_logout_redirect_uri": BACK, "state": "x"}
    for parameters in (form, form | {"id_token_hint": "nonsense"}, {}):
        asked = await browser.get(_log_out(**parameters))
        assert (asked.status_code, "Do you want to sign out?" in asked.text) == (200, True)
    posted = await browser.request("POST", "/oauth2/logout", data=form)
    assert dict(parse_qsl(urlsplit(posted.headers["location"]).query)) == form
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    refused = await browser.request("POST", "/oauth2/logout/confirmed", data=form, headers=elsewhere)
    assert refused.status_code == 400
    assert await _is_signed_in(product, browser)
    confirmed = await browser.request("POST", "/oauth2/logout/confirmed", data=form)
    assert confirmed.headers["location"] == f"{BACK}?state=x"
    assert not await _is_signed_in(product, browser)


async def test_attack_70_nobody_is_sent_elsewhere_after_signing_out(
    service: Any, product: Product, browser: Browser
) -> None:
    """An address that is not registered for that client is not gone to, however it is asked for."""
    other = await make_product(service, product.product_id, launches=False)
    tokens, theirs = await product.sign_in(browser), await other.sign_in(browser)
    for parameters in (
        {"post_logout_redirect_uri": "https://evil.example/"},
        {"post_logout_redirect_uri": f"{BACK}/"},
        {"post_logout_redirect_uri": BACK, "client_id": other.client_id},
        {"post_logout_redirect_uri": BACK, "id_token_hint": theirs["id_token"]},
        {"post_logout_redirect_uri": BACK, "id_token_hint": tokens["id_token"], "client_id": other.client_id},
        {"post_logout_redirect_uri": BACK},
    ):
        answer = await browser.get(_log_out(**parameters))
        assert "location" not in answer.headers, parameters
        assert "evil" not in answer.text


async def test_attack_68_products_hear_of_the_end(service: Any, product: Product, browser: Browser) -> None:
    """A product is told once, by a signed logout token without a nonce; whoever has no endpoint is forgotten."""
    async with playing_endpoint() as endpoint, telling(service) as deliveries:
        _, claims = await product.read_id_token((await product.sign_in(browser))["id_token"])
        silent = await make_product(service, product.product_id, launches=False)
        await silent.sign_in(browser)
        await _set_endpoint(service, product, endpoint.url)
        assert await deliveries.tell_due() == 0
        await browser.request("POST", "/sso/sign-out")
        assert await deliveries.tell_due() == 2
        assert await service.database.fetchval("SELECT count(*) FROM participation") == 0
    [token] = endpoint.told
    document = (await service.client.get("/oauth2/jwks")).json()
    found = jwt.decode(token, KeySet.import_key_set(document), algorithms=["RS256"])
    assert found.header["typ"] == "logout+jwt"
    assert found.claims.keys() == {"iss", "aud", "iat", "exp", "jti", "sub", "sid", "events"}
    assert found.claims["events"] == {LOGOUT_EVENT: {}}
    assert {name: found.claims[name] for name in ("iss", "aud", "sub", "sid")} == {
        name: claims[name] for name in ("iss", "aud", "sub", "sid")
    }
    assert await service.app.state.signing.read_hint(token) is None
    with pytest.raises(TokenRefused):
        await service.app.state.verifier.verify(token)


async def test_attack_68_products_that_are_away_hear_later(
    service: Any, product: Product, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that fails, is silent, redirects or is dead is tried again later, for a day; others need not wait for it."""
    monkeypatch.setattr(logout_deliveries, "ATTEMPT_SECONDS", 0.2)
    database = service.database
    async with playing_endpoint() as endpoint, playing_endpoint() as well, telling(service) as deliveries:
        healthy = await make_product(service, product.product_id, launches=False)
        for one in (product, healthy):
            await one.sign_in(browser)
        await _set_endpoint(service, product, endpoint.url)
        await _set_endpoint(service, healthy, well.url)
        assert browser.session is not None
        await service.launching.sessions.end(browser.session.id)
        endpoint.silent = True
        await deliveries.tell_due()
        assert (endpoint.told, len(well.told)) == ([], 1)
        assert await deliveries.tell_due() == 0
        endpoint.silent = False
        for tries, status in enumerate((500, 302, 400), start=2):
            endpoint.status = status
            await database.fetch("UPDATE participation SET due_at = now()")
            await deliveries.tell_due()
            assert await database.fetchval("SELECT tries FROM participation") == tries
        await database.fetch("UPDATE participation SET due_at = now(), ended_at = now() - interval '24 hours'")
        await deliveries.tell_due()
        assert await database.fetchval("SELECT count(*) FROM participation") == 0
    assert endpoint.told == []


async def test_attack_68_a_dead_product_holds_nobody_up(
    service: Any, settings: Settings, product: Product, district: District, roster: PlayedRoster
) -> None:
    """Once a product's endpoint is dead, what else waits for it is put off, too, and never sent to private places."""
    await _set_endpoint(service, product, "http://127.0.0.1:9/out")
    for n in range(4):
        await product.sign_in(await sign_in_pupil(service, settings, district, roster, f"pupil-{n}"))
    await service.database.fetch("UPDATE participation SET ended_at = now()")
    first = await service.database.fetchval("SELECT sid FROM participation LIMIT 1")
    await service.database.fetch("UPDATE participation SET due_at = now() + interval '5 s' WHERE sid <> $1", first)
    async with telling(service) as deliveries:
        await deliveries.tell_due()
        waiting = await service.database.fetchval("SELECT min(due_at) - now() FROM participation")
        assert waiting.total_seconds() > 10
    state = service.app.state
    async with (
        LogoutDeliveries.open(service.database, state.relying_parties, state.signing, allow_private=False) as strict,
        playing_endpoint() as endpoint,
    ):
        await _set_endpoint(service, product, endpoint.url)
        await service.database.fetch("UPDATE participation SET due_at = now()")
        await strict.tell_due()
        assert endpoint.asked == 0


async def test_the_worker_tells_products(
    service: Any, settings: Settings, product: Product, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker signs with the keys everybody knows, and tells what is due without being asked."""
    monkeypatch.setattr(settings, "allow_private_endpoints", True)
    await product.sign_in(browser)
    clock = SystemClock()
    keys = keys_of(settings, service.database, clock)
    async with playing_endpoint() as endpoint, Parts() as parts:
        await _set_endpoint(service, product, endpoint.url)
        assert browser.session is not None
        await service.launching.sessions.end(browser.session.id)
        await start_work(parts, service.database, keys, settings, clock)
        async with asyncio.timeout(10):
            while await service.database.fetchval("SELECT count(*) FROM participation"):
                await asyncio.sleep(0.02)
    assert len(endpoint.told) == 1
    document = (await service.client.get("/oauth2/jwks")).json()
    assert keys.signing.id in {key["kid"] for key in document["keys"]}


def test_how_long_products_are_tried() -> None:
    """Tries come further and further apart, and end within a day after the session."""
    assert find_pause(1, 0) == PAUSES[0]
    assert find_pause(50, 3_600) == PAUSES[-1]
    age, tries = 0.0, 0
    while (pause := find_pause(tries := tries + 1, age)) is not None:
        age += pause
    assert 12 * 3_600 < age <= GIVE_UP_SECONDS


async def _set_endpoint(service: Any, product: Product, url: str) -> None:
    await service.database.fetch(
        "UPDATE relying_party SET backchannel_logout_uri = $2 WHERE client_id = $1", product.client_id, url
    )
    service.app.state.relying_parties.forget()
