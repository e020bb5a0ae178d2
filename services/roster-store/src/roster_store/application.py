"""Carries a plan out: staged rows into the roster, one set-based statement a collection, inside one transaction.

Every row touched gets the apply's number and its place in the feed: upserts parents first, then removals children
first, so that a reader never sees an enrollment before its class or after it.
"""

from __future__ import annotations

from dataclasses import dataclass

from homeroom.db import Connection
from roster_store.picture import GONE, forbid_nested_loops
from roster_store.plan import Plan
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
    picture = plan.picture
    segments: list[Segment] = []
    place = 0
    for collection, table in TABLES.items():
        if table.name not in picture.staged or collection not in plan.collections:
            continue
        # Without rows of this integration there is nothing to conflict with, and a plain insert is a third faster.
        statement = table.sql(
            "insert_all" if picture.first else "upsert",
            staging=picture.name(table.name),
            columns=table.column_list,
            excluded=", ".join(f'excluded."{column}"' for column in table.columns),
        )
        if not (staged := await connection.fetchval(SQL["count_staged"].format(staging=picture.name(table.name)))):
            continue
        await connection.execute(statement, picture.integration_no, number, place, timeout=APPLY_SECONDS)
        segments.append((collection, place + 1, place + staged))
        place += staged
    # One pass over the district's rows. Nested loops would be one for each row that goes while there are no statistics.
    await forbid_nested_loops(connection)
    for collection, part in reversed(list(plan.collections.items())):
        if not part.removed:
            continue
        statement = TABLES[collection].sql("remove", gone=picture.name(GONE))
        await connection.execute(statement, picture.integration_no, number, place, collection, timeout=APPLY_SECONDS)
        segments.append((collection, place + 1, place + part.removed))
        place += part.removed
    return segments
