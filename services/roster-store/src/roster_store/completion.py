"""What becomes of a fetch that says it is complete: refused, held or applied, in one transaction.

Order of checks: was it answered before (the same answer again), is every chunk here, does the store still hold what
the fetch was compared with. Then the plan is made, the guard judges it, what can't be taken as it is (incomplete
schools, enrollments that lead nowhere) is taken out, and the rest is applied. Whatever the end, the fact is kept with
the fetch, so that a repeat gets the same answer (architecture §2, "Fencing").
"""

from __future__ import annotations

from functools import partial

import asyncpg
import msgspec

from homeroom.clock import Clock, SystemClock
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.faultpoints import faultpoint
from homeroom.messages import MAX_REPORTED_ISSUES, Applied, Bookmark, Fact, Failed, FetchCompleted, Held
from homeroom.telemetry import APPLY_SECONDS, HOLDS, get_logger
from roster_store.application import ApplyNumber, apply_plan, take_number
from roster_store.guard import judge
from roster_store.people import join_people, name_unmatched
from roster_store.picture import open_picture
from roster_store.plan import Plan, make_plan
from roster_store.settlement import Settled, merge_counts, settle
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
        picture = await open_picture(
            connection,
            integration["no"],
            fetch["no"],
            first=integration["last_apply"] == 0,
            duplicates=completed.duplicates,
        )
        plan = await make_plan(connection, picture, completed.collections)
        fact, state = await _carry_out(connection, completed, plan, number, integration, clock)
    await end_fetch(connection, fetch["no"], state, msgspec.json.encode(fact))
    return fact


async def _carry_out(
    connection: Connection,
    completed: FetchCompleted,
    plan: Plan,
    number: ApplyNumber,
    integration: asyncpg.Record,
    clock: Clock,
) -> tuple[Fact, str]:
    """Hold or apply a plan; the fact and the state the fetch ends in."""
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
            collections=merge_counts(completed, plan),
        )
        return held, "held"
    settled = await settle(connection, completed, plan)
    totals = integration
    if settled.plan.changes:
        totals = await _apply(connection, settled.plan, number, completed.run_id)
        await join_people(connection, settled.plan, integration)
    unmatched = await name_unmatched(connection, integration)
    issues = (*settled.schools, *unmatched, *settled.others, *completed.issues)
    applied = Applied(
        run_id=completed.run_id,
        attempt=completed.attempt,
        integration_id=completed.integration_id,
        at=clock.now(),
        fetch_id=completed.fetch_id,
        apply=number.no if settled.plan.changes else None,
        collections=merge_counts(completed, settled.plan),
        issues=issues[: max(MAX_REPORTED_ISSUES, len(settled.schools))],
        students=totals["students"],
        teachers=totals["teachers"],
        classes=totals["classes"],
        mode=completed.mode,
        mode_code=completed.mode_code,
        bookmark=_hand_over(completed.bookmark, settled),
    )
    return applied, "applied"


def _hand_over(bookmark: Bookmark | None, settled: Settled) -> Bookmark | None:
    """What the next fetch may build on: nothing after a school was left out, and no increments while somebody waits."""
    if bookmark is None or settled.schools:
        return None
    return msgspec.structs.replace(bookmark, increments=False) if settled.waiting else bookmark


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
    integration_no = plan.picture.integration_no
    segments = await apply_plan(connection, plan, number.no)
    counts = {
        collection: {"added": part.added, "changed": part.changed, "removed": part.removed}
        for collection, part in plan.collections.items()
    }
    await connection.execute(SQL["insert_apply"], number.no, number.xid, integration_no, run_id, segments, counts)
    faultpoint("store.applying")
    totals = await connection.fetchrow(SQL["count_active"], integration_no)
    assert totals is not None  # noqa: S101 - an aggregate always gives a row
    await connection.execute(SQL["finish_integration"], integration_no, number.no, *totals)
    await connection.execute("SELECT pg_notify('roster_apply', '')")
    return totals
