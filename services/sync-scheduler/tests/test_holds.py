"""What is held until somebody decides: pure decisions and their sentences (C14)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from homeroom.codes import Code
from homeroom.messages import (
    Applied,
    Bookmark,
    Claimed,
    CollectionReport,
    DecisionRefused,
    Evaluated,
    Failed,
    Held,
    HoldEnded,
    HoldReason,
)
from sync_scheduler import holds
from sync_scheduler.run_ends import MAX_REASONS, count_waiting
from sync_scheduler.runs import Action, Answer, Decision, Limits, Outcome, Run, State
from sync_scheduler.transitions import cancel, hand_to_store, hear, supervise

NOW = datetime(2026, 9, 1, 18, 0, tzinfo=UTC)
EXPIRES = NOW + timedelta(days=7)
LIMITS = Limits()
PATIENCE = timedelta(hours=6)
COMMON: dict[str, Any] = {"run_id": "r", "integration_id": "i", "attempt": 1, "at": NOW}
REPORT = {"users": CollectionReport(served=90, added=2, changed=3, unchanged=85, held=40)}
REASON = HoldReason(
    code=Code.GUARD_DELETE_HOLD, sentence="All 40 users of one school would go.", collection="users", count=40, of=130
)
ACTIONS: tuple[Action, ...] = ("approve", "additions", "discard", "expire")


def held(*, plan: str = "p", everything: bool = False, **more: Any) -> Held:
    return Held(
        **(
            COMMON
            | {
                "fetch_id": "a",
                "code": Code.GUARD_DELETE_HOLD,
                "detail": "40 of 130 users would go.",
                "collections": REPORT,
                "plan": plan,
                "expires_at": EXPIRES,
                "everything": everything,
                "reasons": (REASON,),
            }
            | more
        )
    )


def ended(code: Code, plan: str = "p") -> HoldEnded:
    return HoldEnded(plan=plan, code=code, **COMMON)


def refused(code: Code = Code.PLAN_CHANGED, decision: str = "d", plan: str = "p") -> DecisionRefused:
    return DecisionRefused(decision_id=decision, plan=plan, code=code, detail="The roster changed.", **COMMON)


def applied(**more: Any) -> Applied:
    return Applied(fetch_id="a", apply=8, collections={"users": CollectionReport(removed=40)}, **COMMON, **more)


def fresh(**more: Any) -> Run:
    return Run(deadline_at=NOW + PATIENCE, **more)


def waiting(*, everything: bool = False, **more: Any) -> Run:
    return tell(fresh(**more), held(everything=everything)).run


def decide(run: Run, action: Action = "approve", decision: str = "d") -> Outcome:
    return holds.decide(run, Decision(id=decision, action=action, by="ada", at=NOW), NOW, patience=PATIENCE)


def tell(run: Run, *facts: Any, now: datetime = NOW) -> Outcome:
    outcome = Outcome(run)
    for fact in facts:
        outcome = hear(outcome.run, fact, now=now, limits=LIMITS)
    return outcome


def test_what_a_held_run_says() -> None:
    """A held run says what was applied, what waits, why, and who may decide until when."""
    outcome = tell(fresh(), held())
    run = outcome.run

    assert (run.state, run.code, run.plan, run.finished_at) == (State.HELD, Code.GUARD_DELETE_HOLD, "p", NOW)
    assert run.detail == (
        "40 of 130 users would go. Everything but removals was applied: 2 records added, 3 changed, 0 removed."
        " 40 removals wait. Whoever may approve runs can decide until 2026-09-08 18:00 UTC; the next sync makes a new"
        " plan, which takes the place of this one."
    )
    assert [entry.sentence for entry in outcome.reasons] == ["All 40 users of one school would go."]
    assert (outcome.applied, outcome.bookmark, outcome.held) == (1, None, True)


def test_everything_held() -> None:
    """Where everything waits, nothing was applied, and the counts are what would happen."""
    outcome = tell(fresh(), held(everything=True))

    assert outcome.applied is None
    assert outcome.run.detail is not None
    assert "Nothing was applied. What waits: 2 records added, 3 changed, 0 removed." in outcome.run.detail
    assert count_waiting(REPORT, everything=True) == {"users": {"added": 2, "changed": 3, "removed": 40}}
    assert count_waiting(REPORT, everything=False) == {"users": {"added": 0, "changed": 0, "removed": 40}}
    assert count_waiting({"orgs": CollectionReport(served=3)}, everything=True) == {}


def test_many_reasons() -> None:
    """The log tells the first limits that were passed and how many more there were."""
    outcome = tell(fresh(), held(reasons=(REASON,) * (MAX_REASONS + 5)))

    assert len(outcome.reasons) == MAX_REASONS + 1
    assert outcome.reasons[-1].sentence == "5 more limits were passed; see the plan."


def test_a_hold_without_a_plan() -> None:
    """What names no plan can't be decided about: the run has ended there."""
    run = tell(fresh(), held(plan="")).run

    assert (run.state, run.open) == (State.HELD, False)
    assert holds.object_to(run, "", NOW) is Code.NOTHING_HELD
    assert tell(run, applied()).run is run


