"""Rules for the routes by which people come back from OpenID providers."""

from __future__ import annotations

from typing import Final

from authorization.rules import AnyRule, Public

NOWHERE: Final = {"upstream_id": "00000000-0000-4000-8000-000000000000"}

SSO_UPSTREAM_RULES: Final[tuple[AnyRule, ...]] = (
    Public(
        method="GET",
        path="/sso/callback/{upstream_id}",
        reason="browsers come back here from portals; what counts is the flow they began",
        status=404,
        parameters=NOWHERE,
    ),
    Public(
        method="POST",
        path="/sso/callback/{upstream_id}",
        reason="refuses everybody, with a page for people",
        status=405,
        parameters=NOWHERE,
    ),
    Public(
        method="GET",
        path="/sso/restart/{upstream_id}",
        reason="begins a sign-in at a portal, as its tile does",
        status=404,
        parameters=NOWHERE,
    ),
)
