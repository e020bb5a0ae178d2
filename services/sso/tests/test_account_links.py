"""Connecting an account of a product with who somebody is at school, and what must not connect any (D4)."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from connecting import make_connection
from handing_over import SITE, PlayedPortal, add_product, make_party, open_browser, read_query, sign_in
from roster_stand_in import District, PlayedRoster, add_license, make_district

from homeroom.clock import MovingClock
from sso.launch.flows import hash_token
from sso.launch.upkeep import Upkeep
from sso.settings import Settings


@dataclass
class Desk:
    """A product whose people connect accounts, and a portal where they sign in."""

    service: Any
    district: District
    connection_id: UUID
    portal: PlayedPortal
    clock: MovingClock
    headers: dict[str, str]

    async def ask(self, *, headers: dict[str, str] | None = None, **changes: Any) -> httpx2.Response:
        """What the product's server asks for."""
        body = {
            "external_id": "u-4711",
            "label": "Ada <b>B.</b>",
            "return_to": f"{SITE}/settings",
            "auth_time": (self.clock.now() - timedelta(minutes=1)).isoformat(),
            **changes,
        }
        answer: httpx2.Response = await self.service.client.post(
            "/v1/account-links", json=body, headers=headers or self.headers
        )
        return answer

    async def begin(self, **changes: Any) -> tuple[str, str]:
        """A request that must be taken; its id and the path of its URL."""
        answer = await self.ask(connection_id=str(self.connection_id), **changes)
        assert answer.status_code == 201, answer.text
        return answer.json()["link_request_id"], answer.json()["url"].removeprefix("http://homeroom.test")

    async def go(self, browser: httpx2.AsyncClient, path: str) -> httpx2.Response:
        """Open the one-time URL, with the detour on which the browser gets its cookie."""
        answer = await browser.get(path)
        if answer.headers.get("location", "").startswith("/"):
            answer = await browser.get(answer.headers["location"])
        return answer

    async def ask_person(self, browser: httpx2.AsyncClient, path: str, **coming: Any) -> httpx2.Response:
        """Open the URL and sign in; the page on which they are asked."""
        return await self.portal.send_back(browser, await self.go(browser, path), **coming)

    async def outcome(self, request_id: str) -> str:
        """What the product reads."""
        answer = await self.service.client.get(f"/v1/account-links/{request_id}", headers=self.headers)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["outcome"])

    async def remove(self, **body: Any) -> httpx2.Response:
        """Have the product take an account apart."""
        answer: httpx2.Response = await self.service.client.post(
            "/v1/account-links/removals", json={"external_id": "u-4711", **body}, headers=self.headers
        )
        return answer


async def agree(browser: httpx2.AsyncClient, page: httpx2.Response, **changes: str) -> httpx2.Response:
    """Press "Connect" on the page."""
    assert page.status_code == 200, page.text
    action = re.search(r' action="(/sso/link/[^"]+)"', page.text)
    form = re.search(r'name="form" value="([^"]+)"', page.text)
    assert action is not None
    assert form is not None
    return await browser.post(action[1], data={"form": form[1], "agreed": "true", **changes})


@pytest.fixture
async def desk(service: Any, settings: Settings, roster: PlayedRoster, district: District, clock: MovingClock) -> Desk:
    """A product with its token, a pupil of the roster, and a connection whose portal is played."""
    roster.add(district.integration_id, "user-1")
    party = await make_party(service, district.product_id)
    _, connection_id = await make_connection(service.database, settings, organization_id=district.organization_id)
    headers = {"Authorization": f"Bearer {await service.token(party.id, party.secret)}"}
    return Desk(service, district, connection_id, PlayedPortal(service), clock, headers)


def _hash(page: httpx2.Response) -> bytes:
    form = re.search(r'name="form" value="([^"]*)"', page.text)
    assert form is not None
    return hash_token(form[1])


