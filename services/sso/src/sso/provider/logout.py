"""Signing out from a product (OpenID Connect RP-Initiated Logout 1.0): the session here ends, and all products hear it.

Whoever shows an ID token of the session ends it without a question. Without one, anybody could have sent the browser
here, so the person is asked first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from homeroom.codes import Code
from homeroom.db import Database
from sso.handover.addresses import add_query
from sso.launch.browser_routes import BrowserRoute
from sso.launch.pages import show
from sso.launch.refusals import Refused
from sso.launch.sessions import Session, Sessions
from sso.provider.answers import HEADERS
from sso.provider.relying_parties import RelyingParties
from sso.provider.signing import IdTokenHint, Signing
from sso.saml.logout import SamlLogout
from sso.statements import SQL

router = APIRouter(prefix="/oauth2", route_class=BrowserRoute, include_in_schema=False)

MOST_CHARACTERS: Final = 12_000
MOST_STATE: Final = 2_000


@dataclass(frozen=True, slots=True)
class LogoutRequest:
    """What a product asks for.

    Args:
        hint: whose ID token was shown; None for none of ours.
        back: where the browser goes afterwards, registered for the product; None for a page of ours.
        parameters: what the question's form sends again.
    """

    hint: IdTokenHint | None
    back: str | None
    parameters: Mapping[str, str]


@router.get("/logout")
async def log_out(request: Request) -> Response:
    """End the session a product means, or ask whether to."""
    asked = await _read(request, request.url.query)
    sessions: Sessions = request.app.state.launching.sessions
    session = await sessions.find(request)
    meant = await _find_meant(request, asked.hint)
    if asked.hint is None and session is not None:
        targets = () if asked.back is None else (asked.back,)
        return show("sign_out", form_targets=targets, fields=list(asked.parameters.items()))
    # Somebody else who has signed in here since is left alone: the product's user is gone already.
    return await _end(request, meant, asked.back, here=session is not None and session.id == meant)


@router.post("/logout")
async def log_out_posted(request: Request) -> Response:
    """The same by POST, as the standard wants it; from another site the session's cookie only comes along with GET."""
    return RedirectResponse(f"/oauth2/logout?{urlencode(await _read_form(request))}", 303, HEADERS)


@router.post("/logout/confirmed")
async def log_out_confirmed(request: Request) -> Response:
    """Somebody said that they want to sign out; from a page of ours, which only their browser can tell."""
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "a form of another site", status=400)
    asked = await _read(request, urlencode(await _read_form(request)))
    sessions: Sessions = request.app.state.launching.sessions
    session = await sessions.find(request)
    return await _end(request, None if session is None else session.id, asked.back, here=True)


async def _read_form(request: Request) -> list[tuple[str, str]]:
    body = await request.body()
    if len(body) > MOST_CHARACTERS:
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "the request is too long", status=400)
    return parse_qsl(body.decode("ascii", "replace"), keep_blank_values=True)


async def _read(request: Request, query: str) -> LogoutRequest:
    """Understand a request. Raises `Refused`; an address that is not registered is only not gone to."""
    if len(query) > MOST_CHARACTERS:
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "the request is too long", status=400)
    pairs = parse_qsl(query, keep_blank_values=True)
    fields = dict(pairs)
    if len(fields) != len(pairs) or len(fields.get("state", "")) > MOST_STATE:
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "a parameter is there twice, or too long", status=400)
    signing: Signing = request.app.state.signing
    hint = await signing.read_hint(fields["id_token_hint"]) if "id_token_hint" in fields else None
    if hint is not None and fields.get("client_id", hint.client_id) != hint.client_id:
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "the ID token is another client's", status=400)
    client_id = fields.get("client_id") or (hint.client_id if hint else "")
    parties: RelyingParties = request.app.state.relying_parties
    party = await parties.find(client_id) if client_id else None
    back = fields.get("post_logout_redirect_uri")
    if back is None or party is None or back not in party.post_logout_redirect_uris:
        return LogoutRequest(hint, None, {})
    state = {"state": fields["state"]} if "state" in fields else {}
    parameters = {"client_id": client_id, "post_logout_redirect_uri": back, **state}
    return LogoutRequest(hint, add_query(back, **state) if state else back, parameters)


async def _find_meant(request: Request, hint: IdTokenHint | None) -> UUID | None:
    """The session an ID token belongs to, over or not."""
    if hint is None or hint.sid is None:
        return None
    database: Database = request.app.state.database
    row = await database.fetchrow(SQL["find_participation"], hint.sid, hint.client_id)
    return None if row is None else row["session_id"]


async def _end(request: Request, session_id: UUID | None, back: str | None, *, here: bool) -> Response:
    """End a session, at its SAML portal as well where there is a way, and go on."""
    sessions: Sessions = request.app.state.launching.sessions
    session = None if session_id is None else await sessions.find_by_id(session_id)
    upstream = None
    if session is not None:
        await sessions.end(session.id)
        upstream = await _leave_portal(request, session, back) if here else None
    target = upstream or back
    response = show("signed_out", back=None) if target is None else RedirectResponse(target, 303, HEADERS)
    if here:
        sessions.unmark(response)
    return response


async def _leave_portal(request: Request, session: Session, back: str | None) -> str | None:
    logout: SamlLogout = request.app.state.saml.logout
    return await logout.start(session, back)
