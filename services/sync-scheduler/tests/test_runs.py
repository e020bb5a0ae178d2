"""The state machine of a run, without input or output."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

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
from sync_scheduler.run_ends import list_incomplete_schools
from sync_scheduler.runs import Entry, Limits, Outcome, Run, State, Stop
from sync_scheduler.transitions import cancel, hear, supervise

NOW = datetime(2026, 9, 1, 18, 0, tzinfo=UTC)
LIMITS = Limits(attempts=3, silence=timedelta(seconds=60), first_pause=timedelta(seconds=5))
CLEAN = {"users": CollectionReport(served=10, added=2, unchanged=8)}


def claimed(attempt: int = 1, fetch: str = "a") -> Claimed:
    return Claimed(attempt=attempt, worker="w", fetch_id=fetch, run_id="r", integration_id="i", at=NOW)


def progress(attempt: int = 1, fetch: str = "a", served: int = 5) -> Progress:
    return Progress(
        attempt=attempt, fetch_id=fetch, served={"users": served}, pages=1, run_id="r", integration_id="i", at=NOW
    )


def fetched(attempt: int = 1, fetch: str = "a", mode: Mode = "full", code: Code | None = None) -> Fetched:
    return Fetched(
        attempt=attempt,
        fetch_id=fetch,
        collections=CLEAN,
        mode=mode,
        mode_code=code,
        run_id="r",
        integration_id="i",
        at=NOW,
    )


def applied(
    attempt: int = 1, fetch: str = "a", report: CollectionReport = CLEAN["users"], mode: Mode = "full", **more: Any
) -> Applied:
    return Applied(
        mode=mode,
        attempt=attempt,
        fetch_id=fetch,
        apply=7,
        collections={"users": report},
        students=8,
        teachers=2,
        classes=4,
        run_id="r",
        integration_id="i",
        at=NOW,
        **more,
    )


def held(attempt: int = 1) -> Held:
    return Held(
        attempt=attempt,
        fetch_id="a",
        code=Code.GUARD_EMPTY_COLLECTION,
        detail="users arrived empty.",
        collections=CLEAN,
        run_id="r",
        integration_id="i",
        at=NOW,
    )


def failed(attempt: int = 1, code: Code = Code.PROV_5XX, *, again: bool = True) -> Failed:
    return Failed(
        attempt=attempt, code=code, detail="It answered 503.", again=again, run_id="r", integration_id="i", at=NOW
    )


def fresh() -> Run:
    return Run(deadline_at=NOW + timedelta(hours=6))


def tell(run: Run, *facts: Fact, now: datetime = NOW) -> Outcome:
    outcome = Outcome(run)
    for fact in facts:
        outcome = hear(outcome.run, fact, now=now, limits=LIMITS)
    return outcome


def test_the_usual_way() -> None:
    """A run is claimed, fetched and applied, and tells each step in a sentence."""
    run, story = fresh(), []
    for fact in (claimed(), progress(), progress(served=9), fetched(), applied()):
        outcome = tell(run, fact)
        run = outcome.run
        if outcome.entry:
            story.append((run.state, outcome.entry.sentence))

    assert story == [
        (State.FETCHING, "A worker took the run and fetches."),
        (State.APPLYING, "Everything was fetched: 10 records. The store takes it from here."),
        (State.SUCCEEDED, "The roster was updated: 2 records added, 0 changed, 0 removed."),
    ]
    assert (run.students, run.teachers, run.classes, run.started_at, run.finished_at) == (8, 2, 4, NOW, NOW)


def test_nothing_new() -> None:
    """A run that changed nothing says so."""
    outcome = tell(fresh(), claimed(), applied(report=CollectionReport(served=3, unchanged=3)))

    assert outcome.entry == Entry("applied", 1, "The roster was up to date already; nothing was changed.")


def test_partial() -> None:
    """Records set aside make a run partial with the reason; unproved removals do, too, but weigh less."""
    quarantined = tell(fresh(), applied(report=CollectionReport(quarantined=2, unconfirmed=1))).run
    unconfirmed = tell(fresh(), applied(report=CollectionReport(unconfirmed=1))).run

    assert (quarantined.state, quarantined.code) == (State.PARTIAL, Code.RECORDS_QUARANTINED)
    assert (unconfirmed.state, unconfirmed.code) == (State.PARTIAL, Code.REMOVALS_UNCONFIRMED)


def issue(code: Code, collection: str = "orgs", school: str = "s1") -> RecordIssue:
    return RecordIssue(collection=collection, sourced_id=school, code=code, detail="no classes")


@pytest.mark.parametrize(
    ("codes", "report", "code"),
    [
        ([Code.SCHOOL_INCOMPLETE], CollectionReport(), Code.SCHOOL_INCOMPLETE),
        ([Code.SCHOOL_INCOMPLETE, Code.GUARD_SCHOOL_MISSING], CollectionReport(), Code.GUARD_SCHOOL_MISSING),
        ([Code.SCHOOL_INCOMPLETE], CollectionReport(quarantined=1), Code.SCHOOL_INCOMPLETE),
        ([Code.GUARD_SCHOOL_MISSING], CollectionReport(unconfirmed=1), Code.GUARD_SCHOOL_MISSING),
        ([], CollectionReport(quarantined=1, unconfirmed=1), Code.RECORDS_QUARANTINED),
    ],
)
def test_partial_by_schools(codes: list[Code], report: CollectionReport, code: Code) -> None:
    """A school that is missing or incomplete makes a run partial, and outweighs single records (C4)."""
    run = tell(fresh(), applied(report=report, issues=tuple(map(issue, codes)))).run

    assert (run.state, run.code) == (State.PARTIAL, code)
    assert [one.code for one in list_incomplete_schools(run.issues)] == codes


def test_how_many_schools() -> None:
    """The sentence of a partial run says how many schools were missing and how many incomplete."""
    issues = [issue(Code.GUARD_SCHOOL_MISSING)] + [issue(Code.SCHOOL_INCOMPLETE, school=f"s{n}") for n in (2, 3)]
    detail = tell(fresh(), applied(issues=tuple(issues))).run.detail

    assert detail is not None
    assert detail.endswith("1 school was missing and stayed as before. 2 schools were incomplete and stayed as before.")


@pytest.mark.parametrize("code", [Code.DELTA_DRIFT, Code.FIELD_MASKED, Code.REF_MISSING, Code.PEOPLE_UNMATCHED])
def test_notes_are_no_shortfall(code: Code) -> None:
    """What is only worth knowing does not make a run partial."""
    assert tell(fresh(), applied(issues=(issue(code, "users"), issue(code)))).run.state is State.SUCCEEDED


def test_schools_that_only_the_gateway_named() -> None:
    """Issues the gateway told of count where the store adds none of its own."""
    incomplete = msgspec.structs.replace(fetched(), issues=(issue(Code.SCHOOL_INCOMPLETE),))

    assert tell(fresh(), claimed(), incomplete, applied()).run.code is Code.SCHOOL_INCOMPLETE


def test_the_chosen_mode_stays() -> None:
    """A fetch that did as it was told says nothing of it, and further attempts are told the same."""
    chosen = replace(fresh(), mode="delta")
    outcome = tell(chosen, claimed(), fetched(mode="delta"))

    assert (outcome.run.mode, outcome.turn) == ("delta", None)
    assert tell(chosen, claimed(), failed()).run.mode == "delta"
    assert supervise(tell(chosen, claimed()).run, now=NOW + timedelta(minutes=2), limits=LIMITS).run.mode == "delta"


def test_another_mode_is_told_once() -> None:
    """A fetch that came to another mode, or gives a reason for its own, says so in the log, once."""
    cases: list[tuple[Mode, Mode, Code | None]] = [
        ("delta", "full", Code.DELTA_DRIFT),
        ("full", "full", Code.DELTA_UNSUPPORTED),
        ("full", "delta", None),
    ]
    for chosen, mode, code in cases:
        run = replace(fresh(), mode=chosen)
        first = tell(run, claimed(), fetched(mode=mode, code=code))
        second = tell(first.run, applied(mode=mode, mode_code=code))
        alone = tell(run, applied(mode=mode, mode_code=code))

        assert first.turn is not None
        assert (first.turn.step, first.turn.code) == ("mode", code)
        assert (second.turn, alone.turn) == (None, first.turn)
        assert {(done.run.mode, done.run.mode_code) for done in (second, alone)} == {(mode, code)}


def test_the_reason_of_the_choice_stays() -> None:
    """Why everything was to be compared is still said when the fetch did so without a word."""
    run = replace(fresh(), mode_code=Code.DELTA_DRIFT)

    assert tell(run, claimed(), fetched(), applied()).run.mode_code is Code.DELTA_DRIFT


def test_bookmarks_come_with_the_end() -> None:
    """Only what was applied by a run that had not ended leaves something to go on from."""
    bookmark = Bookmark(at=NOW, canonical=1)
    outcome = tell(fresh(), applied(bookmark=bookmark))

    assert outcome.bookmark == bookmark
    assert tell(outcome.run, applied(bookmark=bookmark)).bookmark is None


def test_held() -> None:
    """A picture the guard keeps back ends the run as held, with the guard's code and sentence."""
    outcome = tell(fresh(), claimed(), fetched(), held())

    assert (outcome.run.state, outcome.run.code) == (State.HELD, Code.GUARD_EMPTY_COLLECTION)
    assert outcome.entry == Entry("held", 1, "users arrived empty.", Code.GUARD_EMPTY_COLLECTION)


