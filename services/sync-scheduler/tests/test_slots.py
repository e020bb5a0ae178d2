"""Slots become runs: one each however many schedulers there are, and a line for each that did not (C1, C7, C8, D5)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
from scheduled import MINUTE, begin_due, copy_integration, end_runs, list_outcomes, read_integration

from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.problems import Problem
from sync_scheduler import beginnings, slots
from sync_scheduler.schedule_bodies import read_schedule
from sync_scheduler.schedules import list_slots
from sync_scheduler.slots import Due, Start, Wait, decide

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SINCE = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday morning in Chicago
NIGHTLY = {"kind": "nightly", "at": "02:00", "window_minutes": 0}
FIRST = datetime(2026, 3, 3, 8, tzinfo=UTC)
"""Its first slot."""
SCHOOL = {"from": "08:00", "until": "15:00"}

Copy = Callable[..., Awaitable[Any]]


@pytest.fixture
def copy(database: Database, integration: dict[str, Any]) -> Copy:
    """Makes integrations with a schedule."""

    async def copy(schedule: dict[str, Any], **more: Any) -> Any:
        return await copy_integration(database, integration["id"], schedule, since=SINCE, **more)

    return copy


async def _count_runs(database: Database, integration: UUID) -> int:
    found: int = await database.fetchval("SELECT count(*) FROM run WHERE integration = $1", integration)
    return found


async def test_five_schedulers(database: Database, copy: Copy) -> None:
    """Five schedulers with clocks that differ, weeks of slots of every kind: each slot has one run, none has two."""
    schedules = [
        NIGHTLY,
        {"kind": "nightly", "at": "02:00", "window_minutes": 4},
        {"kind": "weekly", "weekdays": ["monday", "friday"], "times": ["06:30", "18:00"], "window_minutes": 0},
        {"kind": "twice_weekly", "window_minutes": 0, "not_in_school_hours": SCHOOL},
        {"kind": "cron", "expression": "0 */6 * * *"},
        {"kind": "every_24_hours", "at": "01:00", "window_minutes": 0},
    ]
    zones = ["America/Chicago", "Australia/Lord_Howe", "Pacific/Auckland", "Europe/London"]
    rows = [await copy(schedules[number % 6], zone=zones[number % 4]) for number in range(48)]
    end = SINCE + 28 * DAY
    expected = {
        (row["id"], slot.at)
        for row in rows
        for slot in list_slots(read_schedule(row), row["time_zone"], SINCE + MINUTE, end)
    }
    dice = random.Random(5)
    for moment in sorted({at for _, at in expected}):
        await asyncio.gather(*(_drain(database, moment + dice.randrange(20) * MINUTE / 10) for _ in range(5)))
        await end_runs(database)

    begun = await database.fetch("SELECT integration, slot FROM run")
    recorded = await database.fetch("SELECT integration, slot, outcome, code, slots FROM slot")
    assert len(expected) > 1500
    assert sorted((row["integration"], row["slot"]) for row in begun) == sorted(expected)
    assert sorted((row["integration"], row["slot"]) for row in recorded) == sorted(expected)
    assert {(row["outcome"], row["code"], row["slots"]) for row in recorded} == {("started", None, 1)}


async def _drain(database: Database, now: datetime) -> None:
    while await begin_due(database, now, limit=10) == 10:
        pass


async def test_a_slot_becomes_a_run(client: httpx2.AsyncClient, database: Database, copy: Copy) -> None:
    """A slot's run says when it was due by the district's clocks, and the next slot is a day later."""
    row = await copy(NIGHTLY)
    assert await begin_due(database, FIRST - MINUTE) == 0
    assert await begin_due(database, FIRST) == 1
    assert await begin_due(database, FIRST) == 0
    path = f"/v1/integrations/{row['id']}"
    (run,) = (await client.get(f"{path}/runs")).json()["items"]
    log = (await client.get(f"/v1/runs/{run['id']}/log")).json()["entries"]
    (slot,) = (await client.get(f"{path}/slots")).json()["items"]

    assert "Tuesday, 2026-03-03 02:00 (America/Chicago)" in log[0]["sentence"]
    assert (slot["slot"], slot["local"]) == ("2026-03-03T08:00:00Z", "2026-03-03T02:00:00-06:00")
    assert (slot["outcome"], slot["code"], slot["slots"], slot["run_id"]) == ("started", None, 1, run["id"])
    assert (await client.get(path)).json()["next_slot_at"] == "2026-03-04T08:00:00Z"


async def test_missed_slots(database: Database, copy: Copy) -> None:
    """After days without a scheduler one run makes up for all that was missed, with their number (SLOT_MISSED)."""
    row = await copy(NIGHTLY)
    await begin_due(database, FIRST + 4 * DAY + HOUR)
    await end_runs(database)
    await begin_due(database, FIRST + 5 * DAY)  # the night in which 02:00 was left out

    assert await list_outcomes(database, row["id"]) == [("started", "SLOT_MISSED", 5), ("started", None, 1)]


async def test_catching_up_waits(database: Database, copy: Copy) -> None:
    """What makes up for missed slots begins neither in school hours nor on blackout days, but right after."""
    taught = await copy(NIGHTLY | {"not_in_school_hours": SCHOOL})
    away = await copy(NIGHTLY | {"blackout": [{"from": "2026-03-04", "until": "2026-03-06"}]})
    await begin_due(database, FIRST + 7 * HOUR)  # 09:00
    await begin_due(database, FIRST + 13 * HOUR - MINUTE)
    assert await _count_runs(database, taught["id"]) == 0
    await begin_due(database, FIRST + 13 * HOUR)  # 15:00
    assert await list_outcomes(database, taught["id"]) == [("started", "SLOT_MISSED", 1)]
    await end_runs(database)

    await database.fetch("UPDATE integration SET next_slot_at = $2 WHERE id = $1", away["id"], FIRST + DAY - HOUR)
    await database.fetch("UPDATE integration SET slots_owed = 2, next_slot_why = 'catch-up' WHERE id = $1", away["id"])
    await begin_due(database, FIRST + DAY + 5 * HOUR)
    assert await _count_runs(database, away["id"]) == 1
    assert (await read_integration(database, away["id"]))["next_slot_at"] == datetime(2026, 3, 7, 6, tzinfo=UTC)
    await begin_due(database, datetime(2026, 3, 7, 6, tzinfo=UTC))
    assert await list_outcomes(database, away["id"]) == [("started", "SLOT_MISSED", 1), ("started", "SLOT_MISSED", 2)]


async def test_still_running(database: Database, copy: Copy) -> None:
    """A slot that finds the last sync under way is skipped and says so; the one after it is used (SLOT_SKIPPED)."""
    row = await copy(NIGHTLY)
    for night in range(3):
        if night == 2:
            await end_runs(database)
        await begin_due(database, FIRST + night * DAY)

    assert await list_outcomes(database, row["id"]) == [
        ("started", None, 1),
        ("skipped", "SLOT_SKIPPED", 1),
        ("started", None, 1),
    ]
    blocking = await database.fetchval("SELECT run FROM slot WHERE outcome = 'skipped'")
    assert blocking == await database.fetchval("SELECT id FROM run ORDER BY number LIMIT 1")


@pytest.mark.parametrize("kind", ["evaluation", "refresh"])
async def test_what_is_no_sync_only_delays(
    client: httpx2.AsyncClient, database: Database, copy: Copy, kind: str
) -> None:
    """A slot that finds an evaluation or a refresh under way is used once that has ended."""
    row = await copy(NIGHTLY)
    await client.post(f"/v1/integrations/{row['id']}/runs")
    await database.fetch("UPDATE run SET kind = $1", kind)
    await begin_due(database, FIRST)
    await begin_due(database, FIRST + MINUTE)
    assert await _count_runs(database, row["id"]) == 1
    await end_runs(database)
    await begin_due(database, FIRST + 2 * MINUTE)

    assert await list_outcomes(database, row["id"]) == [("started", "SLOT_MISSED", 1)]
    assert (await read_integration(database, row["id"]))["next_slot_at"] == FIRST + DAY


async def test_no_license(database: Database, copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a license slots are left out, told once with their number; a new one brings a run for them all (D5)."""
    row, other = await copy(NIGHTLY), await copy(NIGHTLY)
    begin = beginnings.begin

    async def refuse(connection: Connection, run_id: UUID, integration: Any, *args: Any, **more: Any) -> UUID:
        if integration["id"] == row["id"]:
            raise Problem(Code.LICENSE_INACTIVE, status=409, detail="none")
        return await begin(connection, run_id, integration, *args, **more)

    with monkeypatch.context() as unlicensed:
        unlicensed.setattr(beginnings, "begin", refuse)
        for night in range(4):
            await begin_due(database, FIRST + night * DAY)
            await end_runs(database)
    assert await list_outcomes(database, row["id"]) == [("left_out", "LICENSE_INACTIVE", 4)]
    assert await _count_runs(database, other["id"]) == 4

    await database.transact(lambda connection: slots.wake_up(connection, row["organization"]))
    woken = await read_integration(database, row["id"])
    assert woken["next_slot_at"] == FIRST + 4 * DAY
    await begin_due(database, woken["next_slot_at"])
    assert (await list_outcomes(database, row["id"]))[1][:2] == ("started", "SLOT_MISSED")
    assert (await read_integration(database, row["id"]))["slots_owed"] == 0


