"""What people ask of runs: begin one now, evaluate one, cancel one (C2, C11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.messages import Purpose
from homeroom.problems import Problem
from sync_scheduler import beginnings, integrations, ledger
from sync_scheduler.beginnings import Terms, Wish
from sync_scheduler.integration_bodies import OptionsBody
from sync_scheduler.ledger import SQL
from sync_scheduler.modes import Asked

SYNC = "A sync was asked for."
EVALUATION = "An evaluation was asked for."
TRIAL = "An evaluation of other options was asked for."


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The run somebody wants."""

    by: str
    """The subject of their access token."""
    mode: Asked = "auto"
    evaluate: bool = False
    options: OptionsBody | None = None
    """To be tried instead of those that are saved; only with an evaluation."""


async def start(database: Database, integration: UUID, visible: UUID | None, asking: Asking, *, terms: Terms) -> UUID:
    """Queue a run and return its id.

    Problems SYNC_IN_PROGRESS, INTEGRATION_DELETED, INTEGRATION_PAUSED, LICENSE_INACTIVE, NOT_FOUND, UPLOAD_MISSING.
    """
    run_id = new_id()

    async def begin(connection: Connection) -> UUID:
        row = await integrations.lock(connection, integration, visible)
        return await beginnings.begin(connection, run_id, row, _wish(row, asking), terms=terms)

    begun = await database.transact(begin)
    if begun != run_id:
        raise integrations.sync_in_progress(begun)
    return run_id


async def read(
    database: Database, run_id: UUID, visible: UUID | None, *, only: Purpose | None = None
) -> asyncpg.Record:
    """One run, with `only` one of that kind. Problem NOT_FOUND, also for those of others."""
    row = await database.fetchrow(SQL["run"], run_id, visible)
    if row is None or only not in (None, row["kind"]):
        raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no run {run_id}.")
    return row


async def cancel(database: Database, run_id: UUID, visible: UUID | None) -> asyncpg.Record:
    """Ask a run to end and return it; one that has ended stays as it is. Problem NOT_FOUND."""
    await read(database, run_id, visible)
    ledger.tell(await database.transact(lambda connection: ledger.cancel(connection, run_id)))
    return await read(database, run_id, visible)


def _wish(row: asyncpg.Record, asking: Asking) -> Wish:
    if not asking.evaluate:
        return Wish(occasion=SYNC, created_by=asking.by, asked=asking.mode)
    options: dict[str, Any] | None = None
    if asking.options is not None:
        integrations.check_options(row["provider"], asking.options)
        options = row["options"] | asking.options.model_dump(mode="json", exclude_unset=True)
    occasion = EVALUATION if options is None else TRIAL
    return Wish(occasion=occasion, created_by=asking.by, kind="evaluation", options=options)
