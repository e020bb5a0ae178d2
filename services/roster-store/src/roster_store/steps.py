"""Steps of the feed that no sync made: records by hand, licenses that begin and end, classes that wake up.

They take their numbers where applies of syncs do, so there is one order for everything a reader is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from homeroom.db import Connection
from roster_store.application import ApplyNumber, Segment
from roster_store.matching.matcher import match_step
from roster_store.tables import SQL

Kind = Literal["manual", "license", "class-started", "signed-in", "erasure", "schools"]


async def add_step(
    connection: Connection,
    number: ApplyNumber,
    kind: Kind,
    integration_no: int,
    *,
    product_id: UUID | None = None,
    detail: Mapping[str, Any] | None = None,
    segments: Sequence[Segment] = (),
    counts: Mapping[str, Mapping[str, int]] | None = None,
) -> None:
    """Note a step; it stands if the transaction does.

    Args:
        connection: in a transaction whose first statement was `application.take_number`.
        number: what that gave.
        kind: what kind of step it is.
        integration_no: whose roster it is about.
        product_id: the one product whose feed it belongs to; None for everybody's.
        detail: what it is about, by kind; ids only.
        segments: where in the step each collection's changed rows stand (`changed_by`, `change_no`), in feed order.
        counts: {collection: {added, changed, removed}}.
    """
    await connection.execute(
        SQL["insert_step"],
        number.no,
        number.xid,
        integration_no,
        kind,
        product_id,
        dict(detail or {}),
        [list(segment) for segment in segments],
        {name: dict(count) for name, count in (counts or {}).items()},
    )
    await connection.execute("SELECT pg_notify('roster_apply', '')")
    if kind != "license":
        woken = [detail["user"]] if detail and "user" in detail else []
        await match_step(connection, integration_no, number.no, woken)
