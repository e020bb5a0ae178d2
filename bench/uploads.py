"""A district as CSV archives through the whole installation: uploaded by hand, synced by itself (A2, A6).

Two comparisons in the same run: the first sync with the first sync over REST, and a sync that finds nothing changed
with inflating and decoding the archive in one process and doing nothing else.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx2

from homeroom_local.client import HomeroomClient

Json = dict[str, Any]
WANTED_FIRST: Final = 1.0
"""Of the first sync over REST."""
WANTED_UNCHANGED: Final = 1.5
"""Of reading and decoding the archive."""
_RUN_SECONDS: Final = 3_600
_UPLOAD_SECONDS: Final = 600


async def measure_uploads(
    origin: str, token: str, students: int, rest_first_seconds: float, rest_truth: dict[str, dict[str, int]]
) -> Json:
    """Upload a district, the same again, and the day after; how long each sync took and how that compares."""
    with tempfile.TemporaryDirectory(prefix="homeroom-bench-") as folder:
        archives = Path(folder)
        truth = json.loads(await _work("write", str(archives), "--students", str(students)))
        if truth != rest_truth:
            msg = "the archives are not of the same district as REST's"
            raise RuntimeError(msg)
        async with (
            HomeroomClient.open(origin, token) as client,
            httpx2.AsyncClient(
                base_url=origin,
                headers={"Authorization": f"Bearer {token}"},
                timeout=_UPLOAD_SECONDS,
                trust_env=False,
            ) as http,
        ):
            organization = await client.create_organization("Bench CSV")
            integration = await client.create_integration(organization, {}, provider="oneroster-csv")
            known: set[str] = set()

            async def sync(archive: str) -> Json:
                content = (archives / archive).read_bytes()
                answer = await http.post(f"/v1/integrations/{integration}/uploads", content=content)
                answer.raise_for_status()
                run = await _wait_for_run_of_its_own(client, integration, known)
                if run["state"] != "succeeded":
                    msg = f"the sync of {archive} ended {run['state']}: {run['code']} {run['message']}"
                    raise RuntimeError(msg)
                return run

            first = await sync("first.zip")
            limits = [json.loads(await _work("read", str(archives / "first.zip")))["seconds"] for _ in range(3)]
            unchanged = [await sync("first.zip") for _ in range(3)]
            day = await sync("day.zip")
    _compare(day, truth)
    limit = statistics.median(limits)
    return {
        "limit_read_seconds": round(limit, 3),
        "phases": [
            _describe("CSV first sync", _seconds(first), first, rest_first_seconds, WANTED_FIRST),
            _describe(
                "CSV unchanged sync", statistics.median(map(_seconds, unchanged)), unchanged[0], limit, WANTED_UNCHANGED
            ),
            _describe("CSV 1 % day", _seconds(day), day, limit, None),
        ],
    }


async def _work(*arguments: str) -> str:
    """Do some work of `bench.archive` in a process of its own; what it prints."""
    command = [sys.executable, "-m", "bench.archive", *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, check=True, capture_output=True, text=True, timeout=_RUN_SECONDS
    )
    return str(done.stdout)


async def _wait_for_run_of_its_own(client: HomeroomClient, integration: str, known: set[str]) -> Json:
    """The run that an upload starts, once it has ended."""
    async with asyncio.timeout(_RUN_SECONDS):
        while True:
            runs = (await client.call("GET", f"/v1/integrations/{integration}/runs"))["items"]
            new = [run["id"] for run in runs if run["id"] not in known]
            if new:
                known.update(new)
                return await client.wait_for_run(new[0], seconds=_RUN_SECONDS)
            await asyncio.sleep(0.1)


def _seconds(run: Json) -> float:
    return (datetime.fromisoformat(run["finished_at"]) - datetime.fromisoformat(run["created_at"])).total_seconds()


def _describe(name: str, seconds: float, run: Json, compared_with: float, wanted: float | None) -> Json:
    served = sum(counts["served"] for counts in run["counts"].values())
    return {
        "name": name,
        "seconds": round(seconds, 3),
        "records_per_second": round(served / seconds),
        "ratio": round(seconds / compared_with, 2),
        "wanted": wanted,
    }


def _compare(day: Json, truth: dict[str, dict[str, int]]) -> None:
    """The day's run changed exactly what the day changed."""
    for collection, wanted in truth.items():
        counts = day["counts"].get(collection, {})
        for kind, count in wanted.items():
            if counts.get(kind, 0) != count:
                msg = f"CSV {collection}: {counts.get(kind, 0)} {kind}, but truly {count}"
                raise RuntimeError(msg)


def print_uploads(report: Json) -> None:
    """The figures for people."""
    print(f"CSV archive: read and decoded in {report['limit_read_seconds']} s here; first sync compared with REST's")
    for phase in report["phases"]:
        wanted = f"wanted ≤ {phase['wanted']}" if phase["wanted"] else ""
        rate = f"{phase['records_per_second']:>9,} records/s"
        print(f"{phase['name']:<20} {phase['seconds']:>7.2f} s  {rate}  ratio {phase['ratio']:.2f} {wanted}")
