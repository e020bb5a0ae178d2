"""Rules for what opens products and connects their accounts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from authorization.districts import SSO, District, Neighbourhood, issue_token
from authorization.rules import AnyRule, Kind, Public, Rule
from homeroom.auth import SCOPES

PATH: Final = "/v1/account-links"
WRITE: Final = ("accounts.write",)
PRODUCTS: Final[frozenset[Kind]] = frozenset({"product"})


def describe_request(ids: Mapping[str, str]) -> dict[str, Any]:
    """Somebody who wants their account connected."""
    return {
        "external_id": f"account-{ids['mark']}",
        "label": f"Nadia {ids['mark']}",
        "organization_id": ids["organization_id"],
        "return_to": f"https://{ids['mark']}.example.org/settings",
        "auth_time": datetime.now(UTC).isoformat(),
    }


async def add_relying_party(place: Neighbourhood, district: District, _: Kind = "product") -> dict[str, str]:
    """What sso knows of the district's license, and a client of the product that people come back to."""
    state = place.apps[SSO].state
    ids = {name: UUID(district.ids[name]) for name in ("organization_id", "product_id", "license_id")}
    client_id = f"reader-{district.mark}"
    for statement, *values in (
        ("INSERT INTO organization (id, name) VALUES ($1, $2)", ids["organization_id"], f"District {district.mark}"),
        (
            "INSERT INTO license (id, product_id, organization_id, valid_from) VALUES ($1, $2, $3, '2020-01-01')",
            ids["license_id"],
            ids["product_id"],
            ids["organization_id"],
        ),
        (
            "INSERT INTO client (id, secret_hash, scopes, product_id) VALUES ($1, sha256(''), '{accounts.write}', $2)",
            client_id,
            ids["product_id"],
        ),
        (
            "INSERT INTO relying_party (client_id, product_id, post_logout_redirect_uris) VALUES ($1, $2, $3)",
            client_id,
            ids["product_id"],
            [f"https://{district.mark}.example.org/settings"],
        ),
    ):
        await state.database.fetch(f"{statement} ON CONFLICT DO NOTHING", *values)
    state.relying_parties.forget()
    return {}


async def add_request(place: Neighbourhood, district: District, kind: Kind = "product") -> dict[str, str]:
    """A request of the district's product."""
    await add_relying_party(place, district, kind)
    token = issue_token(place, "product", SCOPES, district)
    made = await place.ask(SSO, "POST", PATH, describe_request(district.ids), token=token)
    return district.hide(link_request_id=made["link_request_id"], link_token=made["url"].rpartition("/")[2])


async def add_connected_account(place: Neighbourhood, district: District, _: Kind = "product") -> dict[str, str]:
    """An account somebody connected, to which there is no other way in."""
    database = place.apps[SSO].state.database
    organization = UUID(district.ids["organization_id"])
    person = await database.fetchval("INSERT INTO person (organization_id) VALUES ($1) RETURNING id", organization)
    await database.fetch(
        "INSERT INTO linked_account (product_id, organization_id, external_id, person_id, integration_id, sourced_id, "
        "connection_id, other_sign_in) VALUES ($1, $2, $3, $4, $5, $6, $5, false) ON CONFLICT DO NOTHING",
        UUID(district.ids["product_id"]),
        organization,
        f"account-{district.mark}",
        person,
        UUID(district.ids["integration_id"]),
        district.ids["student_id"],
    )
    return {}


SSO_HANDOVER_RULES: Final[tuple[AnyRule, ...]] = (
    Public(
        method="POST",
        path="/sso/tickets/redeem",
        reason="for a launch ticket and a client's secret, as at the token endpoint",
        status=400,
    ),
    Public(method="GET", path="/sso/lti/authorize", reason="browsers come here; their session counts", status=400),
    Public(method="POST", path="/sso/lti/authorize", reason="leads to the same by GET", status=303),
    Public(
        method="GET",
        path="/sso/link/{token}",
        reason="browsers come here; the token is one request's",
        status=303,
        parameters={"token": "made-up"},
    ),
    Public(
        method="POST",
        path="/sso/link/confirmations/{request_id}",
        reason="browsers come here; the form is one browser's",
        status=403,
        parameters={"request_id": "0190f3a1-7d2e-7c11-9b54-2f6c1e8d0a37"},
    ),
    Public(method="GET", path="/sso/accounts", reason="browsers come here; their session counts", status=401),
    Public(method="POST", path="/sso/accounts/disconnect", reason="the same", status=401),
    Rule(
        method="POST",
        path=PATH,
        needs=WRITE,
        callers=PRODUCTS,
        prepare=add_relying_party,
        body=describe_request,
        shows=("/sso/link/",),
    ),
    Rule(
        method="GET",
        path=f"{PATH}/{{link_request_id}}",
        needs=WRITE,
        callers=PRODUCTS,
        prepare=add_request,
        shows=("link_request_id", "mark"),
    ),
    Rule(
        method="POST",
        path=f"{PATH}/removals",
        needs=WRITE,
        callers=PRODUCTS,
        prepare=add_connected_account,
        body=lambda ids: {
            "external_id": f"account-{ids['mark']}",
            "organization_id": ids["organization_id"],
            "other_sign_in": False,
        },
        statuses=frozenset({409}),
        shows=("LINK_LAST_SIGN_IN",),
    ),
)
