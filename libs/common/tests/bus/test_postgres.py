"""The bus inside Postgres keeps the contract, and what only it promises."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.bus import Bus, BusError, BusUnavailable, Outgoing, Topic
from homeroom.bus import postgres as bus_module
from homeroom.bus.postgres import PostgresBus
from homeroom.bus.postgres_consumer import share_of
from homeroom.embedded import EmbeddedPostgres
from homeroom.testing.bus_contract import BusContract, Ledger, consuming, numbered, open_short


class TestPostgresBus(BusContract):
    """The contract on the embedded default."""

    kind = "postgres"

    @pytest.fixture
    def server(self, postgres: EmbeddedPostgres) -> EmbeddedPostgres:
        """The server that tests kill."""
        return postgres

    @pytest.fixture
    def address(self, database_url: str) -> str:
        """A database of its own for each test."""
        return database_url

    def open(self, address: str, **settings: Any) -> AbstractAsyncContextManager[Bus]:
        """Open with short sessions."""
        return open_short(self.kind, address, **settings)

    # -- only here

    async def test_offsets_have_no_gaps(self, address: str) -> None:
        """Three processes that publish at once to the same partitions neither block each other nor leave gaps."""
        async with self.open(address) as one, self.open(address) as two, self.open(address) as three:
            await one.ensure_topics([Topic("t", partitions=4)])
            await asyncio.gather(
                *(bus.publish(*numbered("t", 50, first=50 * n)) for n in range(10) for bus in (one, two, three))
            )
        rows = await fetch(address, 'SELECT shard, count(*), min("offset"), max("offset") FROM bus.messages GROUP BY 1')
        assert sum(count for _, count, _, _ in rows) == 1500
        assert all((first, last) == (0, count - 1) for _, count, first, last in rows)

    async def test_who_freezes_while_it_writes_blocks_nobody_for_long(
        self, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Others write to the same partition once a session has passed, and the frozen one writes when it wakes."""
        append = bus_module._append
        frozen = threading.Event()

        async def freeze(connection: Any, rows: Any) -> str:
            transaction = await append(connection, rows)
            if threading.current_thread() is threading.main_thread() and not frozen.is_set():
                frozen.set()
                time.sleep(2.5)  # noqa: ASYNC251 - as SIGSTOP does: nothing of this process goes on
            return transaction

        async def publish_elsewhere() -> float:
            async with PostgresBus.open(address) as other:
                frozen.wait(10)
                began = time.monotonic()
                await other.publish(Outgoing("t", "k", b"other"))
                return time.monotonic() - began

        monkeypatch.setattr(bus_module, "_append", freeze)
        async with PostgresBus.open(address, bus_module.Settings(session=1.0)) as bus:
            await bus.ensure_topics([Topic("t", partitions=1)])
            elsewhere = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(publish_elsewhere())))
            await asyncio.sleep(0.5)  # the other has opened its bus
            await bus.publish(Outgoing("t", "k", b"frozen"))
            took = await elsewhere
        assert took < 2.2, "the other waited until the frozen one woke"
        rows = await fetch(address, 'SELECT value FROM bus.messages ORDER BY "offset"')
        assert [bytes(row["value"]) for row in rows] == [b"other", b"frozen"]

    async def test_commit_with_unknown_outcome(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """When the connection breaks after COMMIT arrived, the messages are not written a second time."""
        broken = []

        class Breaking(asyncpg.transaction.Transaction):
            async def __aexit__(self, *args: object) -> None:
                await super().__aexit__(*args)
                if not broken:
                    broken.append(True)
                    raise asyncpg.ConnectionDoesNotExistError("the link broke in COMMIT")

        async with self.open(address) as bus:
            await bus.ensure_topics([Topic("t")])
            monkeypatch.setattr(
                asyncpg.Connection, "transaction", lambda self: Breaking(self, None, readonly=False, deferrable=False)
            )
            await bus.publish(*numbered("t", 10))
            assert broken
            assert await bus.lag("nobody", ["t"]) == 10

    async def test_lost_connections(self, bus: Bus, topic: str, group: str, address: str) -> None:
        """When the server cuts every connection in mid-stream the member joins again and nothing is lost."""
        ledger = Ledger()
        async with consuming(bus.consumer([topic], ledger.handler(), group=group)):
            await bus.publish(*numbered(topic, 100))
            await ledger.holds(100)
            cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'homeroom-bus%'"
            assert await fetch(address, cut)
            await bus.publish(*numbered(topic, 100, first=100))
            await ledger.holds(200)
            await self._lag_becomes(bus, group, topic, 0)

    async def test_retention(self, address: str, group: str) -> None:
        """Past the retention goes what all groups have taken, past twice the retention everything, newer stays."""
        ledger = Ledger()
        async with PostgresBus.open(address) as bus:
            await bus.ensure_topics([Topic("t", partitions=1, retention_seconds=100)])
            await bus.publish(*numbered("t", 10))
            await bus.publish(*numbered("t", 10, first=10))
            async with consuming(bus.consumer(["t"], ledger.handler(), group=group)):
                await ledger.holds(20)
            aged = 'UPDATE bus.messages SET sent_at = now() - make_interval(secs => $1) WHERE "offset" < 10'
            await fetch(address, "INSERT INTO bus.groups (name) VALUES ('slow')")
            await fetch(
                address,
                "INSERT INTO bus.progress SELECT g.id, s.id, 4 FROM bus.groups g, bus.shards s WHERE name='slow'",
            )
            for age, left in ((50, 20), (150, 16), (250, 10)):
                await fetch(address, aged, age)
                await bus.sweep()
                assert await bus.lag("nobody", ["t"]) == left
            again = Ledger()
            async with consuming(bus.consumer(["t"], again.handler(), group="slow")):
                await again.holds(10)
                await self._lag_becomes(bus, "slow", "t", 0)

    async def test_compaction(self, address: str, group: str) -> None:
        """A compacted topic keeps the newest message of each key and readers pass over the gaps."""
        ledger = Ledger()
        async with PostgresBus.open(address) as bus:
            await bus.ensure_topics([Topic("t", partitions=2, compacted=True)])
            await bus.publish(
                *numbered("t", 100, keys=5), Outgoing("t", "deleted", b"x"), Outgoing("t", "deleted", b"")
            )
            await fetch(address, "UPDATE bus.messages SET sent_at = now() - interval '2 days'")
            await bus.publish(Outgoing("t", "key-0", b"100"))
            await bus.sweep()
            async with consuming(bus.consumer(["t"], ledger.handler(), group=group)):
                await ledger.holds(5)
                await self._lag_becomes(bus, group, "t", 0)
        assert sorted(map(int, ledger.values)) == [96, 97, 98, 99, 100]

    async def test_key_postgres_cannot_store(self, bus: Bus, topic: str) -> None:
        """A key with a NUL character is refused alone, and does not fail others that are sent with it."""
        with pytest.raises(BusError, match="NUL"):
            await bus.publish(Outgoing(topic, "\0", b""))
        await bus.publish(Outgoing(topic, "k", b""))

    async def test_no_database(self) -> None:
        """Without a database opening fails with what is wrong."""
        with pytest.raises(BusUnavailable, match="can't be used as the bus"):
            async with self.open("postgresql://postgres@/x?host=/nowhere"):
                pass


@given(members=st.integers(1, 12), shards=st.integers(1, 40), topic=st.text(max_size=5))
def test_shares_are_even(members: int, shards: int, topic: str) -> None:
    """The shares of all members are all shards, and no member has more than one above another."""
    ids = [uuid.UUID(int=number) for number in range(members)]
    shares = [share_of(member, ids, topic, shards) for member in ids]
    assert sum(shares) == shards
    assert max(shares) - min(shares) <= 1


async def fetch(address: str, statement: str, *args: object) -> list[asyncpg.Record]:
    """Ask the database behind the bus."""
    connection = await asyncpg.connect(address, timeout=10)
    try:
        return await connection.fetch(statement, *args)
    finally:
        await connection.close(timeout=10)
