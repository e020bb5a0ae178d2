"""The hash of a plan: what an approval names, so that nothing else than what was looked at can be carried out (C14).

It covers every single change with the version of the record it would change. The same plan on a roster that has
changed since in any of these records is another plan.
"""

from __future__ import annotations

from hashlib import sha256

from homeroom.db import Connection
from roster_store.picture import PICTURE_SECONDS, Picture
from roster_store.tables import TABLES


async def hash_plan(
    connection: Connection, picture: Picture, *, run_id: str, upserts: bool = True, removals: str | None = None
) -> str:
    """SHA-256 in hex over run, fetch and every change; `removals` names the table of what goes, if anything does.

    Postgres streams the changes in order, so that a district of any size is hashed without being held in memory.
    """
    digest = sha256(f"{run_id} {picture.fetch_no}\n".encode())

    async def take(part: bytes) -> None:
        digest.update(part)

    async def hash_rows(label: str, statement: str, *args: object) -> None:
        digest.update(f"{label}\n".encode())
        await connection.copy_from_query(statement, *args, output=take, timeout=PICTURE_SECONDS)

    for collection, table in TABLES.items():
        if upserts and table.name in picture.staged:
            statement = table.sql("hash_upserts", staging=picture.name(table.name))
            await hash_rows(f"{collection} come", statement, picture.integration_no)
        if removals is not None:
            statement = table.sql("hash_removals", removals=removals)
            await hash_rows(f"{collection} go", statement, picture.integration_no, collection)
    return digest.hexdigest()
