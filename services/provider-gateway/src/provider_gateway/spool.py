"""Rows on disk: what one fetch has to keep until another collection needs it, whatever the district's size.

One SQLite file in the fetch's own workspace, used by one thread, so that the event loop goes on while it is written.
Nothing of it outlives the fetch: the workspace is removed with everything in it, so nothing is synced to the disk.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

T = TypeVar("T")
Row = tuple[Any, ...]

_CACHE_KIB: Final = 8_192
_AT_ONCE: Final = 500


class Spool:
    """Tables of one fetch; open one with `Spool.open`."""

    def __init__(self, database: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._database = database
        self._thread = thread

    @classmethod
    @asynccontextmanager
    async def open(cls, workspace: Path, *tables: str) -> AsyncIterator[Spool]:
        """A file in `workspace` with these tables, each given as SQL; closed with the block."""
        thread = ThreadPoolExecutor(1, "spool")
        loop = asyncio.get_running_loop()
        database = await loop.run_in_executor(thread, _connect, workspace / "spool.sqlite", tables)
        try:
            yield cls(database, thread)
        finally:
            # After whatever the thread is still at: a cancelled wait does not end the work it waited for.
            thread.submit(database.close)
            thread.shutdown(wait=False)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` with the database, after whatever was asked for before, and keep what it wrote."""

        def transact() -> T:
            with self._database:
                return work(self._database)

        return await asyncio.get_running_loop().run_in_executor(self._thread, transact)

    async def add(self, statement: str, rows: Iterable[Row]) -> None:
        """Execute a statement for each row."""
        kept = list(rows)

        def write(database: sqlite3.Connection) -> None:
            # Nothing is returned: a cursor that ended in another thread would disturb the statement's next use in this.
            database.executemany(statement, kept)

        if kept:
            await self.run(write)

    async def rows(self, statement: str, *values: object) -> list[Row]:
        """The rows of a query whose answer is known to be short."""
        return await self.run(lambda database: database.execute(statement, values).fetchall())

    async def among(self, table: str, column: str, values: Sequence[str], *, columns: str = "*") -> list[Row]:
        """The rows of a table whose column holds one of some values."""
        found: list[Row] = []
        for start in range(0, len(values), _AT_ONCE):
            part = values[start : start + _AT_ONCE]
            statement = f"SELECT {columns} FROM {table} WHERE {column} IN ({','.join('?' * len(part))})"  # noqa: S608 - names from code, values are parameters
            found += await self.rows(statement, *part)
        return found

    async def walk(
        self, table: str, columns: str, *, where: str = "TRUE", values: Row = (), at_once: int = _AT_ONCE
    ) -> AsyncIterator[list[Row]]:
        """The rows of a table that has row ids, in the order they were written, some at a time."""
        last = -1
        statement = f"SELECT rowid, {columns} FROM {table} WHERE rowid > ? AND {where} ORDER BY rowid LIMIT ?"  # noqa: S608 - names from code, never values
        while found := await self.rows(statement, last, *values, at_once):
            last = found[-1][0]
            yield [row[1:] for row in found]


def _connect(path: Path, tables: Iterable[str]) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False)  # opened and used by the spool's one thread
    for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
        database.execute(f"PRAGMA {setting}")
    for table in tables:
        database.execute(table)
    database.commit()
    return database


def pack(found: Any) -> bytes:
    """A JSON value as it came, as bytes for a table."""
    try:
        return msgspec.json.encode(found)
    except UnicodeEncodeError:
        return json.dumps(found).encode()  # writes halves of surrogate pairs as escapes


def unpack(row: bytes) -> Any:
    """The inverse of `pack`."""
    try:
        return msgspec.json.decode(row)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json.loads(row)
