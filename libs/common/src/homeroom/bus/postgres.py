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
import uuid
import zlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count

import asyncpg

from homeroom.bus import BusError, BusUnavailable, Handler, Message, Outgoing, Start, Topic
from homeroom.bus.deadletter import burial
from homeroom.bus.delivery import Delivery, Lost, Patience, Place
from homeroom.bus.sending import Outstanding, partition_of, size_of
from homeroom.db import CONNECT_SECONDS, TRANSIENT, Connection, Database, DatabaseBusy, load_statements

log = logging.getLogger(__name__)

SQL = load_statements("homeroom.bus")
MESSAGES = "homeroom_bus_messages"
MOVES = "homeroom_bus_moves"
COLUMNS = ("shard", "offset", "key", "value", "headers")

GROUP_COMMIT_BYTES = 4_000_000
GROUP_COMMIT_ENTRIES = 5_000
PAGE_BYTES = 4_000_000
COMPACTION_DELAY_SECONDS = 60
KEEPER_ROWS = 1_000

Connect = Callable[[str], Awaitable["asyncpg.Connection[asyncpg.Record]"]]
"""Opens a connection of its own for a purpose."""


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
        self._tail = _Tail(self._connect, settings.poll)

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
            server_settings={"application_name": f"homeroom-bus {purpose}", "timezone": "UTC"},
        )

    async def _keep(self) -> None:
        """Apply retention and compaction now and then; one process at a time does."""
        while True:
            await asyncio.sleep(self._settings.keep)
            try:
                await self.sweep()
            except (*TRANSIENT, DatabaseBusy) as error:
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
            except TRANSIENT as error:
                self._drop_connection()
                if loop.time() >= deadline:
                    raise BusUnavailable(f"Postgres did not keep the messages in time ({error!r})") from error
                log.warning("messages could not be written, trying again: %r", error)
                await asyncio.sleep(min(1.0, 0.05 * 2**attempt, max(0.0, deadline - loop.time())))
            except asyncpg.PostgresError as error:
                self._drop_connection()
                raise BusUnavailable(f"Postgres refused the messages: {error}") from error

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


class _Tail:
    """Knows how far each shard reaches, for all consumers of a bus."""

    def __init__(self, connect: Connect, poll: float) -> None:
        self._connect = connect
        self._poll = poll
        self._topics: dict[object, Sequence[str]] = {}
        self._ends: dict[int, int] = {}
        self._grown = asyncio.Event()
        self._members: dict[object, asyncio.Event] = {}

    @asynccontextmanager
    async def watch(self, topics: Sequence[str], moved: asyncio.Event) -> AsyncIterator[None]:
        """Watch topics for a consumer; `moved` is set when a member of some group came, went or let go."""
        token = object()
        self._topics[token] = topics
        self._members[token] = moved
        try:
            yield
        finally:
            del self._topics[token], self._members[token]

    def end(self, shard: int) -> int | None:
        """The offset the next message will get, as far as is known."""
        return self._ends.get(shard)

    async def reach_beyond(self, shard: int, offset: int) -> None:
        """Wait until there is a message at `offset`."""
        while self._ends.get(shard, 0) <= offset:
            await self._grown.wait()

    async def run(self) -> None:
        """Listen and ask until cancelled."""
        for attempt in count():
            try:
                await self._follow()
            except TRANSIENT as error:
                log.warning("lost sight of new messages, connecting again: %r", error)
            await asyncio.sleep(min(2.0, 0.1 * 2 ** min(attempt, 8)))

    async def _follow(self) -> None:
        connection = await self._connect("tail")
        try:
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(MESSAGES, lambda _c, _p, _n, text: self._tell(*map(int, str(text).split())))
            await connection.add_listener(MOVES, lambda *_: self._stir())
            while not lost.is_set():
                topics = sorted({topic for topics in self._topics.values() for topic in topics})
                if topics:
                    for row in await connection.fetch(SQL["shards_of"], topics):
                        self._tell(row["id"], row["next_offset"])
                with suppress(TimeoutError):
                    await asyncio.wait_for(lost.wait(), self._poll)
        finally:
            connection.terminate()

    def _tell(self, shard: int, end: int) -> None:
        if end > self._ends.get(shard, -1):
            self._ends[shard] = end
            self._grown.set()
            self._grown = asyncio.Event()

    def _stir(self) -> None:
        for moved in self._members.values():
            moved.set()


