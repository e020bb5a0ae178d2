"""The way of a launch: out to an upstream, back with somebody vouched for, on to what they wanted.

Protocols (`sso.upstream`, `sso.saml`) know how to send somebody out and how to check what comes back. What follows is
the same for all of them and stands here: which connection it was, who it is, a new session, and the continuation that
the launch's purpose names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from homeroom.codes import Code
from homeroom.people import PersonAnswer
from sso.connections.upstreams import Kind, Upstream, Upstreams
from sso.launch.arrivals import Arrival
from sso.launch.flows import Browsers, Flow, Flows, Intent, make_token
from sso.launch.identification import Identification, Identified, check_texts
from sso.launch.people import People
from sso.launch.refusals import Refused
from sso.launch.sessions import Beginning, Session, Sessions
from sso.launch.traces import Launches, Purpose, Trace
from sso.launch.verdict import Verdict, identify

SESSION_PURPOSES: Final[frozenset[Purpose]] = frozenset({"launch", "authorize"})
"""Purposes that sign somebody in to products; the others look at who came and decide by themselves."""


class SignInProtocol(Protocol):
    """How somebody is sent to an upstream. Checking what comes back is the protocol's own routes' business."""

    async def start(self, upstream: Upstream, intent: Intent, trace: Trace, browser: str) -> str:
        """Keep a flow (`Flows.begin`) and say which URL the browser goes to. Raises `Refused`."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """Somebody is back from an upstream.

    Args:
        flow: what was begun; `intent` says what they want. None where the portal began it (SAML, IdP-initiated).
        identified: who it is; None for purposes that look by themselves.
        session: the new session, likewise.
    """

    intent: Intent
    arrival: Arrival
    trace: Trace
    identified: Identified | None = None
    session: Session | None = None


Continuation = Callable[[Request, Arrived], Awaitable[Response]]


@dataclass
class Launching:
    """Everything a launch passes through; `app.state.launching`."""

    upstreams: Upstreams
    flows: Flows
    browsers: Browsers
    launches: Launches
    people: People
    identification: Identification
    sessions: Sessions
    protocols: Mapping[Kind, SignInProtocol] = field(default_factory=dict)
    continuations: Mapping[Purpose, Continuation] = field(default_factory=dict)

    async def send(self, request: Request, upstream: Upstream, intent: Intent, trace: Trace | None = None) -> Response:
        """Send a browser to an upstream to sign in there. `trace` goes on with a launch that began before."""
        trace = trace or self.launches.begin(intent.purpose, upstream.kind)
        request.state.trace = trace
        if not upstream.enabled:
            raise Refused(Code.SIGNIN_CONNECTION_OFF, "the upstream is disabled")
        known = self.browsers.recognise(request)
        browser = known or make_token()
        trace.note("sent to the portal", upstream=upstream.id, purpose=intent.purpose)
        url = await self.protocols[upstream.kind].start(upstream, intent, trace, browser)
        response = RedirectResponse(url, 303, {"Cache-Control": "no-store"})
        (self.browsers.mark if known else self.browsers.greet)(response, browser)
        return response

    def resume(self, request: Request, flow: Flow, upstream: Upstream) -> Trace:
        """The trace of a flow that was taken; refusals from now on belong to it."""
        trace = self.launches.resume(flow.launch_id, flow.support_id, flow.intent.purpose, upstream.kind)
        request.state.trace = trace
        return trace

    async def receive(self, request: Request, intent: Intent, arrival: Arrival, trace: Trace) -> Response:
        """Go on with somebody an upstream vouched for. Raises `Refused`."""
        product_id = intent.product_id
        trace.facts |= {"upstream_id": arrival.upstream.id, "product_id": product_id}
        arrived = Arrived(intent, arrival, trace)
        token = None
        if intent.purpose in SESSION_PURPOSES:
            request.state.retry = _find_retry(intent, arrival)
            try:
                identified = await self.identify(arrival, intent, trace)
            except Refused as refused:
                await self._end_others(request, arrival, refused.code)
                raise
            session, token = await self.sessions.begin(request, _begin_with(identified, arrival))
            trace.note("signed in", session=session.id)
            arrived = Arrived(intent, arrival, trace, identified, session)
        try:
            response = await self.continuations[intent.purpose](request, arrived)
        except Exception:
            if arrived.session is not None:
                await self.sessions.end(arrived.session.id)
            raise
        if arrived.session is not None and trace.steps:  # what the continuation did not write with its own
            await self.launches.write(trace, "signed-in")
        self.sessions.mark(response, token)
        return response

    async def identify(self, arrival: Arrival, intent: Intent, trace: Trace) -> Identified:
        """Who somebody is, by whichever connection they came, for the product they want. Raises `Refused`."""
        check_texts(arrival)
        door = await self.identification.find_door(arrival.upstream, arrival.tenant, intent.product_id)
        trace.facts |= {"connection_id": door.id, "organization_id": door.organization_id}
        if intent.connection_id not in (None, door.id):
            raise Refused(Code.SIGNIN_TENANT_UNKNOWN, "somebody of another district came back")
        identified = await self.identification.identify(arrival, door, intent.product_id, trace)
        if identified.person is not None:
            trace.facts |= {"integration_id": door.integration_id, "sourced_id": identified.person.sourced_id}
        return identified

    async def _end_others(self, request: Request, arrival: Arrival, code: Code) -> None:
        """Somebody the portal vouched for may not come in: whoever was signed in here before has left the device.

        The person's own session goes on, unless the roster has lost them.
        """
        session = await self.sessions.find(request)
        if session is None:
            return
        person_id = None
        if session.connection_id is not None and code is not Code.SIGNIN_TOKEN_INVALID:
            person_id = await self.identification.find_person(session.connection_id, arrival.tenant, arrival.subject)
        if person_id is None or person_id != session.person_id:
            await self.sessions.end(session.id)
        elif code is Code.SIGNIN_REMOVED:
            await self.sessions.end_person(person_id)

    async def admit(self, session: Session, product_id: UUID | None) -> Identified:
        """Whether somebody who is signed in may go on to a product, as the roster and licenses say now.

        Raises `Refused`; whoever the roster has lost is signed out everywhere.
        """
        if session.connection_id is None or session.person_id is None:
            raise Refused(Code.SIGNIN_NOT_ROSTERED, "signed in as somebody of no roster")
        door = await self.identification.find_connection(session.connection_id, product_id)
        upstream = None if door is None else await self.upstreams.find(door.upstream_id)
        if door is None or upstream is None or not (door.enabled and upstream.enabled):
            raise Refused(Code.SIGNIN_CONNECTION_OFF, "the connection is disabled")
        if not door.licensed:
            raise Refused(Code.SIGNIN_UNLICENSED, "no license of the product is in force for the organization")
        if session.sourced_id is None or session.integration_id is None:
            if door.rostering != "optional":
                raise Refused(Code.SIGNIN_NOT_ROSTERED, "the connection wants everybody in the roster now")
            return Identified(door, session.person_id, None, session.shown_as)
        if door.integration_id != session.integration_id:
            await self.sessions.end(session.id)
            raise Refused(Code.SIGNIN_SESSION_OVER, "the connection has another roster now", status=401)
        answer = await self.people.find(session.integration_id, "sourcedId", session.sourced_id, product_id)
        verdict = _judge(answer)
        if verdict.refusal is not None:
            if verdict.refusal is Code.SIGNIN_REMOVED:
                await self.sessions.end_person(session.person_id)
            raise Refused(verdict.refusal, verdict.why)
        if not self.identification.is_recent(door, answer):
            raise Refused(Code.SIGNIN_ROSTER_OLD, "the roster is older than the connection allows")
        return Identified(door, session.person_id, verdict.person, None)


def _find_retry(intent: Intent, arrival: Arrival) -> str | None:
    """Where somebody who is refused may begin anew: for the product's request that waits, or from the tile."""
    if intent.purpose == "authorize":
        return f"/oauth2/sign-in?{urlencode({'request': intent.resume or ''})}"
    wanted = {"product": intent.product_id, "destination": intent.destination}
    query = urlencode({name: value for name, value in wanted.items() if value is not None})
    return f"/sso/launch/{arrival.upstream.id}" + (f"?{query}" if query else "")


def _judge(answer: PersonAnswer) -> Verdict:
    """The verdict on somebody who is signed in already, by their sourcedId."""
    return identify(None, "sourcedId", answer, None, rostering="required")


def _begin_with(identified: Identified, arrival: Arrival) -> Beginning:
    door, person = identified.door, identified.person
    return Beginning(
        person_id=identified.person_id,
        organization_id=door.organization_id,
        connection_id=door.id,
        integration_id=None if person is None else door.integration_id,
        sourced_id=None if person is None else person.sourced_id,
        shown_as=identified.shown_as,
        upstream=arrival.logout,
    )
