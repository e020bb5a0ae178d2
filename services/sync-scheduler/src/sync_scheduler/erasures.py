"""People who were erased: what runs say of their records goes, and nothing is written down of them any more.

Names are never here. Issues of runs name sourcedIds, and a provider that still has a person may be told about again
with every run, so the ids are remembered as hashes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

from homeroom import audit
from homeroom.bus import Message, Retry
from homeroom.db import TRANSIENT, Connection, Database, DatabaseBusy, load_statements
from homeroom.messages import Erased, RecordIssue, read_erasure
from homeroom.telemetry import get_logger

log = get_logger(__name__)

SQL = load_statements("sync_scheduler")

GROUP = "sync-scheduler-erasures"
KEY_BYTES = 16
EVERY_SECONDS = 3600.0
RETRY_SECONDS = 60.0
BATCH = 1_000


def hide(integration: UUID, sourced_id: str) -> bytes:
    """What stands for a record where it is not to be named."""
    return hashlib.sha256(f"{integration}:{sourced_id}".encode()).digest()[:KEY_BYTES]


async def leave_out(connection: Connection, run_id: UUID, issues: list[RecordIssue]) -> list[RecordIssue]:
    """The issues of a run without those that are about somebody who was erased."""
    named = {issue.sourced_id for issue in issues if issue.sourced_id is not None}
    if not named:
        return issues
    row = await connection.fetchrow(SQL["find_erased"], run_id)
    if row is None:
        return issues
    erased = {name for name in named if hide(row["integration"], name) in row["keys"]}
    return [issue for issue in issues if issue.sourced_id not in erased]


class Erasures:
    """The handler of `erasures`; hearing one twice changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def handle(self, messages: Sequence[Message]) -> None:
        """Forget the people of a batch. Raises Reject for what can't be read, Retry without database."""
        for message in messages:
            erased = read_erasure(message)
            try:
                await self._database.transact(partial(_forget, erased=erased))
            except (*TRANSIENT, DatabaseBusy) as error:
                raise Retry from error
            log.info("person.erased", erasure_id=erased.erasure_id)


async def _forget(connection: Connection, erased: Erased) -> None:
    integration = UUID(erased.integration_id)
    keys = [hide(integration, sourced_id) for sourced_id in erased.sourced_ids]
    await connection.execute(SQL["remember_erased"], integration, keys)
    await connection.execute(SQL["forget_in_runs"], integration, list(erased.sourced_ids))


class Retention:
    """Forgets what is older than the settings say until it is told to stop."""

    def __init__(self, database: Database, *, run_logs: timedelta, audit_log: timedelta) -> None:
        self._database = database
        self._run_logs = run_logs
        self._audit_log = audit_log

    async def run(self, stop: asyncio.Event) -> None:
        """Forget, wait, and forget again; go on after whatever may pass by itself."""
        while not stop.is_set():
            pause = EVERY_SECONDS
            try:
                await self.forget()
            except (*TRANSIENT, DatabaseBusy) as error:
                log.warning("retention.interrupted", error=type(error).__name__)
                pause = RETRY_SECONDS
            try:
                await asyncio.wait_for(stop.wait(), pause)
            except TimeoutError:
                continue

    async def forget(self) -> dict[str, int]:
        """Forget everything that is old enough; how much of what."""
        return {
            "issues": await self._repeat("forget_run_issues", self._run_logs),
            "entries": await self._repeat("forget_entries", self._run_logs),
            "audit": await self._forget_audit(),
        }

    async def _repeat(self, statement: str, age: timedelta) -> int:
        total = 0
        while True:
            done = await self._database.transact(lambda one: one.execute(SQL[statement], age, BATCH))
            total += (some := int(done.split()[-1]))
            if some < BATCH:
                return total

    async def _forget_audit(self) -> int:
        total = 0
        days = self._audit_log.total_seconds() / 86_400
        while some := await self._database.transact(lambda one: audit.forget(one, days)):
            total += some
        return total
