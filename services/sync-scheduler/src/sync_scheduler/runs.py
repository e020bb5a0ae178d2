"""A run and what can be said of it, without input or output (C5).

A run is `queued`, `fetching`, `applying` and then exactly one of `succeeded`, `partial`, `failed` or `cancelled`, which
it never leaves. Or it is `held`: then a plan waits in the store until somebody decides about it, and with an approval
the run is `applying` once more. What moves it stands in `transitions.py`, `holds.py` and `run_ends.py`; each answers
with an `Outcome`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

import msgspec

from homeroom.codes import Code
from homeroom.messages import Bookmark, CollectionReport, HoldReason, Mode, ProductMatching, Purpose, RecordIssue

MAX_DETAIL = 500
"""Longest sentence kept of what a worker says, in characters."""


class State(StrEnum):
    """Where a run stands; the names of the contract."""

    QUEUED = "queued"
    FETCHING = "fetching"
    APPLYING = "applying"
    HELD = "held"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = frozenset({State.QUEUED, State.FETCHING, State.APPLYING})
"""An integration has at most one run in these; the database guarantees it."""

Action = Literal["approve", "additions", "discard", "expire"]
"""What can be decided about a plan: all of it, all but its removals, nothing of it, or nothing as nobody decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How patient supervision is."""

    attempts: int = 5
    silence: timedelta = timedelta(seconds=60)
    """A fetching worker that says nothing for so long is taken for lost."""
    first_pause: timedelta = timedelta(seconds=5)
    """Before the second attempt; four times as long before each further one."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided about a plan, while the store has not answered."""

    id: str
    action: Action
    by: str
    """The subject of the decider's access token, or `scheduler`."""
    at: datetime


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that waits in the store, all of it or its removals."""

    plan: str
    """Its hash, which a decision names."""
    code: Code
    sentence: str
    at: datetime
    """When it was held, by the store's clock."""
    expires_at: datetime
    everything: bool = True
    """Whether nothing was applied; else only removals wait, and the rest is in the roster."""
    reasons: tuple[HoldReason, ...] = ()
    decision: Decision | None = None
    decisions: int = 0
    """How many there were, with those the store refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is known about a run."""

    deadline_at: datetime
    """When it fails if it has not ended; a decision sets another one."""
    kind: Purpose = "sync"
    state: State = State.QUEUED
    mode: Mode = "full"
    """What was chosen, or what the fetch came to."""
    mode_code: Code | None = None
    """Why the mode is another than was asked for."""
    attempt: int = 1
    """The newest attempt; older ones can only still end the run by having been applied."""
    not_before: datetime | None = None
    """The attempt is not handed out earlier."""
    cancel_requested: bool = False
    code: Code | None = None
    detail: str | None = None
    fetch_id: str | None = None
    """The fetch the run follows: the last one that was claimed in this attempt."""
    worker: str | None = None
    heartbeat_at: datetime | None = None
    fetching_since: datetime | None = None
    """When the fetch that is followed was first heard of."""
    served: Mapping[str, int] = field(default_factory=dict)
    """Records fetched so far, by collection."""
    stated: Mapping[str, int] = field(default_factory=dict)
    """How many there are, by collection, where the provider says so."""
    reading: tuple[str, ...] = ()
    """The collections that are being read."""
    pages: int = 0
    collections: Mapping[str, CollectionReport] = field(default_factory=dict)
    issues: tuple[RecordIssue, ...] = ()
    students: int = 0
    """How many are matched, as `matching.py` counts them."""
    teachers: int = 0
    unmatched: int = 0
    matching: tuple[ProductMatching, ...] = ()
    """How people stand with each product that keeps accounts."""
    classes: int = 0
    plan: str | None = None
    """The hash of what is or was held, or was evaluated."""
    hold: Hold | None = None
    """What waits; only while `held`, and while an approval of it is `applying`."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    """When it ended or was held."""

    @property
    def active(self) -> bool:
        """Whether somebody works on it."""
        return self.state in ACTIVE

    @property
    def open(self) -> bool:
        """Whether it can still change: it is active, or something of it waits for a decision."""
        return self.active or self.hold is not None


@dataclass(frozen=True, slots=True)
class Entry:
    """A step of a run's story, one per attempt and step."""

    step: str
    attempt: int
    sentence: str
    code: Code | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Workers shall give up attempts below this one."""

    below_attempt: int
    reason: Code


@dataclass(frozen=True, slots=True)
class Answer:
    """The store's answer to decisions: to one, to all about a plan, or to all of the run."""

    decision_id: str | None = None
    plan: str | None = None
    refused: Code | None = None
    """Why it was not carried out; None where it was, or where there is nothing left to be decided."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows. `run` is the very same object where nothing changes."""

    run: Run
    entry: Entry | None = None
    stop: Stop | None = None
    applied: int | None = None
    """The attempt whose picture, or a part of it, became the roster."""
    bookmark: Bookmark | None = None
    """What the next fetch may go on from, where a picture was applied."""
    turn: Entry | None = None
    """What the log says of a fetch that came to another mode, before the entry."""
    reasons: tuple[Entry, ...] = ()
    """What it says after the entry."""
    held: bool = False
    """Whether a plan was held by this."""
    answer: Answer | None = None
    """The decisions that need not be sent any more."""
    unwanted: tuple[int, str] | None = None
    """The attempt and hash of a plan that is held for nobody; the store is told to let it go."""
