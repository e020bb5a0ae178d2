"""Codes, tokens and what they are good for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from roster_stand_in import District, PlayedRoster
from signing_in import REDIRECT, Browser, Product, make_product, sign_in_pupil

from homeroom.clock import MovingClock
from homeroom.codes import Code
from sso.launch.refusals import Refused
from sso.launch.throttle import Throttle
from sso.provider.participations import join
from sso.settings import Settings
from sso.statements import SQL


@pytest.fixture
async def product(service: Any, district: District) -> Product:
    """A product of the district, whose client is given refresh tokens."""
    return await make_product(service, district.product_id, refresh_tokens=True)


@pytest.fixture
async def browser(service: Any, settings: Settings, district: District, roster: PlayedRoster) -> Browser:
    """A browser in which a pupil of the district is signed in."""
    return await sign_in_pupil(service, settings, district, roster)


async def _refresh(product: Product, token: str, **changes: Any) -> Any:
    return await product.post("/oauth2/token", grant_type="refresh_token", refresh_token=token, **changes)


async def test_attack_61_a_code_counts_once(service: Any, product: Product, browser: Browser) -> None:
    """A code that comes twice is refused, and the tokens it gave are worth nothing from then on."""
    code = await product.get_code(browser)
    tokens = (await product.redeem(code)).json()
    assert (await product.read_userinfo(tokens["access_token"])).status_code == 200
    again = await product.redeem(code)
    assert (again.status_code, again.json()["error"], again.json()["code"]) == (400, "invalid_grant", "GRANT_INVALID")
    assert (await product.read_userinfo(tokens["access_token"])).status_code == 401
    assert (await _refresh(product, tokens["refresh_token"])).status_code == 400
    assert len(await service.database.fetch("SELECT FROM sign_in")) == 1


async def test_attack_61_two_at_once(product: Product, browser: Browser) -> None:
    """Of several who come with a code at the same moment one gets tokens, and those are revoked."""
    code = await product.get_code(browser)
    answers = await asyncio.gather(*(product.redeem(code) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]
    given = next(answer.json() for answer in answers if answer.status_code == 200)
    assert (await product.read_userinfo(given["access_token"])).status_code == 401


async def test_attack_61_codes_are_bound(service: Any, product: Product, browser: Browser) -> None:
    """A code is worth nothing after a minute, to another client, with another redirect URI or once signed out."""
    other = await make_product(service, product.product_id, launches=False)
    code = await product.get_code(browser)
    assert (await other.redeem(code)).json()["error"] == "invalid_grant"
    assert (await product.redeem(code)).status_code == 200
    for wrong in (f"{REDIRECT}/", REDIRECT.upper(), f"{REDIRECT}?"):
        assert (await product.redeem(await product.get_code(browser), redirect_uri=wrong)).status_code == 400
    for missing in (await product.redeem(""), await product.redeem(code, redirect_uri=None)):
        assert missing.json()["error"] == "invalid_request"
    code = await product.get_code(browser)
    await service.database.fetch("UPDATE authorization_code SET expires_at = now()")
    assert (await product.redeem(code)).json()["error"] == "invalid_grant"
    code = await product.get_code(browser)
    assert browser.session is not None
    await service.launching.sessions.end(browser.session.id)
    assert (await product.redeem(code)).json()["error"] == "invalid_grant"


async def test_attack_62_clients_prove_who_they_are(service: Any, product: Product, browser: Browser) -> None:
    """Without its secret, with another's, in two ways at once, or disabled, no client redeems a code."""
    other = await make_product(service, product.product_id, launches=False)
    attempts: list[tuple[dict[str, Any], int, str]] = [
        ({"basic": False}, 401, "invalid_client"),
        ({"basic": False, "client_id": product.client_id}, 401, "invalid_client"),
        ({"basic": False, "client_id": product.client_id, "client_secret": other.secret}, 401, "invalid_client"),
        ({"client_secret": product.secret}, 400, "invalid_request"),
        ({"client_id": other.client_id}, 400, "invalid_request"),
    ]
    for form, status, error in attempts:
        answer = await product.redeem(await product.get_code(browser), **form)
        assert (answer.status_code, answer.json()["error"]) == (status, error), form
    posted = {"basic": False, "client_id": product.client_id, "client_secret": product.secret}
    assert (await product.redeem(await product.get_code(browser), **posted)).status_code == 200
    gateway = Product(service, "gateway", "gateway-secret-0123456789", product.product_id)
    assert (await gateway.redeem(await product.get_code(browser))).json()["error"] == "invalid_client"
    code = await product.get_code(browser)
    await service.client.delete(f"/v1/clients/{product.client_id}", headers=await service.boss())
    assert (await product.redeem(code)).status_code == 401


