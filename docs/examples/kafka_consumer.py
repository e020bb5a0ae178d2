"""Follows a product's topic and holds what it says; prints how much that is whenever it has caught up.

    HOMEROOM_KAFKA=kafka:9092 HOMEROOM_PRODUCT=<product id> python kafka_consumer.py

Needs aiokafka. This one holds everything in memory, so it reads its topic from the start each time, and asks for a
redelivery first if the topic has forgotten it. A real one writes records and offsets into its database in one
transaction, and goes on from the offsets it finds there: then nothing is lost, and nothing counts twice.
"""

# ruff: noqa: INP001 - a script that is run, not part of a package
from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from typing import Any

from aiokafka import AIOKafkaConsumer
from folding import Roster


def make_consumer(topic: str) -> AIOKafkaConsumer:
    """A consumer of all partitions of a topic, with TLS and SCRAM where a user name is given."""
    options: dict[str, Any] = {"bootstrap_servers": os.environ["HOMEROOM_KAFKA"], "auto_offset_reset": "earliest"}
    if user := os.environ.get("HOMEROOM_KAFKA_USERNAME"):
        options |= {
            "security_protocol": "SASL_SSL",
            "ssl_context": ssl.create_default_context(cafile=os.environ.get("HOMEROOM_KAFKA_CA")),
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": user,
            "sasl_plain_password": os.environ["HOMEROOM_KAFKA_PASSWORD"],
        }
    return AIOKafkaConsumer(topic, enable_auto_commit=False, **options)


async def follow(consumer: AIOKafkaConsumer, roster: Roster) -> None:
    """Fold every event, for as long as it runs. Order holds per integration, which is the key."""
    news = True
    while True:
        batches = await consumer.getmany(timeout_ms=500)
        for messages in batches.values():
            for message in messages:
                headers = {name: value.decode() for name, value in message.headers}
                kind, source, subject = (headers[f"ce_{name}"] for name in ("type", "source", "subject"))
                roster.fold(kind, source, subject, json.loads(message.value))
        news = news or bool(batches)
        if not batches and news:
            held = roster.list_present()
            sys.stdout.write(f"{json.dumps({source: len(records) for source, records in held.items()})}\n")
            sys.stdout.flush()
            news = False


async def main() -> None:
    """Follow the topic of the product that is named."""
    async with make_consumer(f"product-events.{os.environ['HOMEROOM_PRODUCT']}") as consumer:
        await follow(consumer, Roster())


if __name__ == "__main__":
    asyncio.run(main())
