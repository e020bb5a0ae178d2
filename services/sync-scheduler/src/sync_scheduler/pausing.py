"""What people ask of pauses: begin one, end it (C10)."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Annotated
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
from pydantic import AwareDatetime, BeforeValidator, Field

from homeroom.codes import Code
from homeroom.connections import Line
from homeroom.db import Connection, Database
from homeroom.service import RequestModel
from sync_scheduler import audit, integrations, ledger
from sync_scheduler.calendars import find_moment
from sync_scheduler.ledger import SQL

LAST_YEAR = 2199


def _read_end(value: object) -> object:
    """A day, or a moment; nothing that could be taken for either."""
    if value is None:
        return None
    try:
        text = str(value) if isinstance(value, str) else ""
        end = date.fromisoformat(text) if len(text) == len("2027-01-07") else datetime.fromisoformat(text)
    except ValueError:
        end = None
    if end is None or (isinstance(end, datetime) and end.tzinfo is None):
        raise ValueError("a day like 2027-01-07, or a time with its offset like 2027-01-07T06:00:00Z")
    return end


class PauseBody(RequestModel):
    """Until when no sync starts, and why."""

    until: Annotated[AwareDatetime | date | None, BeforeValidator(_read_end)] = Field(
        default=None,
        description="a time, or the day on which syncs start again in the integration's time zone; null until resumed",
    )
    reason: Line | None = Field(default=None, description="shown to whoever looks at the integration")


async def pause(
    database: Database, integration: UUID, visible: UUID | None, body: PauseBody, *, by: str
) -> asyncpg.Record:
    """Let no sync start for a while; a pause that lasts already is replaced.

    Problems REQUEST_INVALID for an end that is past, INTEGRATION_DELETED, NOT_FOUND.
    """

    async def begin(connection: Connection) -> asyncpg.Record:
        row = await integrations.lock(connection, integration, visible)
        until = _find_end(body.until, row["time_zone"])
        if until is not None and until <= await ledger.read_time(connection):
            raise integrations.refuse_field("until", "this is past; choose a later end, or none")
        paused = await connection.fetchrow(SQL["set_pause"], integration, until, body.reason, by)
        assert paused is not None  # noqa: S101 - the row is locked
        await audit.note(
            connection,
            by=by,
            action="integration.pause",
            organization=row["organization"],
            subject=f"integration:{integration}",
            detail={"until": until, "reason": body.reason},
        )
        return paused

    return await database.transact(begin)


async def resume(database: Database, integration: UUID, visible: UUID | None, *, by: str) -> asyncpg.Record:
    """Let syncs start again; what was left out is made up for. Problems INTEGRATION_DELETED, NOT_FOUND."""

    async def end(connection: Connection) -> asyncpg.Record:
        row = await integrations.lock(connection, integration, visible)
        if row["paused_at"] is None:
            return row
        resumed = await connection.fetchrow(SQL["end_pause"], integration, Code.INTEGRATION_PAUSED.value)
        assert resumed is not None  # noqa: S101 - the row is locked
        await audit.note(
            connection,
            by=by,
            action="integration.resume",
            organization=row["organization"],
            subject=f"integration:{integration}",
        )
        await connection.execute(SQL["wake"])
        return resumed

    return await database.transact(end)


def _find_end(until: datetime | date | None, zone: str) -> datetime | None:
    """The moment a pause ends; on a day, with its first."""
    if until is not None and until.year > LAST_YEAR:
        raise integrations.refuse_field("until", "this is too far away; leave it out to pause until somebody resumes")
    if until is None or isinstance(until, datetime):
        return until
    return find_moment(datetime.combine(until, time()), ZoneInfo(zone))
