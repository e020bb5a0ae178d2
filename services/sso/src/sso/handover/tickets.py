"""Launch tickets: for products without OpenID Connect, redeemed from server to server for who came in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.problems import Problem
from sso.handover.opening import find_target
from sso.handover.passes import Pass, Passes, take_pass
from sso.launch.launching import Launching
from sso.launch.refusals import Refused
from sso.launch.sessions import Session
from sso.launch.sign_ins import note_sign_in
from sso.provider.claims import make_claims
from sso.provider.participations import join
from sso.provider.relying_parties import RelyingParties


@dataclass(frozen=True, slots=True)
class Redeemed:
    """Who came in with a ticket."""

    claims: dict[str, Any]
    sid: UUID
    auth_time: datetime
    support_id: str
    destination: str | None
    target_link_uri: str | None


@dataclass(frozen=True, slots=True)
class Tickets:
    """Redeems tickets; `app.state.tickets`."""

    database: Database
    passes: Passes
    parties: RelyingParties
    launching: Launching

    async def redeem(self, text: str, client_id: str) -> Redeemed:
        """Who came in, once. Raises `Problem`: TICKET_INVALID, or why somebody may not come in any more.

        A ticket that another client shows stays good for whom it is meant: whoever shows it learns and breaks nothing.
        What is asked of the roster is asked first, so that a ticket is not lost because the store is away.
        """
        found = await self.passes.find("ticket", text)
        if found is None or found.client_id != client_id:
            raise refuse_ticket()
        session = await self.launching.sessions.find_by_id(found.session_id)
        if session is None:
            raise refuse_ticket()
        trace = self.launching.launches.resume(found.launch_id, found.support_id, "launch", found.kind)
        try:
            redeemed = await self._redeem(text, found, session)
        except Refused as refused:
            if refused.status < 500:  # noqa: PLR2004 - what is our own fault may be over in a moment
                trace.note("refused", code=refused.code, why=refused.why)
                await self.launching.launches.write(trace, "refused", refused.code)
            raise Problem(refused.code, status=refused.status, detail=refused.code.entry.cause) from None
        trace.note("the product redeemed its ticket", product=found.product_id)
        await self.launching.launches.write(trace, "completed")
        return redeemed

    async def _redeem(self, text: str, found: Pass, session: Session) -> Redeemed:
        party = await self.parties.find(found.client_id)
        if party is None or party.product_id != found.product_id:
            raise Refused(Code.SIGNIN_PRODUCT_OFF, "the product's client is gone", status=404)
        target = find_target(party, found.destination)
        identified = await self.launching.admit(session, found.product_id)
        claims = make_claims(identified, found.product_id)
        use = partial(_use, text=text, found=found, session=session, subject=claims["sub"])
        sid = await self.database.transact(use)
        if sid is None:
            raise refuse_ticket()
        return Redeemed(claims, sid, session.auth_time, found.support_id, found.destination, target)


async def _use(connection: Connection, text: str, found: Pass, session: Session, subject: str) -> UUID | None:
    """All that a ticket brings about, or nothing of it."""
    if not await take_pass(connection, "ticket", text, found.client_id):
        return None
    sid = await join(connection, session, found.client_id, subject)
    await note_sign_in(connection, session, found.product_id)
    return sid


def refuse_ticket() -> Problem:
    """The one answer for every ticket that is no good, whatever is wrong with it."""
    return Problem(
        Code.TICKET_INVALID, status=400, detail="The ticket is unknown, used, past its minute, or not this client's."
    )
