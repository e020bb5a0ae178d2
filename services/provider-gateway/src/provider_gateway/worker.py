"""The worker: takes jobs of its regions off the bus and works on a few at once, beside the polling loop.

A job is claimed, its offset committed, and then it is worked on as a task of its own, so that adding workers never
disturbs running jobs and waiting jobs are exactly the consumers' lag.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from secrets import token_hex

from homeroom.bus import Bus, Consumer, Message, Retry
from homeroom.codes import Code
from homeroom.faultpoints import faultpoint
from homeroom.messages import (
    CANCELLATIONS,
    TOPICS,
    SyncJob,
    inquiries_topic,
    jobs_topic,
    read_cancellation,
    read_job,
)
from homeroom.telemetry import get_logger, span_from
from provider_gateway.execution import Execution
from provider_gateway.inquiries import Inquiries
from provider_gateway.workshop import Workshop

log = get_logger(__name__)

_LAST_SECONDS = 4.0


def name_worker() -> str:
    """A name for this process that no other one has."""
    return f"{socket.gethostname()}-{os.getpid()}-{token_hex(3)}"


class Worker:
    """Takes and runs jobs until it is stopped."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._settings = workshop.settings
        self._running: dict[str, Execution] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._inquiries = Inquiries(workshop)
        self._job_consumers: list[Consumer] = []
        self._paused = False

    @property
    def running(self) -> int:
        """How many jobs are under way, those that are being given up included."""
        return len(self._tasks)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then let jobs finish for a while and give up the rest.

        Raises what a consumer ends with (`BrakeEngaged`, `BusError`).
        """
        bus: Bus = self._workshop.bus
        await bus.ensure_topics(TOPICS)
        self._job_consumers = [
            bus.consumer([jobs_topic(region)], self.take_jobs, group=f"provider-gateway.{region}", max_batch=1)
            for region in self._settings.regions
        ]
        # Beside the jobs and never paused: an admin who waits for an answer does not wait for a sync.
        inquiries = [
            bus.consumer([inquiries_topic(region)], self._inquiries.handle, group=f"provider-gateway.asked.{region}")
            for region in self._settings.regions
        ]
        cancellations = bus.consumer([CANCELLATIONS.name], self.heed_cancellations, group=None, start="latest")
        consumers = [cancellations, *inquiries, *self._job_consumers]
        consuming = [asyncio.create_task(consumer.run()) for consumer in consumers]
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([stopping, *consuming], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.gather(*(consumer.stop() for consumer in (*self._job_consumers, *inquiries)))
            await self._inquiries.stop()
            await self._wind_down()
            await cancellations.stop()
            await asyncio.gather(*consuming)
        finally:
            for task in (stopping, *consuming, *self._tasks):
                task.cancel()
            await asyncio.gather(stopping, *consuming, *self._tasks, return_exceptions=True)

    async def take_jobs(self, messages: Sequence[Message]) -> None:
        """Claim each job and start to work on it; the bus commits it when this returns."""
        for message in messages:
            job = read_job(message)
            if not self._is_news(job):
                continue
            if self.running >= self._settings.concurrent_jobs:  # another region's consumer was quicker
                self._pause()
                raise Retry
            with span_from(message, "take sync job"):
                await self._begin(job)
            if self.running >= self._settings.concurrent_jobs:
                self._pause()

    async def heed_cancellations(self, messages: Sequence[Message]) -> None:
        """Give up jobs that somebody cancelled, or that have a newer attempt."""
        for message in messages:
            cancel = read_cancellation(message)
            execution = self._running.get(cancel.run_id)
            if execution is not None and execution.job.attempt < cancel.below_attempt:
                execution.stop(cancel.reason, cancel.reason.entry.title + ".")

    def _is_news(self, job: SyncJob) -> bool:
        running = self._running.get(job.run_id)
        return running is None or running.job.attempt < job.attempt

    async def _begin(self, job: SyncJob) -> None:
        overtaken = self._running.get(job.run_id)
        if overtaken is not None:
            overtaken.stop(Code.RUN_OVERTAKEN, "A newer attempt of the same run was taken up.")
        faultpoint("gateway.job-taken")
        execution = Execution(self._workshop, job)
        await execution.claim()
        faultpoint("gateway.claimed")
        log.info("job taken", run_id=job.run_id, attempt=job.attempt, provider=job.provider)
        self._running[job.run_id] = execution
        task = execution.start()
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._end(execution, done))

    def _end(self, execution: Execution, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._running.get(execution.job.run_id) is execution:
            del self._running[execution.job.run_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a run ended without a last word", run_id=execution.job.run_id, exc_info=error)
        if self._paused and self.running < self._settings.concurrent_jobs:
            self._paused = False
            for consumer in self._job_consumers:
                consumer.resume()

    def _pause(self) -> None:
        self._paused = True
        for consumer in self._job_consumers:
            consumer.pause()

    async def _wind_down(self) -> None:
        """Let jobs finish within the grace period, then give the others up, to be taken by another worker."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._settings.grace_seconds)
        for execution in tuple(self._running.values()):
            execution.stop(Code.WORKER_STOPPED, "The worker was stopped while the run was under way.", again=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_SECONDS)
