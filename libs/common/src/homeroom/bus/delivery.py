"""How messages reach a handler and what happens when it fails, whichever bus brought them.

Each partition has its own lane: a task that fetches, hands over and commits. The handler is called for one batch at
a time, so lanes take turns; while one lane waits before it tries again, the others go on.
"""

from __future__ import annotations

import asyncio
import logging
import random
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from homeroom.bus import BrakeEngaged, BusError, BusUnavailable, Handler, Message, Reject, Retry
from homeroom.codes import Code
from homeroom.db import TRANSIENT, DatabaseBusy
from homeroom.telemetry import BUS_MESSAGES

log = logging.getLogger(__name__)

Place = tuple[str, int]
"""A topic and one of its partitions."""

Bury = Callable[[Message, str], Awaitable[None]]
"""Puts a message among the dead letters, with the reason; returns when it is durable there."""

PASSING = (Retry, BusUnavailable, DatabaseBusy, *TRANSIENT)
"""What may pass by itself, so that the same messages are handed over again without limit."""

UNHANDLED = Code.MESSAGE_FAILED.value
"""The reason given for a message whose handler failed again and again."""


class Lost(Exception):  # noqa: N818 - what happened to the partition
    """The partition belongs to somebody else by now; what was done is not committed and comes again there."""


class Source(Protocol):
    """One partition as a bus serves it to one consumer."""

    async def fetch(self) -> Sequence[Message]:
        """Wait for the next messages, in order; may return none. Must stand being cancelled."""

    async def commit(self, offset: int) -> None:
        """Keep that all below `offset` is done. Raises `Lost` if the partition has moved to another member."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long failures are borne."""

    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 15.0
    tries: int = 5
    """Failures of one message before it goes to the dead letters; what may pass by itself does not count."""
    dead_in_a_row: int = 10
    """So many dead letters with nothing handled between them engage the brake."""
    dead_of_last_hundred: int = 50
    """More dead letters than this among the last hundred messages engage it, too."""

    def pause(self, attempt: int) -> float:
        """Seconds to wait after failure number `attempt` (from 1): doubled each time, up to a third of it by chance."""
        grown = min(self.longest_pause_seconds, self.first_pause_seconds * 2.0 ** min(attempt - 1, 20))
        return grown * random.uniform(0.67, 1.0)


class _Lane:
    """One partition on its way through the handler."""

    def __init__(self, place: Place, source: Source) -> None:
        self.place = place
        self.source = source
        self.task: asyncio.Task[None] | None = None
        self.busy = False
        """Between the call of the handler and the commit, where it must not be cut."""
        self.leaving = False
        self.lost = False

    def leave(self) -> None:
        """Stop after the batch in hand, at once if there is none."""
        self.leaving = True
        if self.task is not None and not self.busy:
            self.task.cancel()


