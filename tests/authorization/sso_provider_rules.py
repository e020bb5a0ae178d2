"""Rules for Homeroom as OpenID provider: what browsers and products' servers call, and relying parties."""

from __future__ import annotations

from typing import Any, Final
from uuid import uuid4

from authorization.districts import SSO, District, Neighbourhood
from authorization.rules import PLATFORM, AnyRule, Ids, Kind, Public, Rule

PATH: Final = "/v1/relying-parties"
ADMIN: Final = ("admin",)


def describe_party(ids: Ids) -> dict[str, Any]:
    """A client that signs people in."""
    return {"launches": False, "redirect_uris": [f"https://{ids['mark']}.example.org/signed-in"]}


async def add_party(place: Neighbourhood, district: District, _: Kind = "platform") -> dict[str, str]:
    """A client of the district's product that signs people in, and another one for lists to have a second page."""
    name = ""
    for _n in range(2):
        name = f"web-{district.mark}-{uuid4().hex[:8]}"
        client = {"id": name, "scopes": ["roster.read"], "product_id": district.ids["product_id"]}
        await place.ask(SSO, "POST", "/v1/clients", client)
        await place.ask(SSO, "PUT", f"{PATH}/{name}", describe_party(district.ids))
    return district.hide(client_id=name)


SSO_PROVIDER_RULES: Final[tuple[AnyRule, ...]] = (
    Public(
        method="GET",
        path="/oauth2/authorize",
        reason="browsers come here from products; what counts is their session",
        status=400,
    ),
    Public(method="POST", path="/oauth2/authorize", reason="leads to the same by GET", status=303),
    Public(method="GET", path="/oauth2/sign-in", reason="people say here which school they are at", status=400),
    Public(method="GET", path="/oauth2/logout", reason="ends the session of the browser that comes, if it has one"),
    Public(method="POST", path="/oauth2/logout", reason="leads to the same by GET", status=303),
    Public(method="POST", path="/oauth2/logout/confirmed", reason="ends the session of the browser that comes"),
    Public(
        method="GET", path="/oauth2/userinfo", reason="takes tokens of its own kind, given for a sign-in", status=401
    ),
    Public(method="POST", path="/oauth2/userinfo", reason="the same by POST", status=401),
    Public(method="OPTIONS", path="/oauth2/userinfo", reason="what browsers ask before they call it", status=204),
    Public(method="POST", path="/oauth2/revoke", reason="takes a client's secret", status=401),
    Public(method="POST", path="/oauth2/introspect", reason="takes a client's secret", status=401),
    Rule(
        method="GET",
        path=PATH,
        needs=ADMIN,
        callers=PLATFORM,
        narrows={"product_id": "product_id"},
        shows=("client_id",),
        prepare=add_party,
    ),
    Rule(
        method="GET",
        path=f"{PATH}/{{client_id}}",
        needs=ADMIN,
        callers=PLATFORM,
        shows=("client_id",),
        prepare=add_party,
    ),
    Rule(
        method="PUT",
        path=f"{PATH}/{{client_id}}",
        needs=ADMIN,
        callers=PLATFORM,
        body=describe_party,
        prepare=add_party,
    ),
    Rule(method="DELETE", path=f"{PATH}/{{client_id}}", needs=ADMIN, callers=PLATFORM, prepare=add_party),
)
