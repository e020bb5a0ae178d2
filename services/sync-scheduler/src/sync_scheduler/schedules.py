"""When an integration's syncs are due, decided without input or output (C1).

A schedule *plans* moments: by local clocks (nightly, weekly, cron), or every 24 hours of real time. Each is the
beginning of a window, and the slot stands in it at the integration's own place, the same one every time, so that
thousands of districts with one schedule are spread over it. Two things push slots about:

* **Blackout days** and **school hours** are cut out of the window, and the place is taken in what is left. With the
  window wholly on blackout days there is no slot.
* A window that begins in school hours begins at their end instead.

Slots keep the order of their windows, so none is lost or doubled where windows overlap; two that fall together are one.
What local times mean when clocks change is said in `calendars.py`; a day that was left out at the date line has no
slots. A cron expression whose minutes or hours begin with `*` counts real time, as cron does: it has no slot for times
that are left out, and two for times that come twice.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import Literal, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from sync_scheduler.calendars import find_last_moment, find_moment, has_day, shows

Kind = Literal["manual", "every_24_hours", "nightly", "weekly", "twice_weekly", "cron"]
PRESET_ZONES = {"us": "America/Chicago", "nz": "America/Chicago", "au": "Australia/Perth", "uk": "UTC"}
"""Whose clocks `twice_weekly` goes by, for the regions."""
PRESET_WEEKDAYS = frozenset({1, 4})
PRESET_TIME = time(18)
"""Tuesdays and Fridays, at the end of the working day."""

HORIZON = timedelta(days=9 * 366)
"""How far ahead a slot is looked for: a 29th of February can be eight years away."""
FIRST_WITHIN = timedelta(days=5 * 366)
"""A schedule with nothing due so long is a mistake."""
PROBE = timedelta(days=366)
PROBES = 1000
"""How much of a schedule is looked at to see whether school hours leave it room."""

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_REACH = timedelta(hours=25)
"""Further than clocks are ever put forward or back."""


class Reason(StrEnum):
    """Why a run is due when it is: because its slot stands there, or for another reason than a slot."""

    SCHEDULE = "schedule"
    CLOCK_CHANGE = "clock_change"
    SCHOOL_HOURS = "school_hours"
    BLACKOUT = "blackout"
    EDIT = "edit"
    CATCH_UP = "catch_up"


class Block(NamedTuple):
    """A time in which nothing starts; the end is outside."""

    begin: datetime
    end: datetime


class Blackout(NamedTuple):
    """Days without slots, the last one included."""

    first: date
    last: date


@dataclass(frozen=True, slots=True)
class SchoolHours:
    """When no sync starts: on these weekdays (Monday is 0), from `begin` until just before `end`."""

    begin: time
    end: time
    weekdays: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When syncs are due; local times are those of the zone it is asked about with."""

    kind: Kind = "manual"
    since: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    """When it was set: `every_24_hours` counts from the first `at` after it, or from itself."""
    place: float = 0.0
    """The integration's place in the window: 0 for its beginning, always below 1."""
    region: str = "us"
    at: time | None = None
    weekdays: frozenset[int] = frozenset()
    times: tuple[time, ...] = ()
    expression: str = ""
    window: timedelta = timedelta()
    blackout: tuple[Blackout, ...] = ()
    school_hours: SchoolHours | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """A moment at which a sync is due."""

    at: datetime
    """In UTC, on a whole second."""
    planned: datetime
    """Where its window begins."""
    reason: Reason = Reason.SCHEDULE


def find_place(integration: UUID) -> float:
    """An integration's place in windows: the same at any time and on any machine."""
    return int.from_bytes(sha256(integration.bytes).digest()[:6]) / 2**48


def next_slots(schedule: Schedule, zone: str, after: datetime, count: int) -> list[Slot]:
    """The first slots later than `after`; fewer where there are no more within nine years."""
    return list(itertools.islice(_walk(schedule, ZoneInfo(zone), after, after + HORIZON), count))


def list_slots(schedule: Schedule, zone: str, start: datetime, end: datetime) -> Iterator[Slot]:
    """The slots from `start` to `end`, both included, in order."""
    return _walk(schedule, ZoneInfo(zone), start - timedelta(microseconds=1), end)


def find_opening(schedule: Schedule, zone: str, moment: datetime) -> datetime:
    """The first moment from this one on that is neither in school hours nor on a blackout day."""
    place = ZoneInfo(zone)
    while end := _find_end(
        [*_list_school(schedule.school_hours, place, moment, moment), *_list_blackouts(schedule.blackout, place)],
        moment,
    ):
        moment = end
    return moment


