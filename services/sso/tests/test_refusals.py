"""Every way to be refused that browsers can come to, and what must hold for all of them.

A page with a support id and a status of 4xx or 5xx; a trace with the code; no session, no tie, no linked account; and
nothing of what was sent: every value that reaches sso from outside carries a word that must stand nowhere afterwards.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from roster_stand_in import make_district
from saml_place import SamlPlace, Service, browsing, make_place, running_service
from upstream_place import Browser, Door, Place, running_place

from homeroom.codes import Code
from homeroom.db import Database
from sso.clients import Declaration

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORD: Final = "Okonjuvala"
SECRET: Final = "product-secret-0123456789-0123456789"
SAID: Final[dict[str, Any]] = {
    "name": f"{WORD} name",
    "given_name": f"{WORD}<script>",
    "email": f"{WORD}@north.example",
    "role": f"{WORD}-role",
}
"""What a portal says besides, to whom it may concern."""
WRITTEN: Final = (
    "SELECT (SELECT count(*) FROM session), (SELECT count(*) FROM linked_account), "
    "(SELECT count(*) FROM staff_account), (SELECT count(*) FROM identity), (SELECT count(*) FROM person)"
)


@dataclass
class Stage:
    """What a refusal needs: portals of both kinds, and whoever is played there."""

    place: Place
    saml: Service
    database: Database = field(init=False)
    """Of the sso that refuses."""
    sent: list[str] = field(default_factory=list)
    """What was sent beside what carries the word, and must not come back either."""

    def __post_init__(self) -> None:
        self.database = self.place.database

    async def connect(self, kind: Any = "oidc", **more: Any) -> tuple[Door, Browser]:
        """A district's connection and a browser."""
        return await self.place.connect(kind, **more), await self.place.open_browser()

    async def sign_in(self, door: Door, browser: Browser, key: str = f"{WORD}-key", **more: Any) -> httpx2.Response:
        """Sign in as somebody whom the portal calls by the word."""
        said = {"subject": f"{WORD}-subject", "sourcedId": key, "code": f"{WORD}-{uuid4()}", **SAID, **more}
        url = await browser.begin(door.upstream_id)
        self.sent += [value for [value] in parse_qs(urlsplit(url).query).values() if len(value) > 20]
        return await browser.get(self.place.provider.approve(url, **said))

    async def connect_saml(self, **config: Any) -> SamlPlace:
        """A district's SAML connection."""
        self.database = self.saml.database
        return await make_place(self.saml, await make_district(self.saml.database), **config)

    async def add_product(self, door: Door, mode: str = "oidc") -> dict[str, str]:
        """A client of the district's product; its credentials."""
        name, product_id = f"reader-{door.connection_id.hex[:8]}", door.district.product_id
        wanted = [Declaration(name, SECRET, ["accounts.write"], product_id=product_id)]
        await self.place.app.state.clients.declare_all(wanted)
        await self.database.fetch(
            "INSERT INTO relying_party (client_id, product_id, launch_mode, redirect_uris) "
            "VALUES ($1, $2, $3, ARRAY['https://reader.example/back'])",
            name,
            product_id,
            mode,
        )
        return {"client_id": name, "client_secret": SECRET}


Way = Callable[[Stage], Awaitable[httpx2.Response]]
WAYS: Final[dict[Code, Way]] = {}
"""How to be refused with each code."""


def leads_to(code: Code) -> Callable[[Way], Way]:
    """A way to be refused with this code."""

    def add(way: Way) -> Way:
        WAYS[code] = way
        return way

    return add


# ── who somebody is, and what they may ────────────────────────────────────────────────────────────────────────────


@leads_to(Code.SIGNIN_NOT_ROSTERED)
async def _unheard_of(stage: Stage) -> httpx2.Response:
    return await stage.sign_in(*await stage.connect())


@leads_to(Code.SIGNIN_REMOVED)
async def _removed(stage: Stage) -> httpx2.Response:
    door, browser = await stage.connect()
    door.add(f"{WORD}-key", WORD, active=False)
    return await stage.sign_in(door, browser)


