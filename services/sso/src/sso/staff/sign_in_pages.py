"""Where people of the staff sign in: by a connection, or with the password of a local account."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from homeroom.codes import Code
from sso.launch.browser_routes import BrowserRoute
from sso.launch.flows import Intent, make_token
from sso.launch.launch_api import Search, find_school
from sso.launch.launching import Arrived, Launching
from sso.launch.pages import show
from sso.launch.refusals import Refused
from sso.launch.sessions import Beginning, Session
from sso.launch.traces import Trace
from sso.staff import forms
from sso.staff.local_sign_in import LocalSignIn
from sso.staff.onward import LONGEST, Onward, read_onward, recall_onward
from sso.staff.roles import Role
from sso.staff.staff import Staff, Standing, note_role

router = APIRouter(prefix="/sso/staff", route_class=BrowserRoute, include_in_schema=False)

ROLE_WORDS: Final[dict[Role, str]] = {
    "platform-admin": "Admin of Homeroom",
    "district-admin": "District admin",
    "product-admin": "Product admin",
    "support": "Support",
    "teacher": "Teacher",
}
NO_STORE: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}

Next = Annotated[str | None, Query(alias="next", max_length=LONGEST)]
Waiting = Annotated[str | None, Query(alias="request", max_length=100)]


@router.get("")
async def sign_in(
    request: Request,
    place: Next = None,
    waiting: Waiting = None,
    connection: UUID | None = None,
    search: Search = "",
    *,
    fresh: bool = False,
) -> Response:
    """Sign in to Homeroom itself, and go on to `next`; without that, a page says who is signed in.

    With `fresh` the session there is does not count; nor does it for a request of the console, which was judged.
    """
    onward = read_onward(place, waiting)
    more = {"fresh": "true"} if fresh else {}
    if connection is not None:
        return await send(request, connection, onward, fresh=fresh)
    if not fresh and onward.kind != "request":
        session = await request.app.state.launching.sessions.find(request)
        if session is not None and session.staff_id is not None:
            request.state.retry = onward.address("/sso/staff", fresh="true")
            return await _go_on_signed_in(request, session, onward)
    local_url = onward.address("/sso/staff/local") if request.app.state.settings.local_accounts else None
    return await find_school(
        request,
        product_id=None,
        organization_id=None,
        resume_url=onward.address("/sso/staff", **more),
        search=search,
        local_url=local_url,
    )


async def send(request: Request, connection_id: UUID, onward: Onward, *, fresh: bool) -> Response:
    """Send somebody to the portal of a connection. Raises `Refused`."""
    launching: Launching = request.app.state.launching
    door = await launching.identification.find_connection(connection_id, None)
    upstream = None if door is None else await launching.upstreams.find(door.upstream_id)
    if door is None or upstream is None:
        raise Refused(Code.SIGNIN_TENANT_UNKNOWN, "no such connection", status=404)
    if not door.enabled:
        raise Refused(Code.SIGNIN_CONNECTION_OFF, "the connection is disabled")
    intent = Intent("staff", connection_id=connection_id, resume=onward.text, fresh=fresh)
    return await launching.send(request, upstream, intent)


async def continue_staff(request: Request, arrived: Arrived) -> Response:
    """The continuation of `staff`: somebody is back from a portal, to use Homeroom itself."""
    onward, state = recall_onward(arrived.intent.resume), request.app.state
    staff: Staff = state.staff
    request.state.retry = onward.address("/sso/staff", fresh="true") if onward.kind != "invitation" else None
    if onward.kind == "invitation":
        await state.welcome.accept_arrived(UUID(onward.value), arrived)
        onward = Onward()
    standing, beginning = await staff.recognise(arrived)
    return await finish(request, standing, beginning, onward, arrived.trace)


async def finish(request: Request, standing: Standing, beginning: Beginning, onward: Onward, trace: Trace) -> Response:
    """Begin the session of somebody who has proved who they are, end the one there was, and go on."""
    launching: Launching = request.app.state.launching
    session, token = await launching.sessions.begin(request, beginning)
    await request.app.state.staff.accounts.note_use(standing.account.id)
    note_role(trace, standing)
    if onward.kind == "request":
        await launching.launches.write(trace, "signed-in")
        response: Response = await request.app.state.authorizing.go_on(request, onward.value, session, None, trace)
    else:
        await launching.launches.write(trace, "completed")
        response = await _go_on(request, standing, onward)
    launching.sessions.mark(response, token)
    return response


async def _go_on_signed_in(request: Request, session: Session, onward: Onward) -> Response:
    standing = await request.app.state.staff.find_standing(session)
    return await _go_on(request, standing, onward)


async def _go_on(request: Request, standing: Standing, onward: Onward) -> Response:
    if onward.kind == "place":
        return RedirectResponse(onward.value, 303, NO_STORE)
    names = await request.app.state.staff.name_places(standing.holdings)
    roles = [
        {"what": ROLE_WORDS[one.role], "where": where} for one, where in zip(standing.holdings, names, strict=True)
    ]
    return show("staff", name=standing.name, roles=roles)


# ── with a password ───────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/local")
async def show_form(request: Request, place: Next = None, waiting: Waiting = None) -> Response:
    """The form for a local account."""
    _check_local(request)
    return _show_form(request, read_onward(place, waiting))


@router.post("/local")
async def take_form(request: Request) -> Response:
    """Sign in with the password of a local account."""
    _check_local(request)
    launching: Launching = request.app.state.launching
    request.state.retry = "/sso/staff/local"
    trace = launching.launches.begin("staff", "local")
    request.state.trace = trace
    fields, browser = await forms.read_form(request, launching.browsers)
    onward = read_onward(fields.get("next"), fields.get("request"))
    local: LocalSignIn = request.app.state.local_sign_in
    address = request.client.host if request.client else ""
    username = await local.prove(fields.get("username", ""), fields.get("password", ""), address, browser)
    if username is None:
        trace.note("refused", code=Code.SIGNIN_PASSWORD_WRONG)
        await launching.launches.write(trace, "refused", Code.SIGNIN_PASSWORD_WRONG)
        return _show_form(request, onward, trace.support_id)
    standing, beginning = await request.app.state.staff.begin_local(username)
    return await finish(request, standing, beginning, onward, trace)


def _check_local(request: Request) -> None:
    if not request.app.state.settings.local_accounts:
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "there are no local accounts here", status=404)


def _show_form(request: Request, onward: Onward, support_id: str | None = None) -> Response:
    """The form; with a support id it says that what was entered is wrong, and not what of it."""
    launching: Launching = request.app.state.launching
    browser = launching.browsers.recognise(request) or make_token()
    response = show(
        "staff_password",
        200 if support_id is None else 401,
        csrf=forms.make_csrf(browser),
        kept=list(onward.parameters.items()),
        problem=None if support_id is None else Code.SIGNIN_PASSWORD_WRONG.entry,
        support_id=support_id,
        other_url=onward.address("/sso/staff", fresh="true"),
    )
    launching.browsers.mark(response, browser)
    return response
