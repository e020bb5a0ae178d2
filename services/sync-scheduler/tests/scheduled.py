"""Integrations with schedules in any number, for tests of slots and of start limits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from homeroom.db import Connection, Database
from sync_scheduler import slots
from sync_scheduler.beginnings import Terms
from sync_scheduler.schedule_bodies import check_schedule, read_schedule, store_schedule

COPY = """
    INSERT INTO integration (
        id, organization, name, provider, region, connection, sealed_secret, options, time_zone, secret_names,
        schedule, schedule_since, published_version
    )
    SELECT gen_random_uuid(), organization, name, provider, $4, connection, sealed_secret, options, $3, secret_names,
        $2, $5, version
    FROM integration WHERE id = $1
    RETURNING *
"""


async def copy_integration(
    database: Database,
    template: str,
    schedule: Mapping[str, Any],
    *,
    since: datetime,
    zone: str = "America/Chicago",
    region: str = "us",
) -> asyncpg.Record:
    """Another integration like one that is there, with a schedule that was set at a moment."""
    stored = store_schedule(check_schedule(dict(schedule)))
    row = await database.fetchrow(COPY, UUID(template), stored, zone, region, since)
    assert row is not None
    moment = slots.find_next(read_schedule(row), zone, since)
    found = await database.fetchrow(
        "UPDATE integration SET next_slot_at = $2 WHERE id = $1 RETURNING *", row["id"], moment
    )
    assert found is not None
    return found


async def begin_due(database: Database, now: datetime, *, limit: int = 100) -> int:
    """One round of a scheduler whose clock shows that time."""

    async def begin(connection: Connection) -> int:
        return await slots.begin_due(connection, limit, Terms(), now)

    return await database.transact(begin)


async def end_runs(database: Database, state: str = "succeeded") -> None:
    """Let whatever is under way have ended."""
    await database.fetch(
        "UPDATE run SET state = $1, finished_at = now() WHERE state IN ('queued', 'fetching', 'applying')", state
    )


async def list_outcomes(database: Database, integration: UUID) -> list[tuple[str, str | None, int]]:
    """What became of an integration's slots, oldest first: outcome, code and number."""
    rows = await database.fetch("SELECT * FROM slot WHERE integration = $1 ORDER BY id", integration)
    return [(row["outcome"], row["code"], row["slots"]) for row in rows]


async def read_integration(database: Database, integration: UUID) -> asyncpg.Record:
    """An integration's row."""
    row = await database.fetchrow("SELECT * FROM integration WHERE id = $1", integration)
    assert row is not None
    return row


MINUTE = timedelta(minutes=1)
