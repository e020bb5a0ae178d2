"""The bus inside Postgres: the embedded default, and enough for a small installation.

Messages lie in one append-only table, numbered without gaps per *shard* (a partition of a topic). Publishing locks the
shard's row until the commit, so commits come in the order of offsets. A member of a group owns a shard by an advisory
lock on a connection of its own and commits on that same connection: when the connection dies, its locks go to others
and its commits fail, both at once. NOTIFY wakes readers, asking twice a second is what they rely on.

All members use the same database role and reach Postgres directly or through session pooling. The advisory locks use
the two-number key space (group, shard); other users of the database should keep to the one-number space.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count

import asyncpg

from homeroom.bus import BusError, BusUnavailable, Handler, Outgoing, Start, Topic
from homeroom.bus.deadletter import burial
from homeroom.bus.delivery import PASSING, Delivery, Patience
from homeroom.bus.postgres_consumer import MESSAGES, SQL, Connect, PostgresConsumer, Tail
from homeroom.bus.sending import Outstanding, partition_of, size_of
from homeroom.db import CONNECT_SECONDS, Connection, Database

log = logging.getLogger(__name__)

COLUMNS = ("shard", "offset", "key", "value", "headers")

GROUP_COMMIT_BYTES = 4_000_000
GROUP_COMMIT_ENTRIES = 5_000
COMPACTION_DELAY_SECONDS = 60
KEEPER_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Settings:
    """How a `PostgresBus` behaves; times in seconds."""

    deadline: float = 20.0
    """For every send, publish, ping and stop."""
    window_bytes: int = 16_000_000
    """What may be handed over and not yet durable; beyond it, `send` waits."""
    session: float = 10.0
    """A member that was silent so long is ended by the others."""
    beat: float = 1.0
    poll: float = 0.5
    keep: float = 60.0
    """Between two rounds of retention and compaction."""
    pool_size: int = 4
    patience: Patience = field(default_factory=Patience)


@dataclass(slots=True)
class _Entry:
    """What one call handed over: it becomes durable as a whole."""

    rows: list[tuple[int, str, bytes, str]]
    size: int
    deadline: float
    done: asyncio.Future[None]


class PostgresBus:
    """The bus over one Postgres database; `open` it."""

    def __init__(self, url: str, database: Database, settings: Settings) -> None:
        self._url = url
        self._database = database
        self._settings = settings
        self._shards: dict[str, list[int]] = {}
        self._outstanding = Outstanding(settings.window_bytes, settings.deadline)
        self._writer = _Writer(self._connect, self._outstanding)
        self._tail = Tail(self._connect, settings.poll)

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, settings: Settings = Settings()) -> AsyncIterator[PostgresBus]:
        """Open the bus and create its schema `bus` if it is not there. Raises `BusUnavailable` without a database."""
        async with AsyncExitStack() as opened:
            with _translated("Postgres can't be used as the bus"):
                database = await opened.enter_async_context(
                    Database.open(url, schema="bus", size=settings.pool_size, application="homeroom-bus")
                )
                await database.transact(_create_schema)
            bus = cls(url, database, settings)
            tasks = [
                asyncio.create_task(bus._writer.run(), name="bus writer"),
                asyncio.create_task(bus._tail.run(), name="bus tail"),
                asyncio.create_task(bus._keep(), name="bus keeper"),
            ]
            try:
                yield bus
            finally:
                await bus.close()
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks, timeout=settings.deadline)

    async def ensure_topics(self, topics: Sequence[Topic]) -> None:
        """Create what is missing; existing topics stay as they are."""

        async def add(connection: Connection) -> None:
            for topic in sorted(topics, key=lambda one: one.name):
                await connection.execute(
                    SQL["add_topic"], topic.name, topic.partitions, topic.retention_seconds, topic.compacted
                )

        with _translated("topics could not be created"):
            await self._database.transact(add)

    async def send(self, message: Outgoing) -> Awaitable[None]:
        """Hand a message over; see `homeroom.bus.Bus.send`."""
        return await self._hand_over([message])

    async def publish(self, *messages: Outgoing) -> None:
        """Send all in one transaction; see `homeroom.bus.Bus.publish`."""
        if messages:
            await (await self._hand_over(messages))

    async def _hand_over(self, messages: Sequence[Outgoing]) -> asyncio.Future[None]:
        size = sum(map(size_of, messages))
        rows = [await self._row(message) for message in messages]
        await self._outstanding.admit(size)
        loop = asyncio.get_running_loop()
        entry = _Entry(rows, size, loop.time() + self._settings.deadline, loop.create_future())
        self._writer.put(entry)
        return entry.done

    async def _row(self, message: Outgoing) -> tuple[int, str, bytes, str]:
        if "\0" in message.key:
            raise BusError(f"a key for {message.topic} holds a NUL character, which Postgres can't store; leave it out")
        shards = self._shards.get(message.topic) or await self._look_up(message.topic)
        shard = shards[partition_of(message.key, len(shards))]
        return shard, message.key, message.value, json.dumps(dict(message.headers)) if message.headers else "{}"

    async def _look_up(self, topic: str) -> list[int]:
        with _translated(f"the topic {topic} could not be looked up"):
            shards = [row["id"] for row in await self._database.fetch(SQL["shards_of"], [topic])]
        if not shards:
            raise BusError(f"there is no topic {topic}; create it with ensure_topics")
        self._shards[topic] = shards
        return shards

    def consumer(
        self,
        topics: Sequence[str],
        handler: Handler,
        *,
        group: str | None,
        start: Start = "earliest",
        max_batch: int = 100,
    ) -> PostgresConsumer:
        """Make a consumer; see `homeroom.bus.Bus.consumer`."""
        delivery = Delivery(handler, burial(self, group), self._settings.patience)
        return PostgresConsumer(
            self._database, self._connect, self._tail, self._settings, topics, delivery, group, start, max_batch
        )

    async def lag(self, group: str, topics: Sequence[str]) -> int:
        """Messages not yet committed by the group, over all partitions."""
        with _translated("the lag could not be read"):
            return int(await self._database.fetchval(SQL["lag"], group, list(topics)))

    async def ends(self, topics: Sequence[str]) -> Mapping[tuple[str, int], int]:
        """The offset the next message of each (topic, partition) will get."""
        with _translated("the ends of topics could not be read"):
            rows = await self._database.fetch(SQL["shards_of"], list(topics))
        return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}

    async def ping(self) -> None:
        """Return if the bus answers, raise `BusUnavailable` if not."""
        with _translated("Postgres does not answer"):
            async with asyncio.timeout(self._settings.deadline):
                await self._database.ping()

    async def close(self) -> None:
        """Wait until all that was handed over is durable or has failed."""
        await self._writer.close(self._settings.deadline)

    async def _connect(self, purpose: str) -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(
            self._url,
            timeout=CONNECT_SECONDS,
            command_timeout=self._settings.deadline,
            server_settings={
                "application_name": f"homeroom-bus {purpose}",
                "timezone": "UTC",
                # Who freezes while it writes would keep all others from writing to the same partitions.
                "idle_in_transaction_session_timeout": str(round(self._settings.session * 1000)),
            },
        )

    async def _keep(self) -> None:
        """Apply retention and compaction now and then; one process at a time does."""
        while True:
            await asyncio.sleep(self._settings.keep)
            try:
                await self.sweep()
            except Exception as error:  # noqa: BLE001 - the next round may succeed, the bus goes on without
                log.warning("old messages were not removed, next try in %.0f s: %s", self._settings.keep, error)

    async def sweep(self, compaction_delay: float = COMPACTION_DELAY_SECONDS) -> None:
        """Apply retention and compaction once, unless another process is at it."""
        async with self._database.connection() as connection:
            if not await connection.fetchval(SQL["try_to_keep"]):
                return
            try:
                for shard, compacted in await connection.fetch(SQL["kept_shards"]):
                    if compacted:
                        await connection.execute(SQL["compact"], shard, compaction_delay)
                    else:
                        while await connection.fetchval(SQL["forget_old"], shard, KEEPER_ROWS) == KEEPER_ROWS:
                            pass
            finally:
                await connection.execute(SQL["kept"])


class _Writer:
    """Writes what is handed over, all that waits in one transaction (group commit)."""

    def __init__(self, connect: Connect, outstanding: Outstanding) -> None:
        self._connect = connect
        self._outstanding = outstanding
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._queue: deque[_Entry] = deque()
        self._filled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._closed = False

    def put(self, entry: _Entry) -> None:
        """Queue an entry."""
        if self._closed:
            self._settle(entry, BusUnavailable("the bus is closed"))
            return
        self._queue.append(entry)
        self._filled.set()
        self._empty.clear()

    async def close(self, seconds: float) -> None:
        """Take nothing more and wait for the rest."""
        self._closed = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), seconds)

    async def run(self) -> None:
        """Write until cancelled."""
        entries: list[_Entry] = []
        try:
            while True:
                await self._filled.wait()
                entries = self._gather()
                try:
                    await self._write(entries)
                except BusError as error:
                    # What waits behind fails, too: sent again, it would otherwise overtake what failed.
                    entries.extend(self._queue)
                    self._queue.clear()
                    for entry in entries:
                        self._settle(entry, error)
                else:
                    for entry in entries:
                        self._settle(entry)
                entries = []
                if not self._queue:
                    self._filled.clear()
                    self._empty.set()
        finally:
            self._drop_connection()
            for entry in (*entries, *self._queue):
                self._settle(entry, BusUnavailable("the bus was closed before this was durable; send it again"))

    def _gather(self) -> list[_Entry]:
        entries: list[_Entry] = []
        size = rows = 0
        while self._queue and (not entries or (size < GROUP_COMMIT_BYTES and rows < GROUP_COMMIT_ENTRIES)):
            entries.append(self._queue.popleft())
            size += entries[-1].size
            rows += len(entries[-1].rows)
        return entries

    def _settle(self, entry: _Entry, error: BusError | None = None) -> None:
        self._outstanding.settle(entry.size)
        if entry.done.done():
            return
        if error is None:
            entry.done.set_result(None)
        else:
            entry.done.set_exception(error)

    async def _write(self, entries: Sequence[_Entry]) -> None:
        """Write until durable or the deadline of the oldest entry. Raises `BusError`.

        After a connection was lost in COMMIT the server is asked what became of the transaction, so that trying again
        doubles nothing.
        """
        loop = asyncio.get_running_loop()
        deadline = entries[0].deadline
        rows = [row for entry in entries for row in entry.rows]
        committing: str | None = None
        for attempt in count(1):
            try:
                async with asyncio.timeout_at(deadline):
                    if self._connection is None or self._connection.is_closed():
                        self._connection = await self._connect("writer")
                    if committing is not None and await self._is_committed(committing):
                        return
                    async with self._connection.transaction():
                        committing = None
                        committing = await _append(self._connection, rows)
                    return
            except PASSING as error:
                self._drop_connection()
                if loop.time() >= deadline:
                    raise BusUnavailable(f"Postgres did not keep the messages in time ({error!r})") from error
                log.warning("messages could not be written, trying again: %r", error)
                await asyncio.sleep(min(1.0, 0.05 * 2**attempt, max(0.0, deadline - loop.time())))
            except BusError:
                self._drop_connection()
                raise
            except Exception as error:
                self._drop_connection()
                raise BusUnavailable(f"Postgres refused the messages: {type(error).__name__}; see its cause") from error

    async def _is_committed(self, transaction: str) -> bool:
        assert self._connection is not None  # noqa: S101 - the caller has just connected
        status = await self._connection.fetchval(SQL["outcome_of"], transaction)
        if status == "in progress":
            raise ConnectionError("the lost transaction has not ended yet")
        return bool(status == "committed")

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


async def _append(connection: Connection, rows: Sequence[tuple[int, str, bytes, str]]) -> str:
    """Number the rows and copy them in; returns the id of the transaction."""
    amounts: dict[int, int] = {}
    for row in rows:
        amounts[row[0]] = amounts.get(row[0], 0) + 1
    reserved = await connection.fetch(SQL["reserve"], list(amounts), list(amounts.values()), MESSAGES)
    if len(reserved) < len(amounts):
        raise BusError("a topic was removed while the bus is in use; create it again and restart this process")
    numbers = {row["id"]: count(row["first_new"]) for row in reserved}
    await connection.copy_records_to_table(
        "messages",
        schema_name="bus",
        columns=COLUMNS,
        records=((shard, next(numbers[shard]), key, value, headers) for shard, key, value, headers in rows),
    )
    return str(reserved[0]["transaction_id"])


async def _create_schema(connection: Connection) -> None:
    await connection.execute(SQL["lock_schema"])
    await connection.execute(SQL["create_schema"])


class _translated:  # noqa: N801 - reads as a word in `with _translated("…")`
    """Turns a failure of the database into `BusUnavailable`."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PASSING):
            raise BusUnavailable(f"{self._what}: {error!r}") from error
