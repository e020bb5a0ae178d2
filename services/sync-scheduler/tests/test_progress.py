"""How far a fetch has come: what is known, and what is not (C10)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from homeroom.messages import CollectionReport
from sync_scheduler.progress import Estimate, estimate
from sync_scheduler.runs import Run, State

NOW = datetime(2026, 9, 1, 18, 0, tzinfo=UTC)


def fetching(seconds: float = 10, **more: Any) -> Run:
    return Run(
        deadline_at=NOW + timedelta(hours=6),
        state=State.FETCHING,
        fetching_since=NOW - timedelta(seconds=seconds),
        heartbeat_at=NOW,
        **more,
    )


def test_an_estimate() -> None:
    """Where the provider says how many there are, rate, share and end follow."""
    run = fetching(
        served={"users": 150, "orgs": 50}, stated={"users": 750, "orgs": 50, "classes": 200}, reading=("users",)
    )

    assert estimate(run) == Estimate(rate=20.0, stated=1000, percent=20.0, estimated_end=NOW + timedelta(seconds=40))


@pytest.mark.parametrize(
    ("run", "known"),
    [
        (fetching(served={"users": 100}), Estimate(rate=10.0)),
        (fetching(served={"users": 100, "orgs": 1}, stated={"users": 200}), Estimate(rate=10.1)),
        (fetching(served={"users": 100}, stated={"users": 200}, reading=("classes",)), Estimate(rate=10.0)),
        (fetching(0.5, served={"users": 100}, stated={"users": 200}), Estimate(stated=200, percent=50.0)),
        (fetching(served={"users": 0}, stated={"users": 200}), Estimate(rate=0.0, stated=200, percent=0.0)),
        (fetching(served={}, stated={"users": 0}), Estimate(rate=0.0, stated=0)),
        (Run(deadline_at=NOW), Estimate()),
        (Run(deadline_at=NOW, state=State.FAILED, fetching_since=NOW), Estimate()),
        (Run(deadline_at=NOW, kind="restore", state=State.APPLYING), Estimate()),
    ],
)
def test_what_is_not_known(run: Run, known: Estimate) -> None:
    """What can't be known is left open: nobody is shown a guess."""
    assert estimate(run) == known


def test_more_than_was_stated() -> None:
    """A provider that serves more than it said is nearly done, but not done."""
    found = estimate(fetching(served={"users": 300}, stated={"users": 200}))

    assert (found.percent, found.estimated_end) == (99.0, NOW)


def test_all_was_read() -> None:
    """Once everything was fetched, all of it was read, whatever becomes of it."""
    run = Run(deadline_at=NOW, state=State.APPLYING, collections={"users": CollectionReport(served=3)})

    assert estimate(run) == Estimate(percent=100.0)
