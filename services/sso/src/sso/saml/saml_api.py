"""What SAML identity providers and people's browsers come to: our metadata, the assertion consumer, and logout."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from homeroom.clock import Clock
from homeroom.codes import Code
from homeroom.db import Database
from sso.connections.upstreams import SAML_KINDS, Upstream
from sso.launch.browser_routes import BrowserRoute
from sso.launch.flows import Flow, Intent, make_token
from sso.launch.launching import Launching
from sso.launch.refusals import Refused
from sso.saml.arriving import Landings, land, make_arrival
from sso.saml.checking import Checking
from sso.saml.documents import MOST_BYTES, DocumentError, decode_base64
from sso.saml.logout import SamlLogout
from sso.saml.logout_messages import Message, check_answer, check_request, parse_form, read_form, read_query
from sso.saml.profile import SKEW, Assertion, check_response
from sso.saml.refusals import Unbelieved
from sso.saml.service_provider import describe_service_provider, make_expectation, make_trust, write_metadata
from sso.statements import SQL

router = APIRouter(prefix="/sso/saml", route_class=BrowserRoute, include_in_schema=False)

_DESTINATION: Final = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)


@dataclass(frozen=True)
class Saml:
    """What these routes work with; `app.state.saml`."""

    checking: Checking
    landings: Landings
    logout: SamlLogout
    database: Database
    clock: Clock
    issuer: str


@router.get("/{upstream_id}/metadata")
async def show_metadata(request: Request, upstream_id: UUID) -> Response:
    """Our metadata for an upstream; its address is our entity id there."""
    saml, upstream = _saml(request), await _find(request, upstream_id)
    document = write_metadata(describe_service_provider(saml.issuer, upstream), upstream)
    headers = {
        "Cache-Control": "public, max-age=300",
        "Content-Disposition": 'inline; filename="homeroom-metadata.xml"',
    }
    return Response(document, 200, headers, "application/samlmetadata+xml")


@router.post("/{upstream_id}/acs")
async def consume(request: Request, upstream_id: UUID) -> Response:
    """Take a response, verify it, and send the browser on to `land` (SAML profiles §4.1.4)."""
    upstream = await _begin(request, upstream_id)
    saml, launching = _saml(request), _launching(request)
    form = await _read_body(request)
    if "SAMLResponse" not in form:
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "the form has no response", status=400)
    assertion = await _verify(request, upstream, form["SAMLResponse"])
    intent, browser = await _take_intent(request, upstream, assertion, form.get("RelayState", ""))
    trace = request.state.trace
    trace.note("assertion accepted", signed=assertion.signed, algorithm=assertion.algorithm, sealed=assertion.encrypted)
    if assertion.sha1:
        trace.note("SHA-1 was accepted as an exception", upstream=upstream.id)
    arrival = make_arrival(upstream, assertion)
    token = await saml.landings.keep(upstream, browser, land(arrival, intent, trace))
    await launching.launches.write(trace)
    response = RedirectResponse(f"/sso/saml/{upstream.id}/landed?token={token}", 303)
    launching.browsers.mark(response, browser)
    return response


@router.get("/{upstream_id}/landed")
async def go_on(
    request: Request, upstream_id: UUID, token: Annotated[str, Query(min_length=20, max_length=100)]
) -> Response:
    """Go on with somebody who was just verified.

    The portal's post comes from another site, so the browser does not show us with it whose session it has. Here it
    does, and that session ends.
    """
    upstream = await _begin(request, upstream_id)
    launching = _launching(request)
    landed = await _saml(request).landings.take(upstream, launching.browsers.recognise(request), token)
    if landed is None:
        if await launching.sessions.find(request) is not None:
            return RedirectResponse("/sso/session", 303)
        raise Refused(Code.SIGNIN_FLOW_LOST, "nobody landed with this token in this browser")
    flow = Flow(landed.launch_id, landed.support_id, upstream.id, landed.intent)
    _resume(request, flow, upstream)
    return await launching.receive(request, landed.intent, landed.arrive(upstream), request.state.trace)


@router.get("/{upstream_id}/slo")
async def log_out(request: Request, upstream_id: UUID) -> Response:
    """Single logout by the redirect binding."""
    query = request.scope["query_string"]
    if len(query) > MOST_BYTES:
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "the address is too long", status=400)
    return await _log_out(request, upstream_id, partial(read_query, query.decode("ascii", "replace")))


@router.post("/{upstream_id}/slo")
async def log_out_by_post(request: Request, upstream_id: UUID) -> Response:
    """Single logout by the POST binding."""
    return await _log_out(request, upstream_id, None)


# ── sign-in ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def _verify(request: Request, upstream: Upstream, posted: str) -> Assertion:
    """The assertion of a posted response; refusals belong to the launch the response says it answers."""
    saml = _saml(request)
    now = saml.clock.now()
    expected = make_expectation(saml.issuer, upstream, now)

    def check() -> Assertion:
        try:
            document = decode_base64(posted)
        except DocumentError as error:
            raise Unbelieved(str(error)) from None
        return check_response(document, expected, now)

    try:
        return await saml.checking.run(check)
    except Unbelieved as refusal:
        if refusal.in_response_to is not None:
            await _take_flow(request, upstream, refusal.in_response_to)
        code = Code.SIGNIN_DENIED if refusal.denied else Code.SIGNIN_ASSERTION_INVALID
        raise Refused(code, refusal.why) from None


async def _take_intent(
    request: Request, upstream: Upstream, assertion: Assertion, relay_state: str
) -> tuple[Intent, str]:
    """What the browser began with us, or what an answer nobody asked for opens; and the browser."""
    launching, saml = _launching(request), _saml(request)
    browser = launching.browsers.recognise(request)
    flow: Flow | None = None
    if assertion.in_response_to is not None:
        flow = await _take_flow(request, upstream, assertion.in_response_to)
        if flow is None or browser is None:
            raise Refused(Code.SIGNIN_FLOW_LOST, "an answer to nothing this browser asked this connection")
    elif not upstream.saml.idp_initiated:
        raise Refused(Code.SIGNIN_ASSERTION_INVALID, "nobody asked, and the connection does not allow that")
    remember = (assertion.not_on_or_after + 2 * SKEW - saml.clock.now()).total_seconds() + 300
    if not await launching.flows.present(f"assertion:{upstream.id}", assertion.id, remember):
        raise Refused(Code.SIGNIN_REPLAYED, "the assertion was used before")
    if flow is not None:
        _check_fresh(flow, assertion.authn_instant)
        return flow.intent, browser or ""
    intent = await _choose_product(saml.database, upstream, relay_state)
    request.state.trace.note("begun by the portal", product=intent.product_id)
    return intent, browser or make_token()


def _check_fresh(flow: Flow, authn_instant: datetime) -> None:
    """Whoever was to sign in anew must have: a browser can take ForceAuthn out of a request."""
    if flow.intent.fresh and (flow.began_at is None or authn_instant < flow.began_at - SKEW):
        raise Refused(Code.SIGNIN_ASSERTION_INVALID, "the sign-in is older than the request for a new one")


async def _choose_product(database: Database, upstream: Upstream, relay_state: str) -> Intent:
    """What an answer nobody asked for opens: RelayState may name a product or one of its destinations.

    It is never an address. What it does not name leaves the connection's own product; what looks like a product's id
    and is none is refused, and whether it is licensed is looked at later.
    """
    try:
        product_id = UUID(relay_state)
    except ValueError:
        known = upstream.product_id is not None and _DESTINATION.fullmatch(relay_state) is not None
        if known and await database.fetchval(SQL["know_destination"], upstream.product_id, relay_state):
            return Intent("launch", upstream.product_id, relay_state)
        return Intent("launch", upstream.product_id)
    if not await database.fetchval(SQL["know_product"], product_id):
        raise Refused(Code.SIGNIN_PRODUCT_OFF, "RelayState names a product we don't have")
    return Intent("launch", product_id)


async def _take_flow(request: Request, upstream: Upstream, request_id: str) -> Flow | None:
    launching = _launching(request)
    browsers = launching.browsers.recognise_all(request)
    flow = await launching.flows.take(request_id, browsers, upstream.id)
    if flow is not None:
        _resume(request, flow, upstream)
    return flow


def _resume(request: Request, flow: Flow, upstream: Upstream) -> None:
    """Go on with a launch's trace; only a launch can be begun anew from its page."""
    trace = _launching(request).resume(request, flow, upstream)
    trace.facts |= {"upstream_id": upstream.id, "product_id": flow.intent.product_id}
    if flow.intent.purpose != "launch":
        request.state.retry = None


