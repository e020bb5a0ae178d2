"""Products sign people in by OpenID Connect with Homeroom (E3)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from connecting import make_connection
from roster_stand_in import District, PlayedRoster, make_district
from signing_in import (
    REDIRECT,
    Browser,
    Product,
    challenge_of,
    make_product,
    read_answer,
    sign_in_pupil,
)
from starlette.requests import Request

from homeroom.clock import MovingClock
from sso.launch.arrivals import Arrival
from sso.launch.flows import Intent
from sso.provider.claims import make_subject
from sso.settings import Settings


@pytest.fixture
async def product(service: Any, district: District) -> Product:
    """A product of the district, with its client."""
    return await make_product(service, district.product_id)


@pytest.fixture
async def browser(service: Any, settings: Settings, district: District, roster: PlayedRoster) -> Browser:
    """A browser in which a pupil of the district is signed in."""
    return await sign_in_pupil(
        service, settings, district, roster, given="Zoë", family="Łęcki-Ōta", classes=("c1",), email="z@school.example"
    )


async def test_a_product_learns_who_signed_in(
    service: Any, product: Product, browser: Browser, district: District, clock: MovingClock
) -> None:
    """A code becomes an ID token and an access token, which say what the roster says, in its letters."""
    asked = await product.ask(browser)
    answer = read_answer(asked)
    assert (asked.headers["cache-control"], asked.headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert (answer["state"], answer["iss"]) == ("state-1", "http://homeroom.test")
    redeemed = await product.redeem(answer["code"])
    body = redeemed.json()
    assert redeemed.headers["cache-control"] == "no-store"
    assert "refresh_token" not in body
    header, claims = await product.read_id_token(body["id_token"])
    now = int(clock.now().timestamp())
    assert browser.session is not None
    assert browser.session.person_id is not None
    assert header["kid"]
    assert claims["sub"] == make_subject(browser.session.person_id, district.product_id)
    assert (claims["iss"], claims["aud"], claims["nonce"]) == ("http://homeroom.test", product.client_id, "nonce-1")
    assert (claims["iat"], claims["exp"]) == (now, now + 600)
    assert claims["auth_time"] == int(browser.session.auth_time.timestamp())
    userinfo = await product.read_userinfo(body["access_token"])
    assert userinfo.status_code == 200
    assert userinfo.headers["cache-control"] == "no-store"
    assert userinfo.json().items() <= claims.items()
    assert userinfo.json() == {
        "sub": claims["sub"],
        "organization": {"id": str(district.organization_id), "name": "North District"},
        "rostered": True,
        "name": "Zoë Łęcki-Ōta",
        "given_name": "Zoë",
        "family_name": "Łęcki-Ōta",
        "email": "z@school.example",
        "email_verified": False,
        "sourced_id": "pupil-1",
        "integration_id": str(district.integration_id),
        "roles": ["student"],
        "schools": [{"sourced_id": "school-1", "role": "student", "primary": True}],
        "classes": [{"sourced_id": "c1", "title": "Class c1", "role": "student"}],
    }
    told = await service.database.fetch("SELECT product_id, sourced_id FROM sign_in")
    ended = await service.database.fetchrow("SELECT state, purpose, connection_id, sourced_id, steps FROM launch")
    assert [tuple(row) for row in told] == [(district.product_id, "pupil-1")]
    assert (ended["state"], ended["purpose"], ended["sourced_id"]) == ("completed", "authorize", "pupil-1")
    assert ended["connection_id"] == browser.session.connection_id
    assert "Zoë" not in str(ended["steps"])


async def test_products_get_what_they_ask_for(product: Product, browser: Browser) -> None:
    """With openid alone a product learns whose district somebody is of, and no name; unknown scopes are passed over."""
    body = await product.sign_in(browser, scope="openid everything", nonce=None)
    _, claims = await product.read_id_token(body["id_token"])
    assert body["scope"] == "openid"
    assert set((await product.read_userinfo(body["access_token"])).json()) == {"sub", "organization", "rostered"}
    assert not {"name", "email", "sourced_id", "nonce"} & set(claims)


async def test_the_answer_may_be_posted(product: Product, browser: Browser) -> None:
    """With response_mode=form_post code and state are in a form that goes to the redirect URI, and in no address."""
    page = await product.ask(browser, response_mode="form_post", state='"><script>x')
    assert page.status_code == 200
    assert f'action="{REDIRECT}"' in page.text
    assert 'name="code"' in page.text
    assert "<script>x" not in page.text
    assert "form-action 'self' https://reader.example" in page.headers["content-security-policy"]
    declined = await product.ask(browser, response_mode="form_post", scope="email")
    assert 'value="invalid_scope"' in declined.text


async def test_requests_may_be_posted(product: Product, browser: Browser) -> None:
    """A request that is posted is answered like one that is not."""
    form = {"client_id": product.client_id, "redirect_uri": REDIRECT, "state": "a&b"}
    moved = await browser.request("POST", "/oauth2/authorize", data=form)
    assert dict(parse_qsl(urlsplit(moved.headers["location"]).query)) == form
    assert (moved.status_code, urlsplit(moved.headers["location"]).path) == (303, "/oauth2/authorize")


async def test_attack_60_nobody_goes_without_pkce(service: Any, product: Product, browser: Browser) -> None:
    """Without an S256 challenge no client gets a code, and without the right verifier no code is worth anything."""
    for changes in (
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": None},
        {"code_challenge": "short"},
        {"code_challenge": None},
    ):
        answer = read_answer(await product.ask(browser, **changes))
        assert (answer["error"], answer["state"], answer["iss"]) == (
            "invalid_request",
            "state-1",
            "http://homeroom.test",
        ), changes
    other = "another-verifier-of-at-least-forty-three-letters"
    wrong: list[dict[str, Any]] = [
        {"code_verifier": None},
        {"code_verifier": other},
        {"code_verifier": challenge_of(other)},
        {"code_verifier": ""},
    ]
    for form in wrong:
        refused = await product.redeem(await product.get_code(browser), **form)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant"), form
    public = await make_product(service, product.product_id, public=True, launches=False)
    refused = await public.redeem(await public.get_code(browser), basic=False, client_id=public.client_id)
    assert refused.status_code == 200
    refused = await public.redeem(
        await public.get_code(browser), basic=False, client_id=public.client_id, code_verifier=other
    )
    assert refused.json()["code"] == "GRANT_INVALID"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"response_type": "token"}, "unsupported_response_type"),
    ({"response_type": None}, "invalid_request"),
    ({"response_type": "code id_token"}, "unsupported_response_type"),
    ({"scope": "profile"}, "invalid_scope"),
    ({"request": "e30.e30."}, "request_not_supported"),
    ({"request_uri": "https://evil.example/"}, "request_uri_not_supported"),
    ({"prompt": "none login"}, "invalid_request"),
    ({"prompt": "sometimes"}, "invalid_request"),
    ({"max_age": "-1"}, "invalid_request"),
    ({"nonce": "n" * 501}, "invalid_request"),
    ({"nonce": ["a", "b"]}, "invalid_request"),
    ({"connection": "north"}, "invalid_request"),
    ({"response_mode": "fragment"}, "invalid_request"),
    ({"id_token_hint": "nonsense"}, "invalid_request"),
]


async def test_wrong_requests_are_told_to_the_product(product: Product, browser: Browser) -> None:
    """What is wrong with a request, but for where to answer it, goes back to the product in the standard's words."""
    for changes, error in WRONG:
        answer = read_answer(await product.ask(browser, **changes))
        said = (answer["error"], answer["iss"], answer.get("state"))
        assert said == (error, "http://homeroom.test", "state-1"), changes
        assert "code" not in answer
    endless = read_answer(await product.ask(browser, state="s" * 2_001))
    assert (endless["error"], endless.get("state")) == ("invalid_request", None)


