"""The bus over Apache Kafka keeps the contract, on a real broker."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from homeroom.bus import Bus, BusUnavailable, Outgoing, Topic
from homeroom.bus.kafka import KafkaBus, Settings
from homeroom.testing.bus_contract import BusContract, Ledger, consuming, numbered, open_short
from homeroom.testing.kafka import Broker


@pytest.mark.kafka
class TestKafkaBus(BusContract):
    """The contract on Kafka."""

    kind = "kafka"

    @pytest.fixture
    def server(self, kafka: Broker) -> Broker:
        """The broker that tests kill."""
        return kafka

    @pytest.fixture
    def address(self, kafka: Broker) -> str:
        """One broker for all tests; they use topics of their own."""
        return kafka.bootstrap

    def open(self, address: str, **settings: Any) -> AbstractAsyncContextManager[Bus]:
        """Open with short sessions."""
        return open_short(self.kind, address, **settings)

    # -- only here

    async def test_stalled_client_ends_the_consumer(
        self, address: str, topic: str, group: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A client that silently stops receiving ends the consumer, so that the process is started again."""
        fetch, stalled = AIOKafkaConsumer.getmany, False

        async def getmany(self: AIOKafkaConsumer, *places: Any, timeout_ms: int = 0, **limits: Any) -> Any:
            if stalled and timeout_ms:
                await asyncio.sleep(timeout_ms / 1000)
                return {}
            return await fetch(self, *places, timeout_ms=timeout_ms, **limits)

        monkeypatch.setattr(AIOKafkaConsumer, "getmany", getmany)
        ledger = Ledger()
        async with KafkaBus.open(address, Settings(session=6, heartbeat=0.5, rebalance=10, stall=2)) as bus:
            running = asyncio.create_task(bus.consumer([topic], ledger.handler(), group=group).run())
            await bus.publish(*numbered(topic, 50))
            await ledger.holds(50)
            await asyncio.sleep(3)
            assert not running.done()  # there is nothing to read, so nothing is wrong
            stalled = True
            await asyncio.sleep(1.1)
            await bus.publish(*numbered(topic, 50, first=50))
            with pytest.raises(BusUnavailable, match="start the consumer again"):
                await asyncio.wait_for(running, 15)

    async def test_hanging_producer_is_replaced(
        self, address: str, topic: str, group: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A producer that never answers fails what it holds at the deadline and the next send has a new one."""
        submit = AIOKafkaProducer.send_batch
        made: list[AIOKafkaProducer] = []

        async def send_batch(self: AIOKafkaProducer, *args: Any, **kwargs: Any) -> Any:
            if self not in made:
                made.append(self)
            if self is made[0]:
                return asyncio.get_running_loop().create_future()
            return await submit(self, *args, **kwargs)

        monkeypatch.setattr(AIOKafkaProducer, "send_batch", send_batch)
        async with self.open(address, deadline=2.0) as bus:
            waiting = [await bus.send(message) for message in numbered(topic, 5)]
            outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
            assert all(isinstance(outcome, BusUnavailable) for outcome in outcomes)
            await bus.publish(*numbered(topic, 7))
            assert len(made) == 2
            assert await bus.lag(group, [topic]) == 7

    async def test_topic_settings(self, address: str) -> None:
        """Topics are made with the retention and the compaction they ask for."""
        from aiokafka.admin import AIOKafkaAdminClient  # the only question here that the bus can't answer
        from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

        async with self.open(address) as bus:
            await bus.ensure_topics([Topic("kept", retention_seconds=60), Topic("compacted", compacted=True)])
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        try:
            answers = await admin.describe_configs(
                [ConfigResource(ConfigResourceType.TOPIC, name) for name in ("kept", "compacted")]
            )
        finally:
            await admin.close()
        told = {
            resource[3]: {entry[0]: entry[1] for entry in resource[4]}
            for answer in answers
            for resource in answer.resources
        }
        assert (told["kept"]["cleanup.policy"], told["kept"]["retention.ms"]) == ("delete", "60000")
        assert told["compacted"]["cleanup.policy"] == "compact"

    async def test_other_clients_agree(self, address: str, bus: Bus, topic: str, group: str) -> None:
        """What another Kafka client sends with the same key lands in the same partition."""
        ledger = Ledger()
        other = AIOKafkaProducer(bootstrap_servers=address)
        await other.start()
        try:
            for number in range(30):
                await other.send_and_wait(topic, b"other", key=f"key-{number}".encode())
        finally:
            await other.stop()
        await bus.publish(*(Outgoing(topic, f"key-{number}", b"ours") for number in range(30)))
        async with consuming(bus.consumer([topic], ledger.handler(), group=group)):
            await ledger.holds(2)
            await self._lag_becomes(bus, group, topic, 0)
        places: dict[str, set[int]] = {}
        for _, message in ledger.taken:
            places.setdefault(message.key, set()).add(message.partition)
        assert all(len(partitions) == 1 for partitions in places.values())

    async def test_no_broker(self) -> None:
        """Without a broker opening fails within the deadline with what to look at."""
        with pytest.raises(BusUnavailable, match="is the broker up"):
            async with self.open("127.0.0.1:9", deadline=1.0):
                pass
