"""The event bus: what a producer and a consumer may say, whichever bus carries it.

Two implementations stand behind this contract and pass one suite (`homeroom.testing.bus_contract`):
`homeroom.bus.kafka` and `homeroom.bus.postgres`. Delivery is at least once; order holds per key;
every consumer is idempotent (architecture §2, "The bus").
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

MAX_MESSAGE_BYTES = 1_000_000
"""A larger value is refused before it is sent (`MessageTooLarge`); Kafka's own default limit lies just above."""

Start = Literal["earliest", "latest"]


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic and how it is laid out; created by `Bus.ensure_topics` if it is not there."""

    name: str
    partitions: int = 6
    retention_seconds: int = 14 * 24 * 3600
    compacted: bool = False
    """Keep at least the newest message of every key instead of a span of time."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as a consumer sees it."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    headers: Mapping[str, str]
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message as a producer hands it over.

    An empty value on a compacted topic says that the key is gone: it is kept for a while and then the key disappears.
    """

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class BusError(Exception):
    """The bus refused or failed; the text says what to do. Nothing is half sent."""


class MessageTooLarge(BusError):  # noqa: N818 - the name says what is wrong with the message, callers catch it by that
    """The value is over `MAX_MESSAGE_BYTES`; split it."""


class BusUnavailable(BusError):  # noqa: N818 - a state of the bus rather than a mistake
    """The bus did not answer within the deadline; the message may or may not have been kept. Send it again.

    Everything handed over after it and not yet durable fails as well, so that sending again keeps the order.
    """


class Reject(Exception):  # noqa: N818 - a consumer's word, not an error of ours
    """Said by a handler: this message can never be handled. It goes to the dead letters, the rest goes on.

    `reason` is a stable code (`MESSAGE_UNREADABLE`); it must hold no personal data, for it travels in headers.
    """

    def __init__(self, message: Message, reason: str) -> None:
        super().__init__(reason)
        self.message = message
        self.reason = reason


class Retry(Exception):  # noqa: N818 - a consumer's word, not an error of ours
    """Said by a handler: not now (the database is away). The same messages are handed over again, without limit."""


Handler = Callable[[Sequence[Message]], Awaitable[None]]
"""Takes messages of one partition in order. A normal return means all are done and they are committed.

A consumer calls its handler for one batch at a time; its partitions take turns, and while one of them waits before it
is tried again the others go on. A handler may take minutes, but whoever waits for an orderly `stop` waits for it.

`Reject` sends one message to the dead letters and the others are handed over again; `Retry`, a lost
connection or a timeout (also several in an `ExceptionGroup`) hands the same batch over again with growing pauses;
any other exception is tried again one message at a time and after five failures that message goes to the dead letters
(`MESSAGE_FAILED`). A brake stops the consumer (`BrakeEngaged` ends `run`) when so many messages fail that the fault
must be ours.
"""


class BrakeEngaged(BusError):  # noqa: N818 - what happened, in the words of the runbook
    """Too many messages in a row could not be handled: more likely bad code than bad messages, so we stop."""


class Consumer(Protocol):
    """A member of a consumer group, or a listener of its own where `group` is None."""

    async def run(self) -> None:
        """Consume until `stop`; raises `BrakeEngaged`, or `BusError` when it can't go on. Run it as a task."""

    async def stop(self) -> None:
        """Finish the batch in hand, commit, leave the group; what needs longer than the bus's deadline is cut off."""

    def pause(self) -> None:
        """Take no further messages, stay a member of the group. What was not taken counts as lag."""

    def resume(self) -> None:
        """Take messages again."""

    @property
    def assigned(self) -> frozenset[tuple[str, int]]:
        """The (topic, partition) pairs this member reads now."""


class Bus(Protocol):
    """Publishing and consuming. Opened by an async context manager of each implementation."""

    async def ensure_topics(self, topics: Sequence[Topic]) -> None:
        """Create what is missing; existing topics stay as they are."""

    async def send(self, message: Outgoing) -> Awaitable[None]:
        """Hand a message over, in order, waiting while too much is outstanding (back-pressure).

        Returns an awaitable that is done when the message is durable, or raises `BusUnavailable`.
        Sends from one task keep their order per key. A caller that only wants durability uses `publish`.
        """

    async def publish(self, *messages: Outgoing) -> None:
        """Send all and return when all are durable; messages of one key keep the order given."""

    def consumer(  # one call holds everything that defines a member
        self,
        topics: Sequence[str],
        handler: Handler,
        *,
        group: str | None,
        start: Start = "earliest",
        max_batch: int = 100,
    ) -> Consumer:
        """Make a consumer; nothing is read before `run`.

        With `group`, partitions are shared among its members and progress is kept; without, every message from
        `start` on is seen by this consumer alone and nothing is kept (a broadcast, as cancellations are).
        """

    async def lag(self, group: str, topics: Sequence[str]) -> int:
        """Messages not yet committed by the group, over all partitions."""

    async def ends(self, topics: Sequence[str]) -> Mapping[tuple[str, int], int]:
        """The offset the next message of each (topic, partition) will get; who has read up to it is up to date."""

    async def ping(self) -> None:
        """Return if the bus answers, raise `BusUnavailable` if not."""

    async def close(self) -> None:
        """Flush and close. Consumers are stopped by those who started them."""
