"""Who was erased stays out: their records are taken out of a picture before anything is planned with it.

Nothing is looked at where nobody was erased. What is left out counts as filtered, for the gateway counted it as new.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from homeroom.codes import Code
from homeroom.db import Connection
from homeroom.messages import RecordIssue, Terms
from roster_store.picture import PICTURE_SECONDS, Picture
from roster_store.tables import SQL

_NAMED_BY = {"users": "sourced_id", "demographics": "sourced_id", "enrollments": "user_sourced_id"}
"""Which column of a collection says who it is about."""


async def leave_out_erased(
    connection: Connection, picture: Picture, integration: asyncpg.Record, terms: Terms
) -> list[RecordIssue]:
    """Take those who were erased out of what is staged, and say how many they were; without their ids."""
    no, organization = integration["no"], integration["organization_id"]
    if terms.takes_over is not None:
        await connection.execute(SQL["inherit_erased"], no, UUID(terms.takes_over))
    if not await connection.fetchval(SQL["knows_erased"], no):
        return []
    left_out = 0
    for collection, column in _NAMED_BY.items():
        if picture.holds(collection):
            statement = SQL["leave_out_erased"].format(staging=picture.name(collection), column=column)
            gone: int = await connection.fetchval(statement, no, organization, timeout=PICTURE_SECONDS)
            left_out += gone if collection == "users" else 0
    if picture.holds("users"):
        statement = SQL["leave_out_erased_agents"].format(staging=picture.name("users"))
        await connection.execute(statement, no, organization, timeout=PICTURE_SECONDS)
    if not left_out:
        return []
    detail = f"{left_out:,} of those the provider sent"
    return [RecordIssue(collection="users", sourced_id=None, code=Code.PERSON_ERASED, detail=detail)]


async def hide_erased(
    connection: Connection, integration: asyncpg.Record, issues: Sequence[RecordIssue]
) -> tuple[RecordIssue, ...]:
    """The issues without those that name somebody who was erased: the gateway knows nothing of that."""
    named = {(_whose(issue), issue.sourced_id) for issue in issues if issue.sourced_id is not None}
    if not named or not await connection.fetchval(SQL["knows_erased"], integration["no"]):
        return tuple(issues)
    collections, ids = zip(*named, strict=True)
    arguments = (integration["no"], integration["organization_id"], list(collections), list(ids))
    rows = await connection.fetch(SQL["find_erased_ids"], *arguments)
    erased = {(row["collection"], row["sourced_id"]) for row in rows}
    return tuple(issue for issue in issues if (_whose(issue), issue.sourced_id) not in erased)


def _whose(issue: RecordIssue) -> str:
    return "users" if issue.collection == "demographics" else issue.collection
