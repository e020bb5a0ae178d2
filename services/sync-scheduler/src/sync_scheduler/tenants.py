"""Organizations: the districts everything else belongs to."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from homeroom.codes import Code
from homeroom.connections import Line
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.problems import Problem
from homeroom.service import RequestModel
from sync_scheduler.ledger import SQL


class OrganizationBody(RequestModel):
    """A district to be."""

    name: Line


async def create(database: Database, body: OrganizationBody) -> asyncpg.Record:
    """Add a district; others hear of it within a moment."""
    organization = new_id()

    async def add(connection: Connection) -> asyncpg.Record:
        await connection.execute(SQL["add_organization"], organization, body.name)
        await connection.execute(SQL["wake"])
        row = await connection.fetchrow(SQL["organization"], organization)
        assert row is not None  # noqa: S101 - it was added above, in the same transaction
        return row

    return await database.transact(add)


async def read(database: Database, organization: UUID, visible: UUID | None) -> asyncpg.Record:
    """One district. Problem NOT_FOUND, also for those of others."""
    row = await database.fetchrow(SQL["organization"], organization) if visible in (None, organization) else None
    if row is None:
        raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no organization {organization}.")
    return row
