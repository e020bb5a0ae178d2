"""Schedules against references that work another way: every zone, three years, every minute where clocks change."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import pytest

from sync_scheduler.calendars import is_zone
from sync_scheduler.schedules import (
    PRESET_ZONES,
    Blackout,
    Reason,
    Schedule,
    SchoolHours,
    find_day_minutes,
    find_opening,
    find_place,
    list_slots,
    next_slots,
    object_to,
)

START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
DATE_LINE = datetime(2010, 6, 1, tzinfo=UTC), datetime(2012, 6, 1, tzinfo=UTC)
"""Samoa and Tokelau left out a day in it."""
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
SCHOOL = SchoolHours(time(8), time(15), frozenset(range(5)))
ODD_ZONES = ("America/Nuuk", "Africa/Cairo", "Australia/Lord_Howe", "Africa/Casablanca", "Antarctica/Troll")
"""Clocks put forward over midnight and at it, by half an hour, in the midst of Ramadan, by two hours."""


class Stretch(NamedTuple):
    """A time with one distance from UTC."""

    begin: datetime
    end: datetime
    offset: timedelta


@cache
def _list_stretches(zone: str, start: datetime, end: datetime) -> tuple[Stretch, ...]:
    """What a zone's clocks do, found by looking at them often."""
    info, step = ZoneInfo(zone), DAY

    def look(moment: datetime) -> timedelta:
        offset = moment.astimezone(info).utcoffset()
        assert offset is not None
        return offset

    begin, stop = start - 3 * DAY, end + 3 * DAY
    found, since, at, offset = [], begin, begin, look(begin)
    while at < stop:
        following = at + step
        if (other := look(following)) != offset:
            low, high = at, following
            while high - low > timedelta(seconds=1):
                middle = (low + (high - low) / 2).replace(microsecond=0)
                low, high = (low, middle) if look(middle) != offset else (middle, high)
            found.append(Stretch(since, high, offset))
            since, offset = high, other
        at = following
    return (*found, Stretch(since, stop, offset))


def _find_first(stretches: tuple[Stretch, ...], local: datetime) -> datetime:
    """The first moment at which the clock shows this or later."""
    wanted = local.replace(tzinfo=UTC)
    return next(max(one.begin, wanted - one.offset) for one in stretches if wanted - one.offset < one.end)


def _happened(stretches: tuple[Stretch, ...], day: date) -> bool:
    begin = datetime.combine(day, time(), UTC)
    return any(one.begin + one.offset < begin + DAY and begin < one.end + one.offset for one in stretches)


def _expect(
    zone: str, start: datetime, end: datetime, times: list[time], due: Callable[[date], bool] = lambda _: True
) -> list[datetime]:
    """The slots of local times on days, without a window."""
    stretches = _list_stretches(zone, start, end)
    days = [start.date() + number * DAY for number in range(-2, (end - start).days + 2)]
    happened = [day for day in days if due(day) and _happened(stretches, day)]
    found = {_find_first(stretches, datetime.combine(day, at)) for day in happened for at in times}
    return sorted(moment for moment in found if start <= moment <= end)


def _list(schedule: Schedule, zone: str, start: datetime = START, end: datetime = END) -> list[datetime]:
    return [slot.at for slot in list_slots(schedule, zone, start, end)]


@cache
def _choose_zones(start: datetime, end: datetime) -> tuple[str, ...]:
    """One zone for each way clocks go: all others go as one of them does."""
    different = {_list_stretches(zone, start, end): zone for zone in sorted(available_timezones()) if is_zone(zone)}
    return tuple(different.values())


def test_every_zone_is_covered() -> None:
    """The zones that are looked at closely go through every change of clocks of every IANA zone in the three years."""
    chosen = {_list_stretches(zone, START, END) for zone in _choose_zones(START, END)}
    every = [zone for zone in available_timezones() if is_zone(zone)]

    assert len(every) > 590
    assert all(_list_stretches(zone, START, END) in chosen for zone in every)
    assert len(chosen) > 60


@pytest.mark.parametrize("at", ["00:00", "02:30", "23:45"])
def test_nightly(at: str) -> None:
    """In every zone, three years of nights have one slot each, at the local time, none missed and none doubled."""
    clock = time.fromisoformat(at)
    for zone in _choose_zones(START, END):
        slots = _list(Schedule(kind="nightly", at=clock), zone)
        assert slots == _expect(zone, START, END, [clock]), zone
        assert len(slots) in (1096, 1097), zone
        right = [one for one in slots if one.astimezone(ZoneInfo(zone)).time() == clock]
        assert len(slots) - len(right) <= 6, zone  # where clocks were put forward over it


