"""Rules for the routes that SAML identity providers and the browsers they send come to."""

from __future__ import annotations

from typing import Final

from authorization.rules import AnyRule, Public

NOWHERE: Final = {"upstream_id": "00000000-0000-4000-8000-000000000000"}

SSO_SAML_RULES: Final[tuple[AnyRule, ...]] = (
    Public(
        method="GET",
        path="/sso/saml/{upstream_id}/metadata",
        reason="our metadata for an identity provider: addresses and public keys",
        status=404,
        parameters=NOWHERE,
    ),
    Public(
        method="POST",
        path="/sso/saml/{upstream_id}/acs",
        reason="browsers bring answers of identity providers here; what counts is their signature",
        status=404,
        parameters=NOWHERE,
    ),
    Public(
        method="GET",
        path="/sso/saml/{upstream_id}/landed",
        reason="browsers come here with a token that was given to them a moment ago",
        status=400,
        parameters=NOWHERE,
    ),
    Public(
        method="GET",
        path="/sso/saml/{upstream_id}/slo",
        reason="identity providers end sessions here; what counts is their signature",
        status=404,
        parameters=NOWHERE,
    ),
    Public(
        method="POST",
        path="/sso/saml/{upstream_id}/slo",
        reason="the same, posted",
        status=404,
        parameters=NOWHERE,
    ),
)
