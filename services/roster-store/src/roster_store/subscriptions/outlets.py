"""The two ways out: a webhook that is posted, and a topic of the product's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from homeroom.bus import Bus, Outgoing, Topic
from homeroom.events import to_message
from homeroom.secrets import SealingKeys, SecretUnreadable
from homeroom.telemetry import get_logger
from homeroom.webhooks import Answer, NotDelivered, Webhooks
from roster_store.subscriptions.batches import Batch, TestEvent, encode_test, name_batch, write_body, write_test
from roster_store.subscriptions.signing import open_secrets

log = get_logger(__name__)

_AT_ONCE: Final = Answer(0, 0.0)


def topic_of(product: UUID) -> Topic:
    """The topic that a product alone reads."""
    return Topic(f"product-events.{product}", partitions=6)


@dataclass(frozen=True, slots=True)
class Outlets:
    """Sends what a subscription is told. Every method raises `NotDelivered`, or `BusError` where the bus is away."""

    webhooks: Webhooks
    bus: Bus
    keys: SealingKeys
    _made: set[UUID] = field(default_factory=set)
    """Products whose topics are there."""

    async def send(self, row: asyncpg.Record, batch: Batch, now: datetime) -> Answer:
        """Send events, in order."""
        if row["kind"] == "kafka":
            topic = topic_of(row["product_id"]).name
            messages = [to_message(one.event, str(one.integration_id)) for one in batch.events]
            await self._publish(row, [replace(message, topic=topic) for message in messages])
            return _AT_ONCE
        message_id = name_batch(row["id"], row["round"], row["cursor"], batch.end)
        return await self._post(row, message_id, write_body(row["id"], batch), now)

    async def send_test(self, row: asyncpg.Record, event: TestEvent, now: datetime) -> Answer:
        """Send a test."""
        if row["kind"] == "kafka":
            headers = {
                "ce_specversion": event.specversion,
                "ce_id": event.id,
                "ce_source": event.source,
                "ce_type": event.type,
                "ce_subject": event.subject,
                "ce_time": event.time.isoformat().replace("+00:00", "Z"),
                "content-type": event.datacontenttype,
            }
            message: dict[str, Any] = {"topic": topic_of(row["product_id"]).name, "key": "test", "headers": headers}
            await self._publish(row, [Outgoing(**message, value=encode_test(event))])
            return _AT_ONCE
        return await self._post(row, f"msg_{event.id}", write_test(row["id"], event), now)

    async def _publish(self, row: asyncpg.Record, messages: Sequence[Outgoing]) -> None:
        product = row["product_id"]
        if product not in self._made:
            await self.bus.ensure_topics([topic_of(product)])
            self._made.add(product)
        await self.bus.publish(*messages)

    async def _post(self, row: asyncpg.Record, message_id: str, body: bytes, now: datetime) -> Answer:
        try:
            secrets = open_secrets(self.keys, row, now)
        except SecretUnreadable as error:
            log.error("subscription.secret_unreadable", subscription_id=str(row["id"]), why=str(error))  # noqa: TRY400 - the text says it all
            raise NotDelivered("Its signing secret can't be read here; give it a new one.") from None
        return await self.webhooks.send(row["url"], message_id, body, secrets, now)
