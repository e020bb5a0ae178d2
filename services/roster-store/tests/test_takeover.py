"""A new integration takes over what a deleted one of the same district left."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from played_gateway import ROSTER, Gateway, enrollment, ids, section, student
from undoing import ANYTHING_GOES, carry_out, read_rows, shown, undo

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.events import RecordData
from homeroom.messages import Applied, Decide, Evaluated, Failed, Held, Terms
from roster_store import decisions
from roster_store.feed import Cursor, FeedEvent, read_page
from roster_store.sights import Rosters


@pytest.fixture
async def heir(gateway: Gateway) -> Gateway:
    """A new integration of the same organization, told to take over the first one, which holds the roster."""
    await gateway.apply(ROSTER)
    terms = msgspec.structs.replace(ANYTHING_GOES, takes_over=gateway.integration_id)
    return Gateway(gateway.consumer, gateway.bus, organization_id=gateway.organization_id, run_number=10, terms=terms)


def notes(fact: Any, code: Code = Code.TAKEN_OVER) -> dict[str, str | None]:
    """What the run says was taken over, by collection."""
    return {issue.collection: issue.detail for issue in fact.issues if issue.code == code}


async def versions(database: Database, gateway: Gateway, collection: str = "users") -> dict[str, int]:
    """The versions of an integration's active records."""
    rows = await read_rows(database, gateway.integration_id)
    return {place[1]: row["version"] for place, row in rows.items() if place[0] == collection and row["active"]}


async def read_feed(database: Database, cursor: Cursor | None = None) -> list[FeedEvent]:
    """Everything after a place in the feed."""
    events: list[FeedEvent] = []
    cursor, more = cursor or Cursor(), True
    while more:
        page = await read_page(database, Rosters(database), cursor, 7)
        events, cursor, more = events + page.events, page.cursor, page.more
    return events


def told(events: Sequence[FeedEvent]) -> list[tuple[str, str, str, int]]:
    """Source, type, subject and version of the records among some events."""
    return sorted(
        (found.integration_id, found.event.type.split(".")[2], found.event.subject, found.event.data.version)
        for found in events
        if isinstance(found.event.data, RecordData)
    )


async def test_the_same_picture_changes_hands(gateway: Gateway, heir: Gateway, database: Database) -> None:
    """Who comes under the same id is the new integration's, with the next version and nothing else changed."""
    before = shown(await read_rows(database, gateway.integration_id))
    fact = await heir.apply(ROSTER)

    assert shown(await read_rows(database, heir.integration_id)) == before
    assert await read_rows(database, gateway.integration_id) == {}
    assert await versions(database, heir) == {"user-1": 2, "user-2": 2, "user-3": 2}
    assert notes(fact) == {"orgs": "1", "classes": "1", "users": "3", "enrollments": "3"}
    assert (fact.collections["users"].added, fact.collections["users"].changed) == (0, 3)
    assert (fact.students, fact.classes) == (3, 1)
    totals = await database.fetchrow("SELECT students, classes FROM integration WHERE id = $1", gateway.integration_id)
    assert totals is not None
    assert tuple(totals) == (0, 0)
    assert await database.fetchval("SELECT count(*) FROM history") == 8


async def test_only_the_same_ids_change_hands(gateway: Gateway, heir: Gateway, database: Database) -> None:
    """Whom the new integration does not name stays with the old one, active as before; newcomers begin at one (C8)."""
    part = {name: ROSTER[name] for name in ("orgs", "classes")}
    fact = await heir.apply({**part, "users": [student(1, "Ana"), student(2), student(7)]})

    assert await versions(database, heir) == {"user-1": 2, "user-2": 2, "user-7": 1}
    assert await versions(database, gateway) == {"user-3": 1}
    assert (fact.collections["users"].added, fact.collections["users"].changed) == (1, 2)
    assert notes(fact)["users"] == "2"


async def test_products_are_told_once_under_the_new_source(gateway: Gateway, heir: Gateway, database: Database) -> None:
    """The feed tells every record that was taken over as updated by the new source, and by no one else any more."""
    cursor = (await read_feed(database))[-1].cursor
    people = [student(1, "Ana"), student(2), student(7)]
    await heir.apply({**ROSTER, "users": people, "enrollments": ROSTER["enrollments"][:2]})

    own, old = heir.integration_id, gateway.integration_id
    after = told(await read_feed(database, cursor))
    assert {entry for entry in after if "user" in entry[2].split("/")[0]} == {
        (own, "updated", "users/user-1", 2),
        (own, "updated", "users/user-2", 2),
        (own, "added", "users/user-7", 1),
    }
    assert {entry[:2] for entry in after} == {(own, "updated"), (own, "added"), (own, "removed")}
    everything = told(await read_feed(database))
    assert [entry for entry in everything if entry[0] == old] == [(old, "added", "users/user-3", 1)]
    subjects = [entry[2] for entry in everything]
    assert len(subjects) == len(set(subjects)), "who begins from nothing reads each record once"


