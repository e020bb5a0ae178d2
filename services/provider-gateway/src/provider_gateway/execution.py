"""One job on its way: from the claim to its last fact, whatever happens in between.

An execution has a `fetch_id` of its own, so that nothing of it can be mistaken for another attempt's. It ends in
exactly one way: fetched, or abandoned and failed with a code.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import uuid4

from homeroom.bus import BusError, Outgoing
from homeroom.codes import Code
from homeroom.faultpoints import faultpoint
from homeroom.messages import (
    Bookmark,
    Claimed,
    ClassRef,
    Fact,
    Failed,
    FetchAbandoned,
    Fetched,
    Mode,
    Progress,
    RecordIssue,
    SyncJob,
    to_facts,
)
from homeroom.roster import CANONICAL_VERSION, COLLECTIONS
from homeroom.secrets import SecretUnreadable
from homeroom.telemetry import get_logger, inject_headers, span
from provider_gateway.comparer import Known
from provider_gateway.failures import OwnTrouble, ProviderError, StartOver
from provider_gateway.fetching import fetch_district
from provider_gateway.publisher import Publisher, Result, reportable
from provider_gateway.refreshing import refresh_class
from provider_gateway.scope import Scope
from provider_gateway.tally import Tally
from provider_gateway.workshop import Workshop

log = get_logger(__name__)

T = TypeVar("T")

_FIRST_HEARTBEAT_SECONDS = 0.25
_LAST_WORDS_SECONDS = 10.0
_MOST_BEGINNINGS = 3


@dataclass(frozen=True, slots=True)
class _Ending:
    """Why an execution did not succeed."""

    code: Code
    detail: str
    again: bool


class Execution:
    """Works on one job; `run` it as a task."""

    def __init__(self, workshop: Workshop, job: SyncJob) -> None:
        self.job = job
        self._workshop = workshop
        self._result: Result | None = None
        self._begin()
        self._stopped: _Ending | None = None
        self._closing = False
        """Whether the last words are being said, which nothing interrupts any more."""
        self._task: asyncio.Task[None] | None = None

    async def claim(self) -> None:
        """Say that this worker takes the job; durable on return."""
        await self._tell(
            Claimed(
                run_id=self.job.run_id,
                attempt=self.job.attempt,
                integration_id=self.job.integration_id,
                at=self._workshop.clock.now(),
                worker=self._workshop.worker,
                fetch_id=self.fetch_id,
            )
        )

    def start(self) -> asyncio.Task[None]:
        """Begin to work; the task ends when the last fact is out, and raises nothing."""
        self._task = asyncio.create_task(self._run(), name=f"run {self.job.run_id}/{self.job.attempt}")
        return self._task

    def stop(self, code: Code, detail: str, *, again: bool = False) -> None:
        """Give the job up; the first reason given is the one that is told."""
        if self._stopped is None and self._task is not None and not self._closing:
            self._stopped = _Ending(code, detail, again)
            self._task.cancel()

    async def _run(self) -> None:
        heartbeat = asyncio.create_task(self._beat())
        with span("sync job", homeroom_run=self.job.run_id, homeroom_attempt=self.job.attempt):
            try:
                ending = await self._try()
                heartbeat.cancel()
                if ending is not None:
                    await self._fail(ending)
            except BusError:
                log.warning(
                    "the last word of a run could not be sent", run_id=self.job.run_id, attempt=self.job.attempt
                )
            finally:
                heartbeat.cancel()
                await asyncio.gather(heartbeat, return_exceptions=True)

    async def _try(self) -> _Ending | None:
        """Work until the end; how it ended, if not well."""
        left = (self.job.deadline - self._workshop.clock.now()).total_seconds()
        deadline = asyncio.timeout(max(left, 0))
        try:
            async with deadline:
                await self._work()
            self._closing = True
            await self._conclude()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._stopped is None or task is None:
                raise
            task.uncancel()
            return self._stopped
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the run ends with a code
            if deadline.expired():
                return _Ending(Code.RUN_DEADLINE, "The run did not finish before its deadline.", again=False)
            return self._explain(error)
        finally:
            self._closing = True
        return None

    def _explain(self, error: Exception) -> _Ending:
        match error:
            case ProviderError():
                return _Ending(error.code, error.detail, again=False)
            case OwnTrouble():
                return _Ending(error.code, error.detail, again=True)
            case SecretUnreadable():
                return _Ending(Code.SECRET_UNREADABLE, "The stored credentials could not be opened.", again=False)
            case BusError():
                return _Ending(Code.RUN_INCOMPLETE, "What was fetched could not be put on the bus.", again=True)
        log.error("a run failed unexpectedly", run_id=self.job.run_id, attempt=self.job.attempt, exc_info=error)
        return _Ending(Code.RUN_INTERNAL, "Something unforeseen happened in the gateway.", again=True)

    def _begin(self) -> None:
        """Begin a fetch: nothing of an earlier one counts any more."""
        self.fetch_id = uuid4().hex
        self._tally = Tally()
        self._publisher = Publisher(
            self._workshop.bus, self.job, self.fetch_id, in_flight=self._workshop.settings.chunks_in_flight
        )

    async def _work(self) -> None:
        """Fetch, compare and publish, until every chunk is durable; begin again where the source asks for it."""
        mode, code = self.job.mode, None
        for beginnings in range(1, _MOST_BEGINNINGS + 1):
            try:
                return await self._fetch(mode, code)
            except StartOver as turn:
                if beginnings == _MOST_BEGINNINGS:
                    raise ProviderError(turn.code, turn.code.entry.cause) from None
                log.info("fetch begins again", run_id=self.job.run_id, code=str(turn.code), whole=turn.whole)
                if turn.whole:
                    mode, code = "full", turn.code
                await self._publisher.abandon(self._abandoned(turn.code))
                self._begin()
                await self.claim()
        return None

    async def _fetch(self, mode: Mode, code: Code | None) -> None:
        """One fetch from its beginning to its last chunk."""
        workshop, job = self._workshop, self.job
        began = workshop.clock.now()
        bookmark = _usable(job.bookmark)
        if job.refresh is not None:
            await self._refresh(job.refresh, bookmark, began)
            return
        if mode == "delta" and (bookmark is None or not bookmark.increments):
            mode, code = "full", Code.DELTA_UNSUPPORTED
        scope = Scope(
            job.options, job.today, masked=frozenset(bookmark.masked) if bookmark and mode == "delta" else None
        )
        if mode == "delta" and scope.tied:
            mode, code = "full", Code.DELTA_NOT_ENOUGH
        async with (
            in_background(self._begin_comparing(mode)) as known,
            workshop.open_source(job, mode=mode, bookmark=bookmark, began=began) as source,
        ):
            await fetch_district(
                job.integration_id,
                scope,
                source,
                known,
                workshop.store,
                self._publisher,
                self._tally,
                confirm_at_most=workshop.settings.confirm_at_most,
            )
            state = await source.finish({name: counts.seen() for name, counts in self._tally.collections.items()})
            drifted = bool(self._tally.drifted) or code is Code.DELTA_DRIFT
            if drifted:
                self._tally.note(_tell_drift(self._tally.drifted))
            self._result = Result(
                mode=source.mode,
                mode_code=source.mode_code or code,
                bookmark=Bookmark(
                    at=began,
                    canonical=CANONICAL_VERSION,
                    state=state,
                    masked=tuple(sorted(self._tally.masked or ())),
                    increments=source.increments and not scope.tied,
                    distrusted=drifted or (bookmark is not None and bookmark.distrusted),
                ),
                refused_schools=dict(source.refused_schools),
                duplicates=self._tally.duplicates,
            )
        await self._publisher.settle()
        faultpoint("gateway.all-sent")

    async def _refresh(self, ref: ClassRef, bookmark: Bookmark | None, began: datetime) -> None:
        """One class; what the next sync goes on from stays as it was."""
        workshop, job = self._workshop, self.job
        scope = Scope(job.options, job.today, masked=frozenset(bookmark.masked if bookmark else ()))
        async with workshop.open_source(job, mode="full", bookmark=bookmark, began=began) as source:
            await refresh_class(
                job.integration_id, ref, bookmark, scope, source, workshop.store, self._publisher, self._tally
            )
        self._result = Result(mode="full", mode_code=None, bookmark=None, refused_schools={}, duplicates=False)
        await self._publisher.settle()

    async def _begin_comparing(self, mode: Mode) -> dict[str, Known]:
        """What the store holds; from then on the store waits for what differs from that.

        A record that was edited by hand goes back to the provider's value (C9), of which changes alone say nothing.
        """
        basis, known = await self._workshop.store.known(self.job.integration_id, COLLECTIONS)
        if mode == "delta" and any(held.holds_edited for held in known.values()):
            raise StartOver(Code.EDITED_BY_HAND, whole=True)
        await self._publisher.start(basis)
        faultpoint("gateway.fetch-started")
        return known

    async def _conclude(self) -> None:
        """Tell the store that the picture is whole, then the scheduler."""
        job, reports, result = self.job, self._tally.reports(), self._result
        assert result is not None  # noqa: S101 - the fetch has ended well
        await self._publisher.complete(reports, self._tally.issues, result)
        faultpoint("gateway.completed-sent")
        await self._tell(
            Fetched(
                run_id=job.run_id,
                attempt=job.attempt,
                integration_id=job.integration_id,
                at=self._workshop.clock.now(),
                fetch_id=self.fetch_id,
                collections=reports,
                issues=reportable(self._tally.issues),
                mode=result.mode,
                mode_code=result.mode_code,
            )
        )
        log.info(
            "fetched", run_id=job.run_id, attempt=job.attempt, pages=self._tally.pages, chunks=self._publisher.chunks
        )

    async def _beat(self) -> None:
        """Say now and then that the job is alive, and how far it has come; a beat that is lost is no harm."""
        pause = min(_FIRST_HEARTBEAT_SECONDS, self._workshop.settings.heartbeat_seconds)
        while True:
            await asyncio.sleep(pause)
            pause = self._workshop.settings.heartbeat_seconds
            try:
                await self._tell(
                    Progress(
                        run_id=self.job.run_id,
                        attempt=self.job.attempt,
                        integration_id=self.job.integration_id,
                        at=self._workshop.clock.now(),
                        fetch_id=self.fetch_id,
                        served=self._tally.served(),
                        pages=self._tally.pages,
                        stated=self._tally.stated(),
                        reading=self._tally.reading(),
                    )
                )
            except BusError:
                log.warning("a heartbeat could not be sent", run_id=self.job.run_id, attempt=self.job.attempt)

    async def _fail(self, ending: _Ending) -> None:
        job = self.job
        log.info("run ended", run_id=job.run_id, attempt=job.attempt, code=str(ending.code), again=ending.again)
        await _bounded(self._publisher.abandon(self._abandoned(ending.code)))
        await _bounded(
            self._tell(
                Failed(
                    run_id=job.run_id,
                    attempt=job.attempt,
                    integration_id=job.integration_id,
                    at=self._workshop.clock.now(),
                    code=ending.code,
                    detail=ending.detail,
                    again=ending.again,
                )
            )
        )

    def _abandoned(self, code: Code) -> FetchAbandoned:
        return FetchAbandoned(
            run_id=self.job.run_id, fetch_id=self.fetch_id, integration_id=self.job.integration_id, code=code
        )

    async def _tell(self, fact: Fact) -> None:
        message = to_facts(fact)
        await self._workshop.bus.publish(Outgoing(message.topic, message.key, message.value, inject_headers()))


@asynccontextmanager
async def in_background(work: Coroutine[None, None, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Work that goes on beside the block and ends with it."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _usable(bookmark: Bookmark | None) -> Bookmark | None:
    """A bookmark of records in today's canonical form; any other says nothing about what changed."""
    return bookmark if bookmark is not None and bookmark.canonical == CANONICAL_VERSION else None


def _tell_drift(records: int) -> RecordIssue:
    detail = f"not marked as modified and different all the same: {records:,}" if records else None
    return RecordIssue(collection="", sourced_id=None, code=Code.DELTA_DRIFT, detail=detail)


async def _bounded(last_words: Awaitable[None]) -> None:
    """Wait for a last message, but not for ever: the store and the scheduler notice silence as well."""
    try:
        async with asyncio.timeout(_LAST_WORDS_SECONDS):
            await last_words
    except (TimeoutError, BusError) as error:
        log.warning("a last word could not be sent", why=type(error).__name__)
