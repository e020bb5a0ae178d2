"""How many requests a host gets: so many at once, fewer when it says "slow down", and so many a minute if it counts."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

_WINDOW_SECONDS: Final = 60.0


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


class Pace:
    """Lets at most so many requests begin in any minute, over all runs of this process that share it."""

    def __init__(self, per_minute: int) -> None:
        self._began: deque[float] = deque(maxlen=per_minute)
        self._rests_until = 0.0
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        """Wait for the next request's turn; the caller's deadline bounds the wait."""
        async with self._turn:
            while (left := self._next() - time.monotonic()) > 0:  # noqa: ASYNC110 - a rest may be prolonged
                await asyncio.sleep(left)
            self._began.append(time.monotonic())

    def heed(self, headers: Mapping[str, str]) -> None:
        """Take note of an answer's `X-Ratelimit-Remaining` and `X-Ratelimit-Reset` (unix seconds).

        Where nothing remains, the next request waits until the reset, though never longer than a window lasts.
        """
        try:
            remaining, reset = int(headers["x-ratelimit-remaining"]), float(headers["x-ratelimit-reset"])
        except (KeyError, ValueError):
            return
        if remaining <= 0:
            self.rest(reset - time.time())

    def rest(self, seconds: float) -> None:
        """Begin nothing for some seconds."""
        if seconds > 0:  # NaN is not
            self._rests_until = max(self._rests_until, time.monotonic() + min(seconds, _WINDOW_SECONDS))

    def _next(self) -> float:
        """When the next request may begin, by the monotonic clock."""
        full = len(self._began) == self._began.maxlen
        return max(self._rests_until, self._began[0] + _WINDOW_SECONDS if full else 0.0)


class HostGates:
    """The gate of each host that somebody is talking to, and the pace of each key that is counted by the minute."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._gates: WeakValueDictionary[str, HostGate] = WeakValueDictionary()
        self._paces: WeakValueDictionary[str, Pace] = WeakValueDictionary()

    def of(self, host: str) -> HostGate:
        """The gate of a host and port; the same as long as anybody holds it."""
        gate = self._gates.get(host)
        if gate is None:
            gate = self._gates[host] = HostGate(self._most)
        return gate

    def pace(self, key: str, per_minute: int) -> Pace:
        """The pace of whatever is counted together; the same as long as anybody holds it.

        Args:
            key: what the provider counts by, never a secret in clear: a district's id, a token's hash.
            per_minute: how many requests may begin in a minute.
        """
        pace = self._paces.get(key)
        if pace is None:
            pace = self._paces[key] = Pace(per_minute)
        return pace
