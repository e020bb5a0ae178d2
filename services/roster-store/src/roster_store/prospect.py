"""The roster as it would be after a picture, in temporary tables that last until the end of the transaction.

Made only where a picture is looked at or held: it costs a pass over everything held. What the picture would remove is
there as well, marked as not staying, so that it can be named.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from homeroom.db import Connection
from roster_store.picture import PICTURE_SECONDS, Picture, allow_nested_loops, forbid_nested_loops
from roster_store.tables import SQL, TABLES

_COLLECTIONS = ("orgs", "academicSessions", "courses", "classes", "users", "enrollments")
"""Those with a table of their own, in the order they are made; demographics tell nothing beyond their person."""


@asynccontextmanager
async def open_prospect(connection: Connection, picture: Picture, *, removes: bool) -> AsyncIterator[None]:
    """Make the tables `prospect_orgs` to `prospect_enrollments`, and drop them at the end.

    Without `removes` nothing goes, as for an integration that only adds.
    """
    await forbid_nested_loops(connection)
    await connection.execute(SQL["create_prospect"])
    for collection in _COLLECTIONS:
        table = TABLES[collection]
        coming = picture.sql(
            "coming",
            collection=collection,
            table=table.name,
            staging=picture.name(table.name),
            columns=", ".join(f'"{field}"' for field in table.fields),
        )
        statement = SQL[f"fill_prospect_{table.name}"].format(coming=coming)
        await connection.execute(statement, picture.integration_no, removes, timeout=PICTURE_SECONDS)
    await connection.execute(SQL["analyze_prospect"], timeout=PICTURE_SECONDS)
    yield
    await connection.execute(SQL["drop_prospect"])
    await allow_nested_loops(connection, picture)
