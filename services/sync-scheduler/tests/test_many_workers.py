"""Five worker processes on one database: every slot gets one run and one job, in time (C1, G1)."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from scheduled import copy_integration

from homeroom.bus import Message
from homeroom.db import Database
from homeroom.messages import read_job

WORKERS = 5
DISTRICTS = 150
DAY = timedelta(days=1)
DEADLINE = 90
WITHIN_SECONDS = 30
"""On a machine that is busy with other tests; measured for itself it is less than one."""
MEGABYTES = 400
"""What a worker may take at most."""


async def test_one_job_a_slot(
    database: Database, integration: dict[str, Any], read: Callable[[str], Awaitable[list[Message]]], tmp_path: Path
) -> None:
    """Five processes and 150 slots within three seconds: one run and one job each, soon, and moderate memory."""
    workers = await asyncio.gather(*(_start(tmp_path, number) for number in range(WORKERS)))
    begin = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
    daily = {"kind": "every_24_hours", "window_minutes": 0}
    rows = [
        await copy_integration(database, integration["id"], daily, since=begin - DAY + timedelta(seconds=number % 3))
        for number in range(DISTRICTS)
    ]
    # Those whose moment came while others were still made are set back to it.
    await database.fetch(
        "UPDATE integration SET next_slot_at = schedule_since + interval '1 day' WHERE id = ANY ($1)",
        [row["id"] for row in rows],
    )
    async with asyncio.timeout(DEADLINE):
        while await database.fetchval("SELECT count(*) FROM run WHERE published_attempt > 0") < DISTRICTS:
            await asyncio.sleep(0.1)
    await asyncio.sleep(1.5)  # whoever would begin a second one has made a round by now
    memory = [psutil.Process(worker.pid).memory_info().rss / 2**20 for worker in workers]
    for worker in workers:
        worker.terminate()
    ended = await asyncio.wait_for(asyncio.gather(*(worker.wait() for worker in workers)), DEADLINE)

    runs = await database.fetch("SELECT integration, slot, published_at FROM run")
    expected = sorted((row["id"], row["schedule_since"] + DAY) for row in rows)
    jobs = [read_job(message).integration_id for message in await read("sync-jobs.us")]
    assert sorted((run["integration"], run["slot"]) for run in runs) == expected
    assert sorted(jobs) == sorted(str(row["id"]) for row in rows)
    assert await database.fetchval("SELECT count(*) FROM slot WHERE outcome = 'started' AND code IS NULL") == DISTRICTS
    assert max((run["published_at"] - run["slot"]).total_seconds() for run in runs) < WITHIN_SECONDS
    assert max(memory) < MEGABYTES
    assert ended == [0] * WORKERS


async def _start(folder: Path, number: int) -> asyncio.subprocess.Process:
    """A worker process that has begun to work."""
    path = folder / f"{number}.log"
    with path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sync_scheduler",
            "worker",
            env={**os.environ, "HOMEROOM_HOST_RUNS": "1000", "HOMEROOM_HOST_STARTS_PER_MINUTE": "10000"},
            stderr=log,
        )
    async with asyncio.timeout(DEADLINE):
        while '"working"' not in path.read_text():
            assert process.returncode is None, path.read_text()[-2000:]
            await asyncio.sleep(0.02)
    return process
