"""Where OpenID providers send people back to: `GET /sso/callback/{upstream_id}`.

Three things arrive here. An answer to what we asked, with our `state`: its code is exchanged, once. A code without
`state`, as portals' tiles send it: it is thrown away, and our own flow begins; whoever sends a victim their own code
achieves nothing with it (Clever, "Protecting Clever-initiated logins"). And a code that was presented before, by a
refresh, the back button or a bookmark: it is never exchanged again; whoever is signed in goes on, anybody else begins
anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from homeroom.codes import Code
from sso.connections.quirks import QUIRKS
from sso.connections.upstreams import Upstream
from sso.launch.browser_routes import BrowserRoute
from sso.launch.flows import MOST_RESTARTS, Intent, make_token
from sso.launch.launching import Launching
from sso.launch.refusals import Refused
from sso.launch.traces import Trace
from sso.upstream.oidc import OIDC_KINDS, OidcProtocol

router = APIRouter(prefix="/sso", route_class=BrowserRoute, include_in_schema=False)

MOST_QUERY: Final = 8_000
MOST_CHARACTERS: Final = {"code": 4_000, "state": 200, "iss": 1_000, "error": 200}
"""How long a parameter may be; those that are not named are passed over."""
CODE_SECONDS: Final = 24 * 3600
"""How long a code is remembered: longer than any provider takes one."""
RESTART_SECONDS: Final = 120
"""How long it counts that a browser began anew; `MOST_RESTARTS` within it are too many."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from a provider."""

    code: str | None = field(default=None, repr=False)
    state: str | None = field(default=None, repr=False)
    iss: str | None = None
    error: str | None = None


@router.get("/callback/{upstream_id}")
async def receive(request: Request, upstream_id: UUID) -> Response:
    """Go on with somebody who comes back from an OpenID provider."""
    upstream = await _find(request, upstream_id)
    answer = read_answer(request.url.query)
    if answer.state is None:
        response = await _receive_launch(request, upstream, answer)
    else:
        response = await _receive_answer(request, upstream, answer, answer.state)
    response.headers["Cache-Control"] = "no-store"
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    return response


@router.post("/callback/{upstream_id}")
async def refuse_post(upstream_id: UUID) -> Response:
    """Answers come by GET; a form of somebody else's page is none (attack 31)."""
    raise Refused(Code.SIGNIN_REQUEST_INVALID, f"an answer was posted to {upstream_id}", status=405)


@router.get("/restart/{upstream_id}")
async def restart(request: Request, upstream_id: UUID) -> Response:
    """Begin our own flow after a portal's code was thrown away, once the browser has shown that it keeps cookies."""
    upstream = await _find(request, upstream_id)
    launching: Launching = request.app.state.launching
    if launching.browsers.recognise(request) is None:
        raise Refused(Code.SIGNIN_LOOP, "the browser keeps no cookies")
    return await _begin_anew(request, upstream)


def read_answer(query: str) -> Answer:
    """The parameters of an answer. Raises `Refused` if one comes twice, is too long, or none is there."""
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "unreadable parameters", status=400) from None
    for name, value in pairs:
        if name not in MOST_CHARACTERS:
            continue
        if name in found or len(value) > MOST_CHARACTERS[name] or len(query) > MOST_QUERY:
            raise Refused(Code.SIGNIN_REQUEST_INVALID, f"{name} twice or too long", status=400)
        found[name] = value
    answer = Answer(**{name: value for name, value in found.items() if value})
    if (answer.code is None) == (answer.error is None):
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "neither a code nor an error, or both", status=400)
    return answer


async def _find(request: Request, upstream_id: UUID) -> Upstream:
    launching: Launching = request.app.state.launching
    upstream = await launching.upstreams.find(upstream_id)
    if upstream is None or upstream.kind not in OIDC_KINDS:
        raise Refused(Code.SIGNIN_TENANT_UNKNOWN, "no such upstream", status=404)
    trace = request.state.trace = launching.launches.begin("launch", upstream.kind)
    trace.facts |= {"upstream_id": upstream.id, "product_id": upstream.product_id}
    if not upstream.enabled:
        raise Refused(Code.SIGNIN_CONNECTION_OFF, "the upstream is disabled")
    return upstream


async def _receive_answer(request: Request, upstream: Upstream, answer: Answer, state: str) -> Response:
    """An answer to something we asked."""
    launching: Launching = request.app.state.launching
    protocol: OidcProtocol = request.app.state.oidc
    request.state.retry = _describe_launch(upstream, upstream.product_id)
    browsers = launching.browsers.recognise_all(request)
    if answer.code is None:
        flow = await launching.flows.take(state, browsers, upstream.id)
    else:
        fresh, flow = await launching.flows.take_presented(
            state, browsers, upstream.id, _name_codes(upstream), answer.code, CODE_SECONDS
        )
        if not fresh:
            return await _go_on(request, upstream)
    if flow is None:
        raise Refused(Code.SIGNIN_FLOW_LOST, "no flow of this browser has this state")
    trace = launching.resume(request, flow, upstream)
    intent = flow.intent
    launched = intent.purpose == "launch"
    request.state.retry = _describe_launch(upstream, intent.product_id, intent.destination) if launched else None
    protocol.check_issuer(upstream, await protocol.find_metadata(upstream), answer.iss)
    if answer.code is None:
        raise _deny(upstream, answer.error)
    arrival = await protocol.finish(upstream, flow, answer.code, trace)
    response = await launching.receive(request, intent, arrival, trace)
    if _count_cookie(launching) in request.cookies:
        response.delete_cookie(_count_cookie(launching), path="/", secure=launching.browsers.secure, httponly=True)
    return response


