"""Clients: the programs that may ask for tokens, each with a secret and the scopes it was given."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
import msgspec

from homeroom import audit
from homeroom.auth import ADMIN, ONEROSTER_SCOPES, PRODUCT_SCOPES, SCOPES, Caller, include
from homeroom.db import Connection, Database
from sso.statements import SQL

CLIENT_ID: Final = r"^[a-z0-9][a-z0-9._-]{0,62}$"
SHORTEST_SECRET: Final = 24
LONGEST_SECRET: Final = 256
KNOWN_SCOPES: Final = SCOPES | ONEROSTER_SCOPES
PRODUCTS_MAY: Final = PRODUCT_SCOPES | ONEROSTER_SCOPES
"""What a client that belongs to a product may be given."""


class Declaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A client as an operator declares it, with a secret of their own."""

    id: str
    secret: str
    scopes: list[str]
    organization_id: UUID | None = None
    product_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """A client as it is stored, without its secrets."""

    id: str
    scopes: frozenset[str]
    organization_id: UUID | None
    created_at: datetime
    last_used_at: datetime | None
    disabled_at: datetime | None
    product_id: UUID | None = None
    """The product it belongs to; with an organization besides, it reads of the product's licenses that one only."""
    overlap_until: datetime | None = None
    """Until when what it signed in with before its newest exchange is good as well."""


def check(declaration: Declaration) -> None:
    """Raise ValueError with what is wrong with a declared client, if anything is; its secret is not named."""
    if not re.fullmatch(CLIENT_ID, declaration.id):
        msg = f"a client id is made of a-z, 0-9, dot, dash and underscore, up to 63 of them, not {declaration.id!r}"
        raise ValueError(msg)
    if not SHORTEST_SECRET <= len(declaration.secret) <= LONGEST_SECRET:
        msg = f"the secret of {declaration.id} must be random and have {SHORTEST_SECRET} to {LONGEST_SECRET} characters"
        raise ValueError(msg)
    if not declaration.scopes or not set(declaration.scopes) <= KNOWN_SCOPES:
        msg = f"the client {declaration.id} needs scopes, of these: {' '.join(sorted(KNOWN_SCOPES))}"
        raise ValueError(msg)
    if declaration.product_id is not None and not set(declaration.scopes) <= PRODUCTS_MAY:
        msg = f"the client {declaration.id} is a product's, which may have: {' '.join(sorted(PRODUCTS_MAY))}"
        raise ValueError(msg)


def hash_secret(secret: str) -> bytes:
    """What is stored of a secret.

    A plain SHA-256 is right here, and a slow password hash would be wrong: our secrets have 256 random bits (declared
    ones at least 24 characters), so nobody can guess them at any speed, and a slow hash would let anybody who asks
    for tokens with nonsense keep our processors busy.
    """
    return hashlib.sha256(secret.encode()).digest()


def may_create(caller: Caller, scopes: Collection[str], organization_id: UUID | None, product_id: UUID | None) -> bool:
    """Whether a caller may have the secret of a client with these scopes: nobody gives away more than they have.

    Admins of the whole platform may give any scope, for somebody has to register the gateway, and only they speak for
    products. Who may see one organization only creates clients for that one. Products create none.
    """
    if caller.product_id is not None or ADMIN not in caller.scopes:
        return False
    if caller.organization_id is None:
        return True
    return product_id is None and caller.may_see(organization_id) and set(scopes) <= include(caller.scopes)


