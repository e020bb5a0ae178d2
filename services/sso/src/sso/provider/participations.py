"""Which products a session was told to, so that they hear of its end."""

from __future__ import annotations

from uuid import UUID

from homeroom.codes import Code
from homeroom.db import Connection
from homeroom.ids import new_id
from sso.launch.refusals import Refused
from sso.launch.sessions import Session
from sso.statements import SQL


async def join(connection: Connection, session: Session, client_id: str, subject: str) -> UUID:
    """Write down that a client was told of a session, in the transaction that tells it; the `sid` it knows it by.

    The session is held until the transaction ends: whoever ends it meanwhile waits, and then tells this client, too.
    Raises `Refused` SIGNIN_SESSION_OVER if it has ended already.

    Args:
        connection: in the caller's transaction.
        session: who is let in.
        client_id: the product's client.
        subject: what the product calls them (`claims.make_subject`).
    """
    sid: UUID | None = await connection.fetchval(SQL["join_session"], new_id(), session.id, client_id, subject)
    if sid is None:
        raise Refused(Code.SIGNIN_SESSION_OVER, "the session ended meanwhile", status=401)
    return sid
