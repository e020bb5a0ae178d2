"""How many requests a host gets at once: fewer when it says "slow down", more again when it copes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class HostGate:
    """Lets at most so many requests to one host be in flight, over all runs of this process.

    The number is halved by `slow_down` and grows back by one for every round of good answers.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._allowed = float(most)
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._rests_until = 0.0

    @property
    def allowed(self) -> int:
        """How many may be in flight now."""
        return max(1, int(self._allowed))

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a turn, and for a rest the host asked for to end; the caller's deadline bounds the wait."""
        while self._in_flight >= self.allowed:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._wake()
                raise
            finally:
                if turn in self._waiting:
                    self._waiting.remove(turn)
        self._in_flight += 1
        try:
            while (left := self._rests_until - time.monotonic()) > 0:  # noqa: ASYNC110 - a rest may be prolonged
                await asyncio.sleep(left)
            yield
        finally:
            self._in_flight -= 1
            self._wake()

    def slow_down(self, rest_seconds: float) -> None:
        """The host wants fewer requests, and none for some seconds."""
        now = time.monotonic()
        if now >= self._rests_until:  # requests that were in flight together say it once, not each
            self._allowed = max(1.0, self._allowed / 2)
        self._rests_until = max(self._rests_until, now + rest_seconds)

    def speed_up(self) -> None:
        """The host answered well."""
        if self._allowed < self._most:
            self._allowed = min(float(self._most), self._allowed + 1 / self._allowed)
            self._wake()

    def _wake(self) -> None:
        for _ in range(self.allowed - self._in_flight):
            while self._waiting:
                turn = self._waiting.popleft()
                if not turn.done():
                    turn.set_result(None)
                    break


class HostGates:
    """The gate of each host that somebody is talking to."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._gates: WeakValueDictionary[str, HostGate] = WeakValueDictionary()

    def of(self, host: str) -> HostGate:
        """The gate of a host and port; the same as long as anybody holds it."""
        gate = self._gates.get(host)
        if gate is None:
            gate = self._gates[host] = HostGate(self._most)
        return gate
