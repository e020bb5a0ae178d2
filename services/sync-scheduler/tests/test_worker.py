"""The worker as a whole, and the roles as processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx2

from homeroom.bus import Message
from homeroom.bus.postgres import PostgresBus
from homeroom.messages import (
    Answered,
    Applied,
    Claimed,
    CollectionReport,
    Fact,
    Progress,
    UploadReceived,
    inquiries_topic,
    read_inquiry,
    read_job,
    to_facts,
)
from homeroom.service import Parts
from sync_scheduler.app import work
from sync_scheduler.settings import ApiSettings

DEADLINE = 60


@asynccontextmanager
async def _working(settings: ApiSettings) -> AsyncIterator[None]:
    stop = asyncio.Event()
    async with Parts(stop) as parts:
        working = asyncio.create_task(work(settings, parts, stop))
        yield
        stop.set()
        await asyncio.wait_for(working, DEADLINE)
        assert not parts.failed


@asynccontextmanager
async def _gateway(bus: PostgresBus, settle: float = 0.0) -> AsyncIterator[list[float]]:
    """Takes jobs and reports that they were done; gives the moments at which jobs arrived."""
    arrivals: list[float] = []

    async def do(messages: object) -> None:
        assert isinstance(messages, list | tuple)
        for message in messages:
            assert isinstance(message, Message)
            arrivals.append(time.monotonic())
            job = read_job(message)
            common: dict[str, Any] = {
                "run_id": job.run_id,
                "attempt": job.attempt,
                "integration_id": job.integration_id,
                "at": datetime.now(UTC),
                "fetch_id": f"{job.run_id}.{job.attempt}",
            }
            facts: list[Fact] = [
                Claimed(worker="w", **common),
                Progress(pages=1, **common),
                Applied(apply=1, collections={"users": CollectionReport(served=1, added=1)}, students=1, **common),
            ]
            for fact in facts:
                await bus.publish(to_facts(fact))
                await asyncio.sleep(settle)

    consumer = bus.consumer(["sync-jobs.us"], do, group="gateway")
    reading = asyncio.create_task(consumer.run())
    yield arrivals
    await consumer.stop()
    await asyncio.wait_for(reading, DEADLINE)


async def _insist(client: httpx2.AsyncClient, method: str, path: str) -> httpx2.Response:
    """Ask until the answer is no server error."""
    async with asyncio.timeout(DEADLINE):
        while (answer := await client.request(method, path)).status_code >= 500:
            await asyncio.sleep(0.05)
        return answer


async def _until_ended(client: httpx2.AsyncClient, run_id: str) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE):
        while True:
            run: dict[str, Any] = (await _insist(client, "GET", f"/v1/runs/{run_id}")).json()
            if run["finished_at"]:
                return run
            await asyncio.sleep(0.02)


async def test_from_request_to_result(
    client: httpx2.AsyncClient, settings: ApiSettings, bus: PostgresBus, integration: dict[str, Any]
) -> None:
    """A run that is asked for goes out, is reported on and ends, again and again, without anybody's help."""
    path = f"/v1/integrations/{integration['id']}/runs"
    async with _working(settings), _gateway(bus):
        for _ in range(3):
            run = await _until_ended(client, (await client.post(path)).json()["run_id"])
            assert (run["state"], run["attempt"], run["matched_students"]) == ("succeeded", 1, 1)


async def test_nobody_waits_for_the_next_round(
    client: httpx2.AsyncClient, settings: ApiSettings, bus: PostgresBus, integration: dict[str, Any]
) -> None:
    """A new run goes out at once, not when the worker looks the next time."""
    patient = settings.model_copy(update={"tick_seconds": 20.0})
    async with _working(patient), _gateway(bus) as arrivals:
        await asyncio.sleep(1)
        began = time.monotonic()
        run_id = (await client.post(f"/v1/integrations/{integration['id']}/runs")).json()["run_id"]
        await _until_ended(client, run_id)

    assert arrivals[0] - began < 5


