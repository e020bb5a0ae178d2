"""The worker on a real bus: claims, heartbeats, limits, cancellations, and a graceful end."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.responses import Response

from homeroom.bus.postgres import PostgresBus
from homeroom.codes import Code
from homeroom.messages import (
    ROSTER_CHANGES,
    SYNC_FACTS,
    TOPICS,
    CancelRun,
    Claimed,
    Fact,
    Failed,
    FetchAbandoned,
    FetchCompleted,
    Fetched,
    FetchStarted,
    Progress,
    RosterChange,
    SyncJob,
    jobs_topic,
    read_change,
    read_fact,
    to_cancellations,
    to_jobs,
)
from provider_gateway.worker import Worker


class Town:
    """A bus with a worker on it, and what it says, as it says it."""

    def __init__(self, bus: PostgresBus, gateway: Any) -> None:
        self.bus = bus
        self.gateway = gateway
        self.facts: list[Fact] = []
        self.changes: list[RosterChange] = []
        self._heard = asyncio.Condition()

    async def hear(self, messages: Any) -> None:
        """Take note of what was said."""
        async with self._heard:
            for message in messages:
                if message.topic == SYNC_FACTS.name:
                    self.facts.append(read_fact(message))
                else:
                    self.changes.append(read_change(message))
            self._heard.notify_all()

    async def until(self, condition: Callable[[], object], seconds: float = 20) -> None:
        """Wait until something has been heard."""
        async with asyncio.timeout(seconds), self._heard:
            await self._heard.wait_for(lambda: bool(condition()))

    def of(self, kind: type[Fact], job: SyncJob | None = None) -> list[Any]:
        """The facts of a kind."""
        return [fact for fact in self.facts if isinstance(fact, kind) and (job is None or fact.run_id == job.run_id)]

    async def ended(self, job: SyncJob) -> Any:
        """Wait for a job's end."""
        await self.until(lambda: self.of(Fetched, job) or self.of(Failed, job))
        return (self.of(Fetched, job) or self.of(Failed, job))[0]

    async def order(self, region: str = "us", **values: Any) -> SyncJob:
        """Publish a job."""
        job = self.gateway.job(**values)
        await self.bus.publish(to_jobs(job, region))
        return job

    @asynccontextmanager
    async def worker(self, **settings: Any) -> AsyncIterator[tuple[Worker, asyncio.Event]]:
        """A running worker, and what stops it."""
        worker = Worker(self.gateway.workshop(self.bus, **({"regions": ("us",)} | settings)))
        stop = asyncio.Event()
        running = asyncio.create_task(worker.run(stop))
        try:
            yield worker, stop
            stop.set()
            async with asyncio.timeout(30):
                await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def town(database_url: str, gateway: Any, provider: Any, user: Any) -> AsyncIterator[Town]:
    """A bus, a provider with a few users, and an ear on everything the gateway says."""
    provider.collections["users"] = [user(n) for n in range(30)]
    async with PostgresBus.open(database_url) as bus:
        await bus.ensure_topics(TOPICS)
        town = Town(bus, gateway)
        ear = bus.consumer([SYNC_FACTS.name, ROSTER_CHANGES.name], town.hear, group=None)
        listening = asyncio.create_task(ear.run())
        yield town
        await ear.stop()
        await asyncio.gather(listening, return_exceptions=True)


class Barrier:
    """Holds the provider's answers back until it is opened."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._open = asyncio.Event()
        self.waiting = 0

    def open(self) -> None:
        """Let everybody through, now and later."""
        self._open.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Let a request through once it may pass."""
        self.waiting += 1
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1
        await self._provider(scope, receive, send)


@pytest.fixture
async def barrier(serve: Any, provider: Any, gateway: Any) -> AsyncIterator[Barrier]:
    """A provider that answers when the test wants it to."""
    barrier = Barrier(provider)
    gateway.point_at(await serve(barrier))
    yield barrier
    barrier.open()


