"""Restores: what a run and all after it did to a roster is undone, as a run of its own (C16, C14).

The provider has no part in it. The run goes to the store as a command, again every minute until the store has said what
came of it; the store does the same one once. Afterwards, or while it waits for approval, the integration is paused:
the next sync would take the provider's roster again.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import asyncpg

from homeroom.bus import Outgoing
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.messages import Restore, to_commands
from homeroom.problems import Problem
from sync_scheduler import audit, beginnings, integrations, ledger
from sync_scheduler.beginnings import Terms, Wish
from sync_scheduler.decisions import Publish
from sync_scheduler.ledger import SQL
from sync_scheduler.runs import Run, State
from sync_scheduler.transitions import hand_to_store

SEND_AGAIN = timedelta(minutes=1)


async def start(database: Database, undone: UUID, visible: UUID | None, *, by: str, terms: Terms) -> UUID:
    """Queue the undoing of a run and of all after it; returns the id of the run that does it.

    Problems NOT_FOUND, INTEGRATION_DELETED, RESTORE_IMPOSSIBLE, SYNC_IN_PROGRESS, LICENSE_INACTIVE.
    """
    run_id = new_id()

    async def begin(connection: Connection) -> UUID:
        row = await connection.fetchrow(SQL["run"], undone, visible)
        if row is None:
            raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no run {undone}.")
        integration = await integrations.lock(connection, row["integration"], visible)
        if not was_applied(ledger.read(row)):
            detail = f"The run {undone} did not change the roster, so there is nothing to undo."
            raise Problem(Code.RESTORE_IMPOSSIBLE, status=409, detail=detail)
        wish = Wish(
            occasion=f"The roster is to be brought back to what it was before run {row['number']}.",
            created_by=by,
            kind="restore",
            restores=undone,
        )
        begun = await beginnings.begin(connection, run_id, integration, wish, terms=terms)
        if begun == run_id:
            await audit.note(
                connection,
                by=by,
                action="run.restore",
                organization=integration["organization"],
                subject=f"run:{undone}",
                detail={"run_id": str(run_id), "integration_id": str(integration["id"])},
            )
        return begun

    begun = await database.transact(begin)
    if begun != run_id:
        raise integrations.sync_in_progress(begun)
    return run_id


def was_applied(run: Run) -> bool:
    """Whether the roster was changed by a run, wholly or in part."""
    if run.kind == "evaluation":
        return False
    held_in_part = run.state is State.HELD and run.hold is not None and not run.hold.everything
    return run.state in (State.SUCCEEDED, State.PARTIAL) or held_in_part


async def send_due(connection: Connection, publish: Publish, limit: int) -> int:
    """Send restores the store has not answered; returns how many."""
    rows = await connection.fetch(SQL["unpublished_restores"], SEND_AGAIN, limit)
    await publish([_make_message(row) for row in rows])
    now = await ledger.read_time(connection)
    for row in rows:
        run = ledger.read(row)
        await connection.execute(SQL["mark_published"], row["id"], row["attempt"], row["edition"])
        await ledger.save(connection, row["id"], run, [hand_to_store(run, now=now)])
    return len(rows)


def _make_message(row: asyncpg.Record) -> Outgoing:
    command = Restore(
        run_id=str(row["id"]),
        run_number=row["number"],
        attempt=row["attempt"],
        integration_id=str(row["integration"]),
        organization_id=str(row["organization"]),
        before_run_id=str(row["restores"]),
        terms=beginnings.read_terms(row),
    )
    return replace(to_commands(command), headers=row["headers"])
