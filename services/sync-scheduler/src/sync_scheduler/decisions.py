"""Decisions about what is held: taken once, written down, sent to the store until it answers (C14).

Whoever is first decides. A decision is a row, unique for a run's plan; the run, the row and the line in the audit are
written together, and a worker's round sends what is not answered yet. The store judges the plan once more: only it
knows whether the roster is still the one the plan was made for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import asyncpg

from homeroom.bus import Outgoing
from homeroom.db import Connection
from homeroom.faultpoints import faultpoint
from homeroom.ids import new_id
from homeroom.messages import Decide, to_commands
from homeroom.telemetry import get_logger
from sync_scheduler import holds, ledger
from sync_scheduler.ledger import SCHEDULER, SQL, Change
from sync_scheduler.runs import Decision, Run

log = get_logger(__name__)

PATIENCE = timedelta(hours=6)
"""How long the store has to throw a plan away before its run ends without an answer."""
SEND_AGAIN = timedelta(minutes=1)
"""Until the store's first answer; twice as long after each further time."""
SEND_AT_MOST = 60

Publish = Callable[[list[Outgoing]], Awaitable[None]]


async def expire_due(connection: Connection, limit: int) -> list[Change]:
    """Decide for those who did not in time: what they were asked about is thrown away."""
    changes = []
    for row in await connection.fetch(SQL["expired_holds"], limit):
        run, now = ledger.read(row), await ledger.read_time(connection)
        expire = Decision(id=str(new_id()), action="expire", by=SCHEDULER, at=now)
        changes.append(await decide(connection, row["id"], run, expire, patience=PATIENCE))
        log.info("run.hold_expired", run_id=str(row["id"]))
    return changes


async def discard_all(connection: Connection, integration: UUID, *, by: str) -> list[Change]:
    """Throw away whatever waits of a locked integration's runs, because nothing of it is wanted any more (C8)."""
    changes = []
    for row in await connection.fetch(SQL["held_runs"], integration):
        run, now = ledger.read(row), await ledger.read_time(connection)
        discard = Decision(id=str(new_id()), action="discard", by=by, at=now)
        changes.append(await decide(connection, row["id"], run, discard, patience=PATIENCE))
    return changes


async def send_due(connection: Connection, publish: Publish, limit: int) -> int:
    """Send decisions that are not answered; returns how many. The store takes each of them once."""
    rows = await connection.fetch(SQL["unpublished_decisions"], limit)
    await publish([_make_message(row) for row in rows])
    if rows:
        faultpoint("scheduler.decision-published")
    await connection.executemany(SQL["mark_decision"], [(row["id"], SEND_AT_MOST, SEND_AGAIN) for row in rows])
    return len(rows)


async def decide(connection: Connection, run_id: UUID, run: Run, decision: Decision, *, patience: timedelta) -> Change:
    """Write a decision down, and move its locked run."""
    outcome = holds.decide(run, decision, decision.at, patience=patience)
    assert outcome.run.hold is not None  # noqa: S101 - callers see to it that something waits
    plan = outcome.run.hold.plan
    added = await connection.fetchval(
        SQL["add_decision"], UUID(decision.id), run_id, run.attempt, plan, decision.action, decision.by
    )
    if added is None:
        raise asyncpg.SerializationError("the plan was decided meanwhile")
    await connection.execute(SQL["wake"])
    return await ledger.save(connection, run_id, run, [outcome])


def _make_message(row: asyncpg.Record) -> Outgoing:
    return to_commands(
        Decide(
            decision_id=str(row["id"]),
            run_id=str(row["run"]),
            attempt=row["attempt"],
            integration_id=str(row["integration"]),
            plan=row["plan"],
            action=row["action"],
            by=row["by"],
            at=row["at"],
        )
    )
