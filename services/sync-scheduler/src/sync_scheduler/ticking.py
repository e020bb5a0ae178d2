"""Sends what is due and looks after what is late (architecture §1: state is the outbox).

A queued run whose attempt was not published is the job waiting to be sent; an organization, integration, product or
license whose version was not published is the state waiting to be told. Rows are locked, sent and marked, and skipped
by other replicas meanwhile: each is normally sent once, and again if a replica dies in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg

from homeroom import messages
from homeroom.bus import Bus, BusError, Outgoing
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.faultpoints import faultpoint
from homeroom.messages import (
    SYNC_FACTS,
    CancelRun,
    IntegrationState,
    Mode,
    OrganizationState,
    SyncJob,
    to_cancellations,
    to_jobs,
    to_tenancy,
)
from homeroom.telemetry import BUS_LAG, HEARTBEAT_AGE, get_logger
from sync_scheduler import (
    beginnings,
    decisions,
    inquiries,
    ledger,
    licensing,
    products,
    restores,
    slots,
    starts,
    uploads,
)
from sync_scheduler.beginnings import Terms
from sync_scheduler.doorbell import Doorbell
from sync_scheduler.integration_bodies import read_options
from sync_scheduler.ledger import AWAY, SQL
from sync_scheduler.runs import Entry, Limits
from sync_scheduler.sftp_accounts import read_account
from sync_scheduler.starts import StartLimits
from sync_scheduler.transitions import supervise
from sync_scheduler.uploads import read_upload

log = get_logger(__name__)

GROUP = "sync-scheduler"
"""The consumer group of facts."""
BATCH = 100
BUS_SECONDS = 20.0
"""For anything asked of the bus while rows are locked."""
STOP_AGAIN = timedelta(seconds=5)
"""Until the worker has answered, it is told to stop this often."""
FACTS_IN_FLIGHT = 2
"""Unread facts per fetching run that still count as having heard everything."""


class Ticking:
    """The rounds of one worker; any number of workers may make theirs."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        limits: Limits,
        *,
        tick_seconds: float,
        terms: Terms | None = None,
        starts: StartLimits | None = None,
        keep_slots: timedelta = timedelta(days=90),
    ) -> None:
        self._database = database
        self._bus = bus
        self._limits = limits
        self._terms = terms or Terms()
        self._starts = starts or StartLimits()
        self._keep_slots = keep_slots
        self._tick_seconds = tick_seconds

    async def run(self, doorbell: Doorbell, stop: asyncio.Event) -> None:
        """Make rounds until `stop`: at every ring, and twice a second without one."""
        while not stop.is_set():
            more = False
            try:
                more = await self.send_due()
                await self.look_after()
            except (*AWAY, BusError) as error:
                log.warning("ticking.interrupted", error_type=type(error).__name__)
            if not more:
                await doorbell.wait(stop, self._tick_seconds)

    async def send_due(self) -> bool:
        """Publish states, jobs and stops that are due; returns whether there may be more at once."""
        # States first, so that a district is known before its first job.
        sent = [
            await self._database.transact(send)
            for send in (
                self._send_organizations,
                self._send_integrations,
                self._send_products,
                self._send_licenses,
                self._begin_slots,
                self._begin_uploads,
                self._send_jobs,
                self._send_inquiries,
                self._send_decisions,
                self._send_restores,
                self._send_stops,
            )
        ]
        return BATCH in sent

    async def look_after(self) -> None:
        """Give silent fetches another attempt and end what is over its deadline."""
        for change in await self._database.transact(self._judge):
            ledger.tell(change)
        for change in await self._database.transact(self._expire):
            ledger.tell(change)
        if ended := await self._database.transact(lambda connection: inquiries.look_after(connection, BATCH)):
            log.warning("inquiries.unanswered", ended=ended)
        await self._database.transact(lambda connection: slots.look_after(connection, self._keep_slots, BATCH))

    async def measure(self) -> None:
        """Put what operations watch into the metrics."""
        BUS_LAG.labels(GROUP).set(await self._bus.lag(GROUP, [SYNC_FACTS.name]))
        HEARTBEAT_AGE.set(await self._database.fetchval(SQL["oldest_heartbeat"]))

    async def _judge(self, connection: Connection) -> list[ledger.Change]:
        rows = await connection.fetch(SQL["overdue_runs"], self._limits.silence, BATCH)
        if not rows or not await self._has_heard_everything(connection):
            return []
        now = await ledger.read_time(connection)
        changes = []
        for row in rows:
            before = ledger.read(row)
            outcome = supervise(before, now=now, limits=self._limits)
            changes.append(await ledger.save(connection, row["id"], before, [outcome]))
            if outcome.run is not before:
                log.warning("run.overdue", run_id=str(row["id"]), attempt=before.attempt, code=outcome.run.code)
        return changes

    async def _has_heard_everything(self, connection: Connection) -> bool:
        """After an outage of ours the facts lie unread: then the silence is ours, and nobody is judged by it."""
        async with asyncio.timeout(BUS_SECONDS):
            lag = await self._bus.lag(GROUP, [SYNC_FACTS.name])
        fetching: int = await connection.fetchval(SQL["fetching_runs"])
        return lag <= FACTS_IN_FLIGHT * fetching

    async def _publish(self, messages: list[Outgoing]) -> None:
        if messages:
            async with asyncio.timeout(BUS_SECONDS):
                await self._bus.publish(*messages)

    async def _send_organizations(self, connection: Connection) -> int:
        rows = await connection.fetch(SQL["unpublished_organizations"], BATCH)
        await self._publish([to_tenancy(OrganizationState(id=str(row["id"]), name=row["name"])) for row in rows])
        await connection.executemany(SQL["mark_organization"], [(row["id"], row["version"]) for row in rows])
        return len(rows)

    async def _send_integrations(self, connection: Connection) -> int:
        rows = await connection.fetch(SQL["unpublished_integrations"], BATCH)
        await self._publish([to_tenancy(_describe(row)) for row in rows])
        await connection.executemany(SQL["mark_integration"], [(row["id"], row["version"]) for row in rows])
        return len(rows)

    async def _send_products(self, connection: Connection) -> int:
        rows = await connection.fetch(SQL["unpublished_products"], BATCH)
        await self._publish([to_tenancy(products.describe(row)) for row in rows])
        await connection.executemany(SQL["mark_product"], [(row["id"], row["version"]) for row in rows])
        return len(rows)

    async def _send_licenses(self, connection: Connection) -> int:
        rows = await connection.fetch(SQL["unpublished_licenses"], BATCH)
        await self._publish([to_tenancy(licensing.describe(row)) for row in rows])
        await connection.executemany(SQL["mark_license_told"], [(row["id"], row["version"]) for row in rows])
        return len(rows)

    async def _begin_slots(self, connection: Connection) -> int:
        return await slots.begin_due(connection, BATCH, self._terms)

    async def _begin_uploads(self, connection: Connection) -> int:
        return await uploads.begin_due(connection, BATCH, self._terms)

    async def _send_inquiries(self, connection: Connection) -> int:
        rows = await inquiries.list_due(connection, BATCH)
        await self._publish([inquiries.make_message(row) for row in rows])
        await inquiries.mark(connection, rows)
        return len(rows)

    async def _send_jobs(self, connection: Connection) -> int:
        rows = await starts.list_ready(connection, self._starts, BATCH)
        await self._publish([_with_headers(to_jobs(_make_job(row), row["region"]), row["headers"]) for row in rows])
        if rows:
            faultpoint("scheduler.job-published")
        for row in rows:
            await _note_mode(connection, row)
        await connection.executemany(
            SQL["mark_published"], [(row["id"], row["attempt"], row["edition"]) for row in rows]
        )
        for row in rows:
            sentence = f"The attempt was handed to the workers of region {row['region']}."
            await ledger.add_entry(connection, row["id"], Entry("published", row["attempt"], sentence))
        if len(rows) < BATCH:
            await starts.note_waiting(connection, BATCH)
        return len(rows)

    async def _send_decisions(self, connection: Connection) -> int:
        return await decisions.send_due(connection, self._publish, BATCH)

    async def _send_restores(self, connection: Connection) -> int:
        return await restores.send_due(connection, self._publish, BATCH)

    async def _expire(self, connection: Connection) -> list[ledger.Change]:
        return await decisions.expire_due(connection, BATCH)

    async def _send_stops(self, connection: Connection) -> int:
        rows = await connection.fetch(SQL["stops_due"], BATCH)
        await self._publish([to_cancellations(_make_stop(row)) for row in rows])
        await connection.executemany(SQL["mark_stop"], [(row["id"], row["again"], STOP_AGAIN) for row in rows])
        return len(rows)


