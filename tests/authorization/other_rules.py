"""Rules for the routes of the gateway and of sso, and for those every service has."""

from __future__ import annotations

from typing import Final

from authorization.additions import add_client
from authorization.bodies import make_set
from authorization.rules import DISTRICTS, AnyRule, Public, Rule

UPLOADS: Final = "/v1/integrations/{integration_id}/uploads"
ADMIN: Final = ("admin",)


def list_common(service: str) -> tuple[AnyRule, ...]:
    """What every service has, and the origin in front shows to nobody."""
    document = f"/openapi/{service}.json"
    return (
        Public(method="GET", path=document, reason="what the API looks like is no secret"),
        Public(method="HEAD", path=document, reason="the same, without its text"),
        Public(method="GET", path="/livez", reason="a probe; from outside it is not reachable"),
        Public(method="GET", path="/readyz", reason="a probe; from outside it is not reachable"),
        Public(method="GET", path="/metrics", reason="numbers without names; from outside it is not reachable"),
    )


GATEWAY_RULES: Final[tuple[AnyRule, ...]] = (
    Rule(
        method="GET",
        path="/v1/providers",
        needs=("integrations.read",),
        callers=DISTRICTS,
        blind=True,
        shows=('"clever"',),
    ),
    Rule(
        method="GET",
        path="/v1/providers/{kind}",
        needs=("integrations.read",),
        callers=DISTRICTS,
        blind=True,
        ids={"kind": "clever"},
        shows=('"clever"',),
    ),
    Rule(
        method="POST",
        path=UPLOADS,
        needs=("runs.write",),
        callers=DISTRICTS,
        ids={"integration_id": "csv_integration_id"},
        content=lambda _: make_set(),
    ),
    Rule(
        method="GET",
        path=UPLOADS,
        needs=("integrations.read",),
        callers=DISTRICTS,
        ids={"integration_id": "csv_integration_id"},
        shows=("set_id",),
    ),
    Rule(
        method="GET",
        path="/v1/received/{integration_id}/{set_id}",
        needs=("roster.read",),
        callers=DISTRICTS,
        ids={"integration_id": "csv_integration_id"},
        shows=("manifest.csv",),
    ),
)

SSO_RULES: Final[tuple[AnyRule, ...]] = (
    Public(method="POST", path="/oauth2/token", reason="tokens are had here, for a client's secret", status=400),
    Public(method="GET", path="/oauth2/jwks", reason="public keys"),
    Public(method="GET", path="/.well-known/oauth-authorization-server", reason="what a client needs to know first"),
    Public(method="GET", path="/.well-known/openid-configuration", reason="the same, by its other name"),
    Rule(
        method="POST",
        path="/v1/clients",
        needs=ADMIN,
        callers=DISTRICTS,
        body=lambda ids: {"scopes": ["integrations.read"], "organization_id": ids["organization_id"]},
    ),
    Rule(
        method="GET",
        path="/v1/clients",
        needs=ADMIN,
        callers=DISTRICTS,
        blind=True,
        narrows={"product_id": "product_id"},
        shows=("client_id",),
    ),
    Rule(
        method="POST",
        path="/v1/clients/{client_id}/secrets",
        needs=ADMIN,
        callers=DISTRICTS,
        prepare=add_client,
    ),
    Rule(method="DELETE", path="/v1/clients/{client_id}", needs=ADMIN, callers=DISTRICTS, prepare=add_client),
)
