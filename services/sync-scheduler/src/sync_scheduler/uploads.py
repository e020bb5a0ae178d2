"""Sets of files that districts upload: each starts a run by itself, one after the other (A2, A6)."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import asyncpg

from homeroom.connections import UPLOADED
from homeroom.db import Connection
from homeroom.ids import new_id
from homeroom.messages import UploadReceived, UploadRef
from homeroom.problems import Problem
from homeroom.telemetry import get_logger
from sync_scheduler import beginnings
from sync_scheduler.beginnings import Terms, Wish
from sync_scheduler.ledger import SQL

log = get_logger(__name__)

OCCASION = "A set of files was received."
CREATED_BY = "upload"
AGAIN = timedelta(minutes=1)
"""How soon files are tried again that could not be read."""


async def receive(connection: Connection, integration: UUID, fact: UploadReceived) -> None:
    """Take note of a set; a worker's next round begins its run."""
    await connection.fetchrow(SQL["lock_integration"], integration, None)
    added = await connection.fetchval(
        SQL["add_upload"],
        fact.upload_id,
        integration,
        fact.via,
        fact.files,
        fact.bytes,
        fact.digest,
        fact.at,
        list(UPLOADED),
    )
    if added:
        await connection.execute(SQL["wake"])
    log.info("upload.received", upload_id=fact.upload_id, integration_id=str(integration), taken=bool(added))


async def begin_due(connection: Connection, limit: int, terms: Terms) -> int:
    """Begin a run for integrations whose files wait and that have no active one; returns for how many.

    Files of one that may not start, for want of a license, wait; nobody waits for them.
    """
    rows = await connection.fetch(SQL["due_uploads"], limit)
    for row in rows:
        # Until it was locked, another replica may have begun its run, and that may even have ended.
        if await connection.fetchval(SQL["upload_waits"], row["id"]):
            wish = Wish(occasion=OCCASION, created_by=CREATED_BY)
            try:
                await beginnings.begin(connection, new_id(), row, wish, terms=terms)
            except Problem as problem:
                log.info("upload.waits", integration_id=str(row["id"]), code=problem.code.value)
                await connection.execute(SQL["delay_uploads"], row["id"], AGAIN)
    return len(rows)


def read_upload(row: asyncpg.Record) -> UploadRef | None:
    """The set of files a row names in `upload`, `upload_number` and `upload_received_at`."""
    if row["upload"] is None:
        return None
    return UploadRef(id=row["upload"], number=row["upload_number"], received_at=row["upload_received_at"])
