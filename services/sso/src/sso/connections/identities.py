"""Whom the users of a connection's portal are tied to: ended by an admin where that is not true any more (E4).

A portal that gives a user to somebody else while the one before is still on the roster can't be told from one that
errs, or is attacked; such sign-ins are refused with SIGNIN_AMBIGUOUS. Whoever knows better ends the tie here.
"""

from __future__ import annotations

from functools import partial
from uuid import UUID

from homeroom import audit
from homeroom.db import Connection, Database
from sso.connections.registry import no_connection
from sso.statements import SQL


async def untie(database: Database, connection_id: UUID, sourced_id: str, visible: UUID | None, *, by: str) -> int:
    """End every tie of a connection to whom its roster calls that now; how many there were. Problem NOT_FOUND.

    Their sessions by the connection end, too. Each of the portal's users is tied anew when they next sign in: to whom
    the portal's key leads then. The person themself stays who they are to products, whoever is tied to them later.
    """
    write = partial(_untie, connection_id=connection_id, sourced_id=sourced_id, visible=visible, by=by)
    return await database.transact(write)


async def _untie(connection: Connection, connection_id: UUID, sourced_id: str, visible: UUID | None, by: str) -> int:
    row = await connection.fetchrow(SQL["show_connection"], connection_id, visible)
    if row is None:
        raise no_connection(connection_id)
    who = (connection_id, row["integration_id"], sourced_id)
    ended = await connection.fetch(SQL["untie_identities"], *who)
    if not ended:
        return 0
    await connection.execute(SQL["end_untied_sessions"], *who, [one["person_id"] for one in ended])
    await audit.note(
        connection,
        by=by,
        action="identity.untie",
        organization=row["organization_id"],
        subject=f"connection:{connection_id}",
        detail={"ended": len(ended)},
    )
    return len(ended)
