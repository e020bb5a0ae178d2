"""Clever's events: what became of each object since a fetch, folded on disk to its last state.

An event carries the whole object, an update also the old values of what changed. So whatever comes in between and
however often, what counts is the last state of each object, and of a section everybody who ever was in it since.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

from homeroom.codes import Code
from homeroom.messages import Finding, Mode
from provider_gateway.failures import ProviderError, RecordProblem, StartOver
from provider_gateway.providers import _clever_pages as read
from provider_gateway.providers._clever_client import CleverApi, decode_listing, unwrap
from provider_gateway.providers._clever_records import (
    COLLECTIONS,
    READERS,
    Links,
    Roster,
    View,
    pick_demographics,
    read_demographics,
    read_roster,
)
from provider_gateway.providers._clever_singles import fetch_single, find_contacts, find_record
from provider_gateway.providers.contract import Opening, Page, Proof, RawPage, Seen, make_page
from provider_gateway.scope import Scope
from provider_gateway.spool import Spool, pack, unpack

TABLES: Final = (
    "CREATE TABLE objects (kind TEXT, id TEXT, gone INTEGER, content BLOB, UNIQUE (kind, id) ON CONFLICT REPLACE)",
    "CREATE TABLE once (section TEXT, enrollment TEXT, PRIMARY KEY (section, enrollment)) WITHOUT ROWID",
)
_KEPT_FOR: Final = timedelta(days=29)
"""Clever keeps events for 30 days; a day is left for clocks and for the reading itself."""
_NEEDED: Final = {
    "districts": ("name",),
    "schools": ("name",),
    "terms": ("name", "start_date", "end_date"),
    "courses": (),
    "sections": ("name", "school"),
    "users": ("roles",),
}
"""Fields without which an object is taken to be partial, and asked for by its id."""
_MOST_ASKED: Final = 500
"""Single objects that are asked for in one fetch; beyond them everything is read, which is quicker."""
_AT_ONCE: Final = 500
_OF_CLASSES: Final = frozenset({"courses", "sections"})
_NO_CURSOR: Final = frozenset({400, 403, 404, 410})


@dataclass(frozen=True, slots=True)
class Newest:
    """That there are events, and the id of the newest one; None before the first."""

    event: str | None


async def find_newest(api: CleverApi) -> Newest | None:
    """The newest event; None where this application gets no events."""
    try:
        listing = await api.first("/events", {"ending_before": "last"})
    except ProviderError as error:
        if error.status in _NO_CURSOR or error.status == 501:  # noqa: PLR2004 - HTTP's "not implemented"
            return None
        raise
    found = [_read_event(raw) for raw in listing.data]
    return Newest(found[-1].id if found else None)


async def read_changes(opening: Opening, api: CleverApi, spool: Spool, view: View) -> str | None:
    """Read and fold all events since the bookmark; gives the last one's id.

    Raises `StartOver` where changes can't tell the whole: CLEVER_EVENTS_GAP, DELTA_DRIFT, DELTA_NOT_ENOUGH.
    """
    bookmark = opening.bookmark
    if bookmark is None or "event" not in bookmark.state or opening.began - bookmark.at > _KEPT_FOR:
        raise StartOver(Code.CLEVER_EVENTS_GAP, whole=True)
    last: str | None = bookmark.state["event"]
    wanted = frozenset(COLLECTIONS) - (frozenset() if opening.options.sync_classes else _OF_CLASSES)
    query = {"starting_after": last} if last else {}
    try:
        async with aclosing(api.bodies("/events", query)) as bodies:
            async for body in bodies:
                last = await spool.run(partial(_fold_page, body, wanted, view)) or last
    except ProviderError as error:
        if error.status in _NO_CURSOR:
            raise StartOver(Code.CLEVER_EVENTS_GAP, whole=True) from None
        raise
    await _complete(api, spool, view)
    return last


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an object."""

    id: str
    kind: str
    what: str
    found: Any
    before: Mapping[str, Any] | None
    """The old values of what changed; None if the event does not say."""


def _read_event(raw: bytes) -> Event:
    try:
        event, _ = unwrap(raw)
    except RecordProblem:
        raise StartOver(Code.DELTA_DRIFT, whole=True) from None
    data = event.get("data")
    kind, _, what = str(event.get("type")).partition(".")
    found = data.get("object") if isinstance(data, dict) else None
    before = event.get("previous_attributes", data.get("previous_attributes") if isinstance(data, dict) else None)
    if not isinstance(event.get("id"), str):
        raise StartOver(Code.DELTA_DRIFT, whole=True)
    return Event(event["id"], kind, what, found, before if isinstance(before, dict) else None)