def _describe(row: asyncpg.Record) -> IntegrationState:
    return IntegrationState(
        id=str(row["id"]),
        organization_id=str(row["organization"]),
        name=row["name"],
        provider=row["provider"],
        region=row["region"],
        state=row["state"],
        sftp=read_account(row),
    )


def _make_job(row: asyncpg.Record) -> SyncJob:
    return SyncJob(
        run_id=str(row["id"]),
        run_number=row["number"],
        attempt=row["attempt"],
        integration_id=str(row["integration"]),
        organization_id=str(row["organization"]),
        provider=row["provider"],
        connection=row["connection"],
        sealed_secret=row["sealed_secret"],
        options=read_options(row["options"]),
        deadline=row["deadline_at"],
        sis=row["sis"],
        today=row["today"],
        mode=_find_mode(row),
        bookmark=beginnings.read_bookmark(row),
        upload=read_upload(row),
        terms=beginnings.read_terms(row),
        refresh=_read_class(row),
        keep_received=row["keep_received"],
    )


def _read_class(row: asyncpg.Record) -> messages.ClassRef | None:
    if row["class_sourced_id"] is None:
        return None
    return messages.ClassRef(class_sourced_id=row["class_sourced_id"], teacher_sourced_id=row["teacher_sourced_id"])


def _find_mode(row: asyncpg.Record) -> Mode:
    """The mode that was chosen, unless what it was to go on from was given up since."""
    return "full" if row["bookmark"] is None else row["mode"]


async def _note_mode(connection: Connection, row: asyncpg.Record) -> None:
    mode = _find_mode(row)
    if mode != row["mode"]:
        sentence = "Everything is read: the settings were edited since the run was asked for."
        await connection.execute(SQL["set_mode"], row["id"], mode)
        await ledger.add_entry(connection, row["id"], Entry("mode chosen again", row["attempt"], sentence))


def _make_stop(row: asyncpg.Record) -> CancelRun:
    return CancelRun(run_id=str(row["id"]), below_attempt=row["stop_below"], reason=Code(row["stop_reason"]))


def _with_headers(message: Outgoing, headers: Mapping[str, Any]) -> Outgoing:
    return replace(message, headers={**message.headers, **headers})