class PostgresConsumer:
    """A member of a group, or a listener of its own."""

    def __init__(
        self,
        database: Database,
        connect: Connect,
        tail: _Tail,
        settings: Settings,
        topics: Sequence[str],
        delivery: Delivery,
        group: str | None,
        start: Start,
        max_batch: int,
    ) -> None:
        self._database = database
        self._connect = connect
        self._tail = tail
        self._settings = settings
        self._topics = sorted(set(topics))
        self._delivery = delivery
        self._group = group
        self._start = start
        self._max_batch = max_batch
        self._stir = asyncio.Event()
        self._stopping = False
        self._ended = asyncio.Event()
        self._ended.set()

    @property
    def assigned(self) -> frozenset[Place]:
        """The (topic, partition) pairs this member reads now."""
        return self._delivery.places

    def pause(self) -> None:
        """Take no further messages, stay a member of the group."""
        self._delivery.pause()

    def resume(self) -> None:
        """Take messages again."""
        self._delivery.resume()

    async def stop(self) -> None:
        """Finish the batch in hand, commit, leave the group."""
        self._stopping = True
        self._stir.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), 2 * self._settings.deadline)

    async def run(self) -> None:
        """Consume until `stop`; see `homeroom.bus.Consumer.run`."""
        self._ended.clear()
        grace = 0.0
        try:
            async with self._tail.watch(self._topics, self._stir):
                await (self._listen() if self._group is None else self._belong(self._group))
            grace = self._settings.deadline
        finally:
            await self._delivery.close(grace)
            self._ended.set()
        self._delivery.check()

    def _goes_on(self) -> bool:
        return not self._stopping and not self._delivery.halted.is_set()

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stir.wait(), seconds)
        self._stir.clear()

    async def _listen(self) -> None:
        """Read every partition, keeping nothing."""
        while self._goes_on():
            with suppress(*TRANSIENT, DatabaseBusy):
                for row in await self._database.fetch(SQL["positions_of"], self._topics):
                    place = (row["topic"], row["partition"])
                    if place not in self.assigned:
                        begin = row["next_offset"] if self._start == "latest" else row["first_offset"]
                        self._delivery.take(place, self._source(row["id"], place, begin, None))
            await self._rest(self._settings.session if self.assigned else self._settings.beat)

    async def _belong(self, group: str) -> None:
        """Be a member of the group, again and again if the connection is lost."""
        attempt = 0
        while self._goes_on():
            try:
                await self._database.fetch(SQL["name_group"], group)
                group_id = await self._database.fetchval(SQL["group_id"], group)
                connection = await self._connect("member")
                try:
                    member = _Membership(connection, group_id, self._topics, self._settings.session)
                    await member.join(self._stir)
                    while self._goes_on():
                        await self._share(member)
                        attempt = 0
                        await self._rest(self._settings.beat)
                    await self._delivery.finish(self._settings.deadline)
                    await member.leave()
                finally:
                    connection.terminate()
            except (*TRANSIENT, DatabaseBusy) as error:
                attempt += 1
                log.warning("a member of %s lost its connection, joining again: %r", group, error)
                await self._delivery.release(self.assigned, 0)
                await self._rest(self._settings.patience.pause(attempt))

    async def _share(self, member: _Membership) -> None:
        """Let go of what is too much for this member and take what is free, up to its share."""
        wanted = await member.look()
        for topic, (shards, share) in wanted.items():
            mine = sorted(place[1] for place in self.assigned if place[0] == topic)
            for partition in mine[share:]:
                member.let_go(shards[partition], self._delivery.release([(topic, partition)], None))
            missing = share - len(mine)
            for partition, shard in shards.items():
                if missing > 0 and (begin := await member.take(shard, self._start)) is not None:
                    place = (topic, partition)
                    self._delivery.take(place, self._source(shard, place, begin, member))
                    missing -= 1

    def _source(self, shard: int, place: Place, begin: int, member: _Membership | None) -> _Source:
        return _Source(self._database, self._tail, shard, place, begin, self._max_batch, member)