async def test_attack_72_guessing_is_slowed_down(service: Any, product: Product, browser: Browser) -> None:
    """After many wrong secrets guessing is answered with 429; the right secret is taken all the same."""
    code = await product.get_code(browser)
    wrong = Product(service, product.client_id, "x" * 43, product.product_id)
    throttle = service.app.state.client_authentication._throttle
    for _ in range(299):
        throttle.fail(f"{product.client_id} 127.0.0.1")
    answer = await wrong.redeem(code)
    assert (answer.status_code, answer.json()["code"]) == (429, "SIGNIN_THROTTLED")
    assert answer.headers["retry-after"]
    assert (await product.redeem(code)).status_code == 200


def test_attack_72_only_failures_count() -> None:
    """A bucket fills with failures of one key alone, and runs empty with time."""
    clock = MovingClock(datetime(2026, 9, 1, tzinfo=UTC))
    throttle = Throttle(3, 60, clock)
    for _ in range(3):
        throttle.check("a")
        throttle.fail("a")
    with pytest.raises(Refused) as caught:
        throttle.check("a")
    assert (caught.value.code, caught.value.status) == (Code.SIGNIN_THROTTLED, 429)
    throttle.check("b")
    clock.move(seconds=21)
    throttle.check("a")


async def test_attack_66_tokens_are_for_their_client(
    service: Any, product: Product, browser: Browser, district: District
) -> None:
    """A token shows its own product's view, is unknown to others, and does not open Homeroom's REST."""
    tokens = await product.sign_in(browser)
    access = tokens["access_token"]
    other = await make_product(service, district.product_id, launches=False)
    for caller, active in ((product, True), (other, False)):
        said = (await caller.post("/oauth2/introspect", token=access)).json()
        assert said["active"] is active
        assert active or said == {"active": False}
    assert (await other.post("/oauth2/revoke", token=tokens["refresh_token"])).status_code == 200
    assert (await product.read_userinfo(access)).status_code == 200
    for token in (access, tokens["id_token"]):
        answer = await service.client.get("/v1/clients", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "TOKEN_INVALID")
    machine = await service.token(product.client_id, product.secret)
    for token in (machine, tokens["id_token"], tokens["refresh_token"], "nonsense", ""):
        refused = await product.read_userinfo(token)
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_token")
        assert refused.headers["www-authenticate"].startswith("Bearer")
    assert (await product.post("/oauth2/introspect", basic=False, token=access)).status_code == 401
    assert "code" in (await product.post("/oauth2/introspect")).json()


async def test_attack_66_tokens_end(
    service: Any, settings: Settings, product: Product, browser: Browser, district: District, roster: PlayedRoster
) -> None:
    """A token is worth nothing once it has run out, was revoked, or its session ended or its person left the roster."""
    database = service.database
    tokens = await product.sign_in(browser)
    await database.fetch("UPDATE product_token SET expires_at = now() WHERE kind = 'access'")
    assert (await product.read_userinfo(tokens["access_token"])).status_code == 401
    tokens = await product.sign_in(browser)
    await product.post("/oauth2/revoke", token=tokens["access_token"])
    assert (await product.read_userinfo(tokens["access_token"])).status_code == 401
    assert (await _refresh(product, tokens["refresh_token"])).status_code == 200
    tokens = await product.sign_in(browser)
    await product.post("/oauth2/revoke", token=tokens["refresh_token"])
    assert (await product.read_userinfo(tokens["access_token"])).status_code == 401
    tokens = await product.sign_in(browser)
    roster.away = True
    await database.fetch("UPDATE person_answer SET asked_at = now() - interval '1 day'")
    away = [await product.read_userinfo(tokens["access_token"]), await _refresh(product, tokens["refresh_token"])]
    assert [(one.status_code, one.json()["code"]) for one in away] == [(503, "SIGNIN_STORE_AWAY")] * 2
    roster.away = False
    tokens = (await _refresh(product, tokens["refresh_token"])).json()
    roster.pupils[0].active = False
    await database.fetch("DELETE FROM person_answer")
    assert (await _refresh(product, tokens["refresh_token"])).json()["error"] == "invalid_grant"
    again = await sign_in_pupil(service, settings, district, roster, "pupil-2")
    tokens = await product.sign_in(again)
    assert again.session is not None
    await service.launching.sessions.end(again.session.id)
    assert (await product.read_userinfo(tokens["access_token"])).status_code == 401
    assert (await _refresh(product, tokens["refresh_token"])).status_code == 400


