"""The promises every bus keeps: one suite, run on each implementation against a real server.

A subclass gives the `server` (with `kill` and `restart`), the `address` of a bus on it and how to `open` it. Run as a
module this file is a member of a group in a process of its own, for the tests that kill one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from homeroom.bus import (
    MAX_MESSAGE_BYTES,
    BrakeEngaged,
    Bus,
    BusError,
    BusUnavailable,
    Consumer,
    Handler,
    Message,
    MessageTooLarge,
    Outgoing,
    Reject,
    Retry,
    Topic,
)
from homeroom.bus.deadletter import read, replay, topic_for
from homeroom.bus.delivery import Patience
from homeroom.bus.sending import partition_of

PATIENCE_SECONDS = 45.0
PARTITIONS = 6


class Ledger:
    """What handlers were given, in order, by whom."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, Message]] = []

    def handler(self, name: str = "") -> Handler:
        """A handler that writes into this ledger."""

        async def note(messages: Sequence[Message]) -> None:
            self.taken.extend((name, message) for message in messages)

        return note

    @property
    def values(self) -> list[str]:
        """The values, as text."""
        return [message.value.decode() for _, message in self.taken]

    async def holds(self, count: int, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until so many different messages came."""
        await eventually(lambda: len(set(self.values)) >= count, seconds, lambda: f"{len(set(self.values))} of {count}")


async def eventually(
    reached: Callable[[], bool], seconds: float = PATIENCE_SECONDS, said: Callable[[], object] = lambda: "not reached"
) -> None:
    """Wait for something; fails with what is `said` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, said()
        await asyncio.sleep(0.02)


@asynccontextmanager
async def consuming(*consumers: Consumer) -> AsyncIterator[None]:
    """Run consumers for as long as the block."""
    tasks = [asyncio.create_task(consumer.run()) for consumer in consumers]
    try:
        yield
    finally:
        await asyncio.gather(*(consumer.stop() for consumer in consumers))
        await asyncio.gather(*tasks)


def numbered(topic: str, count: int, *, keys: int = 20, first: int = 0) -> list[Outgoing]:
    """Messages whose value is their number, spread over some keys."""
    return [Outgoing(topic, f"key-{number % keys}", str(number).encode()) for number in range(first, first + count)]


def assert_in_order(messages: Sequence[Message]) -> None:
    """No message came before one that stands before it in its partition; repeats are allowed."""
    seen: defaultdict[int, int] = defaultdict(lambda: -1)
    for message in messages:
        assert message.offset <= seen[message.partition] + 1, f"{message.partition}: {message.offset} came too early"
        seen[message.partition] = max(seen[message.partition], message.offset)


class Member:
    """A member of a group in another process; its handler writes what it takes and then never returns."""

    def __init__(self, kind: str, address: str, topic: str, group: str, book: Path) -> None:
        self.book = book
        self._process = subprocess.Popen(
            [sys.executable, "-m", "homeroom.testing.bus_contract", kind, address, topic, group, str(book)]
        )

    def took(self) -> int:
        """How many messages it has written down."""
        return len(self.book.read_text().splitlines()) if self.book.exists() else 0

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self) -> None:
        """Kill it, if it still runs, and wait."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait(10)


class BusContract:
    """Promises of `homeroom.bus`; subclass it as `Test…`."""

    kind: str
    """How a process of its own finds the bus: "kafka" or "postgres"."""

    def open(self, address: str, **settings: Any) -> AbstractAsyncContextManager[Bus]:
        """Open a bus with short sessions; `deadline`, `window_bytes` and `patience` may be set by a test."""
        raise NotImplementedError

    @pytest.fixture
    async def bus(self, address: str) -> AsyncIterator[Bus]:
        """An open bus."""
        async with self.open(address) as bus:
            yield bus

    @pytest.fixture
    async def topic(self, bus: Bus) -> str:
        """A new topic of six partitions."""
        name = f"topic-{uuid.uuid4().hex}"
        await bus.ensure_topics([Topic(name, partitions=PARTITIONS)])
        return name

    @pytest.fixture
    def group(self) -> str:
        """A new group."""
        return f"group-{uuid.uuid4().hex}"

    async def _lag_becomes(self, bus: Bus, group: str, topic: str, expected: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (lag := await bus.lag(group, [topic])) != expected:
            assert time.monotonic() < deadline, f"the lag is {lag}, not {expected}"
            await asyncio.sleep(0.05)

    # -- order and headers

    async def test_order_per_key(self, bus: Bus, topic: str, group: str) -> None:
        """Messages of one key arrive in the order they were handed over, by send and by publish, each once."""
        sent = [await bus.send(message) for message in numbered(topic, 1000)]
        await bus.publish(*numbered(topic, 1000, first=1000))
        sent += [await bus.send(message) for message in numbered(topic, 100, first=2000)]
        await asyncio.gather(*sent)
        ledger = Ledger()
        async with consuming(bus.consumer([topic], ledger.handler(), group=group)):
            await ledger.holds(2100)
        numbers: defaultdict[str, list[int]] = defaultdict(list)
        places: defaultdict[str, set[int]] = defaultdict(set)
        for _, message in ledger.taken:
            numbers[message.key].append(int(message.value))
            places[message.key].add(message.partition)
        assert len(ledger.taken) == 2100
        assert all(numbers[key] == sorted(numbers[key]) for key in numbers)
        assert all(len(places[key]) == 1 for key in places)
        assert len(set().union(*places.values())) > 1

    async def test_headers_round_trip(self, bus: Bus, topic: str, group: str) -> None:
        """Key, value, headers and the time of sending arrive as they were sent."""
        headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "content-type": "x; é"}
        before = datetime.now(UTC) - timedelta(seconds=5)
        await bus.publish(Outgoing(topic, "schlüssel", b"\x00\xff value", headers), Outgoing(topic, "k", b""))
        ledger = Ledger()
        async with consuming(bus.consumer([topic], ledger.handler(), group=group)):
            await eventually(lambda: len(ledger.taken) == 2)
        messages = {message.key: message for _, message in ledger.taken}
        told = messages["schlüssel"]
        assert (told.topic, told.value, dict(told.headers)) == (topic, b"\x00\xff value", headers)
        assert before < told.sent_at < datetime.now(UTC) + timedelta(seconds=5)
        assert (messages["k"].value, dict(messages["k"].headers)) == (b"", {})

    async def test_too_large_is_refused(self, bus: Bus, topic: str, group: str) -> None:
        """A value over the limit is refused with the numbers, and nothing of that call is sent; one at it passes."""
        fits = Outgoing(topic, "fits", os.urandom(MAX_MESSAGE_BYTES))
        with pytest.raises(MessageTooLarge, match="1,000,001 bytes, the limit is 1,000,000; split it"):
            await bus.publish(fits, Outgoing(topic, "k", bytes(MAX_MESSAGE_BYTES + 1)))
        with pytest.raises(MessageTooLarge, match="key and headers"):
            await bus.send(Outgoing(topic, "k", b"", {"h": "x" * 20_000}))
        assert await bus.lag(group, [topic]) == 0
        await bus.publish(fits)
        assert await bus.lag(group, [topic]) == 1

    async def test_unknown_topic(self, bus: Bus) -> None:
        """A topic nobody made is refused at once with what to do, and has no lag."""
        with pytest.raises(BusError, match="create it with ensure_topics"):
            await asyncio.wait_for(bus.send(Outgoing("nowhere", "k", b"")), 5)
        assert await bus.lag("anybody", ["nowhere"]) == 0

    async def test_ensuring_twice(self, bus: Bus, topic: str, group: str) -> None:
        """A topic that exists keeps its partitions and messages when it is ensured again."""
        await bus.publish(*numbered(topic, 10))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(bus.ensure_topics([Topic(topic, partitions=1), Topic(topic + "-second")]))
        assert await bus.lag(group, [topic]) == 10

    # -- groups

    async def test_members_share(self, bus: Bus, topic: str, group: str) -> None:
        """Three members divide six partitions evenly and each message goes to one of them."""
        ledger = Ledger()
        members = [bus.consumer([topic], ledger.handler(name), group=group) for name in "abc"]
        async with consuming(*members):
            await eventually(
                lambda: sorted(len(member.assigned) for member in members) == [2, 2, 2],
                said=lambda: [member.assigned for member in members],
            )
            await bus.publish(*numbered(topic, 600))
            await ledger.holds(600)
        assert len(ledger.taken) == 600
        assert len({name for name, _ in ledger.taken}) == 3
        owners = {(message.partition, name) for name, message in ledger.taken}
        assert len(owners) == len({partition for partition, _ in owners})

    async def test_members_come_and_go(self, bus: Bus, topic: str, group: str) -> None:
        """While members join and leave under load nothing is lost and no message overtakes another of its partition."""
        ledger = Ledger()

        def member(name: str) -> Consumer:
            async def handle(messages: Sequence[Message]) -> None:
                await asyncio.sleep(0.005)
                ledger.taken.extend((name, message) for message in messages)

            return bus.consumer([topic], handle, group=group, max_batch=10)

        async def produce() -> None:
            for start in range(0, 2000, 40):
                await bus.publish(*numbered(topic, 40, first=start))
                await asyncio.sleep(0.05)

        producing = asyncio.create_task(produce())
        async with consuming(member("first")):
            await ledger.holds(100)
            for name in ("second", "third"):
                async with consuming(member(name)):
                    await eventually(lambda name=name: name in {who for who, _ in ledger.taken})  # type: ignore[misc] # mypy can't infer a lambda's default
            await producing
            await ledger.holds(2000)
        assert_in_order([message for _, message in ledger.taken])
        assert len(ledger.taken) < 2200

    async def test_groups_are_independent(self, bus: Bus, topic: str, group: str) -> None:
        """Two groups see every message each, and the progress of one says nothing about the other."""
        await bus.publish(*numbered(topic, 100))
        one, two = Ledger(), Ledger()
        async with consuming(bus.consumer([topic], one.handler(), group=group)):
            await one.holds(100)
            await self._lag_becomes(bus, group, topic, 0)
        assert await bus.lag(group + "-two", [topic]) == 100
        async with consuming(bus.consumer([topic], two.handler(), group=group + "-two")):
            await two.holds(100)

    async def test_latest_group_begins_at_the_end(self, bus: Bus, topic: str, group: str) -> None:
        """A group that starts at the latest message sees what is sent from then on."""
        await bus.publish(*numbered(topic, 50))
        ledger = Ledger()
        consumer = bus.consumer([topic], ledger.handler(), group=group, start="latest")
        async with consuming(consumer):
            await eventually(lambda: len(consumer.assigned) == PARTITIONS)
            await asyncio.sleep(1.0)
            await bus.publish(*numbered(topic, 50, first=50))
            await ledger.holds(50)
        assert min(map(int, ledger.values)) == 50

    # -- commits

    async def test_committed_never_comes_again(self, bus: Bus, topic: str, group: str) -> None:
        """What a handler returned from is committed and does not come again after an orderly stop."""
        await bus.publish(*numbered(topic, 100))
        first, second = Ledger(), Ledger()
        async with consuming(bus.consumer([topic], first.handler(), group=group)):
            await first.holds(100)
        assert await bus.lag(group, [topic]) == 0
        await bus.publish(*numbered(topic, 10, first=100))
        async with consuming(bus.consumer([topic], second.handler(), group=group)):
            await second.holds(10)
        assert sorted(map(int, second.values)) == list(range(100, 110))

    async def test_stop_finishes_the_batch_in_hand(self, bus: Bus, topic: str, group: str) -> None:
        """Stopping waits for the handler and commits its batch, and no other is begun."""
        await bus.publish(*(Outgoing(topic, "one key", str(number).encode()) for number in range(20)))
        begun = asyncio.Event()
        finished: list[Message] = []

        async def slow(messages: Sequence[Message]) -> None:
            begun.set()
            await asyncio.sleep(0.7)
            finished.extend(messages)

        consumer = bus.consumer([topic], slow, group=group, max_batch=5)
        running = asyncio.create_task(consumer.run())
        await asyncio.wait_for(begun.wait(), PATIENCE_SECONDS)
        await consumer.stop()
        await running
        assert len(finished) == 5
        assert await bus.lag(group, [topic]) == 15

    async def test_uncommitted_comes_again(self, bus: Bus, topic: str, group: str) -> None:
        """A batch whose handler was cut off is not committed and comes again."""
        await bus.publish(*numbered(topic, 10, keys=1))
        begun = asyncio.Event()

        async def never(_: Sequence[Message]) -> None:
            begun.set()
            await asyncio.Event().wait()

        running = asyncio.create_task(bus.consumer([topic], never, group=group, max_batch=5).run())
        await asyncio.wait_for(begun.wait(), PATIENCE_SECONDS)
        running.cancel()
        await asyncio.wait([running])
        assert await bus.lag(group, [topic]) == 10
        ledger = Ledger()
        async with consuming(bus.consumer([topic], ledger.handler(), group=group)):
            await ledger.holds(10)

    async def test_killed_member(self, bus: Bus, topic: str, group: str, address: str, tmp_path: Path) -> None:
        """What a member held when it was killed with -9 in its handler comes again at another within seconds."""
        await bus.publish(*numbered(topic, 50))
        member = Member(self.kind, address, topic, group, tmp_path / "book")
        ledger = Ledger()
        try:
            await eventually(lambda: member.took() > 0)
            member.send(signal.SIGKILL)
            killed = time.monotonic()
            async with consuming(bus.consumer([topic], ledger.handler(), group=group)):
                await ledger.holds(50)
        finally:
            member.end()
        assert time.monotonic() - killed < 20
        assert_in_order([message for _, message in ledger.taken])

    async def test_frozen_member(self, bus: Bus, topic: str, group: str, address: str, tmp_path: Path) -> None:
        """A member that falls silent loses its partitions, and when it wakes it can't undo the group's progress."""
        await bus.publish(*numbered(topic, 50))
        member = Member(self.kind, address, topic, group, tmp_path / "book")
        ledger = Ledger()
        try:
            await eventually(lambda: member.took() > 0)
            member.send(signal.SIGSTOP)
            async with consuming(bus.consumer([topic], ledger.handler(), group=group)):
                await ledger.holds(50)
                await self._lag_becomes(bus, group, topic, 0)
                member.send(signal.SIGCONT)
                member.send(signal.SIGUSR1)  # its handler returns now, long after the partition went elsewhere
                await asyncio.sleep(1.0)
                assert await bus.lag(group, [topic]) == 0
        finally:
            member.end()

    async def test_slow_handler_keeps_its_place(self, bus: Bus, topic: str, group: str) -> None:
        """A handler that takes longer than the session stays a member and its batch does not come again."""
        ledger = Ledger()

        async def slow(messages: Sequence[Message]) -> None:
            await asyncio.sleep(7.0 if not ledger.taken else 0)
            ledger.taken.extend(("", message) for message in messages)

        await bus.publish(*numbered(topic, 20))
        async with consuming(bus.consumer([topic], slow, group=group)):
            await ledger.holds(20)
            await self._lag_becomes(bus, group, topic, 0)
        assert len(ledger.taken) == 20

    async def test_pause(self, bus: Bus, topic: str, group: str) -> None:
        """A paused member takes nothing and stays a member, what waits shows as lag, and it goes on when told."""
        ledger = Ledger()
        consumer = bus.consumer([topic], ledger.handler(), group=group)
        async with consuming(consumer):
            await bus.publish(*numbered(topic, 50))
            await ledger.holds(50)
            await self._lag_becomes(bus, group, topic, 0)
            consumer.pause()
            await bus.publish(*numbered(topic, 70, first=50))
            await asyncio.sleep(1.5)
            assert len(ledger.taken) == 50
            assert await bus.lag(group, [topic]) == 70
            assert len(consumer.assigned) == PARTITIONS
            consumer.resume()
            await ledger.holds(120)
        assert len(ledger.taken) == 120

    async def test_pause_holds_for_new_partitions(self, bus: Bus, topic: str, group: str) -> None:
        """Partitions that come to a paused member wait as well."""
        ledger = Ledger()
        paused = bus.consumer([topic], ledger.handler("paused"), group=group)
        other = bus.consumer([topic], ledger.handler("other"), group=group)
        paused.pause()
        async with consuming(paused):
            async with consuming(other):
                await eventually(lambda: len(paused.assigned) == len(other.assigned) == PARTITIONS / 2)
            await eventually(lambda: len(paused.assigned) == PARTITIONS)
            await bus.publish(*numbered(topic, 50))
            await asyncio.sleep(1.0)
            assert not ledger.taken

    # -- failures of handlers

    async def test_rejected_message(self, bus: Bus, topic: str, group: str) -> None:
        """A rejected message goes to the dead letters with its reason and nothing personal, the others are handled."""
        secret = b'{"givenName": "Canary"}'
        ledger = Ledger()

        async def handle(messages: Sequence[Message]) -> None:
            for message in messages:
                if message.value == secret:
                    raise Reject(message, "MESSAGE_UNREADABLE")
            ledger.taken.extend(("", message) for message in messages)

        trace = {"traceparent": "00-aa-bb-01"}
        await bus.publish(*numbered(topic, 20, keys=1), Outgoing(topic, "key-0", secret, trace))
        await bus.publish(*numbered(topic, 20, keys=1, first=20))
        async with consuming(bus.consumer([topic], handle, group=group)):
            await ledger.holds(40)
            await self._lag_becomes(bus, group, topic, 0)
        [letter] = await read(bus, topic)
        assert list(map(int, ledger.values)) == list(range(40))
        assert (letter.topic, letter.offset, letter.group, letter.reason) == (topic, 20, group, "MESSAGE_UNREADABLE")
        assert (letter.message.key, letter.message.value) == ("key-0", secret)
        assert letter.sha256 == hashlib.sha256(secret).hexdigest()
        assert letter.message.headers["traceparent"] == "00-aa-bb-01"
        assert "Canary" not in json.dumps(dict(letter.message.headers))

    async def test_failing_message(self, bus: Bus, topic: str, group: str) -> None:
        """A message whose handler fails five times goes to the dead letters and does not stop those around it."""
        tries: Counter[str] = Counter()

        async def handle(messages: Sequence[Message]) -> None:
            if any(message.value == b"7" for message in messages):
                tries["7" if len(messages) == 1 else "together"] += 1
                raise ValueError("Canary can't be handled")
            ledger.taken.extend(("", message) for message in messages)

        ledger = Ledger()
        await bus.publish(*numbered(topic, 20, keys=1))
        async with consuming(bus.consumer([topic], handle, group=group)):
            await ledger.holds(19)
        [letter] = await read(bus, topic)
        assert tries == {"together": 1, "7": 5}
        assert list(map(int, ledger.values)) == [number for number in range(20) if number != 7]
        assert (letter.reason, letter.message.value) == ("MESSAGE_FAILED", b"7")

    async def test_retry_keeps_order(self, bus: Bus, topic: str, group: str) -> None:
        """While one partition is asked to wait it comes again in order without limit, and the others go on."""
        failures = 0
        ledger = Ledger()

        async def handle(messages: Sequence[Message]) -> None:
            nonlocal failures
            if messages[0].key == "stuck" and failures < 12:
                failures += 1
                raise (Retry, ConnectionError, TimeoutError)[failures % 3]("not now")
            ledger.taken.extend(("", message) for message in messages)

        await bus.publish(*(Outgoing(topic, "stuck", f"stuck {number}".encode()) for number in range(10)))
        stuck_at = partition_of("stuck", PARTITIONS)
        others = [one for one in numbered(topic, 200) if partition_of(one.key, PARTITIONS) != stuck_at]
        await bus.publish(*others)
        async with consuming(bus.consumer([topic], handle, group=group)):
            await ledger.holds(len(others) + 10)
        stuck = [value for value in ledger.values if value.startswith("stuck")]
        assert stuck == [f"stuck {number}" for number in range(10)]
        assert failures == 12
        assert not ledger.values[0].startswith("stuck")
        assert await read(bus, topic) == []

    async def test_brake(self, bus: Bus, topic: str, group: str) -> None:
        """Ten dead letters in a row stop the consumer, for then the fault is ours, and the rest stays for later."""

        async def handle(messages: Sequence[Message]) -> None:
            raise Reject(messages[0], "MESSAGE_UNREADABLE")

        await bus.publish(*numbered(topic, 30))
        with pytest.raises(BrakeEngaged, match="10 messages in a row"):
            await asyncio.wait_for(bus.consumer([topic], handle, group=group).run(), PATIENCE_SECONDS)
        assert len(await read(bus, topic)) == 10
        assert await bus.lag(group, [topic]) == 20

    async def test_replay(self, bus: Bus, topic: str, group: str) -> None:
        """Dead letters that are chosen are sent again as they were, and handled when the handler can."""
        able = False
        ledger = Ledger()

        async def handle(messages: Sequence[Message]) -> None:
            for message in messages:
                if not able and int(message.value) % 5 == 0:
                    raise Reject(message, "MESSAGE_UNREADABLE")
            ledger.taken.extend(("", message) for message in messages)

        await bus.publish(*(Outgoing(topic, "k", str(n).encode(), {"traceparent": "00-1"}) for n in range(10)))
        async with consuming(bus.consumer([topic], handle, group=group)):
            await ledger.holds(8)
            able = True
            assert await replay(bus, topic, choose=lambda letter: letter.message.value == b"5") == 1
            await ledger.holds(9)
        assert dict(ledger.taken[-1][1].headers) == {"traceparent": "00-1"}
        assert ledger.values[-1] == "5"
        assert ledger.taken[-1][1].topic == topic != topic_for(topic)

    # -- broadcasts

    async def test_broadcast(self, bus: Bus, topic: str, group: str) -> None:
        """A consumer without a group sees every message from its start on, beside others, and keeps nothing."""
        await bus.publish(*numbered(topic, 30))
        early, late, again = Ledger(), Ledger(), Ledger()
        listeners = [
            bus.consumer([topic], early.handler(), group=None),
            bus.consumer([topic], late.handler(), group=None, start="latest"),
        ]
        async with consuming(*listeners):
            await eventually(lambda: all(len(one.assigned) == PARTITIONS for one in listeners))
            await bus.publish(*numbered(topic, 30, first=30))
            await early.holds(60)
            await late.holds(30)
        async with consuming(bus.consumer([topic], again.handler(), group=None)):
            await again.holds(60)
        assert min(map(int, late.values)) == 30
        assert await bus.lag(group, [topic]) == 60

    async def test_ends(self, bus: Bus, topic: str) -> None:
        """A listener that took the message before each partition's end has seen everything that was there."""
        assert await bus.ends([topic]) == {(topic, partition): 0 for partition in range(PARTITIONS)}
        await bus.publish(*numbered(topic, 30))
        ends = await bus.ends([topic])
        ledger = Ledger()
        async with consuming(bus.consumer([topic], ledger.handler(), group=None)):
            await ledger.holds(30)
        last: dict[tuple[str, int], int] = {}
        for _, message in ledger.taken:
            last[message.topic, message.partition] = message.offset + 1
        assert last == {place: end for place, end in ends.items() if end}
        assert sum(ends.values()) == 30

    # -- failures of the bus

    async def test_nothing_is_lost_over_a_crash(self, bus: Bus, topic: str, group: str, server: Any) -> None:
        """After kill -9 of the server in mid-stream and its restart, all that was acknowledged arrives, in order."""
        kept: list[int] = []
        going = True
        ledger = Ledger()

        async def produce() -> None:
            number = 0
            while going:
                with suppress(BusUnavailable):
                    await bus.publish(*numbered(topic, 10, keys=1, first=number))
                    kept.extend(range(number, number + 10))
                number += 10

        async with consuming(bus.consumer([topic], ledger.handler(), group=group)):
            producing = asyncio.create_task(produce())
            await ledger.holds(200)
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(server.restart)
            before = len(kept)
            await eventually(lambda: len(kept) >= before + 200)
            going = False
            await producing
            await eventually(lambda: set(kept) <= set(map(int, ledger.values)))
        assert_in_order([message for _, message in ledger.taken])
        assert await self._stored(bus, topic) == len(set(ledger.values))

    async def _stored(self, bus: Bus, topic: str) -> int:
        return await bus.lag(f"nobody-{uuid.uuid4().hex}", [topic])

    async def test_back_pressure(self, topic: str, group: str, address: str, server: Any) -> None:
        """While the server takes nothing, sends wait with bounded memory, and all goes on when it is back."""
        value = bytes(50_000)
        sent: list[Any] = []
        async with self.open(address, window_bytes=1_000_000, deadline=40.0) as bus:
            await bus.publish(Outgoing(topic, "k", b"warm"))
            await asyncio.to_thread(server.kill)

            async def produce() -> None:
                for number in range(60):
                    acknowledgement = await bus.send(Outgoing(topic, f"key-{number}", value))
                    sent.append(acknowledgement)

            producing = asyncio.create_task(produce())
            await asyncio.sleep(1.5)
            assert not producing.done()
            assert len(sent) * len(value) <= 1_000_000
            await asyncio.to_thread(server.restart)
            await asyncio.wait_for(producing, PATIENCE_SECONDS)
            await asyncio.wait_for(asyncio.gather(*sent), PATIENCE_SECONDS)
            assert await bus.lag(group, [topic]) == 61

    async def test_deadline(self, topic: str, address: str, server: Any) -> None:
        """Without a server a send and a ping fail within the deadline, and the bus works again afterwards."""
        async with self.open(address, deadline=3.0) as bus:
            await bus.publish(Outgoing(topic, "k", b"warm"))
            await asyncio.to_thread(server.kill)
            try:
                for attempt in (bus.publish(Outgoing(topic, "k", b"v")), bus.ping()):
                    begun = time.monotonic()
                    with pytest.raises(BusUnavailable):
                        await attempt
                    assert time.monotonic() - begun < 7
            finally:
                await asyncio.to_thread(server.restart)
            for _ in range(5):
                with suppress(BusUnavailable):
                    await bus.ping()
                    await bus.publish(Outgoing(topic, "k", b"v"))
                    break
            else:
                pytest.fail("the bus did not work again")