def test_days_that_were_left_out() -> None:
    """Samoa and Tokelau left out a day: it has no slot, and the days around it have one each."""
    for zone in ("Pacific/Apia", "Pacific/Fakaofo", *ODD_ZONES):
        slots = _list(Schedule(kind="nightly", at=time(2)), zone, *DATE_LINE)
        assert slots == _expect(zone, *DATE_LINE, [time(2)]), zone
    days = {
        slot.astimezone(ZoneInfo("Pacific/Apia")).date()
        for slot in _list(Schedule(kind="nightly"), "Pacific/Apia", *DATE_LINE)
    }
    assert date(2011, 12, 30) not in days
    assert {date(2011, 12, 29), date(2011, 12, 31)} < days


def test_weekly() -> None:
    """In every zone, chosen weekdays and times come to exactly their slots."""
    schedule = Schedule(kind="weekly", weekdays=frozenset({1, 5, 6}), times=(time(18), time(2, 15), time(0, 30)))
    for zone in _choose_zones(START, END):
        expected = _expect(zone, START, END, list(schedule.times), lambda day: day.weekday() in schedule.weekdays)
        assert _list(schedule, zone) == expected, zone


@pytest.mark.parametrize(("region", "zone"), PRESET_ZONES.items())
def test_twice_weekly(region: str, zone: str) -> None:
    """The regional preset is Tuesday and Friday from 18:00 by the region's clocks, wherever the district is (C1)."""
    schedule = Schedule(kind="twice_weekly", region=region, window=DAY, place=0.375)
    expected = _expect(zone, START, END, [time(18)], lambda day: day.weekday() in (1, 4))
    shifted = [moment + timedelta(hours=9) for moment in expected if moment + timedelta(hours=9) <= END]

    assert _list(schedule, "Pacific/Auckland") == shifted
    assert 310 < len(shifted) < 316


def test_every_24_hours() -> None:
    """Slots are 24 hours of real time apart, through every change of clocks, and begin at the wanted local time."""
    since = datetime(2024, 1, 15, 12, 34, 56, 789, tzinfo=UTC)
    for zone in _choose_zones(START, END):
        slots = _list(Schedule(kind="every_24_hours", at=time(2), since=since), zone)
        assert slots[0] == next(one for one in _expect(zone, START, END, [time(2)]) if one > since), zone
        assert all(late - early == DAY for early, late in pairwise(slots)), zone
        assert END - slots[-1] < DAY
    (first, *_) = slots = _list(Schedule(kind="every_24_hours", since=since, window=DAY, place=0.5), "Asia/Tokyo")
    assert first == since.replace(microsecond=0) + timedelta(hours=12)
    assert len(slots) == 1081


@pytest.mark.parametrize(
    ("expression", "times", "due"),
    [
        ("30 2 * * 1-5", [time(2, 30)], lambda day: day.weekday() < 5),
        ("15 0,23 1 * *", [time(0, 15), time(23, 15)], lambda day: day.day == 1),
        ("0 2 29 2 *", [time(2)], lambda day: (day.month, day.day) == (2, 29)),
        ("0 3 13 * 5", [time(3)], lambda day: day.day == 13 or day.weekday() == 4),
        ("0 1 L * *", [time(1)], lambda day: (day + DAY).day == 1),
    ],
)
def test_cron(expression: str, times: list[time], due: Callable[[date], bool]) -> None:
    """Cron expressions with set times are due once on each of their days, in every zone."""
    for zone in _choose_zones(START, END)[::3]:
        assert _list(Schedule(kind="cron", expression=expression), zone) == _expect(zone, START, END, times, due), zone


@pytest.mark.parametrize("zone", ["America/Chicago", *ODD_ZONES])
@pytest.mark.parametrize("expression", ["*/30 * * * *", "0 */6 * * *", "*/15 0-2 * * *"])
def test_cron_that_repeats(zone: str, expression: str) -> None:
    """Where minutes or hours begin with a star, every moment that shows one of the times counts."""
    due = set(find_day_minutes(expression))
    for stretch in _list_stretches(zone, START, END)[:4]:
        start, end = stretch.end - DAY, stretch.end + DAY
        moments = [start + number * MINUTE for number in range(2 * 1440 + 1)]
        local = [moment.astimezone(ZoneInfo(zone)) for moment in moments]
        expected = [one for one, shown in zip(moments, local, strict=True) if shown.hour * 60 + shown.minute in due]
        assert _list(Schedule(kind="cron", expression=expression), zone, start, end) == expected


