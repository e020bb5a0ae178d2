"""Launch tickets: from a tile to a product that redeems them from server to server."""

from typing import Any

import httpx2
import pytest
from handing_over import SITE, Party, Pupil, add_product, make_party, open_browser, read_query, sign_in
from roster_stand_in import District, PlayedRoster

from homeroom.clock import MovingClock
from sso.handover.tickets_api import FAILURES
from sso.launch.flows import hash_token
from sso.settings import Settings


@pytest.fixture
async def party(service: Any, district: District) -> Party:
    """The product's client, which is sent tickets."""
    return await make_party(service, district.product_id)


@pytest.fixture
async def pupil(service: Any, settings: Settings, roster: PlayedRoster, district: District) -> Pupil:
    """Somebody who is signed in."""
    return await sign_in(service, settings, roster, district, classes=("class-1",))


async def launch(pupil: Pupil, district: District, query: str = "") -> str:
    """Open the product; its ticket."""
    answer = await pupil.browser.get(f"/sso/open/{district.product_id}{query}")
    assert answer.status_code == 303, answer.text
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["location"].startswith(f"{SITE}/launch?v=1&ticket=")
    return read_query(answer.headers["location"])["ticket"]


async def redeem(service: Any, ticket: str, party: Party, **form: str) -> httpx2.Response:
    """What the product's server does."""
    answer: httpx2.Response = await service.client.post(
        "/sso/tickets/redeem", data={"ticket": ticket, **form}, auth=httpx2.BasicAuth(*party.auth)
    )
    return answer


async def test_a_tile_leads_into_the_product_without_a_question(
    service: Any, district: District, party: Party, pupil: Pupil
) -> None:
    """One click gives the product who came in, counts as a sign-in, and completes the launch (E2)."""
    ticket = await launch(pupil, district, "?destination=library")
    answer = await redeem(service, ticket, party)

    said = answer.json()
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert (said["given_name"], said["roles"], said["sourced_id"]) == ("Ada", ["student"], "user-1")
    assert [one["sourced_id"] for one in said["classes"]] == ["class-1"]
    assert said["organization"]["id"] == str(district.organization_id)
    assert (said["iss"], said["aud"]) == ("http://homeroom.test", party.id)
    assert (said["destination"], said["target_link_uri"]) == ("library", f"{SITE}/library")
    assert str(pupil.person_id) not in answer.text
    launched = await service.database.fetchrow("SELECT * FROM launch")
    assert (launched["state"], launched["support_id"]) == ("completed", said["support_id"])
    joined = await service.database.fetchrow("SELECT * FROM participation")
    assert (str(joined["sid"]), joined["subject"], joined["client_id"]) == (said["sid"], said["sub"], party.id)
    assert await service.database.fetchval("SELECT sourced_id FROM sign_in") == "user-1"


async def test_the_secret_may_be_a_field(service: Any, district: District, party: Party, pupil: Pupil) -> None:
    """A client shows its secret as at the token endpoint: with Basic or as fields, in one way only."""
    fields = {"client_id": party.id, "client_secret": party.secret}
    ticket = await launch(pupil, district)
    both = await redeem(service, ticket, party, **fields)
    plain = await service.client.post("/sso/tickets/redeem", data={"ticket": ticket, **fields})

    assert (both.status_code, both.json()["code"]) == (400, "REQUEST_INVALID")
    assert plain.status_code == 200


async def test_attack_63_a_ticket_is_redeemed_once(
    service: Any, district: District, party: Party, pupil: Pupil
) -> None:
    """A ticket that is shown again, as from a log or a Referer, tells nothing, and nobody counts twice."""
    ticket = await launch(pupil, district)
    first, second = await redeem(service, ticket, party), await redeem(service, ticket, party)

    assert (first.status_code, second.status_code) == (200, 400)
    assert second.json()["code"] == "TICKET_INVALID"
    assert ticket not in second.text
    assert await service.database.fetchval("SELECT count(*) FROM sign_in") == 1


async def test_attack_63_a_ticket_is_one_clients(service: Any, district: District, party: Party, pupil: Pupil) -> None:
    """Another product's client, a wrong secret and a foreign field get nothing, and break nothing for whom it is."""
    other = await make_party(service, await add_product(service), launches=False)
    ticket = await launch(pupil, district)
    foreign = await redeem(service, ticket, other)
    guessed = await redeem(service, ticket, Party(party.id, "not-the-secret-0123456789012"))

    assert (foreign.status_code, foreign.json()["code"]) == (400, "TICKET_INVALID")
    assert (guessed.status_code, guessed.json()["code"]) == (401, "CLIENT_INVALID")
    assert (await redeem(service, ticket, party)).status_code == 200


