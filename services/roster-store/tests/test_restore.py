"""Undo: the roster as it was before a run."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from played_gateway import ROSTER, Gateway, campus, student, together
from undoing import ANYTHING_GOES, RandomDistrict, carry_out, count_staging, read_rows, run_id, shown, undo

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.events import RecordData
from homeroom.messages import Applied, Decide, Failed, Held, Restore
from roster_store import decisions, restore
from roster_store.completion import complete_fetch
from roster_store.feed import Cursor, FeedEvent, read_page
from roster_store.restore import restore_before
from roster_store.sights import Rosters
from roster_store.tables import SQL, TABLES


async def read_feed(database: Database) -> list[FeedEvent]:
    """The whole feed."""
    events: list[FeedEvent] = []
    cursor, more = Cursor(), True
    while more:
        page = await read_page(database, Rosters(database), cursor, 50)
        events, cursor, more = events + page.events, page.cursor, page.more
    return events


async def list_changes(database: Database, integration_no: int, apply: int) -> dict[tuple[str, str], Any]:
    """What an apply changed, record by record."""
    found = {}
    for collection, table in TABLES.items():
        for row in await database.fetch(table.sql("list_run_changes"), integration_no, apply, collection):
            assert (collection, row["sourced_id"]) not in found
            found[collection, row["sourced_id"]] = row
    return found


@pytest.mark.parametrize("seed", range(5))
async def test_any_run_can_be_undone_exactly(gateway: Gateway, database: Database, seed: int) -> None:
    """Restoring before any run, or undo, gives the rows of that moment; versions only grow, the feed tells the same."""
    gateway.terms = ANYTHING_GOES
    district = RandomDistrict(gateway, seed)
    before: dict[int, Any] = {}
    versions: dict[tuple[str, str], int] = {}
    for _ in range(12):
        rows = await read_rows(database, gateway.integration_id)
        if before and district.undoes():
            number = district.choose(list(before))
            fact = await carry_out(database, gateway, undo(gateway, number))
            assert isinstance(fact, Applied), fact
            now = await read_rows(database, gateway.integration_id)
            assert shown(now) == before[number]
            assert fact.bookmark is None
            district.learn(now)
        else:
            changed, gone, served = district.next_day()
            fact = await gateway.apply(changed, gone, served=served)
            now = await read_rows(database, gateway.integration_id)
        before[gateway.run_number] = shown(rows)
        assert all(now[place]["version"] >= version for place, version in versions.items())
        if fact.apply is not None:
            changes = await list_changes(database, 1, fact.apply)
            assert {place: row["version"] for place, row in now.items() if place in changes} == {
                place: versions.get(place, 0) + 1 for place in changes
            }
            assert {place for place, row in now.items() if row["version"] != versions.get(place)} == set(changes)
        versions = {place: row["version"] for place, row in now.items()}

    folded = {}
    for found in await read_feed(database):
        if isinstance(data := found.event.data, RecordData):
            collection = found.event.subject.partition("/")[0]
            folded[collection, data.sourced_id] = data.record if "removed" not in found.event.type else None
    held = {place: TABLES[place[0]].record(row) for place, row in now.items() if row["active"]}
    assert {place: record for place, record in folded.items() if record is not None} == held


async def test_what_an_apply_changed_stays_known(gateway: Gateway, database: Database) -> None:
    """What every apply changed can be told later: each record before and after, whatever happened to it since."""
    gateway.terms = ANYTHING_GOES
    district = RandomDistrict(gateway, 7)
    states: list[Any] = [{}]
    applies = []
    for _ in range(6):
        changed, gone, served = district.next_day()
        fact = await gateway.apply(changed, gone, served=served)
        states.append(await read_rows(database, gateway.integration_id))
        applies.append(fact.apply)

    for apply, old, new in zip(applies, states, states[1:], strict=False):
        assert apply is not None
        changes = await list_changes(database, 1, apply)
        before = {place: row["version"] for place, row in old.items()}
        assert set(changes) == {place for place, row in new.items() if row["version"] != before.get(place)}
        for place, row in changes.items():
            assert row["change"] == new[place]["change"]
            was = old.get(place)
            assert (row["before"] is None) == (was is None)
            for column in ("version", "active", "fingerprint", "metadata"):
                assert row["after"][column] == new[place][column]
                assert was is None or row["before"][column] == was[column]


async def test_a_first_load_keeps_nothing(gateway: Gateway, database: Database) -> None:
    """A first load, and records that come for the first time later, have no history."""
    await gateway.apply(ROSTER)
    await gateway.apply({"users": [student(4)]}, served={"users": 4})

    assert await database.fetchval("SELECT count(*) FROM history") == 0


async def test_only_what_changes_is_kept(gateway: Gateway, database: Database) -> None:
    """A record that came again as it was, and one made by hand, is not kept."""
    await gateway.apply(ROSTER)
    await database.fetch("UPDATE users SET origin = 'manual' WHERE sourced_id = 'user-2'")
    await gateway.apply({"users": [student(1), student(2, "Bea"), student(3, "Cleo")]}, served={"users": 3})

    rows = await database.fetch("SELECT sourced_id, before ->> 'given_name' AS name FROM history")
    assert [tuple(row) for row in rows] == [("user-3", "Mila")]


async def test_the_first_run_can_be_undone(gateway: Gateway, database: Database) -> None:
    """Before the first run there was nobody: everybody goes, schools and all, and comes back by undoing that."""
    gateway.terms = ANYTHING_GOES
    await gateway.apply(together(campus("North", 1), campus("South", 11)))
    held = shown(await read_rows(database, gateway.integration_id))
    fact = await carry_out(database, gateway, undo(gateway, 1))

    assert isinstance(fact, Applied)
    assert fact.collections["users"].removed == 6
    assert fact.students == 0
    assert shown(await read_rows(database, gateway.integration_id)) == {}
    await carry_out(database, gateway, undo(gateway, 2))
    assert shown(await read_rows(database, gateway.integration_id)) == held


async def test_records_made_by_hand_stay(gateway: Gateway, database: Database) -> None:
    """An undo touches nothing that was made by hand (C9)."""
    gateway.terms = ANYTHING_GOES
    await gateway.apply(ROSTER)
    await gateway.apply({"users": [student(1, "Ana"), student(4)]}, served={"users": 4})
    await database.fetch("UPDATE users SET origin = 'manual' WHERE sourced_id IN ('user-1', 'user-4')")
    fact = await carry_out(database, gateway, undo(gateway, 2))

    assert isinstance(fact, Applied)
    rows = await read_rows(database, gateway.integration_id)
    assert rows["users", "user-1"]["given_name"] == "Ana"
    assert rows["users", "user-4"]["active"]


async def test_an_undo_is_done_once(gateway: Gateway, database: Database) -> None:
    """A command that comes again gets the same answer, and nothing is undone twice."""
    await gateway.apply(ROSTER)
    await gateway.apply({"users": [student(1, "Ana")]}, served={"users": 3})
    command = undo(gateway, 2)
    first = await carry_out(database, gateway, command)
    rows = await read_rows(database, gateway.integration_id)

    assert await carry_out(database, gateway, command) == first
    assert await read_rows(database, gateway.integration_id) == rows
    assert await count_staging(database) == 0


async def test_an_undo_that_is_lost_in_a_crash_is_tried_again(
    gateway: Gateway, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a crash of Postgres empties before it is applied is noticed, and nothing is taken for undone."""
    await gateway.apply(ROSTER)
    await gateway.apply({"users": [student(1, "Ana")]}, served={"users": 3})

    async def crash_first(*args: Any) -> Any:
        await database.fetch("TRUNCATE staged_chunk")
        unlogged = "SELECT oid::regclass::text AS name FROM pg_class WHERE relpersistence = 'u' AND relkind = 'r'"
        for row in await database.fetch(unlogged):
            await database.fetch(f"TRUNCATE {row['name']}")
        return await complete_fetch(*args)

    monkeypatch.setattr(restore, "complete_fetch", crash_first)
    fact = await carry_out(database, gateway, undo(gateway, 2))
    monkeypatch.undo()

    assert isinstance(fact, Failed)
    assert (fact.code, fact.again) == (Code.RUN_INCOMPLETE, True)
    assert isinstance(await carry_out(database, gateway, undo(gateway, 2, attempt=2)), Applied)
    assert (await read_rows(database, gateway.integration_id))["users", "user-1"]["given_name"] == "Mila"


