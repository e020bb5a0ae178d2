"""The kinds of providers there are. A new one is one file beside this one, and one line here."""

from __future__ import annotations

from provider_gateway.providers.classlink import ClassLink
from provider_gateway.providers.clever import Clever
from provider_gateway.providers.contract import Provider
from provider_gateway.providers.google_classroom import GoogleClassroom
from provider_gateway.providers.oneroster import OneRoster
from provider_gateway.providers.oneroster_csv import OneRosterCsv

PROVIDERS: dict[str, Provider] = {
    "classlink": ClassLink(),
    "clever": Clever(),
    "google-classroom": GoogleClassroom(),
    "oneroster": OneRoster(),
    "oneroster-csv": OneRosterCsv(),
}
