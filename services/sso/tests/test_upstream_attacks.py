"""Attacks on sign-in at OpenID providers, from end to end; every one of them ends in a page, and signs nobody in.

Hundreds of forged tokens are judged in test_id_tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
import pytest_asyncio
from fastapi import Response
from hostile_tokens import encode, forge_hmac
from played_provider import make_rsa
from upstream_place import Browser, Place, running_place

from sso.launch.flows import MOST_RESTARTS, Browsers
from sso.launch.sessions import Sessions

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="whole")
async def _run(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with running_place(request) as place:
        yield place


@pytest.fixture
def place(whole: Place) -> Iterator[Place]:
    """The place, whose provider is honest again after every test."""
    yield whole
    whole.make_honest()


async def test_attack_31_an_answer_without_its_own_state_is_none(place: Place) -> None:
    """An answer counts for the browser and upstream that began it, once, and only as a GET."""
    door, other = await place.connect(), await place.connect()
    browser, mallory = await place.open_browser(), await place.open_browser()
    door.add("s-1")
    before, why = place.provider.exchanges, "no flow of this browser has this state"
    back = await door.approve(browser, sourcedId="s-1")
    code, state = (parse_qs(urlsplit(back).query)[name][0] for name in ("code", "state"))

    async def try_out(path: str, visitor: Browser = browser) -> None:
        await place.refuses(await visitor.get(path), visitor, "SIGNIN_FLOW_LOST", why)

    here = f"/sso/callback/{door.upstream_id}"
    await mallory.begin(door.upstream_id)
    await try_out(f"{here}?code=x1&state=made-up")
    await try_out(f"{here}?code=x2&state={state}x")
    await try_out(f"{here}?code=x3&state={state}", mallory)
    await try_out(f"/sso/callback/{other.upstream_id}?code=x4&state={state}")
    page = await browser.get(f"{here}?code=x5")
    await place.refuses(page, browser, "SIGNIN_FLOW_LOST", "an answer without state")
    page = await browser.get(f"{here}?code=x6&state=")
    await place.refuses(page, browser, "SIGNIN_FLOW_LOST", "an answer without state")
    posted = await browser.client.post(here, data={"code": code, "state": state})
    await place.refuses(posted, browser, "SIGNIN_REQUEST_INVALID", f"an answer was posted to {door.upstream_id}")
    assert place.provider.exchanges == before
    assert (await browser.get(back)).status_code == 200
    url = await browser.begin(door.upstream_id)
    await door.age_flow(url)
    await browser.client.post("/sso/sign-out")
    page = await browser.get(place.provider.approve(url, sourcedId="s-1"))
    await place.refuses(page, browser, "SIGNIN_FLOW_LOST", why)
    page = await browser.get(f"{here}?code=x7&state={state}")
    await place.refuses(page, browser, "SIGNIN_FLOW_LOST", why)
    assert place.provider.exchanges == before + 1


async def test_attack_31_parameters_come_once_and_are_short(place: Place) -> None:
    """An answer with a parameter twice, with one that is far too long, or with neither code nor error, is none."""
    door, browser = await place.connect("clever", shared=True), await place.open_browser()
    here, before = f"/sso/callback/{door.upstream_id}", place.provider.exchanges
    for query in (
        "",
        "?state=s",
        "?code=a&code=b&state=s",
        "?code=a&state=s&state=t",
        "?code=a&state=s&iss=x&iss=x",
        f"?code={'a' * 4001}",
        f"?code=a&state={'s' * 201}",
        f"?code=a&more={'x' * 8000}",
        "?code=a&error=access_denied",
        "?code=%ff",
        "?" + "&".join(["x=1"] * 100),
    ):
        page = await browser.get(here + query)
        assert page.status_code == 400
        assert "SIGNIN_REQUEST_INVALID" in page.text
    assert (await browser.get(f"/sso/callback/{uuid4()}?code=a")).status_code == 404
    assert (await browser.get("/sso/callback/no-id?code=a")).status_code in {400, 404, 422}
    assert place.provider.exchanges == before


async def test_attack_32_a_portals_own_code_is_thrown_away(place: Place) -> None:
    """A tile's code without state begins our own flow and is never exchanged: somebody else's code signs nobody in."""
    door = await place.connect("clever", shared=True)
    door.add("u-1", "Ada")
    before = place.provider.exchanges
    for browser in (await place.open_browser(), await place.open_browser()):
        out = await browser.get(f"/sso/callback/{door.upstream_id}?code=of-mallory-{uuid4()}&response_type=code")
        assert out.headers["location"].startswith(f"{place.provider.url}/authorize?")
        assert "of-mallory" not in out.headers["location"]
        assert place.provider.exchanges == before
        assert "as Ada" in (await browser.get(place.provider.approve(out.headers["location"], district="d-1"))).text
        before += 1


async def test_attack_32_going_round_in_circles_ends(place: Place) -> None:
    """A portal that never gives our state back, and a browser that keeps no cookie, end on a page that says so."""
    door, browser = await place.connect("classlink", shared=True), await place.open_browser()
    for _ in range(MOST_RESTARTS):
        out = await browser.get(f"/sso/callback/{door.upstream_id}?code=tile-{uuid4()}")
        assert out.status_code == 303
    page = await browser.get(f"/sso/callback/{door.upstream_id}?code=tile-{uuid4()}")
    why = f"begun anew {MOST_RESTARTS} times and nobody came in"
    await place.refuses(page, browser, "SIGNIN_LOOP", why)
    bare = await place.open_browser(keeps_cookies=False)
    page = await bare.get(f"/sso/callback/{door.upstream_id}?code=tile-{uuid4()}")
    await place.refuses(page, bare, "SIGNIN_LOOP", "the browser keeps no cookies")


async def test_attack_32_an_impatient_pupil_is_no_circle(place: Place) -> None:
    """Whoever comes in has the count begin anew, so that a morning of tiles never ends in an error."""
    door, browser = await place.connect("clever", shared=True), await place.open_browser()
    door.add("u-1")
    for _ in range(2 * MOST_RESTARTS):
        out = await browser.get(f"/sso/callback/{door.upstream_id}?code=tile-{uuid4()}")
        page = await browser.get(place.provider.approve(out.headers["location"], district="d-1"))
        assert page.status_code == 200


async def test_attack_33_a_code_counts_once_even_at_the_same_moment(place: Place) -> None:
    """Of many requests with one code at once a single one exchanges it, and none later, whichever state is with it."""
    # A flow that came along with a spent code goes on with its own; a code that came with no flow is spent as well.
    door, browser = await place.connect(), await place.open_browser()
    door.add("s-1")
    before = place.provider.exchanges
    back = await door.approve(browser, sourcedId="s-1")
    answers = await asyncio.gather(*(browser.client.get(back) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [303] * 7
    assert place.provider.exchanges == before + 1
    code = parse_qs(urlsplit(back).query)["code"][0]
    url = await browser.begin(door.upstream_id)
    answer = await browser.client.get(place.provider.approve(url, code=code, sourcedId="s-1"))
    assert answer.status_code == 303
    assert place.provider.exchanges == before + 1
    assert (await browser.client.get(place.provider.approve(url, sourcedId="s-1"))).status_code == 200
    back = await door.approve(browser, sourcedId="s-1")
    assert (await browser.client.get(back.replace("state=", "state=x"))).status_code == 403
    assert (await browser.client.get(back)).status_code == 303
    assert place.provider.exchanges == before + 2


@pytest.mark.parametrize("nonce", [None, "", "another", ["x"]])
async def test_attack_34_the_nonce_must_be_ours(place: Place, nonce: object) -> None:
    """An ID token without the nonce of this very flow signs nobody in."""
    door, browser = await place.connect(), await place.open_browser()
    place.provider.forge = lambda claims: place.provider.sign({**claims, "nonce": nonce})
    page = await door.sign_in(browser, sourcedId="s-1")
    await place.refuses(page, browser, "SIGNIN_TOKEN_INVALID", "ID token: nonce")
    assert await door.count_identities() == 0


async def test_attack_35_an_answer_of_another_issuer_is_refused(place: Place) -> None:
    """Where answers say whose they are it must be the connection's provider, and where that is promised they must."""
    browser, before = await place.open_browser(), place.provider.exchanges
    place.provider.issuer_in_answers = True
    door = await place.connect()
    door.add("s-1")
    back = await door.approve(browser, sourcedId="s-1")
    assert (await browser.get(back)).status_code == 200
    await browser.client.post("/sso/sign-out")
    for replaced, why in (
        ("https%3A%2F%2Fevil.example", "the answer is another issuer's"),
        (place.provider.url + "/", "the answer is another issuer's"),
        (None, "the answer does not say whose it is"),
    ):
        back = (await door.approve(browser, sourcedId="s-1")).partition("&iss=")[0]
        page = await browser.get(back if replaced is None else f"{back}&iss={replaced}")
        await place.refuses(page, browser, "SIGNIN_TOKEN_INVALID", why)
    assert place.provider.exchanges == before + 1


