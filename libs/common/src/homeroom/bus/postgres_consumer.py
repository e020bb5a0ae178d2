"""Consuming from the bus inside Postgres: how a member gets its share of a group's partitions and reads them."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING

import asyncpg

from homeroom.bus import BusError, Message, Start
from homeroom.bus.delivery import PASSING, Delivery, Lost, Place
from homeroom.bus.member import Member
from homeroom.db import CONNECT_SECONDS, Database, load_statements

if TYPE_CHECKING:
    from homeroom.bus.postgres import Settings

log = logging.getLogger(__name__)

SQL = load_statements("homeroom.bus")
MESSAGES = "homeroom_bus_messages"
MOVES = "homeroom_bus_moves"
PAGE_BYTES = 4_000_000

Connect = Callable[[str], Awaitable["asyncpg.Connection[asyncpg.Record]"]]
"""Opens a connection of its own for a purpose."""


class Tail:
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
            except Exception as error:  # noqa: BLE001 - without it no consumer of this process would wake again
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


class PostgresConsumer(Member):
    """A member of a group, or a listener of its own."""

    def __init__(
        self,
        database: Database,
        connect: Connect,
        tail: Tail,
        settings: Settings,
        topics: Sequence[str],
        delivery: Delivery,
        group: str | None,
        start: Start,
        max_batch: int,
    ) -> None:
        super().__init__(
            topics, delivery, group, start, max_batch, grace=settings.deadline, stop_limit=2 * settings.deadline
        )
        self._database = database
        self._connect = connect
        self._tail = tail
        self._settings = settings

    async def run(self) -> None:
        """Consume until `stop`; see `homeroom.bus.Consumer.run`."""
        async with self._delivering():
            try:
                async with self._tail.watch(self._topics, self._stir):
                    await (self._listen() if self._group is None else self._belong(self._group))
            except asyncpg.PostgresError as error:
                raise BusError(f"consuming ended: {error!r}; start the consumer again") from error

    async def _listen(self) -> None:
        """Read every partition, keeping nothing."""
        while self._goes_on():
            with suppress(*PASSING):
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
                    member = Membership(connection, group_id, self._topics, self._settings.session)
                    await member.join(self._stir)
                    while self._goes_on():
                        await self._share(member)
                        attempt = 0
                        await self._rest(self._settings.beat)
                    await self._delivery.finish(self._settings.deadline)
                    await member.leave()
                finally:
                    connection.terminate()
            except PASSING as error:
                attempt += 1
                log.warning("a member of %s lost its connection, joining again: %r", group, error)
                await self._delivery.release(self.assigned, 0)
                await self._rest(self._settings.patience.pause(attempt))

    async def _share(self, member: Membership) -> None:
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

    def _source(self, shard: int, place: Place, begin: int, member: Membership | None) -> Source:
        return Source(self._database, self._tail, shard, place, begin, self._max_batch, member)


class Membership:
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
            with suppress(*PASSING):
                await self._ask("unlock", self._group, shard, MOVES)
            self._held.discard(shard)

        task = asyncio.create_task(unlock())
        self._going.add(task)
        task.add_done_callback(self._going.discard)

    async def commit(self, shard: int, offset: int) -> None:
        """Keep progress, on the connection that holds the lock."""
        try:
            await self._ask("commit", self._group, shard, offset)
        except PASSING as error:
            raise Lost from error


def share_of(member: uuid.UUID, members: Sequence[uuid.UUID], topic: str, shards: int) -> int:
    """How many of a topic's shards are the member's: even, and what is left over goes round by topic."""
    if member not in members:
        return 0
    rank = (sorted(members).index(member) + zlib.crc32(topic.encode())) % len(members)
    whole, left_over = divmod(shards, len(members))
    return whole + (rank < left_over)


class Source:
    """One shard as one consumer reads it."""

    def __init__(
        self,
        database: Database,
        tail: Tail,
        shard: int,
        place: Place,
        position: int,
        max_batch: int,
        member: Membership | None,
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
        except PASSING as error:
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
