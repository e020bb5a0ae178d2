"""The worker's rounds: jobs, states and stops go out; silence and deadlines are judged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from homeroom.bus import BusUnavailable, Message, Outgoing
from homeroom.bus.postgres import PostgresBus
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import (
    CANCELLATIONS,
    TENANCY,
    CancelRun,
    Claimed,
    IntegrationState,
    Options,
    OrganizationState,
    read_cancellation,
    read_job,
    read_tenancy,
    to_facts,
)
from homeroom.secrets import SealingKeys
from sync_scheduler.facts import Facts
from sync_scheduler.runs import Limits
from sync_scheduler.starts import StartLimits
from sync_scheduler.ticking import Ticking

Read = Callable[[str], Awaitable[list[Message]]]
JOBS = "sync-jobs.us"


async def _claim(facts: Facts, run_id: str, integration: dict[str, Any], attempt: int = 1) -> None:
    fact = Claimed(
        run_id=run_id,
        attempt=attempt,
        integration_id=integration["id"],
        at=datetime.now(UTC),
        worker="w",
        fetch_id=f"fetch-{attempt}",
    )
    out = to_facts(fact)
    await facts.handle([Message(out.topic, 0, 0, out.key, out.value, {}, datetime.now(UTC))])


async def _show(client: httpx2.AsyncClient, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(f"/v1/runs/{run_id}")).raise_for_status().json()
    return found


async def test_a_run_becomes_a_job(
    database: Database,
    ticking: Ticking,
    read: Read,
    integration: dict[str, Any],
    run_id: str,
    sealing_keys: SealingKeys,
    canary: str,
) -> None:
    """A queued run goes out once, to its region, with everything a worker needs and the secret only it can open."""
    trace = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    await database.fetch("UPDATE run SET headers = $1", trace)
    await ticking.send_due()
    await ticking.send_due()
    (message,) = await read(JOBS)
    job = read_job(message)

    assert (job.run_id, job.attempt, job.mode, message.key) == (run_id, 1, "full", integration["id"])
    assert (job.integration_id, job.organization_id) == (integration["id"], integration["organization_id"])
    assert (job.provider, job.connection, job.options) == ("oneroster", integration["connection"], Options())
    assert json.loads(sealing_keys.open(job.integration_id, job.sealed_secret)) == {"client_secret": canary}
    assert (job.sis, job.bookmark, job.upload) == ("PowerSchool", None, None)
    assert canary.encode() not in message.value
    assert message.headers == trace
    assert job.deadline > datetime.now(UTC)


async def test_three_replicas(
    client: httpx2.AsyncClient,
    database: Database,
    bus: PostgresBus,
    organization_id: str,
    wanted: Callable[..., dict[str, Any]],
    read: Read,
) -> None:
    """Three replicas at once send every attempt, state and stop exactly once in the normal case."""
    runs = []
    for number in range(40):
        created = await client.post("/v1/integrations", json=wanted(organization_id, name=f"I{number}"))
        path = f"/v1/integrations/{created.json()['id']}/runs"
        runs.append((await client.post(path, json={})).json()["run_id"])
    for run_id in runs[:5]:
        await client.post(f"/v1/runs/{run_id}/cancel")
    roomy = StartLimits(host_runs=100)
    replicas = [Ticking(database, bus, Limits(), tick_seconds=0.5, starts=roomy) for _ in range(3)]
    for _ in range(3):
        await asyncio.gather(*(replica.send_due() for replica in replicas))

    assert sorted(read_job(message).run_id for message in await read(JOBS)) == sorted(runs[5:])
    assert len(await read(TENANCY.name)) == 41
    assert sorted(read_cancellation(message).run_id for message in await read(CANCELLATIONS.name)) == sorted(runs[:5])


async def test_states(client: httpx2.AsyncClient, ticking: Ticking, read: Read, integration: dict[str, Any]) -> None:
    """Others hear of organizations before their integrations, of names that change and of deletion, not of secrets."""
    path = f"/v1/integrations/{integration['id']}"
    await ticking.send_due()
    await client.patch(path, json={"name": "Renamed"})
    await client.patch(path, json={"options": {"sync_parents": True}})
    await ticking.send_due()
    await client.delete(path)
    await ticking.send_due()
    states = [read_tenancy(message) for message in await read(TENANCY.name)]

    assert states[0] == OrganizationState(id=integration["organization_id"], name="Springfield Unified")
    told = [(state.name, state.state) for state in states[1:] if isinstance(state, IntegrationState)]
    assert told == [("Springfield", "active"), ("Renamed", "active"), ("Renamed", "deleted")]


async def test_what_could_not_be_sent_is_sent_later(
    database: Database, bus: PostgresBus, ticking: Ticking, run_id: str, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the bus is away nothing is marked as sent, and the next round sends it."""

    async def refuse(*_: Outgoing) -> None:
        raise BusUnavailable

    with monkeypatch.context() as away:
        away.setattr(bus, "publish", refuse)
        with pytest.raises(BusUnavailable):
            await ticking.send_due()
    assert await database.fetchval("SELECT published_attempt FROM run") == 0
    await ticking.send_due()

    assert [read_job(message).run_id for message in await read(JOBS)] == [run_id]


