"""Looks at integrations whose runs have ended or whose time is up, and writes down what is to be told.

A row of `watch` says when an integration is judged next; whoever ends a run says so there (`watch_again`), in the same
transaction, so that nothing is missed. Rows are locked and skipped by other replicas: each change is told once.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.messages import ConnectionWarning, SubscriptionDisabled
from homeroom.telemetry import get_logger
from sync_scheduler import alert_messages, alerts, ledger, licenses, licensing, pauses, schedules
from sync_scheduler.alert_messages import Subject
from sync_scheduler.alerts import Ended, Health, Kind, Situation, Verdict
from sync_scheduler.beginnings import Terms
from sync_scheduler.doorbell import first_of
from sync_scheduler.ledger import AWAY, SQL
from sync_scheduler.runs import State
from sync_scheduler.schedule_bodies import read_schedule

log = get_logger(__name__)

BATCH = 50
LOOK_SECONDS = 1.0
"""Between two rounds without anything to do."""
TIDY_SECONDS = 60.0
LOOK_AGAIN = timedelta(hours=1)
"""Every integration is judged at least so often, whatever nobody said."""
KEEP = timedelta(days=90)
"""How long alerts can be looked up."""


class Alerting:
    """The rounds of one worker; any number of workers may make theirs."""

    def __init__(self, database: Database, terms: Terms, *, origin: str) -> None:
        self._database = database
        self._terms = terms
        self._origin = origin
        self._tidied: float | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Make rounds until `stop`."""
        while not stop.is_set():
            more = False
            try:
                await self._tidy_at_times()
                more = await self.look() == BATCH
            except AWAY as error:
                log.warning("alerting.interrupted", error_type=type(error).__name__)
            if not more:
                await first_of(LOOK_SECONDS, stop.wait())

    async def look(self) -> int:
        """Judge what is due and follow licenses that have begun; returns how many integrations were looked at."""
        required = self._terms.license_required
        await self._database.transact(lambda one: licensing.begin_due(one, BATCH, required=required))
        return await self._database.transact(self._judge)

    async def tidy(self) -> None:
        """Watch integrations nobody has said anything of yet, and forget old alerts."""
        await self._database.transact(lambda one: one.execute(SQL["watch_all"]))
        await self._database.transact(lambda one: one.execute(SQL["forget_alerts"], KEEP, 1000))

    async def _tidy_at_times(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._tidied is None or now - self._tidied >= TIDY_SECONDS:
            self._tidied = now
            await self.tidy()

    async def _judge(self, connection: Connection) -> int:
        rows = await connection.fetch(SQL["watches_due"], BATCH)
        for row in rows:
            if row["integration_state"] == "deleted":
                await connection.execute(SQL["unwatch"], row["integration"])
            else:
                await self._judge_one(connection, row)
        return len(rows)

    async def _judge_one(self, connection: Connection, row: asyncpg.Record) -> None:
        now = await ledger.read_time(connection)
        situation = await self._describe(connection, row, now)
        verdict = alerts.judge(situation, now)
        if verdict.kind is not None:
            await self._tell(connection, row, verdict, now)
        reminded = verdict.kind is Kind.HOLD_REMINDER and verdict.run
        changed = verdict.health is not situation.told
        await connection.execute(
            SQL["save_watch"],
            row["integration"],
            verdict.health.value,
            now if changed else situation.since,
            _find_next_look(situation, row, now),
            reminded.id if reminded else situation.reminded,
        )

    async def _describe(self, connection: Connection, row: asyncpg.Record, now: datetime) -> Situation:
        ended = await connection.fetch(SQL["runs_that_count"], row["integration"])
        licensed = await licenses.is_active(connection, row["organization"], now, required=self._terms.license_required)
        owed = Code(row["slots_owed_code"]) if row["slots_owed_code"] else None
        return Situation(
            told=Health(row["state"]),
            since=row["since"],
            newest=alerts.choose(list(map(_read_run, ended))),
            deciding=await connection.fetchval(SQL["decision_under_way"], row["integration"]),
            muted=is_muted(row, now),
            stale_at=self._find_stale_moment(row, now),
            stale_code=owed if licensed else Code.LICENSE_INACTIVE,
            reminded=row["reminded"],
        )

    def _find_stale_moment(self, row: asyncpg.Record, now: datetime) -> datetime | None:
        if pauses.is_paused(row, now):
            return None
        resumed = row["paused_until"] if row["paused_until"] and row["paused_until"] <= now else None
        # What somebody changed starts the wait anew.
        known = (row["last_success_at"], row["created_at"], row["updated_at"], row["schedule_since"], resumed)
        after = max(moment for moment in known if moment is not None)
        slots = schedules.next_slots(read_schedule(row), row["time_zone"], after, alerts.SLOTS_MISSED + 1)
        return alerts.find_stale_moment([slot.at for slot in slots], run_deadline=self._terms.deadline)

    async def _tell(self, connection: Connection, row: asyncpg.Record, verdict: Verdict, now: datetime) -> None:
        assert verdict.kind is not None  # noqa: S101 - the caller asked
        about = Subject(
            alert_id=new_id(),
            kind=verdict.kind,
            at=now,
            organization_id=row["organization"],
            organization=row["organization_name"],
            integration_id=row["integration"],
            integration=row["name"],
            run=verdict.run,
            code=verdict.code,
        )
        await write(connection, about, origin=self._origin)
        log.info("alert.written", integration_id=str(row["integration"]), kind=verdict.kind.value, code=verdict.code)


async def write(
    connection: Connection, about: Subject, *, origin: str, to: UUID | None = None, address: str = ""
) -> None:
    """Write an alert and who is to get it, as part of the caller's transaction.

    Args:
        connection: a transaction.
        about: what happened.
        origin: where its links lead.
        to: the one target it is for; without it all that want to hear of the integration.
        address: an e-mail address that hears of it besides, this once.
    """
    message = alert_messages.compose(about, origin=origin)
    await connection.execute(
        SQL["add_alert"],
        about.alert_id,
        about.organization_id,
        about.integration_id,
        about.run.id if about.run else None,
        about.kind.value,
        about.code.value if about.code else None,
        about.at,
        message.payload,
        {"subject": message.subject, "text": message.text},
    )
    await connection.execute(SQL["add_deliveries"], about.alert_id, about.organization_id, about.integration_id, to)
    if address:
        await connection.execute(SQL["add_one_delivery"], about.alert_id, address)


async def write_disabled(connection: Connection, fact: SubscriptionDisabled, *, origin: str) -> None:
    """Write the alert of a disabled subscription; once, however often it is said."""
    about = Subject(
        alert_id=UUID(fact.alert_id),
        kind=Kind.SUBSCRIPTION_DISABLED,
        at=fact.at,
        organization_id=await connection.fetchval(SQL["known_organization"], fact.organization_id),
        code=fact.code,
        subscription_id=UUID(fact.subscription_id),
        product_id=None if fact.product_id is None else UUID(fact.product_id),
    )
    await write(connection, about, origin=origin)


async def write_warning(connection: Connection, fact: ConnectionWarning, *, origin: str) -> None:
    """Write the alert of a connection that must be looked after; once, however often it is said."""
    about = Subject(
        alert_id=UUID(fact.alert_id),
        kind=Kind.CONNECTION_WARNING,
        at=fact.at,
        organization_id=await connection.fetchval(SQL["known_organization"], fact.organization_id),
        code=fact.code,
        connection_id=UUID(fact.connection_id),
    )
    await write(connection, about, origin=origin)


def is_muted(row: Any, now: datetime) -> bool:
    """Whether nothing is told of an integration now, by its row of `watch`."""
    return bool(row["muted"]) and (row["muted_until"] is None or now < row["muted_until"])


def _find_next_look(situation: Situation, row: asyncpg.Record, now: datetime) -> datetime:
    newest = situation.newest
    moments: list[datetime | None] = [situation.stale_at, row["muted_until"], row["paused_until"]]
    if newest is not None and newest.state is State.HELD and newest.id != situation.reminded:
        moments.append(alerts.remind_at(newest))
    later = [moment for moment in moments if moment is not None and moment > now]
    return min([now + LOOK_AGAIN, *later])


class _Waiting(msgspec.Struct):
    """What is of interest of a run's hold."""

    at: datetime
    expires_at: datetime


def _read_run(row: asyncpg.Record) -> Ended:
    hold = msgspec.convert(row["hold"], _Waiting | None)
    return Ended(
        id=row["id"],
        state=State(row["state"]),
        code=Code(row["code"]) if row["code"] else None,
        detail=row["detail"],
        at=row["finished_at"],
        held_at=hold.at if hold else None,
        expires_at=hold.expires_at if hold else None,
    )
