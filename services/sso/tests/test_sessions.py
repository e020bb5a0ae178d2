"""Who is signed in, in which browser: sessions change hands, end, and are told of to nobody else (E2, E4)."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from connecting import make_connection
from fastapi import Request
from roster_stand_in import District, PlayedRoster
from starlette.responses import Response

from homeroom.codes import Code
from homeroom.ids import new_id
from sso.launch.arrivals import Arrival
from sso.launch.flows import Browsers, Intent
from sso.launch.refusals import Refused
from sso.launch.sessions import IDLE_SECONDS, Sessions
from sso.settings import Settings

if TYPE_CHECKING:
    from conftest import Service

COOKIE = "homeroom-session"


class Device:
    """A browser at which people come back from a portal, one after the other."""

    def __init__(self, service: Service, upstream_id: UUID, product_id: UUID | None = None) -> None:
        self.service, self.upstream_id, self.product_id = service, upstream_id, product_id
        self.cookies: dict[str, str] = {}

    def request(self) -> Request:
        """A request of this browser."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "query_string": b"",
            "headers": [(b"cookie", cookie.encode())],
            "app": self.service.app,
        }
        return Request(scope)

    async def come(self, subject: str, key: str | None, *, keep: bool = True) -> Response:
        """Somebody comes back from the portal here; the browser keeps the cookies it is given."""
        launching = self.service.launching
        upstream = await launching.upstreams.find(self.upstream_id)
        assert upstream is not None
        intent, trace = Intent("launch", self.product_id), launching.launches.begin("launch")
        response = await launching.receive(self.request(), intent, Arrival(upstream, subject, None, key), trace)
        if keep:
            self.cookies |= read_cookies(response)
        return response

    async def who(self) -> str | None:
        """The sourcedId of whoever is signed in here."""
        found = await self.service.launching.sessions.find(self.request())
        return None if found is None else found.sourced_id


def read_cookies(response: Response) -> dict[str, str]:
    """The cookies a response sets."""
    jar = SimpleCookie()
    for name, value in response.raw_headers:
        if name == b"set-cookie":
            jar.load(value.decode())
    return {name: one.value for name, one in jar.items()}


@pytest.fixture
async def device(service: Service, settings: Settings, roster: PlayedRoster, district: District) -> Device:
    """A shared device at a school with two pupils."""
    upstream_id, _ = await make_connection(
        service.database, settings, organization_id=district.organization_id, integration_id=district.integration_id
    )
    for number in (1, 2):
        roster.add(district.integration_id, f"user-{number}")
    return Device(service, upstream_id)


async def join_product(service: Service, device: Device) -> None:
    """The session of a device is told to a product."""
    found = await service.launching.sessions.find(device.request())
    assert found is not None
    await service.database.fetch(
        "INSERT INTO participation (sid, session_id, client_id, subject) VALUES ($1, $2, 'reader', 'somebody')",
        new_id(),
        found.id,
    )


async def count(service: Service, which: str) -> Any:
    """How many rows."""
    return await service.database.fetchval(f"SELECT count(*) FROM {which}")  # noqa: S608 - a table of these tests


async def test_attack_47_a_planted_session_is_worth_nothing(device: Device) -> None:
    """A sign-in gets a new cookie, whatever the browser brought along; the one before opens nothing."""
    for planted in ("x" * 43, "short", ""):
        device.cookies = {COOKIE: planted}
        assert await device.who() is None
        await device.come("1", "user-1")
        assert device.cookies[COOKIE] != planted
        assert await device.who() == "user-1"
    before = dict(device.cookies)
    await device.come("1", "user-1")
    assert device.cookies != before
    await device.service.database.fetch("UPDATE session SET previous_until = now()")  # a minute goes by
    device.cookies = before
    assert await device.who() is None
    assert await count(device.service, "session") == 3


async def test_two_tabs_of_one_person_share_a_session(device: Device, service: Service) -> None:
    """A second launch of the same person goes on with their session: no product hears of its end, no tab loses it."""
    await device.come("1", "user-1")
    await join_product(service, device)
    first = dict(device.cookies)
    await device.come("1", "user-1")
    second = dict(device.cookies)
    assert second != first
    device.cookies = dict(first)
    assert await device.who() == "user-1"  # what was on its way with the cookie before
    await device.come("1", "user-1")
    assert device.cookies == first, "the browser keeps the newest one, which we can't tell it again"
    device.cookies = dict(second)
    assert await device.who() == "user-1"
    assert await count(service, "session") == 1
    assert await count(service, "participation WHERE ended_at IS NOT NULL") == 0
    await device.come("2", "user-2")
    for cookies in (first, second):
        device.cookies = cookies
        assert await device.who() is None
    assert await count(service, "participation WHERE ended_at IS NOT NULL") == 1


async def test_attack_48_the_second_pupil_replaces_the_first(device: Device, service: Service) -> None:
    """Whoever signs in last is signed in; the first one's session is over, and products are told of it."""
    await device.come("1", "user-1")
    await join_product(service, device)
    first = dict(device.cookies)
    page = await device.come("2", "user-2")
    assert b"Ada Berg" in page.body
    assert await device.who() == "user-2"
    device.cookies = first
    assert await device.who() is None
    assert await count(service, "session") == 1
    assert await count(service, "participation WHERE ended_at IS NOT NULL") == 1


