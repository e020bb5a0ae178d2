"""The bus over Apache Kafka. Only this file and `kafka_consumer.py` know aiokafka.

What the client leaves open is closed here and there (reference: aiokafka's issues 703, 847, 1037 and 1039): every send
has a deadline, after which the producer is replaced; a consumer that receives nothing although there is something ends.
Kafka's transactions are not used: delivery is at least once and consumers are idempotent.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

from homeroom.bus import BusError, BusUnavailable, Handler, Outgoing, Start, Topic
from homeroom.bus.deadletter import burial
from homeroom.bus.delivery import Delivery, Patience, Place
from homeroom.bus.kafka_consumer import CUT_OFF_SECONDS, KafkaConsumer, shut
from homeroom.bus.sending import Outstanding, partition_of, size_of

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH_BYTES = 1_000_000
"""A batch before compression; a broker's default limit is 1,048,588 bytes after it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a `KafkaBus` behaves; times in seconds."""

    deadline: float = 20.0
    """For every send, publish, question and stop."""
    window_bytes: int = 16_000_000
    """What may be handed over and not yet durable; beyond it, `send` waits."""
    session: float = 30.0
    """A member whose heartbeats stay away so long is out of the group."""
    heartbeat: float = 3.0
    rebalance: float = 60.0
    """How long a rebalance waits for batches in hand."""
    stall: float = 60.0
    """A consumer that received nothing so long although there is something gives up."""
    replication_factor: int = 1
    """Of the topics made by `ensure_topics`; with 3 or more, a write needs two replicas."""
    security: Mapping[str, Any] = field(default_factory=dict)
    """aiokafka's `security_protocol`, `ssl_context` and `sasl_*`, for every connection."""
    patience: Patience = field(default_factory=Patience)


