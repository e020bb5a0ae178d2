"""Postgres, with a deadline on every wait.

A `Database` holds the pool. SQL of any length lives in `.sql` files as named statements (`-- name: claim_run`),
read once. Whole transactions are tried again, never single statements: `transact` takes the unit of work as a
function, so whatever it does must be safe to do twice (reliability facts §2.2).
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import msgspec
from opentelemetry import trace

from homeroom.telemetry import traced_sql

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Connection = asyncpg.Connection

T = TypeVar("T")

_STATEMENT = re.compile(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)

ACQUIRE_SECONDS = 10.0
STATEMENT_SECONDS = 60.0
CONNECT_SECONDS = 10.0

TRANSIENT = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg says when the server ends a connection in the midst of an answer
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    ConnectionError,
    TimeoutError,
    OSError,
)
"""What may pass by itself: the whole unit of work is tried again."""


class DatabaseBusy(Exception):  # noqa: N818 - a state rather than a mistake; becomes 503 BUSY
    """No connection was free within the deadline."""


def load_statements(package: str, folder: str = "sql") -> Mapping[str, str]:
    """Read the named statements of a package's `.sql` files.

    A statement begins with `-- name: NAME` and ends where the next begins. Raises ValueError for a name used twice.
    """
    statements: dict[str, str] = {}
    for entry in sorted(files(package).joinpath(folder).iterdir(), key=lambda found: found.name):
        if not entry.name.endswith(".sql"):
            continue
        for name, body in _STATEMENT.findall(entry.read_text("utf-8")):
            if name in statements:
                msg = f"the statement {name} stands twice in {package}/{folder}"
                raise ValueError(msg)
            statements[name] = body.strip()
    return statements


async def _set_codecs(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Let jsonb travel as plain Python values, also through COPY."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + msgspec.json.encode(value),
        decoder=lambda value: msgspec.json.decode(value[1:]),
    )


async def _leave(_: object) -> None:
    """Give a connection back as it is."""


def _traced(name: str) -> AbstractContextManager[object]:
    """A span for work on the database, as part of a trace that is under way; a service's idle rounds make none."""
    return traced_sql(name) if trace.get_current_span().is_recording() else nullcontext()


def _operation(sql: str) -> str:
    return sql.split(maxsplit=1)[0]


class Database:
    """A pool of connections to one Postgres, for one service's schema."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], *, clean: bool = True) -> None:
        self.pool = pool
        # Giving back what is not cleaned waits for nobody, so it needs no deadline, which would cost a task each time.
        self._release_seconds = ACQUIRE_SECONDS if clean else None

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        schema: str,
        size: int = 8,
        application: str = "homeroom",
        session: Mapping[str, str] | None = None,
        clean: bool = True,
    ) -> AsyncIterator[Database]:
        """Open the pool and close it at the end; `schema` becomes the search path, `session` further settings.

        Without `clean` connections go back as they are, which saves a round trip each time: for those who leave
        nothing behind on them (settings, session locks, cursors).
        """
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=size,
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS,
            max_inactive_connection_lifetime=120,
            server_settings={
                "search_path": f"{schema},public",
                "application_name": application,
                "lock_timeout": "30s",
                "idle_in_transaction_session_timeout": "120s",
                "timezone": "UTC",
                **(session or {}),
            },
            init=_set_codecs,
            reset=None if clean else _leave,
        )
        try:
            yield cls(pool, clean=clean)
        finally:
            try:
                await asyncio.wait_for(pool.close(), timeout=CONNECT_SECONDS)
            except TimeoutError:
                pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for reading; raises `DatabaseBusy` when none is free in time."""
        try:
            async with asyncio.timeout(ACQUIRE_SECONDS):  # asyncpg's own deadline makes a task of each acquire
                connection = await self.pool.acquire()
        except TimeoutError as error:
            msg = f"no connection was free within {ACQUIRE_SECONDS:.0f} s"
            raise DatabaseBusy(msg) from error
        try:
            yield connection
        finally:
            await self.pool.release(connection, timeout=self._release_seconds)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction, not tried again. Prefer `transact` for writing."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def transact(self, work: Callable[[Connection], Awaitable[T]], *, tries: int = 5) -> T:
        """Run `work` in a transaction, and the whole of it again if the failure may pass by itself.

        `work` must be safe to repeat: after a lost connection nobody knows whether COMMIT arrived.
        """
        for attempt in range(1, tries + 1):
            try:
                with _traced(getattr(getattr(work, "func", work), "__name__", "transaction")):
                    async with self.transaction() as connection:
                        return await work(connection)
            except (*TRANSIENT, DatabaseBusy) as error:
                if attempt == tries or isinstance(error, ValueError):  # asyncpg counts unfit values as interface errors
                    raise
                await asyncio.sleep(min(5.0, 0.05 * 2**attempt) * random.uniform(0.5, 1.5))
        raise AssertionError  # the loop returns or raises

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Rows of one statement."""
        with _traced(_operation(sql)):
            async with self.connection() as connection:
                return await connection.fetch(sql, *args)

    async def fetchrow(self, sql: str, *args: Any) -> asyncpg.Record | None:
        """The first row of one statement, or None."""
        with _traced(_operation(sql)):
            async with self.connection() as connection:
                return await connection.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        """The first value of the first row of one statement, or None."""
        with _traced(_operation(sql)):
            async with self.connection() as connection:
                return await connection.fetchval(sql, *args)

    async def ping(self) -> None:
        """Return if the database answers."""
        await self.fetchval("SELECT 1")
