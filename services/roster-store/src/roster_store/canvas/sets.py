"""A roster as a set of Canvas' SIS import files, from one snapshot of the database."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

from homeroom.db import Connection
from roster_store.archives import LARGE_ROWS, Entry, Row
from roster_store.canvas.options import LOGIN_COLUMNS, CanvasOptions
from roster_store.canvas.rows import (
    HEADERS,
    ROLES,
    Calendar,
    CourseRows,
    EnrollmentRows,
    list_accounts,
    list_observers,
    list_sections,
    list_users,
    place_accounts,
)
from roster_store.csv_export.exports import BATCH_SECONDS, read_batches
from roster_store.sights import Sight
from roster_store.tables import SQL, TABLES

FILES: Final = tuple(HEADERS)
MOST_PROBLEMS: Final = 1_000

Render = Callable[[Sequence[Any]], Iterable[Row]]


@dataclass(slots=True)
class Count:
    """What a file came to."""

    rows: int = 0
    active: int = 0
    """Rows for something that is in the roster; the others tell of what left it."""


@dataclass(slots=True)
class CanvasSet:
    """A set that is being read: which files, of whom, and what was counted so far."""

    sight: Sight
    options: CanvasOptions
    basis: int | None = None
    """The step since when what was removed is told of as well; None for never."""
    counts: dict[str, Count] = field(default_factory=lambda: {name: Count() for name in FILES})


def narrow_sight(sight: Sight, options: CanvasOptions) -> Sight:
    """What of a sight a set is made of: never demographics nor metadata, guardians only if they are wanted."""
    unwanted = {"demographics", "metadata"} | (set() if options.guardians else {"guardians"})
    return replace(sight, grants=sight.grants - unwanted)


async def list_entries(connection: Connection, wanted: CanvasSet) -> AsyncGenerator[Entry]:
    """The files of a set, parents before children; all of them are there, also without rows."""
    sight, options = wanted.sight, wanted.options
    no, basis, shared = sight.integration_no, wanted.basis, options.courses == "shared"
    await connection.fetch(SQL["read_in_bulk"])
    orgs = await connection.fetch(SQL["list_canvas_orgs"], no)
    sessions = await connection.fetch(SQL["list_canvas_sessions"], no)
    calendar = Calendar(sessions, options.time_zone, await find_today(connection, options.time_zone))
    meetings = await connection.fetch(SQL["list_canvas_meetings"], no, basis, timeout=BATCH_SECONDS)
    used = {calendar.find_term(row["term_sourced_ids"]).term_id for row in meetings}
    login = LOGIN_COLUMNS[options.login]
    large = {name: await _is_large(connection, no, name) for name in ("classes", "users", "enrollments")}
    large |= {"courses": large["classes"], "sections": large["classes"]}

    yield _small(wanted, "accounts", list_accounts(orgs))
    yield _small(wanted, "terms", calendar.list_terms(used))
    courses = CourseRows(calendar, place_accounts(orgs), shared=shared)
    enrollments = EnrollmentRows(calendar)
    readings: list[tuple[str, str, Render, CourseRows | EnrollmentRows | None]] = [
        ("courses", SQL["list_canvas_classes"], courses.render, courses),
        ("sections", SQL["list_canvas_classes"], partial(list_sections, calendar=calendar, shared=shared), None),
        ("users", SQL["list_canvas_users"], list_users, None),
        ("enrollments", SQL["list_canvas_enrollments"], enrollments.render, enrollments),
    ]
    for name, statement, render, merging in readings:
        rows = read_batches(connection, statement.format(login=login), no, basis)
        async with aclosing(_with_end(rows, merging)) as batches:
            counted = _counting(wanted, name, render, merging)
            yield Entry(f"{name}.csv", HEADERS[name], batches, counted, large=large[name])
    pairs = read_batches(connection, SQL["list_canvas_observers"].format(login=login), no)
    async with aclosing(_with_end(pairs, None)) as batches:
        counted = _counting(wanted, "user_observers", list_observers, None)
        yield Entry("user_observers.csv", HEADERS["user_observers"], batches, counted, large=large["users"])


async def _is_large(connection: Connection, integration_no: int, name: str) -> bool:
    statement = TABLES[name].sql("count_exported", narrowing="", most=str(LARGE_ROWS))
    return bool(await connection.fetchval(statement, integration_no, timeout=BATCH_SECONDS) >= LARGE_ROWS)


async def find_today(connection: Connection, zone: str) -> date:
    """What day it is in a time zone, by the database's clock."""
    now = await connection.fetchval("SELECT now()")
    today: date = now.astimezone(ZoneInfo(zone)).date()
    return today


async def list_problems(connection: Connection, sight: Sight, options: CanvasOptions) -> list[Mapping[str, Any]]:
    """Who and what a set leaves out, or Canvas may refuse: the first of each, with how many there are."""
    statement = SQL["list_canvas_problems"].format(login=LOGIN_COLUMNS[options.login])
    await connection.fetch(SQL["read_in_bulk"])
    rows = await connection.fetch(statement, sight.integration_no, list(ROLES), MOST_PROBLEMS, timeout=BATCH_SECONDS)
    return [dict(row) for row in rows]


_END: Final = ({"end": True},)


async def _with_end(
    batches: AsyncIterator[Sequence[Any]], merging: CourseRows | EnrollmentRows | None
) -> AsyncGenerator[Sequence[Any]]:
    """The batches, and after them a mark for whoever merges rows."""
    async for batch in batches:
        yield batch
    if merging is not None:
        yield _END


def _counting(wanted: CanvasSet, name: str, render: Render, merging: CourseRows | EnrollmentRows | None) -> Render:
    """The rendering, and a count of what it makes."""
    count = wanted.counts[name]

    def rendered(batch: Sequence[Any]) -> Iterator[Row]:
        rows = merging.finish() if merging is not None and batch is _END else render(batch)
        for row in rows:
            count.rows += 1
            yield row
        if merging is not None:
            count.active = merging.active
        else:
            count.active += sum("active" not in record or bool(record["active"]) for record in batch)

    return rendered


def _small(wanted: CanvasSet, name: str, rows: Sequence[Row]) -> Entry:
    wanted.counts[name] = Count(len(rows), len(rows))
    return Entry(f"{name}.csv", HEADERS[name], _once(rows), list, large=len(rows) >= LARGE_ROWS)


async def _once(rows: Sequence[Row]) -> AsyncIterator[Sequence[Row]]:
    yield rows
