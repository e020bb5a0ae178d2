"""Brings subscriptions what they have not been told yet: at the same time for different ones, in order for each.

A subscription is worked on by whoever holds its lease, one batch at a time; its own cursor moves when a batch was
taken. So an endpoint that is dead, slow or hostile costs only itself, and a worker that dies is followed by another
once the lease is over. What was under way then comes again: delivery is at least once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import uuid5

import asyncpg

from homeroom.bus import BusError
from homeroom.codes import Code
from homeroom.db import TRANSIENT, Connection, Database, DatabaseBusy
from homeroom.messages import SubscriptionDisabled, to_facts
from homeroom.problems import Problem
from homeroom.telemetry import (
    SUBSCRIPTION_EVENTS,
    SUBSCRIPTION_LAG,
    SUBSCRIPTION_SENDINGS,
    SUBSCRIPTIONS_DISABLED,
    get_logger,
)
from homeroom.webhooks import Answer, NotDelivered
from roster_store.feed import Cursor
from roster_store.sights import Rosters
from roster_store.subscriptions.batches import Batch, cut, make_test
from roster_store.subscriptions.outlets import Outlets
from roster_store.subscriptions.pauses import find_pause, is_over
from roster_store.subscriptions.reading import read
from roster_store.tables import SQL

log = get_logger(__name__)

AWAY: Final = (*TRANSIENT, DatabaseBusy, BusError)
"""What is no fault of a subscriber's and may pass by itself."""

PROMPT_AT_ONCE: Final = 64
"""So many subscriptions of one process are worked on at most that answered promptly the last time."""
SLUGGISH_AT_ONCE: Final = 64
"""And so many that failed or took long: they have places of their own, so that they take nobody else's."""
TESTS_AT_ONCE: Final = 8
READS_AT_ONCE: Final = 4
"""So many pages are read and written out at once: the rest waits, and memory stays in bounds."""
LEASE: Final = timedelta(seconds=45)
"""Longer than any one batch takes to read and to send."""
TURN_SECONDS: Final = 5.0
"""After so long a subscription with more to come stands in line again."""
SLUGGISH_SECONDS: Final = 1.0
AWAY_PAUSE: Final = timedelta(seconds=5)
POLL_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 2.0
MEASURE_SECONDS: Final = 15.0
LAST_SECONDS: Final = 12.0
"""For what is under way when the process is to end."""

Pool = Literal["prompt", "sluggish", "tests"]
_ROOM: Final[dict[Pool, int]] = {
    "prompt": PROMPT_AT_ONCE,
    "sluggish": SLUGGISH_AT_ONCE,
    "tests": TESTS_AT_ONCE,
}


class _Lost(Exception):  # noqa: N818 - what happened, caught where the lease was taken
    """The lease is somebody else's, or the terms have changed: nothing of this turn counts any more."""


