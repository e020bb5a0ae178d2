"""Opens a product for somebody who is signed in here: the last step from a tile, with no question asked (E2).

How a product is opened is its own choice (`launch_mode`): by OpenID Connect, which it begins itself once told to
(Core 1.0 §4, third-party-initiated login); by a ticket that its server redeems; or by LTI 1.3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from homeroom.codes import Code
from sso.handover.addresses import add_query
from sso.handover.lti_settings import LtiSettings, read_lti
from sso.handover.passes import Passes, begin_pass
from sso.launch.flows import hash_token, make_token
from sso.launch.identification import Identified
from sso.launch.refusals import Refused
from sso.launch.sessions import Session
from sso.launch.traces import Launches, Trace
from sso.provider.hints import Hints
from sso.provider.relying_parties import RelyingParties, RelyingParty

HEADERS: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
"""On every answer that leads into a product: what its address holds goes to nobody else."""


def find_target(party: RelyingParty, destination: str | None) -> str | None:
    """The address of a product's destination; None for none. Raises `Refused` for a name it does not have.

    Destinations are names, never addresses, so nobody can be sent where the product did not say.
    """
    if destination is None:
        return None
    target = party.destinations.get(destination)
    if target is None:
        raise Refused(Code.SIGNIN_PRODUCT_OFF, "the product has no such destination", status=404)
    return target


def find_tool(party: RelyingParty) -> LtiSettings:
    """A product as a tool of LTI. Raises `Refused` if it is not set up as one."""
    if party.lti is None:
        raise Refused(Code.SIGNIN_PRODUCT_OFF, "the product has no LTI settings", status=404)
    return read_lti(party.lti)


@dataclass(frozen=True, slots=True)
class Handover:
    """Opens products; `app.state.handover`."""

    issuer: str
    parties: RelyingParties
    hints: Hints
    passes: Passes
    launches: Launches

    async def open(
        self,
        request: Request,
        session: Session,
        identified: Identified,
        product_id: UUID,
        destination: str | None,
        trace: Trace,
    ) -> Response:
        """Send the browser into a product. Raises `Refused` SIGNIN_PRODUCT_OFF.

        The launch is not complete before the product has been told who it is.
        """
        del request
        party = await self.parties.find_of_product(product_id)
        if party is None:
            raise Refused(Code.SIGNIN_PRODUCT_OFF, "the product has no client that launches go to", status=404)
        target = find_target(party, destination)
        match party.launch_mode:
            case "ticket":
                url = await self._give_ticket(party, session, destination, trace)
            case "lti":
                url = await self._begin_lti(party, session, identified, destination, trace)
            case _:
                url = await self._begin_login(party, session, destination, target, trace)
        trace.note("sent to the product", product=product_id, mode=party.launch_mode)
        await self.launches.write(trace, "signed-in")
        return RedirectResponse(url, 303, HEADERS)

    async def _begin_login(
        self, party: RelyingParty, session: Session, destination: str | None, target: str | None, trace: Trace
    ) -> str:
        if party.initiate_login_uri is None:
            raise Refused(Code.SIGNIN_PRODUCT_OFF, "the product has no initiate_login_uri", status=404)
        hint = await self.hints.make(session.id, trace.id, trace.support_id, party.product_id, destination)
        return add_query(party.initiate_login_uri, iss=self.issuer, login_hint=hint, target_link_uri=target)

    async def _give_ticket(self, party: RelyingParty, session: Session, destination: str | None, trace: Trace) -> str:
        if party.launch_uri is None:
            raise Refused(Code.SIGNIN_PRODUCT_OFF, "the product has no launch_uri", status=404)
        made = begin_pass(party.client_id, party.product_id, session.id, trace, destination)
        return add_query(party.launch_uri, ticket=await self.passes.make("ticket", made))

    async def _begin_lti(
        self, party: RelyingParty, session: Session, identified: Identified, destination: str | None, trace: Trace
    ) -> str:
        """LTI 1.3's third-party-initiated login (Security Framework 1.0 §5.1.1)."""
        tool = find_tool(party)
        login_hint = make_token()
        made = replace(
            begin_pass(party.client_id, party.product_id, session.id, trace, destination),
            login_hash=hash_token(login_hint),
            deployment_id=tool.find_deployment(identified.door.organization_id),
        )
        return add_query(
            tool.login_uri,
            iss=self.issuer,
            login_hint=login_hint,
            lti_message_hint=await self.passes.make("lti", made),
            target_link_uri=find_target(party, destination) or tool.target_link_uri,
            client_id=tool.client_id,
            lti_deployment_id=made.deployment_id,
        )
