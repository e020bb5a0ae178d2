"""From staged chunks to an applied roster."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from played_gateway import ROSTER, Gateway, abandoned, as_message, school, student

from homeroom.bus import Message, Reject
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Applied, Bookmark, Chunk, Failed, FetchCompleted, Held, to_changes
from homeroom.migrate import load_migrations, migrate
from homeroom.roster import RECORD_TYPES, encode_record, fingerprint
from roster_store.completion import complete_fetch
from roster_store.tables import TABLES


async def rows(database: Database, table: str = "users") -> dict[str, Any]:
    """What the store holds of a table, by sourcedId."""
    found = await database.fetch(f"SELECT * FROM {table}")  # noqa: S608 - a test's own table name
    return {row["sourced_id"]: row for row in found}


async def leftovers(database: Database) -> int:
    """Staging tables that still exist."""
    return await database.fetchval("SELECT count(*) FROM pg_class WHERE relnamespace = 'roster_staging'::regnamespace")


@pytest.mark.parametrize("collection", RECORD_TYPES)
async def test_tables_have_every_field(database: Database, collection: str) -> None:
    """Every field of a canonical record has a column, and every column a field."""
    table = TABLES[collection]
    columns = await database.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0", f"{table.name}_fields"
    )

    assert {row["attname"] for row in columns} == set(table.columns)
    assert [row["attname"] for row in columns] == list(table.columns), "staging is copied to by position"


async def test_first_sync_stores_everything(gateway: Gateway, database: Database) -> None:
    """A complete first picture becomes the roster, counted and attributed to one apply."""
    fact = await gateway.sync(ROSTER)

    assert isinstance(fact, Applied)
    assert {name: report.added for name, report in fact.collections.items()} == {
        "orgs": 1,
        "classes": 1,
        "users": 3,
        "enrollments": 3,
    }
    assert (fact.students, fact.teachers, fact.classes) == (3, 0, 1)
    users = await rows(database)
    assert TABLES["users"].record(users["user-1"]) == student(1)
    assert {row["changed_by"] for row in users.values()} == {fact.apply}
    assert await leftovers(database) == 0


async def test_unchanged_picture_makes_no_apply(gateway: Gateway, database: Database) -> None:
    """When the gateway saw nothing new, nothing is applied and no version grows."""
    await gateway.sync(ROSTER)
    fact = await gateway.sync({}, served={"users": 3})

    assert isinstance(fact, Applied)
    assert fact.apply is None
    assert (fact.students, fact.classes) == (3, 1)
    assert {row["version"] for row in (await rows(database)).values()} == {1}


async def test_changes_and_removals_are_applied_together(gateway: Gateway, database: Database) -> None:
    """Changed, new and removed records of one picture arrive in one apply; removed rows stay as tombstones."""
    await gateway.sync(ROSTER)
    fact = await gateway.sync(
        {"users": [student(1, "Milena"), student(4)]},
        {"users": ["user-3"], "enrollments": ["enrollment-3-1", "enrollment-unknown"]},
    )

    assert isinstance(fact, Applied)
    report = fact.collections["users"]
    assert (report.added, report.changed, report.removed) == (1, 1, 1)
    assert fact.collections["enrollments"].removed == 1
    users = await rows(database)
    assert users["user-1"]["given_name"] == "Milena"
    assert (users["user-1"]["version"], users["user-1"]["change"]) == (2, "updated")
    assert (users["user-3"]["active"], users["user-3"]["change"]) == (False, "removed")
    assert users["user-2"]["version"] == 1


async def test_returning_record_is_added_again(gateway: Gateway, database: Database) -> None:
    """A removed record that comes back is added, with a higher version than it left with."""
    await gateway.sync(ROSTER)
    await gateway.sync({}, {"users": ["user-3"]})
    fact = await gateway.sync({"users": [student(3)]})

    assert isinstance(fact, Applied)
    assert fact.collections["users"].added == 1
    row = (await rows(database))["user-3"]
    assert (row["active"], row["version"], row["change"]) == (True, 3, "added")


async def test_repeats_are_harmless(gateway: Gateway, database: Database) -> None:
    """Every message of an applied fetch again changes nothing and gets the same answer."""
    messages = gateway.messages(ROSTER)
    first = await gateway.send(messages)
    again = await gateway.send(messages)

    assert first == again
    assert {row["version"] for row in (await rows(database)).values()} == {1}
    assert await database.fetchval("SELECT count(*) FROM apply") == 1


async def test_chunks_delivered_twice_count_once(gateway: Gateway) -> None:
    """A chunk that the bus delivers twice is staged once."""
    messages = gateway.messages(ROSTER)
    fact = await gateway.send([*messages[:3], *messages[1:]])

    assert isinstance(fact, Applied)
    assert fact.collections["users"].added == 3


async def test_missing_chunk_refuses_the_picture(gateway: Gateway, database: Database) -> None:
    """A picture with a part missing is not applied; the run is told to try again (C15)."""
    messages = gateway.messages(ROSTER)
    fact = await gateway.send([*messages[:2], *messages[3:]])

    assert isinstance(fact, Failed)
    assert (fact.code, fact.again) == (Code.RUN_INCOMPLETE, True)
    assert await rows(database) == {}
    assert await leftovers(database) == 0


async def test_stale_comparison_is_refused(gateway: Gateway) -> None:
    """A fetch that was compared with an older roster than the store holds is not applied."""
    await gateway.sync(ROSTER)
    fact = await gateway.sync({"users": [student(9)]}, basis=0)

    assert isinstance(fact, Failed)
    assert fact.code == Code.RUN_INCOMPLETE


async def test_overtaken_fetch_is_let_go_by(gateway: Gateway, database: Database) -> None:
    """Once a newer attempt has begun, an older one can neither complete nor leave anything behind (fencing)."""
    zombie = gateway.messages({"users": [student(1, "Old")]})
    newer = gateway.messages({"users": [student(1, "New")]}, attempt=2)
    await gateway.consumer.handle(zombie[:2])
    fact = await gateway.send(newer)
    published = len(gateway.bus.published)
    await gateway.consumer.handle(zombie)

    assert isinstance(fact, Applied)
    assert len(gateway.bus.published) == published
    assert (await rows(database))["user-1"]["given_name"] == "New"
    assert await leftovers(database) == 0


async def test_abandoned_fetch_leaves_nothing(gateway: Gateway, database: Database) -> None:
    """What was staged of an abandoned fetch is thrown away, and its completion is not believed."""
    messages = gateway.messages(ROSTER)
    await gateway.consumer.handle(messages[:3])
    await gateway.consumer.handle([as_message(to_changes(abandoned(messages)), 9)])
    await gateway.consumer.handle(messages[3:])

    assert gateway.bus.published == []
    assert await rows(database) == {}
    assert await leftovers(database) == 0


async def test_empty_collection_is_held(gateway: Gateway, database: Database) -> None:
    """A collection that was not empty and arrives empty holds the whole picture back (C14)."""
    await gateway.sync(ROSTER)
    fact = await gateway.sync(
        {"orgs": [school("South")]}, {"users": ["user-1", "user-2", "user-3"]}, served={"users": 0}
    )

    assert isinstance(fact, Held)
    assert fact.code == Code.GUARD_EMPTY_COLLECTION
    assert "users" in fact.detail
    assert all(row["active"] for row in (await rows(database)).values())
    assert set(await rows(database, "orgs")) == {"org-North"}


async def test_no_changes_are_no_empty_collection(gateway: Gateway, database: Database) -> None:
    """Where only changes were read, a collection with none of them is not taken for an empty one."""
    await gateway.sync(ROSTER)
    fact = await gateway.sync({}, served={"users": 0, "orgs": 0}, whole=False, mode="delta")

    assert isinstance(fact, Applied)
    assert all(row["active"] for row in (await rows(database)).values())


async def test_mode_and_bookmark_are_handed_on(gateway: Gateway) -> None:
    """How a fetch was done, why, and what the next may go on from reach the scheduler with the apply."""
    bookmark = Bookmark(at=datetime(2026, 9, 1, 6, tzinfo=UTC), canonical=1, state={"cursor": "c9"}, increments=True)
    told: dict[str, Any] = {"mode": "full", "mode_code": Code.DELTA_DRIFT, "bookmark": bookmark}
    first = await gateway.sync(ROSTER, **told)
    unchanged = await gateway.sync({}, served={"users": 3}, **told)

    for fact in (first, unchanged):
        assert isinstance(fact, Applied)
        assert (fact.mode, fact.mode_code, fact.bookmark) == ("full", Code.DELTA_DRIFT, bookmark)


@pytest.mark.parametrize("first", [True, False])
async def test_of_rivals_the_greatest_fingerprint_is_kept(gateway: Gateway, database: Database, *, first: bool) -> None:
    """A sourcedId staged several times becomes the same record whatever the order, and counts once."""
    rivals = [student(1, name) for name in ("Ana", "Bea", "Cleo", "Bea", "Dora")]
    winner = max(rivals, key=lambda record: fingerprint(encode_record(record)))
    others = {name: records for name, records in ROSTER.items() if name != "users"}
    for order in (rivals, rivals[::-1]):
        if not first:
            await gateway.apply({**others, "users": [student(1, "Zoe"), *ROSTER["users"][1:]]})
        fact = await gateway.apply({**others, "users": [*order, *ROSTER["users"][1:]]}, duplicates=True)
        report = fact.collections["users"]

        assert (await rows(database))["user-1"]["given_name"] == winner.given_name
        assert (report.added, report.changed) == ((3, 0) if first and order is rivals else (0, 0 if first else 1))


async def test_rivals_of_a_signed_fingerprint(gateway: Gateway, database: Database) -> None:
    """Fingerprints are compared as signed numbers, as the gateway compares them."""
    made = [student(1, f"Name{number}") for number in range(64)]
    negative = next(one for one in made if fingerprint(encode_record(one)) < 0)
    positive = next(one for one in made if fingerprint(encode_record(one)) > 0)
    await gateway.apply({"users": [positive, negative]}, duplicates=True)

    assert (await rows(database))["user-1"]["given_name"] == positive.given_name


async def test_the_provider_is_kept_with_its_integration(gateway: Gateway, database: Database) -> None:
    """The store learns an integration's provider from its fetches, and an older gateway's silence changes nothing."""
    for provider in ("clever", ""):
        gateway.provider = provider
        await gateway.sync(ROSTER)
        assert await database.fetchval("SELECT provider FROM integration") == "clever"


async def test_fetches_staged_before_a_migration_are_fetched_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was staged in the shape of an older store is refused as incomplete, so that nothing of it is lost."""
    newest = load_migrations("roster_store")
    monkeypatch.setattr("homeroom.migrate.load_migrations", lambda _: newest[:1])
    await migrate(database_url, schema="roster", package="roster_store")
    async with Database.open(database_url, schema="roster", size=2) as old:
        await old.fetch("INSERT INTO integration (id, organization_id) VALUES (gen_random_uuid(), gen_random_uuid())")
        await old.fetch(
            "INSERT INTO staged_fetch (id, integration_no, run_id, run_number, attempt, basis)"
            " VALUES ('f', 1, gen_random_uuid(), 1, 1, 0)"
        )
        await old.fetch("INSERT INTO staged_chunk VALUES (1, 0)")
        await old.fetch("CREATE TABLE roster_staging.f1_removals (LIKE removals_fields)")
    monkeypatch.undo()
    await migrate(database_url, schema="roster", package="roster_store")
    async with Database.open(database_url, schema="roster", size=2) as database:
        integration_id = await database.fetchval("SELECT id::text FROM integration")
        completed = FetchCompleted(
            run_id="r", run_number=1, attempt=1, fetch_id="f", integration_id=integration_id, chunks=1, collections={}
        )
        (fact,) = await complete_fetch(database, completed)

        assert isinstance(fact, Failed)
        assert (fact.code, fact.again) == (Code.RUN_INCOMPLETE, True)
        assert await leftovers(database) == 0


