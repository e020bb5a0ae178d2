"""`/v1/connections/{connection_id}/identities`: whom the users of a portal are tied to (E4)."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StringConstraints

from homeroom.service import RequestModel
from sso.callers import Writer, seen_by
from sso.connections.identities import untie

router = APIRouter(prefix="/v1/connections", tags=["connections"])


class TieRemoval(RequestModel):
    """Whose ties are to end."""

    sourced_id: Annotated[str, StringConstraints(min_length=1, max_length=1_000, pattern=r"^[^\x00]+$")] = Field(
        description="what the connection's roster calls them, as a refused launch shows it", examples=["user-2041"]
    )


class TiesEnded(BaseModel):
    """What came of it."""

    ended: int = Field(description="how many of the portal's users were tied to them; 0 if none was", examples=[1])


@router.post("/{connection_id}/identities/removals")
async def remove_identities(request: Request, connection_id: UUID, body: TieRemoval, caller: Writer) -> TiesEnded:
    """Forget which of the portal's users somebody of the roster is, and sign them out of this connection.

    For sign-ins that were refused with SIGNIN_AMBIGUOUS because the portal's user is another person now: the next
    sign-in ties anew, to whom the portal's key leads.
    """
    database = request.app.state.database
    return TiesEnded(ended=await untie(database, connection_id, body.sourced_id, seen_by(caller), by=caller.subject))
