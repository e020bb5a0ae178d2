"""The kinds of providers there are. A new one is one file beside this one, and one line here."""

from __future__ import annotations

from provider_gateway.providers.contract import Provider
from provider_gateway.providers.oneroster import OneRoster

PROVIDERS: dict[str, Provider] = {
    "oneroster": OneRoster(),
}