@leads_to(Code.SIGNIN_AMBIGUOUS)
async def _two_people(stage: Stage) -> httpx2.Response:
    door, browser = await stage.connect(person_field="identifier")
    for sourced_id in ("s-1", "s-2"):
        door.add(sourced_id, WORD, identifier=f"{WORD}-key")
    return await stage.sign_in(door, browser)


@leads_to(Code.SIGNIN_TENANT_UNKNOWN)
async def _another_district(stage: Stage) -> httpx2.Response:
    door, browser = await stage.connect("clever", shared=True)
    return await stage.sign_in(door, browser, district=f"{WORD}-district")


@leads_to(Code.SIGNIN_UNLICENSED)
async def _no_license(stage: Stage) -> httpx2.Response:
    district = await make_district(stage.database, licensed=False)
    door, browser = await stage.connect(district=district, product_id=district.product_id)
    return await stage.sign_in(door, browser)


@leads_to(Code.SIGNIN_ROSTER_OLD)
async def _old_roster(stage: Stage) -> httpx2.Response:
    door, browser = await stage.connect(max_roster_age_hours=1)
    door.add(f"{WORD}-key", WORD)
    stage.place.roster.applied_at = stage.place.clock.now() - timedelta(hours=2)
    return await stage.sign_in(door, browser)


@leads_to(Code.SIGNIN_CONNECTION_OFF)
async def _disabled(stage: Stage) -> httpx2.Response:
    return await stage.sign_in(*await stage.connect(enabled=False))


@leads_to(Code.SIGNIN_PRODUCT_OFF)
async def _no_client(stage: Stage) -> httpx2.Response:
    district = await make_district(stage.database)
    door, browser = await stage.connect(district=district, product_id=district.product_id)
    door.add("s-1", WORD)
    return await stage.sign_in(door, browser, "s-1")


@leads_to(Code.SIGNIN_SESSION_OVER)
async def _nobody_signed_in(stage: Stage) -> httpx2.Response:
    browser = await stage.place.open_browser()
    browser.client.cookies.set("homeroom-session", WORD * 4)
    return await browser.get(f"/sso/open/{uuid4()}?destination={WORD}")


@leads_to(Code.SIGNIN_ROLE_MISSING)
async def _student(stage: Stage) -> httpx2.Response:
    door, browser = await stage.connect()
    door.add(f"{WORD}-key", WORD, role="student")
    out = await browser.get(f"/sso/staff?connection={door.connection_id}&next=/{WORD}")
    said = {"auth_time": int(stage.place.clock.now().timestamp()), "sourcedId": f"{WORD}-key", **SAID}
    return await browser.get(stage.place.provider.approve(out.headers["location"], f"{WORD}-subject", **said))


@leads_to(Code.SIGNIN_LINKED_ELSEWHERE)
async def _linked_elsewhere(stage: Stage) -> httpx2.Response:
    door, browser = await stage.connect()
    door.add("s-1", WORD)
    product_id, account = str(door.district.product_id), f"{WORD}-account"
    stage.place.roster.accounts[product_id, account] = (str(door.district.integration_id), "s-9")
    form = {"grant_type": "client_credentials", **await stage.add_product(door)}
    token = (await browser.client.post("/oauth2/token", data=form)).json()["access_token"]
    now = stage.place.clock.now()
    asked = await browser.client.post(
        "/v1/account-links",
        json={
            "external_id": account,
            "label": f"{WORD} label",
            "connection_id": str(door.connection_id),
            "return_to": "https://reader.example/back",
            "auth_time": now.isoformat(),
        },
        headers={"Authorization": f"Bearer {token}"},
    )
    out = await browser.get(asked.json()["url"].removeprefix("http://homeroom.test"))
    said = {"auth_time": int(now.timestamp()), "sourcedId": "s-1", **SAID}
    page = await browser.get(stage.place.provider.approve(out.headers["location"], f"{WORD}-subject", **said))
    [action], [agreed] = (
        re.findall(one, page.text) for one in (r' action="(/sso/link/[^"]+)"', r'name="form" value="([^"]+)"')
    )
    return await browser.client.post(action, data={"form": agreed, "agreed": "true"})