def test_a_hold_without_an_end() -> None:
    """Where the store does not say until when, a plan waits a week and no longer."""
    run = tell(fresh(), held(expires_at=None)).run

    assert run.hold is not None
    assert run.hold.expires_at == NOW + holds.KEEP


@pytest.mark.parametrize("action", ["approve", "additions"])
def test_an_approval(action: Action) -> None:
    """With an approval the run is under way again, with time of its own, and what is applied ends it."""
    decided = decide(waiting(), action)
    bookmark = Bookmark(at=NOW, canonical=1)
    outcome = tell(decided.run, applied(bookmark=bookmark))

    assert (decided.run.state, decided.run.active, decided.run.finished_at) == (State.APPLYING, True, None)
    assert decided.run.deadline_at == NOW + PATIENCE
    assert decided.entry is not None
    assert decided.entry.sentence.startswith("ada approved the plan")
    assert (outcome.run.state, outcome.run.hold, outcome.run.plan) == (State.SUCCEEDED, None, "p")
    assert (outcome.applied, outcome.bookmark, outcome.answer) == (1, bookmark, Answer())


@pytest.mark.parametrize("action", ["discard", "expire"])
def test_throwing_away(action: Action) -> None:
    """To throw a plan away nobody has to wait for another run: the run stays held until the store has done it."""
    run = decide(waiting(), action).run

    assert (run.state, run.active) == (State.HELD, False)
    assert holds.object_to(run, "p", NOW) is Code.HOLD_DECIDED


@pytest.mark.parametrize("code", [Code.HOLD_DISCARDED, Code.HOLD_EXPIRED, Code.HOLD_REPLACED, Code.HOLD_LOST])
@pytest.mark.parametrize("action", [None, *ACTIONS])
def test_the_end_of_a_hold(code: Code, action: Action | None) -> None:
    """Once nothing waits any more, the run ends with the reason: partial if a part was applied, else cancelled."""
    for everything, state in ((False, State.PARTIAL), (True, State.CANCELLED)):
        run = waiting(everything=everything)
        run = decide(run, action).run if action else run
        outcome = tell(run, ended(code))

        assert (outcome.run.state, outcome.run.code, outcome.run.hold) == (state, code, None)
        assert outcome.run.detail is not None
        assert outcome.run.detail.endswith("stays." if not everything else "The roster was not changed.")
        assert outcome.answer == Answer(plan="p")


def test_what_is_not_believed() -> None:
    """Ends of other plans, refusals of other decisions and older pictures leave a run as it is."""
    run = decide(waiting()).run
    strange = (
        ended(Code.HOLD_LOST, plan="other"),
        refused(decision="other"),
        refused(plan="other"),
        held(),
        held(plan="older", at=NOW - timedelta(seconds=1)),
        Failed(code=Code.RUN_OVERTAKEN, detail="x", **COMMON),
        Claimed(worker="w", fetch_id="b", **COMMON),
    )
    for fact in strange:
        assert tell(run, fact).run is run


def test_a_newer_plan_of_the_same_run() -> None:
    """When the store makes a newer plan for the run, that is what waits, and the old decisions are over."""
    run = decide(waiting()).run
    outcome = tell(run, held(plan="newer", at=NOW + timedelta(seconds=1)))

    assert (outcome.run.state, outcome.run.plan) == (State.HELD, "newer")
    assert outcome.answer == Answer(plan="p")
    assert holds.object_to(outcome.run, "p", NOW) is Code.PLAN_CHANGED
    assert holds.object_to(outcome.run, "newer", NOW) is None


def test_a_refusal() -> None:
    """A decision the store can't carry out leaves what waits as it was, to be decided again, with the reason told."""
    outcome = tell(decide(waiting()).run, refused())
    again = decide(outcome.run, decision="e")

    assert (outcome.run.state, outcome.run.code) == (State.HELD, Code.GUARD_DELETE_HOLD)
    assert outcome.entry is not None
    assert outcome.entry.code is Code.PLAN_CHANGED
    assert outcome.answer == Answer(decision_id="d", refused=Code.PLAN_CHANGED)
    assert again.entry is not None
    assert (again.entry.step, again.run.state) == ("decided 2", State.APPLYING)


@pytest.mark.parametrize("code", sorted(holds.GONE))
def test_a_refusal_because_nothing_waits(code: Code) -> None:
    """Where the store says that nothing waits, the run does not wait either."""
    assert tell(decide(waiting()).run, refused(code)).run.code is Code.HOLD_LOST


@pytest.mark.parametrize(("action", "code"), [("discard", Code.HOLD_DISCARDED), ("expire", Code.HOLD_EXPIRED)])
def test_throwing_away_can_not_fail(action: Action, code: Code) -> None:
    """A plan that is not wanted ends, whatever the store says of it, and even if it says nothing at all."""
    run = decide(waiting(everything=True), action).run
    refusal = tell(run, refused()).run
    silence = supervise(run, now=NOW + PATIENCE, limits=LIMITS).run

    assert (refusal.state, refusal.code) == (silence.state, silence.code) == (State.CANCELLED, code)


