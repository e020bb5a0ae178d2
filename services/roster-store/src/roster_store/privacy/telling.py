"""Tells the other services of erasures: an erasure with an outbox is the message waiting to be sent (at least once)."""

from __future__ import annotations

import asyncio

import msgspec

from homeroom.bus import Bus, BusError
from homeroom.db import TRANSIENT, Connection, Database, DatabaseBusy
from homeroom.messages import Erased, to_erasures, to_facts
from homeroom.telemetry import get_logger
from roster_store.privacy.erasure import Outbox
from roster_store.tables import SQL

log = get_logger(__name__)

POLL_SECONDS = 2.0


class ErasureTelling:
    """Sends what is to be told until it is told to stop."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus

    async def run(self, stop: asyncio.Event) -> None:
        """Send, wait, and send again; go on after whatever may pass by itself."""
        while not stop.is_set():
            try:
                while await self.tell_next() and not stop.is_set():
                    continue
            except (*TRANSIENT, DatabaseBusy, BusError) as error:
                log.warning("erasures.interrupted", error=type(error).__name__)
            try:
                await asyncio.wait_for(stop.wait(), POLL_SECONDS)
            except TimeoutError:
                continue

    async def tell_next(self) -> bool:
        """Send the messages of one erasure; whether there was one."""
        return await self._database.transact(self._tell, tries=1)

    async def _tell(self, connection: Connection) -> bool:
        row = await connection.fetchrow(SQL["next_erasure"])
        if row is None:
            return False
        outbox = msgspec.convert(row["outbox"], Outbox)
        erased = Erased(
            erasure_id=str(row["id"]),
            integration_id=str(row["integration_id"]),
            organization_id=str(row["organization_id"]),
            sourced_ids=tuple(outbox.sourced_ids),
            at=row["at"],
        )
        await self._bus.publish(to_erasures(erased), *(to_facts(fact) for fact in outbox.ended))
        await connection.execute(SQL["erasure_told"], row["id"])
        log.info("erasure.told", erasure_id=str(row["id"]))
        return True