async def test_attack_36_a_forged_signature_signs_nobody_in(place: Place) -> None:
    """Neither `none`, nor a shared secret, nor a key the token brings along, nor a foreign one, from end to end."""
    door, browser, mallory = await place.connect(), await place.open_browser(), make_rsa("mallory")

    def sign_with_mallory(claims: dict[str, object]) -> str:
        own, place.provider.key = place.provider.key, mallory
        try:
            return place.provider.sign(claims, kid="first")
        finally:
            place.provider.key = own

    for forge, why in (
        (lambda claims: f"{encode({'alg': 'none'})}.{encode(claims)}.AAAA", "signature algorithm"),
        (lambda claims: place.provider.sign(claims, jwk=mallory.as_dict(private=False)), "it brings its own key"),
        (lambda claims: place.provider.sign(claims, kid="unheard-of"), "no such key"),
        (sign_with_mallory, "signature"),
    ):
        place.provider.forge = forge
        page = await door.sign_in(browser, sourcedId="s-1")
        await place.refuses(page, browser, "SIGNIN_TOKEN_INVALID", f"ID token: {why}")
    assert await door.count_identities() == 0


async def test_attack_37_metadata_does_not_say_which_signatures_count(place: Place) -> None:
    """A provider that lists `none` and HS256, and publishes a shared secret, lends no forgery anything."""
    place.provider.metadata = {"id_token_signing_alg_values_supported": ["none", "HS256", "RS256"]}
    place.provider.extra_keys = [{"kty": "oct", "kid": "first", "k": encode(b"s" * 32)}]
    door, browser = await place.connect(), await place.open_browser()
    for token in (f"{encode({'alg': 'none'})}.{encode({})}.AAAA", forge_hmac(b"s" * 32)):
        place.provider.forge = lambda _, token=token: token
        page = await door.sign_in(browser, sourcedId="s-1")
        await place.refuses(page, browser, "SIGNIN_TOKEN_INVALID", "ID token: signature algorithm")


