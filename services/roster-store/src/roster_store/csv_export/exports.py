"""Reads a roster as a sight shows it and writes it as a OneRoster CSV set, from one snapshot of the database.

A set since a cursor holds what changed after it. The cursor to go on with is taken before the snapshot, so that
whatever commits meanwhile comes with the next set, twice rather than never.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any

import asyncpg

from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.problems import Problem
from roster_store.archives import LARGE_ROWS, Archive, Entry, take_place, write_archive
from roster_store.csv_export.layouts import (
    PROGRAMS,
    ROSTER_FILES,
    Extra,
    Mode,
    Version,
    gather_extras,
    list_manifest,
    make_layout,
    minor_of,
)
from roster_store.feed import Cursor
from roster_store.sights import Rosters, Sight
from roster_store.tables import SQL, TABLES

BATCH = 1_000
BATCH_SECONDS = 300.0
MOST_EXTRAS = 200
"""Metadata columns of a file at most; the most frequent keys come first."""
CURSOR_HEADER = "Homeroom-Cursor"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is exported: which version, and since when; None for everything."""

    version: Version
    since: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One file that is not absent."""

    name: str
    collection: str
    mode: Mode
    narrowing: str
    large: bool


async def settle_cursor(database: Database, sight: Sight) -> Cursor:
    """Where readers of a snapshot taken from now on may go on: no step before it is still on its way."""
    return Cursor(await database.fetchval(SQL["find_settled_step"], sight.integration_no))


async def check_cursor(database: Database, sight: Sight, since: Cursor) -> None:
    """Refuse a cursor since when changes do not tell everything. To be asked once the snapshot is taken.

    Raises `Problem`: CURSOR_EXPIRED, or CURSOR_INVALID for one that is ahead of the feed.
    """
    row = await database.fetchrow(SQL["find_first_cursor"], sight.integration_no, sight.product_id)
    assert row is not None  # noqa: S101 - the statement always gives a row
    if since.apply_no < row["first"]:
        detail = "What was removed since then is not known any more, or what is licensed has changed since."
        raise Problem(Code.CURSOR_EXPIRED, status=410, detail=detail)
    if since.apply_no > row["last"]:
        raise Problem(Code.CURSOR_INVALID, status=400, detail="The cursor is ahead of the feed.")


async def open_export(database: Database, rosters: Rosters, sight: Sight, wish: Wish) -> tuple[AsyncExitStack, Archive]:
    """A set, not read yet; whatever can be refused is refused here. Whoever does not send it closes the stack."""
    stack = AsyncExitStack()
    try:
        stack.enter_context(take_place())
        cursor = await settle_cursor(database, sight)
        connection = await stack.enter_async_context(rosters.look(sight, isolation="repeatable_read"))
        if wish.since is not None:
            await check_cursor(database, sight, wish.since)
        parts = await find_parts(connection, sight, wish)
        entries = await stack.enter_async_context(aclosing(list_entries(connection, sight, wish, parts)))
        made_at = await connection.fetchval("SELECT now()")
        pieces = await stack.enter_async_context(aclosing(write_archive(entries, made_at)))
        headers = {CURSOR_HEADER: str(cursor), "X-Content-Type-Options": "nosniff"}
        return stack, Archive(stack, pieces, "oneroster.zip", headers)
    except BaseException:
        await stack.aclose()
        raise


# ── what is in the set ────────────────────────────────────────────────────────────────────────────────────────────


async def find_parts(connection: Connection, sight: Sight, wish: Wish) -> list[Part]:
    """The files that have rows; a file without any is declared absent."""
    parts: list[Part] = []
    for name in ROSTER_FILES:
        if name == "demographics" and "demographics" not in sight.grants:
            continue
        mode, narrowing = _narrow(sight, wish)
        count = await _count(connection, sight, name, narrowing)
        if count and name == "users" and minor_of(wish.version) > 1:
            # Only all roles of people say what they are: when anybody changed, everybody comes.
            mode, narrowing = "bulk", _ACTIVE
            count = await _count(connection, sight, name, narrowing)
            if count:
                parts.append(Part("roles", name, mode, narrowing, count >= LARGE_ROWS // 4))
        if count:
            parts.append(Part(name, name, mode, narrowing, count >= LARGE_ROWS))
    return parts


_ACTIVE = "AND active"


def _narrow(sight: Sight, wish: Wish) -> tuple[Mode, str]:
    """A file's mode, and the condition on its rows; of numbers only."""
    if wish.since is None:
        return "bulk", _ACTIVE
    number, place = int(wish.since.apply_no), int(wish.since.change_no)
    by_index = f"AND held_by >= {number} " if sight.whole else ""
    return "delta", f"{by_index}AND (changed_by > {number} OR (changed_by = {number} AND change_no > {place}))"


async def _count(connection: Connection, sight: Sight, name: str, narrowing: str) -> int:
    statement = TABLES[name].sql("count_exported", narrowing=narrowing, most=str(LARGE_ROWS))
    count: int = await connection.fetchval(statement, sight.integration_no, timeout=BATCH_SECONDS)
    return count


async def list_entries(
    connection: Connection, sight: Sight, wish: Wish, parts: Sequence[Part]
) -> AsyncGenerator[Entry]:
    """The files of the archive, the manifest first."""
    modes = {part.name: part.mode for part in parts}
    yield Entry("manifest.csv", ("propertyName", "value"), _once(list_manifest(wish.version, modes)), list)
    schools: list[str] = []
    if "roles" in modes:
        schools = [row[0] for row in await connection.fetch(SQL["list_exported_schools"], sight.integration_no)]
    for part in parts:
        extras = [] if part.name == "roles" else await _find_extras(connection, sight, part)
        layout = make_layout(part.name, wish.version, part.mode, extras, schools)
        async with aclosing(_read(connection, sight, part)) as batches:
            yield Entry(f"{part.name}.csv", layout.header, batches, layout.render, large=part.large)


async def _find_extras(connection: Connection, sight: Sight, part: Part) -> list[Extra]:
    fixed = PROGRAMS if part.name == "demographics" else ()
    keys: list[str] = []
    if "metadata" in sight.grants:
        statement = TABLES[part.collection].sql("list_exported_keys", narrowing=part.narrowing, most=str(MOST_EXTRAS))
        found = await connection.fetch(statement, sight.integration_no, timeout=BATCH_SECONDS)
        keys = [row["key"] for row in found]
    return gather_extras(keys, fixed)


async def _read(connection: Connection, sight: Sight, part: Part) -> AsyncGenerator[list[asyncpg.Record]]:
    table = TABLES[part.collection]
    columns = ", ".join(f'"{field}"' for field in table.fields if field != "sourced_id")
    if part.name == "roles":
        columns = "roles"
    statement = table.sql("list_exported", narrowing=part.narrowing, columns=columns)
    async for rows in read_batches(connection, statement, sight.integration_no):
        yield rows


async def read_batches(connection: Connection, statement: str, *args: object) -> AsyncIterator[list[asyncpg.Record]]:
    """The rows of a statement, some at a time."""
    cursor = await connection.cursor(statement, *args, timeout=BATCH_SECONDS)
    while rows := await cursor.fetch(BATCH, timeout=BATCH_SECONDS):
        yield rows


async def _once(rows: Sequence[Any]) -> AsyncIterator[Sequence[Any]]:
    yield rows