async def test_a_pause(client: httpx2.AsyncClient, database: Database, copy: Copy) -> None:
    """A pause with an end leaves out slots and ends by itself with one run for all of them (C10)."""
    row = await copy(NIGHTLY)
    far = "2199-01-01T00:00:00Z"
    await client.post(f"/v1/integrations/{row['id']}/pause", json={"until": far, "reason": "Summer"})
    for night in range(3):
        await begin_due(database, FIRST + night * DAY)
    assert await list_outcomes(database, row["id"]) == [("left_out", "INTEGRATION_PAUSED", 3)]
    assert await _count_runs(database, row["id"]) == 0
    end = FIRST + 2 * DAY + 5 * HOUR
    await database.fetch("UPDATE integration SET paused_until = $2 WHERE id = $1", row["id"], end)
    await database.fetch("UPDATE integration SET next_slot_at = $2 WHERE id = $1", row["id"], end)
    await begin_due(database, end)

    assert (await list_outcomes(database, row["id"]))[1] == ("started", "SLOT_MISSED", 3)
    assert (await read_integration(database, row["id"]))["next_slot_at"] == FIRST + 3 * DAY


async def test_resuming(client: httpx2.AsyncClient, database: Database, copy: Copy) -> None:
    """Who resumes an integration that missed slots gets a sync at once; one that missed none waits for its slot."""
    missed, fresh = await copy(NIGHTLY), await copy(NIGHTLY)
    for row in (missed, fresh):
        await client.post(f"/v1/integrations/{row['id']}/pause")
    await database.fetch("UPDATE integration SET next_slot_at = now() + interval '1 hour' WHERE id = $1", fresh["id"])
    await begin_due(database, FIRST)
    await database.fetch("UPDATE integration SET next_slot_at = now() + interval '1 hour' WHERE id = $1", missed["id"])
    for row in (missed, fresh):
        answer = await client.post(f"/v1/integrations/{row['id']}/resume")
        assert answer.json()["paused"] is None
    await begin_due(database, datetime.now(UTC))

    assert (await list_outcomes(database, missed["id"]))[-1][:2] == ("started", "SLOT_MISSED")
    assert await list_outcomes(database, fresh["id"]) == []


