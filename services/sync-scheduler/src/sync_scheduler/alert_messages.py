"""What an alert says, to programs and to people: codes, sentences and links, never anything of a roster.

The text for webhooks follows Standard Webhooks (https://www.standardwebhooks.com): `type`, `timestamp`, `data`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from homeroom.codes import Code
from sync_scheduler.alerts import Ended, Kind
from sync_scheduler.runs import State

_SENTENCES: dict[Kind, str] = {
    Kind.FAILING: "Syncs fail.",
    Kind.RECOVERED: "Syncs succeed again.",
    Kind.HELD: "A sync is held until somebody decides.",
    Kind.HOLD_REMINDER: "A held sync still waits for a decision, and expires within a day.",
    Kind.STALE: "No sync has succeeded for longer than two slots of the schedule.",
    Kind.CREDENTIALS_ENTERED: "The district entered its credentials, and they work.",
    Kind.SUBSCRIPTION_DISABLED: "Nothing is told of changes any more: a subscription is disabled.",
    Kind.CONNECTION_WARNING: "A connection for sign-in must be looked after, or people will not get in by it any more.",
    Kind.TEST: "This is a test; nothing is wrong.",
}
_TYPES: dict[Kind, str] = {
    Kind.TEST: "test",
    Kind.SUBSCRIPTION_DISABLED: "subscription.disabled",
    Kind.CONNECTION_WARNING: "connection.warning",
}
"""Types of alerts that are about no integration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an alert is about."""

    alert_id: UUID
    kind: Kind
    at: datetime
    organization_id: UUID | None = None
    organization: str | None = None
    integration_id: UUID | None = None
    integration: str | None = None
    run: Ended | None = None
    code: Code | None = None
    subscription_id: UUID | None = None
    connection_id: UUID | None = None
    product_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """An alert, ready to be sent."""

    payload: str
    """JSON, the very text that is signed."""
    subject: str
    text: str


def compose(about: Subject, *, origin: str) -> Message:
    """Put an alert into words. `origin` is where links lead."""
    sentence = _SENTENCES[about.kind]
    partly = about.kind is Kind.RECOVERED and about.run is not None and about.run.state is State.PARTIAL
    if partly:
        sentence += " The last one was partial."
    entry = about.code.entry if about.code else None
    links = _list_links(about, origin)
    detail = about.run.detail if about.run else None
    data: dict[str, Any] = {
        "alert_id": str(about.alert_id),
        "organization_id": _text(about.organization_id),
        "organization": about.organization,
        "integration_id": _text(about.integration_id),
        "integration": about.integration,
        "subscription_id": _text(about.subscription_id),
        "connection_id": _text(about.connection_id),
        "product_id": _text(about.product_id),
        "run_id": _text(about.run.id if about.run else None),
        "code": about.code.value if about.code else None,
        "title": entry.title if entry else None,
        "message": sentence,
        "detail": detail,
        "next_step": entry.next_step if entry else None,
        "who": entry.who if entry else None,
        "expires_at": about.run.expires_at.isoformat() if about.run and about.run.expires_at else None,
        "links": links,
    }
    kind = _TYPES.get(about.kind, f"integration.{about.kind.value}")
    payload = msgspec.json.encode({"type": kind, "timestamp": about.at.isoformat(), "data": data}).decode()
    name = _clean(about.integration or "Homeroom")
    lines = [sentence, "", f"Integration: {name}"] if about.integration else [sentence]
    if about.organization:
        lines.append(f"Organization: {_clean(about.organization)}")
    if entry and about.code:
        lines += ["", f"{entry.title} ({about.code.value})."]
    if detail:
        lines.append(_clean(detail))
    if entry:
        lines += ["", f"What to do: {entry.next_step}"]
    if links:
        lines += ["", *(f"{what}: {where}" for what, where in links.items())]
    return Message(payload, f"[Homeroom] {name}: {sentence.split('.')[0]}", "\n".join(lines) + "\n")


def _list_links(about: Subject, origin: str) -> dict[str, str]:
    links = {}
    if about.integration_id:
        links["integration"] = f"{origin}/v1/integrations/{about.integration_id}"
    if about.subscription_id:
        links["subscription"] = f"{origin}/v1/subscriptions/{about.subscription_id}"
    if about.connection_id:
        links["connection"] = f"{origin}/v1/connections/{about.connection_id}"
    if about.run:
        links["run"] = f"{origin}/v1/runs/{about.run.id}"
        links["log"] = f"{origin}/v1/runs/{about.run.id}/log"
    return links


def _text(value: UUID | None) -> str | None:
    return str(value) if value else None


def _clean(text: str) -> str:
    """On one line, whatever somebody named it."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
