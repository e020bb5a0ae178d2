"""Sign-in at OpenID providers and portals, from the tile to the page that says who is signed in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
import pytest_asyncio
from joserfc.jwk import ECKey
from played_provider import SECRET, make_ec, make_rsa
from roster_stand_in import make_district
from upstream_place import Place, running_place

from sso.launch.flows import Intent

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


async def test_somebody_signs_in_at_an_openid_provider(place: Place) -> None:
    """With state, nonce and PKCE out, and a code, an ID token and the roster back, somebody is signed in by name."""
    door, browser = await place.connect(), await place.open_browser()
    door.add("s-1", "Ada")
    url = await browser.begin(door.upstream_id)
    asked = {name: value for name, [value] in parse_qs(urlsplit(url).query).items()}
    assert asked.keys() == {
        "response_type",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
    }
    assert asked["redirect_uri"] == f"http://homeroom.test/sso/callback/{door.upstream_id}"
    assert asked["code_challenge_method"] == "S256"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    page = await browser.get(place.provider.approve(url, "u-1", sourcedId="s-1"))
    assert page.status_code == 200
    assert "signed in as Ada Berg" in page.text
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    steps = await place.database.fetchval("SELECT steps FROM launch WHERE connection_id = $1", door.connection_id)
    assert "s-1" not in str(steps)
    assert "Ada" not in str(steps)


async def test_what_an_id_token_does_not_say_is_asked_for(place: Place) -> None:
    """A claim that only userinfo has is taken from there, and userinfo is asked for nothing that is known already."""
    door, browser = await place.connect(), await place.open_browser()
    door.add("s-7", "Bo")
    place.provider.info = {"sub": "u-7", "sourcedId": "s-7"}
    before = place.provider.count("/userinfo")
    assert "signed in as Bo" in (await door.sign_in(browser, "u-7")).text
    assert place.provider.count("/userinfo") == before + 1
    assert "signed in as Bo" in (await door.sign_in(browser, "u-7", sourcedId="s-7")).text
    assert place.provider.count("/userinfo") == before + 1


async def test_classlink_says_tenant_and_sourced_id_at_its_own_place(place: Place) -> None:
    """ClassLink's numbers become decimal texts, and what is missing in its ID token comes from `my/info`."""
    door, browser = await place.connect("classlink", shared=True, tenant="2284"), await place.open_browser()
    door.add("or-55", "Cem")
    place.provider.info = {"UserId": 9007199254740993, "TenantId": 2284, "SourcedId": "or-55", "Email": "x@demo.local"}
    page = await door.sign_in(browser, "9007199254740993")
    assert "signed in as Cem" in page.text
    row = await place.database.fetchrow(
        "SELECT tenant, subject FROM identity WHERE connection_id = $1", door.connection_id
    )
    assert dict(row or {}) == {"tenant": "2284", "subject": "9007199254740993"}
    path, headers, body = next(one for one in place.provider.asked if one[0] == "/token" and b"client_secret" in one[2])
    assert path == "/token"
    assert "authorization" not in headers
    assert b"grant_type=authorization_code" in body


async def test_clever_without_openid_is_asked_by_its_own_token(place: Place) -> None:
    """Where Clever gives no ID token, its answer to `/me` and, for a name, to `/users/{id}` say who it is."""
    door = await place.connect("clever", shared=True, openid=False, rostering="optional")
    browser = await place.open_browser()
    place.provider.info = {"type": "user", "data": {"id": "c-9", "district": "d-1", "type": "user"}}
    place.provider.record = {
        "data": {"id": "c-9", "district": "d-1", "name": {"first": "Zoë"}, "roles": {"student": {}}}
    }
    url = await browser.begin(door.upstream_id)
    assert "nonce" not in url
    assert "scope=" not in url
    assert "code_challenge" not in url
    page = await browser.get(place.provider.approve(url, "c-9"))
    assert "signed in as Zoë" in page.text
    _, headers, body = [one for one in place.provider.asked if one[0] == "/token"][-1]
    assert headers["content-type"] == "application/json"
    assert headers["authorization"].startswith("Basic ")
    assert b'"grant_type":"authorization_code"' in body
    assert place.provider.asked[-1][0] == "/users/c-9"


