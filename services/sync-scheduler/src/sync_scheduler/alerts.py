"""How an integration fares, and when somebody is told: once for every change of it. Pure decisions.

An integration is `ok`, `failing`, `held` or `stale`. Only runs that have ended count: an attempt that fails and is
followed by another is nobody's trouble yet, and what a person cancelled or threw away says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from homeroom.codes import Code
from sync_scheduler.runs import State


class Health(StrEnum):
    """How an integration fares."""

    OK = "ok"
    FAILING = "failing"
    HELD = "held"
    STALE = "stale"


class Kind(StrEnum):
    """What is told."""

    FAILING = "failing"
    RECOVERED = "recovered"
    HELD = "held"
    STALE = "stale"
    HOLD_REMINDER = "hold_reminder"
    CREDENTIALS_ENTERED = "credentials_entered"
    SUBSCRIPTION_DISABLED = "subscription_disabled"
    CONNECTION_WARNING = "connection_warning"
    TEST = "test"


LET_GO = frozenset({Code.HOLD_DISCARDED, Code.HOLD_EXPIRED, Code.HOLD_REPLACED, Code.HOLD_LOST})
"""What a run ends with whose plan was thrown away."""

REMIND_BEFORE = timedelta(days=1)
"""So long before a hold expires it is reminded of; one that lasts less than twice that, halfway."""

SLOTS_MISSED = 2
"""So many slots without a success pass before an integration is stale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A run that has ended, or waits for a decision."""

    id: UUID
    state: State
    code: Code | None = None
    detail: str | None = None
    at: datetime
    """When it ended."""
    held_at: datetime | None = None
    expires_at: datetime | None = None
    """Of what is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What an integration is judged by."""

    told: Health
    """What was told last."""
    since: datetime
    """Since when it fares like that."""
    newest: Ended | None = None
    """The newest run that counts (`choose`)."""
    deciding: bool = False
    """Whether an approval is being carried out, so that nothing is certain."""
    muted: bool = False
    stale_at: datetime | None = None
    """When it becomes stale without a success; None for never."""
    stale_code: Code | None = None
    """What keeps its syncs from starting, where that is known."""
    reminded: UUID | None = None
    """The run whose hold was reminded of."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows."""

    health: Health
    kind: Kind | None = None
    """What to tell, if anything."""
    run: Ended | None = None
    code: Code | None = None


def choose(ended: Sequence[Ended]) -> Ended | None:
    """The run that says how an integration fares, of its runs from the newest on.

    What was cancelled says nothing, nor does a plan of which nothing was applied before it was thrown away.
    """
    return next((one for one in ended if one.state is not State.CANCELLED), None)


def judge(situation: Situation, now: datetime) -> Verdict:
    """How an integration fares, and what is to be told about it now.

    While it is muted nothing changes, so that afterwards the difference is told, once, if there is one.
    """
    told, newest = situation.told, situation.newest
    if situation.muted or situation.deciding:
        return Verdict(told)
    health = _find_health(situation, now)
    code = situation.stale_code or Code.SYNC_STALE if health is Health.STALE else newest.code if newest else None
    if health is not told:
        return Verdict(health, _find_kind(situation, health), None if health is Health.STALE else newest, code)
    if health is Health.HELD and newest is not None and newest.id != situation.reminded:
        at = remind_at(newest)
        if at is not None and at <= now:
            return Verdict(health, Kind.HOLD_REMINDER, newest, code)
    return Verdict(health)


def remind_at(run: Ended) -> datetime | None:
    """When a hold is reminded of."""
    if run.expires_at is None or run.held_at is None:
        return None
    return max(run.expires_at - REMIND_BEFORE, run.held_at + (run.expires_at - run.held_at) / 2)


def find_stale_moment(slots: Sequence[datetime], *, run_deadline: timedelta) -> datetime | None:
    """When an integration becomes stale, by the slots that follow its last success.

    At the second of them another run begins; it has until the third, or until its deadline if that is earlier. None
    where no second one comes.
    """
    if len(slots) < SLOTS_MISSED:
        return None
    over = slots[SLOTS_MISSED - 1] + run_deadline
    return min(over, slots[SLOTS_MISSED]) if len(slots) > SLOTS_MISSED else over


def _find_health(situation: Situation, now: datetime) -> Health:
    newest = situation.newest
    if newest is not None and newest.state is State.HELD:
        return Health.HELD
    if newest is not None and newest.state is State.FAILED:
        return Health.FAILING
    if situation.stale_at is not None and situation.stale_at <= now:
        return Health.STALE
    return Health.OK


def _find_kind(situation: Situation, health: Health) -> Kind | None:
    """What a change is told as; None where whoever brought it about knows of it."""
    if health is not Health.OK:
        return Kind(health.value)
    newest = situation.newest
    # Without a success since nothing has recovered: a hold was thrown away, or the schedule changed.
    succeeded = newest is not None and newest.at > situation.since and newest.code not in LET_GO
    return Kind.RECOVERED if succeeded else None