async def test_refresh_tokens_rotate(service: Any, product: Product, browser: Browser) -> None:
    """A refresh token gives new tokens once; used again, everything that came of that sign-in ends."""
    first = await product.sign_in(browser)
    answer = await _refresh(product, first["refresh_token"], scope="openid email")
    second = answer.json()
    assert answer.status_code == 200
    assert second["refresh_token"] != first["refresh_token"]
    _, before = await product.read_id_token(first["id_token"])
    _, claims = await product.read_id_token(second["id_token"])
    assert "nonce" not in claims
    assert {name: claims[name] for name in ("sub", "sid", "auth_time")} == {
        name: before[name] for name in ("sub", "sid", "auth_time")
    }
    assert (await _refresh(product, second["refresh_token"], scope="openid admin")).json()["error"] == "invalid_scope"
    assert (await _refresh(product, first["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await _refresh(product, second["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await product.read_userinfo(second["access_token"])).status_code == 401
    third = await product.sign_in(browser)
    other = await make_product(service, product.product_id, launches=False, refresh_tokens=True)
    assert (await _refresh(other, third["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await _refresh(product, third["refresh_token"])).status_code == 200


async def test_attack_67_keys_follow_one_another(
    service: Any, product: Product, browser: Browser, clock: MovingClock
) -> None:
    """After a rotation the JWKS holds both keys, tokens name theirs, and what the old one signed still counts."""
    keys = service.app.state.keys
    old = await product.sign_in(browser)
    await keys.refresh(early=True)
    clock.move(minutes=12)
    new = await product.sign_in(browser)
    headers = [(await product.read_id_token(one["id_token"]))[0] for one in (old, new)]
    document = (await service.client.get("/oauth2/jwks")).json()
    assert headers[0]["kid"] != headers[1]["kid"]
    assert {one["kid"] for one in headers} == {key["kid"] for key in document["keys"]}
    asked = await product.ask(browser, prompt="none", id_token_hint=old["id_token"])
    assert "code=" in asked.headers["location"]


async def test_participations_name_the_session(service: Any, product: Product, browser: Browser) -> None:
    """A product that signs somebody in twice in one session knows it by one `sid`; another product by another one."""
    other = await make_product(service, product.product_id, launches=False)
    sids = []
    for one in (product, product, other):
        _, claims = await product.read_id_token((await one.sign_in(browser))["id_token"])
        sids.append(UUID(claims["sid"]))
    assert sids[0] == sids[1] != sids[2]
    assert len(await service.database.fetch("SELECT FROM participation")) == 2


async def test_a_product_told_at_the_last_moment_hears_of_the_end(
    service: Any, product: Product, browser: Browser
) -> None:
    """Whoever ends a session while a product is being told of it waits, and has that product told of the end, too."""
    session = browser.session
    assert session is not None
    async with service.database.transaction() as connection:
        await join(connection, session, product.client_id, "somebody")
        ending = asyncio.create_task(service.launching.sessions.end(session.id))
        await asyncio.sleep(0.1)
        assert not ending.done()
    await asyncio.wait_for(ending, 10)
    assert await service.database.fetchval("SELECT ended_at FROM participation") is not None
    async with service.database.transaction() as connection:
        with pytest.raises(Refused, match="SIGNIN_SESSION_OVER"):
            await join(connection, session, product.client_id, "somebody")


async def test_what_has_run_out_is_forgotten(service: Any, product: Product, browser: Browser) -> None:
    """Codes, tokens and grants do not stay when they are worth nothing any more."""
    tokens = await product.sign_in(browser)
    await product.get_code(browser)
    await service.database.fetch(SQL["sweep_provider"])
    assert (await product.read_userinfo(tokens["access_token"])).status_code == 200
    await service.database.fetch("UPDATE authorization_code SET expires_at = now()")
    await service.database.fetch("UPDATE product_token SET expires_at = now()")
    await service.database.fetch("UPDATE product_grant SET expires_at = now() - interval '2 hours'")
    await service.database.fetch(SQL["sweep_provider"])
    left = "SELECT (SELECT count(*) FROM authorization_code) + (SELECT count(*) FROM product_grant)"
    assert await service.database.fetchval(left) == 0
    assert not await service.database.fetch("SELECT FROM product_token")


async def test_scripts_of_public_clients_may_call(service: Any, product: Product, browser: Browser) -> None:
    """Endpoints where no cookie counts answer scripts of any page; those that go by cookies answer none."""
    tokens = await product.sign_in(browser)
    asked = await service.client.options("/oauth2/userinfo")
    assert (asked.status_code, asked.headers["access-control-allow-headers"]) == (204, "Authorization")
    for answer in (asked, await product.read_userinfo(tokens["access_token"]), await product.redeem("made-up")):
        assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in (await product.ask(browser)).headers
