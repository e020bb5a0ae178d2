"""`python -m bench.scheduling`: thousands of integrations due in one minute, one scheduler worker, two cores.

Everything runs on the same two cores: the worker as a process of its own, Postgres with durability on, and the Postgres
bus. From slot to job is the time from the moment a sync was due to the moment its job was on the bus; what the worker
used is its CPU time and its peak resident memory. It ends with 1 unless every slot has exactly one run and one job
within `GRACE_SECONDS`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import psutil

from homeroom.embedded import EmbeddedPostgres
from homeroom.migrate import migrate

CORES = 2
MINUTE_SECONDS = 60
GRACE_SECONDS = 10
LEAD_SECONDS = 15
"""Until the first slot: the worker has started by then."""
HOSTS = 500
"""Districts share hosting companies' servers."""

FILL = """
    INSERT INTO scheduler.organization (id, name, published_version) VALUES (gen_random_uuid(), 'Springfield', 1);
    INSERT INTO scheduler.integration (
        id, organization, name, provider, region, connection, sealed_secret, options, time_zone, secret_names,
        schedule, published_version
    )
    SELECT gen_random_uuid(), organization.id, 'District ' || number, 'oneroster', 'us',
        jsonb_build_object('endpoint_url', format('https://sis-%s.example.org', number % {hosts}), 'auth', 'oauth1'),
        's', '{{}}', 'America/Chicago', '{{client_secret}}',
        '{{"kind": "every_24_hours", "at": null, "window_minutes": 0}}', 1
    FROM scheduler.organization, generate_series(1, {number}) AS number;
"""
PLAN = """
    UPDATE scheduler.integration
    SET schedule_since = $1::timestamptz - interval '1 day' + position % {spread} * interval '1 second',
        next_slot_at = $1::timestamptz + position % {spread} * interval '1 second'
"""
LATENCIES = """
    SELECT percentile_disc(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (ORDER BY extract(epoch FROM published_at - slot)::float8)
    FROM scheduler.run
"""
JOBS = """
    SELECT CASE WHEN count(*) = count(DISTINCT key) THEN count(*) ELSE -1 END
    FROM bus.messages JOIN bus.shards ON shards.id = messages.shard
    WHERE topic = 'sync-jobs.us'
"""
"""How many there are, if none is there twice."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured; times in seconds."""

    integrations: int
    runs: int
    slots: int
    jobs: int
    median: float
    p99: float
    slowest: float
    cpu: float
    idle_cpu_per_minute: float
    peak_mb: float

    @property
    def whole(self) -> bool:
        """Whether each slot had one run and one job, in time."""
        once = self.integrations == self.runs == self.slots == self.jobs
        return once and self.slowest < GRACE_SECONDS


@contextmanager
def running_worker(url: str, folder: Path) -> Iterator[psutil.Process]:
    """A scheduler's worker as a process of its own."""
    environment = {**os.environ, "HOMEROOM_DATABASE_URL": url, "HOMEROOM_ISSUER": "http://issuer.test"}
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "sync_scheduler", "worker"], env=environment, stderr=log, stdout=log
        )
    try:
        yield psutil.Process(worker.pid)
    finally:
        worker.terminate()
        worker.wait(60)


async def measure(url: str, number: int, spread: int, folder: Path) -> Report:
    """Let so many integrations come due within a minute, and look at what one worker makes of it."""
    await migrate(url, schema="scheduler", package="sync_scheduler")
    connection = await asyncpg.connect(url, timeout=10, command_timeout=60)
    try:
        await connection.execute(FILL.format(number=number, hosts=HOSTS))
        with running_worker(url, folder) as worker:
            begin = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=LEAD_SECONDS)
            await connection.execute(PLAN.format(spread=spread), begin)
            await _sleep_until(begin - timedelta(seconds=1))
            before = _read_cpu(worker)
            await _sleep_until(begin + timedelta(seconds=MINUTE_SECONDS))
            deadline = time.monotonic() + 120
            while await _count(connection, "run WHERE published_attempt > 0") < number:
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.2)
            used = _read_cpu(worker) - before
            await asyncio.sleep(10)
            idle = (_read_cpu(worker) - before - used) * 6
            peak = _read_peak(worker)
        median, p99, slowest = await connection.fetchval(LATENCIES)
        return Report(
            integrations=number,
            runs=await _count(connection, "run WHERE slot IS NOT NULL"),
            slots=await connection.fetchval("SELECT count(DISTINCT (integration, slot)) FROM scheduler.slot"),
            jobs=await connection.fetchval(JOBS),
            median=median,
            p99=p99,
            slowest=slowest,
            cpu=used,
            idle_cpu_per_minute=idle,
            peak_mb=peak,
        )
    finally:
        await connection.close(timeout=10)


async def _count(connection: asyncpg.Connection[asyncpg.Record], what: str) -> int:
    found: int = await connection.fetchval(f"SELECT count(*) FROM scheduler.{what}")  # noqa: S608 - ours
    return found


async def _sleep_until(moment: datetime) -> None:
    await asyncio.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()))


def _read_cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _read_peak(process: psutil.Process) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def main() -> None:
    """Measure, print, and fail if a slot was missed, doubled or late."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--integrations", type=int, default=2_000)
    parser.add_argument("--spread", type=int, default=60, help="seconds they are spread over")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)  # also for the processes that are started from here
    with tempfile.TemporaryDirectory(prefix="homeroom-bench-") as folder:
        postgres = EmbeddedPostgres(Path(folder) / "postgres")
        postgres.start()
        try:
            url = asyncio.run(postgres.create_database("bench"))
            report = asyncio.run(measure(url, arguments.integrations, arguments.spread, Path(folder)))
        finally:
            postgres.stop()
    print(f"{report.integrations:,} integrations due within {arguments.spread} s, on {len(cores)} cores")
    print(f"  runs {report.runs:,}, slots {report.slots:,}, jobs {report.jobs:,}")
    print(f"  from slot to job: median {report.median:.2f} s, 99 % {report.p99:.2f} s, slowest {report.slowest:.2f} s")
    print(f"  the worker's CPU: {report.cpu:.1f} s for the minute, {report.idle_cpu_per_minute:.1f} s for an idle one")
    print(f"  its peak memory: {report.peak_mb:.0f} MB")
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(report), indent=2) + "\n", "utf-8")
    sys.exit(0 if report.whole else 1)


if __name__ == "__main__":
    main()
