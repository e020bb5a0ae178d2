"""People of Google Classroom and who they are in the SIS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import pytest
from played_gateway import Gateway, student

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Applied
from homeroom.testing.tokens import TestIssuer, calling
from roster_store.app import make_app
from roster_store.settings import StoreSettings

ISSUER = TestIssuer()
PATH = "/v1/people-links"


@pytest.fixture
async def client(database: Database, settings: StoreSettings) -> AsyncIterator[httpx2.AsyncClient]:
    """A caller without a token."""
    assert database is not None
    async with calling(make_app(settings, ISSUER.verifier)) as client:
        yield client


@pytest.fixture
def google(gateway: Gateway) -> Gateway:
    """A Google Classroom integration of the same organization."""
    return Gateway(gateway.consumer, gateway.bus, organization_id=gateway.organization_id, provider="google-classroom")


def person(number: int, email: str | None) -> Any:
    """Somebody with an address, or without."""
    return student(number, email=email)


async def links(database: Database, google: Gateway) -> Mapping[str, str]:
    """Who is who: a person of the SIS, or the reason why nobody."""
    rows = await database.fetch(
        "SELECT sourced_id, coalesce(sis_sourced_id, reason) AS found FROM person_link"
        " WHERE integration_no = (SELECT no FROM integration WHERE id = $1::uuid)",
        google.integration_id,
    )
    return {row["sourced_id"]: row["found"] for row in rows}


def unmatched(fact: Applied) -> list[str | None]:
    """What a fact says of unmatched people."""
    return [issue.detail for issue in fact.issues if issue.code == Code.PEOPLE_UNMATCHED]


async def test_people_are_joined_by_their_address(gateway: Gateway, google: Gateway, database: Database) -> None:
    """One person on each side with an address, however it is written, are one; whatever else is true, nobody is."""
    await gateway.apply({"users": [
        person(1, "Ada@north.example"), person(2, "twins@north.example"), person(3, "twins@north.example"),
        person(4, None), person(5, "many@north.example"), person(6, "  "),
    ]})  # fmt: skip
    fact = await google.apply({"users": [
        person(101, " ada@North.example\t"), person(102, "twins@north.example"), person(103, None),
        person(104, " "), person(105, "stranger@north.example"),
        person(106, "many@north.example"), person(107, "MANY@north.example"),
    ]})  # fmt: skip

    assert await links(database, google) == {
        "user-101": "user-1", "user-102": "ambiguous", "user-103": "no_email", "user-104": "no_email",
        "user-105": "unknown", "user-106": "ambiguous", "user-107": "ambiguous",
    }  # fmt: skip
    assert unmatched(fact) == ["6 of 7"]


async def test_nobody_is_joined_across_organizations(
    gateway: Gateway, google: Gateway, neighbour: Gateway, database: Database
) -> None:
    """Somebody of another district with the same address is a stranger."""
    await neighbour.apply({"users": [person(1, "ada@north.example")]})
    await gateway.apply({"users": [person(2, "bea@north.example")]})
    await google.apply({"users": [person(101, "ada@north.example")]})

    assert await links(database, google) == {"user-101": "unknown"}


async def test_an_address_in_two_rosters_of_a_district_is_ambiguous(
    gateway: Gateway, google: Gateway, database: Database
) -> None:
    """With two SIS integrations that both know an address, nobody is guessed."""
    other = Gateway(gateway.consumer, gateway.bus, organization_id=gateway.organization_id)
    await gateway.apply({"users": [person(1, "ada@north.example")]})
    await other.apply({"users": [person(1, "ada@north.example"), person(2, "bea@north.example")]})
    await google.apply({"users": [person(101, "ada@north.example"), person(102, "bea@north.example")]})

    assert await links(database, google) == {"user-101": "ambiguous", "user-102": "user-2"}


async def test_links_follow_both_sides(gateway: Gateway, google: Gateway, database: Database) -> None:
    """Whoever comes, goes or changes their address, on either side, is joined anew with that apply."""
    await google.apply({"users": [person(101, "ada@north.example"), person(102, "bea@north.example")]})
    assert await links(database, google) == {"user-101": "unknown", "user-102": "unknown"}
    await gateway.apply({"users": [person(1, "ada@north.example"), person(2, "bea@north.example")]})
    assert await links(database, google) == {"user-101": "user-1", "user-102": "user-2"}
    await gateway.apply({"users": [person(1, "ada.new@north.example")]})
    assert await links(database, google) == {"user-101": "unknown", "user-102": "user-2"}
    await gateway.apply({}, {"users": ["user-2"]})
    assert await links(database, google) == {"user-101": "unknown", "user-102": "unknown"}
    fact = await google.apply({}, {"users": ["user-102"]})
    assert await links(database, google) == {"user-101": "unknown"}
    assert unmatched(fact) == ["1 of 1"]


async def test_people_made_by_hand_are_joined_to_nobody(gateway: Gateway, google: Gateway, database: Database) -> None:
    """Only synced people are joined, on either side."""
    await gateway.apply({"users": [person(1, "ada@north.example")]})
    await database.fetch("UPDATE users SET origin = 'manual'")
    await google.apply({"users": [person(101, "ada@north.example")]})

    assert await links(database, google) == {"user-101": "unknown"}


async def test_an_unchanged_sync_still_says_who_is_unmatched(gateway: Gateway, google: Gateway) -> None:
    """The count is told with every run of Google Classroom while anybody is unmatched, and with no other run."""
    await google.apply({"users": [person(101, "ada@north.example"), person(102, None)]})
    sis = await gateway.apply({"users": [person(1, "ada@north.example")]})
    again = await google.apply({}, served={"users": 2})

    assert (unmatched(sis), unmatched(again)) == ([], ["1 of 2"])


async def test_other_organizations_are_not_joined_at_all(gateway: Gateway, database: Database) -> None:
    """Without a Google Classroom integration nothing is joined."""
    await gateway.apply({"users": [person(1, "ada@north.example")]})

    assert await database.fetchval("SELECT count(*) FROM person_link") == 0


async def test_applies_side_by_side_leave_the_links_right(
    gateway: Gateway, google: Gateway, database: Database
) -> None:
    """When both sides are applied at the same time neither waits for the other in vain, and the links are right."""
    for day in range(6):
        sides = await asyncio.wait_for(
            asyncio.gather(
                *(
                    asyncio.create_task(side.consumer.handle(messages))
                    for side, messages in (
                        (gateway, gateway.messages({"users": [person(1, f"day{day}@north.example")]})),
                        (google, google.messages({"users": [person(101, f"day{day}@north.example")]})),
                    )
                )
            ),
            timeout=20,
        )
        assert sides == [None, None]
        for side in (gateway, google):
            side.basis = await database.fetchval(
                "SELECT last_apply FROM integration WHERE id = $1::uuid", side.integration_id
            )
        assert await links(database, google) == {"user-101": "user-1"}


async def test_links_are_served_page_by_page(
    client: httpx2.AsyncClient, gateway: Gateway, google: Gateway, database: Database
) -> None:
    """Every person comes exactly once, matched or with the reason, whatever the length of a page."""
    await gateway.apply({"users": [person(number, f"s{number}@north.example") for number in (1, 2, 3)]})
    await google.apply({"users": [person(number, f"s{number - 100}@north.example") for number in range(101, 106)]})
    seen: list[tuple[str, str]] = []
    query: dict[str, Any] = {"integration": google.integration_id, "limit": 2}
    more = True
    while more:
        page = (await client.get(PATH, params=query, headers=ISSUER.headers(["roster.read"]))).json()
        seen += [(one["sourced_id"], one["sis_sourced_id"]) for one in page["links"]]
        seen += [(one["sourced_id"], one["reason"]) for one in page["unmatched"]]
        assert {one["sis_integration_id"] for one in page["links"]} <= {gateway.integration_id}
        more, query["cursor"] = page["more"], page["cursor"]

    assert sorted(seen) == sorted((await links(database, google)).items())
    assert len(seen) == 5


async def test_links_of_others_are_not_served(client: httpx2.AsyncClient, gateway: Gateway, google: Gateway) -> None:
    """A token of one organization sees no link of another, and an integration without links has an empty page."""
    await google.apply({"users": [person(101, None)]})
    nothing = {"links": [], "unmatched": [], "cursor": None, "more": False}
    own, other = (ISSUER.headers(["roster.read"], organization_id=one) for one in (
        google.organization_id, "00000000-0000-4000-8000-000000000000"))  # fmt: skip
    query = {"integration": google.integration_id}

    assert len((await client.get(PATH, params=query, headers=own)).json()["unmatched"]) == 1
    assert (await client.get(PATH, params=query, headers=other)).json() == nothing
    assert (await client.get(PATH, params={"integration": gateway.integration_id}, headers=own)).json() == nothing


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({}, 422, Code.REQUEST_INVALID),
        ({"integration": "x"}, 422, Code.REQUEST_INVALID),
        ({"limit": "0"}, 422, Code.REQUEST_INVALID),
        ({"cursor": "%%%"}, 400, Code.CURSOR_INVALID),
        ({"cursor": "AA"}, 400, Code.CURSOR_INVALID),
        ({"cursor": "_w"}, 400, Code.CURSOR_INVALID),
        ({"cursor": "é"}, 400, Code.CURSOR_INVALID),
    ],
)
async def test_a_wrong_question_gets_a_reason(
    client: httpx2.AsyncClient, google: Gateway, query: dict[str, str], status: int, code: Code
) -> None:
    """What can't be answered gets a code and a next step."""
    full = ({"integration": google.integration_id} if query and "integration" not in query else {}) | query
    answer = await client.get(PATH, params=full, headers=ISSUER.headers(["roster.read"]))

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["next_step"]


async def test_links_want_a_token(client: httpx2.AsyncClient, google: Gateway) -> None:
    """Without a token nothing is served, and with the wrong scope neither."""
    query = {"integration": google.integration_id}

    assert (await client.get(PATH, params=query)).status_code == 401
    answer = await client.get(PATH, params=query, headers=ISSUER.headers(["fingerprints.read"]))
    assert answer.status_code == 403
