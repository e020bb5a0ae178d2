"""Records made and changed by hand (C9): beside what is synced, in the same tables, steps, history and feed.

What is made by hand is `manual`: no sync touches it. A synced record may be edited, which counts until the next sync:
its fingerprint becomes 0, so whatever the provider has differs from it and takes its place again. A synced record can't
be deleted, since the next sync would bring it back.

Each change is one step of its own (`manual`), made while the integration is locked as an apply locks it. A fetch that
is under way is not disturbed: it was compared with the roster before, and takes nothing of this away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.problems import Problem
from homeroom.roster import (
    AcademicSession,
    Class,
    Course,
    Demographics,
    Enrollment,
    Org,
    Record,
    User,
    encode_record,
    fingerprint,
    record_key,
)
from homeroom.rules import Fault, can_be_new_id, read_record
from roster_store.application import ApplyNumber, Segment, take_number
from roster_store.belongings import follow
from roster_store.privacy.noting import note_record
from roster_store.search import take_in
from roster_store.steps import add_step
from roster_store.tables import SQL, TABLES, Table

EDITED: Final = 0
"""The fingerprint of a synced record that was edited by hand."""
_FOLLOWED: Final = ("users", "classes")
"""What takes others along when it is deleted."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which record is meant, and who asks."""

    integration_id: UUID
    collection: str
    sourced_id: str
    by: str
    """The subject of the caller's token."""

    @property
    def table(self) -> Table:
        """The collection's table."""
        return TABLES[self.collection]


class Reference(NamedTuple):
    """What a record points to."""

    field: str
    collection: str
    sourced_id: str


def make_id() -> str:
    """The sourcedId of a record made by hand that was given none."""
    return f"manual-{new_id()}"


# ── what callers ask for ──────────────────────────────────────────────────────────────────────────────────────────


async def create_record(database: Database, place: Place, fields: Mapping[str, Any]) -> None:
    """Make a record by hand; the same again changes nothing.

    Raises `Problem`: REQUEST_INVALID, REF_MISSING, RECORD_EXISTS.
    """
    if not can_be_new_id(place.sourced_id):
        raise _refuse_fields([Fault("sourcedId", "is no id a new record may have", Code.RECORD_INVALID)])
    record = read_fields(place, fields)
    await database.transact(partial(_change, place=place, decide=partial(_decide_creation, record=record)))


async def replace_record(
    database: Database, place: Place, fields: Mapping[str, Any], versions: frozenset[int] | None, *, blind: bool
) -> None:
    """Give a record other values, all of them.

    Args:
        database: the store's.
        place: which record.
        fields: the whole record.
        versions: one of which it must have; None for whatever it has by now.
        blind: whether the caller does not see demographics, so that what they don't mention of them stays.

    Raises `Problem`: NOT_FOUND, VERSION_CHANGED, REQUEST_INVALID, REF_MISSING.
    """

    def make(held: Record) -> Record:
        record = read_fields(place, fields)
        if blind and isinstance(record, User) and isinstance(held, User) and record.pronouns is None:
            record = msgspec.structs.replace(record, pronouns=held.pronouns)
        return record

    await database.transact(
        partial(_change, place=place, decide=partial(_decide_edit, place=place, make=make, versions=versions))
    )


async def edit_record(
    database: Database, place: Place, patch: Mapping[str, Any], versions: frozenset[int] | None
) -> None:
    """Give some fields of a record other values; null takes a value away (a JSON merge patch, RFC 7396).

    Raises `Problem`: NOT_FOUND, VERSION_CHANGED, REQUEST_INVALID, REF_MISSING.
    """

    def make(held: Record) -> Record:
        return read_fields(place, merge(msgspec.to_builtins(held), patch))

    await database.transact(
        partial(_change, place=place, decide=partial(_decide_edit, place=place, make=make, versions=versions))
    )


async def delete_record(database: Database, place: Place, versions: frozenset[int] | None) -> dict[str, int]:
    """Delete a record that was made by hand, and with a person or class their enrollments and demographics.

    How many that were, by collection. Raises `Problem`: NOT_FOUND, VERSION_CHANGED, RECORD_SYNCED, RECORD_IN_USE.
    """
    return await database.transact(partial(_delete, place=place, versions=versions))


def read_fields(place: Place, fields: Any) -> Record:
    """The record in a body; raises `Problem` REQUEST_INVALID that names every field that is wrong."""
    given = fields.get("sourcedId", place.sourced_id) if isinstance(fields, dict) else place.sourced_id
    if given != place.sourced_id:
        raise _refuse_fields([Fault("sourcedId", "is another than that of the path", Code.RECORD_INVALID)])
    whole = {**fields, "sourcedId": place.sourced_id} if isinstance(fields, dict) else fields
    record, faults = read_record(place.collection, whole)
    if record is None:
        raise _refuse_fields(faults)
    return record