async def count(service: Any, table: str) -> int:
    """How many rows there are."""
    return int(await service.database.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608 - our own names


async def test_an_account_is_connected(service: Any, desk: Desk, roster: PlayedRoster) -> None:
    """A new sign-in and a yes connect the account, no session begins, and the product reads what came of it."""
    request_id, path = await desk.begin()
    async with open_browser(service) as browser:
        sent = await desk.go(browser, path)
        assert await desk.outcome(request_id) == "pending"
        page = await desk.portal.send_back(browser, sent)
        assert "Ada &lt;b&gt;B.&lt;/b&gt;" in page.text
        assert "Ada Berg" in page.text
        assert "Reader" in page.text
        assert f"form-action 'self' {SITE};" in page.headers["content-security-policy"]
        assert not roster.orders
        answer = await agree(browser, page)
        assert service.launching.sessions.cookie not in browser.cookies

    assert desk.portal.intents[0].fresh
    assert answer.status_code == 303
    assert answer.headers["location"].startswith(f"{SITE}/settings?link_request_id=")
    said = read_query(answer.headers["location"])
    assert said == {"link_request_id": request_id, "outcome": "linked", "iss": "http://homeroom.test"}
    assert await desk.outcome(request_id) == "linked"
    (order,) = roster.orders
    assert (order.action, order.sourced_id, order.external_id) == ("link", "user-1", "u-4711")
    assert await count(service, "session") == 0
    launch = await service.database.fetchrow("SELECT * FROM launch")
    assert (launch["purpose"], launch["state"]) == ("link", "completed")
    assert await service.database.fetchval("SELECT label FROM link_request") == ""
    written = "SELECT action FROM audit_entry WHERE starts_with(action, 'account-link.') ORDER BY number"
    actions = [row["action"] for row in await service.database.fetch(written)]
    assert actions == ["account-link.request", "account-link.confirm"]


async def test_attack_55_a_session_is_not_enough(
    service: Any, settings: Settings, desk: Desk, roster: PlayedRoster
) -> None:
    """Whoever is signed in in the browser is sent to sign in anew, stays signed in, and is not who is connected."""
    before = await sign_in(service, settings, roster, desk.district, "user-2", given="Ben")
    _, path = await desk.begin()
    page = await desk.ask_person(before.browser, path)
    answer = await agree(before.browser, page)

    assert "Ben" not in page.text
    assert answer.status_code == 303
    assert roster.orders[0].sourced_id == "user-1"
    assert "Ben" in (await before.browser.get("/sso/session")).text


async def test_attack_55_an_old_sign_in_is_refused(service: Any, desk: Desk, roster: PlayedRoster) -> None:
    """A sign-in that is not fresh, at the product or at the portal, connects nothing."""
    for minutes in (6, -2):
        old = await desk.ask(auth_time=(desk.clock.now() - timedelta(minutes=minutes)).isoformat())
        assert (old.status_code, old.json()["code"]) == (409, "LINK_SIGN_IN_OLD")
    request_id, path = await desk.begin()
    async with open_browser(service) as browser:
        page = await desk.ask_person(browser, path, auth_time=desk.clock.now() - timedelta(minutes=10))

    assert (page.status_code, "SIGNIN_TOKEN_INVALID" in page.text) == (403, True)
    assert await desk.outcome(request_id) == "refused"
    assert not roster.orders


async def test_attack_55_the_url_belongs_to_one_browser(service: Any, desk: Desk, roster: PlayedRoster) -> None:
    """A second browser with the URL, with the form, or without cookies gets nowhere; the first one goes on."""
    _, path = await desk.begin()
    async with open_browser(service) as browser, open_browser(service) as other:
        sent = await desk.go(browser, path)
        refused = [await desk.go(other, path), await desk.go(other, "/sso/link/made-up")]
        page = await desk.portal.send_back(browser, sent)
        refused += [await agree(other, page), await agree(browser, page, form="x" * 43), await desk.go(browser, path)]
        other.cookies.clear()
        refused.append(await other.get(f"{path}?marked=true"))
        assert [("SIGNIN_FLOW_LOST" in one.text, one.status_code) for one in refused] == [(True, 403)] * 6
        assert not roster.orders
        assert (await agree(browser, page)).status_code == 303


async def test_attack_55_once_and_in_time(service: Any, settings: Settings, desk: Desk, roster: PlayedRoster) -> None:
    """A confirmation counts once; a URL that is past its time, or a form that is, is worth nothing."""
    _, path = await desk.begin()
    late_id, late = await desk.begin(external_id="u-1")
    async with open_browser(service) as browser:
        page = await desk.ask_person(browser, path)
        again = [await agree(browser, page), await agree(browser, page)]
        slow = await desk.ask_person(browser, late)
        await service.database.fetch("UPDATE link_request SET expires_at = '2020-01-01' WHERE ended_at IS NULL")
        refused = [await agree(browser, slow), await desk.go(browser, late)]

    assert [one.status_code for one in again] == [303, 403]
    assert all("SIGNIN_FLOW_LOST" in one.text for one in (again[1], *refused))
    assert len(roster.orders) == 1
    assert await desk.outcome(late_id) == "expired"
    await Upkeep(service.database, settings).tidy()
    assert await service.database.fetchval("SELECT string_agg(label, '') FROM link_request") == ""
    await service.database.fetch("UPDATE link_request SET created_at = '2020-01-01'")
    await Upkeep(service.database, settings).tidy()
    assert await count(service, "link_request") == 0


async def test_attack_55_an_identity_that_is_linked_elsewhere(service: Any, desk: Desk, roster: PlayedRoster) -> None:
    """An account of somebody else's, and somebody with another account, are refused and told to both sides."""
    place = str(desk.district.integration_id)
    product = str(desk.district.product_id)
    for taken, outcome in (({"u-4711": "user-9"}, "account_linked"), ({"u-1": "user-1"}, "person_linked")):
        roster.accounts = {(product, account): (place, person) for account, person in taken.items()}
        request_id, path = await desk.begin()
        async with open_browser(service) as browser:
            page = await agree(browser, await desk.ask_person(browser, path))
        assert (page.status_code, "SIGNIN_LINKED_ELSEWHERE" in page.text) == (409, True)
        assert f"{SITE}/settings?link_request_id={request_id}&amp;outcome={outcome}" in page.text
        assert await desk.outcome(request_id) == outcome
    assert await count(service, "linked_account") == 0


async def test_people_of_no_roster_connect_nothing(service: Any, desk: Desk, roster: PlayedRoster) -> None:
    """Whom the roster does not know is told so, and so is the product."""
    request_id, path = await desk.begin()
    async with open_browser(service) as browser:
        page = await desk.ask_person(browser, path, person_key="nobody")

    assert (page.status_code, "SIGNIN_NOT_ROSTERED" in page.text) == (403, True)
    assert await desk.outcome(request_id) == "not_rostered"
    assert not roster.orders


async def test_a_no_connects_nothing(service: Any, desk: Desk, roster: PlayedRoster) -> None:
    """Somebody who cancels is led back, and nothing is connected."""
    request_id, path = await desk.begin()
    async with open_browser(service) as browser:
        answer = await agree(browser, await desk.ask_person(browser, path), agreed="false")

    assert read_query(answer.headers["location"])["outcome"] == "cancelled"
    assert await desk.outcome(request_id) == "cancelled"
    assert not roster.orders


async def test_a_store_that_is_away_can_be_asked_again(service: Any, desk: Desk, roster: PlayedRoster) -> None:
    """A yes that could not be written down can be said again in the same form."""
    request_id, path = await desk.begin()
    async with open_browser(service) as browser:
        page = await desk.ask_person(browser, path)
        roster.away = True
        away = await agree(browser, page)
        roster.away = False
        pending = await desk.outcome(request_id)
        again = await agree(browser, page)

    assert (away.status_code, "SIGNIN_STORE_AWAY" in away.text, pending) == (503, True, "pending")
    assert again.status_code == 303
    assert await desk.outcome(request_id) == "linked"


async def test_a_yes_that_was_cut_short_can_be_said_again(service: Any, desk: Desk, roster: PlayedRoster) -> None:
    """Where we ended between the store's answer and writing it down, the same form sets it right a while later."""
    request_id, path = await desk.begin()
    async with open_browser(service) as browser:
        page = await desk.ask_person(browser, path)
        await agree(browser, page)
        await service.database.fetch(
            "UPDATE link_request SET ended_at = NULL, outcome = NULL, form_hash = $1", _hash(page)
        )
        too_soon = await agree(browser, page)
        await service.database.fetch("UPDATE link_request SET confirmed_at = now() - interval '1 minute'")
        again = await agree(browser, page)

    assert (too_soon.status_code, again.status_code) == (403, 303)
    assert await desk.outcome(request_id) == "linked"
    assert len(roster.accounts) == 1


async def test_a_launch_never_connects_accounts(
    service: Any, settings: Settings, desk: Desk, roster: PlayedRoster
) -> None:
    """Tiles, tickets and sessions of others leave accounts as they are, also while a request is open."""
    _, path = await desk.begin()
    pupil = await sign_in(service, settings, roster, desk.district, "user-2", given="Ben")
    await desk.go(pupil.browser, path)
    opened = await pupil.browser.get(f"/sso/open/{desk.district.product_id}")
    launched = await pupil.browser.get(f"/sso/launch/{desk.connection_id}?product={desk.district.product_id}")
    back = await desk.portal.send_back(pupil.browser, launched)

    assert (opened.status_code, back.status_code) == (303, 303)
    assert not roster.orders
    assert await count(service, "linked_account") == 0


async def test_attack_70_people_return_to_registered_addresses(desk: Desk) -> None:
    """return_to must be one of the product's addresses, character by character."""
    wrong = [f"{SITE}/settings/", f"{SITE}/settings?x=1", f"{SITE}/settings#x", f"{SITE}.evil.example/settings"]
    for address in (*wrong, "https://evil.example", "//evil.example", "javascript:alert(1)", f"{SITE}/settings\n"):
        answer = await desk.ask(return_to=address)
        assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID"), address
    assert (await desk.ask(return_to=f"{SITE}/bye")).status_code == 201


async def test_people_choose_their_school(service: Any, settings: Settings, desk: Desk) -> None:
    """Without a connection people look for their school; one with a single way in is gone to at once."""
    south = await make_district(service.database, "South", product_id=desk.district.product_id)
    elsewhere = await make_district(service.database, "Elsewhere")
    _, foreign = await make_connection(service.database, settings, organization_id=elsewhere.organization_id)
    await make_connection(service.database, settings, organization_id=south.organization_id)
    answer = await desk.ask()
    path = answer.json()["url"].removeprefix("http://homeroom.test")
    named = await desk.ask(organization_id=str(desk.district.organization_id))
    async with open_browser(service) as browser:
        await desk.go(browser, path)
        page = await browser.get(f"{path}?search=sou")
        foreigner = await browser.get(f"{path}?connection={foreign}")
        chosen = await browser.get(f"{path}?connection={desk.connection_id}")
        straight = await desk.go(browser, named.json()["url"].removeprefix("http://homeroom.test"))

    assert "South" in page.text
    assert "Elsewhere" not in page.text
    assert f"{path}?connection=" in page.text
    assert "SIGNIN_UNLICENSED" in foreigner.text
    assert chosen.headers["location"].startswith(f"https://idp.test/played/{desk.connection_id}")
    assert straight.headers["location"].startswith(f"https://idp.test/played/{desk.connection_id}")


async def test_somebody_of_another_district_is_refused(service: Any, settings: Settings, desk: Desk) -> None:
    """Where the product named the organization, nobody of another one is connected."""
    south = await make_district(service.database, "South", product_id=desk.district.product_id)
    _, connection = await make_connection(service.database, settings, organization_id=south.organization_id)
    place = str(desk.district.organization_id)
    unfit = await desk.ask(organization_id=place, connection_id=str(connection))
    unlicensed = await desk.ask(organization_id=str((await make_district(service.database)).organization_id))
    _, path = await desk.begin(organization_id=place)
    await service.database.fetch("UPDATE link_request SET connection_id = NULL")
    async with open_browser(service) as browser:
        await desk.go(browser, path)
        page = await browser.get(f"{path}?connection={connection}")

    assert [(one.status_code, one.json()["code"]) for one in (unfit, unlicensed)] == [(404, "NOT_FOUND")] * 2
    assert (page.status_code, "SIGNIN_TENANT_UNKNOWN" in page.text) == (404, True)


async def test_requests_are_their_products(service: Any, desk: Desk) -> None:
    """Another product can't read a request or take an account apart, and who is no product can ask for nothing."""
    request_id, _ = await desk.begin()
    product_id = await add_product(service)
    await add_license(service.database, desk.district.organization_id, product_id)
    other = await make_party(service, product_id)
    foreign = {"Authorization": f"Bearer {await service.token(other.id, other.secret)}"}
    read = await service.client.get(f"/v1/account-links/{request_id}", headers=foreign)
    boss = await desk.ask(headers=await service.boss())

    assert (read.status_code, read.json()["code"]) == (404, "NOT_FOUND")
    assert (boss.status_code, boss.json()["code"]) == (403, "PRODUCT_NEEDED")


async def test_attack_55_the_last_way_in_stays(service: Any, desk: Desk, roster: PlayedRoster) -> None:
    """An account is taken apart only if the product says that it has another way in; then it can be connected anew."""
    _, path = await desk.begin()
    async with open_browser(service) as browser:
        await agree(browser, await desk.ask_person(browser, path))
        kept = await desk.remove()
        removed = await desk.remove(other_sign_in=True)
        gone = await desk.remove(other_sign_in=True)
        _, path = await desk.begin(other_sign_in=True)
        await agree(browser, await desk.ask_person(browser, path))
        at_once = await desk.remove()

    assert (kept.status_code, kept.json()["code"]) == (409, "LINK_LAST_SIGN_IN")
    assert [removed.status_code, gone.status_code, at_once.status_code] == [204, 404, 204]
    assert [order.action for order in roster.orders] == ["link", "unlink", "link", "unlink"]
    assert not roster.accounts
    assert await count(service, "linked_account") == 0


async def test_removing_follows_the_roster(service: Any, desk: Desk, roster: PlayedRoster) -> None:
    """Whoever the roster calls otherwise by now is taken apart by that name; two districts may have the same id."""
    _, path = await desk.begin(other_sign_in=True)
    async with open_browser(service) as browser:
        await agree(browser, await desk.ask_person(browser, path))
    await service.database.fetch("UPDATE person_name SET sourced_id = 'user-1b'")
    await service.database.fetch(
        "INSERT INTO linked_account (product_id, organization_id, external_id, person_id, integration_id, sourced_id, "
        "connection_id, other_sign_in) SELECT product_id, $1, external_id, person_id, integration_id, sourced_id, "
        "connection_id, true FROM linked_account",
        uuid4(),
    )
    unclear = await desk.remove()
    removed = await desk.remove(organization_id=str(desk.district.organization_id))

    assert (unclear.status_code, unclear.json()["code"]) == (422, "REQUEST_INVALID")
    assert removed.status_code == 204
    assert roster.orders[-1].sourced_id == "user-1b"


async def test_people_disconnect_their_own(service: Any, settings: Settings, desk: Desk, roster: PlayedRoster) -> None:
    """Whoever connected an account takes it apart on our page, but no other's, not the last way in, not from afar."""
    pupil = await sign_in(service, settings, roster, desk.district)
    other = await sign_in(service, settings, roster, desk.district, "user-2", given="Ben")
    _, path = await desk.begin()
    await agree(pupil.browser, await desk.ask_person(pupil.browser, path))
    only = await pupil.browser.get("/sso/accounts")
    await service.database.fetch("UPDATE linked_account SET other_sign_in = true")
    page = await pupil.browser.get("/sso/accounts")
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.text))
    await service.database.fetch(
        "INSERT INTO linked_account SELECT $1, organization_id, 'u-1', $2, integration_id, sourced_id, connection_id, "
        "true FROM linked_account",
        await add_product(service),
        other.person_id,
    )
    own = dict(re.findall(r'name="(form)" value="([^"]*)"', (await other.browser.get("/sso/accounts")).text))
    assert own["form"] != fields["form"]
    for browser, changes, status in ((pupil.browser, own, 403), (other.browser, {}, 403), (other.browser, own, 404)):
        forged = await browser.post("/sso/accounts/disconnect", data={**fields, **changes})
        assert forged.status_code == status
    await service.database.fetch("UPDATE linked_account SET other_sign_in = false")
    last = await pupil.browser.post("/sso/accounts/disconnect", data=fields)
    await service.database.fetch("UPDATE linked_account SET other_sign_in = true")
    done = await pupil.browser.post("/sso/accounts/disconnect", data=fields)
    again = await pupil.browser.post("/sso/accounts/disconnect", data=fields)

    assert ("Disconnect</button>" in only.text, "Disconnect</button>" in page.text) == (False, True)
    assert (last.status_code, "LINK_LAST_SIGN_IN" in last.text) == (409, True)
    assert (done.status_code, again.status_code) == (303, 404)
    assert [order.action for order in roster.orders] == ["link", "unlink"]