def test_failing_for_good() -> None:
    """A failure that another attempt would not mend ends the run at once."""
    outcome = tell(fresh(), claimed(), failed(code=Code.AUTH_INVALID, again=False))

    assert (outcome.run.state, outcome.run.code, outcome.run.attempt) == (State.FAILED, Code.AUTH_INVALID, 1)


def test_trying_again() -> None:
    """A failure that may pass leads to further attempts with growing pauses, and to failed after the last."""
    run, pauses = fresh(), []
    for attempt in (1, 2):
        run = tell(run, claimed(attempt), failed(attempt)).run
        assert run.state is State.QUEUED
        assert run.not_before is not None
        pauses.append((run.not_before - NOW).total_seconds())
    outcome = tell(run, claimed(3), failed(3))

    assert pauses == [5, 20]
    assert (outcome.run.state, outcome.run.code, outcome.run.attempt) == (State.FAILED, Code.PROV_5XX, 3)


def test_the_sentence_of_another_attempt() -> None:
    """The log says what happened and when it is tried again."""
    outcome = tell(fresh(), claimed(), failed())

    assert outcome.entry == Entry("again", 1, "It answered 503. Attempt 2 of 3 follows in 5 seconds.", Code.PROV_5XX)
    assert outcome.stop == Stop(2, Code.RUN_OVERTAKEN)


