"""Rules for the staff: their sign-in, and looking after them."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID, uuid4

from authorization.districts import SSO, District, Neighbourhood
from authorization.rules import DISTRICTS, AnyRule, Ids, Kind, Public, Rule

PATH: Final = "/v1/staff"
ADMIN: Final = ("admin",)
TOKEN: Final = {"token": "made-up"}


def describe_role(ids: Ids) -> dict[str, Any]:
    """A role in the district."""
    return {"role": "support", "organization_id": ids["organization_id"]}


async def know_district(place: Neighbourhood, district: District, _: Kind = "platform") -> dict[str, str]:
    """What sso hears of a district."""
    database = place.apps[SSO].state.database
    organization, integration = (UUID(district.ids[name]) for name in ("organization_id", "integration_id"))
    name = f"District {district.mark}"
    await database.fetch(
        "INSERT INTO organization (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING", organization, name
    )
    await database.fetch(
        "INSERT INTO integration (id, organization_id, name, provider) VALUES ($1, $2, $3, 'oneroster') "
        "ON CONFLICT DO NOTHING",
        integration,
        organization,
        name,
    )
    return {}


async def add_staff(place: Neighbourhood, district: District, kind: Kind = "platform") -> dict[str, str]:
    """Somebody of the district's roster with a role in it, and another one for lists to have a second page."""
    await know_district(place, district, kind)
    found: dict[str, str] = {}
    for _ in range(2):
        sourced_id = f"{district.mark}-admin-{uuid4().hex[:8]}"
        body = {"integration_id": district.ids["integration_id"], "sourced_id": sourced_id}
        account = (await place.ask(SSO, "POST", PATH, body))["id"]
        role = await place.ask(SSO, "POST", f"{PATH}/{account}/roles", describe_role(district.ids))
        found = {"account_id": account, "role_id": role["id"]}
    return district.hide(**found)


async def add_invitation(place: Neighbourhood, district: District, kind: Kind = "platform") -> dict[str, str]:
    """Somebody who was asked in, and another one likewise."""
    await know_district(place, district, kind)
    made = [await place.ask(SSO, "POST", f"{PATH}/invitations", describe_role(district.ids)) for _ in range(2)]
    return district.hide(invitation_id=made[1]["id"], invitation_token=made[1]["url"].rpartition("/")[2])


SSO_STAFF_RULES: Final[tuple[AnyRule, ...]] = (
    Public(method="GET", path="/sso/staff", reason="people sign in here; their session counts"),
    Public(method="GET", path="/sso/staff/local", reason="a form, where there are local accounts", status=404),
    Public(method="POST", path="/sso/staff/local", reason="a password is shown here, in a form of ours", status=404),
    Public(
        method="GET",
        path="/sso/staff/invitations/{token}",
        reason="the address is what lets somebody in",
        status=403,
        parameters=TOKEN,
    ),
    Public(
        method="POST",
        path="/sso/staff/invitations/{token}",
        reason="likewise, in a form of ours",
        status=400,
        parameters=TOKEN,
    ),
    Rule(
        method="POST",
        path=f"{PATH}/invitations",
        needs=ADMIN,
        callers=DISTRICTS,
        prepare=know_district,
        body=describe_role,
        shows=("organization_id",),
    ),
    Rule(
        method="GET",
        path=f"{PATH}/invitations",
        needs=ADMIN,
        callers=DISTRICTS,
        blind=True,
        prepare=add_invitation,
        shows=("invitation_id",),
    ),
    Rule(
        method="DELETE",
        path=f"{PATH}/invitations/{{invitation_id}}",
        needs=ADMIN,
        callers=DISTRICTS,
        prepare=add_invitation,
    ),
    Rule(
        method="POST",
        path=PATH,
        needs=ADMIN,
        callers=DISTRICTS,
        prepare=know_district,
        body=lambda ids: {"integration_id": ids["integration_id"], "sourced_id": f"{ids['mark']}-deputy"},
        shows=("integration_id",),
    ),
    Rule(method="GET", path=PATH, needs=ADMIN, callers=DISTRICTS, blind=True, prepare=add_staff, shows=("account_id",)),
    Rule(
        method="PATCH",
        path=f"{PATH}/{{account_id}}",
        needs=ADMIN,
        callers=DISTRICTS,
        prepare=add_staff,
        body=lambda ids: {"label": f"Head {ids['mark']}"},
        shows=("account_id",),
    ),
    Rule(
        method="POST",
        path=f"{PATH}/{{account_id}}/roles",
        needs=ADMIN,
        callers=DISTRICTS,
        prepare=add_staff,
        body=describe_role,
        shows=("organization_id",),
    ),
    Rule(
        method="DELETE",
        path=f"{PATH}/{{account_id}}/roles/{{role_id}}",
        needs=ADMIN,
        callers=DISTRICTS,
        prepare=add_staff,
    ),
)