async def test_attack_48_a_refused_pupil_is_not_left_with_the_first_ones_session(
    device: Device, service: Service, roster: PlayedRoster
) -> None:
    """Where the portal vouches for somebody who may not come in, whoever was there before is signed out."""
    await device.come("1", "user-1")
    with pytest.raises(Refused):
        await device.come("3", "user-3")
    assert await device.who() is None
    await device.come("1", "user-1")
    roster.away = True
    await service.database.fetch("DELETE FROM person_answer")
    with pytest.raises(Refused):
        await device.come("1", "user-1")
    assert await device.who() == "user-1"  # they themselves: their session goes on
    roster.away = False
    roster.pupils[0].active = False
    with pytest.raises(Refused):
        await device.come("1", "user-1")
    assert await device.who() is None
    assert await count(service, "session") == 0


async def test_a_failed_hand_over_leaves_no_session(device: Device, service: Service, district: District) -> None:
    """Where the product can't be opened nobody is signed in, and no cookie was given."""
    device.product_id = district.product_id  # which has no relying party
    with pytest.raises(Refused) as caught:
        await device.come("1", "user-1")
    assert caught.value.code is Code.SIGNIN_PRODUCT_OFF
    assert await count(service, "session") == 0


@pytest.mark.parametrize(("secure", "prefix", "cross"), [(True, "__Host-", "none"), (False, "", "lax")])
def test_attack_49_cookies_are_marked(secure: bool, prefix: str, cross: str) -> None:
    """Over https cookies are Secure and bound to the host; none is for scripts; only the flow's comes along."""
    sessions, browsers = Sessions(None, secure=secure), Browsers(secure=secure)  # type: ignore[arg-type]  # not asked
    response = Response()
    sessions.mark(response, "token-of-the-session")
    browsers.mark(response, "token-of-the-browser")
    session, browser = (value.decode() for name, value in response.raw_headers if name == b"set-cookie")
    assert session.startswith(f"{prefix}homeroom-session=token-of-the-session; ")
    assert browser.startswith(f"{prefix}homeroom-browser=token-of-the-browser; ")
    for cookie, same_site in ((session, "lax"), (browser, cross)):
        parts = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "path=/", f"samesite={same_site}"} <= parts
        assert ("secure" in parts) is secure
        assert not any(part.startswith("domain") for part in parts)
    assert "max-age" not in session.lower()  # it ends with the browser


async def test_attack_75_a_jump_of_our_clock_ends_and_prolongs_nothing(
    device: Device, service: Service, clock: Any
) -> None:
    """Sessions and flows go by the database's clock: a machine whose clock jumps neither ends nor revives one."""
    await device.come("1", "user-1")
    clock.move(days=400)
    assert await device.who() == "user-1"
    clock.move(days=-800)
    assert await device.who() == "user-1"
    await service.database.fetch("UPDATE session SET expires_at = now()")
    assert await device.who() is None


async def test_rest_ends_a_session_and_use_keeps_it(device: Device, service: Service) -> None:
    """Two hours without a click end it; a click within them begins them anew."""
    await device.come("1", "user-1")
    for _ in range(3):
        await service.database.fetch(
            "UPDATE session SET last_seen_at = last_seen_at - make_interval(secs => $1)", IDLE_SECONDS - 60
        )
        assert await device.who() == "user-1"
    await service.database.fetch(
        "UPDATE session SET last_seen_at = last_seen_at - make_interval(secs => $1)", IDLE_SECONDS
    )
    assert await device.who() is None


async def test_who_is_signed_in_is_asked_after_again(
    device: Device, service: Service, roster: PlayedRoster, district: District
) -> None:
    """A session opens nothing for whom the roster lost since, whose roster is too old, or is another one by now."""
    launching = service.launching

    async def admit(product_id: UUID | None = None) -> Code | None:
        session = await launching.sessions.find(device.request())
        assert session is not None
        await service.database.fetch("DELETE FROM person_answer")
        try:
            await launching.admit(session, product_id)
        except Refused as refused:
            return refused.code
        return None

    await device.come("1", "user-1")
    assert await admit(district.product_id) is None
    await service.database.fetch("UPDATE license SET revoked_at = now()")
    assert await admit(district.product_id) is Code.SIGNIN_UNLICENSED
    await service.database.fetch("UPDATE connection SET max_roster_age_hours = 1")
    assert await admit() is Code.SIGNIN_ROSTER_OLD
    await service.database.fetch("UPDATE connection SET max_roster_age_hours = NULL, enabled = false")
    assert await admit() is Code.SIGNIN_CONNECTION_OFF
    await service.database.fetch("UPDATE connection SET enabled = true")
    roster.pupils[0].active = False
    assert await admit() is Code.SIGNIN_REMOVED
    assert await device.who() is None
    await device.come("2", "user-2")
    await service.database.fetch("UPDATE connection SET integration_id = gen_random_uuid()")
    assert await admit() is Code.SIGNIN_SESSION_OVER
    assert await device.who() is None


async def test_attack_72_a_school_behind_one_address_is_not_locked_out(
    service: Service, settings: Settings, district: District
) -> None:
    """However many pupils of one address begin at once, and however many fail before, each is sent to their portal."""
    upstream_id, _ = await make_connection(
        service.database, settings, kind="saml", organization_id=district.organization_id
    )
    for _ in range(40):
        assert (await service.client.get(f"/sso/open/{district.product_id}")).status_code == 401
        assert (await service.client.get(f"/sso/callback/{upstream_id}?state=guess&code=guess")).status_code >= 400
    for _ in range(40):
        assert (await service.client.get(f"/sso/launch/{upstream_id}")).status_code == 303