def test_decided_before() -> None:
    """A refusal because of an earlier decision is waited out: what came of that one is on its way."""
    run = decide(waiting()).run

    assert tell(run, refused(Code.HOLD_DECIDED)).run is run
    assert tell(run, refused(Code.HOLD_DECIDED), applied()).run.state is State.SUCCEEDED


def test_a_store_that_never_answers() -> None:
    """An approval nobody carries out lapses at its deadline: the run is held again and can be decided again."""
    run = decide(waiting()).run
    early = supervise(run, now=NOW + PATIENCE - timedelta(seconds=1), limits=LIMITS)
    late = supervise(run, now=NOW + PATIENCE, limits=LIMITS)

    assert early.run is run
    assert (late.run.state, late.run.active) == (State.HELD, False)
    assert late.answer == Answer(decision_id="d", refused=Code.RUN_DEADLINE)
    assert tell(late.run, applied()).run.state is State.SUCCEEDED


def test_expiry() -> None:
    """An expired plan can't be approved, in the very moment it expires."""
    run = waiting()

    assert holds.object_to(run, "p", EXPIRES - timedelta(microseconds=1)) is None
    assert holds.object_to(run, "p", EXPIRES) is Code.NOTHING_HELD


def test_cancel_leaves_what_is_held() -> None:
    """A held run is not cancelled but discarded."""
    run = waiting()

    assert cancel(run, now=NOW).run is run


def test_cancelled_while_it_was_decided() -> None:
    """Who cancels an approval that is under way gets nothing of it, if the store had not begun."""
    asked = cancel(decide(waiting()).run, now=NOW).run
    refusal = tell(asked, refused())
    success = tell(asked, applied())

    assert asked.state is State.APPLYING
    assert (refusal.run.state, refusal.run.code) == (State.PARTIAL, Code.RUN_CANCELLED)
    assert refusal.unwanted == (1, "p")
    assert success.run.state is State.SUCCEEDED


def test_held_after_a_cancellation() -> None:
    """Who cancelled is not asked about what would be held; the store is told to throw it away."""
    asked = replace(fresh(), state=State.APPLYING, cancel_requested=True)
    nothing, part = (tell(asked, held(everything=everything)) for everything in (True, False))

    assert (nothing.run.state, part.run.state) == (State.CANCELLED, State.PARTIAL)
    assert nothing.unwanted == part.unwanted == (1, "p")
    assert (nothing.applied, part.applied) == (None, 1)


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED, State.SUCCEEDED])
def test_held_after_the_end(state: State) -> None:
    """What is held after the run has ended waits for nobody; it does not come back to life."""
    run = replace(fresh(), state=state, finished_at=NOW)
    outcome = tell(run, held())

    assert outcome.run is run
    assert outcome.unwanted == (1, "p")
    assert tell(replace(run, plan="p"), held()).unwanted is None


def test_held_by_an_older_attempt() -> None:
    """A plan of an attempt that was given up waits for nobody either."""
    run = replace(fresh(), attempt=2, state=State.FETCHING, fetch_id="b")
    outcome = tell(run, held())

    assert outcome.run is run
    assert outcome.unwanted == (1, "p")


def test_an_evaluation() -> None:
    """An evaluation ends with what would change, what would be held, and that nothing was changed (C11)."""
    found = Evaluated(
        fetch_id="a",
        plan="p",
        collections={"users": CollectionReport(added=5, removed=30, quarantined=2)},
        reasons=(REASON,),
        configuration=12,
        **COMMON,
    )
    outcome = tell(fresh(kind="evaluation"), found)

    assert (outcome.run.state, outcome.run.code, outcome.run.plan) == (State.SUCCEEDED, None, "p")
    assert (outcome.applied, outcome.held, outcome.run.hold) == (None, False, None)
    assert outcome.run.detail == (
        "A sync would change the roster: 5 records added, 0 changed, 30 removed. 12 of the removals come from the"
        " options alone. 2 records could not be understood. It would be held until somebody approves it. This was an"
        " evaluation: nothing was changed."
    )
    assert [entry.code for entry in outcome.reasons] == [Code.GUARD_DELETE_HOLD]


def test_a_restore() -> None:
    """A restore is the store's as soon as it was sent, and says that the integration is paused."""
    run = hand_to_store(fresh(kind="restore"), now=NOW).run
    outcome = tell(run, applied())

    assert (run.state, run.started_at) == (State.APPLYING, NOW)
    assert hand_to_store(run, now=NOW).run is run
    assert outcome.run.detail is not None
    assert "brought back: 0 records added, 0 changed, 40 removed. The integration is paused" in outcome.run.detail


def test_a_restore_that_came_late() -> None:
    """What a restore did after it had failed is told, and noted as what was done."""
    failed = replace(fresh(kind="restore"), state=State.FAILED, finished_at=NOW, code=Code.RUN_DEADLINE)
    outcome = tell(failed, applied())

    assert (outcome.run, outcome.applied) == (failed, 1)
    assert outcome.entry is not None
    assert outcome.entry.step == "applied late"
