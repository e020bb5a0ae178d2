"""Consumes sync-facts and moves runs on, one transaction a batch. Hearing a fact twice changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from homeroom.bus import Message, Retry
from homeroom.db import TRANSIENT, Connection, Database, DatabaseBusy
from homeroom.messages import Fact, read_fact
from homeroom.telemetry import RUN_SECONDS, SYNC_RUNS, get_logger, span
from sync_scheduler import ledger
from sync_scheduler.ledger import SQL
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

        async def move(connection: Connection) -> list[tuple[UUID, Run]]:
            return await self._move(connection, heard)

        with span("hear facts"):
            try:
                ended = await self._database.transact(move)
            except (*TRANSIENT, DatabaseBusy) as error:
                raise Retry from error
        for run_id, run in ended:
            _tell(run_id, run)

    async def _move(self, connection: Connection, heard: dict[UUID, list[Fact]]) -> list[tuple[UUID, Run]]:
        """Move the runs; returns those that ended."""
        await connection.execute(SQL["lock_integrations_of_runs"], list(heard))
        runs = await ledger.lock(connection, list(heard))
        now = await ledger.read_time(connection)
        ended = []
        for run_id, before in runs.items():
            outcomes: list[Outcome] = []
            run = before
            for fact in heard[run_id]:
                outcome = hear(run, fact, now=now, limits=self._limits)
                outcomes.append(outcome)
                run = outcome.run
            await ledger.save(connection, run_id, before, outcomes)
            if before.active and not run.active:
                ended.append((run_id, run))
        if unknown := heard.keys() - runs.keys():
            log.warning("facts.unknown_runs", run_ids=sorted(map(str, unknown)))
        return ended


def _read_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        log.warning("facts.no_run_id")
        return None


def _tell(run_id: UUID, run: Run) -> None:
    """Runs that ended, for operations."""
    SYNC_RUNS.labels(run.state.value).inc()
    if run.started_at and run.finished_at:
        RUN_SECONDS.labels(run.state.value).observe((run.finished_at - run.started_at).total_seconds())
    log.info("run.ended", run_id=str(run_id), state=run.state.value, code=run.code, attempt=run.attempt)