async def test_attack_64_silence_and_age(service: Any, product: Product, browser: Browser, clock: MovingClock) -> None:
    """With prompt=none nobody is asked: without a session, or a recent one, the product hears login_required."""
    nobody = Browser(service)
    assert read_answer(await product.ask(nobody, prompt="none"))["error"] == "login_required"
    assert "code" in read_answer(await product.ask(browser, prompt="none"))
    # The database's clock says when they signed in; ours goes there, and ten minutes on.
    assert browser.session is not None
    clock.move(seconds=(browser.session.auth_time - clock.now() + timedelta(minutes=10)).total_seconds())
    assert "code" in read_answer(await product.ask(browser, prompt="none", max_age="3600"))
    assert read_answer(await product.ask(browser, prompt="none", max_age="60"))["error"] == "login_required"


async def test_attack_64_somebody_elses_hint(
    service: Any, settings: Settings, product: Product, browser: Browser, district: District, roster: PlayedRoster
) -> None:
    """A hint of another person never signs in whoever happens to be there: they are asked, or login_required it is."""
    other = await sign_in_pupil(service, settings, district, roster, "pupil-2", given="Bo")
    body = await product.sign_in(other)
    _, claims = await product.read_id_token(body["id_token"])
    for hint in ({"login_hint": claims["sub"]}, {"id_token_hint": body["id_token"]}):
        assert read_answer(await product.ask(browser, prompt="none", **hint))["error"] == "login_required"
        assert "code" in read_answer(await product.ask(other, prompt="none", **hint))
        asked = await product.ask(browser, **hint)
        assert asked.status_code >= 300
        assert "code=" not in asked.headers.get("location", "")
    assert "code" in read_answer(await product.ask(browser, prompt="none", login_hint="z@school.example"))


