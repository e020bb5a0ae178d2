"""The audit log of sso is kept for a time, as those of the other services; see `homeroom.audit`."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import asyncpg

from homeroom import audit
from homeroom.db import Database
from homeroom.problems import AWAY
from homeroom.telemetry import get_logger

PAUSE_SECONDS: Final = 3600.0

log = get_logger(__name__)


async def forget_old(database: Database, days: float) -> int:
    """Forget entries older than so many days, a batch at a time; how many went."""
    gone = 0
    while batch := await database.transact(partial(audit.forget, days=days)):
        gone += batch
    return gone


async def keep_forgetting(database: Database, days: float) -> None:
    """Forget what is too old, every hour."""
    while True:
        try:
            await forget_old(database, days)
        except (*AWAY, asyncpg.PostgresError) as error:
            log.warning("the audit log is not shortened now", error=type(error).__name__)
        await asyncio.sleep(PAUSE_SECONDS)
