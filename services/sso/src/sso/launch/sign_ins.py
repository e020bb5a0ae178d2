"""Facts out: a rostered person came into a product. Written down with what let them in, told by the worker."""

from __future__ import annotations

from uuid import UUID

from homeroom.bus import Bus
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.messages import SignedIn, to_sign_ins
from sso.launch.sessions import Session
from sso.statements import SQL

MOST_AT_ONCE = 500


async def note_sign_in(connection: Connection, session: Session, product_id: UUID) -> None:
    """Write down that somebody came into a product, in the transaction that lets them in; nothing for strangers."""
    if session.sourced_id is None or session.integration_id is None:
        return
    await connection.execute(
        SQL["add_sign_in"], new_id(), session.integration_id, session.organization_id, product_id, session.sourced_id
    )


async def tell_sign_ins(database: Database, bus: Bus) -> int:
    """Put what was written down on the bus and forget it; how many. A crash in between tells twice, which is harmless.

    Raises `BusUnavailable` while the bus is away; nothing is lost.
    """
    rows = await database.fetch(SQL["list_sign_ins"], MOST_AT_ONCE)
    if not rows:
        return 0
    await bus.publish(
        *(
            to_sign_ins(
                SignedIn(
                    sign_in_id=str(row["id"]),
                    integration_id=str(row["integration_id"]),
                    organization_id=str(row["organization_id"]),
                    product_id=str(row["product_id"]),
                    user_sourced_id=row["sourced_id"],
                    at=row["at"],
                )
            )
            for row in rows
        )
    )
    await database.fetch(SQL["drop_sign_ins"], [row["id"] for row in rows])
    return len(rows)
