"""Bounds failed attempts, per whoever makes them, in this process's memory.

Only failures count: a whole school behind one address may sign in as often as it likes, and somebody who guesses is
slowed down.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from homeroom.clock import Clock, SystemClock
from homeroom.codes import Code
from sso.launch.refusals import Refused

MOST_KEPT: Final = 20_000
"""Keys kept; the one that failed longest ago is forgotten first."""


class Throttle:
    """A bucket of failures for each key: `limit` fit in, and it runs empty within `seconds`."""

    def __init__(self, limit: int, seconds: float, clock: Clock | None = None) -> None:
        self._limit = limit
        self._rate = limit / seconds
        self._clock = clock or SystemClock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, key: str) -> None:
        """Raise `Refused` SIGNIN_THROTTLED (429) while the key's bucket is full."""
        if self._level(key) > self._limit - 1:
            raise Refused(Code.SIGNIN_THROTTLED, "too many failed attempts", status=429)

    def fail(self, key: str) -> None:
        """Count a failed attempt."""
        self._buckets[key] = (self._level(key) + 1, self._clock.monotonic())
        self._buckets.move_to_end(key)
        while len(self._buckets) > MOST_KEPT:
            self._buckets.popitem(last=False)

    def _level(self, key: str) -> float:
        """How many failures are still counted."""
        level, at = self._buckets.get(key, (0.0, 0.0))
        return max(0.0, level - (self._clock.monotonic() - at) * self._rate)
