"""Lines of the audit log about single records, which are named by nothing that tells who somebody is."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import asyncpg

from homeroom import audit
from homeroom.db import Connection
from roster_store.tables import SQL


async def note_record(
    connection: Connection,
    integration_no: int,
    *,
    by: str,
    collection: str,
    sourced_id: str,
    step: int,
    counts: Mapping[str, Mapping[str, int]],
) -> None:
    """Write down that somebody made, changed or deleted a record by hand, in the transaction that does.

    Args:
        connection: of that transaction.
        integration_no: whose roster it is.
        by: the subject of the caller's token.
        collection: the record's.
        sourced_id: the record's; a person's is written as `hide_id` gives it, others not at all.
        step: the step of the feed that tells what was done.
        counts: {collection: {added, changed, removed}} of that step.
    """
    own = counts.get(collection, {})
    action = "record.delete" if own.get("removed") else "record.create" if own.get("added") else "record.change"
    row = await _describe(connection, integration_no, sourced_id)
    person = {"person": str(row["key"])} if collection in ("users", "demographics") else {}
    await audit.note(
        connection,
        by=by,
        action=action,
        organization=row["organization_id"],
        subject=f"integration:{row['id']}",
        detail={"collection": collection, "step": step, **person},
    )


async def note_start(
    connection: Connection, integration_no: int, product: UUID, *, class_id: str, teacher: str, step: int
) -> None:
    """Write down that a teacher started a class in a product, in the transaction that does."""
    row = await _describe(connection, integration_no, teacher)
    await audit.note(
        connection,
        by=f"product:{product}",
        action="class.start",
        organization=row["organization_id"],
        product=product,
        subject=f"integration:{row['id']}",
        detail={"class": class_id, "step": step, "person": str(row["key"])},
    )


async def _describe(connection: Connection, integration_no: int, sourced_id: str) -> asyncpg.Record:
    row = await connection.fetchrow(SQL["describe_audited"], integration_no, sourced_id)
    assert row is not None  # noqa: S101 - the caller has locked it
    return row
