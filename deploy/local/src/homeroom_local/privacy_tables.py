"""The tables in `privacy.md`: where something about a person lies, and how long. Made from what enforces them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from homeroom.messages import TOPICS
from homeroom.settings import PREFIX, Settings
from provider_gateway.settings import GatewaySettings
from roster_store.privacy.export import TOPICS_WITH_PEOPLE
from roster_store.privacy.holdings import HOLDINGS
from roster_store.settings import StoreSettings
from sso.holdings import HOLDINGS as SIGN_IN_HOLDINGS
from sso.settings import Settings as SignInSettings
from sync_scheduler.settings import SchedulerSettings

KEPT_BY: tuple[tuple[str, type[Settings], tuple[str, ...]], ...] = (
    (
        "roster-store",
        StoreSettings,
        ("tombstone_days", "erased_days", "history_days", "plan_days", "hold_days", "link_days", "audit_days"),
    ),
    ("sync-scheduler", SchedulerSettings, ("run_log_days", "slots_keep_days", "audit_days")),
    ("provider-gateway", GatewaySettings, ("uploads_keep_days",)),
    ("sso", SignInSettings, ("trace_days", "audit_days")),
)
"""The settings that say how long something is kept, by service."""


class _Holding(Protocol):
    """A table with something about people, as services list them."""

    @property
    def table(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def kept(self) -> str: ...
    @property
    def erasure(self) -> str: ...


_SETTING = re.compile(r"`(\w+)`")


def describe_holdings() -> str:
    """A row for each table of the store with something about people."""
    return _describe_holdings(HOLDINGS, StoreSettings)


def describe_sign_in() -> str:
    """The same for each table of sso."""
    return _describe_holdings(SIGN_IN_HOLDINGS, SignInSettings)


def _describe_holdings(holdings: Iterable[_Holding], settings: type[Settings]) -> str:
    rows = (
        (f"`{one.table}`", one.what, _SETTING.sub(lambda found: _name(found, settings), one.kept), one.erasure)
        for one in holdings
    )
    return "\n" + _table(("table", "what it says of a person", "kept", "at an erasure"), rows) + "\n"


def describe_retention() -> str:
    """A row for each setting, with its default."""
    rows = (
        (service, f"`{PREFIX}{name.upper()}`", f"{settings.model_fields[name].default:g}", _describe(settings, name))
        for service, settings, names in KEPT_BY
        for name in names
    )
    return "\n" + _table(("service", "setting", "days", "meaning"), rows) + "\n"


def describe_topics() -> str:
    """A row for each topic whose messages may hold something of a person."""
    rows = (
        (f"`{topic.name}`", f"{topic.retention_seconds / 86_400:g}")
        for topic in TOPICS
        if topic.name in TOPICS_WITH_PEOPLE
    )
    return "\n" + _table(("topic", "days"), rows) + "\n"


def _name(found: re.Match[str], settings: type[Settings]) -> str:
    if found[1] not in settings.model_fields:
        msg = f"there is no setting {found[1]}"
        raise ValueError(msg)
    return f"`{PREFIX}{found[1].upper()}`"


def _describe(settings: type[Settings], name: str) -> str:
    return settings.model_fields[name].description or ""


def _table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(heading)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
