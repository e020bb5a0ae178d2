"""Word that something happened to rosters, for those who wait for it: one connection hears for all of them."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from homeroom.db import TRANSIENT, Database, DatabaseBusy
from homeroom.telemetry import get_logger

log = get_logger(__name__)

CHANNEL: Final = "roster_apply"
ALIVE_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 2.0


class News:
    """Wakes whoever waits when a step was added, and now and then without reason; `listen` runs beside it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next = asyncio.Event()
        self._over = False

    async def listen(self, stop: asyncio.Event) -> None:
        """Hear until told to stop, then wake everybody for good."""
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                try:
                    await self._hear(stopping)
                except (*TRANSIENT, DatabaseBusy) as error:
                    log.warning("news.interrupted", error=type(error).__name__)
                    await asyncio.wait([stopping], timeout=RETRY_SECONDS)
        finally:
            stopping.cancel()
            self._over = True
            self._next.set()

    async def _hear(self, stopping: asyncio.Future[Any]) -> None:
        async with self._database.connection() as connection:
            await connection.add_listener(CHANNEL, self._tell)
            try:
                while not stopping.done():
                    await connection.fetchval("SELECT 1")
                    await asyncio.wait([stopping], timeout=ALIVE_SECONDS)
            finally:
                if not connection.is_closed():
                    await connection.remove_listener(CHANNEL, self._tell)

    @property
    def over(self) -> bool:
        """Whether there will be no more, as the process ends."""
        return self._over

    async def wait(self, seconds: float) -> None:
        """Return with the next news, or after a while without."""
        try:
            await asyncio.wait_for(self._next.wait(), seconds)
        except TimeoutError:
            return

    def _tell(self, *_: object) -> None:
        if not self._over:
            self._next.set()
            self._next = asyncio.Event()