async def test_a_class_comes_before_its_enrollments(heir: Gateway, database: Database) -> None:
    """In the feed of a takeover, too, nobody reads an enrollment before its class and its person."""
    cursor = (await read_feed(database))[-1].cursor
    changed = {**ROSTER, "enrollments": [enrollment(1, 1, primary=True), *ROSTER["enrollments"][1:]]}
    await heir.apply(changed)

    order = [found.event.subject.split("/")[0] for found in await read_feed(database, cursor)]
    assert order == ["orgs", "classes", *["users"] * 3, *["enrollments"] * 3, "runs"]


async def test_tombstones_come_along(gateway: Gateway, heir: Gateway, database: Database) -> None:
    """Somebody who had left goes on counting versions, so that no product drops their return."""
    await gateway.apply({}, {"users": ["user-3"]}, served={"users": 2})
    await heir.apply(ROSTER)

    assert (await versions(database, heir))["user-3"] == 3


async def test_what_comes_later_is_taken_over_then(gateway: Gateway, heir: Gateway, database: Database) -> None:
    """A record the new integration names only later does not begin anew beside the old one."""
    await heir.apply({"orgs": ROSTER["orgs"], "classes": ROSTER["classes"], "users": [student(1), student(2)]})
    await heir.apply({"users": [student(3)], "enrollments": [enrollment(3, 1)]}, served={"users": 3})

    assert (await versions(database, heir))["user-3"] == 2
    assert await versions(database, gateway) == {}


async def test_other_enrollments_of_a_class_go_with_it(gateway: Gateway, heir: Gateway, database: Database) -> None:
    """Who is in a class that was taken over is told by the new integration alone; other classes stay as they were."""
    await gateway.apply({"classes": [section(2)], "enrollments": [enrollment(1, 2)]}, served={"users": 3})
    await heir.apply({**ROSTER, "enrollments": [enrollment(2, 1)]})

    assert await versions(database, heir, "enrollments") == {"enrollment-2-1": 2}
    assert await versions(database, gateway, "enrollments") == {"enrollment-1-2": 1}
    assert await versions(database, gateway, "classes") == {"class-2": 1}


async def test_an_evaluation_moves_nothing(gateway: Gateway, heir: Gateway, database: Database) -> None:
    """An evaluation counts what would be taken over, and every row stays as it was."""
    before = await read_rows(database, gateway.integration_id)
    terms = msgspec.structs.replace(heir.terms, purpose="evaluation")
    fact = await heir.sync({**ROSTER, "users": [student(1, "Ana"), student(9)]}, terms=terms)

    assert isinstance(fact, Evaluated)
    assert notes(fact)["users"] == "1"
    assert (fact.collections["users"].added, fact.collections["users"].changed) == (1, 1)
    assert await read_rows(database, gateway.integration_id) == before
    assert await read_rows(database, heir.integration_id) == {}


@pytest.mark.parametrize("action", ["approve", "discard"])
async def test_a_held_takeover_moves_nothing_until_approved(
    gateway: Gateway, heir: Gateway, database: Database, action: Any
) -> None:
    """Everybody under their old number as somebody else is held; rows change hands only if that is approved."""
    people = [student(number) for number in range(10, 130)]
    await gateway.apply({"users": people}, served={"users": 123})
    before = await read_rows(database, gateway.integration_id)
    others = [student(number, "Zoe", family_name="Berg") for number in range(10, 130)]
    held = await heir.sync({"users": others}, terms=Terms(takes_over=gateway.integration_id))

    assert isinstance(held, Held)
    assert held.code == Code.GUARD_UPDATE_HOLD
    assert await read_rows(database, gateway.integration_id) == before
    command = Decide(
        decision_id=str(uuid.uuid4()),
        run_id=held.run_id,
        attempt=held.attempt,
        integration_id=heir.integration_id,
        plan=held.plan,
        action=action,
        by="admin",
        at=held.at,
    )
    fact = (await decisions.carry_out(database, command))[-1]
    if action == "approve":
        assert isinstance(fact, Applied)
        assert set((await versions(database, heir)).values()) == {2}
        assert set(await versions(database, gateway)) == {"user-1", "user-2", "user-3"}
    else:
        assert await read_rows(database, gateway.integration_id) == before


