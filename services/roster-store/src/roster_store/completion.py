"""What becomes of a fetch that says it is complete: refused, held or applied, in one transaction.

Order of checks: was it answered before (the same answer again), is every chunk here, does the store still hold what
the fetch was compared with. Then the plan is made, the guard judges it, and it is applied. Whatever the end, the
fact is kept with the fetch, so that a repeat gets the same answer (architecture §2, "Fencing").
"""

from __future__ import annotations

from functools import partial

import asyncpg
import msgspec

from homeroom.clock import Clock, SystemClock
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.faultpoints import faultpoint
from homeroom.messages import Applied, CollectionReport, Fact, Failed, FetchCompleted, Held
from homeroom.telemetry import APPLY_SECONDS, HOLDS, get_logger
from roster_store.application import ApplyNumber, apply_plan, take_number
from roster_store.guard import judge
from roster_store.plan import Plan, make_plan
from roster_store.staging import end_fetch
from roster_store.tables import SQL

log = get_logger(__name__)

_OUTCOMES: msgspec.json.Decoder[Fact] = msgspec.json.Decoder(Fact)


async def complete_fetch(database: Database, completed: FetchCompleted, clock: Clock | None = None) -> Fact | None:
    """End a fetch and return the fact to publish; None for a fetch that was overtaken or never heard of."""
    with APPLY_SECONDS.time():
        fact = await database.transact(partial(_complete, completed=completed, clock=clock or SystemClock()))
    if isinstance(fact, Held):
        HOLDS.inc()
    if fact is not None:
        log.info("fetch.completed", run_id=completed.run_id, attempt=completed.attempt, outcome=type(fact).__name__)
    return fact


async def _complete(connection: Connection, completed: FetchCompleted, clock: Clock) -> Fact | None:
    number = await take_number(connection)
    integration = await connection.fetchrow(SQL["lock_integration"], completed.integration_id)
    fetch = await connection.fetchrow(SQL["lock_fetch"], completed.fetch_id)
    if integration is None or fetch is None or fetch["state"] in ("overtaken", "abandoned"):
        return None
    if fetch["state"] != "staging":
        return _OUTCOMES.decode(fetch["outcome"])
    if refusal := await _find_refusal(connection, completed, fetch, integration["last_apply"]):
        fact: Fact = Failed(
            run_id=completed.run_id,
            attempt=completed.attempt,
            integration_id=completed.integration_id,
            at=clock.now(),
            code=Code.RUN_INCOMPLETE,
            detail=refusal,
            again=True,
        )
        state = "refused"
    else:
        plan = await make_plan(
            connection, integration["no"], fetch["no"], integration["last_apply"], completed.collections
        )
        fact, state = await _carry_out(connection, completed, plan, number, integration, clock)
    await end_fetch(connection, fetch["no"], state, msgspec.json.encode(fact))
    return fact


async def _carry_out(
    connection: Connection,
    completed: FetchCompleted,
    plan: Plan,
    number: ApplyNumber,
    totals: asyncpg.Record,
    clock: Clock,
) -> tuple[Fact, str]:
    """Hold or apply a plan; the fact and the state the fetch ends in."""
    reports = _merge_counts(completed, plan)
    verdict = judge(plan.collections)
    if verdict.code is not None:
        held = Held(
            run_id=completed.run_id,
            attempt=completed.attempt,
            integration_id=completed.integration_id,
            at=clock.now(),
            fetch_id=completed.fetch_id,
            code=verdict.code,
            detail=verdict.sentence,
            collections=reports,
        )
        return held, "held"
    if plan.changes:
        totals = await _apply(connection, plan, number, completed.run_id)
    applied = Applied(
        run_id=completed.run_id,
        attempt=completed.attempt,
        integration_id=completed.integration_id,
        at=clock.now(),
        fetch_id=completed.fetch_id,
        apply=number.no if plan.changes else None,
        collections=reports,
        issues=completed.issues,
        students=totals["students"],
        teachers=totals["teachers"],
        classes=totals["classes"],
    )
    return applied, "applied"


async def _find_refusal(
    connection: Connection, completed: FetchCompleted, fetch: asyncpg.Record, last_apply: int
) -> str | None:
    staged = await connection.fetchval(SQL["count_chunks"], fetch["no"], completed.chunks)
    if staged != completed.chunks:
        return f"{staged} of {completed.chunks} parts of the picture reached the store."
    if fetch["basis"] != last_apply:
        return "The roster was changed by another run while this one was fetching."
    return None


async def _apply(connection: Connection, plan: Plan, number: ApplyNumber, run_id: str) -> asyncpg.Record:
    segments = await apply_plan(connection, plan, number.no)
    counts = {
        collection: {"added": part.added, "changed": part.changed, "removed": part.removed}
        for collection, part in plan.collections.items()
    }
    await connection.execute(SQL["insert_apply"], number.no, number.xid, plan.integration_no, run_id, segments, counts)
    faultpoint("store.applying")
    totals = await connection.fetchrow(SQL["count_active"], plan.integration_no)
    assert totals is not None  # noqa: S101 - an aggregate always gives a row
    await connection.execute(SQL["finish_integration"], plan.integration_no, number.no, *totals)
    await connection.execute("SELECT pg_notify('roster_apply', '')")
    return totals


def _merge_counts(completed: FetchCompleted, plan: Plan) -> dict[str, CollectionReport]:
    """The gateway's counts, with added, changed and removed as the store really plans them.

    What the gateway took for a change and the store does not (a record made by hand keeps its value, C9) counts as
    filtered, so that the sum stays what was served.
    """
    reports = {}
    for collection, part in plan.collections.items():
        report = completed.collections[collection]
        untouched = report.added + report.changed - part.added - part.changed
        reports[collection] = msgspec.structs.replace(
            report,
            added=part.added,
            changed=part.changed,
            removed=part.removed,
            filtered=report.filtered + untouched,
        )
    return reports