async def test_attack_64_a_launch_is_taken_up_once(
    service: Any, settings: Settings, product: Product, browser: Browser, district: District, roster: PlayedRoster
) -> None:
    """What a launch gave a product to begin with counts once, in that browser, for that product."""
    assert browser.session is not None
    hints, launches = service.app.state.hints, service.app.state.launches
    other = await sign_in_pupil(service, settings, district, roster, "pupil-2")

    async def make() -> str:
        trace = launches.begin("launch")
        hint: str = await hints.make(browser.session.id, trace.id, trace.support_id, district.product_id, None)
        await launches.write(trace, "signed-in")  # as whoever hands it over to the product does
        return hint

    hint = await make()
    assert read_answer(await product.ask(other, prompt="none", login_hint=hint))["error"] == "login_required"
    code = await product.get_code(browser, prompt="none", login_hint=hint)
    assert read_answer(await product.ask(browser, prompt="none", login_hint=hint))["error"] == "login_required"
    await product.redeem(code)
    assert await service.database.fetchval("SELECT state FROM launch WHERE purpose = 'launch'") == "completed"
    old = await make()
    await service.database.fetch("UPDATE login_hint SET expires_at = now()")
    assert read_answer(await product.ask(browser, prompt="none", login_hint=old))["error"] == "login_required"


async def test_attack_65_unlicensed_products_stay_shut(
    service: Any, settings: Settings, product: Product, browser: Browser, district: District, roster: PlayedRoster
) -> None:
    """Where no license is in force there is a page with a support id, or access_denied if nobody may be asked."""
    stranger = await make_product(service, (await make_district(service.database, "South")).product_id)
    refused = await stranger.ask(browser)
    assert refused.status_code == 403
    assert "SIGNIN_UNLICENSED" in refused.text
    assert "HR-" in refused.text
    assert "/oauth2/sign-in?request=" in refused.text
    assert read_answer(await stranger.ask(browser, prompt="none"))["error"] == "access_denied"
    roster.pupils[0].active = False
    await service.database.fetch("DELETE FROM person_answer")
    assert "SIGNIN_REMOVED" in (await product.ask(browser)).text
    assert read_answer(await product.ask(browser, prompt="none"))["error"] == "login_required"
    again = await sign_in_pupil(service, settings, district, roster, "pupil-3")
    roster.away = True
    silent = read_answer(await product.ask(again, prompt="none"))
    assert silent["error"] == "temporarily_unavailable"


