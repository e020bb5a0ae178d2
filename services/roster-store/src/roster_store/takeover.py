"""A new integration takes over the records of a deleted one where their sourcedIds are the same (C8).

The people of a deleted integration stay and can still use the products. When their district comes back through
another integration that is told to take over, the records it names under the same ids become its own: they keep their
version and history, so that products see them go on instead of a second person with the same id. What the new
integration does not name stays with the deleted one, as before.

Rows change hands before the plan is made, in its transaction, so that plan, schools, references and guard see the
roster as it would be and compare old values with new ones: two systems that use the same numbers for different people
are found out like any other change of everybody. A plan that is not applied gives all of them back.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import asyncpg

from homeroom.codes import Code
from homeroom.db import Connection
from homeroom.messages import CollectionReport, RecordIssue, Terms
from roster_store.picture import GONE, Picture, allow_nested_loops, forbid_nested_loops
from roster_store.plan import Plan
from roster_store.staging import staging_name
from roster_store.tables import SQL, TABLES

TAKEN = "taken"
TAKEOVER_SECONDS = 3600.0


async def take_over(
    connection: Connection,
    picture: Picture,
    integration: asyncpg.Record,
    terms: Terms,
    reports: dict[str, CollectionReport],
) -> tuple[Picture, list[RecordIssue]]:
    """Make what is staged under the same id the new integration's; a note instead if that may not be.

    To be called before the plan is made; `settle_takeover` follows when the plan is settled, and then either
    `close_takeover` once it is applied, or `give_back`.
    """
    if terms.takes_over is None or terms.purpose == "restore":
        return picture, []
    old = await connection.fetchrow(SQL["lock_taken"], UUID(terms.takes_over))
    if old is None or old["no"] == picture.integration_no or old["organization_id"] != integration["organization_id"]:
        return picture, [_refuse("no integration of this organization that was ever synced")] if picture.first else []
    await forbid_nested_loops(connection)
    moved = await _move(connection, picture, old["no"], follows="enrollments" in reports)
    if moved is None:
        if not picture.first:
            await allow_nested_loops(connection, picture)
        return picture, []
    # The plan now compares with held rows: statistics that a first load can do without are needed.
    for name in moved.staged:
        await connection.execute(SQL["analyze_staging"].format(staging=staging_name(picture.fetch_no, name)))
    await allow_nested_loops(connection, moved)
    return moved, []


async def _move(connection: Connection, picture: Picture, old_no: int, *, follows: bool) -> Picture | None:
    """Move the rows; None if there were none."""
    taken = f"roster_staging.{staging_name(picture.fetch_no, TAKEN)}"
    await connection.execute(SQL["create_taken"].format(taken=taken))
    moved = 0
    for table in TABLES.values():
        if table.name in picture.staged:
            statement = table.sql("take_over", staging=picture.name(table.name), taken=taken)
            moved += await connection.fetchval(
                statement, picture.integration_no, old_no, table.collection, timeout=TAKEOVER_SECONDS
            )
    if not moved:
        await connection.execute(SQL["drop_staging"].format(staging=staging_name(picture.fetch_no, TAKEN)))
        return None
    picture = replace(picture, first=False, staged=picture.staged | {TAKEN})
    if follows and picture.holds("classes"):
        if GONE not in picture.staged:
            gone = staging_name(picture.fetch_no, GONE)
            await connection.execute(SQL["create_staging"].format(staging=gone, fields="gone_fields"))
            picture = replace(picture, staged=picture.staged | {GONE})
        statement = SQL["take_enrollments"].format(taken=taken, gone=picture.name(GONE))
        await connection.fetchval(statement, picture.integration_no, old_no, timeout=TAKEOVER_SECONDS)
    return picture


async def settle_takeover(connection: Connection, plan: Plan) -> tuple[Plan, list[RecordIssue]]:
    """Give back what was taken out of the picture again, and count what only changes hands."""
    picture = plan.picture
    if TAKEN not in picture.staged:
        return plan, []
    parts = {"taken": picture.name(TAKEN), "gone": picture.name(GONE)}
    no, unchanged = picture.integration_no, {}
    await forbid_nested_loops(connection)
    for collection, table in TABLES.items():
        staging = picture.name(table.name)
        statement = table.sql("give_back_unstaged", staging=staging, **parts)
        await connection.execute(statement, no, collection, timeout=TAKEOVER_SECONDS)
        statement = table.sql("count_taken_unchanged", staging=staging, **parts)
        unchanged[collection] = await connection.fetchval(statement, no, collection, timeout=TAKEOVER_SECONDS)
    await allow_nested_loops(connection, picture)
    counts = await connection.fetch(SQL["count_taken"].format(**parts))
    found = {row["collection"]: row["count"] for row in counts}
    issues = [
        RecordIssue(collection=collection, sourced_id=None, code=Code.TAKEN_OVER, detail=f"{found[collection]:,}")
        for collection in TABLES
        if collection in found
    ]
    parted = {name: replace(part, taken=unchanged[name]) for name, part in plan.collections.items()}
    return plan.amend(parted), issues


async def close_takeover(connection: Connection, plan: Plan, number: int) -> None:
    """After the plan was applied: the other integration is counted again, and its fetches under way are refused."""
    picture = plan.picture
    if TAKEN not in picture.staged:
        return
    await connection.execute(SQL["take_activation"].format(taken=picture.name(TAKEN)), picture.integration_no)
    for row in await connection.fetch(SQL["list_taken_from"].format(taken=picture.name(TAKEN))):
        totals = await connection.fetchrow(SQL["count_active"], row["integration_no"])
        assert totals is not None  # noqa: S101 - an aggregate always gives a row
        await connection.execute(SQL["close_taken"], row["integration_no"], number, *totals)
    await connection.execute(SQL["drop_staging"].format(staging=staging_name(picture.fetch_no, TAKEN)))


async def give_back(connection: Connection, picture: Picture) -> None:
    """Give back everything a plan took over that is not applied (now): held as a whole, or only looked at."""
    if TAKEN not in picture.staged:
        return
    await forbid_nested_loops(connection)
    for collection, table in TABLES.items():
        statement = table.sql("give_back", taken=picture.name(TAKEN))
        await connection.execute(statement, picture.integration_no, collection, timeout=TAKEOVER_SECONDS)
    await connection.execute(SQL["drop_staging"].format(staging=staging_name(picture.fetch_no, TAKEN)))


def _refuse(why: str) -> RecordIssue:
    return RecordIssue(collection="users", sourced_id=None, code=Code.TAKEOVER_UNFIT, detail=why)
