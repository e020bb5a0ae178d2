"""The change feed: a cursor over what applies changed (architecture §1, idea 3).

There is no log of events. Every row carries the apply that last touched it and its place in that apply, so "what
changed since" is a query, and the relay, the pull feed and a product joining from zero are the same reader.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg

from homeroom.db import Connection, Database
from homeroom.events import SYNC_APPLIED, AppliedData, Event, RecordData, event_type
from roster_store.tables import SQL, TABLES

FEED_SECONDS = 60.0
APPLIES_AT_ONCE = 20
_CURSOR = struct.Struct(">Qi")
END_OF_APPLY = 2**31 - 1


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A place in the feed: everything up to and including this change was read."""

    apply_no: int = 0
    change_no: int = END_OF_APPLY

    def __str__(self) -> str:
        """The opaque text that readers keep."""
        return base64.urlsafe_b64encode(_CURSOR.pack(self.apply_no, self.change_no)).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor of a text made by `str`; raises ValueError for any other."""
        try:
            cursor = cls(
                *_CURSOR.unpack(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
            )
        except (struct.error, ValueError) as error:
            msg = "not a cursor of this feed"
            raise ValueError(msg) from error
        return cursor


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """An event, whose it is and where in the feed it stands."""

    event: Event
    integration_id: str
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Scope:
    """What a reader sees of the feed."""

    integration_id: str | None = None
    organization_id: str | None = None
    types: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some events, where to go on, and whether there is more now."""

    events: list[FeedEvent]
    cursor: Cursor
    more: bool


async def read_page(database: Database, cursor: Cursor, limit: int, scope: Scope | None = None) -> Page:
    """The next events after `cursor`, at most `limit`."""
    scope = scope or Scope()
    events: list[FeedEvent] = []
    async with database.connection() as connection:
        applies = await connection.fetch(
            SQL["list_applies"], cursor.apply_no, scope.integration_id, scope.organization_id, APPLIES_AT_ONCE
        )
        for apply in applies:
            after = cursor.change_no if apply["no"] == cursor.apply_no else 0
            async for event in _read_apply(connection, apply, after, limit - len(events), scope):
                events.append(event)
                cursor = event.cursor
            if len(events) >= limit:
                return Page(events, cursor, more=True)
            cursor = Cursor(apply["no"])
    return Page(events, cursor, more=len(applies) == APPLIES_AT_ONCE)


async def _read_apply(
    connection: Connection, apply: asyncpg.Record, after: int, limit: int, scope: Scope
) -> AsyncIterator[FeedEvent]:
    """The events of one apply after a place; `limit` at most."""
    integration_id = str(apply["integration_id"])
    last = 0
    for collection, first, last in apply["segments"]:
        kinds = {change: event_type(collection, change) for change in ("added", "updated", "removed")}
        if scope.types is not None and not scope.types & set(kinds.values()):
            continue
        place = max(first, after + 1)
        while place <= last and limit > 0:
            table = TABLES[collection]
            rows = await connection.fetch(
                table.sql("list_changes", columns=table.column_list),
                apply["no"],
                place,
                last,
                limit,
                timeout=FEED_SECONDS,
            )
            for row in rows:
                if scope.types is None or kinds[row["change"]] in scope.types:
                    yield _record_event(apply, integration_id, collection, kinds[row["change"]], row)
                    limit -= 1
            if not rows:
                break
            place = rows[-1]["change_no"] + 1
    if limit > 0 and after <= last and (scope.types is None or SYNC_APPLIED in scope.types):
        yield _applied_event(apply, integration_id, last + 1)


def _record_event(
    apply: asyncpg.Record, integration_id: str, collection: str, kind: str, row: asyncpg.Record
) -> FeedEvent:
    event = Event(
        id=f"{apply['no']}-{row['change_no']}",
        source=f"/integrations/{integration_id}",
        type=kind,
        subject=f"{collection}/{row['sourced_id']}",
        time=apply["applied_at"],
        data=RecordData(sourced_id=row["sourced_id"], version=row["version"], record=TABLES[collection].record(row)),
    )
    return FeedEvent(event, integration_id, Cursor(apply["no"], row["change_no"]))


def _applied_event(apply: asyncpg.Record, integration_id: str, place: int) -> FeedEvent:
    event = Event(
        id=f"{apply['no']}-{place}",
        source=f"/integrations/{integration_id}",
        type=SYNC_APPLIED,
        subject=f"runs/{apply['run_id']}",
        time=apply["applied_at"],
        data=AppliedData(run_id=str(apply["run_id"]), apply=apply["no"], counts=apply["counts"]),
    )
    return FeedEvent(event, integration_id, Cursor(apply["no"], place))
