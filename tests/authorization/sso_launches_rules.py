"""Rules for what became of launches, and for the pages people see on their way."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from authorization.districts import SSO, District, Neighbourhood
from authorization.rules import DISTRICTS, AnyRule, Kind, Public, Rule
from authorization.sso_connections_rules import add_connection
from homeroom.ids import new_id
from sso.launch.traces import make_support_id

READ: Final = ("launches.read",)
NOWHERE: Final = "00000000-0000-4000-8000-000000000000"


async def add_launch(place: Neighbourhood, district: District, kind: Kind = "platform") -> dict[str, str]:
    """Two launches of somebody of the district by one of its connections."""
    ids = await add_connection(place, district, kind)
    support_ids = [make_support_id() for _ in range(2)]
    for support_id in support_ids:
        await place.apps[SSO].state.database.fetch(
            "INSERT INTO launch (id, support_id, purpose, state, upstream_id, connection_id, organization_id, "
            "integration_id, sourced_id, ended_at) VALUES ($1, $2, 'launch', 'completed', $3, $3, $4, $5, $6, now())",
            new_id(),
            support_id,
            UUID(ids["connection_id"]),
            UUID(district.ids["organization_id"]),
            UUID(district.ids["integration_id"]),
            district.ids["student_id"],
        )
    return ids | district.hide(support_id=support_ids[1])


SSO_LAUNCHES_RULES: Final[tuple[AnyRule, ...]] = (
    Rule(
        method="GET",
        path="/v1/launches",
        needs=READ,
        callers=DISTRICTS,
        blind=True,
        narrows={"organization": "organization_id", "product": "product_id"},
        prepare=add_launch,
        shows=("student_id",),
    ),
    Rule(
        method="GET",
        path="/v1/launches/{support_id}",
        needs=READ,
        callers=DISTRICTS,
        prepare=add_launch,
        shows=("student_id", "support_id"),
    ),
    Rule(
        method="GET",
        path="/v1/connections/{connection_id}/statistics",
        needs=READ,
        callers=DISTRICTS,
        prepare=add_launch,
        shows=("connection_id", '"completed":2'),
    ),
    Public(
        method="GET",
        path="/sso/launch/{upstream_id}",
        reason="what tiles point to: it sends a browser to its portal",
        status=404,
        parameters={"upstream_id": NOWHERE},
    ),
    Public(method="GET", path="/sso/session", reason="shows a browser who is signed in in it"),
    Public(
        method="GET",
        path="/sso/open/{product_id}",
        reason="opens a product for whoever is signed in in the browser",
        status=401,
        parameters={"product_id": NOWHERE},
    ),
    Public(method="POST", path="/sso/sign-out", reason="ends the session of the browser itself", status=303),
    Public(method="GET", path="/sso/style.css", reason="how pages look"),
)
