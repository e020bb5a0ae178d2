"""Slots: each moment of a schedule becomes one run, or a line that says why not (C1, C8, C10).

`next_slot_at` of an integration is the earliest moment nobody has dealt with. A round takes integrations whose moment
came, locked so that other replicas pass them by, begins the run, and moves the moment on, all in one transaction.
Should two ever try the same slot, the unique index `run_slot` lets one through.

* Slots that were missed, because the scheduler was away or the integration could not start, collapse into one run.
  Unlike a slot, which stands where it is allowed to, that run waits for the end of school hours and blackout days.
* A slot that finds a sync under way is skipped. One that finds an evaluation, a refresh or a restore waits for its end.
* What keeps an integration from starting (a pause, no license) is recorded once for as long as it lasts, with the
  number of slots it cost. When it is over, one run makes up for them.
* Edited settings are synced a few minutes after the last edit instead of at the next slot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg

from homeroom.codes import Code
from homeroom.db import Connection
from homeroom.ids import new_id
from homeroom.problems import Problem
from homeroom.telemetry import get_logger
from sync_scheduler import beginnings, ledger
from sync_scheduler.beginnings import Terms, Wish
from sync_scheduler.ledger import SQL
from sync_scheduler.pauses import is_paused
from sync_scheduler.schedule_bodies import read_schedule
from sync_scheduler.schedules import Reason, Schedule, Slot, find_opening, list_slots, next_slots

log = get_logger(__name__)

CREATED_BY = "schedule"
GRACE = timedelta(minutes=5)
"""A slot that starts later than this was missed."""
SETTLE = timedelta(minutes=5)
"""How long edited settings rest before they are synced, so that nobody syncs half an edit."""
AGAIN = timedelta(minutes=1)
"""How soon to look again where something short stands in the way."""

Why = Literal["schedule", "edit", "catch-up"]
"""What makes an integration's next moment one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """An integration whose moment came."""

    moment: datetime
    count: int
    """Slots of the schedule that came since the last round."""
    newest: datetime | None
    """The last of them."""
    owed: int
    """Slots from before that are still to be made up for."""
    needs_sync: bool
    opening: datetime
    """The first moment from now on outside of school hours and blackout days."""


class Start(NamedTuple):
    """Begin a run."""

    slot: datetime
    slots: int
    """How many it is for: more than one were missed, none where settings were edited."""
    code: Code | None = None


class Wait(NamedTuple):
    """Not now."""

    until: datetime


def decide(due: Due, now: datetime) -> Start | Wait | None:
    """What a round does about an integration; None for nothing."""
    total = due.owed + due.count
    on_time = due.newest is not None and now - due.newest <= GRACE
    if not total and not due.needs_sync:
        return None  # somebody synced the edited settings meanwhile
    if not on_time and due.opening > now:
        return Wait(due.opening)
    missed = total > 1 or (total == 1 and not on_time)
    return Start(due.newest or due.moment, total, Code.SLOT_MISSED if missed else None)


# ── the worker's rounds ───────────────────────────────────────────────────────────────────────────────────────────


async def begin_due(connection: Connection, limit: int, terms: Terms, now: datetime | None = None) -> int:
    """Give integrations whose moment came their run; returns how many there were. `now` is the database's by default.

    A problem of one of them is written down and keeps nobody else back.
    """
    now = now or await ledger.read_time(connection)
    rows = await connection.fetch(SQL["due_slots"], now, limit)
    for row in rows:
        try:
            schedule = read_schedule(row)
            came = list(list_slots(schedule, row["time_zone"], row["next_slot_at"], now))
            following = find_next(schedule, row["time_zone"], now)
        except (KeyError, ValueError):  # a zone or a kind that newer data, or older code, does not know
            log.exception("slots.unreadable", integration_id=str(row["id"]))
            await _record(connection, row, row["next_slot_at"], "left_out", Code.ZONE_UNKNOWN, 1, None, now)
            await _move_on(connection, row, None)
            continue
        due = Due(
            moment=row["next_slot_at"],
            count=len(came),
            newest=came[-1].at if came else None,
            owed=row["slots_owed"],
            needs_sync=row["needs_sync"],
            opening=find_opening(schedule, row["time_zone"], now),
        )
        await _Round(connection, row, now, terms, following).carry_out(due, decide(due, now))
    return len(rows)


async def look_after(connection: Connection, keep: timedelta, limit: int) -> int:
    """Forget what became of slots long ago; returns of how many."""
    deleted = await connection.execute(SQL["forget_slots"], keep, limit)
    return int(deleted.split()[-1])


async def wake_up(connection: Connection, organization: UUID) -> int:
    """Let an organization with a license again make up for what it missed; returns how many integrations will."""
    await connection.execute(SQL["wake_uploads"], organization)
    woken = await connection.execute(SQL["wake_slots"], organization, Code.LICENSE_INACTIVE.value)
    await connection.execute(SQL["wake"])
    return int(woken.split()[-1])