class Delivery:
    """The lanes of one consumer."""

    def __init__(self, handler: Handler, bury: Bury, patience: Patience) -> None:
        self._handler = handler
        self._bury = bury
        self._patience = patience
        self._lanes: dict[Place, _Lane] = {}
        self._released: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._recent: deque[bool] = deque(maxlen=100)
        self._in_a_row = 0
        self.halted = asyncio.Event()
        """Set when a lane can't go on; `failure` says why and the consumer has to end."""
        self.failure: BaseException | None = None

    @property
    def places(self) -> frozenset[Place]:
        """The partitions that are read now."""
        return frozenset(self._lanes)

    @property
    def flowing(self) -> bool:
        """Whether messages are taken, that is, not paused."""
        return self._flowing.is_set()

    def pause(self) -> None:
        """Hand nothing more over; a batch in hand is finished."""
        self._flowing.clear()

    def resume(self) -> None:
        """Hand over again."""
        self._flowing.set()

    def busy(self, place: Place) -> bool:
        """Whether a batch of this partition is with the handler."""
        return place in self._lanes and self._lanes[place].busy

    def take(self, place: Place, source: Source) -> None:
        """Begin to read a partition."""
        lane = _Lane(place, source)
        self._lanes[place] = lane
        lane.task = asyncio.create_task(self._follow(lane), name=f"lane {place[0]}[{place[1]}]")

    async def release(self, places: Iterable[Place], seconds: float | None) -> None:
        """Stop reading partitions: batches in hand are finished and committed if that takes no longer than `seconds`.

        What takes longer runs on, is never committed and so comes again at the partition's next owner.
        """
        lanes = [self._lanes.pop(place) for place in places if place in self._lanes]
        for lane in lanes:
            lane.leave()
        tasks = {lane.task: lane for lane in lanes if lane.task is not None}
        for task in tasks:
            self._released.add(task)
            task.add_done_callback(self._released.discard)
        for task in await _late(tasks, seconds):
            tasks[task].lost = True

    async def finish(self, seconds: float) -> None:
        """Release all partitions, and wait for those that were released before."""
        await self.release(self.places, seconds)
        await _late(self._released, seconds)

    async def close(self, seconds: float) -> None:
        """Finish; handlers that need longer than `seconds` are cancelled."""
        await self.finish(seconds)
        for task in self._released:
            task.cancel()
        await _late(self._released, max(seconds, 1.0))

    def check(self) -> None:
        """Raise what keeps a lane from going on, as a `BusError`."""
        if isinstance(self.failure, BusError):
            raise self.failure
        if self.failure is not None:
            raise BusError(f"consuming ended: {type(self.failure).__name__}; see its cause") from self.failure

    async def _follow(self, lane: _Lane) -> None:
        try:
            while not lane.leaving and not self.halted.is_set():
                batch = await lane.source.fetch()
                if batch:
                    await self._see_through(lane, batch)
        except Lost:
            log.info("partition %s[%d] has moved; its last batch comes again at its new owner", *lane.place)
        except asyncio.CancelledError:
            if not lane.leaving:
                self._fail(BusError(f"the handler of {lane.place[0]} was cancelled; start the consumer again"))
            raise
        except BaseException as error:  # noqa: BLE001 - whatever ends a lane must end the consumer, never stay unseen
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error
        self.halted.set()

    async def _see_through(self, lane: _Lane, batch: Sequence[Message]) -> None:
        """Hand over until each message is handled or dead, committing as far as the front of the batch is done."""
        rest = list(batch)
        singly = False
        failures = pauses = 0
        while rest and not lane.leaving:
            portion = rest[:1] if singly else rest
            async with self._turn:
                await self._flowing.wait()
                if self.halted.is_set():
                    return
                lane.busy = True
                dead, trouble = await self._hand_over(portion, failures + 1)
                brake = self._weigh(dead is not None, len(portion)) if trouble is None else None
            if trouble is not None:
                lane.busy = False
                if not _passes(trouble):
                    log.warning("the handler of %s[%d] failed: %s", *lane.place, _whereabouts(trouble))
                    failures += len(portion) == 1
                    if len(portion) > 1:
                        singly = True  # to find out which it is
                        continue
                pauses += 1
                if not lane.leaving:
                    await asyncio.sleep(self._patience.pause(pauses))
                continue
            rest = [message for message in rest if message.offset != dead.offset] if dead else rest[len(portion) :]
            failures = pauses = 0
            await self._commit(lane, rest[0].offset if rest else batch[-1].offset + 1, batch[0].offset)
            lane.busy = False
            if brake is not None:
                raise brake

    async def _hand_over(
        self, portion: Sequence[Message], attempt: int
    ) -> tuple[Message, None] | tuple[None, Exception | None]:
        """Call the handler once; returns the message that died of it, or what the handler failed with."""
        topic = portion[0].topic
        try:
            await self._handler(tuple(portion))
        except Reject as rejection:
            if rejection.message not in portion:
                return None, rejection
            dead, reason = rejection.message, rejection.reason
        except Exception as error:  # noqa: BLE001 - every failure of a handler is answered by a rule, none escapes
            BUS_MESSAGES.labels(topic, "failed").inc(len(portion))
            if _passes(error) or len(portion) > 1 or attempt < self._patience.tries:
                return None, error
            log.warning("a message was given up: %s", _whereabouts(error))
            dead, reason = portion[0], UNHANDLED
        else:
            BUS_MESSAGES.labels(topic, "handled").inc(len(portion))
            return None, None
        try:
            await self._bury(dead, reason)
        except PASSING as error:
            return None, error
        BUS_MESSAGES.labels(topic, "dead").inc()
        log.error("message %s[%d]@%d went to the dead letters: %s", dead.topic, dead.partition, dead.offset, reason)
        return dead, None

    async def _commit(self, lane: _Lane, offset: int, done_before: int) -> None:
        if lane.lost:
            raise Lost
        if offset > done_before:
            await lane.source.commit(offset)

    def _weigh(self, died: bool, messages: int) -> BrakeEngaged | None:
        """Count an outcome; with too many dead everything halts, and the brake is returned."""
        if not died:
            self._in_a_row = 0
            self._recent.extend([False] * min(messages, 100))
            return None
        self._in_a_row += 1
        self._recent.append(True)
        among = sum(self._recent) if len(self._recent) == self._recent.maxlen else 0
        if self._in_a_row < self._patience.dead_in_a_row and among <= self._patience.dead_of_last_hundred:
            return None
        self.halted.set()
        return BrakeEngaged(
            f"{self._in_a_row} messages in a row and {sum(self._recent)} of the last {len(self._recent)} "
            "went to the dead letters; find out why, then start the consumer again and replay them"
        )


async def _late(tasks: Iterable[asyncio.Task[None]], seconds: float | None) -> set[asyncio.Task[None]]:
    """Wait for tasks; returns those that need longer."""
    waited = set(tasks)
    return (await asyncio.wait(waited, timeout=seconds))[1] if waited else set()


def _passes(trouble: Exception) -> bool:
    """Whether a failure may pass by itself. A ValueError never does, not even one of asyncpg's client errors."""
    if isinstance(trouble, ExceptionGroup):
        return all(_passes(part) for part in trouble.exceptions)
    return isinstance(trouble, PASSING) and not isinstance(trouble, ValueError)


def _whereabouts(error: Exception) -> str:
    """Kind and place of a failure. Its text stays out: it may quote the record that was handled."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at " + " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-4:])
    )
