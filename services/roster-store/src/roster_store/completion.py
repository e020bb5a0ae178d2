"""What becomes of a fetch that says it is complete: refused, evaluated, held or applied, in one transaction.

Order of checks: was it answered before (the same answer again), is every chunk here, does the store still hold what
the fetch was compared with. Then the plan is made, what can't be taken as it is (incomplete schools, enrollments that
lead nowhere) is taken out, and the guard judges the rest: it is applied, or what is dangerous of it is held. Whatever
the end, the facts are kept with the fetch, so that a repeat gets the same answer (architecture §2, "Fencing").
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

import asyncpg
import msgspec

from homeroom.clock import Clock, SystemClock
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.messages import (
    MAX_REPORTED_ISSUES,
    Applied,
    Bookmark,
    Evaluated,
    Fact,
    Failed,
    FetchCompleted,
    Held,
    ProductMatching,
    RecordIssue,
    Terms,
)
from homeroom.telemetry import APPLY_SECONDS, HOLDS, get_logger
from roster_store.answers import decode_facts, encode_facts
from roster_store.application import ApplyNumber, take_number
from roster_store.applies import write_apply
from roster_store.evaluation import keep_report
from roster_store.guard import Verdict, find_emptied, judge
from roster_store.guard_facts import count_configured, gather_facts
from roster_store.holding import (
    HOLD_DAYS,
    Rest,
    begin_hold,
    leave_waiting,
    part,
    read_expiry,
    replace_open_holds,
    spare,
    withhold,
)
from roster_store.matching.matcher import count_matching
from roster_store.missing import find_missed_twice, note_missing
from roster_store.people import name_unmatched
from roster_store.picture import GONE, Picture, holds_nothing, open_picture
from roster_store.plan import Plan, make_plan
from roster_store.plan_hash import hash_plan
from roster_store.privacy.blocking import hide_erased, leave_out_erased
from roster_store.protection import remember_schools
from roster_store.settlement import Settled, merge_counts, settle
from roster_store.staging import end_fetch
from roster_store.tables import SQL
from roster_store.takeover import TAKEN, give_back, take_over

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Delays:
    """How long what is not settled at once waits."""

    hold_days: float = HOLD_DAYS
    """Until what is held expires."""
    missing_hours: float = 1.0
    """Until a second run that misses a record proves that it is gone."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A complete fetch, and under which terms it is judged."""

    completed: FetchCompleted
    terms: Terms
    integration: asyncpg.Record
    number: ApplyNumber
    at: datetime
    delays: Delays

    def name(self) -> dict[str, Any]:
        """What every fact about it begins with."""
        done = self.completed
        return {
            "run_id": done.run_id,
            "attempt": done.attempt,
            "integration_id": done.integration_id,
            "at": self.at,
        }

    def describe(self) -> dict[str, Any]:
        """What every fact about its picture begins with."""
        done = self.completed
        return {**self.name(), "fetch_id": done.fetch_id, "mode": done.mode, "mode_code": done.mode_code}


@dataclass(frozen=True, slots=True)
class _End:
    """How a fetch ends."""

    state: str
    facts: Sequence[Fact]
    keep: Collection[str] = ()
    """Staging tables that stay."""


async def complete_fetch(
    database: Database, completed: FetchCompleted, clock: Clock | None = None, delays: Delays | None = None
) -> Sequence[Fact]:
    """End a fetch and return the facts to publish, that of its own run last.

    None for a fetch that was overtaken or never heard of. Facts about other runs say that what they held is replaced.
    """
    clock, delays = clock or SystemClock(), delays or Delays()
    with APPLY_SECONDS.time():
        facts = await database.transact(partial(_complete, completed=completed, clock=clock, delays=delays))
    if facts:
        outcome = type(facts[-1]).__name__
        log.info("fetch.completed", run_id=completed.run_id, attempt=completed.attempt, outcome=outcome)
        if isinstance(facts[-1], Held):
            HOLDS.inc()
    return facts


async def _complete(connection: Connection, completed: FetchCompleted, clock: Clock, delays: Delays) -> Sequence[Fact]:
    number = await take_number(connection)
    integration = await connection.fetchrow(SQL["lock_integration"], completed.integration_id)
    fetch = await connection.fetchrow(SQL["lock_fetch"], completed.fetch_id)
    if integration is None or fetch is None or fetch["state"] in ("overtaken", "abandoned"):
        return ()
    if fetch["state"] != "staging":
        return decode_facts(fetch["outcome"])
    staged = Staged(completed, msgspec.convert(fetch["terms"], Terms), integration, number, clock.now(), delays)
    if refusal := await _find_refusal(connection, completed, fetch, integration["last_apply"]):
        end = _End("refused", [Failed(**staged.name(), code=Code.RUN_INCOMPLETE, detail=refusal, again=True)])
    else:
        end = await _judge(connection, staged, fetch["no"])
    await end_fetch(connection, fetch["no"], end.state, encode_facts(end.facts), keep=end.keep)
    return end.facts


