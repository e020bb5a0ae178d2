"""What a consumer is on either bus: its messages come through one `Delivery`, and it ends in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from homeroom.bus import Start
from homeroom.bus.delivery import Delivery, Place


class Member:
    """A member of a group, or a listener of its own. Each bus adds `run`: where partitions come from and go to."""

    def __init__(
        self,
        topics: Sequence[str],
        delivery: Delivery,
        group: str | None,
        start: Start,
        max_batch: int,
        *,
        grace: float,
        stop_limit: float,
    ) -> None:
        """In seconds: `grace` is for batches in hand at an orderly end, `stop_limit` for all of `stop`."""
        self._topics = sorted(set(topics))
        self._delivery = delivery
        self._group = group
        self._start = start
        self._max_batch = max_batch
        self._grace = grace
        self._stop_limit = stop_limit
        self._stir = asyncio.Event()
        self._stopping = False
        self._ended = asyncio.Event()
        self._ended.set()

    @property
    def assigned(self) -> frozenset[Place]:
        """The (topic, partition) pairs this member reads now."""
        return self._delivery.places

    def pause(self) -> None:
        """Take no further messages, stay a member of the group."""
        self._delivery.pause()

    def resume(self) -> None:
        """Take messages again."""
        self._delivery.resume()

    async def stop(self) -> None:
        """Finish the batch in hand, commit, leave the group."""
        self._stopping = True
        self._stir.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), self._stop_limit)

    @asynccontextmanager
    async def _delivering(self, leave: Callable[[float], Awaitable[None]] | None = None) -> AsyncIterator[None]:
        """Around one run: batches in hand are finished where it ends in order and cut off where it fails.

        `leave` follows them, with the same grace. Raises what kept a partition from going on.
        """
        self._ended.clear()
        grace = 0.0
        try:
            yield
            grace = self._grace
        finally:
            await self._delivery.close(grace)
            if leave is not None:
                await leave(grace)
            self._ended.set()
        self._delivery.check()

    def _goes_on(self) -> bool:
        return not self._stopping and not self._delivery.halted.is_set()

    async def _rest(self, seconds: float) -> None:
        """Wait, unless something stirs."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stir.wait(), seconds)
        self._stir.clear()