# ── what came back from a portal ──────────────────────────────────────────────────────────────────────────────────


@leads_to(Code.SIGNIN_FLOW_LOST)
async def _unknown_state(stage: Stage) -> httpx2.Response:
    door, browser = await stage.connect()
    return await browser.get(f"/sso/callback/{door.upstream_id}?code={WORD}-code&state={WORD}-state&iss={WORD}")


@leads_to(Code.SIGNIN_LOOP)
async def _no_cookies(stage: Stage) -> httpx2.Response:
    door = await stage.place.connect("clever", shared=True)
    browser = await stage.place.open_browser(keeps_cookies=False)
    return await browser.get(f"/sso/callback/{door.upstream_id}?code={WORD}-code")


@leads_to(Code.SIGNIN_DENIED)
async def _denied(stage: Stage) -> httpx2.Response:
    door, browser = await stage.connect()
    state = parse_qs(urlsplit(await browser.begin(door.upstream_id)).query)["state"][0]
    stage.sent.append(state)
    said = f"error=access_denied&error_description={WORD}%3Cb%3E&error_uri=https://{WORD}.example&state={state}"
    return await browser.get(f"/sso/callback/{door.upstream_id}?{said}")


@leads_to(Code.SIGNIN_UPSTREAM_AWAY)
async def _away(stage: Stage) -> httpx2.Response:
    stage.place.provider.behave = {"/token": "error"}
    return await stage.sign_in(*await stage.connect())


@leads_to(Code.SIGNIN_TOKEN_INVALID)
async def _forged(stage: Stage) -> httpx2.Response:
    stage.place.provider.forge = lambda _: f"{WORD}.{WORD}.{WORD}"
    return await stage.sign_in(*await stage.connect())


@leads_to(Code.SIGNIN_REQUEST_INVALID)
async def _twice(stage: Stage) -> httpx2.Response:
    door, browser = await stage.connect()
    return await browser.get(f"/sso/callback/{door.upstream_id}?code={WORD}&code={WORD}&state={WORD}")


@leads_to(Code.SIGNIN_ASSERTION_INVALID)
async def _for_somebody_else(stage: Stage) -> httpx2.Response:
    saml = await stage.connect_saml(idp_initiated=True)
    said: dict[str, Any] = {
        "audience": f"https://{WORD}.example",
        "name_id": f"{WORD}-name",
        "attributes": (("mail", (WORD,)),),
    }
    async with browsing(stage.saml) as browser:
        return await saml.post(browser, saml.respond(**said), f"{WORD}-relay")


@leads_to(Code.SIGNIN_REPLAYED)
async def _again(stage: Stage) -> httpx2.Response:
    saml = await stage.connect_saml(idp_initiated=True)
    document = saml.respond(name_id=f"{WORD}-name")
    async with browsing(stage.saml) as browser:
        assert (await saml.post(browser, document, f"{WORD}-relay")).status_code == 303
        return await saml.post(browser, document, f"{WORD}-relay")


# ── staff, and our own troubles ───────────────────────────────────────────────────────────────────────────────────


async def _type_password(browser: Browser, username: str) -> httpx2.Response:
    form = (await browser.get("/sso/staff/local")).text
    [token] = re.findall(r'name="csrf" value="([^"]+)"', form)
    typed = {"csrf": token, "username": username, "password": f"{WORD}-password", "next": f"/{WORD}"}
    return await browser.client.post("/sso/staff/local", data=typed)


@leads_to(Code.SIGNIN_THROTTLED)
async def _too_often(stage: Stage) -> httpx2.Response:
    names = stage.place.app.state.local_sign_in._names  # ten wrong passwords take a while to check
    for _ in range(10):
        names.fail(f"{WORD.lower()}\n127.0.0.1")
    return await _type_password(await stage.place.open_browser(), WORD.lower())


@leads_to(Code.SIGNIN_INVITATION_OVER)
async def _no_invitation(stage: Stage) -> httpx2.Response:
    return await (await stage.place.open_browser()).get(f"/sso/staff/invitations/{WORD}-token")


