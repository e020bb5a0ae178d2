"""Start limits: thousands of districts at one hour do not stampede a provider's host, nor a region (C1, G1).

A run that is queued waits here until its host has room. Among those that wait, what somebody asked for goes before what
a schedule began, and hosts take turns. Limits count for each region by itself, so jobs that lie in one region because
its workers are away keep nobody else back. The refresh of a class, for which a teacher waits, passes the host's limits:
it asks little and is throttled where it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from homeroom.db import Connection
from sync_scheduler.ledger import SQL

SHARED_HOSTS = ("api.clever.com", "classroom.googleapis.com", "oneroster-proxy.apis.classlink.com")
"""Hosts that are made to be asked for every district."""
SAY_AFTER = timedelta(seconds=10)
"""A run that waits so long says so in its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLimits:
    """How much at once; each counts for one region."""

    host_runs: int = 8
    """Runs of a host that are handed out and still fetch, or wait for a worker."""
    host_starts: int = 240
    """Runs of a host that are handed out within a minute."""
    shared_factor: int = 10
    """How many times as much for a host that serves every district."""
    region_starts: int = 3000
    """Runs of a region that are handed out within a minute."""


async def list_ready(connection: Connection, limits: StartLimits, batch: int) -> list[asyncpg.Record]:
    """Runs to be handed out now, locked, with all their jobs need."""
    return await connection.fetch(
        SQL["unpublished_runs"],
        batch,
        limits.host_runs,
        limits.host_starts,
        limits.shared_factor,
        limits.region_starts,
        list(SHARED_HOSTS),
    )


async def note_waiting(connection: Connection, batch: int) -> None:
    """Let runs that have waited for a while say so in their logs, once."""
    await connection.execute(SQL["note_waiting"], SAY_AFTER, batch)
