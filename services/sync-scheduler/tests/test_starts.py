"""Start limits: hosts and regions are spared, turns are fair, and nobody waits for another region (C1, G1)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
from scheduled import begin_due, copy_integration

from homeroom.bus import Message
from homeroom.bus.postgres import PostgresBus
from homeroom.db import Database
from homeroom.messages import read_job
from sync_scheduler.runs import Limits
from sync_scheduler.starts import StartLimits
from sync_scheduler.ticking import Ticking

Read = Callable[[str], Awaitable[list[Message]]]
Wanted = Callable[..., dict[str, Any]]
Fill = Callable[..., Awaitable[list[UUID]]]
Make = Callable[..., Ticking]

SINCE = datetime(2026, 3, 2, 12, tzinfo=UTC)
DUE = datetime(2026, 3, 3, 8, tzinfo=UTC)
NIGHTLY = {"kind": "nightly", "at": "02:00", "window_minutes": 0}


@pytest.fixture
def make(database: Database, bus: PostgresBus) -> Make:
    """Makes the rounds of a worker with start limits."""

    def make(**limits: int) -> Ticking:
        return Ticking(database, bus, Limits(), tick_seconds=0.5, starts=StartLimits(**limits))

    return make


@pytest.fixture
def fill(database: Database, integration: dict[str, Any]) -> Fill:
    """Adds integrations of a host and region whose nightly run is queued."""

    async def fill(number: int, host: str = "sis.example.org", region: str = "us") -> list[UUID]:
        found = []
        for _ in range(number):
            row = await copy_integration(database, integration["id"], NIGHTLY, since=SINCE, region=region)
            shown = row["connection"] | {"endpoint_url": f"https://{host}/ims/oneroster/v1p1"}
            await database.fetch("UPDATE integration SET connection = $2 WHERE id = $1", row["id"], shown)
            found.append(row["id"])
        await begin_due(database, DUE)
        return found

    return fill


async def _list_out(database: Database) -> dict[str, int]:
    """How many runs of each host have been handed out."""
    rows = await database.fetch(
        "SELECT host, count(*) AS number FROM run JOIN integration ON integration.id = run.integration"
        " WHERE published_attempt > 0 GROUP BY host"
    )
    return {row["host"]: row["number"] for row in rows}


async def test_a_host_gets_so_many_at_once(database: Database, make: Make, fill: Fill) -> None:
    """Of one host only so many runs are under way; as one stops fetching the next goes out, in their order."""
    await fill(6, "small.example.org")
    await fill(2, "other.example.org")
    ticking = make(host_runs=3)
    await ticking.send_due()
    await ticking.send_due()
    assert await _list_out(database) == {"small.example.org": 3, "other.example.org": 2}

    await database.fetch(
        "UPDATE run SET state = 'applying' WHERE id = (SELECT run.id FROM run JOIN integration"
        " ON integration.id = run.integration WHERE published_attempt > 0 AND host = 'small.example.org' LIMIT 1)"
    )
    await ticking.send_due()
    assert await _list_out(database) == {"small.example.org": 4, "other.example.org": 2}


async def test_first_come_first_served(database: Database, make: Make, fill: Fill) -> None:
    """Runs of a host go out in the order they were begun; one that was asked for by hand goes before them."""
    await fill(4)
    ticking = make(host_runs=1)
    asked = await database.fetchval("SELECT id FROM run ORDER BY number DESC LIMIT 1")
    await database.fetch("UPDATE run SET slot = NULL WHERE id = $1", asked)
    order = []
    while out := await _send_one(database, ticking):
        order.append(out)
    numbers = [await database.fetchval("SELECT number FROM run WHERE id = $1", run) for run in order]

    assert order[0] == asked
    assert len(order) == 4
    assert numbers[1:] == sorted(numbers[1:])


async def _send_one(database: Database, ticking: Ticking) -> UUID | None:
    await ticking.send_due()
    out: UUID | None = await database.fetchval("SELECT id FROM run WHERE state = 'queued' AND published_attempt > 0")
    await database.fetch("UPDATE run SET state = 'succeeded' WHERE id = $1", out)
    return out


async def test_starts_in_a_minute(database: Database, make: Make, fill: Fill) -> None:
    """However quickly runs end, no more of a host, and no more of a region, start within a minute."""
    await fill(4, "one.example.org")
    await fill(4, "two.example.org")
    ticking = make(host_starts=2)
    for _ in range(4):
        await ticking.send_due()
        await database.fetch("UPDATE run SET state = 'succeeded' WHERE published_attempt > 0")
    assert await _list_out(database) == {"one.example.org": 2, "two.example.org": 2}
    regional = make(region_starts=5)
    await regional.send_due()
    assert sum((await _list_out(database)).values()) == 5

    await database.fetch("UPDATE run SET published_at = now() - interval '61 seconds' WHERE published_attempt > 0")
    await regional.send_due()
    assert sum((await _list_out(database)).values()) == 8


async def test_hosts_take_turns(database: Database, make: Make, fill: Fill) -> None:
    """A host with hundreds of districts does not keep the one district of another waiting."""
    await fill(6, "large.example.org")
    await fill(1, "small.example.org")
    await make(region_starts=2).send_due()

    assert await _list_out(database) == {"large.example.org": 1, "small.example.org": 1}


async def test_hosts_for_everybody(database: Database, make: Make, fill: Fill) -> None:
    """A host that serves every district by design gets many times as much."""
    await fill(8, "api.clever.com")
    await make(host_runs=1, shared_factor=5).send_due()

    assert await _list_out(database) == {"api.clever.com": 5}


async def test_the_log_says_why(client: httpx2.AsyncClient, database: Database, make: Make, fill: Fill) -> None:
    """A run that waits for its host for a while says so once in its log, and its deadline counts from its turn."""
    await fill(2)
    ticking = make(host_runs=1)
    await ticking.send_due()
    await ticking.send_due()
    assert await database.fetchval("SELECT count(*) FROM run_entry WHERE step = 'waits'") == 0
    await database.fetch(
        "UPDATE run SET created_at = created_at - interval '1 hour', deadline_at = deadline_at - interval '1 hour'"
    )
    for _ in range(3):
        await ticking.send_due()
    waits = await database.fetchrow("SELECT run, sentence FROM run_entry WHERE step = 'waits'")
    assert waits is not None
    assert "sis.example.org" in waits["sentence"]
    await database.fetch("UPDATE run SET state = 'succeeded' WHERE published_attempt > 0")
    await ticking.send_due()
    run = (await client.get(f"/v1/runs/{waits['run']}")).json()
    left = datetime.fromisoformat(run["deadline_at"]) - datetime.now(UTC)

    assert timedelta(hours=5, minutes=59) < left <= timedelta(hours=6)


async def test_replicas_keep_the_limit(make: Make, fill: Fill, read: Read) -> None:
    """Five replicas that hand out at the same time stay within the limit together."""
    await fill(12)
    for _ in range(4):
        await asyncio.gather(*(make(host_runs=4).send_due() for _ in range(5)))

    assert len({read_job(message).run_id for message in await read("sync-jobs.us")}) == 4


async def test_a_region_without_workers(database: Database, make: Make, fill: Fill, read: Read) -> None:
    """Where a region's workers are away its jobs wait in its topic, and other regions' runs of the same host go on."""
    away, here = await fill(3, "api.clever.com", "au"), await fill(6, "api.clever.com", "us")
    ticking = make(host_runs=1, shared_factor=2, region_starts=100)
    for _ in range(4):
        await ticking.send_due()
        await database.fetch(  # the workers of us do their work
            "UPDATE run SET state = 'succeeded', finished_at = now() FROM integration"
            " WHERE integration.id = run.integration AND region = 'us' AND published_attempt > 0"
        )
    done = await database.fetch("SELECT integration FROM run WHERE state = 'succeeded'")
    waiting = [UUID(read_job(message).integration_id) for message in await read("sync-jobs.au")]

    assert sorted(row["integration"] for row in done) == sorted(here)
    assert len(waiting) == 2
    await database.fetch("UPDATE run SET state = 'succeeded', finished_at = now() WHERE published_attempt > 0")
    await ticking.send_due()  # they are back, and the rest follows
    assert {UUID(read_job(message).integration_id) for message in await read("sync-jobs.au")} == set(away)