async def test_attack_38_a_provider_speaks_for_nobody_else(place: Place) -> None:
    """Neither a token nor metadata that claims another issuer counts, were both to agree."""
    door, browser = await place.connect(), await place.open_browser()
    place.provider.forge = lambda claims: place.provider.sign({**claims, "iss": "https://clever.com"})
    page = await door.sign_in(browser, sourcedId="s-1")
    await place.refuses(page, browser, "SIGNIN_TOKEN_INVALID", "ID token: issuer")
    place.provider.metadata = {"issuer": "https://clever.com"}
    door = await place.connect()
    page = await browser.get(f"/sso/launch/{door.upstream_id}")
    await place.refuses(page, browser, "SIGNIN_UPSTREAM_AWAY", "the metadata is another issuer's")


@pytest.mark.parametrize("changed", [{"aud": "other"}, {"aud": "other", "azp": "homeroom"}, {"aud": ["homeroom", "b"]}])
async def test_attack_39_a_token_for_another_client_is_not_ours(place: Place, changed: dict[str, object]) -> None:
    """Only a token for us alone signs anybody in."""
    door, browser = await place.connect(), await place.open_browser()
    place.provider.forge = lambda claims: place.provider.sign({**claims, **changed})
    page = await door.sign_in(browser, sourcedId="s-1")
    await place.refuses(page, browser, "SIGNIN_TOKEN_INVALID", "ID token: audience")


