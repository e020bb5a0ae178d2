"""Who may upload: integrations and their accounts as the scheduler tells them on `tenancy`, kept in memory.

The gateway has no database. Whoever needs to know integrations reads the compacted topic from its beginning and is
ready once everything that was there at the start has been read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from homeroom.bus import Bus, Consumer, Message, Reject
from homeroom.messages import TENANCY, IntegrationState, read_tenancy
from homeroom.telemetry import get_logger

QUIET_SECONDS = 5.0
"""With nothing to read for so long, the topic's last message is taken to be one that was compacted away."""

log = get_logger(__name__)


class Directory:
    """Every integration by its id, and by the name of its account."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._integrations: dict[str, IntegrationState] = {}
        self._by_username: dict[str, str] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._complete = asyncio.Event()
        self._news = asyncio.Event()
        self._listeners: list[Callable[[IntegrationState], object]] = []

    async def run(self) -> None:
        """Read until cancelled. Raises what the consumer ends with."""
        await self._bus.ensure_topics([TENANCY])
        self._ends = {place: end for place, end in (await self._bus.ends([TENANCY.name])).items() if end}
        if not self._ends:
            self._complete.set()
        consumer = self._bus.consumer([TENANCY.name], self.take, group=None)
        consuming = asyncio.create_task(consumer.run())
        try:
            while not self._complete.is_set() and not consuming.done():
                await self._wait_for_the_end(consumer, consuming)
            await consuming
        finally:
            consuming.cancel()
            await asyncio.gather(consuming, return_exceptions=True)

    async def _wait_for_the_end(self, consumer: Consumer, consuming: asyncio.Task[None]) -> None:
        news = asyncio.create_task(self._news.wait())
        try:
            await asyncio.wait([news, consuming], timeout=QUIET_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        if not news.done() and consumer.assigned:
            self._complete.set()

    async def take(self, messages: Sequence[Message]) -> None:
        """Take what was said about organizations and integrations."""
        for message in messages:
            with suppress(Reject):  # whoever keeps tenancy in a database sends it to the dead letters
                state = read_tenancy(message)
                if isinstance(state, IntegrationState):
                    self._keep(state)
            place = (message.topic, message.partition)
            if message.offset + 1 >= self._ends.get(place, 0):
                self._ends.pop(place, None)
        if not self._ends:
            self._complete.set()
        self._news.set()
        self._news = asyncio.Event()

    def _keep(self, state: IntegrationState) -> None:
        before = self._integrations.get(state.id)
        if before is not None and before.sftp and self._by_username.get(before.sftp.username) == state.id:
            del self._by_username[before.sftp.username]
        self._integrations[state.id] = state
        if state.sftp is not None:
            self._by_username[state.sftp.username] = state.id
        for tell in self._listeners:
            tell(state)

    def listen(self, tell: Callable[[IntegrationState], object]) -> None:
        """Have every later state of an integration told."""
        self._listeners.append(tell)

    async def check(self) -> None:
        """Return once everything was read; raise ConnectionError before."""
        if not self._complete.is_set():
            msg = "integrations are still being read"
            raise ConnectionError(msg)

    async def complete(self) -> None:
        """Wait until everything was read that was there at the start."""
        await self._complete.wait()

    def find(self, integration_id: str) -> IntegrationState | None:
        """An integration, deleted ones included."""
        return self._integrations.get(integration_id)

    async def wait_for(self, integration_id: str, seconds: float) -> IntegrationState | None:
        """An integration that may have been created just now: news of it travel for a moment."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while integration_id not in self._integrations:
                    await self._news.wait()
        return self.find(integration_id)

    def account(self, username: str) -> IntegrationState | None:
        """The integration whose account has this name, as far as it may upload."""
        state = self._integrations.get(self._by_username.get(username, ""))
        return state if state is not None and state.state == "active" and state.sftp is not None else None
