"""Seals to the current key what is sealed to an earlier one, so that the earlier one can be thrown away."""

from __future__ import annotations

from uuid import UUID

from homeroom.db import Database
from homeroom.secrets import SealingKeys, SecretUnreadable, seal
from homeroom.telemetry import get_logger
from sso.connections.upstreams import key_context, secret_context
from sso.statements import SQL

log = get_logger(__name__)


def name_key(keys: SealingKeys) -> str:
    """The name of the key that secrets are sealed to now, as every sealed text begins with it."""
    return seal(keys.public_key, "", "").partition(".")[0]


async def reseal(database: Database, keys: SealingKeys) -> int:
    """Seal anew what is sealed to an earlier key; how many upstreams that were."""
    rows = await database.fetch(SQL["list_sealed_upstreams"], f"{name_key(keys)}.%")
    for row in rows:
        before = (row["sealed_secret"], row["sealed_key"])
        contexts = (secret_context(row["id"]), key_context(row["id"]))
        after = [_reseal(keys, row["id"], context, one) for context, one in zip(contexts, before, strict=True)]
        await database.fetch(SQL["reseal_upstream"], row["id"], *before, *after)
    return len(rows)


def _reseal(keys: SealingKeys, upstream_id: UUID, context: str, sealed: str | None) -> str | None:
    if sealed is None:
        return None
    try:
        return seal(keys.public_key, context, keys.open(context, sealed))
    except SecretUnreadable as error:
        log.warning("the secret of an upstream can't be read", upstream_id=str(upstream_id), why=str(error))
        return sealed