async def eventually(condition: Callable[[], object], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_job(town: Town) -> None:
    """A job is claimed, worked on with a heartbeat, published whole, and reported as fetched, in this order."""
    async with town.worker():
        job = await town.order()
        fetched = await town.ended(job)

    assert isinstance(fetched, Fetched)
    assert fetched.collections["users"].added == 30
    (claimed,) = town.of(Claimed, job)
    assert claimed.fetch_id == fetched.fetch_id
    assert isinstance(town.facts[0], Claimed)
    assert isinstance(town.changes[0], FetchStarted)
    assert isinstance(town.changes[-1], FetchCompleted)
    assert await town.bus.lag("provider-gateway.us", [jobs_topic("us")]) == 0


async def test_heartbeat(town: Town, barrier: Barrier) -> None:
    """While a provider is slow, progress is told again and again, and the job's offset is long committed."""
    async with town.worker():
        job = await town.order()
        await town.until(lambda: len(town.of(Progress, job)) >= 3)
        assert await town.bus.lag("provider-gateway.us", [jobs_topic("us")]) == 0
        barrier.open()
        await town.ended(job)


async def test_limit(town: Town, barrier: Barrier) -> None:
    """At its limit a worker takes no more jobs, and takes them when one has ended; waiting jobs are lag."""
    async with town.worker(concurrent_jobs=2) as (worker, _):
        jobs = [await town.order(integration_id=str(n)) for n in range(5)]
        await eventually(lambda: worker.running == 2)
        await asyncio.sleep(0.5)
        assert len(town.of(Claimed)) == 2
        assert await town.bus.lag("provider-gateway.us", [jobs_topic("us")]) == 3
        barrier.open()
        for job in jobs:
            await town.ended(job)
    assert len(town.of(Claimed)) == 5


async def test_regions(town: Town) -> None:
    """A worker takes the jobs of its regions only."""
    async with town.worker(regions=("au", "nz")):
        jobs = [await town.order(region) for region in ("us", "au", "nz")]
        for job in jobs[1:]:
            await town.ended(job)
    assert town.of(Claimed, jobs[0]) == []


@pytest.mark.parametrize(("below", "cancelled"), [(1, False), (2, True)])
async def test_cancellation(town: Town, barrier: Barrier, below: int, cancelled: bool) -> None:
    """A cancelled run is given up within a second and says why; an attempt that is not meant goes on."""
    async with town.worker():
        job = await town.order()
        await eventually(lambda: barrier.waiting)
        cancel = CancelRun(run_id=job.run_id, below_attempt=below, reason=Code.RUN_CANCELLED)
        await town.bus.publish(to_cancellations(cancel))
        if not cancelled:
            await asyncio.sleep(0.5)
            barrier.open()
        ended = await town.ended(job)
        if cancelled:
            await town.until(lambda: not town.changes or isinstance(town.changes[-1], FetchAbandoned))

    assert isinstance(ended, Failed) is cancelled
    if cancelled:
        assert (ended.code, ended.again) == (Code.RUN_CANCELLED, False)


async def test_redelivery(town: Town, barrier: Barrier) -> None:
    """A job that comes again while it is worked on is left alone."""
    async with town.worker():
        job = await town.order()
        await eventually(lambda: barrier.waiting)
        await town.bus.publish(to_jobs(job, "us"))
        await asyncio.sleep(0.5)
        barrier.open()
        await town.ended(job)
    assert len(town.of(Claimed, job)) == 1
    assert len([change for change in town.changes if isinstance(change, FetchStarted)]) == 1


async def test_newer_attempt(town: Town, barrier: Barrier) -> None:
    """A newer attempt of a run takes the older one's place."""
    async with town.worker():
        job = await town.order()
        await eventually(lambda: barrier.waiting)
        await town.order(run_id=job.run_id, attempt=2)
        await town.until(lambda: town.of(Failed, job))
        barrier.open()
        await town.until(lambda: town.of(Fetched, job))
    assert (town.of(Failed)[0].attempt, town.of(Failed)[0].code) == (1, Code.RUN_OVERTAKEN)
    assert town.of(Fetched)[0].attempt == 2


@pytest.mark.usefixtures("barrier")
async def test_deadline(town: Town) -> None:
    """A job that is not done by its deadline fails with it."""
    async with town.worker():
        ended = await town.ended(await town.order(seconds=0.7))
    assert (ended.code, ended.again) == (Code.RUN_DEADLINE, False)


async def test_graceful_stop(town: Town, barrier: Barrier) -> None:
    """A worker that is to stop takes no more jobs and lets those under way finish."""
    async with town.worker(grace_seconds=10) as (worker, stop):
        job = await town.order()
        await eventually(lambda: barrier.waiting)
        stop.set()
        await asyncio.sleep(0.3)
        late = await town.order()
        await asyncio.sleep(0.3)
        assert worker.running == 1
        barrier.open()
        assert isinstance(await town.ended(job), Fetched)
    assert town.of(Claimed, late) == []


async def test_end_of_grace(town: Town, barrier: Barrier) -> None:
    """What does not finish within the grace period is given up, to be tried again elsewhere."""
    async with town.worker(grace_seconds=0.3) as (_, stop):
        job = await town.order()
        await eventually(lambda: barrier.waiting)
        stop.set()
        ended = await town.ended(job)
    assert (ended.code, ended.again) == (Code.WORKER_STOPPED, True)


async def test_secret_of_another_integration(town: Town) -> None:
    """A secret that was sealed for another integration is not opened, and the provider is not asked."""
    async with town.worker():
        other = town.gateway.job()
        job = await town.order(integration_id="another", sealed_secret=other.sealed_secret)
        ended = await town.ended(job)
    assert (ended.code, ended.again) == (Code.SECRET_UNREADABLE, False)


async def test_unforeseen(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw ends the run as RUN_INTERNAL, to be tried again, and the worker lives on."""
    with monkeypatch.context() as patch:
        patch.setattr("provider_gateway.providers.contract.prepare", lambda *_, **__: 1 / 0)
        async with town.worker():
            ended = await town.ended(await town.order())
            assert (ended.code, ended.again) == (Code.RUN_INTERNAL, True)
            patch.undo()
            assert isinstance(await town.ended(await town.order()), Fetched)


async def test_first_reason_counts(town: Town, provider: Any) -> None:
    """When one collection fails, the whole fetch is abandoned with that collection's code."""
    provider.answer = lambda collection, *_: Response(status_code=403) if collection == "enrollments" else None
    async with town.worker():
        ended = await town.ended(await town.order())
        await town.until(lambda: not town.changes or isinstance(town.changes[-1], FetchAbandoned))
    assert ended.code == Code.PROV_SCOPE
    assert "/enrollments" in ended.detail


async def test_no_person_and_no_secret_is_told(
    town: Town, provider: Any, user: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logs and facts of good and bad runs hold no secret, no name, no address and no query."""
    caplog.set_level(logging.DEBUG)
    for name in ("httpx2", "httpcore2", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    canaries = ("canary-secret", "Canaria", "canary@example.org", "u-canary", "limit=", "canary-consumer")
    town.gateway.secrets = {"client_secret": "canary-secret"}
    town.gateway.connection |= {"client_id": "canary-consumer"}
    person = {"givenName": "Canaria", "email": "canary@example.org", "sourcedId": "u-canary"}
    provider.collections["users"] = [user("-canary", **person), user(2, **person, role="wizard") | {"sourcedId": "u2"}]
    provider.counted = False
    async with town.worker():
        assert isinstance(await town.ended(await town.order()), Fetched)
        for status in (401, 403, 404, 400, 302):
            provider.answer = lambda *_, status=status: Response(b"Canaria", status, {"location": "/?limit=Canaria"})
            assert isinstance(await town.ended(await town.order()), Failed)
        provider.answer = lambda *_: Response(b'{"error":"Canaria"}')
        monkeypatch.setattr("provider_gateway.client._LONGEST_PAUSE_SECONDS", 0.01)
        assert isinstance(await town.ended(await town.order()), Failed)
        provider.answer = lambda *_: None
        monkeypatch.setattr("provider_gateway.providers.contract.prepare", lambda *_, **__: int("Canaria"))
        assert isinstance(await town.ended(await town.order()), Failed)

    told = caplog.text.replace("limit=None", "") + "".join(
        fact.detail for fact in town.facts if isinstance(fact, Failed)
    )
    assert told
    assert [canary for canary in canaries if canary in told] == []
