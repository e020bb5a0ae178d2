"""Public events: CloudEvents 1.0, as products read them from Kafka, the pull feed and webhooks.

A feed is a feed of states. Whoever falls behind gets each record's newest state once, not every state it passed
through: take an `.updated` event for a record you don't know as an `.added` one, and drop what has an older
`version` than you hold. Delivery is at least once; `id` is the same for the same change.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from homeroom.bus import Outgoing
from homeroom.messages import ROSTER_EVENTS
from homeroom.roster import ENTITY_NAMES, Record

Change = Literal["added", "updated", "removed"]

SYNC_APPLIED = "homeroom.sync.applied.v1"
SPEC_VERSION = "1.0"


def event_type(collection: str, change: Change) -> str:
    """The CloudEvents type of a change to one record of a collection."""
    return f"homeroom.{ENTITY_NAMES[collection]}.{change}.v1"


EVENT_TYPES = frozenset(
    {SYNC_APPLIED, *(event_type(collection, change) for collection in ENTITY_NAMES for change in Change.__args__)}  # type: ignore[attr-defined]  # a Literal's words
)


class RecordData(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a record's event carries; for removals `record` is the last one known."""

    sourced_id: str
    version: int
    """Grows by one with every change of this record."""
    record: Record | dict[str, Any]


class AppliedData(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `homeroom.sync.applied.v1` carries."""

    run_id: str
    apply: int
    counts: dict[str, dict[str, int]]
    """{collection: {added, changed, removed}}"""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A CloudEvent in structured form; encoded as JSON it is what the pull feed serves."""

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: RecordData | AppliedData
    specversion: str = SPEC_VERSION
    datacontenttype: str = "application/json"


_encode = msgspec.json.Encoder(order="deterministic").encode


def to_message(event: Event, integration_id: str) -> Outgoing:
    """The event in Kafka's binary mode: attributes as `ce_` headers, the data as value, keyed by integration."""
    headers: Mapping[str, str] = {
        "ce_specversion": event.specversion,
        "ce_id": event.id,
        "ce_source": event.source,
        "ce_type": event.type,
        "ce_subject": event.subject,
        "ce_time": event.time.isoformat().replace("+00:00", "Z"),
        "content-type": event.datacontenttype,
    }
    return Outgoing(ROSTER_EVENTS.name, integration_id, _encode(event.data), headers)
