"""Time, injected: services ask a clock, tests hold one that moves when told."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What time it is."""

    def now(self) -> datetime:
        """The present moment, in UTC."""

    def monotonic(self) -> float:
        """Seconds from an unknown start; never goes back."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present moment, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds from an unknown start; never goes back."""
        return time.monotonic()


class MovingClock:
    """A clock for tests that stands still until it is moved."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._passed = timedelta()

    def now(self) -> datetime:
        """The moment it was moved to."""
        return self._start + self._passed

    def monotonic(self) -> float:
        """Seconds it was moved so far."""
        return self._passed.total_seconds()

    def move(self, **by: float) -> None:
        """Go forward, by the keywords of `timedelta`."""
        self._passed += timedelta(**by)
