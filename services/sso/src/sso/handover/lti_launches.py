"""LTI 1.3 resource-link launches: the tool asks, and the browser posts it a signed message."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from joserfc import jwt

from homeroom.clock import Clock
from homeroom.codes import Code
from homeroom.db import Connection, Database
from sso.handover.lti_messages import Placement, make_message
from sso.handover.lti_requests import LtiRequest, check_hint, check_request, pick_parameters, read_request
from sso.handover.lti_settings import LtiSettings
from sso.handover.opening import HEADERS, find_target, find_tool
from sso.handover.passes import Pass, Passes, take_pass
from sso.keys import ALGORITHM, Keys
from sso.launch.browser_routes import BrowserRoute
from sso.launch.identification import Identified
from sso.launch.launching import Launching
from sso.launch.pages import show
from sso.launch.refusals import Refused
from sso.launch.sessions import Session
from sso.launch.sign_ins import note_sign_in
from sso.provider.claims import make_subject
from sso.provider.participations import join
from sso.provider.relying_parties import RelyingParties, RelyingParty

router = APIRouter(prefix="/sso/lti", route_class=BrowserRoute, include_in_schema=False)

MOST_FIELDS: Final = 50
NONCE_SECONDS: Final = 3_600.0
"""How long a tool's nonce is remembered: longer than any message that carries it is good for."""


@dataclass(frozen=True, slots=True)
class LtiLaunches:
    """Answers tools; `app.state.lti_launches`."""

    issuer: str
    database: Database
    clock: Clock
    keys: Keys
    passes: Passes
    parties: RelyingParties
    launching: Launching

    async def answer(self, request: Request, asked: LtiRequest) -> Response:
        """The page that posts the message. Raises `Refused`.

        Only the browser in which the launch began is answered: what comes from another one does not even end it.
        """
        begun, session = await self._find(request, asked)
        trace = self.launching.launches.resume(begun.launch_id, begun.support_id, "launch", begun.kind)
        request.state.trace = trace
        party = await self.parties.find(begun.client_id)
        if party is None or party.product_id != begun.product_id:
            raise Refused(Code.SIGNIN_PRODUCT_OFF, "the product's client is gone", status=404)
        tool = find_tool(party)
        namesake = await self.parties.find(tool.client_id)
        if namesake is not None and namesake.client_id != party.client_id:
            # What is signed for the tool would be an ID token of the other client as well.
            raise Refused(Code.SIGNIN_PRODUCT_OFF, "the tool calls itself as another client is called")
        identified = await self.launching.admit(session, begun.product_id)
        placement = Placement(
            product_id=begun.product_id,
            audience=tool.client_id,
            deployment_id=tool.find_deployment(identified.door.organization_id),
            target_link_uri=find_target(party, begun.destination) or tool.target_link_uri,
            destination=begun.destination,
        )
        check_request(asked, begun, tool, deployment_id=placement.deployment_id, target=placement.target_link_uri)
        message = await self._sign(asked, begun, session, identified, placement)
        trace.note("the message goes to the tool", product=begun.product_id)
        await self.launching.launches.write(trace, "completed")
        return _post(asked, message, party, tool)

    async def _find(self, request: Request, asked: LtiRequest) -> tuple[Pass, Session]:
        begun = await self.passes.find("lti", asked.lti_message_hint)
        if begun is None:
            raise Refused(Code.SIGNIN_FLOW_LOST, "lti_message_hint is unknown, used or too old")
        session = await self.launching.sessions.find(request)
        if session is None or session.id != begun.session_id:
            raise Refused(Code.SIGNIN_SESSION_OVER, "the launch is not of this browser's session", status=401)
        check_hint(asked, begun)
        return begun, session

    async def _sign(
        self, asked: LtiRequest, begun: Pass, session: Session, identified: Identified, placement: Placement
    ) -> str:
        if not await self.launching.flows.present(f"lti-nonce {placement.audience}", asked.nonce, NONCE_SECONDS):
            raise Refused(Code.SIGNIN_REPLAYED, "the nonce was used before")
        subject = make_subject(identified.person_id, begun.product_id)
        use = partial(_use, text=asked.lti_message_hint, begun=begun, session=session, subject=subject)
        sid = await self.database.transact(use)
        if sid is None:
            raise Refused(Code.SIGNIN_REPLAYED, "the launch was answered before")
        claims = make_message(
            placement,
            identified,
            sid=sid,
            issuer=self.issuer,
            nonce=asked.nonce,
            now=self.clock.now(),
        )
        key = self.keys.signing
        return jwt.encode({"alg": ALGORITHM, "kid": key.id}, claims, key.private)


async def _use(connection: Connection, text: str, begun: Pass, session: Session, subject: str) -> UUID | None:
    if not await take_pass(connection, "lti", text, begun.client_id):
        return None
    sid = await join(connection, session, begun.client_id, subject)
    await note_sign_in(connection, session, begun.product_id)
    return sid


def _post(asked: LtiRequest, message: str, party: RelyingParty, tool: LtiSettings) -> Response:
    """The page with the form. A tool may move the browser on within the addresses it registered."""
    registered = (*tool.redirect_uris, tool.target_link_uri, *party.destinations.values())
    fields = [("id_token", message)] + ([] if asked.state is None else [("state", asked.state)])
    return show("post_form", form_targets=registered, action=asked.redirect_uri, fields=fields)


@router.get("/authorize")
async def authorize(request: Request) -> Response:
    """Where tools send the browser with their authentication request."""
    asked = read_request(request.query_params.multi_items())
    launches: LtiLaunches = request.app.state.lti_launches
    return await launches.answer(request, asked)


@router.post("/authorize")
async def authorize_posted(request: Request) -> Response:
    """The same by POST: it is asked again by GET, for a form of another site brings no session's cookie along."""
    text = (await request.body()).decode("ascii", "replace")
    try:
        form = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "too many fields", status=400) from None
    query = urlencode(pick_parameters(form))
    return RedirectResponse(f"/sso/lti/authorize?{query}", 303, HEADERS)
