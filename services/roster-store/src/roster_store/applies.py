"""An apply as a whole: the roster written, the apply noted with its number, totals and people brought up to date."""

from __future__ import annotations

import asyncpg

from homeroom.db import Connection
from homeroom.faultpoints import faultpoint
from roster_store.application import ApplyNumber, apply_plan
from roster_store.belongings import follow
from roster_store.matching.matcher import follow_takeover, match_applied
from roster_store.people import join_people
from roster_store.plan import Plan
from roster_store.tables import SQL
from roster_store.takeover import close_takeover


async def write_apply(
    connection: Connection, plan: Plan, number: ApplyNumber, run_id: str, integration: asyncpg.Record
) -> asyncpg.Record:
    """Apply a plan and return how many students, teachers and classes are active then; without changes do nothing."""
    if not plan.changes:
        return integration
    segments = await apply_plan(connection, plan, number.no)
    segments += await follow(
        connection, plan.picture.integration_no, number.no, max((last for *_, last in segments), default=0)
    )
    counts = {
        collection: {"added": part.added, "changed": part.changed + part.taken, "removed": part.removed}
        for collection, part in plan.collections.items()
    }
    no = plan.picture.integration_no
    await connection.execute(SQL["insert_apply"], number.no, number.xid, no, run_id, segments, counts)
    faultpoint("store.applying")
    totals = await connection.fetchrow(SQL["count_active"], no)
    assert totals is not None  # noqa: S101 - an aggregate always gives a row
    await connection.execute(SQL["finish_integration"], no, number.no, *totals)
    await follow_takeover(connection, plan)
    await close_takeover(connection, plan, number.no)
    await connection.execute("SELECT pg_notify('roster_apply', '')")
    await join_people(connection, plan, integration)
    await match_applied(connection, no, integration["organization_id"], number.no)
    return totals
