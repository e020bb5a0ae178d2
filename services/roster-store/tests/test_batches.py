"""What one webhook holds, and when the next try is: decided without a network."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from homeroom.events import Event, RecordData, event_type
from homeroom.roster import Class
from roster_store.feed import Cursor, FeedEvent, Page
from roster_store.subscriptions.batches import cut, name_batch, write_body
from roster_store.subscriptions.pauses import PAUSES, find_pause, is_over

AT = datetime(2026, 9, 1, 6, tzinfo=UTC)
WHOSE = UUID(int=9)


def told(place: int, title: str = "Maths") -> FeedEvent:
    """An event at a place of the feed's first step."""
    record = Class(sourced_id=f"class-{place}", title=title, school_sourced_id="s")
    event = Event(
        id=f"1-{place}",
        source="/integrations/i",
        type=event_type("classes", "added"),
        subject=f"classes/class-{place}",
        time=AT,
        data=RecordData(sourced_id=record.sourced_id, version=1, record=record),
    )
    return FeedEvent(event, str(UUID(int=1)), Cursor(1, place))


PAGE = Page([told(place) for place in range(1, 6)], Cursor(1), more=False)


def test_a_page_that_fits() -> None:
    """A page that fits is one batch, and the cursor after it is the page's."""
    batch = cut(PAGE)
    assert (len(batch.events), batch.end, batch.more) == (5, Cursor(1), False)
    body = json.loads(write_body(WHOSE, batch))
    assert [event["id"] for event in body["data"]["events"]] == [f"1-{place}" for place in range(1, 6)]
    assert (body["timestamp"], body["data"]["cursor"]) == ("2026-09-01T06:00:00Z", str(Cursor(1)))


def test_bodies_are_bounded() -> None:
    """A body holds as many events as fit, at least one, and the rest comes with the next ones; nothing is left out."""
    whole = Page([told(1), told(2, "x" * 3000), told(3), told(4)], Cursor(1), more=False)
    found: list[str] = []
    sizes = []
    while whole.events:
        batch = cut(whole, most_bytes=1500)
        sizes.append(len(write_body(WHOSE, batch)))
        found += [one.event.id for one in batch.events]
        assert batch.more is (len(found) < 4)
        whole = Page(whole.events[len(batch.events) :], whole.cursor, more=False)
    assert found == ["1-1", "1-2", "1-3", "1-4"]
    assert [size <= 1500 for size in sizes] == [True, False, True]


@pytest.mark.parametrize(
    ("upto", "ids", "end", "more"),
    [
        (Cursor(1, 3), 3, Cursor(1, 3), True),
        (Cursor(1), 5, Cursor(1), False),
        (Cursor(0, 7), 0, Cursor(0, 7), True),
        (Cursor(2), 5, Cursor(1), False),
    ],
)
def test_the_same_batch_again(upto: Cursor, ids: int, end: Cursor, more: bool) -> None:
    """A batch that is tried again ends where it ended, whatever has happened since; what moved on comes later."""
    batch = cut(PAGE, upto)
    assert (len(batch.events), batch.end, batch.more) == (ids, end, more)


def test_ids_of_webhooks() -> None:
    """An id stands for one part of one subscription's feed, and for a repeat that was asked for."""
    same = (WHOSE, 0, str(Cursor()), Cursor(1))
    others = {
        name_batch(UUID(int=8), *same[1:]),
        name_batch(WHOSE, 1, *same[2:]),
        name_batch(WHOSE, 0, str(Cursor(0, 1)), Cursor(1)),
        name_batch(*same[:3], Cursor(1, 3)),
    }
    assert name_batch(*same) == name_batch(*same)
    assert len(others | {name_batch(*same)}) == 5


def test_pauses() -> None:
    """Pauses grow to ten hours and stay there, a little apart by chance, unless the endpoint asks for another one."""
    assert [find_pause(failures, None, 0).total_seconds() for failures in (1, 2, 3, 4, 5, 6, 7, 99)] == [
        5, 300, 1800, 7200, 18000, 36000, 36000, 36000,
    ]  # fmt: skip
    assert find_pause(2, None, 1) == PAUSES[1] * 1.1
    assert PAUSES[1] <= find_pause(2, None) <= PAUSES[1] * 1.1
    asked = [find_pause(3, seconds, 0).total_seconds() for seconds in (0, 40, 10**9)]
    assert asked == [1, 40, 3600]


def test_patience() -> None:
    """Five days of failures are enough."""
    assert not is_over(AT, AT + timedelta(days=5) - timedelta(seconds=1))
    assert is_over(AT, AT + timedelta(days=5))
