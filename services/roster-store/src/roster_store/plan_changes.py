"""Every change of one plan, kept as it was when the plan was made, in a table of its own.

The roster goes on after a plan was looked at; compared later, the plan would seem to say something else. The table
is named after its fetch and dropped when the plan is forgotten.
"""

from __future__ import annotations

import msgspec

from homeroom.db import Connection
from roster_store.picture import GONE, PICTURE_SECONDS
from roster_store.plan import Plan
from roster_store.tables import SQL, TABLES, Table
from roster_store.takeover import TAKEN


def changes_name(fetch_no: int) -> str:
    """The table that keeps the changes of a fetch's plan."""
    return f"roster_staging.p{fetch_no}_changes"


async def keep_changes(connection: Connection, plan: Plan, *, removes: bool, held: bool) -> None:
    """Keep what a plan would add, change and remove; needs an open prospect, which knows what records are called.

    `held` says that a person decides: about all of it, or where some removals were noted as waiting, about those.
    """
    picture = plan.picture
    changes = changes_name(picture.fetch_no)
    apart = removes and held and any(part.held for part in plan.collections.values())
    everything = held and not apart
    await connection.execute(SQL["drop_plan_changes"].format(changes=changes))
    await connection.execute(SQL["create_plan_changes"].format(changes=changes))
    for collection, table in TABLES.items():
        names = {"changes": changes, "collection": collection, "label": SQL[f"label_{table.name}"]}
        if collection in plan.collections and table.name in picture.staged:
            statement = table.sql(
                "note_upserts", staging=picture.name(table.name), differences=_list_differences(table), **names
            )
            await connection.execute(statement, picture.integration_no, everything, timeout=PICTURE_SECONDS)
        if TAKEN in picture.staged:
            statement = SQL["note_taken"].format(taken=picture.name(TAKEN), **names)
            await connection.execute(statement, everything, timeout=PICTURE_SECONDS)
        if removes and GONE in picture.staged:
            statement = picture.sql("note_removals", **names)
            await connection.execute(statement, everything, timeout=PICTURE_SECONDS)
    if apart:
        statement = SQL["mark_waiting"].format(changes=changes, waiting=picture.waiting)
        await connection.execute(statement, timeout=PICTURE_SECONDS)
    await connection.execute(SQL["analyze_plan_changes"].format(changes=changes), timeout=PICTURE_SECONDS)


def list_fields(table: Table) -> list[tuple[str, str]]:
    """A record's fields as columns and by their names in OneRoster, without its id."""
    fields = msgspec.structs.fields(table.record_type)
    return [(field.name, field.encode_name) for field in fields if field.name != "sourced_id"]


def _list_differences(table: Table) -> str:
    """SQL for one `[field, before, after]` a field that differs."""
    return ",\n".join(SQL["note_difference"].format(field=column, camel=name) for column, name in list_fields(table))