async def test_uploads_and_questions_do_not_wait(
    client: httpx2.AsyncClient, settings: ApiSettings, bus: PostgresBus, fed: dict[str, Any]
) -> None:
    """Sets of files are read one after the other, and questions put, the moment they come and not at a next round."""
    patient = settings.model_copy(update={"tick_seconds": 30.0})
    asked: list[str] = []

    async def answer(messages: Sequence[Message]) -> None:
        for inquiry in map(read_inquiry, messages):
            asked.append(inquiry.inquiry_id)
            answered = Answered(
                inquiry_id=inquiry.inquiry_id, integration_id=inquiry.integration_id, at=datetime.now(UTC)
            )
            await bus.publish(to_facts(answered))

    answering = bus.consumer([inquiries_topic("us")], answer, group="gateway")
    reading = asyncio.create_task(answering.run())
    async with _working(patient), _gateway(bus):
        await asyncio.sleep(1)
        began = time.monotonic()
        for number in range(3):
            upload = UploadReceived(
                upload_id=f"u{number}",
                integration_id=fed["id"],
                at=datetime.now(UTC),
                via="sftp",
                files=8,
                bytes=1,
                digest="d",
            )
            await bus.publish(to_facts(upload))
        report = (await client.post(f"/v1/integrations/{fed['id']}/verify")).json()
        runs: list[dict[str, Any]] = []
        while len(runs) < 3 or not runs[0]["finished_at"]:
            assert time.monotonic() - began < 20
            await asyncio.sleep(0.05)
            runs = (await client.get(f"/v1/integrations/{fed['id']}/runs")).json()["items"]
    await answering.stop()
    await reading

    assert report["ok"] is True
    assert [run["upload"]["id"] for run in runs] == ["u2", "u1", "u0"]
    assert {run["state"] for run in runs} == {"succeeded"}
    assert len(asked) == 1


async def test_lost_connections(
    client: httpx2.AsyncClient, settings: ApiSettings, bus: PostgresBus, integration: dict[str, Any]
) -> None:
    """A worker whose connections to its tables are all cut goes on by itself."""
    path = f"/v1/integrations/{integration['id']}/runs"
    async with _working(settings), _gateway(bus):
        for _ in range(5):
            run_id = (await _insist(client, "POST", path)).json()["run_id"]
            connection = await asyncpg.connect(settings.database_url.get_secret_value(), timeout=10)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'sync-scheduler%'"
            )
            await connection.close(timeout=10)
            assert (await _until_ended(client, run_id))["state"] == "succeeded"


async def test_killed_workers(
    client: httpx2.AsyncClient,
    bus: PostgresBus,
    organization_id: str,
    wanted: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    """Workers killed without warning while runs are under way leave every run with its right end."""
    runs = []
    async with _gateway(bus, settle=0.5):
        for number in range(12):
            created = await client.post("/v1/integrations", json=wanted(organization_id, name=f"I{number}"))
            runs.append((await client.post(f"/v1/integrations/{created.json()['id']}/runs")).json()["run_id"])
        for milliseconds in (10, 100, 400, 700):
            worker = await _start("worker", tmp_path, until='"working"')
            await asyncio.sleep(milliseconds / 1000)
            worker.send_signal(signal.SIGKILL)
            await asyncio.wait_for(worker.wait(), DEADLINE)
        worker = await _start("worker", tmp_path, until='"working"')
        ended = [await _until_ended(client, run_id) for run_id in runs]
        worker.terminate()
        assert await asyncio.wait_for(worker.wait(), DEADLINE) == 0

    assert {run["state"] for run in ended} == {"succeeded"}


async def test_roles(settings: ApiSettings, tmp_path: Path) -> None:
    """The api answers its probes once it is up and ends with 0 when asked to; migrating twice is fine."""
    for _ in range(2):
        assert await asyncio.wait_for((await _start("migrate", tmp_path)).wait(), DEADLINE) == 0
    api = await _start("api", tmp_path, HOMEROOM_PORT_FILE=str(tmp_path / "port"))
    async with asyncio.timeout(DEADLINE), httpx2.AsyncClient() as client:
        while not (tmp_path / "port").exists():
            await asyncio.sleep(0.05)
        origin = f"http://{settings.host}:{(tmp_path / 'port').read_text().strip()}"
        assert (await client.get(f"{origin}/readyz")).json() == {"status": "ok"}
        assert (await client.get(f"{origin}/v1/integrations")).json()["code"] == "TOKEN_MISSING"
    api.terminate()
    assert await asyncio.wait_for(api.wait(), DEADLINE) == 0


async def test_settings_are_checked(tmp_path: Path) -> None:
    """The api does not start without the gateway's key and says which variable is missing."""
    api = await _start("api", tmp_path, HOMEROOM_DATABASE_URL="postgresql://x/y", HOMEROOM_ISSUER="http://i.test")
    assert await asyncio.wait_for(api.wait(), DEADLINE) == 78
    assert "HOMEROOM_GATEWAY_PUBLIC_KEY is not set" in (tmp_path / "api.log").read_text()


async def _start(role: str, folder: Path, *, until: str = "", **environment: str) -> asyncio.subprocess.Process:
    """Start a role; with `until`, return when its log says so."""
    path = folder / f"{role}.log"
    with path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sync_scheduler", role, env={**os.environ, **environment}, stderr=log
        )
    async with asyncio.timeout(DEADLINE):
        while until not in path.read_text():
            await asyncio.sleep(0.02)
    return process
