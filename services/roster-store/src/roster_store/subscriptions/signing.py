"""What webhooks are signed with: kept sealed, two at a time while one takes the other's place."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from homeroom.db import Database
from homeroom.secrets import SealingKeys, SecretUnreadable, seal
from homeroom.telemetry import get_logger
from roster_store.tables import SQL

log = get_logger(__name__)

BOTH_VALID: Final = timedelta(hours=24)
"""So long after a rotation webhooks are signed with the earlier secret, too."""


def seal_secret(keys: SealingKeys, subscription: UUID, secret: str) -> str:
    """A signing secret as it is kept: only who holds the key opens it, and only for this subscription."""
    return seal(keys.public_key, _bind(subscription), secret)


def open_secrets(keys: SealingKeys, row: asyncpg.Record, now: datetime) -> list[str]:
    """What a webhook is signed with: its secret, and for a while the one before it. Raises SecretUnreadable."""
    sealed = [row["sealed_secret"]]
    if row["sealed_earlier"] is not None and now < row["rotated_at"] + BOTH_VALID:
        sealed.append(row["sealed_earlier"])
    return [keys.open(_bind(row["id"]), one) for one in sealed]


async def reseal_secrets(database: Database, keys: SealingKeys) -> int:
    """Seal to the current key what is sealed to an earlier one, so that it can be thrown away; how many that were."""
    current = seal(keys.public_key, "", "").partition(".")[0]
    rows = await database.fetch(SQL["list_sealed"], f"{current}.%")
    for row in rows:
        both = (row["sealed_secret"], row["sealed_earlier"])
        sealed = [None if one is None else _reseal(keys, row["id"], one) for one in both]
        # Somebody may have rotated it meanwhile: then what is there now is sealed to the current key already.
        await database.fetch(SQL["reseal_subscription"], row["id"], row["sealed_secret"], *sealed)
    return len(rows)


def _reseal(keys: SealingKeys, subscription: UUID, sealed: str) -> str:
    try:
        return seal_secret(keys, subscription, keys.open(_bind(subscription), sealed))
    except SecretUnreadable as error:
        log.warning("subscription.secret_unreadable", subscription_id=str(subscription), why=str(error))
        return sealed


def _bind(subscription: UUID) -> str:
    return f"subscription:{subscription}"
