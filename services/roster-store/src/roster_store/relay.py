"""The relay: the change feed, put on `roster-events`.

One relay is at work at a time (an advisory lock decides), and its cursor moves only after the bus has the events:
after a crash some are sent again with the same id, none is lost.
"""

from __future__ import annotations

import asyncio

from homeroom.bus import Bus
from homeroom.db import TRANSIENT, Connection, Database
from homeroom.events import to_message
from homeroom.faultpoints import faultpoint
from homeroom.telemetry import RELAY_EVENTS, get_logger
from roster_store.feed import Cursor, read_page
from roster_store.sights import Rosters
from roster_store.tables import SQL

log = get_logger(__name__)

NAME = "roster-events"
PAGE = 2_000
POLL_SECONDS = 1.0
RETRY_SECONDS = 2.0


class Relay:
    """Carries the feed to the bus until it is told to stop."""

    def __init__(self, database: Database, rosters: Rosters, bus: Bus) -> None:
        self._database = database
        self._rosters = rosters
        self._bus = bus
        self._news = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Hold the lock and relay; go on after whatever may pass by itself."""
        while not stop.is_set():
            try:
                async with self._database.connection() as connection:
                    await self._hold(connection, stop)
            except TRANSIENT as error:
                log.warning("relay.interrupted", error=type(error).__name__)
                await _wait(stop, RETRY_SECONDS)

    async def _hold(self, connection: Connection, stop: asyncio.Event) -> None:
        """Relay while this connection holds the lock; its loss ends the relay, and another may take over."""
        await connection.add_listener("roster_apply", self._hear)
        try:
            while not stop.is_set() and not await connection.fetchval(SQL["lock_relay"], NAME):
                await _wait(stop, RETRY_SECONDS)
            while not stop.is_set():
                await connection.fetchval("SELECT 1")  # the lock lives as long as this connection does
                self._news.clear()
                if not await self.relay_page():
                    await self._wait_for_news(stop)
        finally:
            if not connection.is_closed():
                await connection.remove_listener("roster_apply", self._hear)

    async def relay_page(self) -> bool:
        """Send the next page and move the cursor; whether there is more at once."""
        row = await self._database.fetchrow(SQL["read_relay"], NAME)
        assert row is not None  # noqa: S101 - the statement inserts what is not there
        start = Cursor(row["apply_no"], row["change_no"])
        page = await read_page(self._database, self._rosters, start, PAGE)
        if page.events:
            await self._bus.publish(*(to_message(found.event, found.integration_id) for found in page.events))
            faultpoint("relay.events-sent")
            for found in page.events:
                RELAY_EVENTS.labels(found.event.type).inc()
        if page.cursor != start:
            await self._database.fetch(SQL["move_relay"], NAME, page.cursor.apply_no, page.cursor.change_no)
        return page.more

    def _hear(self, *_: object) -> None:
        self._news.set()

    async def _wait_for_news(self, stop: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(self._news.wait()), asyncio.ensure_future(stop.wait())]
        try:
            await asyncio.wait(waits, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
