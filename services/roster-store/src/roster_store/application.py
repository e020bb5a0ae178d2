"""Carries a plan out: staged rows into the roster, one set-based statement a collection, inside one transaction.

Every row touched gets the apply's number and its place in the feed: upserts parents first, then removals children
first, so that a reader never sees an enrollment before its class or after it.
"""

from __future__ import annotations

from dataclasses import dataclass

from homeroom.db import Connection
from roster_store.plan import Plan
from roster_store.staging import REMOVALS, staging_name
from roster_store.tables import SQL, TABLES

APPLY_SECONDS = 3600.0

Segment = tuple[str, int, int]
"""Collection, first and last place in the feed."""


@dataclass(frozen=True, slots=True)
class ApplyNumber:
    """An apply's number and the id of its transaction."""

    no: int
    xid: str


async def take_number(connection: Connection) -> ApplyNumber:
    """An apply's number and transaction id, growing in the same order.

    Must be the transaction's first statement: an id taken earlier, by a row lock, would not fit the number's order.
    """
    row = await connection.fetchrow(SQL["take_apply_no"])
    assert row is not None  # noqa: S101 - the statement always gives a row
    return ApplyNumber(row["no"], row["xid"])


async def apply_plan(connection: Connection, plan: Plan, number: int) -> list[Segment]:
    """Write the plan to the roster and return where in the feed each collection's changes stand."""
    segments: list[Segment] = []
    place = 0
    for collection, table in TABLES.items():
        if table.name not in plan.staged or collection not in plan.collections:
            continue
        # Without rows of this integration there is nothing to conflict with, and a plain insert is a third faster.
        statement = table.sql(
            "insert_all" if plan.first else "upsert",
            staging=staging_name(plan.fetch_no, table.name),
            columns=table.column_list,
            excluded=", ".join(f'excluded."{column}"' for column in table.columns),
        )
        staged = await connection.fetchval(SQL["count_staged"].format(staging=staging_name(plan.fetch_no, table.name)))
        await connection.execute(statement, plan.integration_no, number, place, timeout=APPLY_SECONDS)
        segments.append((collection, place + 1, place + staged))
        place += staged
    await connection.execute(SQL["forbid_nested_loops"])  # see `plan`: keys have no index
    for collection, part in reversed(list(plan.collections.items())):
        if not part.removed:
            continue
        statement = TABLES[collection].sql("remove", staging=staging_name(plan.fetch_no, REMOVALS))
        staged = await connection.fetchval(
            SQL["count_removals"].format(staging=staging_name(plan.fetch_no, REMOVALS)), collection
        )
        await connection.execute(statement, plan.integration_no, number, place, collection, timeout=APPLY_SECONDS)
        segments.append((collection, place + 1, place + staged))
        place += staged
    return segments
