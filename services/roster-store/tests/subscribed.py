"""Subscriptions for tests: made as an API would make them, delivered as a worker would deliver them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg

from homeroom.auth import Caller, include
from homeroom.bus import Outgoing, Topic
from homeroom.db import Database
from homeroom.testing.receivers import Receiver
from roster_store.subscriptions.bodies import SubscriptionBody
from roster_store.subscriptions.deliveries import Deliveries
from roster_store.subscriptions.registry import Owner, Registry

EVERYBODY = Owner(None, None)


@dataclass
class Topics:
    """A bus that keeps what is put on it; real ones are tested elsewhere."""

    published: list[Outgoing] = field(default_factory=list)
    made: list[Topic] = field(default_factory=list)

    async def ensure_topics(self, topics: Sequence[Topic]) -> None:
        """Keep the topics."""
        self.made.extend(topics)

    async def publish(self, *messages: Outgoing) -> None:
        """Keep the messages."""
        self.published.extend(messages)


@dataclass
class Post:
    """Makes subscriptions and delivers what is due."""

    database: Database
    registry: Registry
    deliveries: Deliveries
    topics: Topics

    async def subscribe(self, **fields: Any) -> tuple[UUID, str]:
        """A subscription made by the platform; its id and secret."""
        body = SubscriptionBody.model_validate({"kind": "webhook"} | fields)
        row, secret = await self.registry.create(body, self.platform)
        return row["id"], secret or ""

    @property
    def platform(self) -> Caller:
        """Who made it."""
        return Caller("admin", include({"admin"}))

    async def deliver(self) -> None:
        """Deliver all that is due now."""
        while await self.deliveries.begin_due():
            await self.deliveries.finish()

    async def look(self, subscription: UUID) -> asyncpg.Record:
        """How a subscription fares."""
        return await self.registry.read(subscription, EVERYBODY)

    async def hurry(self) -> None:
        """Let everything that waits be due."""
        await self.database.fetch("UPDATE subscription SET due_at = '-infinity', leased_until = '-infinity'")


def events_of(receiver: Receiver) -> list[dict[str, Any]]:
    """All events a receiver was posted, in order."""
    bodies = [json.loads(body) for _, body in receiver.requests]
    return [event for body in bodies for event in body["data"]["events"]]


def ids_of(receiver: Receiver) -> list[str]:
    """The ids of the webhooks a receiver was posted, in order."""
    return [headers["webhook-id"] for headers, _ in receiver.requests]