class KafkaBus:
    """The bus over one Kafka cluster; `open` it."""

    def __init__(self, bootstrap: str, settings: Settings) -> None:
        self._settings = settings
        self.deadline = settings.deadline
        self._common: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "metadata_max_age_ms": 60_000,
            "retry_backoff_ms": 100,
            **settings.security,
        }
        self._outstanding = Outstanding(settings.window_bytes, settings.deadline)
        self._producer: AIOKafkaProducer | None = None
        self._broken = False
        self._closed = False
        self._renewal = asyncio.Lock()
        self._lines: dict[Place, _Line] = {}
        self._entries: set[_Entry] = set()
        self._counts: dict[str, int] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, bootstrap: str, settings: Settings = Settings()) -> AsyncIterator[KafkaBus]:
        """Connect to the cluster ("host:port", several with commas). Raises `BusUnavailable` if none answers."""
        bus = cls(bootstrap, settings)
        await bus.ping()
        try:
            yield bus
        finally:
            await bus.close()

    # -- publishing

    async def send(self, message: Outgoing) -> Awaitable[None]:
        """Hand a message over; see `homeroom.bus.Bus.send`."""
        return await self._hand_over([message])

    async def publish(self, *messages: Outgoing) -> None:
        """Send all and wait; see `homeroom.bus.Bus.publish`."""
        if messages:
            await (await self._hand_over(messages))

    async def _hand_over(self, messages: Sequence[Outgoing]) -> asyncio.Future[None]:
        if self._closed:
            raise _closed()
        size = sum(map(size_of, messages))
        counts = {topic: await self._count(topic) for topic in {message.topic for message in messages}}
        await self._outstanding.admit(size)
        entry = _Entry(self, len(messages), size)
        self._entries.add(entry)
        for message in messages:
            place = (message.topic, partition_of(message.key, counts[message.topic]))
            line = self._lines.get(place) or self._lines.setdefault(place, _Line(self, TopicPartition(*place)))
            line.put(message, entry)
        return entry.done

    async def _count(self, topic: str) -> int:
        """How many partitions a topic has."""
        if topic not in self._counts:
            count = len(await self.partitions([topic]))
            if not count:
                raise BusError(f"there is no topic {topic}; create it with ensure_topics")
            self._counts[topic] = count
        return self._counts[topic]

    async def ready(self) -> AIOKafkaProducer:
        """The producer. One that failed is replaced; it ends first, so that nothing of it comes after the new one's."""
        async with self._renewal:
            if self._closed:
                raise _closed()
            if self._producer is not None and not self._broken:
                return self._producer
            await self._retire()
            producer = AIOKafkaProducer(
                acks="all",
                enable_idempotence=True,
                compression_type="zstd",
                max_batch_size=BATCH_BYTES,
                request_timeout_ms=int(self.deadline * 1000),
                **self._common,
            )
            try:
                async with asyncio.timeout(self.deadline):
                    await producer.start()
            except BaseException:
                await shut(producer, CUT_OFF_SECONDS)
                raise
            self._producer, self._broken = producer, False
            return producer

    async def _retire(self) -> None:
        if self._producer is not None:
            await shut(self._producer, self.deadline / 2)
            self._producer = None

    def settled(self, entry: _Entry) -> None:
        """Note that an entry is durable or has failed."""
        self._entries.discard(entry)
        self._outstanding.settle(entry.size)

    def give_up(self, error: BaseException) -> None:
        """Fail all that is on its way: sent again, what waited behind would otherwise overtake what failed."""
        self._broken = True
        for line in self._lines.values():
            line.waiting.clear()
        for entry in list(self._entries):
            entry.fail(BusUnavailable(f"Kafka did not keep the message in time ({error!r}); send it again"))

    # -- consuming

    def consumer(
        self,
        topics: Sequence[str],
        handler: Handler,
        *,
        group: str | None,
        start: Start = "earliest",
        max_batch: int = 100,
    ) -> KafkaConsumer:
        """Make a consumer; see `homeroom.bus.Bus.consumer`."""
        delivery = Delivery(handler, burial(self, group), self._settings.patience)
        return KafkaConsumer(self, self._common, self._settings, topics, delivery, group, start, max_batch)

    # -- questions

    async def ensure_topics(self, topics: Sequence[Topic]) -> None:
        """Create what is missing; existing topics stay as they are."""
        missing = {topic.name: topic for topic in topics if topic.name not in self._counts}
        for place in await self.partitions(missing):
            missing.pop(place.topic, None)
        if not missing:
            return
        new = [
            NewTopic(
                name=topic.name,
                num_partitions=topic.partitions,
                replication_factor=self._settings.replication_factor,
                topic_configs=_configuration(topic, self._settings.replication_factor),
            )
            for topic in missing.values()
        ]

        async def create(admin: AIOKafkaAdminClient) -> None:
            answer = await admin.create_topics(new)
            for name, code, *_ in answer.topic_errors:
                error = for_code(code)
                if code and error is not TopicAlreadyExistsError:
                    raise error(name)

        await self._ask(create)
        async with self._in_time("the new topics did not appear"):
            while missing:
                leaders = await self._leaders(missing)
                led = {place.topic for place in leaders} - {place.topic for place in leaders if leaders[place] < 0}
                missing = {name: topic for name, topic in missing.items() if name not in led}

    async def lag(self, group: str, topics: Sequence[str]) -> int:
        """Messages not yet committed by the group, over all partitions."""
        places = await self.partitions(topics)
        if not places:
            return 0

        async def committed(admin: AIOKafkaAdminClient) -> Mapping[TopicPartition, Any]:
            offsets: Mapping[TopicPartition, Any] = await admin.list_consumer_group_offsets(group, partitions=places)
            return offsets

        done = await self._ask(committed)
        first, end = await self.bounds(places)
        return sum(end[place] - max(first[place], done[place].offset if place in done else -1) for place in places)

    async def ends(self, topics: Sequence[str]) -> Mapping[tuple[str, int], int]:
        """The offset the next message of each (topic, partition) will get."""
        places = await self.partitions(topics)
        _, ends = await self.bounds(places) if places else ({}, {})
        return {(place.topic, place.partition): end for place, end in ends.items()}

    async def partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """Every partition of those topics that exist."""
        return list(await self._leaders(topics))

    async def bounds(
        self, places: Sequence[TopicPartition]
    ) -> tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, int]]:
        """The first offset and the one after the last, of each partition."""
        async with self._in_time("Kafka does not tell how long its partitions are"):
            observer = AIOKafkaConsumer(**self._common)
            try:
                await observer.start()
                return await observer.beginning_offsets(places), await observer.end_offsets(places)
            finally:
                await shut(observer, self._settings.deadline)

    async def ping(self) -> None:
        """Return if the bus answers, raise `BusUnavailable` if not."""
        await self._ask(AIOKafkaAdminClient.describe_cluster)

    async def close(self) -> None:
        """Send what was handed over and close."""
        if self._entries:
            await asyncio.wait([entry.done for entry in self._entries], timeout=self.deadline)
        async with self._renewal:
            self._closed = True
            await self._retire()
        self.give_up(_closed())

    async def _leaders(self, topics: Iterable[str]) -> dict[TopicPartition, int]:
        """Every partition of those topics that exist, and the broker that leads it; -1 while none does."""
        wanted = sorted(set(topics))
        if not wanted:
            return {}

        async def describe(admin: AIOKafkaAdminClient) -> dict[TopicPartition, int]:
            return {
                TopicPartition(topic["topic"], partition["partition"]): partition["leader"]
                for topic in await admin.describe_topics(wanted)
                for partition in topic["partitions"]
                if not topic["error_code"]
            }

        return await self._ask(describe)

    async def _ask(self, question: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
        """Put a question through a client of its own, for a client kept over a broker's death may not recover."""
        async with self._in_time("Kafka does not answer"):
            while True:
                admin = AIOKafkaAdminClient(request_timeout_ms=int(self._settings.deadline * 1000), **self._common)
                try:
                    await admin.start()
                    return await question(admin)
                except KafkaError as error:
                    if not (error.retriable or isinstance(error, KafkaConnectionError)):
                        raise
                    log.info("Kafka is asked again: %r", error)
                finally:
                    await admin.close()
                await asyncio.sleep(0.2)

    @asynccontextmanager
    async def _in_time(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._settings.deadline):
                yield
        except TimeoutError as error:
            raise BusUnavailable(f"{what} within {self._settings.deadline:.0f} s; is the broker up?") from error
        except KafkaError as error:
            raise BusUnavailable(f"{what}: {error!r}") from error


class _Entry:
    """What one call handed over. It fails if none of it became durable for the length of the deadline."""

    def __init__(self, bus: KafkaBus, messages: int, size: int) -> None:
        loop = asyncio.get_running_loop()
        self.size = size
        self.done: asyncio.Future[None] = loop.create_future()
        self._bus = bus
        self._missing = messages
        self._expires = loop.time() + bus.deadline
        self._expiry = loop.call_at(self._expires, self._expire)
        self._settled = False

    def progress(self, messages: int) -> None:
        """Count messages that are durable."""
        self._missing -= messages
        if self._missing:
            self._expires = asyncio.get_running_loop().time() + self._bus.deadline
        else:
            self._settle(None)

    def fail(self, error: BusError) -> None:
        """Tell the caller that it may not be durable."""
        self._settle(error)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._expires:
            self._expiry = loop.call_at(self._expires, self._expire)
        else:
            self._bus.give_up(TimeoutError())

    def _settle(self, error: BusError | None) -> None:
        if self._settled:
            return
        self._settled = True
        self._expiry.cancel()
        self._bus.settled(self)
        if self.done.done():  # the caller gave up waiting
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class _Line:
    """What waits to be sent to one partition, in order. Batches grow by themselves while earlier ones are on the way.

    Batches made here cost a fifth of the client's own sends.
    """

    def __init__(self, bus: KafkaBus, place: TopicPartition) -> None:
        self._bus = bus
        self._place = place
        self.waiting: deque[tuple[Outgoing, _Entry]] = deque()
        self._task: asyncio.Task[None] | None = None

    def put(self, message: Outgoing, entry: _Entry) -> None:
        """Queue a message."""
        self.waiting.append((message, entry))
        if self._task is None:
            self._task = asyncio.create_task(self._send_all(), name=f"line {self._place.topic}")

    async def _send_all(self) -> None:
        try:
            while self.waiting:
                producer = await self._bus.ready()
                batch = producer.create_batch()
                entries = self._fill(batch)
                async with asyncio.timeout(self._bus.deadline):
                    sent = await producer.send_batch(batch, self._place.topic, partition=self._place.partition)
                sent.add_done_callback(partial(self._acknowledge, entries))
        except Exception as error:  # noqa: BLE001 - whatever stopped it, those who wait have to be told
            self._bus.give_up(error)
        finally:
            self._task = None

    def _fill(self, batch: Any) -> Counter[_Entry]:
        """Move what fits into a batch; returns how many messages of which entry."""
        entries: Counter[_Entry] = Counter()
        while self.waiting:
            message, entry = self.waiting[0]
            headers = [(name, text.encode()) for name, text in message.headers.items()]
            value = message.value or None
            if batch.append(timestamp=None, key=message.key.encode(), value=value, headers=headers) is None:
                break
            self.waiting.popleft()
            entries[entry] += 1
        batch.close()
        return entries

    def _acknowledge(self, entries: Counter[_Entry], sent: asyncio.Future[Any]) -> None:
        error = TimeoutError() if sent.cancelled() else sent.exception()
        if error is not None:
            self._bus.give_up(error)
            return
        for entry, messages in entries.items():
            entry.progress(messages)


def _closed() -> BusUnavailable:
    return BusUnavailable("the bus is closed; open it again")


def _configuration(topic: Topic, replicas: int) -> dict[str, str]:
    """A topic's settings in Kafka's words."""
    kept = (
        {"cleanup.policy": "compact"}
        if topic.compacted
        else {"cleanup.policy": "delete", "retention.ms": str(topic.retention_seconds * 1000)}
    )
    return kept | ({"min.insync.replicas": "2"} if replicas >= 3 else {})  # noqa: PLR2004 - of three, one may be away
