"""What people ask of runs: begin one now, cancel one (C2)."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.problems import Problem
from sync_scheduler import beginnings, integrations, ledger
from sync_scheduler.beginnings import Terms
from sync_scheduler.ledger import SQL
from sync_scheduler.modes import Asked

OCCASION = "A sync was asked for."


async def start(
    database: Database, integration: UUID, visible: UUID | None, *, mode: Asked, created_by: str, terms: Terms
) -> UUID:
    """Queue a run and return its id.

    Problems SYNC_IN_PROGRESS, INTEGRATION_DELETED, NOT_FOUND, UPLOAD_MISSING.
    """
    run_id = new_id()

    async def begin(connection: Connection) -> UUID:
        row = await integrations.lock(connection, integration, visible)
        return await beginnings.begin(
            connection, run_id, row, asked=mode, occasion=OCCASION, created_by=created_by, terms=terms
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