@pytest.mark.parametrize("zone", ODD_ZONES)
def test_minute_by_minute(zone: str) -> None:
    """Around every change of clocks, a slot is the first minute that shows its time or a later one."""
    for stretch in _list_stretches(zone, START, END)[:-1]:
        moments = [stretch.end - 3 * DAY + number * MINUTE for number in range(6 * 1440)]
        shown = [moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for moment in moments]
        for at in (time(0), time(0, 59), time(1, 30), time(2, 15), time(23, 30)):
            days = [(stretch.end + number * DAY).date() for number in (-1, 0, 1)]
            wanted = [datetime.combine(day, at) for day in days if any(local.date() == day for local in shown)]
            expected = {next(one for one, local in zip(moments, shown, strict=True) if local >= at) for at in wanted}
            slots = _list(Schedule(kind="nightly", at=at), zone, moments[0], moments[-1])
            assert expected <= set(slots)
            inside = [slot for slot in slots if min(expected) <= slot <= max(expected)]
            assert sorted(expected) == inside


# ── windows, blackouts, school hours ──────────────────────────────────────────────────────────────────────────────


def _is_open(schedule: Schedule, zone: str, moment: datetime) -> bool:
    local = moment.astimezone(ZoneInfo(zone))
    if any(first <= local.date() <= last for first, last in schedule.blackout):
        return False
    hours = schedule.school_hours
    return not (hours and local.weekday() in hours.weekdays and hours.begin <= local.time() < hours.end)


