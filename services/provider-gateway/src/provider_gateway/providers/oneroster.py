"""OneRoster 1.1 and 1.2 over REST, from any server that speaks it more or less (docs/providers/oneroster.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Final

import httpx2

from homeroom.codes import Code
from homeroom.connections import OneRosterConnection
from provider_gateway.failures import ProviderError
from provider_gateway.providers._oneroster_bases import find_bases
from provider_gateway.providers._oneroster_district import District
from provider_gateway.providers._oneroster_pages import read_body
from provider_gateway.providers._oneroster_shapes import ROW_TYPES
from provider_gateway.providers.contract import Opening, Source
from provider_gateway.quirks import Quirks, find_quirks
from provider_gateway.signing import OAuth1, OAuth2, ScopeVersion

__all__ = ["OneRoster", "authorise", "read_body"]

_CORE_SCOPES: Final = ("roster-core.readonly", "roster.readonly")
_DEMOGRAPHICS_SCOPE: Final = "roster-demographics.readonly"


class OneRoster:
    """Declares the provider and opens connections to it."""

    kind = "oneroster"
    title = "OneRoster 1.1 and 1.2 REST"
    connection_model = OneRosterConnection
    capabilities: Mapping[str, Any] = {
        "collections": list(ROW_TYPES),
        "modes": ["full", "delta"],
        "states_counts": True,
        "single_records": True,
        "single_classes": True,
    }

    @asynccontextmanager
    async def open(self, opening: Opening) -> AsyncIterator[Source]:
        """Get ready to read one district."""
        quirks = find_quirks(opening.sis)
        endpoint = opening.client.address(opening.connection.values["endpoint_url"])
        remembered = opening.bookmark.state.get("base") if opening.bookmark else None
        yield District(opening, find_bases(endpoint, remembered), authorise(opening, quirks), quirks)


def authorise(opening: Opening, quirks: Quirks) -> Callable[[httpx2.URL], httpx2.Auth]:
    """How to sign requests below a base; AUTH_INVALID if the connection lacks what that takes."""
    values, client = opening.connection.values, opening.client
    secret = opening.connection.secrets["client_secret"]
    if values["auth"] != "oauth2":
        auth = OAuth1(values["client_id"], secret, values.get("signature_method", "HMAC-SHA256"))
        return lambda _base: auth
    token_url = values.get("token_url")
    if not token_url:
        raise ProviderError(Code.AUTH_INVALID, "OAuth 2 needs the address of the token endpoint.")
    client.address(token_url)
    scopes = (*_CORE_SCOPES, _DEMOGRAPHICS_SCOPE) if opening.options.sync_demographics else _CORE_SCOPES

    @cache
    def get(version: ScopeVersion) -> OAuth2:
        return OAuth2(
            values["client_id"], secret, token_url, scopes, client.post_form, version=version, style=quirks.token
        )

    return lambda base: get("v1p2" if base.path.lower().endswith("v1p2") else "v1p1")
