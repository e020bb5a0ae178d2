"""Decisions about what is held: each counts once, for exactly the plan it names, while the roster is as it was (C14).

Under the lock of the integration the hash is made again from what is staged and what the roster holds. Only if it is
the one that was looked at the plan is applied, as an apply of its own with number and events; the guard is not asked
again, but no enrollment may point nowhere, so references are settled once more. Each decision is kept with its answer:
whoever sends it again gets the same, and nobody can use it for anything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from uuid import UUID

import asyncpg
import msgspec

from homeroom.clock import Clock, SystemClock
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.messages import (
    MAX_REPORTED_ISSUES,
    Applied,
    CollectionReport,
    Decide,
    DecisionRefused,
    Fact,
    RecordIssue,
    Terms,
)
from homeroom.telemetry import get_logger
from roster_store.answers import decode_facts, encode_facts
from roster_store.application import ApplyNumber, take_number
from roster_store.applies import write_apply
from roster_store.completion import hand_over
from roster_store.guard import CollectionPlan
from roster_store.holding import Rest, count_rows, end_hold, read_rest
from roster_store.matching.matcher import count_matching
from roster_store.missing import forget_removed
from roster_store.picture import GONE, Picture, forbid_nested_loops, holds_nothing
from roster_store.plan import Plan
from roster_store.plan_hash import hash_plan
from roster_store.protection import remember_schools
from roster_store.settlement import Settled, settle_again
from roster_store.staging import drop_staged, list_staged
from roster_store.tables import SQL
from roster_store.takeover import give_back, take_over

log = get_logger(__name__)

_NOT_HELD = "Nothing of this run is held any more."
_OTHER_PLAN = "What is held of this run is another plan than the decision names."
_ROSTER_CHANGED = "The roster changed since the plan was made, so it can't be carried out as it was looked at."
_DECIDED = "Somebody decided about this plan before."


@dataclass(frozen=True, slots=True)
class _Case:
    """A decision, and what it is about."""

    command: Decide
    integration: asyncpg.Record
    number: ApplyNumber
    at: datetime
    hold: asyncpg.Record
    rest: Rest

    @property
    def terms(self) -> Terms:
        """What the picture was judged under."""
        return msgspec.convert(self.hold["terms"], Terms)

    @property
    def removes(self) -> bool:
        """Whether what waits to be removed goes."""
        return self.command.action == "approve" and not self.terms.additions_only


async def carry_out(database: Database, command: Decide, clock: Clock | None = None) -> Sequence[Fact]:
    """Carry a decision out, or say why not; the facts to publish. Done twice, it answers the same."""
    facts = await database.transact(partial(_carry_out, command=command, clock=clock or SystemClock()))
    outcome = ", ".join(type(fact).__name__ for fact in facts)
    log.info("decision.answered", run_id=command.run_id, action=command.action, outcome=outcome)
    return facts


async def _carry_out(connection: Connection, command: Decide, clock: Clock) -> Sequence[Fact]:
    number = await take_number(connection)
    integration = await connection.fetchrow(SQL["lock_integration"], command.integration_id)
    if integration is None:
        return [_refuse(command, clock.now(), Code.NOTHING_HELD, _NOT_HELD)]
    if (answered := await connection.fetchval(SQL["find_decision"], command.decision_id)) is not None:
        return decode_facts(answered)
    facts = await _decide(connection, command, integration, number, clock.now())
    await connection.execute(
        SQL["insert_decision"],
        command.decision_id,
        integration["no"],
        command.run_id,
        command.plan,
        command.action,
        command.by,
        command.at,
        encode_facts(facts),
    )
    return facts


async def _decide(
    connection: Connection, command: Decide, integration: asyncpg.Record, number: ApplyNumber, at: datetime
) -> Sequence[Fact]:
    hold = await connection.fetchrow(SQL["lock_hold"], integration["no"], UUID(command.run_id), command.plan)
    if objection := _object(hold, command):
        return [_refuse(command, at, *objection)]
    assert hold is not None  # noqa: S101 - that would have been objected to
    case = _Case(command, integration, number, at, hold, read_rest(hold["rest"]))
    if command.action == "discard":
        return [await _end(connection, case, Code.HOLD_DISCARDED)]
    if command.action == "expire" or hold["expired"]:
        return [await _end(connection, case, Code.HOLD_EXPIRED)]
    if not await _is_all_there(connection, hold):
        return [await _end(connection, case, Code.HOLD_LOST)]
    return await _approve(connection, case)


def _object(hold: asyncpg.Record | None, command: Decide) -> tuple[Code, str] | None:
    """Why a decision can't be about what is held of its run."""
    if hold is None:
        return Code.NOTHING_HELD, _NOT_HELD
    if hold["plan"] != command.plan and hold["state"] == "open":
        return Code.PLAN_CHANGED, _OTHER_PLAN
    if hold["plan"] == command.plan and hold["state"] in ("approved", "discarded"):
        return Code.HOLD_DECIDED, _DECIDED
    return None if hold["state"] == "open" else (Code.NOTHING_HELD, _NOT_HELD)


