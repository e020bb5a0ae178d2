"""Consumes sync-facts: moves runs on, takes answers and uploads, one transaction a batch.

Hearing a fact twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from homeroom.bus import Message, Retry
from homeroom.db import Connection, Database
from homeroom.faultpoints import faultpoint
from homeroom.messages import (
    Answered,
    ConnectionWarning,
    Fact,
    SubscriptionDisabled,
    SyncFact,
    UploadReceived,
    read_fact,
)
from homeroom.telemetry import get_logger, span
from sync_scheduler import alerting, inquiries, ledger, uploads
from sync_scheduler.ledger import AWAY, SQL
from sync_scheduler.runs import Limits, Outcome, Run
from sync_scheduler.transitions import hear

log = get_logger(__name__)


@dataclass(slots=True)
class Heard:
    """The facts of a batch, by what they are about; those with ids that can't be ours are left out."""

    runs: dict[UUID, list[Fact]] = field(default_factory=dict)
    answers: list[tuple[UUID, UUID, Answered]] = field(default_factory=list)
    uploads: list[tuple[UUID, UploadReceived]] = field(default_factory=list)
    disabled: list[SubscriptionDisabled] = field(default_factory=list)
    warnings: list[ConnectionWarning] = field(default_factory=list)

    def add(self, fact: SyncFact) -> None:
        """Take in one more."""
        match fact:
            case Answered():
                inquiry, integration = _read_id(fact.inquiry_id), _read_id(fact.integration_id)
                if inquiry is not None and integration is not None:
                    self.answers.append((inquiry, integration, fact))
            case UploadReceived():
                integration = _read_id(fact.integration_id)
                if integration is not None:
                    self.uploads.append((integration, fact))
            case SubscriptionDisabled():
                ids = (fact.alert_id, fact.subscription_id, fact.product_id, fact.organization_id)
                if all(one is None or _read_id(one) is not None for one in ids):
                    self.disabled.append(fact)
            case ConnectionWarning():
                own = (fact.alert_id, fact.connection_id, fact.organization_id)
                if all(_read_id(one) is not None for one in own):
                    self.warnings.append(fact)
            case _:
                run_id = _read_id(fact.run_id)
                if run_id is not None:
                    self.runs.setdefault(run_id, []).append(fact)


class Facts:
    """The handler of facts."""

    def __init__(self, database: Database, limits: Limits, *, origin: str = "") -> None:
        self._database = database
        self._limits = limits
        self._origin = origin

    async def handle(self, messages: Sequence[Message]) -> None:
        """Take a batch of one partition into account. Raises Reject for what can't be read, Retry without database."""
        heard = Heard()
        for message in messages:
            heard.add(read_fact(message))

        with span("hear facts"):
            try:
                changes = await self._database.transact(lambda connection: self._take(connection, heard))
            except AWAY as error:
                raise Retry from error
        faultpoint("scheduler.facts-applied")
        for change in changes:
            ledger.tell(change)

    async def _take(self, connection: Connection, heard: Heard) -> list[ledger.Change]:
        """Runs first, then what comes beside them: rows are locked integration first, then run."""
        changes = await self._move(connection, heard.runs)
        for inquiry, integration, answer in heard.answers:
            await inquiries.receive(connection, integration, inquiry, answer)
        for integration, upload in heard.uploads:
            await uploads.receive(connection, integration, upload)
        for end in heard.disabled:
            await alerting.write_disabled(connection, end, origin=self._origin)
        for warning in heard.warnings:
            await alerting.write_warning(connection, warning, origin=self._origin)
        return changes

    async def _move(self, connection: Connection, heard: Mapping[UUID, Sequence[Fact]]) -> list[ledger.Change]:
        if not heard:
            return []
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
        log.warning("facts.no_id")
        return None
