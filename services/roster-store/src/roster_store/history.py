"""What records were before they were changed: kept with each apply, for undoing runs and for telling what they did.

Before an apply writes a row, the row as it is goes to `history`, whole, in the same transaction and only if it will
really change. A first load has nothing to keep and pays nothing. The state of a record at any moment is thus the
earliest one that was kept since, or the row itself.
"""

from __future__ import annotations

from homeroom.db import Connection
from roster_store.picture import GONE, Picture
from roster_store.tables import TABLES, Table
from roster_store.takeover import TAKEN

KEEP_SECONDS = 3600.0


async def keep_changed(connection: Connection, picture: Picture, table: Table, number: int) -> None:
    """Keep the rows of a collection that the staged ones will replace; to be called right before."""
    if picture.first:
        return
    statement = table.sql("keep_changed", staging=picture.name(table.name))
    await connection.execute(statement, picture.integration_no, number, table.collection, timeout=KEEP_SECONDS)


async def keep_taken(connection: Connection, picture: Picture, table: Table, number: int, *, removing: bool) -> None:
    """Keep the rows that were taken over as they are; with `removing`, those that go are kept by `keep_removed`."""
    statement = table.sql("keep_taken", taken=picture.name(TAKEN), gone=picture.name(GONE))
    await connection.execute(
        statement, picture.integration_no, number, table.collection, removing, timeout=KEEP_SECONDS
    )


async def keep_removed(connection: Connection, picture: Picture, collection: str, number: int) -> None:
    """Keep the rows of a collection that will be removed; to be called right before."""
    statement = TABLES[collection].sql("keep_removed", gone=picture.name(GONE))
    await connection.execute(statement, picture.integration_no, number, collection, timeout=KEEP_SECONDS)
