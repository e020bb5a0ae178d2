"""The bus a service was configured with: Kafka where its servers are named, Postgres everywhere else."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from homeroom.bus import Bus
from homeroom.settings import Settings


@asynccontextmanager
async def open_bus(settings: Settings) -> AsyncIterator[Bus]:
    """Open the configured bus and close it at the end. Only what is used is imported, for a quicker start."""
    session = settings.bus_session_seconds
    if settings.kafka:
        from homeroom.bus.kafka import KafkaBus
        from homeroom.bus.kafka import Settings as KafkaSettings

        chosen = KafkaSettings(
            session=session,
            heartbeat=min(3.0, session / 6),
            replication_factor=settings.kafka_replication,
            security=_secure(settings),
        )
        async with KafkaBus.open(settings.kafka, chosen) as bus:
            yield bus
    else:
        from homeroom.bus.postgres import PostgresBus
        from homeroom.bus.postgres import Settings as PostgresSettings

        patient = PostgresSettings(session=session, beat=min(1.0, session / 6))
        async with PostgresBus.open(settings.database_url.get_secret_value(), patient) as bus:
            yield bus


def _secure(settings: Settings) -> dict[str, Any]:
    """How to connect to Kafka's brokers, in aiokafka's words."""
    security: dict[str, Any] = {}
    if settings.kafka_tls:
        security["ssl_context"] = ssl.create_default_context(cafile=settings.kafka_ca)
    if settings.kafka_username:
        security |= {
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": settings.kafka_password.get_secret_value(),
        }
    protocol = ("SASL_" if settings.kafka_username else "") + ("SSL" if settings.kafka_tls else "PLAINTEXT")
    return security | ({"security_protocol": protocol} if security else {})