# ── logout ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _log_out(request: Request, upstream_id: UUID, read: partial[Message] | None) -> Response:
    upstream = await _begin(request, upstream_id)
    request.state.retry = None
    saml = _saml(request)
    now, ours = saml.clock.now(), describe_service_provider(saml.issuer, upstream)
    if read is None:
        read = partial(read_form, await _read_body(request))
    try:
        message = await saml.checking.run(partial(read, make_trust(upstream, now), now))
        if message.response:
            back = await saml.logout.finish(upstream, check_answer(message, upstream, ours, now))
        else:
            asked = check_request(message, upstream, ours, now)
            back = await saml.logout.obey(upstream, asked, message, request.state.trace)
    except Unbelieved as refusal:
        raise Refused(Code.SIGNIN_ASSERTION_INVALID, refusal.why) from None
    return RedirectResponse(back or "/sso/session", 303)


# ── every route ───────────────────────────────────────────────────────────────────────────────────────────────────


def _saml(request: Request) -> Saml:
    found: Saml = request.app.state.saml
    return found


def _launching(request: Request) -> Launching:
    found: Launching = request.app.state.launching
    return found


async def _find(request: Request, upstream_id: UUID) -> Upstream:
    upstream = await _launching(request).upstreams.find(upstream_id)
    if upstream is None or upstream.kind not in SAML_KINDS:
        raise Refused(Code.SIGNIN_TENANT_UNKNOWN, "no such SAML upstream", status=404)
    return upstream


async def _begin(request: Request, upstream_id: UUID) -> Upstream:
    """The upstream of an address; a trace begins, which a flow's may replace."""
    launching = _launching(request)
    request.state.trace = launching.launches.begin("launch", "saml")
    upstream = await _find(request, upstream_id)
    request.state.trace.kind = upstream.kind
    request.state.trace.facts |= {"upstream_id": upstream.id}
    if not upstream.enabled:
        raise Refused(Code.SIGNIN_CONNECTION_OFF, "the upstream is disabled")
    request.state.retry = f"/sso/launch/{upstream.id}"
    return upstream


async def _read_body(request: Request) -> dict[str, str]:
    """The fields of a posted form, of at most `MOST_BYTES`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "the post is no form", status=415)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise Refused(Code.SIGNIN_REQUEST_INVALID, "the form is too large", status=413)
    try:
        return parse_form(bytes(body))
    except Unbelieved as refusal:
        raise Refused(Code.SIGNIN_REQUEST_INVALID, refusal.why, status=400) from None
