"""Dead letters: messages no handler could take, kept as they were beside the topic they came from.

Every topic has at most one dead-letter topic, made when it is first needed. A letter has the value and the key of its
message and the message's own headers (`traceparent` among them), and in headers of ours where it came from and why it
is here; nothing in those is personal data.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from homeroom.bus import Bus, BusUnavailable, Message, Outgoing, Topic
from homeroom.bus.delivery import Bury
from homeroom.bus.sending import MAX_LABEL_BYTES

SUFFIX = ".dead-letters"
RETENTION_SECONDS = 30 * 24 * 3600
PREFIX = "dead-letter-"
READ_SECONDS = 60.0
NOBODY = "dead-letters.nobody"
"""A group that never commits, so that its lag is the number of letters."""

_ROOM_FOR_OURS = 1_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter and what is known about it."""

    message: Message
    """The letter itself; its topic, partition and offset are those among the dead letters."""
    topic: str
    partition: int
    offset: int
    group: str
    reason: str
    sha256: str

    @classmethod
    def of(cls, message: Message) -> Self:
        """Read the headers of a letter."""
        told = {name.removeprefix(PREFIX): text for name, text in message.headers.items() if name.startswith(PREFIX)}
        return cls(
            message=message,
            topic=told.get("topic", message.topic.removesuffix(SUFFIX)),
            partition=int(told.get("partition", -1)),
            offset=int(told.get("offset", -1)),
            group=told.get("group", ""),
            reason=told.get("reason", ""),
            sha256=told.get("sha256", ""),
        )

    def original(self) -> Outgoing:
        """The message as it was first sent."""
        headers = {name: text for name, text in self.message.headers.items() if not name.startswith(PREFIX)}
        return Outgoing(self.topic, self.message.key, self.message.value, headers)


def topic_for(topic: str) -> str:
    """The name of a topic's dead-letter topic; dead letters that die again stay where they are."""
    return topic if topic.endswith(SUFFIX) else topic + SUFFIX


def letter_for(message: Message, reason: str, group: str | None) -> Outgoing:
    """The letter to be sent for a message that could not be handled."""
    ours = {
        PREFIX + "topic": message.topic,
        PREFIX + "partition": str(message.partition),
        PREFIX + "offset": str(message.offset),
        PREFIX + "group": group or "",
        PREFIX + "reason": reason,
        PREFIX + "sha256": hashlib.sha256(message.value).hexdigest(),
    }
    theirs = {name: text for name, text in message.headers.items() if not name.startswith(PREFIX)}
    if len(message.key) + sum(map(len, [*theirs, *theirs.values()])) > MAX_LABEL_BYTES - _ROOM_FOR_OURS:
        theirs = {name: text for name, text in theirs.items() if name == "traceparent"}
    return Outgoing(topic_for(message.topic), message.key, message.value, theirs | ours)


def burial(bus: Bus, group: str | None) -> Bury:
    """What puts the dead letters of a group into their topic."""
    made: set[str] = set()

    async def bury(message: Message, reason: str) -> None:
        letter = letter_for(message, reason, group)
        if letter.topic not in made:
            await bus.ensure_topics([Topic(letter.topic, partitions=1, retention_seconds=RETENTION_SECONDS)])
            made.add(letter.topic)
        await bus.publish(letter)

    return bury


async def read(bus: Bus, topic: str, *, limit: int = 1_000) -> list[DeadLetter]:
    """The oldest dead letters of a topic, at most `limit`; they stay where they are."""
    place = topic_for(topic)
    wanted = min(limit, await bus.lag(NOBODY, [place]))
    letters: list[DeadLetter] = []
    if not wanted:
        return letters
    enough = asyncio.Event()

    async def collect(messages: Sequence[Message]) -> None:
        letters.extend(map(DeadLetter.of, messages))
        if len(letters) >= wanted:
            enough.set()

    consumer = bus.consumer([place], collect, group=None)
    running = asyncio.create_task(consumer.run())
    waiting = asyncio.create_task(enough.wait())
    try:
        await asyncio.wait({running, waiting}, timeout=READ_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        await consumer.stop()
        await running
    if not enough.is_set():
        raise BusUnavailable(f"only {len(letters)} of {wanted} dead letters came in {READ_SECONDS:.0f} s; try again")
    return letters[:wanted]


async def replay(
    bus: Bus, topic: str, *, choose: Callable[[DeadLetter], bool] = lambda _: True, limit: int = 1_000
) -> int:
    """Send dead letters to their topic again, all or those chosen; returns how many.

    The letters stay. Every group of the topic sees the message again, as after any redelivery, so this may be
    repeated without harm.
    """
    chosen = [letter.original() for letter in await read(bus, topic, limit=limit) if choose(letter)]
    await bus.publish(*chosen)
    return len(chosen)
