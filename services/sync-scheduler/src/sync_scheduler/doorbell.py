"""Wakes a worker the moment there is something to do, so that nobody waits for its next round.

A ring that is missed costs one round and nothing else: what is to be done stands in the tables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import asyncpg

from homeroom.db import CONNECT_SECONDS
from homeroom.telemetry import get_logger
from sync_scheduler.ledger import AWAY

log = get_logger(__name__)

CHANNEL = "sync_scheduler"
"""As in `sql/runs.sql`, `wake`."""
AGAIN_SECONDS = 2.0
CHECK_SECONDS = 15.0
"""How often a silent connection is asked whether it is still there."""


class Doorbell:
    """Rings when a transaction that said `wake` is committed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._rung = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Listen on a connection of its own until `stop`, and connect again when it is lost."""
        while not stop.is_set():
            try:
                await self._listen(stop)
            except AWAY as error:
                log.warning("doorbell.lost", error_type=type(error).__name__)
                await first_of(AGAIN_SECONDS, stop.wait())

    async def wait(self, stop: asyncio.Event, seconds: float) -> None:
        """Return at the next ring, at `stop` or after so many seconds."""
        await first_of(seconds, self._rung.wait(), stop.wait())
        self._rung.clear()

    async def _listen(self, stop: asyncio.Event) -> None:
        connection = await asyncpg.connect(
            self._url,
            timeout=CONNECT_SECONDS,
            command_timeout=CHECK_SECONDS,
            server_settings={"application_name": "sync-scheduler doorbell"},
        )
        try:
            await connection.add_listener(CHANNEL, self._ring)
            self._rung.set()  # for whatever came before we listened
            while not stop.is_set():
                await connection.execute("SELECT 1")
                await first_of(CHECK_SECONDS, stop.wait())
        finally:
            connection.terminate()

    def _ring(self, *_: object) -> None:
        self._rung.set()


async def first_of(seconds: float, *waits: Coroutine[Any, Any, Any]) -> None:
    """Return when the first of some waits is over, at the latest after so many seconds."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
