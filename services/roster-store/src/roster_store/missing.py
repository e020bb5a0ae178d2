"""Removal by the second proof: what two complete runs missed is gone, what one missed waits (C15).

The gateway names the records it did not see and could not prove gone (`unproved`). Nothing goes because of that
once. The store notes them, and if a later run that also read the collection whole, at least some time after, names
one of them again, it is removed as any other: planned, judged by the guard, told apart by its reason. What was seen in
between is forgotten, so the two runs that miss a record are the last two that could have seen it.

What follows for a record that was with the provider all the time while both runs read: it goes only if both did not
see it and could prove neither that it is there nor that it is not (invariant I5 holds for one run, not for two). A
picture that is held, evaluated or refused adds nothing to what is noted; from a held one only what it saw counts.
"""

from __future__ import annotations

from collections.abc import Mapping

from homeroom.db import Connection
from homeroom.messages import CollectionReport, FetchCompleted, Terms
from roster_store.picture import GONE, PICTURE_SECONDS, Picture, forbid_nested_loops
from roster_store.staging import REMOVALS, list_staged, staging_name
from roster_store.tables import SQL, TABLES, Table

MISSED_TWICE = "missed twice"
"""The reason of a removal that is proved by a second run; it stands in the place of `unproved` in the staged keys."""
_LOOKED_AT = ("sync", "evaluation")


async def find_missed_twice(
    connection: Connection, integration_no: int, fetch_no: int, completed: FetchCompleted, terms: Terms, hours: float
) -> None:
    """Mark which staged keys this is the second complete run for; an evaluation is shown the same.

    Once for a fetch, when it completes: what time makes of the others later is for later runs.
    """
    if terms.purpose not in _LOOKED_AT or not await connection.fetchval(SQL["knows_missing"], integration_no):
        return
    if REMOVALS not in await list_staged(connection, fetch_no):
        return
    await forbid_nested_loops(connection)
    await connection.execute(
        SQL["find_missed_twice"].format(removals=staging_name(fetch_no, REMOVALS)),
        integration_no,
        _list_whole(completed.collections),
        completed.run_number,
        hours * 3600,
        timeout=PICTURE_SECONDS,
    )


async def note_missing(
    connection: Connection, picture: Picture, completed: FetchCompleted, terms: Terms, *, believed: bool
) -> None:
    """Keep who was missed, forget who was seen or went; to be called after the picture was applied or held.

    `believed` is False for a picture that is held as a whole: what it saw is there, what it missed means nothing. The
    same holds where the provider refused a part.
    """
    whole = _list_whole(completed.collections)
    unproved = any(completed.collections[collection].unconfirmed for collection in whole)
    if terms.purpose != "sync":
        return
    knows = await connection.fetchval(SQL["knows_missing"], picture.integration_no)
    if not (knows or unproved):
        return
    staged = await list_staged(connection, picture.fetch_no)
    removals = f"roster_staging.{staging_name(picture.fetch_no, REMOVALS)}" if REMOVALS in staged else "removals_fields"
    await forbid_nested_loops(connection)
    if knows:
        await _forget(connection, picture, removals, whole)
    if believed and unproved and not completed.refused_schools:
        statement = SQL["keep_missing"].format(removals=removals)
        await connection.execute(
            statement, picture.integration_no, whole, completed.run_number, timeout=PICTURE_SECONDS
        )


async def forget_removed(connection: Connection, picture: Picture) -> None:
    """Forget who was removed; to be called after removals that waited for a decision were applied."""
    if GONE in picture.staged and await connection.fetchval(SQL["knows_missing"], picture.integration_no):
        await forbid_nested_loops(connection)
        for table in TABLES.values():
            await _forget_gone(connection, picture, table)


async def _forget(connection: Connection, picture: Picture, removals: str, whole: list[str]) -> None:
    no = picture.integration_no
    await connection.execute(SQL["forget_seen"].format(removals=removals), no, whole, timeout=PICTURE_SECONDS)
    for collection, table in TABLES.items():
        if collection not in whole and picture.holds(collection):
            statement = SQL["forget_staged"].format(staging=picture.name(table.name))
            await connection.execute(statement, no, collection, timeout=PICTURE_SECONDS)
        if GONE in picture.staged:
            await _forget_gone(connection, picture, table)


async def _forget_gone(connection: Connection, picture: Picture, table: Table) -> None:
    statement = table.sql("forget_gone", gone=picture.name(GONE))
    await connection.execute(statement, picture.integration_no, table.collection, timeout=PICTURE_SECONDS)


def _list_whole(reports: Mapping[str, CollectionReport]) -> list[str]:
    """The collections that were read from the beginning to the end."""
    return [collection for collection, report in reports.items() if report.whole and report.wanted]