def merge(held: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7396).

    >>> merge({"a": 1, "b": {"c": 2, "d": 3}}, {"a": None, "b": {"c": 4}})
    {'b': {'c': 4, 'd': 3}}
    """
    if not isinstance(patch, dict):
        return patch
    merged = dict(held) if isinstance(held, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def list_references(record: Record) -> Iterator[Reference]:
    """Everything a record points to."""
    pairs: Iterable[tuple[str, str, str | None]] = ()
    match record:
        case Org():
            pairs = [("parentSourcedId", "orgs", record.parent_sourced_id)]
        case AcademicSession():
            pairs = [("parentSourcedId", "academicSessions", record.parent_sourced_id)]
        case Course():
            pairs = [
                ("schoolYearSourcedId", "academicSessions", record.school_year_sourced_id),
                ("orgSourcedId", "orgs", record.org_sourced_id),
            ]
        case Class():
            pairs = [
                ("schoolSourcedId", "orgs", record.school_sourced_id),
                ("courseSourcedId", "courses", record.course_sourced_id),
                *(("termSourcedIds", "academicSessions", term) for term in record.term_sourced_ids),
            ]
        case User():
            pairs = [
                *(("roles", "orgs", role.org_sourced_id) for role in record.roles),
                *(("agentSourcedIds", "users", agent) for agent in record.agent_sourced_ids),
            ]
        case Enrollment():
            pairs = [
                ("userSourcedId", "users", record.user_sourced_id),
                ("classSourcedId", "classes", record.class_sourced_id),
                ("schoolSourcedId", "orgs", record.school_sourced_id),
            ]
        case Demographics():
            pairs = [("sourcedId", "users", record.sourced_id)]
    yield from (Reference(field, owner, one) for field, owner, one in pairs if one is not None)


# ── decisions ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Decision:
    """What a record is to become, and as whose."""

    record: Record
    origin: str


def _decide_creation(held: asyncpg.Record | None, before: Record | None, record: Record) -> _Decision | None:
    if held is None or not held["active"]:
        return _Decision(record, "manual")
    if held["origin"] == "manual" and before == record:
        return None
    raise Problem(Code.RECORD_EXISTS, status=409, detail="An active record of this collection has that sourcedId.")


def _decide_edit(
    held: asyncpg.Record | None,
    before: Record | None,
    place: Place,
    make: Callable[[Record], Record],
    versions: frozenset[int] | None,
) -> _Decision | None:
    if held is None or before is None or not held["active"]:
        raise _not_found(place)
    record = make(before)
    if record == before:  # also what a change is answered with that was carried out already
        return None
    _check_version(held, versions)
    return _Decision(record, held["origin"])


def _check_version(held: asyncpg.Record, versions: frozenset[int] | None) -> None:
    if versions is not None and held["version"] not in versions:
        raise Problem(
            Code.VERSION_CHANGED,
            status=412,
            detail="The record has another version by now.",
            headers={"ETag": f'"{held["version"]}"'},
        )


# ── carrying them out ─────────────────────────────────────────────────────────────────────────────────────────────


async def _change(
    connection: Connection,
    place: Place,
    decide: Callable[[asyncpg.Record | None, Record | None], _Decision | None],
) -> None:
    number = await take_number(connection)
    no = await _lock(connection, place)
    held = await _find_held(connection, no, place)
    before = None if held is None else place.table.record(held)
    decision = decide(held, before)
    if decision is None:
        return
    was = before if held is not None and held["active"] else None
    await _check_references(connection, no, place, decision.record, was)
    await connection.execute(place.table.sql("keep_record"), no, number.no, place.collection, [place.sourced_id])
    await _write(connection, no, number, place.table, decision)
    step = _Step(connection, number, no, place)
    change = "changed" if was is not None else "added"
    await step.end([(place.collection, 1, 1)], {place.collection: {change: 1}}, _compare_totals(was, decision.record))
    await take_in(connection, no, place.collection, [place.sourced_id])


async def _delete(connection: Connection, place: Place, versions: frozenset[int] | None) -> dict[str, int]:
    number = await take_number(connection)
    no = await _lock(connection, place)
    held = await _find_held(connection, no, place)
    if held is None or not held["active"]:
        raise _not_found(place)
    _check_version(held, versions)
    if held["origin"] != "manual":
        raise Problem(Code.RECORD_SYNCED, status=409, detail="The record is synced, not made by hand.")
    await _check_dependents(connection, no, place)
    going: dict[str, list[str]] = {}
    if place.collection in _FOLLOWED:
        for row in await connection.fetch(SQL[f"list_followers_of_{place.collection}"], no, place.sourced_id):
            going.setdefault(row["collection"], []).append(row["sourced_id"])
    along = {collection: len(ids) for collection, ids in going.items()}
    going[place.collection] = [*going.get(place.collection, ()), place.sourced_id]
    segments: list[Segment] = []
    last = 0
    for collection in reversed(TABLES):  # children first, as with a sync's removals
        if ids := going.get(collection):
            table = TABLES[collection]
            await connection.execute(table.sql("keep_record"), no, number.no, collection, ids)
            await connection.execute(table.sql("delete_records"), no, number.no, last, ids)
            segments.append((collection, last + 1, last + len(ids)))
            last += len(ids)
    counts = {collection: {"removed": len(ids)} for collection, ids in going.items()}
    step = _Step(connection, number, no, place)
    await step.end(segments, counts, _compare_totals(place.table.record(held), None))
    await take_in(connection, no, place.collection, [place.sourced_id])
    return along


@dataclass(frozen=True, slots=True)
class _Step:
    """The step a change is."""

    connection: Connection
    number: ApplyNumber
    integration_no: int
    place: Place

    async def end(
        self, segments: list[Segment], counts: Mapping[str, Mapping[str, int]], totals: tuple[int, int, int]
    ) -> None:
        """Note the step, after its rows were written."""
        if any(totals):
            await self.connection.execute(SQL["move_totals"], self.integration_no, *totals)
        last = segments[-1][2]
        segments = [*segments, *await follow(self.connection, self.integration_no, self.number.no, last)]
        whole = {name: {"added": 0, "changed": 0, "removed": 0} | dict(count) for name, count in counts.items()}
        detail = {"by": self.place.by}
        await add_step(
            self.connection,
            self.number,
            "manual",
            self.integration_no,
            detail=detail,
            segments=segments,
            counts=whole,
        )
        await note_record(
            self.connection,
            self.integration_no,
            by=self.place.by,
            collection=self.place.collection,
            sourced_id=self.place.sourced_id,
            step=self.number.no,
            counts=whole,
        )


async def _lock(connection: Connection, place: Place) -> int:
    integration = await connection.fetchrow(SQL["lock_integration"], place.integration_id)
    if integration is None:
        raise _not_found(place)
    no: int = integration["no"]
    return no


async def _find_held(connection: Connection, no: int, place: Place) -> asyncpg.Record | None:
    columns = ", ".join(f'"{field}"' for field in place.table.fields)
    return await connection.fetchrow(place.table.sql("find_held_record", columns=columns), no, place.sourced_id)


async def _check_references(
    connection: Connection, no: int, place: Place, record: Record, before: Record | None
) -> None:
    """Refuse what points nowhere; a reference that was there before is not looked at."""
    known = set() if before is None else set(list_references(before))
    wanted: dict[str, list[Reference]] = {}
    for one in list_references(record):
        if one not in known:
            wanted.setdefault(one.collection, []).append(one)
    missing: list[Reference] = []
    for collection, references in wanted.items():
        ids = list({one.sourced_id for one in references})
        rows = await connection.fetch(TABLES[collection].sql("list_missing_references"), no, ids)
        lacking = {row["sourced_id"] for row in rows}
        itself = place.sourced_id if collection == place.collection else None
        missing += [one for one in references if one.sourced_id in lacking or one.sourced_id == itself]
    if missing:
        fields = sorted({(one.field, one.collection) for one in missing})
        raise Problem(
            Code.REF_MISSING,
            status=422,
            detail=f"What {', '.join(field for field, _ in fields)} names is not there, or not any more.",
            errors=[{"field": field, "problem": f"no such record in {collection}"} for field, collection in fields],
        )


async def _check_dependents(connection: Connection, no: int, place: Place) -> None:
    statement = SQL.get(f"count_dependents_of_{place.collection}")
    if statement is None:
        return
    row = await connection.fetchrow(statement, no, place.sourced_id)
    dependents = {name: count for name, count in (row or {}).items() if count}
    if dependents:
        named = ", ".join(f"{count:,} {name}" for name, count in dependents.items())
        raise Problem(Code.RECORD_IN_USE, status=409, detail=f"It is needed by {named}.", dependents=dependents)


async def _write(connection: Connection, no: int, number: ApplyNumber, table: Table, decision: _Decision) -> None:
    record = decision.record
    mark = fingerprint(encode_record(record)) if decision.origin == "manual" else EDITED
    values = (UUID(bytes=record_key(record.sourced_id)), mark, *msgspec.structs.astuple(record))
    statement = table.sql(
        "write_record",
        columns=table.column_list,
        values=", ".join(f"${place}" for place in range(4, 4 + len(values))),
        excluded=", ".join(f'excluded."{column}"' for column in table.columns),
    )
    await connection.execute(statement, no, number.no, decision.origin, *values)


def _compare_totals(before: Record | None, after: Record | None) -> tuple[int, int, int]:
    """How many students, teachers and classes more there are."""
    old, new = _count(before), _count(after)
    return (new[0] - old[0], new[1] - old[1], new[2] - old[2])


def _count(record: Record | None) -> tuple[int, int, int]:
    roles = {role.role for role in record.roles} if isinstance(record, User) else set()
    return int("student" in roles), int("teacher" in roles), int(isinstance(record, Class))


def _refuse_fields(faults: Iterable[Fault]) -> Problem:
    errors = [{"field": one.field, "problem": one.problem, "code": str(one.code)} for one in faults]
    fields = ", ".join(sorted({one["field"] for one in errors})[:5])
    return Problem(Code.REQUEST_INVALID, status=422, detail=f"Not accepted: {fields}.", errors=errors)


def _not_found(place: Place) -> Problem:
    return Problem(Code.NOT_FOUND, status=404, detail=f"There is no such record in {place.collection}.")
