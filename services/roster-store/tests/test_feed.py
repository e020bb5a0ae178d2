"""The change feed and the relay."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from played_gateway import ROSTER, Gateway, RecordingBus, enrollment, school, section, student

from homeroom.db import Database
from homeroom.events import AppliedData, RecordData
from roster_store.feed import Cursor, FeedEvent, Scope, read_page
from roster_store.relay import Relay
from roster_store.sights import Rosters

Reads = Callable[..., Awaitable[list[FeedEvent]]]


@pytest.fixture
def read_all(database: Database, rosters: Rosters) -> Reads:
    """Reads everything after a cursor, page by page."""

    async def read(cursor: Cursor | None = None, limit: int = 3, **scope: Any) -> list[FeedEvent]:
        return await _read_all(database, rosters, cursor, limit, **scope)

    return read


async def _read_all(
    database: Database, rosters: Rosters, cursor: Cursor | None, limit: int, **scope: Any
) -> list[FeedEvent]:
    events: list[FeedEvent] = []
    cursor, more = cursor or Cursor(), True
    while more:
        page = await read_page(database, rosters, cursor, limit, Scope(**scope))
        events += page.events
        cursor, more = page.cursor, page.more
    return events


def kinds(events: list[FeedEvent]) -> list[str]:
    """Types and subjects, shortened."""
    return [
        f"{found.event.type.removeprefix('homeroom.').removesuffix('.v1')} {found.event.subject}" for found in events
    ]


async def test_feed_shows_every_change_once_in_order(gateway: Gateway, read_all: Reads) -> None:
    """Parents come before children when added, children before parents when removed, and the apply comes last."""
    await gateway.sync(ROSTER)
    first = await read_all()
    await gateway.sync({"users": [student(1, "Milena")]}, {"enrollments": ["enrollment-2-1"], "users": ["user-2"]})
    second = await read_all(first[-1].cursor)

    assert [line.split()[0] for line in kinds(first)] == [
        "org.added", "class.added", *["user.added"] * 3, *["enrollment.added"] * 3, "sync.applied",
    ]  # fmt: skip
    assert kinds(second)[:3] == [
        "user.updated users/user-1",
        "enrollment.removed enrollments/enrollment-2-1",
        "user.removed users/user-2",
    ]
    assert len({found.event.id for found in first + second}) == len(first + second)


async def test_unchanged_sync_adds_nothing_to_the_feed(gateway: Gateway, read_all: Reads) -> None:
    """A sync that changes nothing publishes nothing, not even that it happened."""
    await gateway.sync(ROSTER)
    cursor = (await read_all())[-1].cursor
    await gateway.sync({}, served={"users": 3})

    assert await read_all(cursor) == []


async def test_removal_carries_the_last_known_record(gateway: Gateway, read_all: Reads) -> None:
    """The event of a removal holds the record as it was, and a version above all before."""
    await gateway.sync(ROSTER)
    cursor = (await read_all())[-1].cursor
    await gateway.sync({}, {"users": ["user-2"]})
    (_, removed, _) = await read_all(cursor)

    data = removed.event.data
    assert isinstance(data, RecordData)
    assert (data.record, data.version) == (student(2), 2)


async def test_a_reader_behind_gets_the_newest_state_once(gateway: Gateway, read_all: Reads) -> None:
    """Folding the feed from the start gives exactly the roster, however many applies went by."""
    for name in ("Ana", "Bea", "Cleo"):
        await gateway.sync({"users": [student(1, name)], "orgs": [school()]})
    events = [found for found in await read_all() if isinstance(found.event.data, RecordData)]

    assert kinds(events) == ["org.added orgs/org-North", "user.updated users/user-1"]
    assert events[-1].event.data.version == 3


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
async def test_pages_of_any_size_give_the_same(gateway: Gateway, read_all: Reads, limit: int) -> None:
    """Reading by pages of any size neither skips nor repeats an event."""
    await gateway.sync(ROSTER)
    await gateway.sync({"users": [student(7)], "classes": [section(2)]}, {"users": ["user-3"]})
    everything = await read_all(limit=1000)

    assert await read_all(limit=limit) == everything
    assert len(everything) == 8 - 1 + 1 + 1 + 1 + 2


async def test_feed_narrows_by_type_and_integration(gateway: Gateway, neighbour: Gateway, read_all: Reads) -> None:
    """A reader gets the types and the integration it asks for, and a neighbour's organization never."""
    await gateway.sync(ROSTER)
    await neighbour.sync({"users": [student(1)]})

    removed_or_added = frozenset({"homeroom.user.added.v1"})
    assert len(await read_all(types=removed_or_added)) == 4
    assert len(await read_all(types=removed_or_added, integration_id=neighbour.integration_id)) == 1
    own = await read_all(organization_id=neighbour.organization_id)
    assert {found.integration_id for found in own} == {neighbour.integration_id}
    applied = await read_all(types=frozenset({"homeroom.sync.applied.v1"}))
    assert all(isinstance(found.event.data, AppliedData) for found in applied)
    assert len(applied) == 2


async def test_feed_waits_for_applies_in_flight(
    gateway: Gateway, neighbour: Gateway, database: Database, read_all: Reads
) -> None:
    """A reader never passes an apply that has its number but is not committed yet."""
    await gateway.sync(ROSTER)
    start = (await read_all())[-1].cursor
    async with database.transaction() as slow:
        from roster_store.application import take_number

        number = await take_number(slow)
        await neighbour.sync({"users": [student(1)]})

        assert await read_all(start) == []
        integration = await slow.fetchval("SELECT no FROM integration WHERE id = $1", gateway.integration_id)
        await slow.execute(
            "INSERT INTO apply VALUES ($1, $2::text::xid8, $3, $4, now(), '[]', '{}')",
            number.no, number.xid, integration, gateway.organization_id,
        )  # fmt: skip

    late = await read_all(start)
    assert [found.integration_id for found in late if isinstance(found.event.data, AppliedData)] == [
        gateway.integration_id,
        neighbour.integration_id,
    ]


def test_cursors_are_opaque_and_checked() -> None:
    """A cursor survives its text form, and any other text is refused."""
    cursor = Cursor(12, 345)

    assert Cursor.parse(str(cursor)) == cursor
    for text in ("", "nonsense!", "AAAA", "é", str(cursor) + "A"):
        with pytest.raises(ValueError, match="not a cursor"):
            Cursor.parse(text)


async def test_relay_sends_every_event_and_remembers(gateway: Gateway, database: Database, rosters: Rosters) -> None:
    """The relay sends what happened while it was away and what happens while it runs, each once."""
    bus = RecordingBus()
    await gateway.sync(ROSTER)
    stop = asyncio.Event()
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(Relay(database, rosters, bus).run(stop))  # type: ignore[arg-type]  # publish is all it uses
        while len(bus.published) < 9:
            await asyncio.sleep(0.02)
        await gateway.sync({"enrollments": [enrollment(1, 1, primary=True)]})
        while len(bus.published) < 11:
            await asyncio.sleep(0.02)
        stop.set()
    again = RecordingBus()
    await Relay(database, rosters, again).relay_page()  # type: ignore[arg-type]  # as above

    assert [dict(sent.headers)["ce_type"] for sent in bus.published[-2:]] == [
        "homeroom.enrollment.updated.v1",
        "homeroom.sync.applied.v1",
    ]
    assert again.published == []
