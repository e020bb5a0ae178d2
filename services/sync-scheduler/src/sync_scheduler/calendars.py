"""Time zones: what day it is for a district."""

from __future__ import annotations

from datetime import date, datetime
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

REGION_ZONES = {
    "us": "America/Chicago",
    "au": "Australia/Perth",
    "uk": "Europe/London",
    "nz": "Pacific/Auckland",
}
"""Where an integration's time zone is not said."""


def check_zone(name: str) -> str:
    """The name of an IANA time zone. Raises ValueError for what is none."""
    if name not in _list_zones():
        raise ValueError("this is no IANA time zone; it is written like America/Chicago")
    return name


def find_date(moment: datetime, zone: str) -> date:
    """The date at a moment in a time zone."""
    return moment.astimezone(ZoneInfo(zone)).date()


@cache
def _list_zones() -> frozenset[str]:
    return frozenset(available_timezones())
