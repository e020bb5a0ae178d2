"""The state machine of a run under whatever may come: any facts, decisions and times, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from homeroom.codes import Code
from homeroom.messages import (
    Applied,
    Claimed,
    CollectionReport,
    DecisionRefused,
    Evaluated,
    Fact,
    Failed,
    Fetched,
    Held,
    HoldEnded,
    Progress,
    Purpose,
)
from sync_scheduler import holds
from sync_scheduler.runs import ACTIVE, Action, Decision, Limits, Outcome, Run, State
from sync_scheduler.transitions import cancel, hand_to_store, hear, supervise

NOW = datetime(2026, 9, 1, 18, 0, tzinfo=UTC)
LIMITS = Limits(attempts=3, silence=timedelta(seconds=60), first_pause=timedelta(seconds=5))
PATIENCE = timedelta(hours=6)
ENDED = frozenset({State.SUCCEEDED, State.PARTIAL, State.FAILED, State.CANCELLED})
ACTIONS: tuple[Action, ...] = ("approve", "additions", "discard", "expire")
KINDS: tuple[Purpose, ...] = ("sync", "evaluation", "refresh", "restore")

attempts = st.integers(1, 4)
fetches = st.sampled_from(["a", "b"])
plans = st.sampled_from(["p1", "p2", ""])
moments = st.integers(0, 600).map(lambda seconds: NOW + timedelta(seconds=seconds))
reports = st.builds(
    lambda **counts: {"users": CollectionReport(**counts)},
    added=st.integers(0, 1),
    quarantined=st.integers(0, 1),
    unconfirmed=st.integers(0, 1),
    held=st.integers(0, 1),
)
modes = st.sampled_from(["full", "delta"])
mode_codes = st.sampled_from([None, Code.DELTA_DRIFT])
common: dict[str, Any] = {"run_id": st.just("r"), "integration_id": st.just("i"), "at": moments, "attempt": attempts}
pictures: dict[str, Any] = common | {
    "fetch_id": fetches,
    "collections": reports,
    "mode": modes,
    "mode_code": mode_codes,
}
facts: st.SearchStrategy[Fact] = st.one_of(
    st.builds(Claimed, worker=st.just("w"), fetch_id=fetches, **common),
    st.builds(Progress, fetch_id=fetches, served=st.just({"users": 5}), **common),
    st.builds(Fetched, **pictures),
    st.builds(Applied, apply=st.just(7), **pictures),
    st.builds(Evaluated, plan=plans, **pictures),
    st.builds(
        Held,
        code=st.just(Code.GUARD_DELETE_HOLD),
        detail=st.just("Many would go."),
        plan=plans,
        everything=st.booleans(),
        expires_at=st.none() | moments,
        **pictures,
    ),
    st.builds(
        HoldEnded, plan=plans, code=st.sampled_from([Code.HOLD_DISCARDED, Code.HOLD_REPLACED, Code.HOLD_LOST]), **common
    ),
    st.builds(
        DecisionRefused,
        decision_id=st.sampled_from(["d1", "d2"]),
        plan=plans,
        code=st.sampled_from([Code.PLAN_CHANGED, Code.NOTHING_HELD, Code.HOLD_DECIDED]),
        detail=st.just("No."),
        **common,
    ),
    st.builds(
        Failed,
        code=st.sampled_from([Code.PROV_5XX, Code.RUN_CANCELLED, Code.RUN_OVERTAKEN]),
        detail=st.just("It answered 503."),
        again=st.booleans(),
        **common,
    ),
)
decisions = st.builds(
    Decision, id=st.sampled_from(["d1", "d2"]), action=st.sampled_from(ACTIONS), by=st.just("somebody"), at=st.just(NOW)
)
events = st.lists(
    st.one_of(facts, decisions, st.sampled_from(["cancel", "send"]), st.integers(0, 4000)), min_size=3, max_size=30
)
kinds = st.sampled_from(KINDS)


def fresh(kind: Purpose = "sync") -> Run:
    return Run(deadline_at=NOW + PATIENCE, kind=kind)


def step(run: Run, event: Fact | Decision | str | int, now: datetime) -> Outcome:
    if isinstance(event, int):
        return supervise(run, now=now, limits=LIMITS)
    if isinstance(event, Decision):
        return holds.decide(run, event, now, patience=PATIENCE)
    if event == "cancel":
        return cancel(run, now=now)
    if isinstance(event, str):
        return hand_to_store(run, now=now) if run.kind == "restore" else Outcome(run)
    return hear(run, event, now=now, limits=LIMITS)


def check_step(before: Run, event: object, outcome: Outcome) -> None:
    after = outcome.run
    if not before.open:
        assert after is before, "what has ended does not change"
    if before.state in ENDED:
        assert after.state is before.state
    if before.state is State.HELD and after.state in ACTIVE:
        assert isinstance(event, Decision), "only a decision brings a held run back"
    if after.state is not before.state:
        assert outcome.entry is not None, "every step has its sentence"
    if after.state in ENDED:
        assert after.hold is None
        assert (after.code is None) == (after.state is State.SUCCEEDED)
    if after.state is State.HELD:
        assert after.code is not None
    if after.hold is not None:
        assert after.state in (State.HELD, State.APPLYING)
        assert after.state is State.HELD or after.hold.decision is not None
    assert after.attempt >= before.attempt
    assert after.kind == before.kind
    assert (after.finished_at is None) == after.active


@settings(deadline=None, max_examples=400)
@given(kinds, events)
def test_whatever_comes(kind: Purpose, happened: Sequence[Fact | Decision | str | int]) -> None:
    """In any order and however often, a run ends once, by its deadlines at the latest, and stays as it ended."""
    run, now = fresh(kind), NOW
    closing: list[Decision | int] = [
        6 * 3600,  # a run over its deadline fails, an approval nobody answered lapses
        Decision(id="last", action="expire", by="scheduler", at=now),
        6 * 3600,
    ]
    for event in [*happened, *closing, *happened]:
        now += timedelta(seconds=event if isinstance(event, int) else 0)
        outcome = step(run, event, now)
        check_step(run, event, outcome)
        run = outcome.run

    assert not run.open


@settings(deadline=None, max_examples=200)
@given(kinds, st.lists(st.one_of(facts, decisions), max_size=20))
def test_twice_is_as_good_as_once(kind: Purpose, happened: list[Fact | Decision]) -> None:
    """A fact or a decision that comes twice in a row leaves the run as the first time did."""
    run = fresh(kind)
    for event in happened:
        run = step(run, event, NOW).run
        assert step(run, event, NOW).run == run


@settings(deadline=None, max_examples=200)
@given(events)
def test_nothing_waits_for_nobody(happened: Sequence[Fact | Decision | str | int]) -> None:
    """Every plan the store holds is one its run waits with or was decided about, or the store is told to let it go."""
    run, now, known = fresh(), NOW, set[str]()
    for event in happened:
        now += timedelta(seconds=event if isinstance(event, int) else 0)
        outcome = step(run, event, now)
        if isinstance(event, Held) and event.plan and not (run.hold and run.hold.plan != event.plan):
            told = outcome.unwanted[1] if outcome.unwanted else None
            assert event.plan in known or event.plan in (outcome.run.plan, told)
            known.add(event.plan)
        run = outcome.run


def test_the_closing_is_needed() -> None:
    """Without a decision a run that holds something is still open when its deadline has passed: the test can fail."""
    held = Held(
        run_id="r",
        integration_id="i",
        attempt=1,
        at=NOW,
        fetch_id="a",
        code=Code.GUARD_DELETE_HOLD,
        detail="Many would go.",
        collections={},
        plan="p1",
    )
    run = step(fresh(), held, NOW).run

    assert supervise(replace(run), now=NOW + timedelta(days=400), limits=LIMITS).run.open
