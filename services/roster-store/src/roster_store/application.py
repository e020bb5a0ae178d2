"""Carries a plan out: staged rows into the roster, one set-based statement a collection, inside one transaction.

Every row touched gets the apply's number and its place in the feed: upserts parents first, then removals children
first, so that a reader never sees an enrollment before its class or after it. What a row was before is kept first.
"""

from __future__ import annotations

from dataclasses import dataclass

from homeroom.db import Connection
from roster_store.history import keep_changed, keep_removed, keep_taken
from roster_store.picture import GONE, allow_nested_loops, forbid_nested_loops
from roster_store.plan import Plan
from roster_store.tables import SQL, TABLES, Table
from roster_store.takeover import TAKEN

APPLY_SECONDS = 3600.0

_FOLLOWED = {
    "enrollments": {"users": "user_sourced_id", "classes": "class_sourced_id"},
    "demographics": {"users": "sourced_id"},
}
"""What goes and comes with others: collection → whose, and the column that says so."""

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
        if collection not in plan.collections and collection not in _FOLLOWED:
            continue
        before = place
        place += await _upsert(connection, plan, table, number, place)
        if TAKEN in plan.picture.staged and collection in plan.collections:
            place += await _stamp_taken(connection, plan, table, number, place)
        if collection in _FOLLOWED:
            place += await _revive(connection, plan, table, number, place)
        if place > before:
            segments.append((collection, before + 1, place))
    # One pass over the district's rows. Nested loops would be one for each row that goes while there are no statistics.
    await forbid_nested_loops(connection)
    for collection, part in reversed(list(plan.collections.items())):
        if not part.removed:
            continue
        await keep_removed(connection, plan.picture, collection, number)
        statement = TABLES[collection].sql("remove", gone=plan.picture.name(GONE))
        no = plan.picture.integration_no
        await connection.execute(statement, no, number, place, collection, timeout=APPLY_SECONDS)
        segments.append((collection, place + 1, place + part.removed))
        place += part.removed
    return segments


async def _upsert(connection: Connection, plan: Plan, table: Table, number: int, place: int) -> int:
    """Write what is staged of a collection; how many places that takes in the feed."""
    picture = plan.picture
    if table.name not in picture.staged:
        return 0
    staged: int = await connection.fetchval(SQL["count_staged"].format(staging=picture.name(table.name)))
    if not staged:
        return 0
    await keep_changed(connection, picture, table, number)
    # Without rows of this integration there is nothing to conflict with, and a plain insert is a third faster.
    statement = table.sql(
        "insert_all" if picture.first else "upsert",
        staging=picture.name(table.name),
        columns=table.column_list,
        excluded=", ".join(f'excluded."{column}"' for column in table.columns),
    )
    await connection.execute(statement, picture.integration_no, number, place, timeout=APPLY_SECONDS)
    return staged


async def _revive(connection: Connection, plan: Plan, table: Table, number: int, place: int) -> int:
    """Bring back what was made by hand and went with its class or person, now that those are there again (C9)."""
    picture = plan.picture
    if picture.first:
        return 0
    followed = " AND ".join(
        f"EXISTS (SELECT FROM {owner} AS owner WHERE owner.integration_no = $1 AND owner.sourced_id = held.{column}"  # noqa: S608 - names of our own tables and columns
        f" AND owner.active AND NOT EXISTS (SELECT FROM {picture.name(GONE)} AS gone"
        f" WHERE gone.collection = '{owner}' AND gone.sourced_id = held.{column}))"
        for owner, column in _FOLLOWED[table.collection].items()
    )
    statement = table.sql("revive_followers", followed=followed)
    revived: int = await connection.fetchval(statement, picture.integration_no, number, place, table.collection)
    return revived


async def _stamp_taken(connection: Connection, plan: Plan, table: Table, number: int, place: int) -> int:
    """Let the rest of what was taken over count as updated by this apply: products are told whose it is now."""
    picture, part = plan.picture, plan.collections[table.collection]
    removing = bool(part.removed)
    await forbid_nested_loops(connection)  # the statistics know nothing yet of rows that changed hands
    await keep_taken(connection, picture, table, number, removing=removing)
    stamped: int = await connection.fetchval(
        table.sql("stamp_taken", taken=picture.name(TAKEN), gone=picture.name(GONE)),
        picture.integration_no,
        number,
        place,
        table.collection,
        removing,
        timeout=APPLY_SECONDS,
    )
    await allow_nested_loops(connection, picture)
    return stamped
