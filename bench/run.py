"""`make bench`: a district of any size through all services, Postgres and Kafka, with durability on.

First sync, unchanged sync and a 1 % day are timed from the moment a run is asked for to the moment it has succeeded,
and compared with what this machine can do at best (`bench.limits`), measured in the same run. CPU seconds are what
each process used in a phase; memory is its peak resident set since it started. The day's counts must be exactly the
true ones, or the command fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import psutil
from rich.console import Console
from rich.table import Table

from bench.limits import COLLECTIONS
from bench.uploads import measure_uploads, print_uploads
from homeroom.testing.kafka import NoKafka, running_kafka
from homeroom_local.client import HomeroomClient
from homeroom_local.stack import Stack, running_stack
from roster_store.feed import END_OF_APPLY

RUN_SECONDS = 3_600
TARGETS = {"first sync": 2.5, "unchanged sync": 2.0, "1 % day": 2.5}
SETTLE_SECONDS = 5
"""Until consumers have joined their groups and processes have started: syncs are timed, not starts."""

console = Console(stderr=True, width=110)


@dataclass
class Phase:
    """One timed sync."""

    name: str
    seconds: float
    run: dict[str, Any]
    cpu: dict[str, float] = field(default_factory=dict)
    events_seconds: float | None = None

    @property
    def served(self) -> int:
        """Records the provider served."""
        return sum(counts["served"] for counts in self.run["counts"].values())


@contextmanager
def running_provider(students: int, folder: Path) -> Iterator[str]:
    """A provider with a generated district, as a process of its own; its address."""
    port_file = folder / "provider-port"
    command = [sys.executable, "-m", "bench.provider", "--students", str(students), "--port-file", str(port_file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not port_file.exists() or not port_file.read_text().strip():
            if process.poll() is not None or time.monotonic() > deadline:
                msg = "the provider did not start"
                raise RuntimeError(msg)
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port_file.read_text().strip()}"
    finally:
        process.terminate()
        process.wait(30)


class Meter:
    """Reads CPU seconds and peak memory of the services, Postgres and the broker."""

    def __init__(self, stack: Stack, broker_pid: int | None) -> None:
        self._processes = {
            name: psutil.Process(service.process.pid) for name, service in stack.services.items() if service.process
        }
        if stack.postgres:
            self._processes["postgres"] = psutil.Process(stack.postgres.pid)
        if broker_pid:
            self._processes["kafka"] = psutil.Process(broker_pid)

    def cpu(self) -> dict[str, float]:
        """CPU seconds used so far; Postgres's with those of its finished children."""
        used = {}
        for name, process in self._processes.items():
            family = [process, *(process.children(recursive=True) if name == "postgres" else ())]
            total = 0.0
            for member in family:
                try:
                    times = member.cpu_times()
                except psutil.NoSuchProcess:
                    continue
                total += times.user + times.system
            own = process.cpu_times()
            used[name] = total + (own.children_user + own.children_system if name == "postgres" else 0.0)
        return used

    def peak_mb(self) -> dict[str, float]:
        """Peak resident memory of each service process since it started, in MB (10⁶ bytes)."""
        peaks = {}
        for name, process in self._processes.items():
            if name in ("postgres", "kafka", "sandbox"):
                continue
            status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
            line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            peaks[name] = int(line.split()[1]) * 1024 / 1e6
        return peaks


def measure_limit(kind: str, *arguments: str, times: int = 3) -> float:
    """The median seconds of one of this machine's limits."""
    found = []
    for _ in range(times):
        command = [sys.executable, "-m", "bench.limits", kind, *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=1_800)
        found.append(float(json.loads(done.stdout)["seconds"]))
    return statistics.median(found)


