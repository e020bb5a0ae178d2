"""What somebody who is signed in here connected themselves, and how they take it apart again."""

from __future__ import annotations

import hmac
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.problems import Problem
from sso.handover.opening import HEADERS
from sso.handover.unlinking import Unlinking
from sso.launch.browser_routes import BrowserRoute
from sso.launch.flows import hash_token
from sso.launch.launching import Launching
from sso.launch.pages import show
from sso.launch.refusals import Refused
from sso.launch.sessions import Session
from sso.statements import SQL

router = APIRouter(prefix="/sso/accounts", route_class=BrowserRoute, include_in_schema=False)

MOST_SHOWN = 100
MOST_FIELDS = 10


@router.get("")
async def show_accounts(request: Request) -> Response:
    """The accounts somebody connected, each with a button where there is another way into it."""
    session, form = await _find_session(request)
    database: Database = request.app.state.database
    rows = await database.fetch(SQL["list_accounts_of_person"], session.person_id, MOST_SHOWN)
    return show("accounts", accounts=[dict(row) for row in rows], form=form)


@router.post("/disconnect")
async def disconnect(request: Request) -> Response:
    """Take one of them apart. Refused for the last way in, and for a form that is not of this session."""
    session, form = await _find_session(request)
    fields = await _read_fields(request)
    if not hmac.compare_digest(form.encode(), fields.get("form", "").encode()):
        raise Refused(Code.SIGNIN_FLOW_LOST, "the form is not of this session")
    database: Database = request.app.state.database
    where = (session.person_id, *_read_place(fields))
    if await database.fetchval(SQL["find_account_of_person"], *where) is None:
        raise Refused(Code.NOT_FOUND, "no such account of theirs", status=404)
    unlinking: Unlinking = request.app.state.unlinking
    _, product_id, organization_id, external_id = where
    try:
        await unlinking.remove(product_id, external_id, organization_id, other_sign_in=None, by="person")
    except Problem as problem:
        raise Refused(problem.code, "the store's or our own rules", status=problem.status) from None
    return RedirectResponse("/sso/accounts", 303, HEADERS)


async def _find_session(request: Request) -> tuple[Session, str]:
    """Who is signed in, and what forms of this session bring along. Raises `Refused`."""
    launching: Launching = request.app.state.launching
    session = await launching.sessions.find(request)
    if session is None or session.person_id is None:
        raise Refused(Code.SIGNIN_SESSION_OVER, "no session", status=401)
    cookie = request.cookies[launching.sessions.cookie]
    return session, hash_token(f"accounts {cookie}").hex()


async def _read_fields(request: Request) -> dict[str, str]:
    try:
        return dict(parse_qsl((await request.body()).decode("utf-8"), max_num_fields=MOST_FIELDS))
    except ValueError:
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "the body is no form", status=400) from None


def _read_place(fields: dict[str, str]) -> tuple[UUID, UUID, str]:
    """Product, organization and account. Raises `Refused` for what names none."""
    try:
        place = UUID(fields.get("product", "")), UUID(fields.get("organization", ""))
    except ValueError:
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "no ids", status=400) from None
    account = fields.get("account", "")
    if not account or "\0" in account:
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "no account", status=400)
    return *place, account