async def _find_refusal(
    connection: Connection, completed: FetchCompleted, fetch: asyncpg.Record, last_apply: int
) -> str | None:
    staged = await connection.fetchval(SQL["count_chunks"], fetch["no"], completed.chunks)
    if staged != completed.chunks:
        return f"{staged} of {completed.chunks} parts of the picture reached the store."
    if fetch["basis"] != last_apply:
        return "The roster was changed by another run while this one was fetching."
    return None


async def _judge(connection: Connection, staged: Staged, fetch_no: int) -> _End:
    """Make the plan of a fetch, settle it, have the guard judge it, and do what its verdict says."""
    completed, terms, first = staged.completed, staged.terms, staged.integration["last_apply"] == 0
    picture, notes = await _open(connection, staged, fetch_no)
    plan = await make_plan(connection, picture, completed.collections)
    # What a person has to look at as a whole is not taken apart before; and what is undone was taken as whole once.
    schools = terms.purpose != "restore" and not find_emptied(plan.collections)
    settled = await settle(connection, completed, plan, schools=schools)
    settled = replace(settled, others=[*notes, *settled.others])
    facts = await gather_facts(connection, settled.plan, completed.collections, terms, first=first)
    verdict = judge(facts, terms.guard)
    if terms.additions_only:
        settled = replace(settled, plan=spare(settled.plan))
    if terms.purpose == "evaluation":
        return await _evaluate(connection, staged, settled, verdict)
    ended: Sequence[Fact] = ()
    if terms.purpose in ("sync", "restore"):
        ended = await replace_open_holds(connection, picture.integration_no, staged.at)
    if verdict.everything:
        return await _hold_everything(connection, staged, settled, verdict, ended)
    if verdict.reasons:
        kept = await withhold(connection, settled.plan, verdict)
        if any(one.held for one in kept.collections.values()):
            return await _hold_removals(connection, staged, replace(settled, plan=kept), verdict, ended)
    applied = await _apply(connection, staged, settled)
    return _End("applied", [*ended, applied])


async def _open(connection: Connection, staged: Staged, fetch_no: int) -> tuple[Picture, list[RecordIssue]]:
    integration, completed = staged.integration, staged.completed
    await find_missed_twice(
        connection, integration["no"], fetch_no, completed, staged.terms, staged.delays.missing_hours
    )
    first = await holds_nothing(connection, integration)
    picture = await open_picture(connection, integration["no"], fetch_no, first=first, duplicates=completed.duplicates)
    erased = await leave_out_erased(connection, picture, integration, staged.terms)
    picture, notes = await take_over(connection, picture, integration, staged.terms, completed.collections)
    return picture, [*erased, *notes]


# ── ends ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _apply(connection: Connection, staged: Staged, settled: Settled) -> Applied:
    totals = await _write(connection, staged, settled)
    return Applied(
        **staged.describe(),
        apply=staged.number.no if settled.plan.changes else None,
        collections=merge_counts(staged.completed, settled.plan),
        issues=await _list_issues(connection, staged, settled),
        students=totals["students"],
        teachers=totals["teachers"],
        classes=totals["classes"],
        matching=await _count_matching(connection, staged),
        bookmark=hand_over(staged.completed.bookmark, settled),
    )


async def _hold_removals(
    connection: Connection, staged: Staged, settled: Settled, verdict: Verdict, ended: Sequence[Fact]
) -> _End:
    """Apply everything but the removals that are kept back."""
    picture = settled.plan.picture
    plan = await hash_plan(connection, picture, run_id=staged.completed.run_id, upserts=False, removals=picture.waiting)
    held = await _tell_hold(connection, staged, settled, verdict, plan)
    await _report(connection, staged, settled, verdict, plan, held.issues)
    await part(connection, picture)
    totals = await _write(connection, staged, settled)
    held = msgspec.structs.replace(
        held,
        everything=False,
        apply=staged.number.no if settled.plan.changes else None,
        issues=await _list_issues(connection, staged, settled),
        students=totals["students"],
        teachers=totals["teachers"],
        classes=totals["classes"],
        matching=await _count_matching(connection, staged),
    )
    await leave_waiting(connection, picture)
    rest = Rest(held=held, bookmark=hand_over(staged.completed.bookmark, settled))
    await begin_hold(connection, picture, rest, [GONE])
    return _End("held", [*ended, held], keep=[GONE])


