"""Consumes sync-facts and moves runs on, one transaction a batch. Hearing a fact twice changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from homeroom.bus import Message, Retry
from homeroom.db import Connection, Database
from homeroom.faultpoints import faultpoint
from homeroom.messages import Fact, read_fact
from homeroom.telemetry import get_logger, span
from sync_scheduler import ledger
from sync_scheduler.ledger import AWAY, SQL
from sync_scheduler.runs import Limits, Outcome, Run, hear

log = get_logger(__name__)


class Facts:
    """The handler of facts."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits

    async def handle(self, messages: Sequence[Message]) -> None:
        """Take a batch of one partition into account. Raises Reject for what can't be read, Retry without database."""
        heard: dict[UUID, list[Fact]] = {}
        for message in messages:
            fact = read_fact(message)
            if (run_id := _read_id(fact.run_id)) is not None:
                heard.setdefault(run_id, []).append(fact)

        with span("hear facts"):
            try:
                changes = await self._database.transact(lambda connection: self._move(connection, heard))
            except AWAY as error:
                raise Retry from error
        faultpoint("scheduler.facts-applied")
        for change in changes:
            ledger.tell(change)

    async def _move(self, connection: Connection, heard: Mapping[UUID, Sequence[Fact]]) -> list[ledger.Change]:
        await connection.execute(SQL["lock_integrations_of_runs"], list(heard))
        runs = await ledger.lock(connection, list(heard))
        now = await ledger.read_time(connection)
        if unknown := heard.keys() - runs.keys():
            log.warning("facts.unknown_runs", run_ids=sorted(map(str, unknown)))
        return [
            await ledger.save(connection, run_id, run, self._hear_all(run, heard[run_id], now))
            for run_id, run in runs.items()
        ]

    def _hear_all(self, run: Run, facts: Sequence[Fact], now: datetime) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for fact in facts:
            outcomes.append(hear(run, fact, now=now, limits=self._limits))
            run = outcomes[-1].run
        return outcomes


def _read_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        log.warning("facts.no_run_id")
        return None
