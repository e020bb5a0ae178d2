"""Nothing is kept for ever: history, removed records, plans, the traces of fetches, the audit log go after a time.

One worker forgets at a time (an advisory lock decides), now and then, in batches that are transactions of their own
and touch no row a sync waits for. A batch that fails is tried again with the next round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

from homeroom import audit
from homeroom.db import TRANSIENT, Connection, Database
from homeroom.telemetry import get_logger
from roster_store.holding import end_forsaken_hold
from roster_store.plans import forget_old
from roster_store.settings import StoreSettings
from roster_store.staging import end_fetch
from roster_store.tables import SQL, TABLES, Table

log = get_logger(__name__)

EVERY_SECONDS = 3600.0
RETRY_SECONDS = 60.0
BATCH = 5_000
BATCH_SECONDS = 120.0
ERASURES = 50
FETCH_DAYS = 7.0
"""Fetches that ended are remembered this long at least: messages on the bus are kept for three days."""


class Retention:
    """Forgets what is older than the settings say until it is told to stop."""

    def __init__(self, database: Database, settings: StoreSettings) -> None:
        self._database = database
        self._settings = settings

    async def run(self, stop: asyncio.Event) -> None:
        """Forget, wait, and forget again; go on after whatever may pass by itself."""
        while not stop.is_set():
            pause = EVERY_SECONDS
            try:
                await self.forget()
            except TRANSIENT as error:
                log.warning("retention.interrupted", error=type(error).__name__)
                pause = RETRY_SECONDS
            try:
                await asyncio.wait_for(stop.wait(), pause)
            except TimeoutError:
                continue

    async def forget(self) -> dict[str, int]:
        """Forget everything that is old enough; how much of what. Nothing where another worker is at it."""
        async with self._database.connection() as connection:
            if not await connection.fetchval(SQL["lock_retention"]):
                return {}
            try:
                forgotten = await self._forget()
            finally:
                if not connection.is_closed():
                    await connection.fetchval(SQL["unlock_retention"])
        if any(forgotten.values()):
            log.info("retention.forgotten", **forgotten)
        return forgotten

    async def _forget(self) -> dict[str, int]:
        history = timedelta(days=self._settings.history_days)
        fetches = timedelta(days=max(FETCH_DAYS, self._settings.history_days))
        plans = timedelta(days=max(self._settings.plan_days, self._settings.hold_days))  # what waits can be looked at
        return {
            "history": await self._repeat(partial(_forget_history, seconds=history.total_seconds())),
            "plans": await forget_old(self._database, plans),
            "fetches": await self._repeat(partial(_forget_fetches, seconds=fetches.total_seconds())),
            "decisions": await self._repeat(partial(_forget_decisions, seconds=fetches.total_seconds())),
            "forsaken": await self._repeat(_end_forsaken),
            "holds": await self._repeat(end_forsaken_hold),
            "tombstones": await self._forget_tombstones(),
            "erased": await self._repeat(partial(_clear_erased, days=self._settings.erased_days)),
            "links": await self._repeat(partial(_forget_links, days=self._settings.link_days)),
            "audit": await self._repeat(partial(audit.forget, days=self._settings.audit_days)),
        }

    async def _forget_tombstones(self) -> int:
        """Forget what was removed long ago, children first, so that nothing points to what is not there."""
        age = timedelta(days=max(self._settings.tombstone_days, self._settings.history_days)).total_seconds()
        newest = await self._database.fetchval(SQL["find_old_apply"], age)
        if newest is None:
            return 0
        total = 0
        for table in reversed(TABLES.values()):
            total += await self._repeat(partial(_forget_tombstones, table=table, newest=newest))
        return total

    async def _repeat(self, batch: Callable[[Connection], Awaitable[int]]) -> int:
        """Batches until there is nothing left; how much it was."""
        total = 0
        while some := await self._database.transact(batch):
            total += some
        return total


async def _forget_history(connection: Connection, seconds: float) -> int:
    newest = await connection.fetchval(SQL["find_old_apply"], seconds)
    if newest is None:
        return 0
    forgotten: int = await connection.fetchval(SQL["forget_history"], newest, BATCH, timeout=BATCH_SECONDS)
    return forgotten


async def _forget_fetches(connection: Connection, seconds: float) -> int:
    forgotten: int = await connection.fetchval(SQL["forget_fetches"], seconds, BATCH, timeout=BATCH_SECONDS)
    return forgotten


async def _forget_decisions(connection: Connection, seconds: float) -> int:
    forgotten: int = await connection.fetchval(SQL["forget_decisions"], seconds, BATCH, timeout=BATCH_SECONDS)
    return forgotten


async def _end_forsaken(connection: Connection) -> int:
    """End a fetch that will never complete, whose tables nobody else would drop."""
    fetch_no = await connection.fetchval(SQL["find_forsaken"], timedelta(days=FETCH_DAYS).total_seconds())
    if fetch_no is None:
        return 0
    await end_fetch(connection, fetch_no, "abandoned")
    return 1


async def _forget_tombstones(connection: Connection, table: Table, newest: int) -> int:
    statement = table.sql("forget_tombstones")
    forgotten: int = await connection.fetchval(statement, newest, BATCH, table.collection, timeout=BATCH_SECONDS)
    return forgotten


async def _forget_links(connection: Connection, days: float) -> int:
    forgotten = 0
    for statement in ("forget_link_events", "forget_accounts"):
        forgotten += await connection.fetchval(SQL[statement], days * 86_400, BATCH, timeout=BATCH_SECONDS)
    return forgotten


async def _clear_erased(connection: Connection, days: float) -> int:
    """Take away the empty records of some erased people, which products were told by; how many people that were."""
    erasures = await connection.fetch(SQL["find_erasures_to_clear"], days * 86_400, ERASURES)
    for erasure in erasures:
        no, apply_no = erasure["integration_no"], erasure["apply_no"]
        for collection in ("enrollments", "demographics", "users"):
            statement = TABLES[collection].sql("clear_erased")
            await connection.fetchval(statement, no, apply_no, collection, timeout=BATCH_SECONDS)
        await connection.execute(SQL["move_feed_horizon"], no, apply_no)
        await connection.execute(SQL["erasure_cleared"], erasure["id"])
    return len(erasures)
