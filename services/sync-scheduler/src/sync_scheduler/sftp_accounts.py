"""Accounts in the SFTP inbox: one per integration that is fed by files, with a password or a key (A2).

The password is shown once and kept as a hash; what the inbox needs to let a district in travels with the
integration's state.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
from typing import Literal, Self
from uuid import UUID

import asyncpg
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from pydantic import Field, field_validator, model_validator

from homeroom.codes import Code
from homeroom.connections import UPLOADED
from homeroom.db import Connection, Database
from homeroom.messages import SftpAccount
from homeroom.problems import Problem
from homeroom.secrets import hash_password
from homeroom.service import RequestModel
from sync_scheduler import integrations
from sync_scheduler.ledger import SQL

LEAST_RSA_BITS = 3072
_NAME_LETTERS = 12
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""Nothing that is taken for something else when it is read out or typed: no i, l, o, 0, 1."""
_GROUPS, _GROUP_LETTERS = 7, 4
"""28 of 31 letters: 138 bits."""
_KEY_KINDS = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
_KEY_LINE = re.compile(r"^([a-z0-9@.-]+) ([A-Za-z0-9+/]+={0,2})(?: [^\x00-\x1f\x7f]*)?$")


class AccountBody(RequestModel):
    """How a district is to sign in."""

    auth: Literal["password", "key"]
    public_key: str | None = Field(
        default=None,
        max_length=10_000,
        description="for auth key: one line as in id_ed25519.pub; ed25519, ecdsa, or rsa of at least 3072 bits",
        examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA… roster@district"],
    )

    @field_validator("public_key")
    @classmethod
    def _check_key(cls, value: str | None) -> str | None:
        return None if value is None else read_public_key(value)

    @model_validator(mode="after")
    def _need_key_for_key(self) -> Self:
        if (self.auth == "key") != (self.public_key is not None):
            raise ValueError("public_key goes with auth key, and only with it")
        return self


class Made(msgspec.Struct, frozen=True):
    """An account that was just made."""

    username: str
    password: str | None
    """Shown now and never again; None for an account with a key."""

    def __repr__(self) -> str:
        return f"Made({self.username!r})"


async def make(database: Database, integration: UUID, visible: UUID | None, body: AccountBody) -> Made:
    """Make the integration's account, or another in its place. Problems as of `integrations.lock`, PROVIDER_UNFIT."""
    password = _make_password() if body.auth == "password" else None
    hashed = await asyncio.to_thread(hash_password, password) if password else None
    account = SftpAccount(
        username=name_user(integration),
        password_hash=hashed,
        public_keys=(body.public_key,) if body.public_key else (),
    )
    await _set(database, integration, visible, account)
    return Made(account.username, password)


async def remove(database: Database, integration: UUID, visible: UUID | None) -> None:
    """Take the account away; nothing happens where there is none. Problems as of `make`."""
    await _set(database, integration, visible, None)


def read_account(row: asyncpg.Record) -> SftpAccount | None:
    """The account of an integration's row."""
    return msgspec.convert(row["sftp"], SftpAccount | None)


def name_user(integration: UUID) -> str:
    """The user name of an integration's account: always the same."""
    digest = base64.b32encode(hashlib.sha256(integration.bytes).digest()).decode().lower()
    return f"hr-{digest[:_NAME_LETTERS]}"


def read_public_key(line: str) -> str:
    """A public key in OpenSSH's one-line form, without its comment. Raises ValueError saying what is wrong with it."""
    if "PRIVATE KEY" in line:
        raise ValueError("this is a private key; keep it to yourself and send the one in the .pub file")
    found = _KEY_LINE.match(line.strip())
    if found is None:
        raise ValueError("this is no public key in OpenSSH's one-line form, like ssh-ed25519 AAAA… name")
    kind, blob = found[1], found[2]
    if kind not in _KEY_KINDS:
        raise ValueError("a key of this type is not taken; make one with ssh-keygen -t ed25519")
    try:
        key = load_ssh_public_key(f"{kind} {blob}".encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("the key can't be read; copy the whole line of the .pub file") from None
    if isinstance(key, RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
        raise ValueError(f"the RSA key has {key.key_size} bits; at least {LEAST_RSA_BITS} are needed")
    return f"{kind} {blob}"


async def _set(database: Database, integration: UUID, visible: UUID | None, account: SftpAccount | None) -> None:
    async def change(connection: Connection) -> None:
        row = await integrations.lock(connection, integration, visible)
        if row["provider"] not in UPLOADED:
            detail = f"The integration {integration} is of kind {row['provider']}, which is asked and fed no files."
            raise Problem(Code.PROVIDER_UNFIT, status=409, detail=detail)
        if account is not None or row["sftp"] is not None:
            await connection.execute(SQL["set_sftp"], integration, account)
            await connection.execute(SQL["wake"])

    await database.transact(change)


def _make_password() -> str:
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(_GROUP_LETTERS)) for _ in range(_GROUPS))
    return "-".join(groups)
