"""What people decide about a run that holds something: whoever is first (C14)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.problems import Problem
from homeroom.telemetry import get_logger
from sync_scheduler import audit, decisions, holds, integrations, ledger
from sync_scheduler.ledger import SQL, Change
from sync_scheduler.runs import Decision

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What somebody decides about a plan."""

    plan: str
    action: Literal["approve", "additions", "discard"]
    by: str
    """The subject of their access token."""


async def take(
    database: Database, run_id: UUID, visible: UUID | None, verdict: Verdict, *, patience: timedelta
) -> None:
    """Decide about what a run holds; who says the same about the same plan again changes nothing.

    Problems NOT_FOUND, INTEGRATION_DELETED, NOTHING_HELD, PLAN_CHANGED, HOLD_DECIDED, SYNC_IN_PROGRESS.
    """
    decision = new_id()

    async def decide(connection: Connection) -> Change | None:
        row = await connection.fetchrow(SQL["run"], run_id, visible)
        if row is None:
            raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no run {run_id}.")
        integration = await integrations.lock(connection, row["integration"], visible)
        run = (await ledger.lock(connection, [run_id]))[run_id]
        before = await connection.fetchrow(SQL["decision_of_plan"], run_id, verdict.plan)
        if before is not None and (before["action"], before["by"]) == (verdict.action, verdict.by):
            return None
        now = await ledger.read_time(connection)
        objection = Code.HOLD_DECIDED if before is not None else holds.object_to(run, verdict.plan, now)
        if objection:
            raise _refuse(objection, run_id)
        if verdict.action != "discard" and (active := await connection.fetchval(SQL["active_run"], row["integration"])):
            raise integrations.sync_in_progress(active)
        taken = Decision(id=str(decision), action=verdict.action, by=verdict.by, at=now)
        change = await decisions.decide(connection, run_id, run, taken, patience=patience)
        await audit.note(
            connection,
            by=verdict.by,
            action=f"run.{'discard' if verdict.action == 'discard' else 'approve'}",
            organization=integration["organization"],
            subject=f"run:{run_id}",
            detail={"plan": verdict.plan, "action": verdict.action, "decision_id": str(decision)},
        )
        return change

    change = await database.transact(decide)
    if change:
        ledger.tell(change)
        log.info("run.decided", run_id=str(run_id), action=verdict.action)


def _refuse(code: Code, run_id: UUID) -> Problem:
    details = {
        Code.NOTHING_HELD: f"Nothing of the run {run_id} waits for a decision.",
        Code.PLAN_CHANGED: f"The run {run_id} holds another plan than the one that was named.",
        Code.HOLD_DECIDED: f"The plan of the run {run_id} was decided already.",
    }
    return Problem(code, status=409, detail=details[code])
