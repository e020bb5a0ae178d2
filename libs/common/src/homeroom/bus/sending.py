"""What every bus does with a message before it leaves: check its size, find its partition, wait for room."""

from __future__ import annotations

import asyncio
import struct
from functools import lru_cache

from homeroom.bus import MAX_MESSAGE_BYTES, BusUnavailable, MessageTooLarge, Outgoing

MAX_LABEL_BYTES = 16_000
"""Limit of key and headers together; with the value they stay under Kafka's default limit for a batch."""

MESSAGE_OVERHEAD_BYTES = 512
"""What a waiting message costs in memory beside its value, roughly; it bounds their number as well as their size."""


def size_of(message: Outgoing) -> int:
    """Bytes the message occupies while it waits. Raises `MessageTooLarge` if it may not be sent at all."""
    value = len(message.value)
    if value > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(
            f"a message for {message.topic} has {value:,} bytes, the limit is {MAX_MESSAGE_BYTES:,}; split it"
        )
    labels = len(message.key) + sum(len(name) + len(text) for name, text in message.headers.items())
    if labels > MAX_LABEL_BYTES:
        raise MessageTooLarge(
            f"key and headers of a message for {message.topic} have {labels:,} characters, "
            f"the limit is {MAX_LABEL_BYTES:,}; move them into the value"
        )
    return value + labels + MESSAGE_OVERHEAD_BYTES


@lru_cache(maxsize=65_536)
def partition_of(key: str, partitions: int) -> int:
    """The partition of a key: murmur2 as Kafka's own clients compute it, so that all producers agree."""
    return (_murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    """MurmurHash2, 32 bits, with the seed Kafka uses."""
    mix, mask = 0x5BD1E995, 0xFFFFFFFF
    whole = len(data) & ~3
    digest = 0x9747B28C ^ len(data)
    for (word,) in struct.iter_unpack("<I", data[:whole]):
        word = word * mix & mask  # noqa: PLW2901 - the word is scrambled in place, as the algorithm is written
        digest = (digest * mix & mask) ^ ((word ^ word >> 24) * mix & mask)
    if tail := data[whole:]:
        digest = (digest ^ int.from_bytes(tail, "little")) * mix & mask
    digest = (digest ^ digest >> 13) * mix & mask
    return digest ^ digest >> 15


class Outstanding:
    """What was handed over and is not durable yet, kept under a number of bytes (back-pressure)."""

    def __init__(self, limit_bytes: int, deadline_seconds: float) -> None:
        self._limit = limit_bytes
        self._deadline = deadline_seconds
        self._held = 0
        self._queue = asyncio.Lock()
        self._room = asyncio.Event()

    @property
    def held(self) -> int:
        """Bytes handed over and not settled."""
        return self._held

    async def admit(self, size: int) -> None:
        """Wait for room, first come first served; something larger than the limit goes when nothing else is there.

        Raises `BusUnavailable` when there is no room within the deadline.
        """
        if not self._queue.locked() and self._held + size <= self._limit:
            self._held += size
            return
        try:
            async with asyncio.timeout(self._deadline), self._queue:
                while self._held and self._held + size > self._limit:
                    self._room.clear()
                    await self._room.wait()
                self._held += size
        except TimeoutError as error:
            raise BusUnavailable(
                f"the bus took nothing for {self._deadline:.0f} s and {self._held:,} bytes are waiting; try again later"
            ) from error

    def settle(self, size: int) -> None:
        """Say that something admitted is durable, or given up."""
        self._held -= size
        self._room.set()