def object_to(schedule: Schedule, zone: str, now: datetime) -> str | None:
    """A sentence that says why a schedule would never come due, if so."""
    if schedule.kind == "manual":
        return None
    place = ZoneInfo(zone)
    planned = list(itertools.islice(_list_planned(schedule, place, now), PROBES))
    if not planned or planned[0].at > now + FIRST_WITHIN:
        return f"The expression {schedule.expression} names a date that does not come within five years."
    if schedule.school_hours:
        near = [one.at for one in planned if one.at < now + PROBE] or [planned[0].at]
        if all(_is_taught(schedule, place, at) for at in near):
            return (
                f"Every window lies in school hours ({_tell_hours(schedule.school_hours)}), which leave it no room. "
                "Choose another time, a longer window, or other school hours."
            )
    if not any(True for _ in _walk(schedule, place, now, now + FIRST_WITHIN)):
        return "The blackout dates leave no slot within five years. Choose fewer of them, or the schedule manual."
    return None


def find_day_minutes(expression: str) -> list[int]:
    """The minutes of a day at which a cron expression is due on its days. Raises ValueError for what is none."""
    fields = expression.split()
    if len(fields) != 5:  # noqa: PLR2004 - minute, hour, day of month, month, weekday
        raise ValueError("a cron expression has five fields: minute, hour, day of month, month and weekday")
    try:
        parsed = CronSim(" ".join((*fields[:2], "*", "*", "*")), datetime(2026, 1, 1))  # noqa: DTZ001 - a local time
        # Each by itself: together they may name a date that does not exist, which is another mistake.
        for place in (2, 3, 4):
            CronSim(" ".join(field if at in (0, 1, place) else "*" for at, field in enumerate(fields)), parsed.dt)
    except CronSimError as error:
        raise ValueError(f"this is no cron expression ({str(error).lower()})") from None
    return sorted(60 * hour + minute for hour in parsed.hours for minute in parsed.minutes)


# ── planned moments ───────────────────────────────────────────────────────────────────────────────────────────────


class _Planned(NamedTuple):
    at: datetime
    moved: bool = False
    """Whether clocks were put forward over its time."""


def _list_planned(schedule: Schedule, zone: ZoneInfo, start: datetime) -> Iterator[_Planned]:
    """Where windows begin, from `start` on, in order and without end."""
    match schedule.kind:
        case "manual":
            return iter(())
        case "every_24_hours":
            found = _count_days(schedule, zone, start)
        case "nightly":
            found = _read_clocks(_list_days(range(7), (schedule.at or time(),), zone, start), zone)
        case "weekly":
            found = _read_clocks(_list_days(schedule.weekdays, schedule.times, zone, start), zone)
        case "twice_weekly":
            zone = ZoneInfo(PRESET_ZONES[schedule.region])
            found = _read_clocks(_list_days(PRESET_WEEKDAYS, (PRESET_TIME,), zone, start), zone)
        case "cron":
            found = _read_cron(schedule.expression, zone, start)
    return (one for one in found if one.at >= start)


def _count_days(schedule: Schedule, zone: ZoneInfo, start: datetime) -> Iterator[_Planned]:
    anchor = schedule.since.replace(microsecond=0)
    if schedule.at is not None:
        daily = _read_clocks(_list_days(range(7), (schedule.at,), zone, anchor), zone)
        anchor = next(one.at for one in daily if one.at > schedule.since)
    for number in itertools.count(max(0, math.ceil((start - anchor) / _DAY))):
        yield _Planned(anchor + number * _DAY)


def _list_days(weekdays: Collection[int], times: Iterable[time], zone: ZoneInfo, start: datetime) -> Iterator[datetime]:
    """Local times on weekdays, from a little before `start`."""
    first = (start - _REACH).astimezone(zone).date()
    for number in itertools.count():
        day = first + number * _DAY
        if day.weekday() in weekdays:
            for at in sorted(times):
                yield datetime.combine(day, at)


def _read_clocks(locals_: Iterator[datetime], zone: ZoneInfo) -> Iterator[_Planned]:
    """The moments of local times, each day's as far as there is such a day."""
    for local in locals_:
        at = find_moment(local, zone)
        moved = not shows(at, local, zone)
        if not moved or has_day(local.date(), zone):
            yield _Planned(at, moved)


def _read_cron(expression: str, zone: ZoneInfo, start: datetime) -> Iterator[_Planned]:
    local = (start - _REACH).astimezone(zone).replace(tzinfo=None)
    try:
        due = CronSim(expression, local)
    except CronSimError:  # a date that does not exist
        return iter(())
    minutes, hours = expression.split()[:2]
    if minutes.startswith("*") or hours.startswith("*"):
        return _repeat(due, zone)
    return _read_clocks(due, zone)


def _repeat(due: Iterator[datetime], zone: ZoneInfo) -> Iterator[_Planned]:
    """Every moment at which clocks show one of these local times: none or two where they are changed."""
    again: deque[datetime] = deque()
    for local in due:
        at, last = find_moment(local, zone), find_last_moment(local, zone)
        while again and again[0] <= at:
            yield _Planned(again.popleft())
        if shows(at, local, zone):
            yield _Planned(at)
        if last != at:
            again.append(last)
    yield from map(_Planned, again)