def _fold_page(body: bytes, wanted: frozenset[str], view: View, database: sqlite3.Connection) -> str | None:
    """Fold the events of a page, oldest first; gives the last one's id."""
    last = None
    for raw in decode_listing(body, "/events").data:
        event = _read_event(raw)
        last = event.id
        if event.kind in wanted and event.what in {"created", "updated", "deleted"}:
            _fold(event, view, database)
    return last


def _fold(event: Event, view: View, database: sqlite3.Connection) -> None:
    found = event.found
    if not isinstance(found, dict) or not isinstance(found.get("id"), str) or not found["id"]:
        raise StartOver(Code.DELTA_DRIFT, whole=True)
    if event.kind == "users" and view.parents and moves_links(event):
        raise StartOver(Code.DELTA_NOT_ENOUGH, whole=True)
    gone = event.what == "deleted"
    if event.kind == "sections":
        once = [*list_former(event), *_list_kept(database, found["id"])]
        database.executemany("INSERT OR IGNORE INTO once VALUES (?, ?)", [(found["id"], one) for one in once])
    database.execute("INSERT INTO objects VALUES (?, ?, ?, ?)", (event.kind, found["id"], gone, pack(found)))


def list_former(event: Event) -> set[str]:
    """The enrollments a section had before an event, or has had until it was deleted (pure).

    Raises `StartOver` DELTA_DRIFT where the event does not tell.
    """
    found = event.found
    listed = ("students", "teacher", "teachers")
    if event.what == "created":
        return set()
    if event.what == "updated":
        if event.before is None:
            raise StartOver(Code.DELTA_DRIFT, whole=True)
        former = {name: event.before[name] for name in listed if name in event.before}
    else:
        if "students" not in found and "teachers" not in found:
            raise StartOver(Code.DELTA_DRIFT, whole=True)
        former = {name: found[name] for name in listed if name in found}
    return _roster({**former, "id": found["id"]}).sourced_ids()


def moves_links(event: Event) -> bool:
    """Whether something between students and contacts may have changed, which others' records tell of, too (pure)."""
    roles = event.found.get("roles")
    if not isinstance(roles, dict) or roles.get("contact") is not None:
        return True
    if event.what != "updated":
        return roles.get("student") is not None
    if event.before is None or any(name.startswith("roles.") for name in event.before):
        return True
    former = event.before.get("roles", roles)
    if not isinstance(former, dict) or former.get("contact") is not None:
        return True
    student, before = roles.get("student") or {}, former.get("student") or {}
    return bool(student) != bool(before) or any(
        before[name] != student.get(name) for name in ("school", "schools") if name in before
    )


def _list_kept(database: sqlite3.Connection, section: str) -> set[str]:
    """The enrollments of a section as it was after its last event."""
    rows = database.execute("SELECT content FROM objects WHERE kind = 'sections' AND id = ?", (section,)).fetchall()
    return {one for (content,) in rows for one in _roster(unpack(content)).sourced_ids()}


def _roster(found: Any) -> Roster:
    try:
        return read_roster(found)
    except RecordProblem:
        raise StartOver(Code.DELTA_DRIFT, whole=True) from None


async def _complete(api: CleverApi, spool: Spool, view: View) -> None:
    """Ask for objects that came in part; those that are not shared any more are gone (P18)."""
    partial_ones: list[tuple[str, str]] = []
    students = 0
    async for rows in spool.walk("objects", "kind, id, content", where="NOT gone", at_once=_AT_ONCE):
        for kind, key, content in rows:
            found = unpack(content)
            students += view.parents and kind == "users" and "student" in view.roles(found)
            if is_partial(kind, found):
                partial_ones.append((kind, key))
        if len(partial_ones) + students > _MOST_ASKED:
            raise StartOver(Code.DELTA_NOT_ENOUGH, whole=True)
    for kind, key in partial_ones:
        try:
            content = pack(await fetch_single(api, kind, key))
            await spool.add("UPDATE objects SET content = ? WHERE kind = ? AND id = ?", [(content, kind, key)])
        except ProviderError as error:
            if error.code is not Code.PROV_NOT_FOUND:
                raise
            await spool.add("UPDATE objects SET gone = 1 WHERE kind = ? AND id = ?", [(kind, key)])


def is_partial(kind: str, found: Any) -> bool:
    """Whether an object lacks what every whole one has (pure)."""
    return any(name not in found for name in _NEEDED[kind])