async def test_what_is_switched_off_is_removed(gateway: Gateway, database: Database) -> None:
    """A collection the options switch off is not taken for an empty one: it is removed, and the run is not held."""
    await gateway.sync(ROSTER)
    gone = ["enrollment-1-1", "enrollment-2-1", "enrollment-3-1"]
    fact = await gateway.sync({}, {"enrollments": gone}, served={"enrollments": 0}, unwanted="enrollments")

    assert isinstance(fact, Applied)
    assert fact.collections["enrollments"].removed == 3
    assert not any(row["active"] for row in (await rows(database, "enrollments")).values())


async def test_manual_records_are_never_touched(gateway: Gateway, database: Database) -> None:
    """A record made by hand keeps its value, whatever the provider says of its id (C9)."""
    await gateway.sync(ROSTER)
    await database.fetch("UPDATE users SET origin = 'manual' WHERE sourced_id = 'user-1'")
    fact = await gateway.sync({"users": [student(1, "Other")]}, {"users": ["user-1"]}, served={"users": 3})

    assert isinstance(fact, Applied)
    assert (await rows(database))["user-1"]["given_name"] == "Mila"
    report = fact.collections["users"]
    assert (report.changed, report.removed, report.filtered) == (0, 0, 1)


async def test_integrations_do_not_touch_each_other(gateway: Gateway, neighbour: Gateway, database: Database) -> None:
    """The same sourcedIds in two integrations are two records."""
    await gateway.sync(ROSTER)
    await neighbour.sync({"users": [student(1, "Somebody else")]})
    await neighbour.sync({}, {"users": ["user-1"]}, served={"users": 4})

    found = await database.fetch("SELECT given_name, active FROM users WHERE sourced_id = 'user-1' ORDER BY 1")
    assert [tuple(row) for row in found] == [("Mila", True), ("Somebody else", False)]


