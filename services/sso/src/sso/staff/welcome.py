"""People who were invited: what they see, and what becomes of them when they say who they are."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response

from homeroom.codes import Code
from sso.launch.browser_routes import BrowserRoute
from sso.launch.flows import make_token
from sso.launch.launch_api import HOW, MOST_DOORS
from sso.launch.launching import Arrived, Launching
from sso.launch.pages import show
from sso.launch.refusals import Refused
from sso.staff import forms
from sso.staff.invitations import Invitation, Invitations
from sso.staff.onward import Onward
from sso.staff.passwords import SHORTEST, Passwords, object_to, read_username
from sso.staff.roles import may_be_staff
from sso.staff.sign_in_pages import ROLE_WORDS, finish, send
from sso.staff.staff import Staff
from sso.statements import SQL

router = APIRouter(prefix="/sso/staff/invitations", route_class=BrowserRoute, include_in_schema=False)

Token = Annotated[str, Path(max_length=100)]


class Welcome:
    """Makes people who were invited one of the staff; `app.state.welcome`."""

    def __init__(self, staff: Staff, invitations: Invitations, passwords: Passwords) -> None:
        self.invitations = invitations
        self._staff = staff
        self._passwords = passwords

    async def accept_arrived(self, invitation_id: UUID, arrived: Arrived) -> None:
        """Use an invitation up for somebody an upstream vouched for. Raises `Refused`.

        They must have come by a connection of the organization that invites; students are never staff.
        """
        invitation = await self.invitations.find_by_id(invitation_id)
        door, identified, _ = await self._staff.identify(arrived)
        if invitation.home_id != door.organization_id:
            raise Refused(Code.SIGNIN_INVITATION_OVER, "for people of another organization")
        person = None if identified is None else identified.person
        if person is not None and not may_be_staff(person):
            raise Refused(Code.SIGNIN_ROLE_MISSING, "a student, or a relative of one")
        arrival = arrived.arrival
        account = await self.invitations.accept_by_portal(invitation, door.id, arrival.tenant or "", arrival.subject)
        arrived.trace.note("invitation accepted", invitation=invitation.id, staff=account.id)

    async def accept_typed(self, invitation: Invitation, username: str, password: str) -> str | None:
        """Use an invitation up for somebody who chose a password; what is wrong with it, or None. Raises `Refused`."""
        name = read_username(username)
        if name is None:
            return "This can't be a username."
        if (problem := object_to(name, password)) is not None:
            return problem
        account = await self.invitations.accept_by_password(invitation, name, await self._passwords.hash(password))
        return "Somebody has this username; choose another one." if account is None else None


@router.get("/{token}")
async def show_invitation(request: Request, token: Token, connection: UUID | None = None) -> Response:
    """What somebody is invited to, as often as they look; with a connection they go and sign in there."""
    welcome: Welcome = request.app.state.welcome
    invitation = await welcome.invitations.find(token)
    if connection is None:
        return await _show(request, invitation, token)
    door = await request.app.state.launching.identification.find_connection(connection, None)
    if door is None or door.organization_id != invitation.home_id:
        raise Refused(Code.SIGNIN_INVITATION_OVER, "a connection of another organization")
    return await send(request, connection, Onward("invitation", str(invitation.id)), fresh=True)


@router.post("/{token}")
async def accept_with_password(request: Request, token: Token) -> Response:
    """Choose a username and a password, where that is allowed."""
    welcome: Welcome = request.app.state.welcome
    launching: Launching = request.app.state.launching
    trace = launching.launches.begin("staff", "local")
    request.state.trace = trace
    fields, _ = await forms.read_form(request, launching.browsers)
    invitation = await welcome.invitations.find(token)
    if not (invitation.local and request.app.state.settings.local_accounts):
        raise Refused(Code.SIGNIN_INVITATION_OVER, "no password may be chosen")
    username = fields.get("username", "")
    problem = await welcome.accept_typed(invitation, username, fields.get("password", ""))
    if problem is not None:
        return await _show(request, invitation, token, problem=problem, username=username[:63])
    standing, beginning = await request.app.state.staff.begin_local(username.strip().lower())
    trace.note("invitation accepted", invitation=invitation.id, staff=standing.account.id)
    return await finish(request, standing, beginning, Onward(), trace)


async def _show(
    request: Request, invitation: Invitation, token: str, *, problem: str | None = None, username: str = ""
) -> Response:
    state = request.app.state
    rows = []
    if invitation.home_id is not None:
        rows = await state.database.fetch(SQL["search_doors"], None, invitation.home_id, "", MOST_DOORS)
    here = f"/sso/staff/invitations/{token}"
    doors = [
        {"url": f"{here}?connection={row['id']}", "organization": row["organization_name"], "how": HOW[row["kind"]]}
        for row in rows
    ]
    browser = state.launching.browsers.recognise(request) or make_token()
    response = show(
        "staff_invitation",
        200 if problem is None else 422,
        csrf=forms.make_csrf(browser),
        role={
            "what": ROLE_WORDS[invitation.role],
            "where": invitation.organization_name or invitation.product_name or "",
        },
        doors=doors,
        local=invitation.local and state.settings.local_accounts,
        shortest=SHORTEST,
        problem=problem,
        username=username,
    )
    state.launching.browsers.mark(response, browser)
    return response
