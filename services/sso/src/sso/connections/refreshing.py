"""Reads metadata that has an address again every day, and holds what has changed; the worker's part of `connections`.

Whatever goes wrong is noted at the connection and changes nothing: sign-in goes on with what was accepted.
"""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg

from homeroom.db import Connection, Database
from homeroom.problems import AWAY
from homeroom.telemetry import get_logger
from sso.connections.metadata_changes import hold
from sso.connections.saml_configs import SamlConfigs
from sso.connections.trust import Trust, TrustError
from sso.connections.upstreams import SamlConfig, decode_config
from sso.statements import SQL

BATCH: Final = 40
AT_ONCE: Final = 8
PAUSE_SECONDS: Final = 60.0

log = get_logger(__name__)


class MetadataRefresh:
    """Reads what is due; any number of workers share the work."""

    def __init__(self, database: Database, configs: SamlConfigs) -> None:
        self._database = database
        self._configs = configs
        self._room = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Read what is due, and forget test sign-ins that are a week old, for ever."""
        while True:
            try:
                while await self.read_due():
                    pass
                await self._database.fetch(SQL["sweep_test_sign_ins"])
            except (*AWAY, asyncpg.PostgresError) as error:
                log.warning("metadata is not read again now", error=type(error).__name__)
            await asyncio.sleep(PAUSE_SECONDS)

    async def read_due(self) -> int:
        """Read a batch of what is due; how many that were."""
        rows = await self._database.fetch(SQL["claim_metadata"], BATCH)
        async with asyncio.TaskGroup() as group:
            for row in rows:
                group.create_task(self._read(row))
        return len(rows)

    async def _read(self, row: asyncpg.Record) -> None:
        config = decode_config(row["kind"], row["config"])
        if not isinstance(config, SamlConfig) or config.metadata_url is None:
            return
        async with self._room:
            try:
                found = await self._configs.read_again(config.metadata_url, config.entity_id)
            except TrustError as error:
                await self._database.fetch(SQL["note_metadata_unread"], row["id"], str(error))
                log.warning("metadata can't be read", upstream_id=str(row["id"]), why=str(error))
                return
            if await self._database.transact(lambda connection: self._take(connection, row, found)):
                log.warning("metadata has changed and waits for approval", upstream_id=str(row["id"]))

    async def _take(self, connection: Connection, row: asyncpg.Record, found: Trust) -> bool:
        held = await hold(connection, row["id"], row["kind"], found)
        await connection.execute(SQL["note_metadata_read"], row["id"])
        return held
