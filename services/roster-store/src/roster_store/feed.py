"""The change feed: a cursor over what steps changed, as each reader may see it (architecture §1, idea 3; F2, F3).

There is no log of events. Every row carries the step that last touched it and its place in that step, so "what
changed since" is a query, and the relay, the pull feed, webhooks and a product joining from zero are the same reader.
A product reads what its licenses show: its view of an integration begins with everything that is seen at a moment, and
goes on with what changes (docs/decisions/0017).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import monotonic
from typing import Final

from homeroom.db import Database
from roster_store import belongings
from roster_store.cursors import END_OF_APPLY, Cursor
from roster_store.feed_rows import FeedEvent, FeedReader, Reading
from roster_store.feed_steps import STEPS_AT_ONCE, Scope, Step, begin_reading, cut_stretch, cut_woken, list_steps
from roster_store.sights import Rosters

__all__ = ["END_OF_APPLY", "Cursor", "FeedEvent", "Page", "Scope", "read_page"]

PAGE_SECONDS: Final = 2.0
"""How long steps that hold nothing for a reader are walked over before it is told to ask again."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some events, where to go on, and whether there is more now."""

    events: list[FeedEvent]
    cursor: Cursor
    more: bool


async def read_page(
    database: Database, rosters: Rosters, cursor: Cursor, limit: int, scope: Scope | None = None
) -> Page:
    """The next events after `cursor`, at most `limit`.

    Without a scope it is the relay that reads: everything that everybody's feed holds, and no cursor of it is too old.
    A page may hold few events or none and still say that there is more.

    Raises `Problem` CURSOR_EXPIRED where removals after the cursor are not kept any more.
    """
    if scope is not None:
        cursor = await begin_reading(database, cursor, scope)
    scope, events, until = scope or Scope(), list[FeedEvent](), monotonic() + PAGE_SECONDS
    reader = FeedReader(database, rosters, scope, cursor.since)
    while True:
        steps = await list_steps(database, cursor, scope)
        if scope.schools is not None:
            for integration_no in {step.sight.integration_no for step in steps if step.sight is not None}:
                await belongings.ensure_kept(database, integration_no)
        at = 0
        while at < len(steps):
            if steps[at].undecided:
                return Page(events, cursor, more=False)
            reading = await _read(reader, steps[at:], cursor, limit - len(events))
            events += reading.events
            cursor = replace(reading.end, since=cursor.since if reading.end.apply_no <= cursor.since else 0)
            if len(events) >= limit:
                return Page(events[:limit], events[limit - 1].cursor, more=True)
            if monotonic() > until:
                return Page(events, cursor, more=True)
            at = _find_next(steps, cursor)
        if len(steps) < STEPS_AT_ONCE:
            return Page(events, cursor, more=False)


async def _read(reader: FeedReader, steps: list[Step], cursor: Cursor, room: int) -> Reading:
    """The next part of the feed that can be read at once."""
    if steps[0].changes_records:
        return await reader.read_stretch(cut_stretch(steps, cursor, room, reader.scope), cursor, room)
    if steps[0].kind == "license":
        return await reader.read_license(steps[0], cursor, room)
    return await reader.read_woken(cut_woken(steps), cursor, room)


def _find_next(steps: list[Step], cursor: Cursor) -> int:
    """The first step that was not read to its end."""
    return next((at for at, step in enumerate(steps) if step.no > cursor.passed), len(steps))