@leads_to(Code.SIGNIN_STORE_AWAY)
async def _no_store(stage: Stage) -> httpx2.Response:
    stage.place.roster.away = True
    return await stage.sign_in(*await stage.connect())


@leads_to(Code.SIGNIN_FAILED)
async def _unforeseen(stage: Stage) -> httpx2.Response:
    async def fail(_: object) -> None:
        raise ValueError(WORD)

    upstreams = stage.place.launching.upstreams
    object.__setattr__(upstreams, "find", fail)
    try:
        browser = await stage.place.open_browser()
        return await browser.get(f"/sso/callback/{uuid4()}?code={WORD}&state={WORD}")
    finally:
        object.__delattr__(upstreams, "find")


IDENTIFIED: Final = frozenset({Code.SIGNIN_PRODUCT_OFF, Code.SIGNIN_ROLE_MISSING, Code.SIGNIN_LINKED_ELSEWHERE})
"""Who they are was found out before; that is written down, the trace has their sourcedId, and nobody is let in."""
ON_ITS_FORM: Final = frozenset({Code.SIGNIN_PASSWORD_WRONG})
"""Told on the form that was filled in, which is shown again, empty; see `test_a_wrong_password_is_not_echoed`."""


# ── what holds for all of them ────────────────────────────────────────────────────────────────────────────────────


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="running")
async def _run(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Place, Service]]:
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(running_place(request))
        place.settings.local_accounts = True
        yield place, await stack.enter_async_context(running_service(request))


@pytest.fixture
def stage(running: tuple[Place, Service]) -> Any:
    """Portals where all is well, before and after every test."""
    place, saml = running
    applied_at = place.roster.applied_at
    yield Stage(place, saml)
    place.make_honest()
    place.roster.away, place.roster.applied_at = False, applied_at


async def test_every_refusal_is_tried_out() -> None:
    """A code that is added is tried out here as well."""
    codes = {code for code in Code if code.startswith("SIGNIN_")}
    assert codes == WAYS.keys() | ON_ITS_FORM


@pytest.mark.parametrize("code", sorted(WAYS))
async def test_attack_73_a_refusal_tells_nothing_and_leaves_nothing(
    stage: Stage, code: Code, capfd: pytest.CaptureFixture[str]
) -> None:
    """A page, an id and a code: no session, no tie, no account, and not a word of what was sent, in logs neither."""
    before = {one: tuple(await one.fetchrow(WRITTEN) or ()) for one in (stage.place.database, stage.saml.database)}
    page = await WAYS[code](stage)
    assert 400 <= page.status_code < 600
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-store"
    assert not any("session" in one for one in page.headers.get_list("set-cookie"))
    [support_id] = set(re.findall(r"HR-[0-9A-Z]{4}-[0-9A-Z]{4}", page.text))
    launch = await stage.database.fetchrow(
        "SELECT state, code, to_jsonb(launch)::text AS whole FROM launch WHERE support_id = $1", support_id
    )
    assert launch is not None
    assert (launch["state"], launch["code"]) == ("refused", code)
    assert code in page.text
    told = page.text + str(page.headers.raw)
    for where in (told, launch["whole"], "".join(capfd.readouterr())):
        assert WORD.lower() not in where.lower()
        assert not [one for one in stage.sent if one in where]
    for database, rows in before.items():
        after = tuple(await database.fetchrow(WRITTEN) or ())
        assert after == rows or (code in IDENTIFIED and after[:3] == rows[:3])


async def test_a_wrong_password_is_not_echoed(stage: Stage) -> None:
    """The form comes back with a support id and without what was typed, and nobody is signed in."""
    browser = await stage.place.open_browser()
    page = await _type_password(browser, f"{WORD.lower()}-2")
    assert (page.status_code, Code.SIGNIN_PASSWORD_WRONG.entry.title in page.text) == (401, True)
    assert await stage.database.fetchval("SELECT count(*) FROM launch WHERE code = 'SIGNIN_PASSWORD_WRONG'") == 1
    assert WORD.lower() not in page.text.lower()
    assert not await browser.is_signed_in()