async def _be_member(kind: str, address: str, topic: str, group: str, book: str) -> None:
    """Take messages, write them down and never return from the handler, or only when SIGUSR1 comes."""
    returning = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, returning.set)

    async def hold(messages: Sequence[Message]) -> None:
        with open(book, "a", encoding="utf-8") as written:  # noqa: ASYNC230, PTH123 - a line, in a process that does nothing else
            written.writelines(f"{message.partition} {message.offset}\n" for message in messages)
        await returning.wait()

    async with open_short(kind, address) as bus:
        await bus.consumer([topic], hold, group=group, max_batch=5).run()


def open_short(kind: str, address: str, **settings: Any) -> AbstractAsyncContextManager[Bus]:
    """Open a bus whose members are missed soon, as tests need it."""
    settings.setdefault("patience", Patience(longest_pause_seconds=0.4))
    if kind == "kafka":
        from homeroom.bus import kafka  # aiokafka takes its time to import, and one of both is enough.

        return kafka.KafkaBus.open(
            address, kafka.Settings(session=6.0, heartbeat=0.5, rebalance=10.0, stall=20.0, **settings)
        )
    from homeroom.bus import postgres

    return postgres.PostgresBus.open(address, postgres.Settings(session=3.0, beat=0.5, **settings))


if __name__ == "__main__":
    asyncio.run(_be_member(*sys.argv[1:]))
