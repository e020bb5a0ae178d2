"""Signing keys, and how one follows another without anybody noticing.

A new key is published before it signs, for longer than anybody keeps our keys without asking again, and an old one
stays published until the last token it signed has run out. All copies of sso share the keys in the database; at rest
a private key is sealed with HOMEROOM_SSO_KEY.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec
from joserfc.jwk import RSAKey

from homeroom.auth import FRESH_SECONDS, LEEWAY_SECONDS
from homeroom.clock import Clock
from homeroom.db import Connection, Database
from homeroom.secrets import SealingKeys, seal
from homeroom.telemetry import get_logger
from sso.statements import SQL

ALGORITHM: Final = "RS256"
"""What every OpenID client must understand; quicker to check than elliptic curves, which is what happens most."""
KEY_BITS: Final = 2048
RELOAD_SECONDS: Final = 30.0
LEAD: Final = timedelta(seconds=2 * (FRESH_SECONDS + RELOAD_SECONDS))
"""How long a key is published before it signs: twice what it takes until everybody has it."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key, and from when on it signs."""

    id: str
    signs_from: datetime
    public: Mapping[str, Any]
    private: RSAKey


@dataclass(frozen=True, slots=True)
class Rotation:
    """What is to be done about the keys now."""

    add_from: datetime | None
    """A new key is needed, which signs from then on."""
    drop: tuple[str, ...]
    """Keys that nobody needs any more."""


def find_signing(keys: Sequence[SigningKey], now: datetime) -> SigningKey:
    """The key to sign with: of those that may sign, the newest. Raises LookupError before the first one is made."""
    ready = [key for key in keys if key.signs_from <= now]
    if not ready:
        msg = "there is no key to sign with"
        raise LookupError(msg)
    return max(ready, key=lambda key: key.signs_from)


def decide_rotation(
    keys: Sequence[SigningKey], now: datetime, *, life: timedelta, token_life: timedelta, early: bool = False
) -> Rotation:
    """Which keys to add and to drop. `early` asks for a new key before the present one has lived its life."""
    if not keys:
        return Rotation(add_from=now, drop=())
    newest = max(key.signs_from for key in keys)
    due = newest + life - LEAD <= now or (early and newest <= now)
    retired = now - token_life - timedelta(seconds=2 * LEEWAY_SECONDS)
    starts = sorted(key.signs_from for key in keys)
    # A key signs until the next one starts; what it signed last runs out one token's life later.
    drop = tuple(key.id for key in keys if any(key.signs_from < start <= retired for start in starts))
    return Rotation(add_from=max(now + LEAD, newest) if due else None, drop=drop)


class Keys:
    """The keys of this installation, as one process holds them."""

    def __init__(
        self, database: Database, sealing: SealingKeys, clock: Clock, *, life: timedelta, token_life: timedelta
    ) -> None:
        self._database = database
        self._sealing = sealing
        self._clock = clock
        self._life = life
        self._token_life = token_life
        self._keys: Sequence[SigningKey] = ()

    @property
    def signing(self) -> SigningKey:
        """The key to sign with now."""
        return find_signing(self._keys, self._clock.now())

    async def jwks(self) -> Mapping[str, Any]:
        """The public keys, as RFC 7517 wants them."""
        return {"keys": [key.public for key in self._keys]}

    async def refresh(self, *, early: bool = False) -> None:
        """Read the keys, after adding and dropping what is due. Raises `SecretUnreadable` for a wrong HOMEROOM_SSO_KEY.

        Copies of sso take turns, so one of them makes the new key and the others find it.
        """

        async def work(connection: Connection) -> Sequence[SigningKey]:
            await connection.execute(SQL["lock_keys"])
            keys = await self._load(connection)
            rotation = decide_rotation(
                keys, self._clock.now(), life=self._life, token_life=self._token_life, early=early
            )
            if rotation == Rotation(None, ()):
                return keys
            await connection.execute(SQL["drop_keys"], list(rotation.drop))
            if rotation.add_from:
                await self._add(connection, rotation.add_from)
            log.info("signing keys rotated", dropped=list(rotation.drop), added=rotation.add_from is not None)
            return await self._load(connection)

        self._keys = await self._database.transact(work)

    async def keep_fresh(self) -> None:
        """Refresh for ever. A database that is away is no reason to end: the keys at hand still sign."""
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            try:
                await self.refresh()
            except Exception:
                log.exception("signing keys could not be read again, those at hand are used")

    async def _load(self, connection: Connection) -> list[SigningKey]:
        """All keys; those already at hand are not opened again, which takes longer than everything else."""
        held = {key.id: key for key in self._keys}
        return [held.get(row["id"]) or self._open(row) for row in await connection.fetch(SQL["list_keys"])]

    def _open(self, row: asyncpg.Record) -> SigningKey:
        private = msgspec.json.decode(self._sealing.open(row["id"], row["sealed_private"]))
        return SigningKey(row["id"], row["signs_from"], row["public_jwk"], RSAKey.import_key(private))

    async def _add(self, connection: Connection, signs_from: datetime) -> None:
        key = await asyncio.to_thread(RSAKey.generate_key, KEY_BITS, {"use": "sig", "alg": ALGORITHM}, auto_kid=True)
        kid = str(key.kid)
        private = msgspec.json.encode(key.as_dict(private=True))
        sealed = seal(self._sealing.public_key, kid, private)
        await connection.execute(SQL["add_key"], kid, key.as_dict(private=False), sealed, signs_from)
