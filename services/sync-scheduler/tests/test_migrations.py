"""A database of the version before, brought up to date with what is in it."""

from __future__ import annotations

from datetime import date

import asyncpg
import pytest

from homeroom import migrate as migrating
from homeroom.db import Database
from homeroom.migrate import load_migrations, migrate
from sync_scheduler.app import PACKAGE, SCHEMA

INTEGRATIONS = """
    INSERT INTO organization (id, name) VALUES ('00000000-0000-0000-0000-000000000001', 'Springfield');
    INSERT INTO integration (id, organization, name, provider, region, connection, sealed_secret, options)
    SELECT gen_random_uuid(), '00000000-0000-0000-0000-000000000001', region, 'oneroster', region,
        '{"endpoint_url": "https://SIS.example.org:8443/ims/oneroster/v1p1"}', 's', '{}'
    FROM unnest(ARRAY['us', 'au', 'uk', 'nz']) AS region;
    INSERT INTO run (id, integration, mode, state, created_by, deadline_at, created_at)
    SELECT gen_random_uuid(), id, 'full', 'succeeded', 'test', now(), '2026-03-31 23:30+00' FROM integration;
"""


async def test_what_is_there_is_kept(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Integrations get the zone of their region and no schedule, runs the day they were made on there."""
    with monkeypatch.context() as before:
        before.setattr(migrating, "load_migrations", lambda package: load_migrations(package)[:1])
        assert await migrate(database_url, schema=SCHEMA, package=PACKAGE) == ["0001_integrations_and_runs.sql"]
    async with Database.open(database_url, schema=SCHEMA) as database:
        async with database.connection() as connection:
            await connection.execute(INTEGRATIONS)
        later = [migration.name for migration in load_migrations(PACKAGE)[1:]]
        assert await migrate(database_url, schema=SCHEMA, package=PACKAGE) == later
        rows = await database.fetch(
            "SELECT region, time_zone, secret_names, today, schedule, next_slot_at, host"
            " FROM integration JOIN run ON run.integration = integration.id"
        )
        with pytest.raises(asyncpg.CheckViolationError):
            await database.fetch("UPDATE run SET mode = 'other'")
        await database.fetch("UPDATE run SET mode = 'delta'")

    assert {row["region"]: (row["time_zone"], row["today"]) for row in rows} == {
        "us": ("America/Chicago", date(2026, 3, 31)),
        "au": ("Australia/Perth", date(2026, 4, 1)),
        "uk": ("Europe/London", date(2026, 4, 1)),
        "nz": ("Pacific/Auckland", date(2026, 4, 1)),
    }
    assert all(row["secret_names"] == ["client_secret"] for row in rows)
    assert {(str(row["schedule"]), row["next_slot_at"], row["host"]) for row in rows} == {
        ("{'kind': 'manual'}", None, "sis.example.org:8443")
    }
