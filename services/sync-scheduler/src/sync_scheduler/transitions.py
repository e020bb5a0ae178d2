"""What moves a run, decided without input or output (C5).

Three things do: a fact somebody reports (`hear`), time that passes (`supervise`) and a person who has had enough
(`cancel`). Each answers with an `Outcome`: the run as it is afterwards, a sentence for its log, and whether workers
must be told to stop. Facts may come late, twice and in any order.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from homeroom.codes import Code
from homeroom.messages import (
    Applied,
    Claimed,
    DecisionRefused,
    Evaluated,
    Fact,
    Failed,
    Fetched,
    Held,
    HoldEnded,
    Progress,
)
from sync_scheduler import holds, run_ends
from sync_scheduler.run_ends import cancelled, end, try_again
from sync_scheduler.runs import Answer, Entry, Limits, Outcome, Run, State, Stop


def hear(run: Run, fact: Fact, *, now: datetime, limits: Limits) -> Outcome:
    """Take a fact about the run into account."""
    outcome = _hear(run, fact, now, limits)
    if outcome.answer is None and isinstance(fact, HoldEnded):
        return replace(outcome, answer=Answer(plan=fact.plan))
    if outcome.answer is None and isinstance(fact, DecisionRefused):
        return replace(outcome, answer=Answer(decision_id=fact.decision_id, refused=fact.code))
    return outcome


def supervise(run: Run, *, now: datetime, limits: Limits) -> Outcome:
    """Judge a run by the time. Only with all facts read that were sent, or silence is ours and not the worker's.

    While `queued`, waiting is lag and no failure; while `applying`, the store resumes by itself. There, only the
    deadline counts.
    """
    if run.hold is not None:
        return holds.supervise(run, now)
    if not run.active:
        return Outcome(run)
    if now >= run.deadline_at:
        detail = (
            "No worker took the run before its deadline. Is a worker of its region running?"
            if run.state is State.QUEUED
            else "The run had not finished when its deadline came."
        )
        ended = end(run, State.FAILED, "deadline", now, code=Code.RUN_DEADLINE, detail=detail)
        return replace(ended, stop=Stop(run.attempt + 1, Code.RUN_DEADLINE))
    if run.state is State.FETCHING and run.heartbeat_at is not None and run.heartbeat_at + limits.silence <= now:
        detail = f"The worker said nothing for {limits.silence.total_seconds():.0f} seconds."
        return try_again(run, Code.RUN_LOST, detail, timedelta(), now, limits)
    return Outcome(run)


def cancel(run: Run, *, now: datetime) -> Outcome:
    """Stop the run because somebody wants it: at once if no worker has it, else when its worker has stopped.

    What waits for a decision is not cancelled but discarded.
    """
    if not run.active or run.cancel_requested:
        return Outcome(run)
    if run.state is State.QUEUED:
        return cancelled(run, now)
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


def hand_to_store(run: Run, *, now: datetime) -> Outcome:
    """A restore was sent: no worker has a part in it, so from here on the store works on it."""
    if run.state is not State.QUEUED:
        return Outcome(run)
    sentence = "The store was asked to bring the roster back."
    applying = replace(run, state=State.APPLYING, started_at=run.started_at or now)
    return Outcome(applying, Entry("published", run.attempt, sentence))


def _hear(run: Run, fact: Fact, now: datetime, limits: Limits) -> Outcome:
    if run.hold is not None:
        return holds.hear(run, fact, now)
    if not run.active:
        return _hear_after_the_end(run, fact)
    if isinstance(fact, Applied):
        return run_ends.finish(run, fact, now)
    if fact.attempt < run.attempt:
        return _hear_of_older(run, fact)
    if fact.attempt > run.attempt:  # we were restored from a backup that had not heard of it yet
        run = replace(run, attempt=fact.attempt)
    return _hear_of_newest(run, fact, now, limits)


def _hear_of_newest(run: Run, fact: Fact, now: datetime, limits: Limits) -> Outcome:
    """What is reported of the attempt that counts."""
    match fact:
        case Claimed():
            outcome = _claim(run, fact.fetch_id, fact.worker, now)
        case Progress():
            outcome = _progress(run, fact, now)
        case Fetched():
            outcome = _fetched(run, fact, now)
        case Held():
            outcome = holds.hold(run, fact, now)
        case Evaluated():
            outcome = run_ends.evaluate(run, fact, now)
        case Failed():
            outcome = _fail(run, fact, now, limits)
        case HoldEnded() | DecisionRefused() | Applied():  # nothing of the run waits; what is applied was heard before
            outcome = Outcome(run)
        case _:
            assert_never(fact)
    return outcome


def _hear_of_older(run: Run, fact: Fact) -> Outcome:
    """An attempt that was given up: who works on it is stopped, and what it left waiting is nobody's."""
    working = isinstance(fact, Claimed | Progress)
    return Outcome(run, stop=Stop(run.attempt, Code.RUN_OVERTAKEN) if working else None, unwanted=_unwanted(run, fact))


