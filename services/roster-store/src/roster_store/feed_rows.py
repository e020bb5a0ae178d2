"""What a step of the feed tells a reader, read through the views that show what the reader sees (F3)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import asyncpg
import xxhash

from homeroom.db import Connection, Database
from homeroom.events import (
    CLASS_ACTIVATED,
    ENROLLMENT_ACTIVATED,
    LICENSE_ENDED,
    LICENSE_STARTED,
    SYNC_APPLIED,
    AppliedData,
    Change,
    Event,
    LicenseData,
    RecordData,
    event_type,
)
from homeroom.grants import GUARDIAN_ROLES
from homeroom.roster import COLLECTIONS
from roster_store.belongings import SEGMENT as BELONGING
from roster_store.cursors import END_OF_APPLY, Cursor
from roster_store.feed_steps import Scope, Span, Step, Stretch, list_told_counts, tells_end, wants_collection
from roster_store.sights import Rosters, Sight
from roster_store.tables import SQL, TABLES

FEED_SECONDS: Final = 60.0
STARTED: Final = 1
"""In a step that is read by sourcedIds: the place of what comes before all records."""
PARTS: Final = {collection: number for number, collection in enumerate(COLLECTIONS, STARTED + 1)}
"""In a step that is read by sourcedIds: the places of the collections."""

_TYPES: Final = {
    (collection, change): event_type(collection, change)
    for collection in COLLECTIONS
    for change in Change.__args__  # type: ignore[attr-defined]  # a Literal's words
}
_COLUMNS: Final = {
    collection: ", ".join(f'"{field}"' for field in table.fields) for collection, table in TABLES.items()
}
_TELLING_FIELD: Final = {
    "orgs": "type",
    "classes": "school_sourced_id",
    "users": "roles",
    "enrollments": "user_sourced_id",
}
"""Fields that no record is without; missing where a record left what is seen, and nothing but its id is told."""
_WOKEN: Final = (
    ("classes", "class", "sourced_id"),
    ("users", "user", "sourced_id"),
    ("enrollments", "class", "class_sourced_id"),
    ("enrollments", "user", "user_sourced_id"),
    ("demographics", "user", "sourced_id"),
)
"""What a started class and a person who came in may bring to light: collection, whose id, and where it stands."""
_ACTIVATED: Final = {"classes": CLASS_ACTIVATED, "enrollments": ENROLLMENT_ACTIVATED}


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """An event, whose it is and where in the feed it stands."""

    event: Event
    integration_id: str
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, and where a reader stands who has read it."""

    events: list[FeedEvent]
    end: Cursor


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of a record as it was found."""

    step: Step
    place: int
    collection: str
    change: Change
    row: asyncpg.Record


@dataclass(frozen=True, slots=True)
class FeedReader:
    """Reads parts of steps for one reader."""

    database: Database
    rosters: Rosters
    scope: Scope
    since: int = 0
    """Of the reader's cursor."""

    # ── steps that changed records ────────────────────────────────────────────────────────────────────────────────

    async def read_stretch(self, stretch: Stretch, cursor: Cursor, room: int) -> Reading:
        """The events of a stretch, or the first of them if it is one span with more than room."""
        if len(stretch.spans) == 1:
            found, end = await self._read_span(stretch.spans[0], room)
            if end is not None:
                return Reading(self._tell_changes(found), end)
        else:
            found = await self._read_spans(stretch.spans)
        events = self._tell_changes(found)
        if ends := [step for step in stretch.ended if tells_end(step, cursor, self.scope)]:
            events += [self._tell_applied(step) for step in ends]
            events.sort(key=lambda one: (one.cursor.apply_no, one.cursor.change_no))
        return Reading(events, stretch.end)

    async def _read_span(self, span: Span, room: int) -> tuple[list[_Change], Cursor | None]:
        """What changed in one span; and if there was more than room, where it goes on."""
        sight, steps = _seen(span), {span.step.no: span.step}
        async with self._look(sight) as connection:
            if span.collection == BELONGING:
                places = await self.database.fetch(SQL["list_moved_places"], *_arrays([span]), room)
                found = await self._read_moved(connection, places, steps, sight)
                return found, self._find_end(span, places, room, "change_no")
            statement = TABLES[span.collection].sql("list_span", columns=_COLUMNS[span.collection])
            rows = await connection.fetch(statement, span.step.no, span.first, span.last, room, timeout=FEED_SECONDS)
            end = self._find_end(span, rows, room, "told_no")
            found = _collect(rows, span.collection, steps)
            if _may_hide(span.collection, sight):
                read = span if end is None else replace(span, last=end.change_no)
                found = sorted(found + await _read_departed(connection, [read]), key=_place)
        return found, end

    def _find_end(self, span: Span, rows: Sequence[asyncpg.Record], room: int, place: str) -> Cursor | None:
        return self._at(span.step.no, rows[-1][place]) if len(rows) >= room else None

    async def _read_spans(self, spans: Sequence[Span]) -> list[_Change]:
        """What changed in several spans, which together have room."""
        grouped: dict[Sight, dict[str, list[Span]]] = {}
        for span in spans:
            grouped.setdefault(_seen(span), {}).setdefault(span.collection, []).append(span)
        found: list[_Change] = []
        for sight, of_collection in grouped.items():
            async with self._look(sight) as connection:
                for collection, some in of_collection.items():
                    steps = {span.step.no: span.step for span in some}
                    if collection == BELONGING:
                        places = await self.database.fetch(SQL["list_moved_places"], *_arrays(some), END_OF_APPLY)
                        found += await self._read_moved(connection, places, steps, sight)
                        continue
                    statement = TABLES[collection].sql("list_spans", columns=_COLUMNS[collection])
                    rows = await connection.fetch(statement, *_arrays(some), timeout=FEED_SECONDS)
                    found += _collect(rows, collection, steps)
                    if _may_hide(collection, sight):
                        found += await _read_departed(connection, some)
        return sorted(found, key=_place)

    async def _read_moved(
        self, connection: Connection, places: Sequence[asyncpg.Record], steps: dict[int, Step], sight: Sight
    ) -> list[_Change]:
        """Of records that came to belong to other schools those that are seen, or were, and that nothing else told."""
        found: list[_Change] = []
        for collection in dict.fromkeys(place["collection"] for place in places):
            if not wants_collection(collection, self.scope, sight):
                continue
            ids = {place["sourced_id"] for place in places if place["collection"] == collection}
            statement = TABLES[collection].sql("list_moved", columns=_COLUMNS[collection])
            rows = await connection.fetch(statement, list(ids), list(steps), timeout=FEED_SECONDS)
            found += _collect(rows, collection, steps)
        return sorted(found, key=_place)

    @asynccontextmanager
    async def _look(self, sight: Sight) -> AsyncIterator[Connection]:
        async with self.rosters.look(sight) as connection:
            await connection.fetch(SQL["read_in_order"])
            yield connection

    def _tell_changes(self, found: Iterable[_Change]) -> list[FeedEvent]:
        """Events of changes, of the types that are wanted."""
        events: list[FeedEvent] = []
        for one in found:
            kind = _TYPES[one.collection, one.change]
            if self.scope.wants(kind):
                no = one.step.no
                events.append(
                    self._tell(one.step, kind, one.collection, one.row, f"{no}-{one.place}", self._at(no, one.place))
                )
        return events

    def _tell_applied(self, step: Step) -> FeedEvent:
        place = step.last + 1
        data = AppliedData(run_id=str(step.run_id), apply=step.no, counts=list_told_counts(step))
        return self._note(step, SYNC_APPLIED, f"runs/{step.run_id}", data, place)

    # ── steps of a product's own feed ─────────────────────────────────────────────────────────────────────────────

    async def read_license(self, step: Step, cursor: Cursor, room: int) -> Reading:
        """That a product's view of an integration ends; or that it begins, and then everything that is seen."""
        end = self._at(step.no, END_OF_APPLY)
        done, after = (cursor.change_no, cursor.after) if step.no == cursor.apply_no else (0, "")
        ended = step.detail.get("state") == "ended"
        kind = LICENSE_ENDED if ended else LICENSE_STARTED
        events: list[FeedEvent] = []
        if done < STARTED and (ended or step.sight is not None) and self.scope.wants(kind):
            events.append(self._note(step, kind, f"products/{self.scope.product_id}", self._describe(step), STARTED))
        if ended or step.sight is None:
            return Reading(events, end)
        for collection, part in PARTS.items():
            kind = _TYPES[collection, "added"]
            if part < done or not self.scope.wants(kind) or not wants_collection(collection, self.scope, step.sight):
                continue
            statement = TABLES[collection].sql("list_seen", columns=_COLUMNS[collection])
            left = room - len(events)
            if left <= 0:
                return Reading(events, events[-1].cursor)
            async with self._look(step.sight) as connection:
                rows = await connection.fetch(statement, after if part == done else "", left, timeout=FEED_SECONDS)
            events += [self._tell_by_id(step, kind, collection, row) for row in rows]
        return Reading(events, events[-1].cursor if len(events) >= room else end)

    async def read_woken(self, steps: Sequence[Step], cursor: Cursor, room: int) -> Reading:
        """What classes that were started and people who came in brought to light (D2)."""
        end, sight = self._at(steps[-1].no, END_OF_APPLY), steps[0].sight
        if sight is None or not sight.teacher_started:
            return Reading([], end)
        by_no = {step.no: step for step in steps}
        found: dict[tuple[int, int, str], tuple[str, asyncpg.Record]] = {}
        async with self._look(sight) as connection:
            for collection, word, naming in _WOKEN:
                names = {step.detail[word] for step in steps if word in step.detail}
                if not names or not wants_collection(collection, self.scope, sight):
                    continue
                part = PARTS[collection]
                first = steps[0].no if steps[0].no == cursor.apply_no and part <= cursor.change_no else 0
                numbers = [no for no in by_no if no != first or part == cursor.change_no]
                statement = TABLES[collection].sql("list_woken", columns=_COLUMNS[collection], naming=naming)
                rows = await connection.fetch(
                    statement, list(names), numbers, first, cursor.after, room, timeout=FEED_SECONDS
                )
                for row in rows:
                    found[row["changed_by"], part, row["sourced_id"]] = collection, row
        places = sorted(found)[:room]
        events: list[FeedEvent] = []
        for place in places:
            collection, row = found[place]
            kind = _name_woken(collection, row)
            if self.scope.wants(kind):
                events.append(self._tell_by_id(by_no[place[0]], kind, collection, row))
        return Reading(events, self._at(*places[-1]) if len(places) == room else end)

    def _describe(self, step: Step) -> LicenseData:
        """What a product is told of its license."""
        schools = step.detail.get("schools")
        return LicenseData(
            product_id=str(self.scope.product_id),
            organization_id=str(step.organization_id),
            schools=None if schools is None else tuple(schools),
            grants=tuple(step.detail.get("grants") or ()),
        )

    # ── events ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _tell_by_id(self, step: Step, kind: str, collection: str, row: asyncpg.Record) -> FeedEvent:
        """The event of a record that is told as it is now; the same again while its version is."""
        sourced_id = row["sourced_id"]
        mark = xxhash.xxh3_64_hexdigest(f"{collection}/{sourced_id}".encode())
        where = self._at(step.no, PARTS[collection], sourced_id)
        return self._tell(step, kind, collection, row, f"{step.no}-{mark}-{row['version']}", where)

    def _tell(
        self, step: Step, kind: str, collection: str, row: asyncpg.Record, event_id: str, where: Cursor
    ) -> FeedEvent:
        sourced_id, telling = row["sourced_id"], _TELLING_FIELD.get(collection)
        known = telling is None or row.get(telling)
        data = RecordData(
            sourced_id=sourced_id,
            version=row["version"],
            record=TABLES[collection].record(row) if known else {"sourcedId": sourced_id},
        )
        return self._wrap(step, kind, f"{collection}/{sourced_id}", data, event_id, where)

    def _note(self, step: Step, kind: str, subject: str, data: AppliedData | LicenseData, place: int) -> FeedEvent:
        return self._wrap(step, kind, subject, data, f"{step.no}-{place}", self._at(step.no, place))

    def _wrap(self, step: Step, kind: str, subject: str, data: Any, event_id: str, where: Cursor) -> FeedEvent:
        integration_id = str(step.integration_id)
        event = Event(
            id=event_id, source=f"/integrations/{integration_id}", type=kind, subject=subject, time=step.at, data=data
        )
        return FeedEvent(event, integration_id, where)

    def _at(self, no: int, place: int, after: str = "") -> Cursor:
        return Cursor(no, place, after, self.since if no <= self.since else 0)


