"""How far a fetch has come and how long it may take, as far as that can be known; without input or output (C10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sync_scheduler.runs import Run, State

_LEAST = timedelta(seconds=1)
"""Before, no rate means anything."""
_READ = frozenset({State.APPLYING, State.SUCCEEDED, State.PARTIAL, State.HELD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What follows from what was fetched so far; None where it is not known."""

    rate: float | None = None
    """Records a second since the fetch began."""
    stated: int | None = None
    """How many records there are, if the provider says so of every collection that was begun."""
    percent: float | None = None
    """0 to 100."""
    estimated_end: datetime | None = None
    """Of the fetch, if it goes on like this."""


def estimate(run: Run) -> Estimate:
    """Judge a run by its last sign of life."""
    if run.state in _READ and (run.fetching_since is not None or run.collections):
        return Estimate(percent=100.0)
    if run.state is not State.FETCHING or run.fetching_since is None or run.heartbeat_at is None:
        return Estimate()
    served = sum(run.served.values())
    passed = run.heartbeat_at - run.fetching_since
    rate = served / passed.total_seconds() if passed >= _LEAST else None
    stated = _sum_stated(run.served, run.stated, run.reading)
    if stated is None:
        return Estimate(rate=rate)
    left = max(stated - served, 0)
    end = run.heartbeat_at + timedelta(seconds=left / rate) if rate else None
    # A provider may serve more than it says, and what was served is not yet compared.
    percent = min(100.0 * served / stated, 99.0) if stated else None
    return Estimate(rate=rate, stated=stated, percent=percent, estimated_end=end)


def _sum_stated(served: Mapping[str, int], stated: Mapping[str, int], reading: tuple[str, ...]) -> int | None:
    """How many records all collections have that were begun; None if one of them does not say."""
    begun = {*served, *reading}
    if not stated or not begun <= stated.keys():
        return None
    return sum(stated.values())
