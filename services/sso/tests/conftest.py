"""What the tests of sso share: a migrated database, settings, and the service over HTTP."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote_plus

import httpx2
import msgspec
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from roster_stand_in import District, PlayedRoster, make_district, playing_roster

from homeroom.clock import MovingClock
from homeroom.db import Database
from homeroom.migrate import migrate
from homeroom.secrets import generate_key
from homeroom.testing.tokens import calling
from sso.app import create
from sso.launch.launching import Launching
from sso.settings import Settings

BOSS = {"id": "boss", "secret": "boss-secret-with-öäü:and-more", "scopes": ["admin"]}
GATEWAY = {"id": "gateway", "secret": "gateway-secret-0123456789", "scopes": ["fingerprints.read", "roster.read"]}


@pytest.fixture
async def roster() -> AsyncIterator[PlayedRoster]:
    """A played roster-store, which every sso of these tests asks."""
    async with playing_roster() as played:
        yield played


@pytest.fixture
async def settings(database_url: str, roster: PlayedRoster) -> Settings:
    """Settings of an sso whose schema is up to date, with two clients declared and a played roster-store."""
    await migrate(database_url, schema="sso", package="sso")
    return Settings(
        database_url=SecretStr(database_url),
        issuer="http://homeroom.test",
        sso_key=SecretStr(generate_key()[0]),
        bootstrap_clients=SecretStr(msgspec.json.encode([BOSS, GATEWAY]).decode()),
        database_pool_size=2,
        store_url=roster.url,
        token_url=f"{roster.url}/oauth2/token",
        client_id="sso",
        client_secret=SecretStr("played"),
    )


@pytest.fixture
def clock() -> MovingClock:
    """A clock that stands still until it is moved."""
    return MovingClock(datetime(2026, 9, 1, 6, tzinfo=UTC))


@dataclass
class Service:
    """sso over HTTP, and what is inside."""

    client: httpx2.AsyncClient
    app: FastAPI

    @property
    def database(self) -> Database:
        """Its database."""
        found: Database = self.app.state.database
        return found

    @property
    def launching(self) -> Launching:
        """What launches pass through."""
        found: Launching = self.app.state.launching
        return found

    async def ask(self, client_id: str, secret: str, scope: str | None = None) -> httpx2.Response:
        """Ask for a token with HTTP Basic."""
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
        form = {"grant_type": "client_credentials"} | ({} if scope is None else {"scope": scope})
        headers = {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        return await self.client.post("/oauth2/token", data=form, headers=headers)

    async def token(self, client_id: str, secret: str, scope: str | None = None) -> str:
        """A token that must be given."""
        answer = await self.ask(client_id, secret, scope)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    async def boss(self) -> dict[str, str]:
        """Headers of an admin."""
        return {"Authorization": f"Bearer {await self.token('boss', str(BOSS['secret']))}"}


@pytest.fixture
async def service(settings: Settings, clock: MovingClock) -> AsyncIterator[Service]:
    """A running sso."""
    app = create(settings, clock)
    async with calling(app) as client:
        yield Service(client, app)


@pytest.fixture
async def district(service: Service) -> District:
    """A district with an integration, and a product licensed for it, in sso's tables."""
    return await make_district(service.database)