async def test_whoever_is_not_signed_in_says_where(
    service: Any, settings: Settings, product: Product, district: District, roster: PlayedRoster
) -> None:
    """Without a session somebody finds their school, signs in there, and the request that waited is answered, once."""
    upstream_id, connection_id = await make_connection(
        service.database, settings, organization_id=district.organization_id
    )
    roster.add(district.integration_id, "pupil-9")
    browser = Browser(service)
    asked = await product.ask(browser, state="s9")
    place = asked.headers["location"]
    assert urlsplit(place).path == "/oauth2/sign-in"
    found = await browser.get(f"{place}&search=north")
    assert f"connection={connection_id}" in found.text
    resume = dict(parse_qsl(urlsplit(place).query))["request"]
    launching = service.launching
    upstream = await launching.upstreams.find(upstream_id)
    arrival = Arrival(upstream, "u9", person_key="pupil-9")
    intent = Intent("authorize", district.product_id, connection_id=connection_id, resume=resume)
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": [], "app": service.app})
    response = await launching.receive(request, intent, arrival, launching.launches.begin("authorize"))
    answer = dict(parse_qsl(urlsplit(response.headers["location"]).query))
    assert answer["state"] == "s9"
    _, claims = await product.read_id_token((await product.redeem(answer["code"])).json()["id_token"])
    assert (claims["sourced_id"], claims["nonce"]) == ("pupil-9", "nonce-1")
    assert "SIGNIN_FLOW_LOST" in (await browser.get(f"{place}&connection={connection_id}")).text


async def test_products_may_name_the_school(
    service: Any, settings: Settings, product: Product, district: District
) -> None:
    """A product that knows the connection, or the district with its one connection, spares people the search."""
    _, connection_id = await make_connection(
        service.database,
        settings,
        organization_id=district.organization_id,
        issuer="https://op.test",
        authorization_endpoint="https://op.test/authorize",
        token_endpoint="https://op.test/token",
        jwks_uri="https://op.test/jwks",
        pkce=True,
    )
    elsewhere = await make_connection(service.database, settings)
    for named in ({"connection": connection_id}, {"organization": district.organization_id}):
        sent = await product.ask(Browser(service), **named)
        assert urlsplit(sent.headers["location"]).path != "/oauth2/sign-in", named
    assert "SIGNIN_UNLICENSED" in (await product.ask(Browser(service), connection=elsewhere[1])).text
    assert "SIGNIN_CONNECTION_OFF" in (await product.ask(Browser(service), connection=district.license_id)).text


async def test_people_may_be_asked_anew(service: Any, product: Product, browser: Browser) -> None:
    """With prompt=login the portal is asked again, with select_account the school is; nobody is taken as they are."""
    chosen = await product.ask(browser, prompt="select_account")
    assert urlsplit(chosen.headers["location"]).path == "/oauth2/sign-in"
    assert browser.session is not None
    await service.database.fetch(
        "UPDATE upstream SET config = $1",
        {
            "issuer": "https://op.test",
            "client_id": "homeroom",
            "authorization_endpoint": "https://op.test/authorize",
            "token_endpoint": "https://op.test/token",
            "jwks_uri": "https://op.test/jwks",
            "pkce": True,
        },
    )
    service.launching.upstreams._kept.clear()
    for wanted in ({"prompt": "login"}, {"max_age": "0"}):
        anew = await product.ask(browser, **wanted)
        assert not anew.headers.get("location", "").startswith(REDIRECT), wanted
        assert await service.database.fetchval("SELECT fresh FROM flow LIMIT 1") is True
        await service.database.fetch("DELETE FROM flow")


async def test_attack_71_nothing_on_the_way_is_kept_or_framed(product: Product, browser: Browser) -> None:
    """Every answer on the way to a product is kept by nobody and told to nobody, and no page can be put in a frame."""
    for path in (
        "/oauth2/authorize",
        "/oauth2/sign-in?request=made-up",
        "/oauth2/logout",
        (await product.ask(Browser(product.service))).headers["location"],
    ):
        page = await browser.get(path)
        assert page.headers["cache-control"] == "no-store", path
        assert page.headers["referrer-policy"] == "no-referrer", path
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"], path
        assert page.headers["x-content-type-options"] == "nosniff", path
    for redirect in (await product.ask(browser), await product.ask(browser, scope="email")):
        assert redirect.headers["cache-control"] == "no-store"
        assert redirect.headers["referrer-policy"] == "no-referrer"