class _Membership:
    """One stay in a group: a connection, the locks it holds and what is committed on it."""

    def __init__(
        self, connection: asyncpg.Connection[asyncpg.Record], group: int, topics: Sequence[str], session: float
    ) -> None:
        self._connection = connection
        self._group = group
        self._topics = topics
        self._session = session
        self._id = uuid.uuid4()
        self._held: set[int] = set()
        self._going: set[asyncio.Task[None]] = set()
        self._line = asyncio.Lock()

    async def _ask(self, statement: str, *args: object) -> list[asyncpg.Record]:
        """One statement on this connection, which lanes and the member share."""
        async with self._line:
            return await self._connection.fetch(SQL[statement], *args)

    async def join(self, stir: asyncio.Event) -> None:
        """Say that we are here; `stir` is set when the connection is lost."""
        self._connection.add_termination_listener(lambda _: stir.set())
        # Progress may lag behind by a moment after a crash of the server: then messages come again, which they may.
        await self._connection.execute("SET synchronous_commit = off")
        await self._ask("join", self._id, self._group, list(self._topics))
        await self._ask("stir", MOVES)

    async def leave(self) -> None:
        """Say that we are gone; the locks go with the connection."""
        await self._ask("leave", self._id)
        await self._connection.close(timeout=CONNECT_SECONDS)

    async def look(self) -> Mapping[str, tuple[Mapping[int, int], int]]:
        """For each topic, its shards by partition and how many of them are this member's share."""
        if not await self._ask("beat", self._id):
            raise ConnectionError("the other members gave this one up")
        await self._ask("end_silent_members", self._group, self._session)
        members = await self._ask("live_members", self._group)
        shards: dict[str, dict[int, int]] = {}
        for row in await self._ask("shards_of", self._topics):
            shards.setdefault(row["topic"], {})[row["partition"]] = row["id"]
        return {
            topic: (its, share_of(self._id, [row["id"] for row in members if topic in row["topics"]], topic, len(its)))
            for topic, its in shards.items()
        }

    async def take(self, shard: int, start: Start) -> int | None:
        """Lock a shard; returns the offset to go on from, or None if the shard is somebody else's."""
        if shard in self._held or not (await self._ask("try_lock", self._group, shard))[0][0]:
            return None
        self._held.add(shard)
        await self._ask("begin_at", self._group, shard, start == "latest")
        return int((await self._ask("progress", self._group, shard))[0][0])

    def let_go(self, shard: int, released: Awaitable[None]) -> None:
        """Unlock a shard as soon as its batch in hand is done."""

        async def unlock() -> None:
            await released
            with suppress(*TRANSIENT):
                await self._ask("unlock", self._group, shard, MOVES)
            self._held.discard(shard)

        task = asyncio.create_task(unlock())
        self._going.add(task)
        task.add_done_callback(self._going.discard)

    async def commit(self, shard: int, offset: int) -> None:
        """Keep progress, on the connection that holds the lock."""
        try:
            await self._ask("commit", self._group, shard, offset)
        except TRANSIENT as error:
            raise Lost from error


def share_of(member: uuid.UUID, members: Sequence[uuid.UUID], topic: str, shards: int) -> int:
    """How many of a topic's shards are the member's: even, and what is left over goes round by topic."""
    if member not in members:
        return 0
    rank = (sorted(members).index(member) + zlib.crc32(topic.encode())) % len(members)
    whole, left_over = divmod(shards, len(members))
    return whole + (rank < left_over)


class _Source:
    """One shard as one consumer reads it."""

    def __init__(
        self,
        database: Database,
        tail: _Tail,
        shard: int,
        place: Place,
        position: int,
        max_batch: int,
        member: _Membership | None,
    ) -> None:
        self._database = database
        self._tail = tail
        self._shard = shard
        self._place = place
        self._position = position
        self._max_batch = max_batch
        self._member = member
        self._failures = 0

    async def fetch(self) -> Sequence[Message]:
        """Wait for the next messages, at most `max_batch` and about `PAGE_BYTES`."""
        end = self._tail.end(self._shard)
        if end is not None and end <= self._position:
            await self._tail.reach_beyond(self._shard, self._position)
        end = self._tail.end(self._shard)
        try:
            rows = await self._database.fetch(SQL["page"], self._shard, self._position, self._max_batch, PAGE_BYTES)
        except (*TRANSIENT, DatabaseBusy) as error:
            log.warning("%s[%d] could not be read, trying again: %r", *self._place, error)
            self._failures += 1
            await asyncio.sleep(min(5.0, 0.1 * 2 ** min(self._failures, 6)))
            return ()
        self._failures = 0
        if rows:
            self._position = rows[-1]["offset"] + 1
        elif end is None:
            await self._tail.reach_beyond(self._shard, self._position)
        elif end > self._position:
            # All up to the end was there before we asked, so what is missing was compacted or too old.
            self._position = end
            await self.commit(end)
        topic, partition = self._place
        return [
            Message(topic, partition, offset, key, value, json.loads(headers) if headers != "{}" else {}, sent_at)
            for offset, key, value, headers, sent_at in rows
        ]

    async def commit(self, offset: int) -> None:
        """Keep progress, if this is a member of a group."""
        if self._member is not None:
            await self._member.commit(self._shard, offset)


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
        if isinstance(error, (*TRANSIENT, DatabaseBusy)):
            raise BusUnavailable(f"{self._what}: {error!r}") from error
