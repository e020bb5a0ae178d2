"""What people ask of runs: begin one now, cancel one (C2)."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal
from uuid import UUID

import asyncpg

from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.problems import Problem
from sync_scheduler import integrations, ledger
from sync_scheduler.ledger import SQL

REASONS = {
    "full": "A sync was asked for. Everything is read.",
    "auto": "A sync was asked for. Everything is read: this provider can't be asked for changes only.",
}
"""Why a run reads what it reads, by what was asked for."""


async def start(
    database: Database,
    integration: UUID,
    visible: UUID | None,
    *,
    mode: Literal["auto", "full"],
    created_by: str,
    deadline: timedelta,
) -> UUID:
    """Queue a run and return its id. Problems SYNC_IN_PROGRESS, INTEGRATION_DELETED, NOT_FOUND."""
    run_id = new_id()

    async def begin(connection: Connection) -> UUID:
        await integrations.lock(connection, integration, visible)
        return await ledger.begin(
            connection,
            run_id,
            integration,
            mode="full",
            sentence=REASONS[mode],
            created_by=created_by,
            deadline=deadline,
        )

    begun = await database.transact(begin)
    if begun != run_id:
        raise integrations.sync_in_progress(begun)
    return run_id


async def read(database: Database, run_id: UUID, visible: UUID | None) -> asyncpg.Record:
    """One run. Problem NOT_FOUND, also for those of others."""
    row = await database.fetchrow(SQL["run"], run_id, visible)
    if row is None:
        raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no run {run_id}.")
    return row


async def cancel(database: Database, run_id: UUID, visible: UUID | None) -> asyncpg.Record:
    """Ask a run to end and return it; one that has ended stays as it is. Problem NOT_FOUND."""
    await read(database, run_id, visible)
    ledger.tell(await database.transact(lambda connection: ledger.cancel(connection, run_id)))
    return await read(database, run_id, visible)