async def test_one_bad_row_keeps_nobody_back(database: Database, copy: Copy) -> None:
    """An integration whose zone went out of use is told of and put aside; the others of the round get their runs."""
    bad, good = await copy(NIGHTLY), await copy(NIGHTLY)
    await database.fetch("UPDATE integration SET time_zone = 'Middle/Earth' WHERE id = $1", bad["id"])
    await begin_due(database, FIRST)

    assert await list_outcomes(database, bad["id"]) == [("left_out", "ZONE_UNKNOWN", 1)]
    assert await list_outcomes(database, good["id"]) == [("started", None, 1)]
    assert await begin_due(database, FIRST + DAY) == 1


async def test_a_clock_that_goes_back(database: Database, copy: Copy) -> None:
    """A slot that was used is not used again when clocks and tables are set back."""
    row = await copy(NIGHTLY)
    await begin_due(database, FIRST)
    await end_runs(database)
    await database.fetch("UPDATE integration SET next_slot_at = $2 WHERE id = $1", row["id"], FIRST)
    await begin_due(database, FIRST)

    assert await _count_runs(database, row["id"]) == 1
    assert (await read_integration(database, row["id"]))["next_slot_at"] == FIRST + DAY


async def test_deletion(client: httpx2.AsyncClient, database: Database, copy: Copy) -> None:
    """A deleted integration has no slots any more; what became of the old ones can be read (C8)."""
    row = await copy(NIGHTLY)
    await begin_due(database, FIRST)
    await client.delete(f"/v1/integrations/{row['id']}")

    assert await begin_due(database, FIRST + 2 * DAY) == 0
    shown = (await client.get(f"/v1/integrations/{row['id']}")).json()
    assert (shown["next_slot_at"], shown["next_runs"]) == (None, [])
    assert len((await client.get(f"/v1/integrations/{row['id']}/slots")).json()["items"]) == 1