@pytest.mark.parametrize("unfit", ["unknown", "elsewhere", "itself"])
async def test_what_may_not_be_taken_over_stays(
    gateway: Gateway, heir: Gateway, database: Database, unfit: str
) -> None:
    """An unknown integration, another organization's or the same one: the sync goes on and says so, once."""
    before = await read_rows(database, gateway.integration_id)
    if unfit == "elsewhere":
        heir.organization_id = str(uuid.uuid4())
    named = {"unknown": str(uuid.uuid4()), "elsewhere": gateway.integration_id, "itself": heir.integration_id}[unfit]
    heir.terms = Terms(takes_over=named)
    fact = await heir.apply(ROSTER)
    again = await heir.apply({}, served={"users": 3})

    assert set(notes(fact, Code.TAKEOVER_UNFIT)) == {"users"}
    assert fact.collections["users"].added == 3
    assert not again.issues
    assert await read_rows(database, gateway.integration_id) == before


async def test_what_the_old_one_had_under_way_is_refused(gateway: Gateway, heir: Gateway, database: Database) -> None:
    """A fetch of the old integration that completes after the takeover brings nobody back."""
    late = gateway.messages({"users": [student(1, "Old")]}, served={"users": 3})
    await heir.apply(ROSTER)
    fact = await gateway.send(late)

    assert isinstance(fact, Failed)
    assert await read_rows(database, gateway.integration_id) == {}


async def test_people_made_by_hand_change_hands_as_they_are(heir: Gateway, database: Database) -> None:
    """A record made by hand keeps its values, whichever integration has its id (C9)."""
    await database.fetch("UPDATE users SET origin = 'manual', given_name = 'Hand' WHERE sourced_id = 'user-1'")
    await heir.apply({**ROSTER, "users": [student(number, "Ana") for number in (1, 2, 3)]})

    rows = await read_rows(database, heir.integration_id)
    assert (rows["users", "user-1"]["given_name"], rows["users", "user-2"]["given_name"]) == ("Hand", "Ana")


async def test_google_people_stay_joined(gateway: Gateway, heir: Gateway, database: Database) -> None:
    """People of Google Classroom are joined to the integration that has their SIS now, though nobody changed."""
    google = Gateway(
        gateway.consumer, gateway.bus, organization_id=gateway.organization_id, provider="google-classroom"
    )
    await google.apply({"users": [student(101, email="student1@north.example")]})
    await heir.apply(ROSTER)

    row = await database.fetchrow(
        "SELECT integration.id::text, sis_sourced_id FROM person_link JOIN integration ON no = sis_integration_no"
    )
    assert row is not None
    assert tuple(row) == (heir.integration_id, "user-1")
    await google.apply({"users": [student(102, email="student1@north.example")]})
    assert await database.fetchval("SELECT count(*) FROM person_link WHERE reason = 'ambiguous'") == 2


async def test_links_of_a_google_integration_go_along(gateway: Gateway, database: Database) -> None:
    """Where a Google Classroom integration is taken over by another, all links are the new one's."""
    await gateway.apply(ROSTER)
    google, newer = (
        Gateway(gateway.consumer, gateway.bus, organization_id=gateway.organization_id, provider="google-classroom")
        for _ in range(2)
    )
    newer.terms = Terms(takes_over=google.integration_id)
    for one in (google, newer):
        await one.apply({"users": [student(101, email="student1@north.example")]})

    links = await database.fetch(
        "SELECT id::text, sis_sourced_id FROM person_link JOIN integration ON no = integration_no"
    )
    assert [tuple(link) for link in links] == [(newer.integration_id, "user-1")]


async def test_an_undo_gives_nothing_back_to_the_deleted(gateway: Gateway, heir: Gateway, database: Database) -> None:
    """Before the first run of the new integration nobody of it was there; who was taken over keeps the old values."""
    await heir.apply({**ROSTER, "users": [student(1, "Ana"), student(2), student(7)]})
    fact = await carry_out(database, heir, undo(heir, 11))

    assert isinstance(fact, Applied)
    rows = await read_rows(database, heir.integration_id)
    people = {place[1]: row["given_name"] for place, row in rows.items() if place[0] == "users" and row["active"]}
    assert people == {"user-1": "Mila", "user-2": "Mila"}
    assert set(await versions(database, gateway)) == {"user-3"}
    assert ids(ROSTER, "orgs") == {"orgs": ["org-North"]}