async def test_attack_40_times_must_be_right(place: Place) -> None:
    """A token that is over, not begun, ancient, or without end signs nobody in."""
    door, browser, at = await place.connect(), await place.open_browser(), int(place.clock.now().timestamp())
    for changed, why in (
        ({"exp": at - 121, "iat": at - 300}, "expired"),
        ({"iat": at + 121}, "issued in the future"),
        ({"iat": at - 1000}, "issued long ago"),
        ({"exp": str(at + 60)}, "exp is no time"),
    ):
        place.provider.forge = lambda claims, changed=changed: place.provider.sign({**claims, **changed})
        page = await door.sign_in(browser, sourcedId="s-1")
        await place.refuses(page, browser, "SIGNIN_TOKEN_INVALID", f"ID token: {why}")


async def test_attack_41_somebody_must_be_named(place: Place) -> None:
    """Without a subject that is a text of sane length there is nobody to sign in, wherever it comes from."""
    door, browser = await place.connect(), await place.open_browser()
    for subject in ("", " ", 7, "u" * 256):
        place.provider.forge = lambda claims, subject=subject: place.provider.sign({**claims, "sub": subject})
        page = await door.sign_in(browser, sourcedId="s-1")
        await place.refuses(page, browser, "SIGNIN_TOKEN_INVALID", "ID token: subject")
    place.provider.forge = None
    door = await place.connect("clever", shared=True, openid=False)
    for said in ({"district": "d-1"}, {"id": "", "district": "d-1"}):
        place.provider.info = {"data": said}
        page = await door.sign_in(browser)
        await place.refuses(page, browser, "SIGNIN_TOKEN_INVALID", "the answers are about different people")
    place.provider.info = {"data": {"id": 1.5, "district": "d-1"}}
    page = await door.sign_in(browser)
    await place.refuses(page, browser, "SIGNIN_TOKEN_INVALID", "the subject is no usable text")


async def test_attack_42_an_answer_without_its_id_token_is_none(place: Place) -> None:
    """No ID token, or one that belongs to another access token: userinfo alone signs nobody in."""
    door, browser = await place.connect(), await place.open_browser()
    place.provider.forge = lambda _: None
    page = await door.sign_in(browser, sourcedId="s-1")
    await place.refuses(page, browser, "SIGNIN_TOKEN_INVALID", "no ID token")
    place.provider.forge = lambda claims: place.provider.sign({**claims, "at_hash": "AAAAAAAAAAAAAAAAAAAAAA"})
    page = await door.sign_in(browser, sourcedId="s-1")
    await place.refuses(page, browser, "SIGNIN_TOKEN_INVALID", "ID token: at_hash")


async def test_attack_43_userinfo_about_somebody_else_is_refused(place: Place) -> None:
    """What the portal says besides must be about whom the ID token names, and their district."""
    door, browser = await place.connect(), await place.open_browser()
    for info in ({"sub": "u-2", "sourcedId": "s-1"}, {"sourcedId": "s-1"}, {"sub": "U-1", "sourcedId": "s-1"}):
        place.provider.info = info
        page = await door.sign_in(browser, "u-1")
        await place.refuses(page, browser, "SIGNIN_TOKEN_INVALID", "the answers are about different people")
    door = await place.connect("classlink", shared=True)
    place.provider.info = {"UserId": 7, "TenantId": "d-2", "SourcedId": "s-1"}
    page = await door.sign_in(browser, "7", classLink_tenant_id="d-1")
    await place.refuses(page, browser, "SIGNIN_TOKEN_INVALID", "the answers are about different tenants")


