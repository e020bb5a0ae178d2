"""Tells alert targets of connections that must be looked after, by way of the scheduler, and operators by a metric."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Final
from uuid import UUID, uuid5

import asyncpg

from homeroom.bus import Bus, BusError
from homeroom.clock import Clock
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.messages import ConnectionWarning, to_facts
from homeroom.problems import AWAY
from homeroom.telemetry import CERTIFICATE_DAYS, get_logger
from sso.callers import FIRST
from sso.connections.warnings import list_told
from sso.statements import SQL

PAGE: Final = 200
PAUSE_SECONDS: Final = 3600.0
_DAY_SECONDS: Final = 86_400

log = get_logger(__name__)


class Telling:
    """Says each warning once; any number of workers may try."""

    def __init__(self, database: Database, bus: Bus, clock: Clock) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock

    async def run(self) -> None:
        """Tell what is to be told, for ever."""
        while True:
            try:
                await self.tell()
            except (*AWAY, BusError, asyncpg.PostgresError) as error:
                log.warning("warnings of connections are not told now", error=type(error).__name__)
            await asyncio.sleep(PAUSE_SECONDS)

    async def tell(self) -> int:
        """Tell what was not told yet; how many warnings that were."""
        nearest = await self._database.fetchval(SQL["find_nearest_end"])
        if nearest is not None:
            CERTIFICATE_DAYS.set((nearest - self._clock.now()).total_seconds() / _DAY_SECONDS)
        told, after = 0, FIRST
        while rows := await self._database.fetch(SQL["list_warned"], after, PAGE):
            for row in rows:
                told += sum([await self._tell(row, code, about) for code, about in self._list_due(row)])
            after = rows[-1]["upstream_id"]
        return told

    def _list_due(self, row: asyncpg.Record) -> Iterator[tuple[Code, str]]:
        yield from list_told(row["certificate_ends"], self._clock.now())
        if row["change_hash"] is not None:
            yield Code.METADATA_CHANGED, f"change:{row['change_hash']}"
        if row["failing_since"] is not None:
            yield Code.METADATA_UNREAD, f"unread:{row['failing_since'].isoformat()}"

    async def _tell(self, row: asyncpg.Record, code: Code, about: str) -> bool:
        return await self._database.transact(partial(self._publish, row=row, code=code, about=about))

    async def _publish(self, connection: Connection, row: asyncpg.Record, code: Code, about: str) -> bool:
        """Noted and published together: said twice at worst, which the alert's id makes one."""
        if await connection.fetchval(SQL["tell_warning"], row["upstream_id"], about) is None:
            return False
        alert_id = uuid5(UUID(str(row["id"])), f"{code}:{about}")
        warning = ConnectionWarning(
            alert_id=str(alert_id),
            connection_id=str(row["id"]),
            organization_id=str(row["organization_id"]),
            code=code,
            at=self._clock.now(),
        )
        await self._bus.publish(to_facts(warning))
        log.warning("a connection must be looked after", connection_id=str(row["id"]), code=code)
        return True