class Deliveries:
    """Delivers what is due, in one process of any number."""

    def __init__(self, database: Database, rosters: Rosters, outlets: Outlets) -> None:
        self._database = database
        self._rosters = rosters
        self._outlets = outlets
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._news = asyncio.Event()
        self._stopping = False
        self._measured = float("-inf")
        self._under_way: dict[Pool, set[asyncio.Task[None]]] = {pool: set() for pool in _ROOM}

    # ── rounds ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop`; what is under way then is finished, or goes on elsewhere."""
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                try:
                    async with self._database.connection() as connection:
                        await self._listen(connection, stopping)
                except AWAY as error:
                    log.warning("subscriptions.interrupted", error_type=type(error).__name__)
                    await asyncio.wait([stopping], timeout=RETRY_SECONDS)
        finally:
            stopping.cancel()
            self._stopping = True
            if under_way := set().union(*self._under_way.values()):
                await asyncio.wait(under_way, timeout=LAST_SECONDS)
                for task in under_way:
                    task.cancel()

    async def _listen(self, connection: Connection, stopping: asyncio.Future[Any]) -> None:
        """Begin what is due whenever something was applied, asked for or ended, while this connection lives."""
        for channel in ("roster_apply", "roster_subscription"):
            await connection.add_listener(channel, self._hear)
        try:
            while not stopping.done():
                await connection.fetchval("SELECT 1")  # without it nothing would be heard
                self._news.clear()
                await self.begin_due()
                await self._measure()
                await self.alert_disabled()
                hearing = asyncio.ensure_future(self._news.wait())
                await asyncio.wait([hearing, stopping], timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                hearing.cancel()
        finally:
            if not connection.is_closed():
                for channel in ("roster_apply", "roster_subscription"):
                    await connection.remove_listener(channel, self._hear)

    async def begin_due(self) -> int:
        """Begin to work on what is due, as far as there is room; returns how much was begun."""
        newest = await self._database.fetchval(SQL["find_feed_end"])
        await self._database.fetch(SQL["pass_subscriptions"], str(Cursor(newest)), newest)
        begun = 0
        for pool in ("prompt", "sluggish"):
            if room := self._room(pool):
                rows = await self._database.fetch(SQL["claim_subscriptions"], room, pool == "sluggish", LEASE)
                begun += self._begin(pool, rows, self._work)
        if room := self._room("tests"):
            begun += self._begin("tests", await self._database.fetch(SQL["claim_tests"], room, LEASE), self._test)
        return begun

    async def finish(self) -> None:
        """Wait for what is under way."""
        while under_way := set().union(*self._under_way.values()):
            await asyncio.wait(under_way)

    def _room(self, pool: Pool) -> int:
        return _ROOM[pool] - len(self._under_way[pool])

    def _begin(
        self, pool: Pool, rows: list[asyncpg.Record], work: Callable[[asyncpg.Record], Coroutine[Any, Any, None]]
    ) -> int:
        for row in rows:
            task = asyncio.create_task(work(row))
            self._under_way[pool].add(task)
            task.add_done_callback(lambda ended: self._end(pool, ended))
        return len(rows)

    def _end(self, pool: Pool, task: asyncio.Task[None]) -> None:
        self._under_way[pool].discard(task)
        self._news.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("subscription.broken", error_type=type(error).__name__, exc_info=error)

    def _hear(self, *_: object) -> None:
        self._news.set()

    async def alert_disabled(self) -> None:
        """Let the scheduler, which alerts people, know of those that were disabled (at least once)."""
        await self._database.transact(self._alert, tries=1)

    async def _alert(self, connection: Connection) -> None:
        rows = await connection.fetch(SQL["list_unalerted"])
        if rows:
            await self._outlets.bus.publish(*(to_facts(_describe_end(row)) for row in rows))
            await connection.execute(SQL["note_alerted"], [row["id"] for row in rows])

    async def _measure(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._measured < MEASURE_SECONDS:
            return
        self._measured = now
        row = await self._database.fetchrow(SQL["measure_subscriptions"])
        assert row is not None  # noqa: S101 - an aggregate always gives a row
        SUBSCRIPTION_LAG.set(row["lag"])
        SUBSCRIPTIONS_DISABLED.set(row["disabled"])

    # ── one subscription ──────────────────────────────────────────────────────────────────────────────────────────

    async def _work(self, row: asyncpg.Record) -> None:
        """Send batch after batch until there is nothing more, or somebody else shall have a turn."""
        pause, before = timedelta(), row["cursor"]
        end = asyncio.get_running_loop().time() + TURN_SECONDS
        try:
            more = True
            while more and not self._stopping and asyncio.get_running_loop().time() < end:
                row = await self._send_next(row)
                more = row["more"]
            if row["cursor"] == before:  # what comes next can't be told yet
                pause = timedelta(seconds=POLL_SECONDS)
        except _Lost:
            return
        except NotDelivered:
            return  # it was noted, and the lease is gone with it
        except AWAY as error:
            if isinstance(error, ValueError):  # asyncpg counts unfit values as interface errors
                raise
            log.warning("subscription.interrupted", subscription_id=str(row["id"]), error_type=type(error).__name__)
            pause = AWAY_PAUSE
        try:
            await self._database.fetch(SQL["release_subscription"], row["id"], row["lease"], pause)
        except AWAY as error:  # the lease ends by itself
            log.warning("subscription.interrupted", subscription_id=str(row["id"]), error_type=type(error).__name__)

    async def _send_next(self, row: asyncpg.Record) -> asyncpg.Record:
        """Send the next batch and move the cursor; the row afterwards. Raises _Lost, NotDelivered and what is AWAY."""
        upto = None if row["sending_to"] is None else Cursor.parse(row["sending_to"])
        async with self._reads:
            try:
                batch = cut(await read(self._database, self._rosters, row), upto)
            except Problem as problem:
                if problem.code is not Code.CURSOR_EXPIRED:
                    raise
                return await self._start_over(row, problem)
        if not batch.events:
            return await self._advance(row, "advance_subscription", batch)
        now = await self._database.fetchval(SQL["read_lease"], row["id"], row["lease"], LEASE)
        if now is None:
            raise _Lost
        try:
            answer = await self._outlets.send(row, batch, now)
        except NotDelivered as trouble:
            await self._note_failure(row, batch, trouble, now)
            raise
        SUBSCRIPTION_SENDINGS.labels(row["kind"], "taken").inc()
        SUBSCRIPTION_EVENTS.labels(row["kind"]).inc(len(batch.events))
        sluggish = answer.seconds > SLUGGISH_SECONDS
        return await self._advance(row, "advance_delivered", batch, len(batch.events), sluggish, answer.status)

    async def _advance(self, row: asyncpg.Record, statement: str, batch: Batch, *further: Any) -> asyncpg.Record:
        place = (str(batch.end), batch.end.apply_no, batch.more)
        moved = await self._database.fetchrow(SQL[statement], row["id"], row["lease"], *place, LEASE, *further)
        if moved is None:
            raise _Lost
        return moved

    async def _start_over(self, row: asyncpg.Record, problem: Problem) -> asyncpg.Record:
        """Begin anew, because what happened since the cursor is not known any more.

        A product's feed begins by saying that what it holds is to be forgotten. An organization's does not, so there
        somebody must see to that first.
        """
        log.warning("subscription.expired", subscription_id=str(row["id"]))
        if row["product_id"] is not None:
            return await self._advance(row, "advance_subscription", Batch([], [], Cursor(), more=True))
        ended = (Code.CURSOR_EXPIRED, None, None, problem.detail)
        await self._database.fetch(SQL["disable_subscription"], row["id"], row["lease"], *ended)
        raise _Lost

    async def _note_failure(self, row: asyncpg.Record, batch: Batch, trouble: NotDelivered, now: datetime) -> None:
        failing_since = row["failing_since"] or now
        code = Code.SUBSCRIPTION_GONE if trouble.for_good else None
        if code is None and is_over(failing_since, now):
            code = Code.SUBSCRIPTION_FAILING
        SUBSCRIPTION_SENDINGS.labels(row["kind"], "refused" if code is None else "disabled").inc()
        told = {
            "subscription_id": str(row["id"]),
            "product_id": str(row["product_id"]),
            "failures": row["failures"] + 1,
            "status": trouble.status,
        }
        ended = (str(batch.end), trouble.status, trouble.why)
        if code is None:
            log.warning("subscription.refused", **told)
            pause = find_pause(row["failures"] + 1, trouble.pause)
            await self._database.fetch(SQL["put_subscription_off"], row["id"], row["lease"], pause, *ended)
        else:
            log.error("subscription.disabled", code=code, **told)
            await self._database.fetch(SQL["disable_subscription"], row["id"], row["lease"], code, *ended)

    # ── tests ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _test(self, row: asyncpg.Record) -> None:
        """Send a test, and note what came of it."""
        answer, problem = Answer(0, 0.0), None
        try:
            try:
                answer = await self._outlets.send_test(
                    row, make_test(row["id"], row["test_id"], row["now"]), row["now"]
                )
            except NotDelivered as trouble:
                answer, problem = Answer(trouble.status or 0, 0.0), trouble.why
            except BusError as error:
                log.warning("subscription.interrupted", subscription_id=str(row["id"]), error_type=type(error).__name__)
                problem = "The bus is away; try again later."
            told = (answer.status or None, answer.seconds, problem)
            await self._database.fetch(SQL["end_test"], row["test_id"], *told)
        except AWAY as error:  # it is taken again once its time is over
            log.warning("subscription.interrupted", subscription_id=str(row["id"]), error_type=type(error).__name__)


def _describe_end(row: asyncpg.Record) -> SubscriptionDisabled:
    """A disabled subscription, for those who are alerted."""
    return SubscriptionDisabled(
        alert_id=str(uuid5(row["id"], row["disabled_at"].isoformat())),
        subscription_id=str(row["id"]),
        product_id=None if row["product_id"] is None else str(row["product_id"]),
        organization_id=None if row["organization_id"] is None else str(row["organization_id"]),
        code=Code(row["disabled_code"]),
        at=row["disabled_at"],
    )