def test_lost_worker() -> None:
    """A fetching worker that is silent for a minute is given up and the next attempt follows at once."""
    run = tell(fresh(), claimed()).run

    assert supervise(run, now=NOW + timedelta(seconds=59), limits=LIMITS).run is run
    outcome = supervise(run, now=NOW + timedelta(seconds=60), limits=LIMITS)
    assert (outcome.run.state, outcome.run.attempt, outcome.run.fetch_id) == (State.QUEUED, 2, None)
    assert outcome.stop == Stop(2, Code.RUN_OVERTAKEN)


def test_heartbeats_keep_a_run() -> None:
    """Progress of the fetch that is followed counts as a heartbeat, that of another fetch does not."""
    run = tell(fresh(), claimed()).run
    later = NOW + timedelta(seconds=50)
    kept = tell(run, progress(), now=later).run
    other = tell(run, progress(fetch="b"), now=later).run

    assert supervise(kept, now=NOW + timedelta(seconds=60), limits=LIMITS).run is kept
    assert supervise(other, now=NOW + timedelta(seconds=60), limits=LIMITS).run.attempt == 2


def test_too_many_lost_workers() -> None:
    """A run whose every worker was lost fails as RUN_LOST."""
    run = fresh()
    for attempt in (1, 2, 3):
        run = supervise(tell(run, claimed(attempt)).run, now=NOW + timedelta(minutes=2), limits=LIMITS).run

    assert (run.state, run.code) == (State.FAILED, Code.RUN_LOST)


def test_waiting_is_no_failure() -> None:
    """Queued and applying runs are not judged by silence, only by their deadline."""
    for run in (fresh(), tell(fresh(), claimed(), fetched()).run):
        assert supervise(run, now=NOW + timedelta(hours=5), limits=LIMITS).run is run
        ended = supervise(run, now=NOW + timedelta(hours=6), limits=LIMITS)
        assert (ended.run.state, ended.run.code) == (State.FAILED, Code.RUN_DEADLINE)
        assert ended.stop == Stop(2, Code.RUN_DEADLINE)