async def _receive_launch(request: Request, upstream: Upstream, answer: Answer) -> Response:
    """A code of a portal's tile, which nobody here asked for: it is discarded, never exchanged (attack 32)."""
    launching: Launching = request.app.state.launching
    if answer.code is None:
        raise _deny(upstream, answer.error)
    if not QUIRKS[upstream.kind].codes_without_state:
        raise Refused(Code.SIGNIN_FLOW_LOST, "an answer without state")
    if not await _present(launching, upstream, answer.code):
        return await _go_on(request, upstream)
    _trace(request).note("a code of the portal's own was discarded")
    return await _begin_anew(request, upstream)


async def _present(launching: Launching, upstream: Upstream, code: str) -> bool:
    """Note that a code was presented; False if it was before, whatever became of it (attack 33)."""
    return await launching.flows.present(_name_codes(upstream), code, CODE_SECONDS)


def _name_codes(upstream: Upstream) -> str:
    """What codes of an upstream are remembered as."""
    return f"code:{upstream.id}"


async def _go_on(request: Request, upstream: Upstream) -> Response:
    """A code came again: whoever is signed in goes on, anybody else begins anew (Clever's certification, 2)."""
    launching: Launching = request.app.state.launching
    _trace(request).note("a code was presented again")
    if await launching.sessions.find(request) is None:
        return await _begin_anew(request, upstream)
    there = "/sso/session" if upstream.product_id is None else f"/sso/open/{upstream.product_id}"
    return RedirectResponse(there, 303)


async def _begin_anew(request: Request, upstream: Upstream) -> Response:
    """Send the browser to the provider with a flow of our own, unless that goes round in circles.

    A browser that has no cookie of ours is first seen to keep one: without it no answer would ever be its own, and
    nothing else could tell the first time from the hundredth.
    """
    launching: Launching = request.app.state.launching
    browser = launching.browsers.recognise(request)
    if browser is None:
        response: Response = RedirectResponse(f"/sso/restart/{upstream.id}", 303, {"Cache-Control": "no-store"})
        launching.browsers.mark(response, make_token())
        return response
    restarts = _count(request) + 1
    if restarts > MOST_RESTARTS:
        raise Refused(Code.SIGNIN_LOOP, f"begun anew {MOST_RESTARTS} times and nobody came in")
    intent = Intent("launch", upstream.product_id, restarts=restarts)
    response = await launching.send(request, upstream, intent, _trace(request))
    response.set_cookie(
        _count_cookie(launching),
        str(restarts),
        max_age=RESTART_SECONDS,
        path="/",
        secure=launching.browsers.secure,
        httponly=True,
        samesite="lax",
    )
    return response


def _count_cookie(launching: Launching) -> str:
    return "__Host-homeroom-restarts" if launching.browsers.secure else "homeroom-restarts"


def _count(request: Request) -> int:
    """How often this browser began anew lately. Whoever changes the cookie only cheats themselves."""
    found = request.cookies.get(_count_cookie(request.app.state.launching), "")
    return min(int(found), MOST_RESTARTS) if found.isascii() and found.isdecimal() and len(found) <= 2 else 0  # noqa: PLR2004 - as few digits as we write


def _trace(request: Request) -> Trace:
    found: Trace = request.state.trace
    return found


def _deny(upstream: Upstream, error: str | None) -> Refused:
    """What a provider's error means: that somebody may not come in, or that something is wrong between us."""
    if error in {"access_denied", *QUIRKS[upstream.kind].refused}:
        return Refused(Code.SIGNIN_DENIED, "the portal refused")
    if error in {"server_error", "temporarily_unavailable"}:
        return Refused(Code.SIGNIN_UPSTREAM_AWAY, f"the portal answered {error}", status=503)
    known = error in {"invalid_request", "unauthorized_client", "invalid_scope", "login_required", "consent_required"}
    return Refused(Code.SIGNIN_DENIED, f"the portal answered {error}" if known else "the portal answered an error")


def _describe_launch(upstream: Upstream, product_id: UUID | None, destination: str | None = None) -> str:
    """Where "Try again" leads: a launch of its own."""
    said = {"product": product_id, "destination": destination}
    query = urlencode({name: value for name, value in said.items() if value is not None})
    return f"/sso/launch/{upstream.id}" + (f"?{query}" if query else "")
