"""What the scheduler's tests ask for: a migrated database, a bus, a client of the API, the worker's parts."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from homeroom.bus import Message
from homeroom.bus.postgres import PostgresBus
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import TOPICS, Applied, Claimed, Failed, SyncFact, to_facts
from homeroom.migrate import migrate
from homeroom.secrets import SealingKeys, generate_key
from homeroom.testing.tokens import TestIssuer, calling
from sync_scheduler.app import PACKAGE, SCHEMA, make_app
from sync_scheduler.facts import Facts
from sync_scheduler.settings import ApiSettings
from sync_scheduler.ticking import Ticking

CANARY = "canary-9f2c-client-secret"
"""A secret that must not be seen anywhere."""


@pytest.fixture
def canary() -> str:
    """The secret every integration of these tests is created with."""
    return CANARY


@pytest.fixture(scope="session")
def key_pair() -> tuple[str, str]:
    """The gateway's private and public key."""
    return generate_key()


@pytest.fixture
def sealing_keys(key_pair: tuple[str, str]) -> SealingKeys:
    """What only the gateway holds."""
    return SealingKeys([key_pair[0]])


@pytest.fixture
def inquiry_wait_seconds() -> float:
    """How long requests wait for a worker's answer."""
    return 20.0


@pytest.fixture
async def settings(
    database_url: str, key_pair: tuple[str, str], inquiry_wait_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> ApiSettings:
    """Settings of an installation with a migrated database."""
    await migrate(database_url, schema=SCHEMA, package=PACKAGE)
    monkeypatch.setenv("HOMEROOM_DATABASE_URL", database_url)
    monkeypatch.setenv("HOMEROOM_ISSUER", "http://issuer.test")
    monkeypatch.setenv("HOMEROOM_GATEWAY_PUBLIC_KEY", key_pair[1])
    monkeypatch.setenv("HOMEROOM_INQUIRY_WAIT_SECONDS", str(inquiry_wait_seconds))
    return ApiSettings.load()


@pytest.fixture
async def database(settings: ApiSettings) -> AsyncIterator[Database]:
    """The scheduler's database."""
    async with Database.open(settings.database_url.get_secret_value(), schema=SCHEMA, size=8) as database:
        yield database


@pytest.fixture
async def bus(settings: ApiSettings) -> AsyncIterator[PostgresBus]:
    """The bus with all topics."""
    async with PostgresBus.open(settings.database_url.get_secret_value()) as bus:
        await bus.ensure_topics(TOPICS)
        yield bus


@pytest.fixture
def read(bus: PostgresBus) -> Callable[[str], Awaitable[list[Message]]]:
    """Reads a topic from its first message to its last."""

    async def read(topic: str) -> list[Message]:
        found: list[Message] = []

        async def keep(messages: Sequence[Message]) -> None:
            found.extend(messages)

        group = f"test-{uuid.uuid4()}"
        consumer = bus.consumer([topic], keep, group=group)
        reading = asyncio.create_task(consumer.run())
        async with asyncio.timeout(20):
            while await bus.lag(group, [topic]):
                await asyncio.sleep(0.02)
            await consumer.stop()
            await reading
        return found

    return read


@pytest.fixture
def issuer() -> TestIssuer:
    """Whose tokens the API takes."""
    return TestIssuer()


@pytest.fixture
async def client(settings: ApiSettings, issuer: TestIssuer) -> AsyncIterator[httpx2.AsyncClient]:
    """The API, called by an admin."""
    app = make_app(settings, verifier=issuer.verifier)
    async with calling(app, issuer.token(["admin"])) as client:
        yield client


@pytest.fixture
def ticking(database: Database, bus: PostgresBus, settings: ApiSettings) -> Ticking:
    """The rounds of a worker, made when told."""
    return Ticking(database, bus, settings.limits, tick_seconds=settings.tick_seconds)


@pytest.fixture
def facts(database: Database, settings: ApiSettings) -> Facts:
    """The handler of facts."""
    return Facts(database, settings.limits)


@pytest.fixture
def hear(facts: Facts) -> Callable[..., Awaitable[None]]:
    """Lets the scheduler hear facts, in one batch."""

    async def hear(*heard: SyncFact) -> None:
        out = [to_facts(fact) for fact in heard]
        now = datetime.now(UTC)
        await facts.handle([Message(one.topic, 0, place, one.key, one.value, {}, now) for place, one in enumerate(out)])

    return hear


@pytest.fixture
def wanted() -> Callable[..., dict[str, Any]]:
    """Makes the body of an integration."""

    def make(organization_id: str, **fields: Any) -> dict[str, Any]:
        return {
            "organization_id": organization_id,
            "name": "Springfield",
            "provider": "oneroster",
            "sis": "PowerSchool",
            "connection": {
                "endpoint_url": "https://sis.example.org/ims/oneroster/v1p1",
                "auth": "oauth1",
                "client_id": "homeroom",
                "client_secret": CANARY,
            },
            **fields,
        }

    return make


@pytest.fixture
async def organization_id(client: httpx2.AsyncClient) -> str:
    """A district."""
    answer = await client.post("/v1/organizations", json={"name": "Springfield Unified"})
    return str(answer.raise_for_status().json()["id"])


@pytest.fixture
async def integration(
    client: httpx2.AsyncClient, organization_id: str, wanted: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    """An integration, as it was answered."""
    answer = await client.post("/v1/integrations", json=wanted(organization_id))
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


@pytest.fixture
async def fed(
    client: httpx2.AsyncClient, organization_id: str, wanted: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    """An integration that is fed by files, as it was answered."""
    body = wanted(organization_id, provider="oneroster-csv", connection={})
    found: dict[str, Any] = (await client.post("/v1/integrations", json=body)).raise_for_status().json()
    return found


@pytest.fixture
async def run_id(client: httpx2.AsyncClient, integration: dict[str, Any]) -> str:
    """A queued run."""
    answer = await client.post(f"/v1/integrations/{integration['id']}/runs", json={})
    return str(answer.raise_for_status().json()["run_id"])


@pytest.fixture
def unknown_id() -> str:
    """An id nobody has."""
    return str(uuid.uuid4())


@pytest.fixture
def end_run(
    client: httpx2.AsyncClient, integration: dict[str, Any], hear: Callable[..., Awaitable[None]]
) -> Callable[..., Awaitable[str]]:
    """Begins a run of the integration and ends it, well or with a code."""

    async def end(code: Code | None = None, *, again: bool = False) -> str:
        answer = await client.post(f"/v1/integrations/{integration['id']}/runs", json={})
        run_id = str(answer.raise_for_status().json()["run_id"])
        about: dict[str, Any] = {"run_id": run_id, "integration_id": integration["id"], "at": datetime.now(UTC)}
        await hear(Claimed(attempt=1, worker="w", fetch_id="a", **about))
        if code:
            await hear(Failed(attempt=1, code=code, detail="The provider said no.", again=again, **about))
        else:
            counts: dict[str, Any] = {"students": 0, "teachers": 0, "classes": 0}
            await hear(Applied(attempt=1, fetch_id="a", apply=1, collections={}, **counts, **about))
        return run_id

    return end