# ── slots in their windows ────────────────────────────────────────────────────────────────────────────────────────


def _walk(schedule: Schedule, zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[Slot]:
    """Slots later than `after` and not later than `until`, in order."""
    # What is planned so much earlier may have its slot in time: moved to the end of school, then spread.
    moved = _DAY if schedule.school_hours else timedelta()
    start: datetime | None = after - schedule.window - moved
    last = after
    while start is not None:
        begin, start = start, None
        for planned in _list_planned(schedule, zone, begin):
            if planned.at > until:
                break
            slot = _place(schedule, zone, planned)
            if not isinstance(slot, Slot):
                # Blacked out until then: what is planned before need not be looked at one by one.
                start = max(slot - schedule.window - moved, planned.at + _SECOND)
                break
            if slot.at > until:
                break
            if slot.at > last:
                last = slot.at
                yield slot


def _place(schedule: Schedule, zone: ZoneInfo, planned: _Planned) -> Slot | datetime:
    """A window's slot, or the end of the blackout it lies in."""
    usual = planned.at + _take(schedule.window, schedule.place)
    reason = Reason.CLOCK_CHANGE if planned.moved else Reason.SCHEDULE
    if not schedule.blackout and not schedule.school_hours:
        return Slot(usual, planned.at, reason)
    begin = _find_end(_list_school(schedule.school_hours, zone, planned.at, planned.at), planned.at) or planned.at
    end = begin + schedule.window
    school = _list_school(schedule.school_hours, zone, begin, end)
    blackout = [block for block in _list_blackouts(schedule.blackout, zone) if block.begin <= end]
    at = _find_place(begin, end, [*school, *blackout], schedule.place)
    if at is None:
        closed = _find_end(blackout, begin)
        assert closed is not None  # noqa: S101 - school hours leave what begins outside of them some room
        return closed
    if at != usual:
        reason = Reason.SCHOOL_HOURS if begin != planned.at or school else Reason.BLACKOUT
    return Slot(at, planned.at, reason)


def _find_place(begin: datetime, end: datetime, blocks: Iterable[Block], place: float) -> datetime | None:
    """The moment at that share of what blocks leave of a window; None if they leave nothing."""
    free = []
    at = begin
    for block in sorted(block for block in blocks if begin < block.end):
        if at < block.begin:
            free.append(Block(at, min(block.begin, end)))
        at = max(at, block.end)
        if at >= end:
            break
    if at < end or at == begin:
        free.append(Block(at, max(at, end)))
    if not free:
        return None
    rest = _take(sum((one.end - one.begin for one in free), timedelta()), place)
    for one in free:
        if rest < one.end - one.begin:
            return one.begin + rest
        rest -= one.end - one.begin
    return free[-1].begin  # a window without length


def _take(length: timedelta, share: float) -> timedelta:
    return timedelta(seconds=int(length.total_seconds() * share))


def _find_end(blocks: Iterable[Block], moment: datetime) -> datetime | None:
    """The end of the block a moment lies in."""
    return next((block.end for block in blocks if block.begin <= moment < block.end), None)


def _list_school(hours: SchoolHours | None, zone: ZoneInfo, start: datetime, end: datetime) -> list[Block]:
    """School hours of the days around a time, as far as they overlap it."""
    if hours is None:
        return []
    first, last = start.astimezone(zone).date() - _DAY, end.astimezone(zone).date() + _DAY
    days = (first + number * _DAY for number in range((last - first).days + 1))
    found = [
        _close(datetime.combine(day, hours.begin), datetime.combine(day, hours.end), zone)
        for day in days
        if day.weekday() in hours.weekdays
    ]
    return [block for block in found if block.begin <= end and start < block.end]


@lru_cache(maxsize=4096)
def _list_blackouts(blackout: tuple[Blackout, ...], zone: ZoneInfo) -> tuple[Block, ...]:
    """Blackout days as times, in order, those that touch as one."""
    merged: list[Block] = []
    for first, last in sorted(blackout):
        block = _close(datetime.combine(first, time()), datetime.combine(last + _DAY, time()), zone)
        if merged and block.begin <= merged[-1].end:
            merged[-1] = Block(merged[-1].begin, max(merged[-1].end, block.end))
        else:
            merged.append(block)
    return tuple(merged)


def _close(begin: datetime, end: datetime, zone: ZoneInfo) -> Block:
    """All of a stretch of local time, also where it comes twice."""
    return Block(find_moment(begin, zone), find_last_moment(end, zone))


def _is_taught(schedule: Schedule, zone: ZoneInfo, at: datetime) -> bool:
    """Whether the window that begins here lies in school hours from its beginning to its end."""
    end = _find_end(_list_school(schedule.school_hours, zone, at, at), at)
    return end is not None and at + schedule.window <= end


def _tell_hours(hours: SchoolHours) -> str:
    return f"{hours.begin:%H:%M} to {hours.end:%H:%M}"
