"""The accounts a product has for the people of an organization: put here in bulk, named, deleted (D3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal
from uuid import UUID

import asyncpg

from homeroom import audit
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.problems import Problem
from roster_store.matching.matcher import (
    SECONDS,
    is_matching,
    lock_accounts,
    match_accounts,
    note_accounts,
    rematch,
)
from roster_store.matching.rule import Role
from roster_store.tables import SQL

Result = Literal["created", "updated", "unchanged", "refused"]

MAX_ACCOUNTS: Final = 5_000
"""How many accounts one request may bring."""


@dataclass(frozen=True, slots=True)
class Party:
    """A product in an organization it is licensed for, and who acts for it."""

    product: UUID
    organization: UUID
    by: str


@dataclass(frozen=True, slots=True)
class AccountFields:
    """An account as the product has it."""

    external_id: str
    email: str | None
    role: Role | None
    integration_id: UUID | None
    sourced_id: str | None
    active: bool


@dataclass(frozen=True, slots=True)
class Put:
    """What became of one account of a request."""

    result: Result
    id: UUID | None
    """None if it was refused."""


async def put_accounts(
    database: Database, party: Party, accounts: Sequence[AccountFields], *, matched: bool
) -> list[Put]:
    """Have a product's accounts be as they are given; what becomes of each, in their order.

    Accounts with an `external_id` that occurs more than once are refused, all of them: which of them is right can't
    be known. With `matched` whoever that concerns is matched at once.
    """
    doubles = _find_doubles(account.external_id for account in accounts)
    taken = [account for account in accounts if account.external_id not in doubles]
    work = partial(write_accounts, party=party, accounts=taken, matched=matched)
    results, ids = await database.transact(work) if taken else ({}, {})
    return [
        Put("refused", None)
        if account.external_id in doubles
        else Put(results.get(account.external_id, "unchanged"), ids[account.external_id])
        for account in accounts
    ]


def _find_doubles(external_ids: Iterable[str]) -> frozenset[str]:
    seen: set[str] = set()
    doubles: set[str] = set()
    for one in external_ids:
        (doubles if one in seen else seen).add(one)
    return frozenset(doubles)


async def write_accounts(
    connection: Connection, party: Party, accounts: Sequence[AccountFields], *, matched: bool
) -> tuple[Mapping[str, Result], Mapping[str, UUID]]:
    """`put_accounts` in the caller's transaction, for accounts of different names: what was written, and all ids."""
    whose = party.product, party.organization
    await lock_accounts(connection, party.organization)
    matching = await is_matching(connection, *whose)
    names = [account.external_id for account in accounts]
    before = await connection.fetch(SQL["find_account_numbers"], *whose, names)
    await note_accounts(connection, [row["no"] for row in before])
    written = await connection.fetch(
        SQL["put_accounts"],
        *whose,
        names,
        [account.email for account in accounts],
        [account.role for account in accounts],
        [account.integration_id for account in accounts],
        [account.sourced_id for account in accounts],
        [account.active for account in accounts],
        timeout=SECONDS,
    )
    if written and matched:
        if matching and await connection.fetchval(SQL["find_matched_organization"], party.organization):
            await note_accounts(connection, [row["no"] for row in written])
            await match_accounts(connection, *whose)
        else:
            await rematch(connection, *whose)
    results: dict[str, Result] = {row["external_id"]: "created" if row["created"] else "updated" for row in written}
    ids = {row["external_id"]: row["id"] for row in await connection.fetch(SQL["name_accounts"], *whose, names)}
    if written:
        detail = {"created": sum(row["created"] for row in written), "written": len(written)}
        await _note(connection, party, "accounts.put", f"product:{party.product}", detail)
    return results, ids


async def name_account(database: Database, party: Party, account: asyncpg.Record, external_id: str) -> None:
    """Give an account the product's own id: how a product takes up one that was made for a person.

    Problem ACCOUNT_EXISTS if another account has that id, deleted ones included.
    """

    async def work(connection: Connection) -> None:
        await lock_accounts(connection, party.organization)
        try:
            async with connection.transaction():
                await connection.execute(SQL["name_account"], account["no"], external_id)
        except asyncpg.UniqueViolationError:
            raise Problem(
                Code.ACCOUNT_EXISTS, status=409, detail="Another account of the product has this external_id."
            ) from None
        await _note(connection, party, "account.name", f"account:{account['id']}")

    await database.transact(work)


async def delete_account(database: Database, party: Party, account: asyncpg.Record) -> None:
    """Delete an account: its link goes, and its person is matched anew."""

    async def work(connection: Connection) -> None:
        await lock_accounts(connection, party.organization)
        await note_accounts(connection, [account["no"]])
        await connection.execute(SQL["delete_account"], account["no"], party.by)
        await match_accounts(connection, party.product, party.organization)
        await _note(connection, party, "account.delete", f"account:{account['id']}")

    await database.transact(work)


async def _note(
    connection: Connection, party: Party, action: str, subject: str, detail: Mapping[str, int] | None = None
) -> None:
    await audit.note(
        connection,
        by=party.by,
        action=action,
        organization=party.organization,
        product=party.product,
        subject=subject,
        detail=detail,
    )