def test_older_attempts_do_not_move_a_run() -> None:
    """Facts of an overtaken attempt change nothing, and whoever still works on it is told to stop."""
    run = tell(fresh(), claimed(), failed()).run

    for fact in (claimed(1, "z"), progress(1), fetched(1), held(1), failed(1), failed(1, again=False)):
        outcome = tell(run, fact)
        assert outcome.run is run
        assert outcome.stop == (Stop(2, Code.RUN_OVERTAKEN) if isinstance(fact, Claimed | Progress) else None)


def test_an_older_attempt_that_was_applied_ends_the_run() -> None:
    """Once the roster was changed the run is over, whichever attempt did it, and later attempts are stopped."""
    outcome = tell(fresh(), claimed(), failed(), claimed(2, "b"), applied(1))

    assert outcome.run.state is State.SUCCEEDED
    assert (outcome.applied, outcome.stop) == (1, Stop(3, Code.RUN_OVERTAKEN))


def test_zombies_are_stopped() -> None:
    """A worker that reports on a run that has ended is told to stop, with the reason where there is one."""
    done = tell(fresh(), claimed(), applied()).run
    cancelled = cancel(fresh(), now=NOW).run

    assert tell(done, progress()).stop == Stop(2, Code.RUN_OVERTAKEN)
    assert tell(cancelled, claimed()).stop == Stop(2, Code.RUN_CANCELLED)


def test_a_twin_is_followed() -> None:
    """Where a job was delivered twice, the run follows the fetch claimed last, as the store does."""
    run = tell(fresh(), claimed(fetch="a"), claimed(fetch="b"), fetched(fetch="a")).run

    assert (run.state, run.fetch_id) == (State.FETCHING, "b")
    assert tell(run, fetched(fetch="b")).run.state is State.APPLYING
    assert tell(fresh(), claimed(fetch="a"), fetched(fetch="a"), claimed(fetch="b")).run.state is State.FETCHING


def test_lost_claims() -> None:
    """A run whose claim was never heard goes on by what is heard next."""
    assert tell(fresh(), progress()).run.state is State.FETCHING
    assert tell(fresh(), fetched()).run.state is State.APPLYING


def test_cancel_while_queued() -> None:
    """A run nobody works on is cancelled at once."""
    outcome = cancel(fresh(), now=NOW)

    assert (outcome.run.state, outcome.run.code) == (State.CANCELLED, Code.RUN_CANCELLED)
    assert outcome.stop == Stop(2, Code.RUN_CANCELLED)


def test_cancel_while_fetching() -> None:
    """A fetching run is cancelled when its worker says it has stopped, fails or is lost; a heartbeat stops it again."""
    asked = cancel(tell(fresh(), claimed()).run, now=NOW)

    assert (asked.run.state, asked.stop) == (State.FETCHING, Stop(2, Code.RUN_CANCELLED))
    assert cancel(asked.run, now=NOW).run is asked.run
    assert tell(asked.run, failed(code=Code.RUN_CANCELLED, again=False)).run.state is State.CANCELLED
    assert tell(asked.run, failed()).run.state is State.CANCELLED
    assert supervise(asked.run, now=NOW + timedelta(minutes=2), limits=LIMITS).run.state is State.CANCELLED
    assert tell(asked.run, progress()).stop == Stop(2, Code.RUN_CANCELLED)


def test_cancel_too_late() -> None:
    """A cancellation that comes when the store has the picture does not hide that it was applied."""
    asked = cancel(tell(fresh(), claimed(), fetched()).run, now=NOW)

    assert asked.run.state is State.APPLYING
    assert tell(asked.run, applied()).run.state is State.SUCCEEDED


def test_a_cancellation_nobody_asked_for() -> None:
    """A worker that stops unasked, or is overtaken by a twin, costs an attempt and not the run."""
    for code in (Code.RUN_CANCELLED, Code.RUN_OVERTAKEN):
        run = tell(fresh(), claimed(), failed(code=code, again=False)).run
        assert (run.state, run.attempt) == (State.QUEUED, 2)


def test_applied_after_the_end() -> None:
    """What was applied after a run had failed stands in its log and leaves its state alone."""
    lost = supervise(fresh(), now=NOW + timedelta(hours=6), limits=LIMITS).run
    outcome = tell(lost, applied())

    assert outcome.run is lost
    assert outcome.entry is not None
    assert outcome.entry.step == "applied late"
