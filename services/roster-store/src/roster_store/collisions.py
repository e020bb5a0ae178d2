"""Who among the people of a picture has the address, username or number of somebody else (C11, D3).

Nothing is decided by it: an admin who switches a district to a new source sees beforehand who would be there twice.
People of Google Classroom are left out on both sides: they are meant to have the addresses of the SIS's people.
"""

from __future__ import annotations

import asyncpg

from homeroom.db import Connection
from roster_store.people import JOINED_PROVIDER
from roster_store.picture import PICTURE_SECONDS, Picture
from roster_store.plan_changes import changes_name
from roster_store.plans import MOST_EXAMPLES, Colliding, CollidingField, Collision, Whereabouts
from roster_store.tables import SQL

_FIELDS: tuple[CollidingField, ...] = ("email", "username", "identifier")


async def find_collisions(connection: Connection, picture: Picture, integration: asyncpg.Record) -> list[Collision]:
    """People who would be added or changed and share a value with others; needs an open prospect and kept changes."""
    if integration["provider"] == JOINED_PROVIDER:
        return []
    found = []
    for field in _FIELDS:
        names = {"field": field, "changes": changes_name(picture.fetch_no)}
        others = await connection.fetch(
            SQL["find_collisions"].format(**names),
            picture.integration_no,
            integration["organization_id"],
            JOINED_PROVIDER,
            MOST_EXAMPLES,
            timeout=PICTURE_SECONDS,
        )
        within = await connection.fetch(
            SQL["find_collisions_within"].format(**names), MOST_EXAMPLES, timeout=PICTURE_SECONDS
        )
        places: list[tuple[Whereabouts, list[asyncpg.Record]]] = [("elsewhere", others), ("within", within)]
        found += [
            Collision(field=field, where=where, people=rows[0]["people"], examples=_list_examples(rows))
            for where, rows in places
            if rows[0]["people"]
        ]
    return found


def _list_examples(rows: list[asyncpg.Record]) -> list[Colliding]:
    return [
        Colliding(
            sourced_id=row["sourced_id"],
            other_sourced_id=row["other_sourced_id"],
            other_integration_id=row["integration_id"],
            by_hand=row["origin"] == "manual",
        )
        for row in rows
    ]