async def test_a_known_district_is_not_searched_for(place: Place) -> None:
    """Whoever chose their school with us is sent straight to their district at Clever, whose id the connection has."""
    door = await place.connect("clever", shared=True, tenant="d-77")
    intent = Intent("launch", connection_id=door.connection_id)
    upstream = await place.launching.upstreams.find(door.upstream_id)
    assert upstream is not None
    trace = place.launching.launches.begin("launch")
    url = await place.app.state.oidc.start(upstream, intent, trace, "a-browser")
    assert "district_id=d-77" in url
    trace = place.launching.launches.begin("launch")
    assert "district_id" not in await place.app.state.oidc.start(upstream, Intent("launch"), trace, "a-browser")


async def test_a_fresh_sign_in_is_asked_for_and_seen_to(place: Place) -> None:
    """Where a session at the portal is not enough, a new sign-in is asked for, and an old one is not taken for it."""
    door = await place.connect()
    door.add("s-1")
    upstream = await place.launching.upstreams.find(door.upstream_id)
    assert upstream is not None
    for auth_time in (None, -600, 5):
        browser, cookie = await place.open_browser(), "b" * 43
        browser.client.cookies.set("homeroom-browser", cookie, domain="homeroom.test", path="/")
        trace = place.launching.launches.begin("launch")
        url = await place.app.state.oidc.start(upstream, Intent("launch", fresh=True), trace, cookie)
        assert "prompt=login" in url
        assert "max_age=0" in url
        claims: dict[str, Any] = (
            {} if auth_time is None else {"auth_time": int(place.clock.now().timestamp()) + auth_time}
        )
        await browser.get(place.provider.approve(url, "u-1", sourcedId="s-1", **claims))
        assert await browser.is_signed_in() is (auth_time == 5)


async def test_keys_that_were_exchanged_are_found(place: Place) -> None:
    """When a provider signs with a new key, or with a new one under an old id, it is asked once, and it goes on."""
    door, browser = await place.connect(algorithms=("RS256", "ES256")), await place.open_browser()
    door.add("s-1")
    assert (await door.sign_in(browser, sourcedId="s-1")).status_code == 200
    before = place.provider.count("/jwks")
    place.provider.key, place.provider.algorithm = make_ec("next"), "ES256"
    place.provider.published = [make_rsa("first"), make_ec("next")]
    assert (await door.sign_in(browser, sourcedId="s-1")).status_code == 200
    assert place.provider.count("/jwks") == before + 1
    place.clock.move(seconds=61)
    place.provider.key = ECKey.generate_key("P-256", {"kid": "next", "use": "sig"}, auto_kid=False)
    place.provider.published = [place.provider.key]
    assert (await door.sign_in(browser, sourcedId="s-1")).status_code == 200


async def test_two_tabs_do_not_disturb_each_other(place: Place) -> None:
    """Two sign-ins that one browser began both come in, whichever comes back first."""
    door, browser = await place.connect(), await place.open_browser()
    door.add("s-1")
    first = await door.approve(browser, sourcedId="s-1")
    second = await door.approve(browser, sourcedId="s-1")
    assert (await browser.get(second)).status_code == 200
    assert (await browser.get(first)).status_code == 200


async def test_two_tabs_that_come_first_together(place: Place) -> None:
    """Two tabs of a browser that has no cookie yet each get one, and both come in, whichever cookie it keeps."""
    door, browser = await place.connect(), await place.open_browser()
    door.add("s-1")
    name = place.launching.browsers.cookie
    first = await door.approve(browser, sourcedId="s-1")
    given = dict(browser.client.cookies)
    browser.client.cookies.clear()  # the second one set out before the first was answered
    second = await door.approve(browser, sourcedId="s-1")
    for kept, value in given.items():
        if kept != name:
            browser.client.cookies.set(kept, value, domain="homeroom.test", path="/")
    assert browser.client.cookies[name] != given[name]
    assert (await browser.get(first)).status_code == 200
    assert (await browser.get(second)).status_code == 200
    stranger = await place.open_browser()
    third = await door.approve(browser, sourcedId="s-1")
    assert (await stranger.get(third)).status_code == 403


async def test_a_refused_sign_in_leaves_whoever_is_signed_in_alone(place: Place) -> None:
    """A forged answer neither signs anybody in nor out."""
    door, browser = await place.connect(), await place.open_browser()
    door.add("s-1")
    await door.sign_in(browser, sourcedId="s-1")
    place.provider.forge = lambda claims: place.provider.sign({**claims, "aud": "other"})
    assert (await door.sign_in(browser, "u-2", sourcedId="s-1")).status_code == 403
    assert await browser.is_signed_in()


