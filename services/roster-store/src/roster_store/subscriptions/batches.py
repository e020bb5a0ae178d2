"""What one webhook holds: some events in a row, in the envelope that Standard Webhooks recommends.

The id of a webhook stands for a part of the feed: whoever is sent the same part again knows it by its id, unless it
asked for it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from roster_store.feed import Cursor, FeedEvent, Page

ENVELOPE: Final = "homeroom.events.v1"
TEST: Final = "homeroom.test.v1"
MAX_BYTES: Final = 1_000_000
"""Of a body; a larger event is sent alone."""
_FRAME_BYTES: Final = 500

_encode = msgspec.json.Encoder(order="deterministic").encode


class TestData(msgspec.Struct, frozen=True, kw_only=True):
    """What `homeroom.test.v1` carries."""

    __test__ = False  # pytest would take the class for a test by its name

    subscription_id: str


class TestEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A CloudEvent that is about nothing but the subscription itself."""

    __test__ = False

    id: str
    source: str
    time: datetime
    data: TestData
    type: str = TEST
    subject: str = "test"
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


@dataclass(frozen=True, slots=True)
class Batch:
    """Events to be sent at once, where the feed stands after them, and whether there is more at once."""

    events: Sequence[FeedEvent]
    encoded: Sequence[msgspec.Raw]
    end: Cursor
    more: bool


def cut(page: Page, upto: Cursor | None = None, most_bytes: int = MAX_BYTES) -> Batch:
    """As much of a page as fits into one body; with `upto` nothing beyond that place."""
    events: list[FeedEvent] = []
    encoded: list[msgspec.Raw] = []
    size = _FRAME_BYTES
    for found in page.events:
        if upto is not None and found.cursor > upto:
            return Batch(events, encoded, upto, more=True)
        body = _encode(found.event)
        size += len(body) + 1
        if events and size > most_bytes:
            return Batch(events, encoded, events[-1].cursor, more=True)
        events.append(found)
        encoded.append(msgspec.Raw(body))
    if upto is not None and page.cursor > upto:
        return Batch(events, encoded, upto, more=True)
    return Batch(events, encoded, page.cursor, page.more)


def write_body(subscription: UUID, batch: Batch) -> bytes:
    """The body of a webhook."""
    return _write(batch.events[-1].event.time, subscription, batch.encoded, str(batch.end))


def write_test(subscription: UUID, event: TestEvent) -> bytes:
    """The body of a webhook that tests the way: of the same form, with one event and no cursor."""
    return _write(event.time, subscription, [msgspec.Raw(_encode(event))], None)


def make_test(subscription: UUID, test: UUID, at: datetime) -> TestEvent:
    """The event of a test."""
    data = TestData(subscription_id=str(subscription))
    return TestEvent(id=str(test), source=f"/subscriptions/{subscription}", time=at, data=data)


def encode_test(event: TestEvent) -> bytes:
    """The data of a test as a message on a topic."""
    return _encode(event.data)


def name_batch(subscription: UUID, round_no: int, start: str, end: Cursor) -> str:
    """The id of a webhook: of this part of the feed, sent for the n-th time."""
    text = f"{subscription}/{round_no}/{start}/{end}"
    return f"msg_{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _write(at: datetime, subscription: UUID, events: Sequence[msgspec.Raw], cursor: str | None) -> bytes:
    data = {"subscription_id": str(subscription), "events": events, "cursor": cursor}
    return msgspec.json.encode({"type": ENVELOPE, "timestamp": at, "data": data})