def _hear_after_the_end(run: Run, fact: Fact) -> Outcome:
    """Nothing moves any more; who still works on it is stopped, and what still waits is let go."""
    if isinstance(fact, Claimed | Progress):
        known = run.code in (Code.RUN_CANCELLED, Code.RUN_DEADLINE)
        reason = run.code if known and run.code else Code.RUN_OVERTAKEN
        return Outcome(run, stop=Stop(max(run.attempt, fact.attempt) + 1, reason))
    if isinstance(fact, Applied) and run.state in (State.FAILED, State.CANCELLED):
        brought_back = run.kind == "restore"
        sentence = (
            "After the run had ended, the store brought the roster back all the same."
            if brought_back
            else "After the run had ended, the store applied what it had fetched: the roster is the provider's."
        )
        entry = Entry("applied late", fact.attempt, sentence)
        return Outcome(run, entry, applied=fact.attempt if brought_back else None)
    if isinstance(fact, Held) and (unwanted := _unwanted(run, fact)):
        sentence = "After the run had ended, the store held what it had fetched; it is told to throw it away."
        return Outcome(run, Entry("held late", fact.attempt, sentence), unwanted=unwanted)
    return Outcome(run)


def _unwanted(run: Run, fact: Fact) -> tuple[int, str] | None:
    """The plan a run will not follow, unless it is one it did follow."""
    if isinstance(fact, Held) and fact.plan and fact.plan != run.plan:
        return fact.attempt, fact.plan
    return None


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
        fetching_since=now,
        served={},
        stated={},
        reading=(),
        pages=0,
        collections={},
        issues=(),
        started_at=run.started_at or now,
    )
    return Outcome(followed, entry)


def _progress(run: Run, fact: Progress, now: datetime) -> Outcome:
    if run.state is State.QUEUED:
        claimed = _claim(run, fact.fetch_id, None, now)
        return replace(claimed, run=_come_far(claimed.run, fact))
    stop = Stop(run.attempt + 1, Code.RUN_CANCELLED) if run.cancel_requested else None
    if run.state is State.FETCHING and fact.fetch_id == run.fetch_id:
        run = replace(_come_far(run, fact), heartbeat_at=now)
    return Outcome(run, stop=stop)


def _come_far(run: Run, fact: Progress) -> Run:
    return replace(run, served=fact.served, stated=fact.stated, reading=fact.reading, pages=fact.pages)


def _fetched(run: Run, fact: Fetched, now: datetime) -> Outcome:
    if run.state is State.APPLYING or (run.state is State.FETCHING and fact.fetch_id != run.fetch_id):
        return Outcome(run)
    fetched = replace(
        run,
        state=State.APPLYING,
        fetch_id=fact.fetch_id,
        heartbeat_at=None,
        reading=(),
        collections=fact.collections,
        issues=fact.issues,
        started_at=run.started_at or now,
    )
    fetched, turn = run_ends.turn_mode(fetched, fact)
    served = sum(report.served for report in fact.collections.values())
    return Outcome(
        fetched,
        Entry("fetched", run.attempt, f"Everything was fetched: {served:,} records. The store takes it from here."),
        turn=turn,
    )


def _fail(run: Run, fact: Failed, now: datetime, limits: Limits) -> Outcome:
    if fact.code is Code.RUN_CANCELLED and run.cancel_requested:
        return cancelled(run, now)
    # Neither can be the last word on an attempt we still want: nobody cancelled it, or a twin of it goes on.
    unasked = fact.code in (Code.RUN_CANCELLED, Code.RUN_OVERTAKEN)
    if fact.again or unasked:
        return try_again(run, fact.code, fact.detail, limits.first_pause * 4 ** (run.attempt - 1), now, limits)
    return end(run, State.FAILED, "failed", now, code=fact.code, detail=fact.detail)
