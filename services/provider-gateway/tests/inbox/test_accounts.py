"""The directory of integrations, read from a real bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from homeroom.bus import Bus, Outgoing
from homeroom.bus.kafka import KafkaBus
from homeroom.bus.postgres import PostgresBus
from homeroom.clock import MovingClock, SystemClock
from homeroom.messages import TENANCY, IntegrationState, OrganizationState, SftpAccount, to_tenancy
from homeroom.testing.kafka import Broker
from provider_gateway.inbox import accounts
from provider_gateway.inbox.accounts import Directory
from provider_gateway.inbox.door import Throttle, network_of


@asynccontextmanager
async def reading(bus: Bus) -> AsyncIterator[Directory]:
    """A directory that reads."""
    directory = Directory(bus)
    task = asyncio.create_task(directory.run())
    try:
        yield directory
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def make(**values: Any) -> IntegrationState:
    """An integration."""
    defaults: dict[str, Any] = {
        "id": str(uuid4()),
        "organization_id": "o1",
        "name": "x",
        "provider": "oneroster-csv",
        "region": "us",
        "state": "active",
    }
    return IntegrationState(**(defaults | values))


async def ready(directory: Directory) -> None:
    """Wait until the directory says that it is complete."""
    async with asyncio.timeout(20):
        await directory.complete()
    await directory.check()


async def test_everything_is_known_before_anybody_is_answered(database_url: str) -> None:
    """A directory is ready once it has read all that was there, and not before, also where there is nothing."""
    async with PostgresBus.open(database_url) as bus:
        with pytest.raises(ConnectionError):
            await Directory(bus).check()
        async with reading(bus) as directory:
            await ready(directory)
        states = [make(sftp=SftpAccount(username=f"user-{number}")) for number in range(300)]
        await bus.publish(to_tenancy(OrganizationState(id="o1", name="x")), *map(to_tenancy, states))
        async with reading(bus) as directory:
            await ready(directory)
            assert all(directory.find(state.id) == state for state in states)
            assert directory.account("user-299") == states[299]


@pytest.mark.kafka
async def test_everything_is_known_on_kafka(kafka: Broker) -> None:
    """On Kafka, too, a directory is ready once it has read all that was there."""
    states = [make(sftp=SftpAccount(username=str(uuid4()))) for _ in range(300)]
    async with KafkaBus.open(kafka.bootstrap) as bus:
        await bus.ensure_topics([TENANCY])
        await bus.publish(*map(to_tenancy, states))
        async with reading(bus) as directory:
            await ready(directory)
            assert all(directory.find(state.id) == state for state in states)


async def test_news_are_taken_up(database_url: str) -> None:
    """New accounts, new names and ends of accounts are known as soon as they are told; the newest word counts."""
    async with PostgresBus.open(database_url) as bus, reading(bus) as directory:
        told: list[IntegrationState] = []
        directory.listen(told.append)
        await ready(directory)
        state = make(sftp=SftpAccount(username="first"))
        waiting = asyncio.create_task(directory.wait_for(state.id, 10))
        await asyncio.sleep(0.1)
        await bus.publish(to_tenancy(state))
        assert await waiting == state
        assert await directory.wait_for("nobody", 0.1) is None
        renamed = make(id=state.id, sftp=SftpAccount(username="second"))
        other = make(sftp=SftpAccount(username="first"))
        await bus.publish(to_tenancy(renamed), to_tenancy(other))
        await directory.wait_for(other.id, 10)
        assert (directory.account("second"), directory.account("first")) == (renamed, other)
        last = make()
        ended = [make(id=state.id, state="deleted", sftp=renamed.sftp), make(id=other.id), last]
        await bus.publish(*map(to_tenancy, ended))
        await directory.wait_for(last.id, 10)
        assert directory.account("second") is None
        assert directory.account("first") is None
        assert told == [state, renamed, other, *ended]


async def test_a_message_that_can_not_be_read(database_url: str) -> None:
    """A message that makes no sense is passed over, and is nobody's dead letter because of a listener."""
    state = make()
    async with PostgresBus.open(database_url) as bus:
        await bus.ensure_topics([TENANCY])
        await bus.publish(to_tenancy(state), Outgoing(TENANCY.name, "x", b"{"), Outgoing(TENANCY.name, "x", b""))
        async with reading(bus) as directory:
            await ready(directory)
            assert directory.find(state.id) == state


async def test_an_end_that_was_compacted_away(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the topic's last message is gone, silence says that everything was read."""
    monkeypatch.setattr(accounts, "QUIET_SECONDS", 0.3)
    state = make()
    async with PostgresBus.open(database_url) as bus:
        await bus.ensure_topics([TENANCY])
        await bus.publish(to_tenancy(state), Outgoing(TENANCY.name, "x", b""))
        await bus._database.fetch("DELETE FROM bus.messages WHERE value = ''")
        async with reading(bus) as directory:
            await ready(directory)
            assert directory.find(state.id) == state


def test_a_throttle_forgets() -> None:
    """Failures count for their time only, each for itself, and for one key only."""
    from datetime import UTC, datetime

    clock = MovingClock(datetime(2026, 1, 1, tzinfo=UTC))
    throttle = Throttle(2, 60, clock)
    throttle.count("a")
    clock.move(seconds=30)
    assert throttle.allows("a")
    throttle.count("a")
    assert (throttle.allows("a"), throttle.allows("b")) == (False, True)
    clock.move(seconds=31)
    assert throttle.allows("a")
    throttle.count("a")
    assert not throttle.allows("a")


def test_a_throttle_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names are tried, only so many are remembered."""
    from provider_gateway.inbox import door

    monkeypatch.setattr(door, "_REMEMBERED", 10)
    throttle = Throttle(1, 60, SystemClock())
    for number in range(100):
        throttle.count(str(number))
    assert [throttle.allows(str(number)) for number in (0, 89, 90, 99)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("address", "network"),
    [("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8::1%eth0", "2001:db8::/64"), ("x", "x")],
)
def test_what_counts_as_one_address(address: str, network: str) -> None:
    """An IPv6 network counts as one address, and an IPv4 address as itself however it is written."""
    assert network_of(address) == network