class Clients:
    """The clients of this installation, in its database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def authenticate(self, client_id: str, secret: str) -> Client | None:
        """The client whose secret this is, or None, whether it is unknown, disabled or the secret is wrong."""
        known = client_id if re.fullmatch(CLIENT_ID, client_id) else ""  # nobody's, and not always storable
        row = await self._database.fetchrow(SQL["find_client"], known)
        shown = hash_secret(secret)
        # Both compared in constant time and in any case, so that the time taken does not tell which ids exist.
        newest = hmac.compare_digest(row["secret_hash"] if row else bytes(32), shown)
        other = hmac.compare_digest((row["other_hash"] if row else None) or bytes(32), shown)
        if row is None or not (newest or other) or row["disabled_at"]:
            return None
        if row["unnoted"] or (newest and not row["secret_used"]):
            await self._database.fetch(SQL["note_use"], client_id, newest)
        return _read(row)

    async def create(
        self,
        client_id: str | None,
        scopes: Collection[str],
        organization_id: UUID | None,
        product_id: UUID | None = None,
        *,
        by: str,
    ) -> tuple[Client, str] | None:
        """A new client and its secret, which is shown this once; None if the id is taken."""
        secret = _make_secret()
        name = client_id or f"client-{secrets.token_hex(6)}"
        asked = sorted(set(scopes))

        async def add(connection: Connection) -> tuple[Client, str] | None:
            row = await connection.fetchrow(
                SQL["create_client"], name, hash_secret(secret), asked, organization_id, product_id
            )
            if row is None:
                return None
            client = _read(row)
            await _note(connection, by, "client.create", client, {"scopes": asked})
            return client, secret

        return await self._database.transact(add, tries=1)  # whoever asks twice has lost the first answer

    async def exchange_secret(
        self, caller: Caller, client_id: str, overlap: timedelta
    ) -> tuple[Client, str] | Literal["unknown", "declared", "refused"]:
        """Give a client a new secret, which is shown this once; the one in use holds for `overlap` from now on.

        Of more than two secrets, the newest and the last one that was used hold. Otherwise says why there is none:
        no such client that may have tokens, it is the operator's to change, or it is above the caller.
        """
        secret = _make_secret()

        async def exchange(connection: Connection) -> tuple[Client, str] | Literal["unknown", "declared", "refused"]:
            row = await connection.fetchrow(SQL["lock_client"], client_id, caller.organization_id)
            if row is None:
                return "unknown"
            client = _read(row)
            if not may_create(caller, client.scopes, client.organization_id, client.product_id):
                return "refused"
            if row["declared"]:
                return "declared"
            changed = await connection.fetchrow(SQL["change_secret"], client_id, hash_secret(secret), overlap)
            assert changed is not None  # noqa: S101 - it was locked above, in the same transaction
            client = _read(changed)
            hours = {"overlap_hours": overlap / timedelta(hours=1)}
            await _note(connection, caller.subject, "client.exchange-secret", client, hours)
            return client, secret

        return await self._database.transact(exchange, tries=1)  # whoever asks twice has lost the first answer

    async def declare_all(self, declarations: Collection[Declaration]) -> None:
        """Make clients what the operator's settings declare; who was declared before becomes as any other."""
        for declaration in declarations:
            await self.declare(declaration, bootstrap=True)
        await self._database.fetch(SQL["release_clients"], [declaration.id for declaration in declarations])

    async def declare(self, declaration: Declaration, *, enable: bool = False, bootstrap: bool = False) -> None:
        """Make a client what is declared, whatever it was before; safe to repeat. `enable` undoes `disable`.

        What `bootstrap` declares is declared again at each start, so its secret is changed there and nowhere else.
        """
        await self._database.fetch(
            SQL["declare_client"],
            declaration.id,
            hash_secret(declaration.secret),
            sorted(set(declaration.scopes)),
            declaration.organization_id,
            declaration.product_id,
            enable,
            bootstrap,
        )

    async def list(
        self, *, after: str, organization_id: str | None, limit: int, product_id: UUID | None = None
    ) -> list[Client]:
        """Clients in order of their ids, from the one after `after`; with `product_id` only that product's."""
        rows = await self._database.fetch(SQL["list_clients"], after, organization_id, limit, product_id)
        return [_read(row) for row in rows]

    async def disable(self, caller: Caller, client_id: str) -> bool:
        """Let a client have no more tokens; False if there is none. Those it has run out by themselves."""

        async def end(connection: Connection) -> bool:
            row = await connection.fetchrow(SQL["disable_client"], client_id, caller.organization_id)
            if row is not None and row["newly"]:
                await _note(connection, caller.subject, "client.disable", _read(row))
            return row is not None

        return await self._database.transact(end)


async def _note(
    connection: Connection, by: str, action: str, client: Client, detail: Mapping[str, Any] | None = None
) -> None:
    await audit.note(
        connection,
        by=by,
        action=action,
        organization=client.organization_id,
        product=client.product_id,
        subject=f"client:{client.id}",
        detail=detail,
    )


def _make_secret() -> str:
    return secrets.token_urlsafe(32)


def _read(row: asyncpg.Record) -> Client:
    return Client(
        row["id"],
        frozenset(row["scopes"]),
        row["organization_id"],
        row["created_at"],
        row["last_used_at"],
        row["disabled_at"],
        row["product_id"],
        row["previous_until"],
    )