async def test_attack_44_a_logout_token_signs_nobody_in(place: Place) -> None:
    """Other signed tokens of the provider are not taken for an ID token."""
    door, browser = await place.connect(), await place.open_browser()
    event: dict[str, object] = {"http://schemas.openid.net/event/backchannel-logout": {}}
    for forge in (
        lambda claims: place.provider.sign({**claims, "events": event}),
        lambda claims: place.provider.sign(claims, typ="logout+jwt"),
        lambda claims: place.provider.sign(claims, typ="at+jwt"),
    ):
        place.provider.forge = forge
        page = await door.sign_in(browser, sourcedId="s-1")
        await place.refuses(page, browser, "SIGNIN_TOKEN_INVALID", "ID token: another kind of token")


async def test_attack_45_forged_key_ids_cost_the_provider_little(place: Place) -> None:
    """However many tokens come with unknown keys, the provider's keys are asked for again once a minute at most."""
    door, browser = await place.connect(), await place.open_browser()
    door.add("s-1")
    assert (await door.sign_in(browser, sourcedId="s-1")).status_code == 200
    before = place.provider.count("/jwks")
    place.provider.forge = lambda claims: place.provider.sign(claims, kid="unheard-of")
    for _ in range(3):
        assert (await door.sign_in(browser, sourcedId="s-1")).status_code == 403
    assert place.provider.count("/jwks") == before + 1
    place.clock.move(seconds=61)
    assert (await door.sign_in(browser, sourcedId="s-1")).status_code == 403
    assert place.provider.count("/jwks") == before + 2


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/jwks", "/token", "/userinfo"])
async def test_attack_45_servers_that_misbehave_end_in_a_page(place: Place, path: str) -> None:
    """Slow, dripping, huge, packed, redirecting, broken or foreign answers end in a friendly page, and in time."""
    fetching = place.app.state.fetching
    object.__setattr__(fetching, "seconds", 0.3)
    try:
        for manner in ("slow", "drip", "huge", "bomb", "redirect", "html", "error", "not-json", "list", "hang-up"):
            door, browser = await place.connect(), await place.open_browser()
            place.provider.behave = {path: manner}
            page = await browser.get(f"/sso/launch/{door.upstream_id}")
            if page.status_code == 303:
                page = await browser.get(place.provider.approve(page.headers["location"], "u-1"))
            assert page.status_code == 503, manner
            assert (await place.find_reason(page)).startswith("SIGNIN_UPSTREAM_AWAY"), manner
            assert not await browser.is_signed_in()
    finally:
        object.__setattr__(fetching, "seconds", 5.0)


async def test_attack_45_no_private_address_is_asked(place: Place) -> None:
    """Metadata can't lead us to addresses inside: every endpoint it names is judged each time it is asked."""
    fetching = place.app.state.fetching
    door, browser = await place.connect(), await place.open_browser()
    url = await browser.begin(door.upstream_id)
    object.__setattr__(fetching, "allow_private", False)
    try:
        page = await browser.get(place.provider.approve(url, sourcedId="s-1"))
    finally:
        object.__setattr__(fetching, "allow_private", True)
    await place.refuses(page, browser, "SIGNIN_UPSTREAM_AWAY", "token endpoint: address")
    for metadata in ({"token_endpoint": "file:///etc/passwd"}, {"jwks_uri": "gopher://x"}, {"token_endpoint": 7}):
        place.provider.metadata = metadata
        door = await place.connect()
        page = await browser.get(f"/sso/launch/{door.upstream_id}")
        name = next(iter(metadata))
        await place.refuses(page, browser, "SIGNIN_UPSTREAM_AWAY", f"{name} is no usable address")