@dataclass(frozen=True, slots=True)
class _Round:
    """One integration's turn, its row locked."""

    connection: Connection
    row: asyncpg.Record
    now: datetime
    terms: Terms
    following: datetime | None
    """The schedule's next slot."""

    async def carry_out(self, due: Due, decision: Start | Wait | None) -> None:
        match decision:
            case Start() if self.row["last_slot"] is None or decision.slot > self.row["last_slot"]:
                await self._begin(due, decision)
            case Wait():
                await self._wait(decision.until, due.owed + due.count)
            case _:  # nothing to do, or a clock that went back: this slot was used
                await _move_on(self.connection, self.row, self.following)

    async def _begin(self, due: Due, start: Start) -> None:
        run_id = new_id()
        wish = Wish(occasion=_tell_occasion(self.row, start), created_by=CREATED_BY, slot=start.slot)
        try:
            begun = await beginnings.begin(self.connection, run_id, self.row, wish, terms=self.terms)
        except Problem as problem:
            await self._leave_out(due, start, problem.code)
            return
        if begun == run_id:
            await self._record(start.slot, "started", start.code, start.slots, run_id)
            await _move_on(self.connection, self.row, self.following)
        elif start.slots == 0 or await self.connection.fetchval(SQL["kind_of_run"], begun) != "sync":
            await self._wait(self.now + AGAIN, start.slots)
        else:
            await self._record(start.slot, "skipped", Code.SLOT_SKIPPED, start.slots, begun)
            await _move_on(self.connection, self.row, self.following)

    async def _leave_out(self, due: Due, start: Start, code: Code) -> None:
        """Once for as long as it lasts: further slots are added to the same line."""
        more = due.count if self.row["slots_owed_code"] == code else max(1, due.count)
        longer = self.row["slots_owed_code"] == code and await self.connection.fetchval(
            SQL["extend_slot"], self.row["id"], code.value, start.slot, more, self.now
        )
        if not longer:
            await self._record(start.slot, "left_out", code, more, None)
        moments = [self.following]
        if code is Code.INTEGRATION_PAUSED:
            moments.append(self.row["paused_until"])
        await _move_on(self.connection, self.row, _find_earliest(moments), "catch-up", max(1, start.slots), code)

    async def _wait(self, until: datetime, owed: int) -> None:
        why: Why = "catch-up" if owed else "edit"
        await _move_on(self.connection, self.row, _find_earliest([until, self.following]), why, owed)

    async def _record(self, slot: datetime, outcome: str, code: Code | None, slots: int, run: UUID | None) -> None:
        await _record(self.connection, self.row, slot, outcome, code, slots, run, self.now)


async def _record(
    connection: Connection,
    row: asyncpg.Record,
    slot: datetime,
    outcome: str,
    code: Code | None,
    slots: int,
    run: UUID | None,
    now: datetime,
) -> None:
    await connection.execute(SQL["add_slot"], row["id"], slot, outcome, code.value if code else None, slots, run, now)


async def _move_on(
    connection: Connection,
    row: asyncpg.Record,
    moment: datetime | None,
    why: Why = "schedule",
    owed: int = 0,
    code: Code | None = None,
) -> None:
    await connection.execute(SQL["set_next_slot"], row["id"], moment, why, owed, code.value if code else None)


def _tell_occasion(row: asyncpg.Record, start: Start) -> str:
    zone = row["time_zone"]
    at = f"{start.slot.astimezone(ZoneInfo(zone)):%A, %Y-%m-%d %H:%M} ({zone})"
    if not start.slots:
        return "The settings were edited."
    if not start.code:
        return f"Its scheduled time came: {at}."
    if start.slots == 1:
        return f"A scheduled sync was missed; this one makes up for it. It was due on {at}."
    return f"{start.slots:,} scheduled syncs were missed; this one makes up for them. The last was due on {at}."


# ── what is ahead ─────────────────────────────────────────────────────────────────────────────────────────────────


class Coming(NamedTuple):
    """A run that is ahead."""

    at: datetime
    why: Reason


def find_next(schedule: Schedule, zone: str, after: datetime) -> datetime | None:
    """The schedule's first slot later than a moment."""
    return next((slot.at for slot in next_slots(schedule, zone, after, 1)), None)


def plan_anew(row: asyncpg.Record, now: datetime) -> tuple[datetime | None, Why]:
    """The next moment of an integration whose schedule or zone was changed; what it is owed is not forgotten."""
    schedule = read_schedule(row)
    following = find_next(schedule, row["time_zone"], now)
    if following is None or not row["slots_owed"] or row["slots_owed_code"]:
        return following, "catch-up" if following and row["slots_owed"] else "schedule"
    return min(following, find_opening(schedule, row["time_zone"], now)), "catch-up"


def bring_forward(row: asyncpg.Record, now: datetime) -> tuple[datetime | None, Why]:
    """The next moment of an integration whose settings were edited (C7).

    Soon, if it is scheduled and was synced before: somebody who edits sees what comes of it the same day.
    """
    moment, why = row["next_slot_at"], row["next_slot_why"]
    if moment is None or row["last_success_at"] is None or why == "catch-up":
        return moment, why
    schedule = read_schedule(row)
    soon = find_opening(schedule, row["time_zone"], now + SETTLE)
    if why == "edit":  # edited again: let it rest again
        moment = find_next(schedule, row["time_zone"], now)
    return (soon, "edit") if moment is None or soon < moment else (moment, "schedule")


def list_coming(row: asyncpg.Record, now: datetime, count: int) -> list[Coming]:
    """The next runs of an integration, as far as anybody can know."""
    moment: datetime | None = row["next_slot_at"]
    if moment is None or row["state"] != "active":
        return []
    schedule, zone = read_schedule(row), row["time_zone"]
    late = row["next_slot_why"] != "schedule"
    if is_paused(row, now):
        if row["paused_until"] is None:
            return []
        late = late or moment <= row["paused_until"]
        moment = max(moment, row["paused_until"])
    if not late:
        return _show(next_slots(schedule, zone, moment - timedelta(microseconds=1), count))
    why = Reason.EDIT if row["next_slot_why"] == "edit" and moment == row["next_slot_at"] else Reason.CATCH_UP
    moment = find_opening(schedule, zone, moment)
    return [Coming(moment, why), *_show(next_slots(schedule, zone, moment, count - 1))]


def _show(slots: Iterable[Slot]) -> list[Coming]:
    return [Coming(slot.at, slot.reason) for slot in slots]


def _find_earliest(moments: Iterable[datetime | None]) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)