class Changes:
    """What changed in a district."""

    mode: Mode = "delta"
    mode_code: Code | None = None
    increments = True
    collections = (*dict.fromkeys(COLLECTIONS.values()), "enrollments", "demographics")

    def __init__(self, api: CleverApi, spool: Spool, view: View, last: str | None, findings: Sequence[Finding]) -> None:
        self.refused_schools: dict[str, str] = {}
        self._api = api
        self._spool = spool
        self._view = view
        self._last = last
        self._findings = findings

    async def pages(self, collection: str, scope: Scope) -> AsyncGenerator[Page, None]:
        """The records of a collection that changed, and the tombstones of those that went."""
        if collection == "enrollments":
            makers: dict[str, _Make] = {"sections": self._make_enrollments}
        elif collection == "demographics":
            makers = {"users": self._make_demographics}
        else:
            makers = {kind: partial(self._make, kind) for kind, name in COLLECTIONS.items() if name == collection}
        for kind, make in makers.items():
            found = self._spool.walk("objects", "id, gone, content", where="kind = ?", values=(kind,), at_once=_AT_ONCE)
            async for rows in found:
                for page in await make([_State(key, bool(gone), unpack(content)) for key, gone, content in rows]):
                    page.received = len(page.records) + len(page.tombstones) + len(page.refused)
                    yield make_page(collection, page, scope)

    def proof(self, collection: str) -> Proof:  # noqa: ARG002 - the same for all of them
        """Only what changed was read."""
        return Proof.CHANGES

    async def find(self, collection: str, sourced_id: str, scope: Scope) -> Page | None:
        """One record by its id; None if there is none."""
        try:
            return await find_record(self._api, self._view, collection, sourced_id, scope)
        except ProviderError as error:
            if error.code is Code.PROV_NOT_FOUND:
                return None
            raise

    async def finish(self, seen: Mapping[str, Seen]) -> dict[str, Any]:  # noqa: ARG002 - nothing is checked with it
        """The last event that was read."""
        return {"event": self._last}

    async def remark(self) -> Sequence[Finding]:
        """What Clever says of the district."""
        return self._findings

    async def _make(self, kind: str, states: Sequence[_State]) -> list[RawPage]:
        view, page = self._view, RawPage(suspicious=True)
        if kind == "users" and view.parents:
            view = replace(view, links=Links(contacts=await self._find_contacts(states)))
        for state in states:
            if state.gone or (
                kind == "users" and isinstance(state.found.get("roles"), dict) and not view.roles(state.found)
            ):
                page.tombstones.append(state.id)
            else:
                read.take(page, state.found, lambda found: READERS[kind](found, view, page.notes))
        return [page]

    async def _find_contacts(self, states: Sequence[_State]) -> dict[str, list[str]]:
        students = [one.id for one in states if not one.gone and "student" in self._view.roles(one.found)]
        return await find_contacts(self._api, students)

    async def _make_enrollments(self, states: Sequence[_State]) -> list[RawPage]:
        pages: list[RawPage] = []
        for state in states:
            statement = "SELECT enrollment FROM once WHERE section = ?"
            once = {row[0] for row in await self._spool.rows(statement, state.id)}
            here = [] if state.gone else list(_roster(state.found).enrollments())
            if state.gone:
                once |= _roster(state.found).sourced_ids()
            gone = sorted(once - {one.sourced_id for one in here})
            pages += _split(here, gone)
        return pages

    async def _make_demographics(self, states: Sequence[_State]) -> list[RawPage]:
        """Who is gone, no student any more or without any marks has none."""
        page = RawPage(suspicious=True)
        for state in states:
            marks = None if state.gone else pick_demographics(state.found)
            taken = len(page.records) + len(page.refused)
            if marks is not None:
                read.take(page, marks, lambda marks: read_demographics(marks, page.notes))
            if len(page.records) + len(page.refused) == taken:
                page.tombstones.append(state.id)
        return [page]


@dataclass(frozen=True, slots=True)
class _State:
    """What became of an object."""

    id: str
    gone: bool
    found: Any


_Make = Callable[[Sequence[_State]], Awaitable[Sequence[RawPage]]]


def _split(here: Sequence[Any], gone: Sequence[str]) -> Iterable[RawPage]:
    """Pages of no more than a fair number of records."""
    size = read.RECORDS_PER_PAGE
    for start in range(0, max(len(here), len(gone)), size):
        part = slice(start, start + size)
        yield RawPage(records=list(here[part]), tombstones=list(gone[part]), suspicious=True)
