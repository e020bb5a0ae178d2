"""A store of its own for every test, fed the way the gateway feeds it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from played_gateway import Gateway, RecordingBus
from pydantic import SecretStr

from homeroom.db import Database
from homeroom.migrate import migrate
from homeroom.secrets import generate_key
from homeroom.testing.tokens import TestIssuer
from roster_store.changes import ChangeConsumer
from roster_store.settings import StoreSettings
from roster_store.sights import READER, WORK, Rosters


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An empty store."""
    await migrate(database_url, schema="roster", package="roster_store")
    async with Database.open(database_url, schema="roster", size=6, session=WORK) as database:
        yield database


@pytest.fixture
def settings(database_url: str) -> StoreSettings:
    """What a store on this machine is configured with; it may post to private addresses."""
    return StoreSettings(
        database_url=SecretStr(database_url),
        issuer=TestIssuer().issuer,
        store_key=SecretStr(generate_key()[0]),
        allow_private_endpoints=True,
    )


@pytest.fixture
def gateway(database: Database) -> Gateway:
    """A gateway of one integration."""
    bus = RecordingBus()
    return Gateway(ChangeConsumer(database, bus), bus)  # type: ignore[arg-type]  # publish is all the consumer uses


@pytest.fixture
def neighbour(gateway: Gateway) -> Gateway:
    """A second integration of the same store."""
    return Gateway(gateway.consumer, gateway.bus)


@pytest.fixture
async def rosters(database_url: str, database: Database) -> AsyncIterator[Rosters]:
    """What serves rosters of this store: it sees only what a sight shows."""
    del database  # which has brought the schema up to date
    async with Database.open(database_url, schema="roster", size=4, session=READER) as reading:
        yield Rosters(reading)
