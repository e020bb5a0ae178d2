"""How much of a picture touches each school: what is held there, and what would be added, changed and removed.

One pass a collection over the district's rows, whatever the number of its schools. An ordinary night does not ask:
the passes are made where the guard needs them, where something is held, and for evaluations.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from homeroom.db import Connection
from roster_store.picture import PICTURE_SECONDS, Picture, allow_nested_loops, forbid_nested_loops
from roster_store.tables import TABLES


@dataclass(frozen=True, slots=True)
class SchoolCounts:
    """Of one collection at one school; only active synced records count, as only they are a sync's to change."""

    held: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    configured: int = 0
    """Of the removed, those that go because of the integration's options."""
    following: int = 0
    """Of the removed, enrollments of people who go as well."""


async def count_by_school(
    connection: Connection, picture: Picture, collections: Collection[str] | None = None
) -> Mapping[str, Mapping[str, SchoolCounts]]:
    """School's sourcedId → collection → counts; a district's own org stands among them where anything is of it.

    All collections that belong to schools, or those that are named. People count at every school they have a role in,
    those who change also where they were before. Enrollments are of the school they name, or else of their class's.
    Demographics and sessions are of no school.
    """
    statements = {
        "orgs": picture.sql("count_orgs_by_school"),
        "courses": _of_records(picture, "courses", "org_sourced_id"),
        "classes": _of_records(picture, "classes", "school_sourced_id"),
        "users": picture.sql("count_users_by_school"),
        "enrollments": picture.sql("count_enrollments_by_school"),
    }
    counts: dict[str, dict[str, SchoolCounts]] = defaultdict(dict)
    await forbid_nested_loops(connection)
    for collection, statement in statements.items():
        if collections is not None and collection not in collections:
            continue
        for row in await connection.fetch(statement, picture.integration_no, timeout=PICTURE_SECONDS):
            school, *numbers = row.values()
            counts[school][collection] = SchoolCounts(*(int(number or 0) for number in numbers))
    await allow_nested_loops(connection, picture)
    return counts


def _of_records(picture: Picture, collection: str, school: str) -> str:
    table = TABLES[collection].name
    return picture.sql(
        "count_records_by_school", collection=collection, table=table, staging=picture.name(table), school=school
    )