async def test_an_edit_is_synced_soon(client: httpx2.AsyncClient, database: Database, copy: Copy) -> None:
    """Edited settings are synced minutes after the last edit, not at the next slot, and only once (C7)."""
    row = await copy({"kind": "weekly", "weekdays": ["monday"], "times": ["03:00"]})
    path = f"/v1/integrations/{row['id']}"
    await database.fetch("UPDATE integration SET last_success_at = now(), needs_sync = false WHERE id = $1", row["id"])
    regular = datetime.now(UTC) + 3 * DAY
    await database.fetch("UPDATE integration SET next_slot_at = $2 WHERE id = $1", row["id"], regular)
    await client.patch(path, json={"name": "Renamed", "additions_only": True})
    assert (await read_integration(database, row["id"]))["next_slot_at"] == regular

    edited = (await client.patch(path, json={"options": {"sync_parents": True}})).json()
    soon = datetime.fromisoformat(edited["next_slot_at"])
    assert timedelta() < soon - datetime.now(UTC) <= slots.SETTLE
    assert (edited["next_runs"][0]["why"], edited["next_runs"][1]["why"]) == ("edit", "schedule")
    again = (await client.patch(path, json={"options": {"sync_parents": False}})).json()
    assert datetime.fromisoformat(again["next_slot_at"]) > soon
    later = datetime.fromisoformat(again["next_slot_at"])
    await begin_due(database, later)
    await end_runs(database)
    await begin_due(database, later + 6 * MINUTE)

    assert await list_outcomes(database, row["id"]) == [("started", None, 0)]


def test_decisions() -> None:
    """What a round does about a moment follows from what came, what is owed, and whether now is a time to start."""
    now = datetime(2026, 3, 3, 8, 0, 30, tzinfo=UTC)
    slot, old, opening = now - MINUTE, now - HOUR, now + HOUR

    def ask(
        count: int, newest: datetime | None, *, owed: int = 0, closed: bool = False, needs_sync: bool = False
    ) -> Any:
        due = Due(
            moment=old,
            count=count,
            newest=newest,
            owed=owed,
            needs_sync=needs_sync,
            opening=opening if closed else now,
        )
        return decide(due, now)

    assert ask(1, slot) == Start(slot, 1)
    assert ask(1, slot, closed=True) == Start(slot, 1)
    assert ask(1, old) == Start(old, 1, Code.SLOT_MISSED)
    assert ask(3, slot, owed=2, closed=True) == Start(slot, 5, Code.SLOT_MISSED)
    assert ask(1, old, closed=True) == Wait(opening)
    assert ask(0, None, owed=4) == Start(old, 4, Code.SLOT_MISSED)
    assert ask(0, None, owed=4, closed=True) == Wait(opening)
    assert ask(0, None, needs_sync=True) == Start(old, 0)
    assert ask(0, None, needs_sync=True, closed=True) == Wait(opening)
    assert ask(0, None) is None


async def test_old_lines_are_forgotten(database: Database, copy: Copy) -> None:
    """What became of slots is kept for so long and no longer."""
    await copy(NIGHTLY)
    await begin_due(database, FIRST)
    kept = datetime.now(UTC) - FIRST
    assert await database.transact(lambda connection: slots.look_after(connection, kept + DAY, 10)) == 0
    assert await database.transact(lambda connection: slots.look_after(connection, kept - DAY, 10)) == 1