async def test_nothing_to_undo_is_no_apply(gateway: Gateway, database: Database) -> None:
    """Before a run after which nothing changed the roster was as it is."""
    await gateway.apply(ROSTER)
    await gateway.apply({}, served={"users": 3})
    fact = await carry_out(database, gateway, undo(gateway, 2))

    assert isinstance(fact, Applied)
    assert (fact.apply, fact.students) == (None, 3)


async def test_a_run_that_changed_nothing_is_a_moment_too(gateway: Gateway, database: Database) -> None:
    """Before a run that found no changes the roster was as the one before had left it."""
    await gateway.apply(ROSTER)
    await gateway.apply({}, served={"users": 3})
    await gateway.apply({"users": [student(1, "Ana")]}, served={"users": 3})
    fact = await carry_out(database, gateway, undo(gateway, 2))

    assert isinstance(fact, Applied)
    assert fact.collections["users"].changed == 1
    assert (await read_rows(database, gateway.integration_id))["users", "user-1"]["given_name"] == "Mila"


async def test_an_older_undo_is_let_go_by(gateway: Gateway, database: Database) -> None:
    """Once a newer run has begun, an undo that comes late does nothing and says nothing (fencing)."""
    await gateway.apply(ROSTER)
    late = undo(gateway, 1)
    await gateway.apply({"users": [student(1, "Ana")]}, served={"users": 3})

    assert list(await restore_before(database, late)) == []
    assert (await read_rows(database, gateway.integration_id))["users", "user-1"]["given_name"] == "Ana"