async def _hold_everything(
    connection: Connection, staged: Staged, settled: Settled, verdict: Verdict, ended: Sequence[Fact]
) -> _End:
    picture = settled.plan.picture
    plan = await _hash_all(connection, staged, settled.plan)
    held = await _tell_hold(connection, staged, settled, verdict, plan)
    await _report(connection, staged, settled, verdict, plan, held.issues)
    await note_missing(connection, picture, staged.completed, staged.terms, believed=False)
    await give_back(connection, picture)
    kept = picture.staged - {TAKEN}
    if staged.terms.additions_only:
        kept -= {GONE}
    rest = Rest(held=held, bookmark=hand_over(staged.completed.bookmark, settled), memory=settled.memory)
    await begin_hold(connection, picture, rest, kept)
    return _End("held", [*ended, held], keep=kept)


async def _evaluate(connection: Connection, staged: Staged, settled: Settled, verdict: Verdict) -> _End:
    """Find out what the picture would change, and change nothing (C11)."""
    picture = settled.plan.picture
    plan = await _hash_all(connection, staged, settled.plan)
    issues = await _list_issues(connection, staged, settled)
    await _report(connection, staged, settled, verdict, plan, issues)
    configured = await count_configured(connection, picture)
    await give_back(connection, picture)
    evaluated = Evaluated(
        **staged.describe(),
        plan=plan,
        collections=merge_counts(staged.completed, settled.plan),
        reasons=verdict.reasons,
        configuration=sum(configured.values()),
        issues=issues,
    )
    return _End("evaluated", [evaluated])


# ── parts of them ─────────────────────────────────────────────────────────────────────────────────────────────────


async def _write(connection: Connection, staged: Staged, settled: Settled) -> asyncpg.Record:
    """Apply a settled plan, and keep what later runs need to know of it."""
    plan, completed = settled.plan, staged.completed
    totals = await write_apply(connection, plan, staged.number, completed.run_id, staged.integration)
    await remember_schools(connection, plan.picture.integration_no, settled.memory)
    await note_missing(connection, plan.picture, completed, staged.terms, believed=True)
    if staged.terms.purpose == "sync":
        await connection.execute(SQL["note_synced"], plan.picture.integration_no, None)
    return totals


async def _tell_hold(connection: Connection, staged: Staged, settled: Settled, verdict: Verdict, plan: str) -> Held:
    assert verdict.code is not None  # noqa: S101 - nothing is held without a reason
    totals = staged.integration
    return Held(
        **staged.describe(),
        code=verdict.code,
        detail=verdict.sentence,
        collections=merge_counts(staged.completed, settled.plan),
        plan=plan,
        expires_at=await read_expiry(connection, staged.delays.hold_days),
        reasons=verdict.reasons,
        issues=await _list_issues(connection, staged, settled),
        students=totals["students"],
        teachers=totals["teachers"],
        classes=totals["classes"],
        matching=await _count_matching(connection, staged),
    )


async def _report(
    connection: Connection,
    staged: Staged,
    settled: Settled,
    verdict: Verdict,
    plan: str,
    issues: Sequence[RecordIssue],
) -> None:
    """Keep what a plan comes to in every detail, for whoever decides."""
    await keep_report(
        connection,
        settled.plan,
        run_id=staged.completed.run_id,
        plan_hash=plan,
        terms=staged.terms,
        collections=merge_counts(staged.completed, settled.plan),
        reasons=verdict.reasons,
        issues=issues,
    )


async def _count_matching(connection: Connection, staged: Staged) -> tuple[ProductMatching, ...]:
    """How the people of the integration stand with products' accounts now (C5)."""
    return await count_matching(connection, staged.integration["no"], staged.integration["organization_id"])


async def _hash_all(connection: Connection, staged: Staged, plan: Plan) -> str:
    picture = plan.picture
    goes = GONE in picture.staged and not staged.terms.additions_only
    removals = picture.name(GONE) if goes else None
    return await hash_plan(connection, picture, run_id=staged.completed.run_id, removals=removals)


async def _list_issues(connection: Connection, staged: Staged, settled: Settled) -> tuple[RecordIssue, ...]:
    """What is to be said about the picture; schools that were left out first, so that nothing cuts them off."""
    unmatched = await name_unmatched(connection, staged.integration)
    told = await hide_erased(connection, staged.integration, [*settled.others, *staged.completed.issues])
    issues = (*settled.schools, *unmatched, *told)
    return issues[: max(MAX_REPORTED_ISSUES, len(settled.schools))]


def hand_over(bookmark: Bookmark | None, settled: Settled) -> Bookmark | None:
    """What the next fetch may build on: nothing after a school was left out, and no increments while somebody waits."""
    if bookmark is None or settled.schools:
        return None
    return msgspec.structs.replace(bookmark, increments=False) if settled.waiting else bookmark