async def _is_all_there(connection: Connection, hold: asyncpg.Record) -> bool:
    """Whether everything is still staged that was when it was held."""
    kept: Mapping[str, int] = hold["staged"]
    if not kept.keys() <= await list_staged(connection, hold["fetch_no"]):
        return False
    return all([await count_rows(connection, hold["fetch_no"], name) == rows for name, rows in kept.items()])


async def _approve(connection: Connection, case: _Case) -> Sequence[Fact]:
    """Apply what waits, all of it or all but the removals, if it still is what was looked at."""
    hold, everything = case.hold, case.hold["everything"]
    told = case.rest.held.collections
    picture, notes = await _open_again(connection, case)
    removals = picture.name(GONE) if GONE in picture.staged else None
    run_id = case.rest.held.run_id
    if await hash_plan(connection, picture, run_id=run_id, upserts=everything, removals=removals) != hold["plan"]:
        await give_back(connection, picture)
        refused = _refuse(case.command, case.at, Code.PLAN_CHANGED, _ROSTER_CHANGED)
        return [refused, await _end(connection, case, Code.HOLD_REPLACED)]
    if not case.removes:
        picture = replace(picture, staged=picture.staged - {GONE})
    plan = Plan(picture, {name: _plan_again(report, case) for name, report in told.items()})
    settled = await settle_again(connection, plan, told)
    totals = await write_apply(connection, settled.plan, case.number, run_id, case.integration)
    await remember_schools(connection, picture.integration_no, case.rest.memory)
    await forget_removed(connection, picture)
    await connection.execute(SQL["end_hold"], hold["no"], "approved")
    if case.terms.purpose == "sync":
        await connection.execute(SQL["note_synced"], picture.integration_no, hold["held_at"])
    await drop_staged(connection, hold["fetch_no"])
    fact = _tell(case, settled, totals, notes)
    no, organization = picture.integration_no, case.integration["organization_id"]
    return [msgspec.structs.replace(fact, matching=await count_matching(connection, no, organization))]


async def _open_again(connection: Connection, case: _Case) -> tuple[Picture, Sequence[RecordIssue]]:
    """The picture as it was when it was held, with what it takes over."""
    no, fetch_no = case.integration["no"], case.hold["fetch_no"]
    first = await holds_nothing(connection, case.integration)
    picture = Picture(no, fetch_no, first, frozenset(case.hold["staged"]))
    if first:
        await forbid_nested_loops(connection)
    if not case.hold["everything"] or case.terms.takes_over is None:
        return picture, ()
    if GONE in picture.staged:  # enrollments that come along are found anew
        await connection.execute(picture.sql("forget_taken_enrollments"))
    return await take_over(connection, picture, case.integration, case.terms, case.rest.held.collections)


def _plan_again(report: CollectionReport, case: _Case) -> CollectionPlan:
    """What waits of a collection, as it was told."""
    everything = case.hold["everything"]
    removed = report.removed if everything else report.held
    return CollectionPlan(
        served=report.served,
        holds_any=True,
        added=report.added if everything else 0,
        changed=report.changed if everything else 0,
        removed=removed if case.removes else 0,
    )


def _tell(case: _Case, settled: Settled, totals: asyncpg.Record, notes: Sequence[RecordIssue]) -> Applied:
    """The fact of the held run, as if nothing of it had waited."""
    held = case.rest.held
    issues = (*held.issues, *notes, *settled.others)
    whole = case.command.action == "approve" or not any(
        report.removed + report.held for report in held.collections.values()
    )
    return Applied(
        run_id=held.run_id,
        attempt=held.attempt,
        integration_id=held.integration_id,
        at=case.at,
        fetch_id=held.fetch_id,
        apply=case.number.no if settled.plan.changes else None,
        collections=_count(case, settled.plan),
        issues=issues[: max(MAX_REPORTED_ISSUES, len(held.issues))],
        students=totals["students"],
        teachers=totals["teachers"],
        classes=totals["classes"],
        mode=held.mode,
        mode_code=held.mode_code,
        bookmark=hand_over(case.rest.bookmark, settled) if whole else None,
    )


def _count(case: _Case, plan: Plan) -> dict[str, CollectionReport]:
    """The counts of the whole run: what was told when it was held, with what became of that."""
    everything, counts = case.hold["everything"], dict[str, CollectionReport]()
    for name, part in plan.collections.items():
        report = case.rest.held.collections.get(name) or CollectionReport(whole=False)
        if everything:
            applied_before, waited = 0, report.removed
            report = msgspec.structs.replace(report, added=part.added, changed=part.changed + part.taken)
        else:
            applied_before, waited = report.removed, report.held
        left_out = report.held if everything else 0
        counts[name] = msgspec.structs.replace(
            report,
            quarantined=report.quarantined + part.quarantined,
            removed=applied_before + part.removed,
            held=left_out if case.removes else left_out + waited,
        )
    return counts


async def _end(connection: Connection, case: _Case, code: Code) -> Fact:
    return await end_hold(connection, case.hold["no"], case.hold["fetch_no"], case.rest, code, case.at)


def _refuse(command: Decide, at: datetime, code: Code, detail: str) -> DecisionRefused:
    return DecisionRefused(
        run_id=command.run_id,
        attempt=command.attempt,
        integration_id=command.integration_id,
        at=at,
        decision_id=command.decision_id,
        plan=command.plan,
        code=code,
        detail=detail,
    )