def _expect_in_windows(schedule: Schedule, zone: str, planned: list[datetime]) -> Iterator[datetime]:
    """Minute by minute: the window begins after school, what is closed is cut out, the place is taken in the rest."""
    for at in planned:
        hours, begin = schedule.school_hours, at
        local = at.astimezone(ZoneInfo(zone))
        if hours and local.weekday() in hours.weekdays and hours.begin <= local.time() < hours.end:
            begin = datetime.combine(local.date(), hours.end, ZoneInfo(zone)).astimezone(UTC)
        minutes = int(schedule.window / MINUTE)
        free = [one for number in range(minutes) if _is_open(schedule, zone, one := begin + number * MINUTE)]
        if not minutes and _is_open(schedule, zone, begin):
            yield begin
        if free:
            rest = int(60 * len(free) * schedule.place)
            yield free[rest // 60] + timedelta(seconds=rest % 60)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_cut_out(seed: int) -> None:
    """In school hours and on blackout days nothing is due, and each window with room has its slot in what is left."""
    dice = random.Random(seed)
    zone = dice.choice(["America/Chicago", "Australia/Lord_Howe", "Asia/Kathmandu"])
    start, end = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
    at = time(dice.randrange(24), dice.choice([0, 30]))
    first = date(2026, 3, dice.randrange(2, 20))
    blackout = (Blackout(first, first + dice.randrange(8) * DAY), Blackout(first + 7 * DAY, first + 12 * DAY))
    schedule = Schedule(
        kind="nightly",
        at=at,
        window=timedelta(minutes=dice.choice([0, 30, 240, 1440])),
        place=dice.random(),
        blackout=blackout if dice.random() < 0.8 else (),
        school_hours=SchoolHours(time(7, 30), time(dice.choice([12, 16])), frozenset(range(dice.choice([5, 7])))),
    )
    planned = _expect(zone, start - 3 * DAY, end, [at])
    expected = sorted(set(_expect_in_windows(schedule, zone, planned)))
    slots = _list(schedule, zone, start, end)

    assert slots == [one for one in expected if start <= one <= end], seed
    assert all(_is_open(schedule, zone, slot) for slot in slots)


def test_reasons() -> None:
    """Each slot says why it stands where it does."""
    chicago, since = "America/Chicago", datetime(2026, 3, 5, tzinfo=UTC)
    plain = Schedule(kind="nightly", at=time(2, 30))
    assert [slot.reason for slot in next_slots(plain, chicago, since, 4)][2:] == [Reason.SCHEDULE, Reason.CLOCK_CHANGE]
    late = Schedule(kind="nightly", at=time(9), window=HOUR, place=0.5, school_hours=SCHOOL)
    friday, saturday, *_ = next_slots(late, chicago, datetime(2026, 3, 6, 9, tzinfo=UTC), 2)
    assert (friday.reason, saturday.reason) == (Reason.SCHOOL_HOURS, Reason.SCHEDULE)
    assert friday.at.astimezone(ZoneInfo(chicago)).time() == time(15, 30)
    around = Schedule(
        kind="nightly",
        at=time(22),
        window=4 * HOUR,
        place=0.75,
        blackout=(Blackout(date(2026, 3, 6), date(2026, 3, 6)),),
    )
    eve = next_slots(around, chicago, datetime(2026, 3, 5, 13, tzinfo=UTC), 2)
    assert [slot.reason for slot in eve] == [Reason.BLACKOUT, Reason.BLACKOUT]
    assert [f"{slot.at.astimezone(ZoneInfo(chicago)):%a %H:%M}" for slot in eve] == ["Thu 23:30", "Sat 01:30"]


def test_a_place_never_changes() -> None:
    """An integration has the same place in its window always and everywhere, and places are spread evenly."""
    known = uuid.UUID("0190a5ae-0000-7000-8000-000000000001")
    places = [find_place(uuid.UUID(int=number)) for number in range(4000)]
    tenths = [sum(low / 10 <= place < (low + 1) / 10 for place in places) for low in range(10)]

    assert find_place(known) == pytest.approx(0.1936, abs=0.0001)
    assert all(330 < share < 470 for share in tenths)
    spread = Schedule(kind="nightly", at=time(2), window=HOUR, place=find_place(known))
    delays = {slot.at - slot.planned for slot in next_slots(spread, "America/Chicago", START, 800)}
    assert len(delays) == 1


def test_openings() -> None:
    """The next allowed moment skips school hours and blackout days, however they follow each other."""
    schedule = Schedule(kind="nightly", school_hours=SCHOOL, blackout=(Blackout(date(2026, 3, 10), date(2026, 3, 12)),))
    chicago = ZoneInfo("America/Chicago")

    def ask(local: str) -> str:
        moment = datetime.fromisoformat(local).replace(tzinfo=chicago).astimezone(UTC)
        return f"{find_opening(schedule, 'America/Chicago', moment).astimezone(chicago):%Y-%m-%d %H:%M}"

    assert ask("2026-03-09 07:59") == "2026-03-09 07:59"
    assert ask("2026-03-09 08:00") == "2026-03-09 15:00"
    assert ask("2026-03-09 15:00") == "2026-03-09 15:00"
    assert ask("2026-03-10 09:00") == "2026-03-13 00:00"
    assert ask("2026-03-14 09:00") == "2026-03-14 09:00"


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Schedule(kind="cron", expression="0 2 30 2 *"), "does not come within five years"),
        (Schedule(kind="cron", expression="0 2 31 4,6 *"), "does not come within five years"),
        (
            Schedule(kind="nightly", at=time(10), school_hours=SchoolHours(time(8), time(15), frozenset(range(7)))),
            "08:00 to 15:00",
        ),
        (
            Schedule(kind="weekly", weekdays=frozenset({1}), times=(time(13),), window=2 * HOUR, school_hours=SCHOOL),
            "no room",
        ),
        (
            Schedule(kind="nightly", at=time(2), blackout=(Blackout(date(2026, 1, 1), date(2035, 1, 1)),)),
            "blackout dates",
        ),
        (
            Schedule(kind="cron", expression="0 2 29 2 *", blackout=(Blackout(date(2028, 2, 29), date(2028, 3, 1)),)),
            "blackout dates",
        ),
    ],
)
def test_impossible(schedule: Schedule, words: str) -> None:
    """A schedule that would never come due is refused with a sentence that says which part of it is why."""
    assert words in (object_to(schedule, "America/Chicago", datetime(2026, 2, 1, tzinfo=UTC)) or "")


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(),
        Schedule(kind="cron", expression="0 2 29 2 *"),
        Schedule(kind="nightly", at=time(10), school_hours=SCHOOL),
        Schedule(kind="weekly", weekdays=frozenset({1}), times=(time(13),), window=3 * HOUR, school_hours=SCHOOL),
        Schedule(kind="nightly", at=time(2), blackout=(Blackout(date(2026, 1, 1), date(2029, 1, 1)),)),
        Schedule(kind="twice_weekly", region="us", window=DAY, school_hours=SCHOOL, place=0.999),
    ],
)
def test_possible(schedule: Schedule) -> None:
    """What comes due now and then is not refused."""
    assert object_to(schedule, "America/Chicago", datetime(2026, 2, 1, tzinfo=UTC)) is None


def test_slots_come_alike_whenever_asked() -> None:
    """Asking from slot to slot finds the very slots that asking for all of them does."""
    blackout = (Blackout(date(2026, 3, 6), date(2026, 3, 9)), Blackout(date(2026, 12, 20), date(2027, 1, 4)))
    for kind in ("nightly", "twice_weekly", "every_24_hours", "cron"):
        schedule = Schedule(
            kind=kind,  # type: ignore[arg-type]  # the literals above
            at=time(7, 30),
            expression="*/20 7-9 * * 1-5",
            window=timedelta(hours=5),
            place=0.7,
            school_hours=SCHOOL,
            blackout=blackout,
        )
        start, end = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
        every, one_by_one, at = _list(schedule, "America/Chicago", start, end), [], start - timedelta(seconds=1)
        while (at := next_slots(schedule, "America/Chicago", at, 1)[0].at) <= end:
            one_by_one.append(at)
        assert one_by_one == every
        assert len(every) > 15
        following = [slot.at for slot in next_slots(schedule, "America/Chicago", every[3], 5)]
        assert following == every[4:9]