async def sync(client: HomeroomClient, meter: Meter, name: str, integration: str, *, times: int = 1) -> Phase:
    """Run syncs and return the one with the median time."""
    phases = []
    for _ in range(times):
        before = meter.cpu()
        run = await client.sync(integration, mode="full", seconds=RUN_SECONDS)
        seconds = (_moment(run["finished_at"]) - _moment(run["created_at"])).total_seconds()
        if run["state"] != "succeeded":
            msg = f"the {name} ended {run['state']}: {run['code']} {run['message']}"
            raise RuntimeError(msg)
        after = meter.cpu()
        phases.append(Phase(name, seconds, run, {key: after[key] - before[key] for key in after}))
    return sorted(phases, key=lambda phase: phase.seconds)[len(phases) // 2]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def wait_for_relay(stack: Stack, began: float) -> float:
    """Seconds from `began` until every event is on the bus."""
    import asyncpg

    connection = await asyncpg.connect(stack.database_url, timeout=30)
    try:
        while True:
            behind = await connection.fetchval(
                "SELECT max(no) > (SELECT CASE change_no WHEN $1 THEN apply_no ELSE apply_no - 1 END FROM roster.relay)"
                " FROM roster.apply",
                END_OF_APPLY,
            )
            if not behind:
                return time.perf_counter() - began
            await asyncio.sleep(0.1)
    finally:
        await connection.close(timeout=10)


@asynccontextmanager
async def running_everything(given: argparse.Namespace) -> AsyncIterator[tuple[Stack, str, int | None, str]]:
    """The provider, the broker and all services; (stack, provider's address, broker's pid, what the bus is)."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="homeroom-bench-")))
        provider = stack.enter_context(running_provider(given.students, folder))
        pid, bus = None, "Postgres bus (no Kafka wanted)"
        if not given.no_kafka:
            try:
                broker = stack.enter_context(running_kafka())
            except NoKafka as error:
                if os.environ.get("HOMEROOM_REQUIRE_KAFKA") == "1":
                    raise
                bus = f"Postgres bus (no Kafka here: {error})"
            else:
                os.environ["HOMEROOM_KAFKA"] = broker.bootstrap
                pid, bus = _find_child(b"kafka.Kafka"), "Apache Kafka"
        async with running_stack(folder / "data", sandbox=False) as running:
            yield running, provider, pid, bus


def _find_child(word: bytes) -> int | None:
    """The process of ours whose command holds a word."""
    for child in psutil.Process().children(recursive=True):
        if any(word.decode() in part for part in child.cmdline()):
            return child.pid
    return None


async def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Run everything and return the report."""
    async with running_everything(given) as (stack, provider, broker_pid, bus):
        console.print(f"{given.students:,} students, {os.cpu_count()} cores, bus: {bus}")
        fetch_seconds = await asyncio.to_thread(
            measure_limit, "fetch", "--url", provider, "--page-size", str(given.page_size)
        )
        meter = Meter(stack, broker_pid)
        await asyncio.sleep(SETTLE_SECONDS)
        async with (
            HomeroomClient.open(stack.origin, await stack.token()) as client,
            httpx2.AsyncClient(base_url=provider, timeout=300, trust_env=False) as district,
        ):
            organization = await client.create_organization("Bench")
            connection = {
                "endpoint_url": provider,
                "auth": "oauth2",
                "client_id": "bench",
                "client_secret": "bench",
                "token_url": f"{provider}/oauth/token",
            }
            integration = await client.create_integration(organization, connection)
            began = time.perf_counter()
            first = await sync(client, meter, "first sync", integration)
            first.events_seconds = await wait_for_relay(stack, began)
            copy_seconds = await asyncio.to_thread(measure_limit, "copy", "--url", stack.database_url)
            unchanged = await sync(client, meter, "unchanged sync", integration, times=3)
            truth = (await district.post("/bench/day")).json()
            began = time.perf_counter()
            day = await sync(client, meter, "1 % day", integration)
            day.events_seconds = await wait_for_relay(stack, began)
        csv = None
        if not given.no_csv:
            csv = await measure_uploads(stack.origin, await stack.token(), given.students, first.seconds, truth)
        peaks = meter.peak_mb()
    _compare(day, truth)
    a, b = fetch_seconds, copy_seconds
    limits = {"first sync": a + b, "unchanged sync": a, "1 % day": a}
    return {
        "students": given.students,
        "cores": os.cpu_count(),
        "bus": bus,
        "records": first.served,
        "limit_fetch_seconds": round(a, 3),
        "limit_copy_seconds": round(b, 3),
        "phases": [
            {
                "name": phase.name,
                "seconds": round(phase.seconds, 3),
                "records_per_second": round(phase.served / phase.seconds),
                "ratio": round(phase.seconds / limits[phase.name], 2),
                "wanted": TARGETS[phase.name],
                "events_out_after_seconds": phase.events_seconds and round(phase.events_seconds, 2),
                "cpu_seconds": {name: round(used, 2) for name, used in phase.cpu.items() if used >= 0.05},
            }
            for phase in (first, unchanged, day)
        ],
        "csv": csv,
        "peak_mb": {name: round(peak) for name, peak in peaks.items()},
    }


def _compare(day: Phase, truth: dict[str, dict[str, int]]) -> None:
    """The day's run changed exactly what the day changed."""
    for collection in COLLECTIONS:
        counts = day.run["counts"].get(collection, {})
        wanted = truth.get(collection, {})
        for kind in ("added", "changed", "removed"):
            if counts.get(kind, 0) != wanted.get(kind, 0):
                msg = f"{collection}: {counts.get(kind, 0)} {kind}, but truly {wanted.get(kind, 0)}"
                raise RuntimeError(msg)


def print_report(report: dict[str, Any]) -> None:
    """The figures for people."""
    a, b = report["limit_fetch_seconds"], report["limit_copy_seconds"]
    print(f"{report['students']:,} students, {report['records']:,} records, {report['cores']} cores, {report['bus']}")
    print(f"limits here: (a) fetch and decode {a} s, (b) COPY over two connections {b} s")
    table = Table(box=None, pad_edge=False)
    for heading in ("", "seconds", "records/s", "ratio", "wanted", "events out after"):
        table.add_column(heading, justify="left" if not heading else "right")
    for phase in report["phases"]:
        out = phase["events_out_after_seconds"]
        table.add_row(
            phase["name"],
            f"{phase['seconds']:.2f}",
            f"{phase['records_per_second']:,}",
            f"{phase['ratio']:.2f}",
            f"≤ {phase['wanted']}",
            f"{out:.2f} s" if out else "",
        )
    plain = Console(width=110)
    plain.print(table)
    table = Table(box=None, pad_edge=False)
    for heading in ("process", *(f"CPU s, {phase['name']}" for phase in report["phases"]), "peak MB"):
        table.add_column(heading, justify="left" if heading == "process" else "right")
    names = {name for phase in report["phases"] for name in phase["cpu_seconds"]} | set(report["peak_mb"])
    for name in sorted(names):
        used = [phase["cpu_seconds"].get(name, 0.0) for phase in report["phases"]]
        peak = report["peak_mb"].get(name)
        table.add_row(name, *(f"{seconds:.2f}" for seconds in used), str(peak) if peak else "")
    plain.print(table)
    if report["csv"]:
        print_uploads(report["csv"])


def main() -> None:
    """Measure, print, and keep the report if asked to."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--students", type=int, default=50_000)
    parser.add_argument(
        "--page-size", type=int, default=1_000, help="records a page in limit (a); the gateway's own size"
    )
    parser.add_argument("--no-kafka", action="store_true", help="use the Postgres bus")
    parser.add_argument("--no-csv", action="store_true", help="leave out the uploaded archives")
    parser.add_argument("--json", type=Path, help="also write the report to this file")
    given = parser.parse_args()
    report = asyncio.run(measure(given))
    print_report(report)
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
