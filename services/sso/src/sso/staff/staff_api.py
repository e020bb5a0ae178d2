"""The staff over REST: who may look after what, and asking people in."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field, StringConstraints

from homeroom.auth import ADMIN, Caller, require
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.problems import Problem
from homeroom.service import RequestModel
from sso.staff.accounts import Account, GivenTo, add_role
from sso.staff.invitations import Invitation, Invitations, Wanted
from sso.staff.roles import GivenRole, Holding, Kind, check_shape, may_grant, may_hold
from sso.staff.staff import Staff
from sso.statements import SQL

router = APIRouter(prefix="/v1/staff", tags=["staff"])

Admin = Annotated[Caller, Depends(require(ADMIN))]
Cursor = Annotated[str | None, Query(max_length=60, description="from an earlier answer; none starts at the beginning")]
Limit = Annotated[int, Query(ge=1, le=500)]
Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
SourcedId = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]

NOBODY: Final = UUID(int=0)
_ACCOUNT: Final = "0190c3f2-7a10-7c55-9f3d-2b6a8c1e4d77"
_ROLE: Final = "0190c3f2-7b22-7a01-8c4d-5e6f7a8b9c0d"
_INTEGRATION: Final = "0190c3f2-7a10-7c55-9f3d-2b6a8c1e4d01"
_ORGANIZATION: Final = "0190c3f2-6f01-7b44-a1d2-3c4d5e6f7a8b"
_INVITATION: Final = "0190c3f2-8c33-7d10-9e8f-0a1b2c3d4e5f"
_TIME: Final = "2026-11-20T08:05:00Z"


class RoleBody(RequestModel):
    """A role, and what it is bound to."""

    role: GivenRole = Field(examples=["district-admin"])
    organization_id: UUID | None = Field(
        default=None,
        description="of which organization; a district-admin has one, support may, others have none",
        examples=[_ORGANIZATION],
    )
    product_id: UUID | None = Field(default=None, description="of which product; product-admins have one")


class InvitationBody(RoleBody):
    """Somebody is to have a role."""

    home_organization_id: UUID | None = Field(
        default=None,
        description="whose connection they come by; the role's organization unless it says otherwise",
        examples=[_ORGANIZATION],
    )
    local: bool = Field(
        default=False, description="whether they may choose a password here, where local accounts are on"
    )
    label: Label | None = Field(default=None, description="who it is, in your words", examples=["Head of IT"])
    expires_in_hours: int = Field(default=168, ge=1, le=720, strict=True)


class PersonBody(RequestModel):
    """Somebody of a roster."""

    integration_id: UUID = Field(examples=[_INTEGRATION])
    sourced_id: SourcedId = Field(examples=["teacher-12"])
    label: Label | None = Field(default=None, description="who it is, in your words", examples=["Deputy head"])


class AccountPatch(RequestModel):
    """What is to change; what is left out stays."""

    label: Label | None = Field(default=None, examples=["Head of IT"])
    disabled: bool | None = Field(default=None, description="disabling somebody ends their sessions", examples=[True])


class RoleRead(BaseModel):
    """A role somebody was given."""

    id: UUID = Field(examples=[_ROLE])
    role: GivenRole = Field(examples=["district-admin"])
    organization_id: UUID | None = Field(examples=[_ORGANIZATION])
    product_id: UUID | None = Field(examples=[None])
    granted_by: str = Field(description="the subject of a token, or `operator`", examples=["local-admin"])
    granted_at: datetime = Field(examples=[_TIME])
    counts: bool = Field(
        description="false where the account may not have it: it reaches beyond the organization that vouches for them",
        examples=[True],
    )


class StaffRead(BaseModel):
    """Somebody of the staff. Whoever is a teacher in a roster needs no account to be one."""

    id: UUID = Field(examples=[_ACCOUNT])
    kind: Kind = Field(examples=["portal"])
    organization_id: UUID | None = Field(description="whose people they are", examples=[_ORGANIZATION])
    connection_id: UUID | None = Field(description="of portal users: by which they come", examples=[None])
    integration_id: UUID | None = Field(description="of rostered people", examples=[None])
    sourced_id: str | None = Field(description="likewise", examples=[None])
    username: str | None = Field(description="of local accounts", examples=[None])
    label: str | None = Field(examples=["Head of IT"])
    roles: list[RoleRead]
    created_at: datetime = Field(examples=[_TIME])
    last_used_at: datetime | None = Field(description="to the minute", examples=[_TIME])
    disabled_at: datetime | None = Field(examples=[None])


class StaffPage(BaseModel):
    """Some of the staff, in the order they came."""

    staff: list[StaffRead]
    cursor: str | None = Field(description="send it to get those that follow; null at the end", examples=[None])


class InvitationRead(BaseModel):
    """An invitation, without its address."""

    id: UUID = Field(examples=[_INVITATION])
    state: Literal["open", "accepted", "withdrawn", "expired"] = Field(examples=["open"])
    role: GivenRole = Field(examples=["district-admin"])
    organization_id: UUID | None = Field(examples=[_ORGANIZATION])
    product_id: UUID | None = Field(examples=[None])
    home_organization_id: UUID | None = Field(examples=[_ORGANIZATION])
    local: bool = Field(examples=[False])
    label: str | None = Field(examples=["Head of IT"])
    invited_by: str = Field(examples=["local-admin"])
    created_at: datetime = Field(examples=[_TIME])
    expires_at: datetime = Field(examples=["2026-11-27T08:05:00Z"])
    accepted_at: datetime | None = Field(examples=[None])
    account_id: UUID | None = Field(description="who accepted it", examples=[None])


class InvitationMade(InvitationRead):
    """An invitation with its address, shown this once: whoever opens it first and signs in has the role."""

    url: str = Field(examples=["https://homeroom.example/sso/staff/invitations/…"])


class InvitationPage(BaseModel):
    """Some invitations, in the order they were made."""

    invitations: list[InvitationRead]
    cursor: str | None = Field(description="send it to get those that follow; null at the end", examples=[None])


# ── invitations ───────────────────────────────────────────────────────────────────────────────────────────────────


@router.post("/invitations", status_code=201)
async def invite(request: Request, body: InvitationBody, caller: Admin) -> InvitationMade:
    """Make an address that gives whoever opens it first, and signs in, a role. E-mail addresses play no part."""
    home = body.home_organization_id or body.organization_id
    await _check_role(request, caller, body)
    if body.local and not request.app.state.settings.local_accounts:
        raise Problem(Code.LOCAL_ACCOUNTS_OFF, status=409, detail="HOMEROOM_LOCAL_ACCOUNTS is off.")
    if caller.organization_id is not None and home != _bound(caller):
        raise _above("You invite people of your own organization only.")
    if home is None and not body.local:
        raise _invalid("home_organization_id", "say whose connection they come by, or let them choose a password")
    platform = request.app.state.settings.platform_organizations
    what = (home, body.role, body.organization_id)
    if not may_hold("local" if home is None else "portal", *what, platform_organizations=platform):
        raise _above("People of this organization can't have that role; see HOMEROOM_PLATFORM_ORGANIZATIONS.")
    if home is not None:
        await _check_exists(request, "find_staff_organization", home, "home_organization_id")
    wanted = Wanted(
        body.role, body.organization_id, body.product_id, home, body.local, body.label, body.expires_in_hours
    )
    made, token = await _invitations(request).create(wanted, caller.subject)
    url = f"{request.app.state.settings.issuer}/sso/staff/invitations/{token}"
    return InvitationMade(**_show_invitation(made, await _now(request)), url=url)


@router.get("/invitations")
async def list_invitations(
    request: Request, caller: Admin, cursor: Cursor = None, limit: Limit = 100
) -> InvitationPage:
    """Invitations, those that were used as well."""
    found = await _invitations(request).list(
        after=_read_cursor(cursor), organization_id=_bound(caller), limit=limit + 1
    )
    now = await _now(request)
    return InvitationPage(
        invitations=[InvitationRead(**_show_invitation(one, now)) for one in found[:limit]],
        cursor=_make_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.delete("/invitations/{invitation_id}", status_code=204)
async def withdraw_invitation(request: Request, invitation_id: UUID, caller: Admin) -> None:
    """Take an invitation back. One that was used stays so: disable the account, or revoke its role."""
    if not await _invitations(request).withdraw(invitation_id, _bound(caller), caller.subject):
        raise Problem(Code.NOT_FOUND, status=404, detail="No invitation has this id.")


# ── accounts ──────────────────────────────────────────────────────────────────────────────────────────────────────


@router.post("", status_code=201)
async def register_person(request: Request, body: PersonBody, caller: Admin) -> StaffRead:
    """The account of somebody of a roster, to be given roles; the same one again if there is one already."""
    staff = _staff(request)
    made = await staff.accounts.register(caller, _bound(caller), body.integration_id, body.sourced_id, body.label)
    if not isinstance(made, Account):
        raise Problem(Code.NOT_FOUND, status=404, detail="No integration has this id.")
    return await _show_one(staff, made)


@router.get("")
async def list_staff(request: Request, caller: Admin, cursor: Cursor = None, limit: Limit = 100) -> StaffPage:
    """The staff: people of the organization, and whoever has a role in it.

    Teachers, whom the roster knows as such, are listed once they were given something else, or were disabled.
    """
    staff = _staff(request)
    found = await staff.accounts.list(after=_read_cursor(cursor), organization_id=_bound(caller), limit=limit + 1)
    roles = await staff.accounts.list_roles([one.id for one in found[:limit]])
    return StaffPage(
        staff=[_show(staff, one, [role for role in roles if role.account_id == one.id]) for one in found[:limit]],
        cursor=_make_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.patch("/{account_id}")
async def change_account(request: Request, account_id: UUID, body: AccountPatch, caller: Admin) -> StaffRead:
    """Label an account, disable it, or enable it again.

    Disabling ends the person's sessions. Access tokens they have are valid until they run out, within minutes.
    """
    staff = _staff(request)
    label: str | Literal[False] | None = body.label if "label" in body.model_fields_set else False
    changed = await staff.accounts.change(caller, _bound(caller), account_id, label=label, disabled=body.disabled)
    match changed:
        case "unknown":
            raise _unknown()
        case "refused":
            raise _above("The account is not of your organization, or has a role you can't give.")
    if changed.disabled_at is not None:
        await staff.end_sessions(account_id)
    return await _show_one(staff, changed)


@router.post("/{account_id}/roles", status_code=201)
async def grant_role(request: Request, account_id: UUID, body: RoleBody, caller: Admin) -> RoleRead:
    """Give somebody a role; one they have already stays as it is. Nobody gives more than they have."""
    staff = _staff(request)
    await _check_role(request, caller, body)

    async def grant(connection: Connection) -> GivenTo | None:
        account = await staff.accounts.lock(connection, _bound(caller), account_id)
        if account is None:
            return None
        if not staff.may_hold(account, Holding(body.role, body.organization_id, body.product_id)):
            raise _above("This account can't have that role: it reaches beyond the organization that vouches for them.")
        what = (body.role, body.organization_id, body.product_id)
        return await add_role(connection, account_id, *what, caller.subject)

    database: Database = request.app.state.database
    given = await database.transact(grant)
    if given is None:
        raise _unknown()
    return _show_role(given, counts=True)


@router.delete("/{account_id}/roles/{role_id}", status_code=204)
async def revoke_role(request: Request, account_id: UUID, role_id: UUID, caller: Admin) -> Response:
    """Take a role away. An organization may take those in it from anybody."""
    match await _staff(request).accounts.revoke(caller, _bound(caller), account_id, role_id):
        case "unknown":
            raise Problem(Code.NOT_FOUND, status=404, detail="Nobody has this role.")
        case "refused":
            raise _above("You can't take what you can't give.")
    return Response(status_code=204)


# ── what is checked ───────────────────────────────────────────────────────────────────────────────────────────────


async def _check_role(request: Request, caller: Caller, body: RoleBody) -> None:
    """Raise `Problem` unless the caller may give such a role, of what there is."""
    if (wrong := check_shape(body.role, body.organization_id, body.product_id)) is not None:
        raise _invalid("role", wrong)
    if not may_grant(caller, body.role, body.organization_id):
        raise _above("Nobody gives more than they have.")
    if body.organization_id is not None:
        await _check_exists(request, "find_staff_organization", body.organization_id, "organization_id")
    if body.product_id is not None:
        await _check_exists(request, "find_product", body.product_id, "product_id")


async def _check_exists(request: Request, statement: str, wanted: UUID, field: str) -> None:
    if await request.app.state.database.fetchrow(SQL[statement], wanted) is None:
        raise _invalid(field, "there is none with this id")


def _bound(caller: Caller) -> UUID | None:
    """The one organization a caller may see; None for all."""
    if caller.organization_id is None:
        return None
    try:
        return UUID(caller.organization_id)
    except ValueError:
        return NOBODY


def _above(detail: str) -> Problem:
    return Problem(Code.ROLE_REFUSED, status=403, detail=detail)


def _unknown() -> Problem:
    return Problem(Code.NOT_FOUND, status=404, detail="Nobody of the staff has this id.")


def _invalid(field: str, problem: str) -> Problem:
    errors = [{"field": f"body.{field}", "problem": problem}]
    return Problem(Code.REQUEST_INVALID, status=422, detail=f"{field}: {problem}", errors=errors)


# ── what is shown ─────────────────────────────────────────────────────────────────────────────────────────────────


async def _show_one(staff: Staff, account: Account) -> StaffRead:
    return _show(staff, account, await staff.accounts.list_roles([account.id]))


def _show(staff: Staff, account: Account, roles: list[GivenTo]) -> StaffRead:
    holds = partial(staff.may_hold, account)
    shown = [_show_role(one, counts=holds(Holding(one.role, one.organization_id, one.product_id))) for one in roles]
    same = {name: getattr(account, name) for name in StaffRead.model_fields if name != "roles"}
    return StaffRead(**same, roles=shown)


def _show_role(given: GivenTo, *, counts: bool) -> RoleRead:
    return RoleRead(**{name: getattr(given, name) for name in RoleRead.model_fields if name != "counts"}, counts=counts)


def _show_invitation(one: Invitation, now: datetime) -> dict[str, Any]:
    state = "open" if one.expires_at > now else "expired"
    if one.withdrawn_at is not None:
        state = "withdrawn"
    if one.accepted_at is not None:
        state = "accepted"
    same = {name: getattr(one, name) for name in InvitationRead.model_fields if hasattr(one, name)}
    return {**same, "state": state, "home_organization_id": one.home_id}


async def _now(request: Request) -> datetime:
    """The database's time, which is what invitations end by."""
    found: datetime = await request.app.state.database.fetchval("SELECT now()")
    return found


def _staff(request: Request) -> Staff:
    found: Staff = request.app.state.staff
    return found


def _invitations(request: Request) -> Invitations:
    found: Invitations = request.app.state.welcome.invitations
    return found


def _make_cursor(last: UUID) -> str:
    return urlsafe_b64encode(last.bytes).decode().rstrip("=")


def _read_cursor(cursor: str | None) -> UUID:
    if cursor is None:
        return NOBODY
    try:
        return UUID(bytes=urlsafe_b64decode(f"{cursor}=="))
    except ValueError:
        raise Problem(Code.CURSOR_INVALID, status=400, detail="The cursor can't be read.") from None
