"""Asking OneRoster servers for changes only, and telling whether what they answer can be relied upon (pure; C6, P11).

A server is asked for what was modified since the last fetch *began*, less an overlap. Whether it understands the
question is found out after every whole fetch (`honours`); whether its answers lead to the roster it has, by its counts
(`fits`) and, at every whole fetch, by the records themselves (`is_older`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final, NamedTuple

from homeroom.messages import Bookmark
from provider_gateway.providers._oneroster_shapes import ROW_TYPES
from provider_gateway.providers.contract import Seen

OVERLAP: Final = timedelta(minutes=10)
BIG: Final = frozenset({"users", "enrollments"})
"""The collections that make increments worth while."""

_FURTHEST_WEST: Final = timedelta(hours=12)
"""A time without its zone may be that much later than it looks."""
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


class Peek(NamedTuple):
    """What a question for at most one row showed."""

    rows: int
    stated: int | None
    stamp: str | None
    """The `dateLastModified` of the first row."""


class Increments(NamedTuple):
    """What a bookmark says about asking for changes."""

    since: datetime
    filtered: frozenset[str]
    """The collections whose filter is honoured."""
    stated: Mapping[str, int]
    """How many rows each collection had."""
    by_day: frozenset[str]
    """The collections whose stamps are days without a time."""


def read_bookmark(bookmark: Bookmark) -> Increments:
    """Understand a bookmark; whatever in it is not as expected says nothing."""
    state = bookmark.state
    skew = state.get("skew")
    # A clock that is behind stamps too early. One that is ahead stamps too late, which the filter does not mind.
    behind = timedelta(seconds=min(0.0, float(skew))) if isinstance(skew, int | float) else timedelta()
    stated = state.get("stated")
    return Increments(
        bookmark.at.astimezone(UTC) - OVERLAP + behind,
        _names(state.get("filtered")),
        {name: count for name, count in stated.items() if isinstance(count, int)} if isinstance(stated, dict) else {},
        _names(state.get("byDay")),
    )


def _names(found: Any) -> frozenset[str]:
    return frozenset(name for name in ROW_TYPES if name in found) if isinstance(found, list | tuple) else frozenset()


def write_moment(moment: datetime) -> str:
    """A moment as OneRoster writes it.

    >>> write_moment(datetime(2026, 1, 31, 5, tzinfo=UTC))
    '2026-01-31T05:00:00.000Z'
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_filter(since: datetime, *, by_day: bool = False) -> str:
    """The filter for what was modified since a moment; servers that stamp by the day compare with a day."""
    text = (since - timedelta(days=1)).strftime("%Y-%m-%d") if by_day else write_moment(since)
    return f"dateLastModified>='{text}'"


FAR_FUTURE: Final = write_filter(datetime(2999, 1, 1, tzinfo=UTC))
LONG_AGO: Final = write_filter(datetime(1970, 1, 1, tzinfo=UTC))


def honours(far_future: Peek, long_ago: Peek, stated: int | None) -> bool:
    """Whether a server understands the filter: of a collection with rows nothing since 2999, and all since 1970.

    Unknown filters are ignored by some, answered with an empty list by others. A row without a stamp would never come.
    """
    if far_future.rows or not long_ago.rows:
        return False
    return stated is None or long_ago.stated is None or long_ago.stated >= stated


def is_by_day(stamp: str | None) -> bool:
    """Whether a stamp is a day without a time."""
    return stamp is not None and bool(_DAY.fullmatch(stamp))


def is_older(stamp: Any, since: str) -> bool:
    """Whether a record says that it was last modified before a moment (`write_moment`), in any form of time.

    What can't be read is not older; a time without a zone, or a day, counts as the latest moment it may mean.
    """
    if not isinstance(stamp, str):
        return False
    if _MOMENT.fullmatch(stamp):
        return stamp < since
    try:
        moment = datetime.fromisoformat(stamp.strip())
    except ValueError:
        return False
    if _DAY.fullmatch(stamp.strip()):
        moment = datetime.combine(moment, time.max)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
        if moment.year < 9999:  # noqa: PLR2004 - the last year there is
            moment += _FURTHEST_WEST
    return moment < datetime.fromisoformat(since)


def fits(then: int, now: int, seen: Seen) -> bool:
    """Whether a collection's counts before and now are explained by what came in between.

    Every record that was added is a new row, unless the server had it before and we did not hold it: a tombstone, or
    one that was filtered or quarantined. What came and was left out may be new rows, too. A row that vanished without a
    word makes the count too small, a new one that was not told of too large.
    """
    had_without_us = max(0, then - seen.known)
    return then + seen.added - min(seen.added, had_without_us) <= now <= then + seen.added + seen.left_out


def are_worth_while(filtered: Collection[str], not_empty: Collection[str]) -> bool:
    """Whether the next fetch should ask for changes: the big collections that have rows can all be asked so."""
    big = BIG.intersection(not_empty)
    return bool(big) and big.issubset(filtered)