@pytest.mark.parametrize(
    "chunk",
    [
        {"collection": "wizards", "records": msgspec.Raw(b"[{}]"), "fingerprints": b"12345678"},
        {"collection": "users", "records": msgspec.Raw(b'[{"sourcedId":"1"}]'), "fingerprints": b"12345678"},
        {"collection": "orgs", "records": msgspec.Raw(b"[]"), "fingerprints": b"12345678"},
        {"collection": "orgs", "removed_keys": b"too short"},
    ],
)
async def test_malformed_chunk_is_rejected(gateway: Gateway, chunk: dict[str, Any]) -> None:
    """A chunk that can't be read goes to the dead letters with a reason that holds no data."""
    message = as_message(to_changes(Chunk(fetch_id="f", integration_id="i", seq=0, **chunk)), 0)

    with pytest.raises(Reject) as rejected:
        await gateway.consumer.handle([message])
    assert rejected.value.reason == Code.MESSAGE_UNREADABLE


async def test_unreadable_message_is_rejected(gateway: Gateway) -> None:
    """Bytes that are no message go to the dead letters."""
    good = gateway.messages(ROSTER)[0]
    bad = Message(good.topic, 0, 1, "k", b'{"type":"surprise"}', {}, good.sent_at)

    with pytest.raises(Reject):
        await gateway.consumer.handle([bad])
