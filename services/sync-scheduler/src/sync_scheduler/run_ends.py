"""How a run ends, and in which words: pure decisions (C5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from homeroom.codes import Code
from homeroom.messages import Applied, CollectionReport, Evaluated, Fetched, Held, HoldReason, RecordIssue
from sync_scheduler import matching
from sync_scheduler.modes import tell_turn
from sync_scheduler.runs import MAX_DETAIL, Answer, Entry, Limits, Outcome, Run, State, Stop

SCHOOL_CODES = (Code.GUARD_SCHOOL_MISSING, Code.SCHOOL_INCOMPLETE)
_SHORTFALLS = (*SCHOOL_CODES, Code.RECORDS_QUARANTINED, Code.REMOVALS_UNCONFIRMED)
"""What makes a run partial; the first of them that applies is told."""

MAX_REASONS = 20
"""So many of the limits that were passed get a line in the log; all of them stand in the hold and in the report."""

RESTORED = (
    "The integration is paused, so that the next sync does not undo this; resume it when the provider's roster is right"
    " again."
)


def end(run: Run, state: State, step: str, now: datetime, *, code: Code | None, detail: str) -> Outcome:
    """The run in a state it does not leave by itself."""
    detail = detail[:MAX_DETAIL]
    ended = replace(
        run,
        state=state,
        code=code,
        detail=detail,
        finished_at=now,
        not_before=None,
        heartbeat_at=None,
        hold=run.hold if state is State.HELD else None,
    )
    return Outcome(ended, Entry(step, run.attempt, detail, code))


def finish(run: Run, fact: Applied, now: datetime) -> Outcome:
    """The roster was changed, whichever attempt did it: that ends the run."""
    done, turn = turn_mode(follow(run, fact, now), fact)
    reports = fact.collections.values()
    schools = list_incomplete_schools(done.issues)
    code = _find_shortfall(reports, schools)
    what = "class" if run.kind == "refresh" else "roster"
    detail = _tell_restored(reports) if run.kind == "restore" else _tell_changes(what, reports, schools)
    outcome = end(done, State.PARTIAL if code else State.SUCCEEDED, "applied", now, code=code, detail=detail)
    later_attempt_may_work = fact.attempt < run.attempt
    stop = Stop(run.attempt + 1, Code.RUN_OVERTAKEN) if later_attempt_may_work else None
    return replace(
        outcome,
        stop=stop,
        applied=fact.attempt,
        bookmark=fact.bookmark,
        turn=turn,
        answer=Answer() if run.plan else None,
    )


def evaluate(run: Run, fact: Evaluated, now: datetime) -> Outcome:
    """What would be changed is known, and nothing was: that ends the run (C11)."""
    done = replace(
        run,
        fetch_id=fact.fetch_id,
        collections=fact.collections,
        issues=fact.issues or run.issues,
        plan=fact.plan,
        started_at=run.started_at or now,
    )
    done, turn = turn_mode(done, fact)
    outcome = end(done, State.SUCCEEDED, "evaluated", now, code=None, detail=_tell_evaluation(fact))
    return replace(outcome, turn=turn, reasons=tell_reasons(run.attempt, fact.reasons))


def try_again(run: Run, code: Code, detail: str, pause: timedelta, now: datetime, limits: Limits) -> Outcome:
    """The next attempt, which begins from nothing, unless there were enough."""
    if run.cancel_requested:
        return cancelled(run, now)
    if run.attempt >= limits.attempts:
        ended = end(run, State.FAILED, "failed", now, code=code, detail=detail)
        return replace(ended, stop=Stop(run.attempt + 1, Code.RUN_OVERTAKEN))
    when = f"in {pause.total_seconds():.0f} seconds" if pause else "at once"
    following = Run(
        deadline_at=run.deadline_at,
        kind=run.kind,
        mode=run.mode,
        mode_code=run.mode_code,
        attempt=run.attempt + 1,
        not_before=now + pause,
        started_at=run.started_at,
    )
    sentence = f"{detail[:MAX_DETAIL]} Attempt {following.attempt} of {limits.attempts} follows {when}."
    return Outcome(following, Entry("again", run.attempt, sentence, code), Stop(following.attempt, Code.RUN_OVERTAKEN))


def cancelled(run: Run, now: datetime) -> Outcome:
    """The run ended because somebody wanted it to."""
    asked = replace(run, cancel_requested=True)
    detail = "The run was cancelled; the roster was not changed."
    ended = end(asked, State.CANCELLED, "cancelled", now, code=Code.RUN_CANCELLED, detail=detail)
    return replace(ended, stop=Stop(run.attempt + 1, Code.RUN_CANCELLED))


def follow(run: Run, fact: Applied | Held, now: datetime) -> Run:
    """The run with what the store says of its picture."""
    people = matching.count(fact)
    return replace(
        run,
        fetch_id=fact.fetch_id,
        collections=fact.collections,
        issues=fact.issues or run.issues,
        students=people.students,
        teachers=people.teachers,
        unmatched=people.unmatched,
        matching=fact.matching,
        classes=fact.classes,
        started_at=run.started_at or now,
    )


def turn_mode(run: Run, fact: Fetched | Applied | Held | Evaluated) -> tuple[Run, Entry | None]:
    """The run with the mode its fetch came to, and what to say of it if that is another or has a reason."""
    if run.kind == "restore" or (fact.mode == run.mode and fact.mode_code in (None, run.mode_code)):
        return run, None
    entry = Entry("mode", fact.attempt, tell_turn(fact.mode, fact.mode_code), fact.mode_code)
    return replace(run, mode=fact.mode, mode_code=fact.mode_code), entry


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


# ── sentences ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _tell_changes(what: str, reports: Iterable[CollectionReport], schools: Iterable[RecordIssue]) -> str:
    """The counts of an apply as a sentence or two."""
    rows = tuple(reports)
    sentence = (
        f"The {what} was updated: {_count_changes(rows)}."
        if _changes(rows)
        else f"The {what} was up to date already; nothing was changed."
    )
    if held := sum(row.held for row in rows):
        sentence += f" {held:,} removals were left out."
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


def tell_hold(fact: Held, expires_at: datetime) -> str:
    """What was applied of a plan, what waits, and who may decide until when."""
    rows = tuple(fact.collections.values())
    if fact.everything:
        sentence = f"Nothing was applied. What waits: {_count_changes(rows)}."
    else:
        waiting = sum(row.held for row in rows)
        sentence = f"Everything but removals was applied: {_count_changes(rows)}. {waiting:,} removals wait."
    return (
        f"{sentence} Whoever may approve runs can decide until {expires_at:%Y-%m-%d %H:%M} UTC; the next sync makes a"
        " new plan, which takes the place of this one."
    )


def tell_reasons(attempt: int, reasons: Iterable[HoldReason]) -> tuple[Entry, ...]:
    """A line for each of the first limits that were passed."""
    told = list(reasons)
    lines = [
        Entry(f"reason {number}", attempt, reason.sentence[:MAX_DETAIL], reason.code)
        for number, reason in enumerate(told[:MAX_REASONS], 1)
    ]
    if len(told) > MAX_REASONS:
        more = len(told) - MAX_REASONS
        lines.append(Entry("more reasons", attempt, f"{more:,} more limits were passed; see the plan."))
    return tuple(lines)


def _tell_evaluation(fact: Evaluated) -> str:
    rows = tuple(fact.collections.values())
    sentence = (
        f"A sync would change the roster: {_count_changes(rows)}."
        if _changes(rows)
        else "The roster is up to date; a sync would change nothing."
    )
    if fact.configuration:
        sentence += f" {fact.configuration:,} of the removals come from the options alone."
    if quarantined := sum(row.quarantined for row in rows):
        sentence += f" {quarantined:,} records could not be understood."
    if fact.reasons:
        sentence += " It would be held until somebody approves it."
    return f"{sentence} This was an evaluation: nothing was changed."


def _tell_restored(reports: Iterable[CollectionReport]) -> str:
    rows = tuple(reports)
    sentence = (
        f"The roster was brought back: {_count_changes(rows)}."
        if _changes(rows)
        else "The roster was in that state already; nothing was changed."
    )
    return f"{sentence} {RESTORED}"


def count_waiting(reports: Mapping[str, CollectionReport], *, everything: bool) -> dict[str, dict[str, int]]:
    """What waits of a held plan, by collection and kind of change; collections of which nothing does are left out."""
    waiting = {
        name: {"added": one.added, "changed": one.changed, "removed": one.removed or one.held}
        if everything
        else {"added": 0, "changed": 0, "removed": one.held}
        for name, one in reports.items()
    }
    return {name: counts for name, counts in waiting.items() if any(counts.values())}


def _changes(rows: Iterable[CollectionReport]) -> int:
    return sum(row.added + row.changed + row.removed for row in rows)


def _count_changes(rows: Iterable[CollectionReport]) -> str:
    found = tuple(rows)
    added, changed, removed = (sum(getattr(row, name) for row in found) for name in ("added", "changed", "removed"))
    return f"{added:,} records added, {changed:,} changed, {removed:,} removed"


def _count_schools(number: int) -> str:
    return f"{number:,} {'school was' if number == 1 else 'schools were'}"
