"""The life of a run, decided without input or output (C5).

A run is `queued`, `fetching`, `applying` and then exactly one of `succeeded`, `partial`, `held`, `failed` or
`cancelled`, which it never leaves. Three things move it: a fact somebody reports (`hear`), time that passes
(`supervise`) and a person who has had enough (`cancel`). Each answers with an `Outcome`: the run as it is afterwards,
a sentence for its log, and whether workers must be told to stop. Facts may come late, twice and in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from homeroom.codes import Code
from homeroom.messages import (
    Applied,
    Bookmark,
    Claimed,
    CollectionReport,
    Fact,
    Failed,
    Fetched,
    Held,
    Mode,
    Progress,
    RecordIssue,
)
from sync_scheduler.modes import tell_turn

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


SCHOOL_CODES = (Code.GUARD_SCHOOL_MISSING, Code.SCHOOL_INCOMPLETE)
_SHORTFALLS = (*SCHOOL_CODES, Code.RECORDS_QUARANTINED, Code.REMOVALS_UNCONFIRMED)
"""What makes a run partial; the first of them that applies is told."""

ACTIVE = frozenset({State.QUEUED, State.FETCHING, State.APPLYING})
"""An integration has at most one run in these; the database guarantees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How patient supervision is."""

    attempts: int = 5
    silence: timedelta = timedelta(seconds=60)
    """A fetching worker that says nothing for so long is taken for lost."""
    first_pause: timedelta = timedelta(seconds=5)
    """Before the second attempt; four times as long before each further one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is known about a run; everything here may change while it lives, except its deadline."""

    deadline_at: datetime
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
    served: Mapping[str, int] = field(default_factory=dict)
    """Records fetched so far, by collection."""
    pages: int = 0
    collections: Mapping[str, CollectionReport] = field(default_factory=dict)
    issues: tuple[RecordIssue, ...] = ()
    students: int = 0
    teachers: int = 0
    classes: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def active(self) -> bool:
        """Whether the run has not ended."""
        return self.state in ACTIVE


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
class Outcome:
    """What follows. `run` is the very same object where nothing changes."""

    run: Run
    entry: Entry | None = None
    stop: Stop | None = None
    applied: int | None = None
    """The attempt whose picture became the roster."""
    bookmark: Bookmark | None = None
    """What the next fetch may go on from, where a picture was applied."""
    turn: Entry | None = None
    """What the log says of a fetch that came to another mode, before the entry."""


def hear(run: Run, fact: Fact, *, now: datetime, limits: Limits) -> Outcome:
    """Take a fact about the run into account."""
    if not run.active:
        return _hear_after_the_end(run, fact)
    if isinstance(fact, Applied):
        return _finish(run, fact, now)
    if fact.attempt < run.attempt:
        working = isinstance(fact, Claimed | Progress)
        return Outcome(run, stop=Stop(run.attempt, Code.RUN_OVERTAKEN) if working else None)
    if fact.attempt > run.attempt:  # we were restored from a backup that had not heard of it yet
        run = replace(run, attempt=fact.attempt)
    match fact:
        case Claimed():
            outcome = _claim(run, fact.fetch_id, fact.worker, now)
        case Progress():
            outcome = _progress(run, fact, now)
        case Fetched():
            outcome = _fetched(run, fact, now)
        case Held():
            outcome = _hold(run, fact, now)
        case Failed():
            outcome = _fail(run, fact, now, limits)
        case _:
            assert_never(fact)
    return outcome


def supervise(run: Run, *, now: datetime, limits: Limits) -> Outcome:
    """Judge a run by the time. Only with all facts read that were sent, or silence is ours and not the worker's.

    While `queued`, waiting is lag and no failure; while `applying`, the store resumes by itself. There, only the
    deadline counts.
    """
    if not run.active:
        return Outcome(run)
    if now >= run.deadline_at:
        detail = (
            "No worker took the run before its deadline. Is a worker of its region running?"
            if run.state is State.QUEUED
            else "The run had not finished when its deadline came."
        )
        ended = _end(run, State.FAILED, "deadline", now, code=Code.RUN_DEADLINE, detail=detail)
        return replace(ended, stop=Stop(run.attempt + 1, Code.RUN_DEADLINE))
    if run.state is State.FETCHING and run.heartbeat_at is not None and run.heartbeat_at + limits.silence <= now:
        detail = f"The worker said nothing for {limits.silence.total_seconds():.0f} seconds."
        return _try_again(run, Code.RUN_LOST, detail, timedelta(), now, limits)
    return Outcome(run)


def cancel(run: Run, *, now: datetime) -> Outcome:
    """Stop the run because somebody wants it: at once if no worker has it, else when its worker has stopped."""
    if not run.active or run.cancel_requested:
        return Outcome(run)
    if run.state is State.QUEUED:
        return _cancelled(run, now)
    sentence = (
        "Somebody cancelled the run; its worker is told to stop."
        if run.state is State.FETCHING
        else "Somebody cancelled the run, but the store has the whole picture already and may still apply it."
    )
    return Outcome(
        replace(run, cancel_requested=True),
        Entry("cancel", run.attempt, sentence, Code.RUN_CANCELLED),
        Stop(run.attempt + 1, Code.RUN_CANCELLED),
    )


def _hear_after_the_end(run: Run, fact: Fact) -> Outcome:
    """Nothing moves any more; who still works on it is stopped."""
    if isinstance(fact, Claimed | Progress):
        known = run.code in (Code.RUN_CANCELLED, Code.RUN_DEADLINE)
        reason = run.code if known and run.code else Code.RUN_OVERTAKEN
        return Outcome(run, stop=Stop(max(run.attempt, fact.attempt) + 1, reason))
    if isinstance(fact, Applied) and run.state in (State.FAILED, State.CANCELLED):
        sentence = "After the run had ended, the store applied what it had fetched: the roster is the provider's."
        return Outcome(run, Entry("applied late", fact.attempt, sentence))
    return Outcome(run)


def _claim(run: Run, fetch_id: str, worker: str | None, now: datetime) -> Outcome:
    if run.cancel_requested:
        return Outcome(run, stop=Stop(run.attempt + 1, Code.RUN_CANCELLED))
    if run.state is not State.QUEUED and fetch_id == run.fetch_id:
        return Outcome(run)
    first = run.state is State.QUEUED
    entry = (
        Entry("claimed", run.attempt, "A worker took the run and fetches.")
        if first
        else Entry("claimed again", run.attempt, "Another worker was handed the same attempt; we follow that one.")
    )
    followed = replace(
        run,
        state=State.FETCHING,
        fetch_id=fetch_id,
        worker=worker,
        heartbeat_at=now,
        served={},
        pages=0,
        collections={},
        issues=(),
        started_at=run.started_at or now,
    )
    return Outcome(followed, entry)


def _progress(run: Run, fact: Progress, now: datetime) -> Outcome:
    if run.state is State.QUEUED:
        claimed = _claim(run, fact.fetch_id, None, now)
        return replace(claimed, run=replace(claimed.run, served=fact.served, pages=fact.pages))
    stop = Stop(run.attempt + 1, Code.RUN_CANCELLED) if run.cancel_requested else None
    if run.state is State.FETCHING and fact.fetch_id == run.fetch_id:
        run = replace(run, heartbeat_at=now, served=fact.served, pages=fact.pages)
    return Outcome(run, stop=stop)


def _fetched(run: Run, fact: Fetched, now: datetime) -> Outcome:
    if run.state is State.APPLYING or (run.state is State.FETCHING and fact.fetch_id != run.fetch_id):
        return Outcome(run)
    fetched = replace(
        run,
        state=State.APPLYING,
        fetch_id=fact.fetch_id,
        heartbeat_at=None,
        collections=fact.collections,
        issues=fact.issues,
        started_at=run.started_at or now,
    )
    fetched, turn = _turn(fetched, fact)
    served = sum(report.served for report in fact.collections.values())
    return Outcome(
        fetched,
        Entry("fetched", run.attempt, f"Everything was fetched: {served:,} records. The store takes it from here."),
        turn=turn,
    )


def _hold(run: Run, fact: Held, now: datetime) -> Outcome:
    run = replace(run, collections=fact.collections)
    return _end(run, State.HELD, "held", now, code=fact.code, detail=fact.detail)


def _fail(run: Run, fact: Failed, now: datetime, limits: Limits) -> Outcome:
    if fact.code is Code.RUN_CANCELLED and run.cancel_requested:
        return _cancelled(run, now)
    # Neither can be the last word on an attempt we still want: nobody cancelled it, or a twin of it goes on.
    unasked = fact.code in (Code.RUN_CANCELLED, Code.RUN_OVERTAKEN)
    if fact.again or unasked:
        return _try_again(run, fact.code, fact.detail, limits.first_pause * 4 ** (run.attempt - 1), now, limits)
    return _end(run, State.FAILED, "failed", now, code=fact.code, detail=fact.detail)


def _finish(run: Run, fact: Applied, now: datetime) -> Outcome:
    """The roster was changed, whichever attempt did it: that ends the run."""
    done = replace(
        run,
        fetch_id=fact.fetch_id,
        collections=fact.collections,
        issues=fact.issues or run.issues,
        students=fact.students,
        teachers=fact.teachers,
        classes=fact.classes,
        started_at=run.started_at or now,
    )
    done, turn = _turn(done, fact)
    reports = fact.collections.values()
    schools = list_incomplete_schools(done.issues)
    code = _find_shortfall(reports, schools)
    outcome = _end(
        done,
        State.PARTIAL if code else State.SUCCEEDED,
        "applied",
        now,
        code=code,
        detail=_tell_changes(reports, schools),
    )
    later_attempt_may_work = fact.attempt < run.attempt
    stop = Stop(run.attempt + 1, Code.RUN_OVERTAKEN) if later_attempt_may_work else None
    return replace(outcome, stop=stop, applied=fact.attempt, bookmark=fact.bookmark, turn=turn)


def list_incomplete_schools(issues: Iterable[RecordIssue]) -> list[RecordIssue]:
    """Those of a run's issues that say that a school's data are not whole, and stayed as they were (C4)."""
    return [issue for issue in issues if issue.collection == "orgs" and issue.code in SCHOOL_CODES]


def _find_shortfall(reports: Iterable[CollectionReport], schools: Iterable[RecordIssue]) -> Code | None:
    """What kept a run from being a full success: the code that matters most."""
    rows = tuple(reports)
    found = {issue.code for issue in schools}
    if any(report.quarantined for report in rows):
        found.add(Code.RECORDS_QUARANTINED)
    if any(report.unconfirmed for report in rows):
        found.add(Code.REMOVALS_UNCONFIRMED)
    return next((code for code in _SHORTFALLS if code in found), None)


def _turn(run: Run, fact: Fetched | Applied) -> tuple[Run, Entry | None]:
    """The run with the mode its fetch came to, and what to say of it if that is another or has a reason."""
    if fact.mode == run.mode and fact.mode_code in (None, run.mode_code):
        return run, None
    entry = Entry("mode", fact.attempt, tell_turn(fact.mode, fact.mode_code), fact.mode_code)
    return replace(run, mode=fact.mode, mode_code=fact.mode_code), entry


def _tell_changes(reports: Iterable[CollectionReport], schools: Iterable[RecordIssue]) -> str:
    """The counts of an apply as a sentence or two."""
    rows = tuple(reports)
    added, changed, removed = (sum(getattr(row, name) for row in rows) for name in ("added", "changed", "removed"))
    sentence = (
        f"The roster was updated: {added:,} records added, {changed:,} changed, {removed:,} removed."
        if added or changed or removed
        else "The roster was up to date already; nothing was changed."
    )
    if quarantined := sum(row.quarantined for row in rows):
        sentence += f" {quarantined:,} could not be understood and keep their last good value."
    if unconfirmed := sum(row.unconfirmed for row in rows):
        sentence += f" {unconfirmed:,} were missing without proof that they are gone, and stay."
    codes = Counter(issue.code for issue in schools)
    if missing := codes[Code.GUARD_SCHOOL_MISSING]:
        sentence += f" {_count_schools(missing)} missing and stayed as before."
    if incomplete := codes[Code.SCHOOL_INCOMPLETE]:
        sentence += f" {_count_schools(incomplete)} incomplete and stayed as before."
    return sentence


def _count_schools(number: int) -> str:
    return f"{number:,} {'school was' if number == 1 else 'schools were'}"


def _try_again(run: Run, code: Code, detail: str, pause: timedelta, now: datetime, limits: Limits) -> Outcome:
    if run.cancel_requested:
        return _cancelled(run, now)
    if run.attempt >= limits.attempts:
        ended = _end(run, State.FAILED, "failed", now, code=code, detail=detail)
        return replace(ended, stop=Stop(run.attempt + 1, Code.RUN_OVERTAKEN))
    when = f"in {pause.total_seconds():.0f} seconds" if pause else "at once"
    following = Run(
        deadline_at=run.deadline_at,
        mode=run.mode,
        mode_code=run.mode_code,
        attempt=run.attempt + 1,
        not_before=now + pause,
        started_at=run.started_at,
    )
    sentence = f"{detail[:MAX_DETAIL]} Attempt {following.attempt} of {limits.attempts} follows {when}."
    return Outcome(following, Entry("again", run.attempt, sentence, code), Stop(following.attempt, Code.RUN_OVERTAKEN))


def _cancelled(run: Run, now: datetime) -> Outcome:
    asked = replace(run, cancel_requested=True)
    detail = "The run was cancelled; the roster was not changed."
    ended = _end(asked, State.CANCELLED, "cancelled", now, code=Code.RUN_CANCELLED, detail=detail)
    return replace(ended, stop=Stop(run.attempt + 1, Code.RUN_CANCELLED))


def _end(run: Run, state: State, step: str, now: datetime, *, code: Code | None, detail: str) -> Outcome:
    detail = detail[:MAX_DETAIL]
    ended = replace(run, state=state, code=code, detail=detail, finished_at=now, not_before=None, heartbeat_at=None)
    return Outcome(ended, Entry(step, run.attempt, detail, code))
