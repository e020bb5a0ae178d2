"""What waits in the store until somebody decides: held, decided, refused, ended. Pure decisions (C14).

A decision is believed to be under way until the store answers it. An approval makes the run active again, so that no
other run comes between; to throw away what waits, nobody has to wait for anybody. Where the store never answers, time
decides: an approval becomes undecided again, a discarded or expired plan is let go.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import msgspec

from homeroom.codes import Code
from homeroom.messages import Applied, Claimed, DecisionRefused, Fact, Held, HoldEnded, Progress
from sync_scheduler.run_ends import end, finish, follow, tell_hold, tell_reasons, turn_mode
from sync_scheduler.runs import Action, Answer, Decision, Entry, Hold, Outcome, Run, State, Stop

KEEP = timedelta(days=7)
"""How long something waits where the store does not say until when."""

GONE = frozenset({Code.NOTHING_HELD, Code.HOLD_LOST, Code.PLAN_GONE})
"""Refusals that say that nothing waits any more."""

_DECIDED: dict[Action, str] = {
    "approve": "approved the plan; the store applies what was held",
    "additions": "approved the plan without its removals; the store applies the rest",
    "discard": "discarded the plan; the store throws away what was held",
}
_ENDED: dict[Code, str] = {
    Code.HOLD_DISCARDED: "What was held was discarded.",
    Code.HOLD_EXPIRED: "Nobody decided in time, so what was held was thrown away.",
    Code.HOLD_REPLACED: "A newer plan or a change of the roster took the place of what was held.",
    Code.HOLD_LOST: "What was held is not in the store any more; a sync makes a new plan.",
}


def hold(run: Run, fact: Held, now: datetime) -> Outcome:
    """The guard keeps something back: the run waits for a decision, or ends where a decision could name nothing."""
    known = run.plan is not None
    run, turn = turn_mode(follow(run, fact, now), fact)
    applied = None if fact.everything else fact.attempt
    if not fact.plan:
        ended = end(run, State.HELD, "held", now, code=fact.code, detail=fact.detail)
        return replace(ended, turn=turn, applied=applied, held=True)
    waiting = Hold(
        plan=fact.plan,
        code=fact.code,
        sentence=fact.detail,
        at=fact.at,
        expires_at=fact.expires_at or now + KEEP,
        everything=fact.everything,
        reasons=fact.reasons,
    )
    run = replace(run, hold=waiting, plan=fact.plan)
    if run.cancel_requested:
        return replace(_give_up(run, now), applied=applied, turn=turn)
    detail = f"{fact.detail} {tell_hold(fact, waiting.expires_at)}"
    outcome = end(run, State.HELD, "held again" if known else "held", now, code=fact.code, detail=detail)
    others = [reason for reason in fact.reasons if reason.sentence != fact.detail]
    return replace(outcome, turn=turn, applied=applied, held=True, reasons=tell_reasons(run.attempt, others))


def object_to(run: Run, plan: str, now: datetime) -> Code | None:
    """Why a decision about this plan can't be taken now; None if it can."""
    if run.hold is None:
        return Code.NOTHING_HELD
    if run.hold.plan != plan:
        return Code.PLAN_CHANGED
    if run.hold.decision is not None or run.state is not State.HELD:
        return Code.HOLD_DECIDED
    if run.hold.expires_at <= now:
        return Code.NOTHING_HELD
    return None


def decide(run: Run, decision: Decision, now: datetime, *, patience: timedelta) -> Outcome:
    """Take a decision about what a held run waits with; the store has `patience` to carry it out."""
    if run.state is not State.HELD or run.hold is None or run.hold.decision is not None:
        return Outcome(run)
    number = run.hold.decisions + 1
    decided = replace(
        run,
        hold=msgspec.structs.replace(run.hold, decision=decision, decisions=number),
        deadline_at=now + patience,
    )
    if decision.action in ("approve", "additions"):
        decided = replace(decided, state=State.APPLYING, code=None, detail=None, finished_at=None)
    sentence = (
        "Nobody decided in time; the store is told to throw away what was held."
        if decision.action == "expire"
        else f"{decision.by} {_DECIDED[decision.action]}."
    )
    return Outcome(decided, Entry(_number("decided", number), run.attempt, sentence))


