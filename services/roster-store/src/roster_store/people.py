"""Who the people of Google Classroom are in the SIS (A5): joined by e-mail, inside one organization, or not at all.

Google Classroom knows no id of the SIS; an address is all there is to go by. It joins two people only where exactly
one of each side has it. Whatever else is true of an address (missing, unknown, shared) leaves its owner unmatched
with that reason, and nothing is guessed.
"""

from __future__ import annotations

import asyncpg

from homeroom.codes import Code
from homeroom.db import Connection
from homeroom.messages import RecordIssue
from roster_store.picture import forbid_nested_loops
from roster_store.plan import Plan
from roster_store.tables import SQL

JOINED_PROVIDER = "google-classroom"
PEOPLE_SECONDS = 600.0


async def join_people(connection: Connection, plan: Plan, integration: asyncpg.Record) -> None:
    """Join the people of an integration's organization again, if this apply changed any people and it needs joining.

    Applies of an organization take turns here until they commit: each sees the people of those before it, and so the
    last one leaves the links right for all.
    """
    people = plan.collections.get("users")
    if people is None or not people.changes:
        return
    organization = integration["organization_id"]
    if not await connection.fetchval(SQL["find_joined"], organization, JOINED_PROVIDER):
        return
    await connection.execute(SQL["lock_people"], organization)
    await forbid_nested_loops(connection)
    await connection.execute(SQL["join_people"], organization, JOINED_PROVIDER, timeout=PEOPLE_SECONDS)


async def name_unmatched(connection: Connection, integration: asyncpg.Record) -> list[RecordIssue]:
    """How many people of a Google Classroom integration are unmatched; none for every other integration."""
    if integration["provider"] != JOINED_PROVIDER:
        return []
    row = await connection.fetchrow(SQL["count_unmatched"], integration["no"])
    assert row is not None  # noqa: S101 - an aggregate always gives a row
    if not row["unmatched"]:
        return []
    detail = f"{row['unmatched']:,} of {row['people']:,}"
    return [RecordIssue(collection="users", sourced_id=None, code=Code.PEOPLE_UNMATCHED, detail=detail)]