async def test_attack_63_a_ticket_runs_out(service: Any, district: District, party: Party, pupil: Pupil) -> None:
    """A ticket is good for a minute, and worth nothing once the session it was given in is over."""
    ticket, later = await launch(pupil, district), await launch(pupil, district)
    seconds = await service.database.fetchval(
        "SELECT max(extract(epoch FROM expires_at - now()))::float8 FROM handed_over"
    )
    await service.database.fetch(
        "UPDATE handed_over SET expires_at = now() - interval '1 second' WHERE hash = $1", hash_token(ticket)
    )
    expired = await redeem(service, ticket, party)
    await service.launching.sessions.end(pupil.session.id)
    ended = await redeem(service, later, party)

    assert 50 < seconds <= 60
    assert {expired.json()["code"], ended.json()["code"]} == {"TICKET_INVALID"}
    assert await service.database.fetchval("SELECT count(*) FROM sign_in") == 0


async def test_attack_63_guessing_is_slowed_down(
    service: Any, district: District, party: Party, pupil: Pupil, clock: MovingClock
) -> None:
    """Many wrong tickets are answered with 429, but a good one is taken all the same: nobody shuts a school out."""
    ticket = await launch(pupil, district)
    answers = [(await redeem(service, f"guess-{number}", party)).status_code for number in range(FAILURES + 1)]

    assert answers == [400] * FAILURES + [429]
    assert (await redeem(service, ticket, party)).status_code == 200
    clock.move(seconds=600)
    assert (await redeem(service, "guess", party)).status_code == 400


async def test_attack_65_a_license_that_ended_lets_nobody_in(
    service: Any, district: District, party: Party, pupil: Pupil
) -> None:
    """What is asked of licenses and the roster is asked again when a ticket is redeemed (D5)."""
    ticket = await launch(pupil, district)
    await service.database.fetch("UPDATE license SET revoked_at = now()")
    refused = await redeem(service, ticket, party)

    assert (refused.status_code, refused.json()["code"]) == (403, "SIGNIN_UNLICENSED")
    assert await service.database.fetchval("SELECT code FROM launch") == "SIGNIN_UNLICENSED"


async def test_a_ticket_outlives_a_store_that_is_away(
    service: Any, district: District, party: Party, pupil: Pupil, roster: PlayedRoster
) -> None:
    """A ticket that could not be answered for lack of the store is good when that is back."""
    ticket = await launch(pupil, district)
    await service.database.fetch("DELETE FROM person_answer")
    roster.away = True
    refused = await redeem(service, ticket, party)
    roster.away = False

    assert (refused.status_code, refused.json()["code"]) == (503, "SIGNIN_STORE_AWAY")
    assert (await redeem(service, ticket, party)).status_code == 200


async def test_products_that_are_not_set_up_are_not_opened(service: Any, district: District, pupil: Pupil) -> None:
    """No client, an unknown destination and a client that is disabled end in a page with a support id."""
    nowhere = await pupil.browser.get(f"/sso/open/{district.product_id}")
    party = await make_party(service, district.product_id)
    service.app.state.relying_parties.forget()
    unknown = await pupil.browser.get(f"/sso/open/{district.product_id}?destination=elsewhere")
    await service.database.fetch("UPDATE client SET disabled_at = now() WHERE id = $1", party.id)
    service.app.state.relying_parties.forget()
    disabled = await pupil.browser.get(f"/sso/open/{district.product_id}")

    for answer in (nowhere, unknown, disabled):
        assert answer.status_code == 404
        assert "SIGNIN_PRODUCT_OFF" in answer.text
        assert "HR-" in answer.text


@pytest.mark.usefixtures("party")
async def test_attack_70_destinations_are_names(district: District, pupil: Pupil) -> None:
    """A destination is one of the product's names, never an address: nobody is led elsewhere."""
    for target in ("https://evil.example", "//evil.example", "library/../x", "javascript:alert(1)", "evil"):
        answer = await pupil.browser.get(f"/sso/open/{district.product_id}", params={"destination": target})

        assert answer.status_code in (400, 404), target
        assert "location" not in answer.headers
        assert "evil" not in answer.text


async def test_a_product_begins_its_own_login(service: Any, district: District, pupil: Pupil) -> None:
    """A product that speaks OpenID Connect is told who asks, with a hint that leads back, and where to (Core §4)."""
    await make_party(service, district.product_id, "oidc")
    answer = await pupil.browser.get(f"/sso/open/{district.product_id}?destination=library")
    said = read_query(answer.headers["location"])
    hint = await service.app.state.hints.take(said["login_hint"], pupil.session.id)

    assert answer.headers["location"].startswith(f"{SITE}/login?iss=")
    assert (said["iss"], said["target_link_uri"]) == ("http://homeroom.test", f"{SITE}/library")
    assert (hint.product_id, hint.destination) == (district.product_id, "library")
    assert await service.database.fetchval("SELECT state FROM launch") == "signed-in"


@pytest.mark.usefixtures("party")
async def test_nobody_is_let_in_without_a_session(service: Any, district: District) -> None:
    """A browser in which nobody is signed in gets no ticket."""
    async with open_browser(service) as browser:
        answer = await browser.get(f"/sso/open/{district.product_id}")

    assert (answer.status_code, "SIGNIN_SESSION_OVER" in answer.text) == (401, True)
