"""A product as one would be written: it folds events into a roster of its own, and reads it back to compare."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from installation import COLLECTIONS, Installation, SyncedDistrict
from pydantic import SecretStr

from homeroom.bus import Message
from homeroom.bus.opening import open_bus
from homeroom.settings import Settings
from homeroom_local.client import HomeroomClient

ALL_SCOPES = ("roster.read", "demographics.read", "accounts.write", "classes.start", "subscriptions.write")


@dataclass
class Copy:
    """The roster as a product holds it, folded from events as docs/events.md says."""

    records: dict[tuple[str, str], tuple[int, dict[str, Any]]] = field(default_factory=dict)
    """(source, subject) → (version, record)."""

    def take(self, event: dict[str, Any]) -> None:
        """Fold one CloudEvent in."""
        source, kind = event["source"], event["type"]
        if kind.startswith("homeroom.license."):
            self.records = {key: held for key, held in self.records.items() if key[0] != source}
        elif not kind.startswith("homeroom.sync."):
            key, version = (source, event["subject"]), event["data"]["version"]
            if version < self.records.get(key, (0, {}))[0]:
                return
            if kind.endswith(".removed.v1"):
                self.records.pop(key, None)
            else:
                self.records[key] = (version, event["data"]["record"])

    def subjects(self) -> set[str]:
        """Every record's collection and sourcedId."""
        return {subject for _, subject in self.records}

    def of(self, collection: str) -> list[dict[str, Any]]:
        """The records of a collection."""
        return [record for (_, subject), (_, record) in self.records.items() if subject.startswith(f"{collection}/")]


@dataclass
class Product:
    """A product of the installation, with a client and a token of its own."""

    id: str
    client: HomeroomClient
    token: str
    copy: Copy = field(default_factory=Copy)
    cursor: str | None = None
    client_id: str = ""
    client_secret: str = field(default="", repr=False)

    async def follow(self) -> list[dict[str, Any]]:
        """Read on in the feed, and fold what came."""
        events, self.cursor = await self.client.read_feed(self.cursor)
        for event in events:
            self.copy.take(event)
        return events

    async def read(self, integration_id: str, *collections: str) -> set[str]:
        """The subjects the OneRoster face shows."""
        return {
            f"{collection}/{record['sourcedId']}"
            for collection in collections or COLLECTIONS
            for record in await self.client.list_records(collection, integration_id, 5_000)
        }

    async def follow_until(self, kind: str, seconds: float = 20) -> list[dict[str, Any]]:
        """Follow the feed until an event of a type has come; all that came."""
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(seconds):
            while not any(event["type"] == kind for event in found):
                found += await self.follow()
                await asyncio.sleep(0.1)
        return found


@asynccontextmanager
async def registered_product(
    installation: Installation, district: SyncedDistrict, name: str, **body: Any
) -> AsyncIterator[Product]:
    """A product with a client that asked for a token as any OAuth 2 client does."""
    product = await district.client.call("POST", "/v1/products", json={"name": name, **body})
    client = await district.client.call(
        "POST", "/v1/clients", json={"product_id": product["id"], "scopes": list(ALL_SCOPES)}
    )
    async with httpx2.AsyncClient(base_url=installation.origin, trust_env=False) as http:
        form = {"grant_type": "client_credentials"}
        answer = await http.post("/oauth2/token", data=form, auth=(client["id"], client["secret"]))
    token = answer.raise_for_status().json()["access_token"]
    async with HomeroomClient.open(installation.origin, token) as calling:
        yield Product(product["id"], calling, token, client_id=client["id"], client_secret=client["secret"])


async def license_to(district: SyncedDistrict, product: Product, **terms: Any) -> str:
    """License a product to the district, and return the license's id."""
    integration = await district.client.call("GET", f"/v1/integrations/{district.integration_id}")
    body = {"product_id": product.id, "organization_id": integration["organization_id"], **terms}
    return str((await district.client.call("POST", "/v1/licenses", json=body))["id"])


async def read_topic(installation: Installation, topic: str) -> AsyncIterator[dict[str, Any]]:
    """The events of a topic from its beginning, in structured form; never ends by itself but for lack of patience."""
    settings = Settings(
        database_url=SecretStr(installation.database_url), kafka=installation.kafka, issuer=installation.origin
    )
    found: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def take(messages: Sequence[Message]) -> None:
        for message in messages:
            names = {name.removeprefix("ce_"): value for name, value in message.headers.items()}
            found.put_nowait(names | {"data": json.loads(message.value)})

    async with open_bus(settings) as bus:
        consumer = bus.consumer([topic], take, group=None, start="earliest")
        consuming = asyncio.create_task(consumer.run())
        try:
            async with asyncio.timeout(60):
                while True:
                    yield await found.get()
        finally:
            await consumer.stop()
            await asyncio.wait_for(consuming, 30)
