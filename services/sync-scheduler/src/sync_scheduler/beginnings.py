"""How a run begins: what it reads and why, the date it is decided by, and the set of files it is about (C2, C3, C6)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg
import msgspec

from homeroom.codes import Code
from homeroom.connections import UPLOADED
from homeroom.db import Connection
from homeroom.messages import Bookmark
from homeroom.problems import Problem
from homeroom.telemetry import inject_headers
from sync_scheduler import ledger, modes
from sync_scheduler.calendars import find_date
from sync_scheduler.ledger import SQL
from sync_scheduler.runs import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What all runs are begun under."""

    deadline: timedelta = timedelta(hours=6)
    """A run that has not ended by then fails."""
    full_every: timedelta = timedelta(days=7)
    """Everything is compared at least so often."""


async def begin(
    connection: Connection,
    run_id: UUID,
    integration: asyncpg.Record,
    *,
    asked: modes.Asked,
    occasion: str,
    created_by: str,
    terms: Terms,
) -> UUID:
    """Queue a run of an integration the caller has locked; returns its id, or the id of the one that is active.

    Problem UPLOAD_MISSING where the provider is fed by files and none were ever received.
    """
    upload = await _find_upload(connection, integration)
    now = await ledger.read_time(connection)
    choice = modes.choose(asked, read_past(integration), now=now, full_every=terms.full_every)
    await connection.execute(
        SQL["add_run"],
        run_id,
        integration["id"],
        choice.mode,
        choice.code.value if choice.code else None,
        find_date(now, integration["time_zone"]),
        upload,
        created_by,
        inject_headers(),
        terms.deadline,
    )
    begun: UUID | None = await connection.fetchval(SQL["begun_run"], integration["id"], run_id)
    if begun is None:  # the other one ended in between: the whole unit of work is tried again
        raise asyncpg.SerializationError("the active run ended while another was asked for")
    if begun == run_id:
        await ledger.add_entry(connection, run_id, Entry("asked", 0, f"{occasion} {choice.sentence}", choice.code))
        await connection.execute(SQL["wake"])
    return begun


def read_past(integration: asyncpg.Record) -> modes.Past:
    """What an integration's row says of its syncs so far."""
    return modes.Past(
        bookmark=read_bookmark(integration),
        gone=integration["bookmark_gone"],
        last_full_at=integration["last_full_at"],
        uploaded=integration["provider"] in UPLOADED,
    )


def read_bookmark(row: asyncpg.Record) -> Bookmark | None:
    """The bookmark of a row, as it goes out with a job."""
    return msgspec.convert(row["bookmark"], Bookmark | None)


async def _find_upload(connection: Connection, integration: asyncpg.Record) -> str | None:
    if integration["provider"] not in UPLOADED:
        return None
    upload: str | None = await connection.fetchval(SQL["next_upload"], integration["id"])
    if upload is None:
        detail = f"No set of files was received for the integration {integration['id']} yet."
        raise Problem(Code.UPLOAD_MISSING, status=409, detail=detail)
    return upload