async def test_attempts_wait(database: Database, ticking: Ticking, run_id: str, read: Read) -> None:
    """An attempt that is to wait is not sent before its time."""
    await database.fetch("UPDATE run SET not_before = now() + interval '1 hour' WHERE id = $1", run_id)
    await ticking.send_due()
    assert await read(JOBS) == []
    await database.fetch("UPDATE run SET not_before = now() - interval '1 second' WHERE id = $1", run_id)
    await ticking.send_due()

    assert len(await read(JOBS)) == 1


async def test_lost_worker(
    client: httpx2.AsyncClient,
    database: Database,
    ticking: Ticking,
    facts: Facts,
    read: Read,
    integration: dict[str, Any],
    run_id: str,
) -> None:
    """A silent worker costs an attempt: the next one goes out and the silent one is told to stop."""
    await ticking.send_due()
    await _claim(facts, run_id, integration)
    await ticking.look_after()
    assert (await _show(client, run_id))["attempt"] == 1
    await database.fetch("UPDATE run SET heartbeat_at = now() - interval '61 seconds'")
    await ticking.look_after()
    await ticking.send_due()

    assert [read_job(message).attempt for message in await read(JOBS)] == [1, 2]
    (stop,) = map(read_cancellation, await read(CANCELLATIONS.name))
    assert stop == CancelRun(run_id=run_id, below_attempt=2, reason=Code.RUN_OVERTAKEN)
    steps = [entry["step"] for entry in (await client.get(f"/v1/runs/{run_id}/log")).json()["entries"]]
    assert steps == ["asked", "published", "claimed", "again", "published"]


async def test_silence_of_our_own(
    client: httpx2.AsyncClient,
    database: Database,
    bus: PostgresBus,
    ticking: Ticking,
    facts: Facts,
    integration: dict[str, Any],
    run_id: str,
) -> None:
    """After an outage of the scheduler nobody is judged before what was reported meanwhile is heard."""
    await _claim(facts, run_id, integration)
    await database.fetch("UPDATE run SET heartbeat_at = now() - interval '1 hour', deadline_at = now()")
    unread = Claimed(run_id=run_id, attempt=1, integration_id="i", at=datetime.now(UTC), worker="w", fetch_id="fetch-1")
    await bus.publish(*[to_facts(unread)] * 12)
    await ticking.look_after()

    assert (await _show(client, run_id))["state"] == "fetching"


async def test_deadline(
    client: httpx2.AsyncClient, database: Database, ticking: Ticking, run_id: str, read: Read
) -> None:
    """A run over its deadline fails with RUN_DEADLINE, and whoever takes it up is told to stop."""
    await database.fetch("UPDATE run SET deadline_at = now() - interval '1 second'")
    await ticking.look_after()
    await ticking.send_due()
    run = await _show(client, run_id)

    assert (run["state"], run["code"]) == ("failed", "RUN_DEADLINE")
    assert run["next_step"] is not None
    (stop,) = map(read_cancellation, await read(CANCELLATIONS.name))
    assert stop.reason is Code.RUN_DEADLINE
    assert await read(JOBS) == []


async def test_cancel_until_heard(
    client: httpx2.AsyncClient,
    database: Database,
    ticking: Ticking,
    facts: Facts,
    read: Read,
    integration: dict[str, Any],
    run_id: str,
) -> None:
    """A worker that does not answer a cancellation is told again, until the run has ended."""
    await _claim(facts, run_id, integration)
    assert (await client.post(f"/v1/runs/{run_id}/cancel")).json()["state"] == "fetching"
    for _ in range(2):
        await ticking.send_due()
        await ticking.send_due()
        await database.fetch("UPDATE run SET stop_due_at = stop_due_at - interval '6 seconds'")
    assert len(await read(CANCELLATIONS.name)) == 2
    await database.fetch("UPDATE run SET heartbeat_at = now() - interval '61 seconds'")
    await ticking.look_after()
    await ticking.send_due()
    await ticking.send_due()

    assert (await _show(client, run_id))["state"] == "cancelled"
    assert len(await read(CANCELLATIONS.name)) == 3
    assert await database.fetchval("SELECT stop_due_at FROM run") is None


async def test_measures(ticking: Ticking, facts: Facts, integration: dict[str, Any], run_id: str) -> None:
    """What operations watch is measured with and without runs under way."""
    from homeroom.telemetry import BUS_LAG, HEARTBEAT_AGE

    await ticking.measure()
    await _claim(facts, run_id, integration)
    await ticking.measure()

    assert BUS_LAG.labels("sync-scheduler")._value.get() == 0
    assert 0 < HEARTBEAT_AGE._value.get() < 60
