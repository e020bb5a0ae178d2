"""Consuming from Kafka: as a member of a group or as a listener of its own, and a watch over both.

The client may stop receiving without a word (aiokafka's issue 1037). A consumer that receives nothing although there
is something ends with `BusUnavailable`, so that the process ends and is started anew.

A handler may take as long as it likes. Heartbeats and rebalances run beside it, and the client's own limit on the time
between polls is set out of reach, for the watch described above takes its place. Only a rebalance is impatient: a
handler that needs longer than `Settings.rebalance` while a member comes or goes gets its batch again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from homeroom.bus import BusError, BusUnavailable, Message, Start
from homeroom.bus.delivery import Delivery
from homeroom.bus.member import Member

if TYPE_CHECKING:
    from homeroom.bus.kafka import KafkaBus, Settings

log = logging.getLogger(__name__)

FETCH_BYTES = 2_000_000
CUT_OFF_SECONDS = 2.0
NO_POLL_LIMIT_MS = 2**31 - 1
NOWHERE = TopicPartition("", -1)


class KafkaConsumer(Member):
    """A member of a group, or a listener of its own."""

    def __init__(
        self,
        bus: KafkaBus,
        common: Mapping[str, Any],
        settings: Settings,
        topics: Sequence[str],
        delivery: Delivery,
        group: str | None,
        start: Start,
        max_batch: int,
    ) -> None:
        super().__init__(
            topics, delivery, group, start, max_batch, grace=settings.deadline, stop_limit=3 * settings.deadline
        )
        self._bus = bus
        self._common = common
        self._settings = settings
        self._sources: dict[TopicPartition, _Source] = {}
        self._done: dict[TopicPartition, int] = {}
        self._committing: asyncio.Task[None] | None = None
        self._moving_since: float | None = None

    async def run(self) -> None:
        """Consume until `stop`; see `homeroom.bus.Consumer.run`."""
        client = self._client()
        async with self._delivering(partial(self._leave, client)):
            try:
                async with asyncio.timeout(self._settings.deadline):
                    await client.start()
                    if self._group is None:
                        await self._listen(client)
                    else:
                        client.subscribe(self._topics, listener=_Rebalancing(self, client))
                        self._moving_since = time.monotonic()
                await self._watch(client)
            except (KafkaError, TimeoutError) as error:
                raise BusUnavailable(f"consuming ended: {error!r}; start the consumer again") from error

    async def _leave(self, client: AIOKafkaConsumer, grace: float) -> None:
        await self._committed(grace)
        await shut(client, self._settings.deadline)
        if self._committing is not None:
            self._committing.cancel()

    def _client(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset=self._start,
            isolation_level="read_committed",
            session_timeout_ms=int(self._settings.session * 1000),
            heartbeat_interval_ms=int(self._settings.heartbeat * 1000),
            rebalance_timeout_ms=int(self._settings.rebalance * 1000),
            max_poll_interval_ms=NO_POLL_LIMIT_MS,
            max_partition_fetch_bytes=FETCH_BYTES,
            # Joining a group is one request, which is answered when the last member has finished its batch.
            request_timeout_ms=int((self._settings.rebalance + 10) * 1000),
            **self._common,
        )

    async def _listen(self, client: AIOKafkaConsumer) -> None:
        """Read every partition, keeping nothing."""
        places = await self._bus.partitions(self._topics)
        if not places:
            raise BusError(f"none of the topics {', '.join(self._topics)} exists; create them with ensure_topics")
        client.assign(places)
        begin = await (client.end_offsets if self._start == "latest" else client.beginning_offsets)(places)
        for place in places:
            client.seek(place, begin[place])
        self.take(client, places)

    def take(self, client: AIOKafkaConsumer, places: Iterable[TopicPartition]) -> None:
        """Begin to read partitions that were assigned to this member."""
        self._moving_since = None
        for place in places:
            source = _Source(client, place, self._max_batch, partial(self._commit, client) if self._group else None)
            self._sources[place] = source
            self._delivery.take((place.topic, place.partition), source)

    async def let_go(self, places: Iterable[TopicPartition]) -> None:
        """Stop reading partitions before they go to others, finishing batches in hand as far as time allows."""
        self._moving_since = time.monotonic()
        self._sources.clear()
        await self._delivery.release(
            [(place.topic, place.partition) for place in places], 0.8 * self._settings.rebalance
        )
        await self._committed(0.1 * self._settings.rebalance)
        self._done.clear()

    def _commit(self, client: AIOKafkaConsumer, place: TopicPartition, offset: int) -> None:
        """Keep progress, together with that of other partitions; handling goes on meanwhile."""
        self._done[place] = offset
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all(client))

    async def _commit_all(self, client: AIOKafkaConsumer) -> None:
        try:
            while self._done:
                done, self._done = self._done, {}
                async with asyncio.timeout(self._settings.deadline):
                    await client.commit(done)
        except (CommitFailedError, IllegalStateError):
            log.info("partitions of %s have moved; their last batches come again at their new owners", self._group)
        except (TimeoutError, KafkaError) as error:
            log.warning("progress of %s was not kept, the next batch will tell: %r", self._group, error)
        finally:
            self._committing = None

    async def _committed(self, seconds: float) -> None:
        """Wait for commits on the way."""
        if self._committing is not None:
            await asyncio.wait([self._committing], timeout=seconds)

    async def _watch(self, client: AIOKafkaConsumer) -> None:
        """Wait for the end, and see to it that messages arrive."""
        looked = time.monotonic()
        while self._goes_on():
            await self._rest(1.0)
            with suppress(TimeoutError):
                # Nothing can arrive from nowhere; what arrives are the errors of the client's own tasks.
                await asyncio.wait_for(client.getmany(NOWHERE), 0.1)
            if time.monotonic() - looked > self._settings.stall / 4:
                await self._look_for_stall(client)
                looked = time.monotonic()

    async def _look_for_stall(self, client: AIOKafkaConsumer) -> None:
        """Raise `BusUnavailable` if there is something to read for long and nothing came (aiokafka's issue 1037)."""
        patience = self._settings.stall
        now = time.monotonic()
        late = [
            place
            for place, source in self._sources.items()
            if source.waiting_since is not None and now - source.waiting_since > patience
        ]
        moving = self._moving_since is not None and now - self._moving_since > patience + self._settings.rebalance
        if not late and not moving:
            return
        try:
            _, ends = await self._bus.bounds(late or await self._bus.partitions(self._topics))
        except BusUnavailable:
            return  # The broker is away. The client goes on when it is back, or this notices that it does not.
        if moving:
            raise BusUnavailable(f"the group {self._group} gave this member nothing for too long; start it again")
        for place in late:
            position = None
            with suppress(TimeoutError, IllegalStateError):
                position = await asyncio.wait_for(client.position(place), 2.0)
            source = self._sources.get(place)
            still = source is not None and source.waiting_since is not None and now >= source.waiting_since + patience
            if still and (position is None or position < ends[place]):
                raise BusUnavailable(
                    f"{place.topic}[{place.partition}] holds {ends[place]} messages, but none after {position} arrived "
                    f"for {patience:.0f} s; start the consumer again"
                )


class _Rebalancing(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Tells a consumer which partitions come and go."""

    def __init__(self, consumer: KafkaConsumer, client: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._client = client

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """All partitions go before each rebalance."""
        await self._consumer.let_go(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """The partitions of this member, after a rebalance."""
        self._consumer.take(self._client, assigned)


class _Source:
    """One partition as one consumer reads it."""

    def __init__(
        self,
        client: AIOKafkaConsumer,
        place: TopicPartition,
        max_batch: int,
        commit: Callable[[TopicPartition, int], None] | None,
    ) -> None:
        self._client = client
        self._place = place
        self._max_batch = max_batch
        self._commit = commit
        self.waiting_since: float | None = None
        """When the reader began to wait for the next message, on the monotonic clock; None while it has some."""

    async def fetch(self) -> Sequence[Message]:
        """Wait up to a second for the next messages."""
        if self.waiting_since is None:
            self.waiting_since = time.monotonic()
        try:
            fetched = await self._client.getmany(self._place, timeout_ms=1000, max_records=self._max_batch)
        except KafkaError as error:
            raise BusUnavailable(f"{self._place.topic} can't be read: {error!r}") from error
        records = fetched.get(self._place, ())
        if records:
            self.waiting_since = None
        return [
            Message(
                record.topic,
                record.partition,
                record.offset,
                (record.key or b"").decode(errors="replace"),
                record.value or b"",
                {name: (text or b"").decode(errors="replace") for name, text in record.headers},
                datetime.fromtimestamp(record.timestamp / 1000, UTC),
            )
            for record in records
        ]

    async def commit(self, offset: int) -> None:
        """Keep progress, if this is a member of a group."""
        if self._commit is not None:
            self._commit(self._place, offset)


async def shut(client: AIOKafkaProducer | AIOKafkaConsumer, seconds: float) -> None:
    """Stop a client; one that does not stop in time is cut off (aiokafka's issue 1039)."""
    try:
        async with asyncio.timeout(seconds):
            await client.stop()
    except (TimeoutError, KafkaError) as error:
        log.warning("a Kafka client did not stop in order and is cut off: %r", error)
        producing = isinstance(client, AIOKafkaProducer)
        connections = client.client if producing else client._client  # noqa: SLF001 - there is no public way
        with suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(connections.close(), CUT_OFF_SECONDS)
        if producing and (sender := client._sender.sender_task) is not None:  # noqa: SLF001 - as above
            sender.cancel()