def _seen(span: Span) -> Sight:
    assert span.step.sight is not None  # noqa: S101 - nothing is cut of a step of which nothing is seen
    return span.step.sight


def _arrays(spans: Collection[Span]) -> tuple[list[int], list[int], list[int]]:
    return [span.step.no for span in spans], [span.first for span in spans], [span.last for span in spans]


def _place(change: _Change) -> tuple[int, int]:
    return change.step.no, change.place


def _may_hide(collection: str, sight: Sight) -> bool:
    """Whether a record may have left what is seen by a change of its own."""
    match collection:
        case "users":
            return sight.teacher_started or "guardians" not in sight.grants
        case "enrollments":
            return sight.teacher_started
        case "orgs":
            return sight.schools is not None
    return False


def _collect(rows: Iterable[asyncpg.Record], collection: str, steps: dict[int, Step]) -> list[_Change]:
    return [_Change(steps[row["told_by"]], row["told_no"], collection, row["change"], row) for row in rows]


async def _read_departed(connection: Connection, spans: Sequence[Span]) -> list[_Change]:
    """Records of one collection that hid themselves in some spans."""
    collection, steps = spans[0].collection, {span.step.no: span.step for span in spans}
    rows = await connection.fetch(TABLES[collection].sql("list_departed"), *_arrays(spans), timeout=FEED_SECONDS)
    return [_Change(steps[row["told_by"]], row["told_no"], collection, "removed", row) for row in rows]


def _name_woken(collection: str, row: asyncpg.Record) -> str:
    """The type of the event that brings a record to light; staff were seen before they came in."""
    if collection == "users" and any(role["role"] not in ("student", *GUARDIAN_ROLES) for role in row["roles"]):
        return _TYPES["users", "updated"]
    return _ACTIVATED.get(collection) or _TYPES[collection, "added"]
