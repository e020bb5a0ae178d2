"""Time zones: what day it is for a district, and at which moment its clocks show a time.

Clocks are put forward and back, by an hour, by half of one, and across the date line by a day. So there is one rule:
a local time stands for **the first moment at which the clock shows it or something later**. A time that is left out is
the moment clocks were put forward; a time that comes twice is its first occurrence.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

REGION_ZONES = {
    "us": "America/Chicago",
    "au": "Australia/Perth",
    "uk": "Europe/London",
    "nz": "Pacific/Auckland",
}
"""Where an integration's time zone is not said."""

_NO_PLACES = frozenset({"Factory", "localtime"})
"""Names that some machines list, and that mean no place or another one on each of them."""
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


def is_zone(name: str) -> bool:
    """Whether this is the name of an IANA time zone."""
    return name in _list_zones()


def find_date(moment: datetime, zone: str) -> date:
    """The date at a moment in a time zone."""
    return moment.astimezone(ZoneInfo(zone)).date()


def find_moment(local: datetime, zone: ZoneInfo) -> datetime:
    """The first moment, in UTC, at which clocks in a zone show a local time (without zone) or a later one."""
    moment = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if _read_clock(moment, zone) == local:
        return moment
    # Clocks were put forward over it: before the change they showed less, after it more.
    before = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    while moment - before > _SECOND:
        middle = before + (moment - before) // 2
        before, moment = (before, middle) if _read_clock(middle, zone) > local else (middle, moment)
    return moment.replace(microsecond=0)


def find_last_moment(local: datetime, zone: ZoneInfo) -> datetime:
    """The same, but of a time that comes twice the second occurrence."""
    moment = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return moment if _read_clock(moment, zone) == local else find_moment(local, zone)


def shows(moment: datetime, local: datetime, zone: ZoneInfo) -> bool:
    """Whether clocks in a zone show just this at a moment."""
    return _read_clock(moment, zone) == local


def has_day(day: date, zone: ZoneInfo) -> bool:
    """Whether a day happened in a zone at all; at the date line, some were left out."""
    begin = datetime.combine(day, time())
    moment = find_moment(begin, zone)
    return _read_clock(moment, zone) < begin + _DAY


def _read_clock(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)


@cache
def _list_zones() -> frozenset[str]:
    return frozenset(available_timezones()) - _NO_PLACES
