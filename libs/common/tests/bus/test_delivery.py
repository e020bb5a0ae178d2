"""How messages are handed over, apart from any bus."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg
import pytest

from homeroom.bus import BrakeEngaged, Handler, Message, Reject, Retry
from homeroom.bus.delivery import Delivery, Patience

QUICK = Patience(first_pause_seconds=0.001, longest_pause_seconds=0.002)


class Pages:
    """A partition with messages 0, 1, 2 … in pages."""

    def __init__(self, count: int, page: int) -> None:
        self._offsets = list(range(count))
        self._page = page
        self.committed = 0

    async def fetch(self) -> Sequence[Message]:
        """The next page; waits for ever when there is none."""
        if not self._offsets:
            await asyncio.Event().wait()
        page, self._offsets = self._offsets[: self._page], self._offsets[self._page :]
        return [Message("topic", 0, offset, "key", b"", {}, datetime.now(UTC)) for offset in page]

    async def commit(self, offset: int) -> None:
        """Remember how far it got."""
        self.committed = offset


async def deliver(pages: Pages, handler: Handler, until: int) -> tuple[Delivery, list[int]]:
    """Hand everything over until so much is committed or a lane ends; returns which messages are dead."""
    dead: list[int] = []

    async def bury(message: Message, _: str) -> None:
        dead.append(message.offset)

    delivery = Delivery(handler, bury, QUICK)
    delivery.take(("topic", 0), pages)
    async with asyncio.timeout(10):
        while pages.committed < until and not delivery.halted.is_set():
            await asyncio.sleep(0.001)
    await delivery.close(1.0)
    return delivery, dead


async def test_brake_on_more_than_half() -> None:
    """More than fifty dead letters among the last hundred messages engage the brake even with good ones between."""

    async def handle(messages: Sequence[Message]) -> None:
        for message in messages:
            if message.offset >= 100 and message.offset % 3:
                raise Reject(message, "MESSAGE_UNREADABLE")

    pages = Pages(1000, page=1)
    delivery, dead = await deliver(pages, handle, until=1000)
    assert isinstance(delivery.failure, BrakeEngaged)
    assert len(dead) == 51
    assert pages.committed == dead[-1] + 1


async def test_few_dead_among_many() -> None:
    """One dead message in three is no reason to stop."""

    async def handle(messages: Sequence[Message]) -> None:
        for message in messages:
            if message.offset % 3 == 0:
                raise Reject(message, "MESSAGE_UNREADABLE")

    delivery, dead = await deliver(Pages(600, page=1), handle, until=600)
    assert delivery.failure is None
    assert len(dead) == 200


async def test_rejecting_a_stranger() -> None:
    """A rejection that names another message counts as a failure of the handler, so nothing is lost by it."""

    async def handle(messages: Sequence[Message]) -> None:
        if messages[0].offset == 0:
            raise Reject(Message("topic", 0, 99, "", b"", {}, datetime.now(UTC)), "MESSAGE_UNREADABLE")

    pages = Pages(3, page=1)
    task = asyncio.create_task(deliver(pages, handle, until=3))
    await asyncio.sleep(0.1)
    assert pages.committed == 0
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize(
    ("trouble", "passes"),
    [
        (Retry(), True),
        (ExceptionGroup("both", [ConnectionError(), TimeoutError()]), True),
        (ExceptionGroup("both", [ConnectionError(), KeyError()]), False),
        (asyncpg.exceptions.InterfaceError("closed"), True),
        (asyncpg.exceptions._base.DataError("a value no column takes"), False),
        (KeyError(), False),
    ],
)
async def test_what_may_pass(trouble: Exception, passes: bool) -> None:
    """What may pass by itself comes again without limit, what can't is dead after five tries."""
    tries = 0

    async def handle(_: Sequence[Message]) -> None:
        nonlocal tries
        tries += 1
        if tries <= 8:
            raise trouble

    _, dead = await deliver(Pages(1, page=1), handle, until=1)
    assert (tries, dead) == ((9, []) if passes else (5, [0]))


async def test_handler_texts_stay_out_of_logs(caplog: pytest.LogCaptureFixture) -> None:
    """A failing handler is logged by kind and place, never by its text, which may quote a child's record."""

    async def handle(_: Sequence[Message]) -> None:
        raise KeyError("Canary Huber")

    await deliver(Pages(1, page=1), handle, until=1)
    assert "KeyError at test_delivery.py" in caplog.text
    assert "Canary" not in caplog.text