async def test_attack_46_only_tokens_of_our_own_exchange_count(place: Place) -> None:
    """An access token or ID token in the callback, of whatever client, is passed over: a code is needed, and a flow."""
    door = await place.connect("clever", shared=True, openid=False)
    door.add("c-1")
    browser = await place.open_browser()
    place.provider.info = {"data": {"id": "c-1", "district": "d-1"}}
    await door.sign_in(browser, "c-1")
    stolen = next(reversed(place.provider.tokens))
    other, before = await place.open_browser(), place.provider.count("/info")
    state = parse_qs(urlsplit(await other.begin(door.upstream_id)).query)["state"][0]
    for query in (f"access_token={stolen}", f"id_token=x.y.z&access_token={stolen}&token_type=Bearer"):
        page = await other.get(f"/sso/callback/{door.upstream_id}?{query}&state={state}")
        await place.refuses(page, other, "SIGNIN_REQUEST_INVALID", "neither a code nor an error, or both")
    assert place.provider.count("/info") == before


async def test_attack_47_the_session_before_is_worth_nothing_after(place: Place) -> None:
    """A session cookie somebody planted, or had before, is not the one they are signed in with."""
    door, browser = await place.connect(), await place.open_browser()
    door.add("s-1")
    planted = "p" * 43
    browser.client.cookies.set("homeroom-session", planted, domain="homeroom.test", path="/")
    name = place.launching.sessions.cookie
    browser.client.cookies.set(name, planted, domain="homeroom.test", path="/")
    await door.sign_in(browser, sourcedId="s-1")
    first = browser.client.cookies.get(name, domain="homeroom.test")
    assert first not in (None, planted)
    await door.sign_in(browser, sourcedId="s-1")
    await place.database.fetch("UPDATE session SET previous_until = now()")  # a minute goes by
    thief = await place.open_browser()
    for stolen in (planted, str(first)):
        thief.client.cookies.clear()
        thief.client.cookies.set(name, stolen, domain="homeroom.test", path="/")
        assert not await thief.is_signed_in()
    assert await browser.is_signed_in()


async def test_attack_48_the_one_before_is_signed_out(place: Place) -> None:
    """Signing in where somebody else is signed in ends their session, and the page names the new one only."""
    door, browser = await place.connect(), await place.open_browser()
    door.add("s-1", "Ada")
    door.add("s-2", "Bo")
    await door.sign_in(browser, "u-1", sourcedId="s-1")
    name = place.launching.sessions.cookie
    ada = str(browser.client.cookies.get(name, domain="homeroom.test"))
    page = await door.sign_in(browser, "u-2", sourcedId="s-2")
    assert "as Bo" in page.text
    assert "Ada" not in page.text
    thief = await place.open_browser()
    thief.client.cookies.set(name, ada, domain="homeroom.test", path="/")
    assert not await thief.is_signed_in()


async def test_attack_49_cookies_are_for_this_host_over_https_only() -> None:
    """Cookies are out of scripts' and other hosts' reach; only the one that finds flows comes along from elsewhere."""
    browsers, browser_cookie = Browsers(secure=True), Response()
    browsers.mark(browser_cookie, "b" * 43)
    sessions, session_cookie = Sessions(None, secure=True), Response()  # type: ignore[arg-type]  # nothing is stored
    sessions.mark(session_cookie, "s" * 43)
    for response, same_site in ((browser_cookie, "none"), (session_cookie, "lax")):
        name, *rest = response.headers["set-cookie"].split("; ")
        flags = {flag.lower() for flag in rest}
        assert name.startswith("__Host-homeroom-")
        assert {"secure", "httponly", "path=/", f"samesite={same_site}"} <= flags
        assert not any(flag.startswith("domain") for flag in flags)


async def test_attack_49_the_count_of_restarts_is_a_cookie_of_that_kind(place: Place) -> None:
    """What is counted in the browser is out of scripts' reach as well, and soon forgotten."""
    door, browser = await place.connect("clever", shared=True), await place.open_browser()
    out = await browser.get(f"/sso/callback/{door.upstream_id}?code=tile-{uuid4()}")
    [cookie] = [one for one in out.headers.get_list("set-cookie") if "restarts" in one]
    assert {"HttpOnly", "Max-Age=120", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
