"""Every change of a run as CSV, streamed: from its plan as it was made, or from what its applies did (C11).

The lines come from one snapshot of the database, a thousand changes at a time, whatever the district's size. Only a
few downloads are open at once, so that slow readers leave connections to everybody else; one that reads nothing for
two minutes is cut off by Postgres.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.problems import Problem
from roster_store.plan_changes import changes_name, list_fields
from roster_store.spreadsheets import BYTE_ORDER_MARK, render_lines
from roster_store.tables import SQL, TABLES

BATCH = 1_000
BATCH_SECONDS = 300.0
"""For the first lines everything may have to be sorted."""
STREAM_SECONDS = 1_800.0
MOST_DOWNLOADS = 3
"""At once in a process; its pool has 8 connections."""
COLUMNS = (
    "collection", "change", "reason", "held", "sourced_id", "schools", "given_name", "family_name", "title", "role",
    "field", "before", "after",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """Where the changes of a run are known from: a kept plan, or its applies (none: it changed nothing)."""

    plan: int | None = None
    """The number of the plan's fetch."""
    integration_no: int = 0
    applies: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Filters:
    """What to leave out; None is everything."""

    collection: str | None = None
    change: str | None = None
    school: str | None = None


async def find_source(database: Database, run_id: UUID, organization_id: str | None) -> Source | None:
    """Where a run's changes are known from; None for an unknown run, `Problem` PLAN_GONE for one that is forgotten."""
    report = await database.fetchrow(SQL["find_report"], run_id, organization_id)
    if report is not None and report["report"] is not None:
        return Source(plan=report["fetch_no"])
    applies = await database.fetch(SQL["find_applies"], run_id, organization_id)
    if any(row["forgotten"] for row in applies) or (report is not None and not applies):
        raise forgotten()
    if applies:
        return Source(integration_no=applies[0]["integration_no"], applies=[row["no"] for row in applies])
    unchanged = await database.fetchval(SQL["find_unchanged"], run_id, organization_id)
    return Source() if unchanged else None


def forgotten() -> Problem:
    """What whoever comes too late is told."""
    return Problem(Code.PLAN_GONE, status=410, detail="The details of this run are not kept any more.")


class Download(StreamingResponse):
    """A file whose connection is given back however the answer ends."""

    def __init__(self, stack: AsyncExitStack, parts: AsyncIterator[bytes], name: str) -> None:
        super().__init__(
            parts,
            media_type="text/csv; charset=utf-8; header=present",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )
        self._stack = stack

    async def close(self) -> None:
        """Give everything back without sending the file."""
        await self._stack.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        async with self._stack:
            await super().__call__(scope, receive, send)


async def open_download(database: Database, source: Source, filters: Filters, name: str) -> Download:
    """The file, not read yet. Whatever can be refused is refused here: too many downloads, a plan just forgotten."""
    stack = AsyncExitStack()
    try:
        stack.enter_context(_take_place())
        connection = await stack.enter_async_context(database.connection())
        await stack.enter_async_context(connection.transaction(isolation="repeatable_read", readonly=True))
        if source.plan is not None and not await connection.fetchval(
            SQL["find_plan_changes"], changes_name(source.plan)
        ):
            raise forgotten()
        parts = _render(await stack.enter_async_context(aclosing(_list_changes(connection, source, filters))))
        return Download(stack, await stack.enter_async_context(aclosing(parts)), name)
    except BaseException:
        await stack.aclose()
        raise


async def _render(batches: AsyncIterator[Sequence[Mapping[str, Any]]]) -> AsyncGenerator[bytes]:
    deadline = asyncio.get_running_loop().time() + STREAM_SECONDS
    yield (BYTE_ORDER_MARK + render_lines([COLUMNS])).encode()
    async for batch in batches:
        yield render_lines(line for change in batch for line in _list_lines(change)).encode()
        if asyncio.get_running_loop().time() > deadline:
            msg = "a download takes too long"
            raise TimeoutError(msg)  # breaks the answer off, which its reader notices


async def _list_changes(
    connection: Connection, source: Source, filters: Filters
) -> AsyncGenerator[Sequence[Mapping[str, Any]]]:
    if source.plan is not None:
        statement = SQL["list_plan_changes"].format(changes=changes_name(source.plan))
        async for rows in _read(connection, statement, filters.collection, filters.change, filters.school):
            yield [dict(row) for row in rows]
    for apply_no in source.applies:
        for collection, table in TABLES.items():
            if filters.collection not in (None, collection):
                continue
            statement = SQL["list_applied_changes"].format(
                found=table.sql("list_run_changes").rstrip(";"),
                label=SQL["now_users" if collection == "demographics" else f"now_{table.name}"],
            )
            args = (source.integration_no, apply_no, collection, filters.change, filters.school)
            async for rows in _read(connection, statement, *args):
                yield [dict(row) | {"fields": _compare(row, list_fields(table))} for row in rows]


async def _read(connection: Connection, statement: str, *args: object) -> AsyncIterator[list[asyncpg.Record]]:
    cursor = await connection.cursor(statement, *args, timeout=BATCH_SECONDS)
    while rows := await cursor.fetch(BATCH, timeout=BATCH_SECONDS):
        yield rows


def _compare(row: asyncpg.Record, fields: Sequence[tuple[str, str]]) -> list[list[Any]] | None:
    """`[field, before, after]` for each field of a changed record that differs; None for all others."""
    before, after = row["before"], row["after"]
    if row["change"] != "changed" or before is None:
        return None
    return [[name, before[column], after[column]] for column, name in fields if before[column] != after[column]]


def _list_lines(change: Mapping[str, Any]) -> Iterator[list[object]]:
    """The lines of one change; of a record that changed in no field, one without a field."""
    label = [change[column] for column in COLUMNS[: COLUMNS.index("field")]]
    for field in change["fields"] or [[None, None, None]]:
        yield [*label, *field]


_open = 0


@contextmanager
def _take_place() -> Iterator[None]:
    global _open  # noqa: PLW0603 - a number for the whole process, as its connections are
    if _open >= MOST_DOWNLOADS:
        raise Problem(
            Code.BUSY, status=503, detail="Others are downloading; try again soon.", headers={"Retry-After": "10"}
        )
    _open += 1
    try:
        yield
    finally:
        _open -= 1
