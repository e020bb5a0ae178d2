"""A store of its own for every test, fed the way the gateway feeds it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from played_gateway import Gateway, RecordingBus

from homeroom.db import Database
from homeroom.migrate import migrate
from roster_store.changes import ChangeConsumer


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An empty store."""
    await migrate(database_url, schema="roster", package="roster_store")
    async with Database.open(database_url, schema="roster", size=6) as database:
        yield database


@pytest.fixture
def gateway(database: Database) -> Gateway:
    """A gateway of one integration."""
    bus = RecordingBus()
    return Gateway(ChangeConsumer(database, bus), bus)  # type: ignore[arg-type]  # publish is all the consumer uses


@pytest.fixture
def neighbour(gateway: Gateway) -> Gateway:
    """A second integration of the same store."""
    return Gateway(gateway.consumer, gateway.bus)
