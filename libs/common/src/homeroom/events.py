"""Public events: CloudEvents 1.0, as products read them from Kafka, the pull feed and webhooks.

A feed is a feed of states. Whoever falls behind gets each record's newest state once, not every state it passed
through. To hold what the feed says, fold it, per source (`/integrations/{id}`), by the record's subject:

* `.added`, `.updated` and `.activated` put the record in; take an `.updated` event for one you don't know as `.added`.
* `.removed` takes it out, also one you don't know.
* Drop what has an older `version` than you hold or took out. Delivery is at least once; `id` is the same for the same
  change.
* `homeroom.license.started.v1` begins a product's view of a source anew: forget all you hold from it, everything that
  is seen now follows as `.added`. `homeroom.license.ended.v1` ends it: forget all you hold from that source.

While everything is told from the start, a record that changes meanwhile may be told twice: as it was read, and again in
its place. The same holds when a reader first asks for some schools of an integration.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from homeroom.bus import Outgoing
from homeroom.messages import ROSTER_EVENTS
from homeroom.roster import ENTITY_NAMES, Record

Change = Literal["added", "updated", "removed"]

SYNC_APPLIED: Final = "homeroom.sync.applied.v1"
LICENSE_STARTED: Final = "homeroom.license.started.v1"
LICENSE_ENDED: Final = "homeroom.license.ended.v1"
CLASS_ACTIVATED: Final = "homeroom.class.activated.v1"
ENROLLMENT_ACTIVATED: Final = "homeroom.enrollment.activated.v1"
SPEC_VERSION: Final = "1.0"


def event_type(collection: str, change: Change) -> str:
    """The CloudEvents type of a change to one record of a collection."""
    return f"homeroom.{ENTITY_NAMES[collection]}.{change}.v1"


RECORD_EVENTS: Final[Mapping[str, str]] = {
    **{event_type(collection, change): collection for collection in ENTITY_NAMES for change in Change.__args__},  # type: ignore[attr-defined]  # a Literal's words
    CLASS_ACTIVATED: "classes",
    ENROLLMENT_ACTIVATED: "enrollments",
}
"""Types of events that carry a record → its collection."""


class RecordData(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a record's event carries.

    For removals `record` is the last one known; nothing but its `sourcedId` where it left what the reader may see.
    A record of `class.activated` and `enrollment.activated` was not seen before its class was started and its person
    had come in (D2).
    """

    sourced_id: str
    version: int
    """Grows with every change of this record that the reader is told of."""
    record: Record | dict[str, Any]


class AppliedData(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `homeroom.sync.applied.v1` carries."""

    run_id: str
    apply: int
    counts: dict[str, dict[str, int]]
    """{collection: {added, changed, removed}}, of the collections a reader sees as a whole; empty for others."""


class LicenseData(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `homeroom.license.started.v1` and `homeroom.license.ended.v1` carry: what may be seen from now on.

    The first comes with everything that is licensed, and again whenever its terms change.
    """

    product_id: str
    organization_id: str
    schools: tuple[str, ...] | None = None
    """The sourcedIds of the only schools; None for all, and after the end."""
    grants: tuple[str, ...] = ()
    """Groups of fields (`homeroom.grants`); none after the end."""


EVENT_DATA: Final[Mapping[str, type[msgspec.Struct]]] = {
    **dict.fromkeys(RECORD_EVENTS, RecordData),
    SYNC_APPLIED: AppliedData,
    LICENSE_STARTED: LicenseData,
    LICENSE_ENDED: LicenseData,
}
"""Every type of event → what its data is."""
EVENT_TYPES: Final = frozenset(EVENT_DATA)


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A CloudEvent in structured form; encoded as JSON it is what the pull feed serves."""

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: RecordData | AppliedData | LicenseData
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