async def test_wrong_credentials_are_told_from_an_outage(place: Place) -> None:
    """An admin reads in the trace that the portal refused our secret, or the code, rather than that it is away."""
    browser = await place.open_browser()
    for secret, why in (("wrong", "invalid_client"), (SECRET, "invalid_grant")):
        door = await place.connect(secret=secret)
        place.provider.behave = {"/token": "refuse"} if secret == SECRET else {}
        page = await door.sign_in(browser, sourcedId="s-1")
        await place.refuses(page, browser, "SIGNIN_TOKEN_INVALID", f"token endpoint: {why}")


async def test_a_district_that_is_not_set_up_gets_its_own_page(place: Place) -> None:
    """Somebody of a district that no connection is for reads that, and no account is made."""
    door, browser = await place.connect("clever", shared=True, tenant="d-1"), await place.open_browser()
    await make_district(place.database)
    page = await door.sign_in(browser, district="d-2")
    await place.refuses(page, browser, "SIGNIN_TENANT_UNKNOWN", "no connection has this tenant")
    assert await door.count_identities() == 0


async def test_a_provider_that_is_disabled_takes_nobody_back(place: Place) -> None:
    """Whoever is on the way when an upstream is disabled is not signed in by it."""
    door, browser = await place.connect(), await place.open_browser()
    back, before = await door.approve(browser, sourcedId="s-1"), place.provider.exchanges
    await place.database.fetch("UPDATE upstream SET enabled = false WHERE id = $1", door.upstream_id)
    place.clock.move(seconds=6)
    await place.refuses(await browser.get(back), browser, "SIGNIN_CONNECTION_OFF", "the upstream is disabled")
    assert place.provider.exchanges == before


# ── Clever's rules for certification (their numbers are those of its guide as we list them) ────────────────────────


async def test_clever_01_the_authorization_code_grant_is_used(place: Place) -> None:
    """Nothing but a code is asked for, and it is exchanged from server to server with our secret."""
    door, browser = await place.connect("clever", shared=True), await place.open_browser()
    door.add("u-1")
    before = place.provider.exchanges
    url = await browser.begin(door.upstream_id)
    assert parse_qs(urlsplit(url).query)["response_type"] == ["code"]
    assert (await browser.get(place.provider.approve(url, district="d-1"))).status_code == 200
    assert place.provider.exchanges == before + 1


async def test_clever_02_a_code_that_comes_again_is_never_exchanged_again(place: Place) -> None:
    """After a refresh, the back button or a bookmark whoever is signed in goes on, and anybody else begins anew."""
    door, browser = await place.connect("clever", shared=True), await place.open_browser()
    door.add("u-1")
    back = await door.approve(browser, district="d-1")
    assert (await browser.get(back)).status_code == 200
    exchanges = place.provider.exchanges
    again = await browser.client.get(back)
    assert again.headers["location"] == "/sso/session"
    assert "signed in as" in (await browser.get(back)).text
    await browser.client.post("/sso/sign-out")
    anew = await browser.get(back)
    assert anew.headers["location"].startswith(f"{place.provider.url}/authorize?")
    assert place.provider.exchanges == exchanges


async def test_clever_03_a_new_login_overrides_whoever_was_signed_in(place: Place) -> None:
    """On a shared device the next pupil's tile ends the session of the one before."""
    door, browser = await place.connect("clever", shared=True), await place.open_browser()
    door.add("u-1", "Ada")
    door.add("u-2", "Bo")
    assert "signed in as Ada" in (await door.sign_in(browser, "u-1", district="d-1")).text
    launched = await browser.get(f"/sso/callback/{door.upstream_id}?code=code-of-the-portal-{uuid4()}")
    page = await browser.get(place.provider.approve(launched.headers["location"], "u-2", district="d-1"))
    assert "signed in as Bo" in page.text
    assert "Ada" not in page.text
    sessions = await place.database.fetchval(
        "SELECT count(*) FROM session WHERE connection_id = $1", door.connection_id
    )
    assert sessions == 1


async def test_clever_04_it_is_shown_who_is_signed_in(place: Place) -> None:
    """The page names the person, and the organization they are of."""
    door, browser = await place.connect("clever", shared=True), await place.open_browser()
    door.add("u-1", "Ada")
    page = await door.sign_in(browser, district="d-1")
    assert "You are signed in as Ada Berg" in page.text
    assert "North District" in page.text