def hear(run: Run, fact: Fact, now: datetime) -> Outcome:
    """Take a fact about a run into account of which something waits, decided or not."""
    waiting = run.hold
    outcome = Outcome(run)
    match fact:
        case Applied():
            outcome = finish(run, fact, now)
        case Held() if waiting is not None and _is_newer(fact, waiting) and fact.attempt >= run.attempt:
            following = hold(replace(run, attempt=fact.attempt), fact, now)
            outcome = replace(following, answer=Answer(plan=waiting.plan))
        case HoldEnded() if waiting is not None and fact.plan == waiting.plan:
            outcome = let_go(run, fact.code, now)
        case DecisionRefused() if waiting is not None:
            outcome = _refuse(run, fact, waiting, now)
        case Claimed() | Progress():  # a twin, or a zombie: the picture was made
            outcome = Outcome(run, stop=Stop(max(run.attempt, fact.attempt) + 1, Code.RUN_OVERTAKEN))
    return outcome


def supervise(run: Run, now: datetime) -> Outcome:
    """Judge a decision by the time the store has taken over it."""
    waiting = run.hold
    if waiting is None or waiting.decision is None or now < run.deadline_at:
        return Outcome(run)
    if run.state is State.HELD:
        discarded = waiting.decision.action == "discard"
        return let_go(run, Code.HOLD_DISCARDED if discarded else Code.HOLD_EXPIRED, now)
    sentence = "The store has not carried out the decision in time; what was held waits as before."
    return _wait_again(run, waiting, Code.RUN_DEADLINE, sentence, now)


def let_go(run: Run, code: Code, now: datetime) -> Outcome:
    """What waited is not there any more: the run ends with what was applied of it."""
    applied_before = run.hold is not None and not run.hold.everything
    rest = "What was applied before stays." if applied_before else "The roster was not changed."
    detail = f"{_ENDED.get(code, f'{code.entry.title}.')} {rest}"
    ended = end(run, State.PARTIAL if applied_before else State.CANCELLED, "hold ended", now, code=code, detail=detail)
    return replace(ended, answer=Answer(plan=run.plan))


def _is_newer(fact: Held, waiting: Hold) -> bool:
    return bool(fact.plan) and fact.plan != waiting.plan and fact.at > waiting.at


def _refuse(run: Run, fact: DecisionRefused, waiting: Hold, now: datetime) -> Outcome:
    if waiting.decision is None or fact.decision_id != waiting.decision.id or fact.plan != waiting.plan:
        return Outcome(run)
    if fact.code is Code.HOLD_DECIDED:  # an earlier decision was carried out, and what came of it is on its way
        return Outcome(run)
    if waiting.decision.action == "discard":
        return let_go(run, Code.HOLD_DISCARDED, now)
    if waiting.decision.action == "expire":
        return let_go(run, Code.HOLD_EXPIRED, now)
    if fact.code in GONE:
        return let_go(run, Code.HOLD_LOST, now)
    return _wait_again(run, waiting, fact.code, f"The decision could not be carried out: {fact.detail}", now)


def _wait_again(run: Run, waiting: Hold, code: Code, sentence: str, now: datetime) -> Outcome:
    """The decision does not count; another may be taken, unless the run is not wanted any more."""
    answer = Answer(decision_id=waiting.decision.id if waiting.decision else None, refused=code)
    undecided = replace(run, hold=msgspec.structs.replace(waiting, decision=None))
    if run.cancel_requested:
        return replace(_give_up(undecided, now), answer=answer)
    back = replace(undecided, state=State.HELD, code=waiting.code, detail=waiting.sentence, finished_at=now)
    step = _number("decision refused", waiting.decisions)
    return Outcome(back, Entry(step, run.attempt, sentence, code), answer=answer)


def _give_up(run: Run, now: datetime) -> Outcome:
    """Somebody cancelled the run before anything of it waited: nobody is to be asked about it."""
    applied_before = run.hold is not None and not run.hold.everything
    state = State.PARTIAL if applied_before else State.CANCELLED
    detail = (
        "The run was cancelled; what was applied before stays, what would have been held is thrown away."
        if applied_before
        else "The run was cancelled; the roster was not changed."
    )
    ended = end(run, state, "cancelled", now, code=Code.RUN_CANCELLED, detail=detail)
    return replace(ended, unwanted=(run.attempt, run.plan or ""))


def _number(step: str, number: int) -> str:
    return step if number <= 1 else f"{step} {number}"