async def test_an_undo_overtakes_a_fetch(gateway: Gateway, database: Database) -> None:
    """A fetch that is under way when an undo begins can't complete any more."""
    await gateway.apply(ROSTER)
    await gateway.apply({"users": [student(1, "Ana")]}, served={"users": 3})
    messages = gateway.messages({"users": [student(1, "Bea")]}, served={"users": 3})
    await gateway.consumer.handle(messages[:-1])
    await carry_out(database, gateway, undo(gateway, 2))
    await gateway.consumer.handle(messages[-1:])

    assert (await read_rows(database, gateway.integration_id))["users", "user-1"]["given_name"] == "Mila"


def decide(held: Held, action: Any = "approve") -> Decide:
    """A decision about what is held."""
    return Decide(
        decision_id=str(uuid.uuid4()),
        run_id=held.run_id,
        attempt=held.attempt,
        integration_id=held.integration_id,
        plan=held.plan,
        action=action,
        by="admin",
        at=held.at,
    )


@pytest.mark.parametrize("action", ["approve", "discard"])
async def test_an_undo_is_guarded_like_any_picture(gateway: Gateway, database: Database, action: Any) -> None:
    """An undo that would remove many is held; approved, the roster is as it was, discarded, nobody went."""
    await gateway.apply({**ROSTER, "users": [student(number) for number in range(1, 101)]}, chunk_records=100)
    before = shown(await read_rows(database, gateway.integration_id))
    more = {"users": [student(1, "Ana"), *(student(number) for number in range(101, 161))]}
    await gateway.apply(more, served={"users": 160}, chunk_records=100)
    held = await carry_out(database, gateway, command := undo(gateway, 2))

    assert isinstance(held, Held)
    assert (held.code, held.everything) == (Code.GUARD_DELETE_HOLD, False)
    assert held.collections["users"].held == 60
    assert await carry_out(database, gateway, command) == held
    fact = (await decisions.carry_out(database, decide(held, action)))[-1]
    now = shown(await read_rows(database, gateway.integration_id))
    if action == "approve":
        assert isinstance(fact, Applied)
        assert fact.bookmark is None
        assert now == before
    else:
        assert {place: now[place] for place in before} == before, "what came back is there"
        assert len(now) == len(before) + 60


def failed(fact: Any) -> Failed:
    """A fact that must be the refusal of an undo, for good."""
    assert isinstance(fact, Failed)
    assert (fact.code, fact.again) == (Code.RESTORE_IMPOSSIBLE, False)
    assert fact.detail.endswith(".")
    return fact


async def test_what_never_happened_can_not_be_undone(gateway: Gateway, neighbour: Gateway, database: Database) -> None:
    """A run that was never applied, one of another integration, and an integration without any: refused for good."""
    await gateway.apply(ROSTER)
    neighbour.run_number = 40
    await neighbour.apply(ROSTER)
    await gateway.send(gateway.messages(ROSTER)[:1] + gateway.messages({"users": [student(9)]}, basis=99))

    for number in (41, 3, 77):
        first = failed(await carry_out(database, gateway, command := undo(gateway, number)))
        assert await carry_out(database, gateway, command) == first
    failed(await carry_out(database, neighbour, undo(Gateway(gateway.consumer, gateway.bus), 1)))
    assert shown(await read_rows(database, gateway.integration_id))


async def test_what_is_not_kept_any_more_can_not_be_undone(gateway: Gateway, database: Database) -> None:
    """Where the history of one of the runs to be undone was deleted, the undo is refused; later ones still work."""
    for name in ("Mila", "Ana", "Bea"):
        await gateway.apply(ROSTER if name == "Mila" else {"users": [student(1, name)]}, served={"users": 3})
    assert await database.fetchval("SELECT until_apply FROM history ORDER BY until_apply LIMIT 1") == 2

    assert await database.fetchval(SQL["forget_history"], 2, 100) == 1
    for number in (1, 2):
        assert "kept" in failed(await carry_out(database, gateway, undo(gateway, number))).detail
    fact = await carry_out(database, gateway, undo(gateway, 3))

    assert isinstance(fact, Applied)
    assert (await read_rows(database, gateway.integration_id))["users", "user-1"]["given_name"] == "Ana"


async def test_what_was_applied_before_the_history_began(gateway: Gateway, database: Database) -> None:
    """An undo never takes a row for new because it knows no history of it from before it was kept."""
    await gateway.apply(ROSTER)
    await database.fetch("INSERT INTO history_horizon SELECT no, last_apply FROM integration")
    await gateway.apply({"users": [student(1, "Ana")]}, served={"users": 3})

    failed(await carry_out(database, gateway, undo(gateway, 1)))
    assert isinstance(await carry_out(database, gateway, undo(gateway, 2)), Applied)


async def test_an_unreadable_run_is_refused(gateway: Gateway, database: Database) -> None:
    """A run's id that is none is refused like one that is unknown."""
    command = undo(gateway, 1)
    odd = Restore(**{name: getattr(command, name) for name in command.__struct_fields__} | {"before_run_id": "x"})

    failed(await carry_out(database, gateway, odd))
    assert run_id(1) != odd.before_run_id