async def test_clever_05_one_can_sign_out_here_and_clever_is_left_alone(place: Place) -> None:
    """There is a button to sign out; it ends our session and sends nobody to Clever."""
    door, browser = await place.connect("clever", shared=True), await place.open_browser()
    door.add("u-1")
    assert "/sso/sign-out" in (await door.sign_in(browser, district="d-1")).text
    asked = len(place.provider.asked)
    answer = await browser.client.post("/sso/sign-out")
    assert answer.headers["location"] == "/sso/session"
    assert not await browser.is_signed_in()
    assert len(place.provider.asked) == asked


async def test_clever_06_people_are_known_by_clevers_id(place: Place) -> None:
    """Clever's id finds somebody whatever their e-mail address is; an address finds nobody, and may be missing."""
    door, browser = await place.connect("clever", shared=True), await place.open_browser()
    door.add("u-1", "Ada", email="ada@school.example")
    assert "as Ada" in (await door.sign_in(browser, "u-1", district="d-1", email="other@school.example")).text
    assert "as Ada" in (await door.sign_in(browser, "u-1", district="d-1")).text
    other = await place.open_browser()
    page = await door.sign_in(other, "u-3", district="d-1", email="ada@school.example", email_verified=True)
    await place.refuses(page, other, "SIGNIN_NOT_ROSTERED", "not in the roster")


async def test_clever_07_errors_end_in_a_friendly_page(place: Place) -> None:
    """Whoever may not come in reads why and what to do, with an id to name and a way to try again."""
    door, browser = await place.connect("clever", shared=True), await place.open_browser()
    for error in ("unauthorized-user", "access_denied"):
        page = await browser.get(f"/sso/callback/{door.upstream_id}?error={error}&error_description=%3Cb%3Eno")
        await place.refuses(page, browser, "SIGNIN_DENIED", "the portal refused")
        assert "Your portal did not let you in" in page.text
    state = parse_qs(urlsplit(await browser.begin(door.upstream_id)).query)["state"][0]
    page = await browser.get(f"/sso/callback/{door.upstream_id}?error=access_denied&state={state}")
    await place.refuses(page, browser, "SIGNIN_DENIED", "the portal refused")
    assert f"/sso/launch/{door.upstream_id}" in page.text


async def test_clever_08_missing_data_blocks_nobody(place: Place) -> None:
    """A pupil without e-mail address, names or user type comes in by the id alone, as from a badge."""
    door, browser = await place.connect("clever", shared=True), await place.open_browser()
    door.add("u-1", "Ada")
    claims: dict[str, Any] = {"email": "", "given_name": "", "family_name": None, "user_type": ""}
    assert "as Ada" in (await door.sign_in(browser, district="d-1", **claims)).text


@pytest.mark.parametrize("role", ["administrator", "aide", "teacher"])
async def test_clever_09_staff_and_admins_come_in(place: Place, role: str) -> None:
    """People who are no pupils come in as what the roster has them as."""
    door, browser = await place.connect("clever", shared=True), await place.open_browser()
    door.add("u-1", "Ada", role=role)
    assert "as Ada" in (await door.sign_in(browser, district="d-1", user_type="district_admin")).text


async def test_clever_10_names_are_unicode(place: Place) -> None:
    """Names come through in any script, both from the roster and, where nobody is rostered, from Clever."""
    door, browser = await place.connect("clever", shared=True, rostering="optional"), await place.open_browser()
    door.add("u-1", "Nguyễn 🦆")
    assert "as Nguyễn 🦆" in (await door.sign_in(browser, "u-1", district="d-1")).text
    page = await door.sign_in(browser, "u-5", district="d-1", given_name="Şule", family_name="Öz\u202e\n")
    assert "as Şule Öz<" in page.text


async def test_clever_11_somebody_of_several_roles_is_one_person(place: Place) -> None:
    """Whoever is teacher and parent at once is found by the user's id; the ids of single roles mean nobody."""
    door = await place.connect("clever", shared=True, openid=False)
    door.add("c-1", "Ada")
    place.provider.info = {
        "data": {
            "id": "c-1",
            "district": "d-1",
            "roles": {"staff": {"legacy_id": "c-2"}, "teacher": {"legacy_id": "c-3"}},
        }
    }
    place.provider.record = {"data": {"id": "c-1", "name": {"first": "Ada"}}}
    browser = await place.open_browser()
    assert "as Ada" in (await door.sign_in(browser, "c-1")).text
    assert await door.count_identities() == 1
