"""Whose an account is, said by hand: such links are never undone by the rule, nor what was taken apart put together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from uuid import UUID

import asyncpg

from homeroom import audit
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.problems import Problem
from roster_store.matching.accounts import AccountFields, Party, write_accounts
from roster_store.matching.matcher import lock_accounts, match_accounts, note_accounts, rematch
from roster_store.matching.rule import Key
from roster_store.tables import SQL


@dataclass(frozen=True, slots=True)
class AccountName:
    """Which account of a product: by our id, or by the product's own."""

    id: UUID | None = None
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class FoundAccount:
    """The account of a person, as a sign-in needs it."""

    id: UUID
    external_id: str | None
    active: bool


async def link(database: Database, party: Party, name: AccountName, person: Key, *, replace: bool) -> UUID:
    """Tie an account to a person by hand; the account's id.

    Args:
        database: the store's.
        party: the product, where, and who does it.
        name: the account.
        person: somebody the caller may see, and who is active.
        replace: whether links that either of them has end. An account that was made here and not taken up always does.

    Raises:
        Problem: NOT_FOUND, ACCOUNT_LINKED, PERSON_LINKED.
    """
    return await database.transact(partial(_link, party=party, name=name, person=person, replace=replace))


async def link_external(database: Database, party: Party, external_id: str, person: Key) -> UUID:
    """Tie the product's account of this name to a person, and have it known here first where it is not.

    Nothing is replaced, and where it is refused nothing is made either. Raises as `link` does.
    """

    async def work(connection: Connection) -> UUID:
        name = AccountName(external_id=external_id)
        await lock_accounts(connection, party.organization)
        found = (party.product, party.organization, None, external_id)
        if await connection.fetchrow(SQL["find_linked_account"], *found) is None:
            new = AccountFields(external_id, None, None, None, None, active=True)
            await write_accounts(connection, party, [new], matched=False)
        return await _link(connection, party, name, person, replace=False)

    return await database.transact(work)


async def _link(connection: Connection, party: Party, name: AccountName, person: Key, *, replace: bool) -> UUID:
    await lock_accounts(connection, party.organization)
    account = await connection.fetchrow(
        SQL["find_linked_account"], party.product, party.organization, name.id, name.external_id
    )
    if account is None:
        raise Problem(Code.NOT_FOUND, status=404, detail="There is no such account.")
    if not await connection.fetchval(SQL["find_matched_organization"], party.organization):
        await rematch(connection, party.product, party.organization)
    found = await connection.fetchrow(SQL["find_represented"], *person)
    if found is None:
        raise Problem(Code.NOT_FOUND, status=404, detail="There is no such person.")
    key = (found["integration_no"], found["sourced_id"])
    await note_accounts(connection, [account["no"]])
    await connection.execute(SQL["concern_people"], key[0], [key[1]])
    await _make_room(connection, party, account, key, replace=replace)
    await connection.execute(SQL["write_link"], account["no"], party.product, *key, party.by)
    await match_accounts(connection, party.product, party.organization)
    await _note(connection, party, "account.link", account["id"])
    account_id: UUID = account["id"]
    return account_id


async def _make_room(connection: Connection, party: Party, account: asyncpg.Record, key: Key, *, replace: bool) -> None:
    """End the links that stand in the way, if that is wanted."""
    own = await connection.fetchrow(SQL["find_link_of_account"], account["no"])
    if own is not None:
        if (own["integration_no"], own["sourced_id"]) != key and not replace:
            raise Problem(Code.ACCOUNT_LINKED, status=409, detail="The account belongs to another person.")
        await connection.execute(SQL["end_link"], account["no"], "manual", party.by)
    other = await connection.fetchrow(SQL["find_link_of_person"], party.product, *key)
    if other is None:
        return
    if not other["made"] and not replace:
        raise Problem(
            Code.PERSON_LINKED,
            status=409,
            detail="The person has another account.",
            account_id=str(other["id"]),
        )
    await note_accounts(connection, [other["account_no"]])
    await connection.execute(SQL["end_link"], other["account_no"], "replaced", party.by)
    await connection.execute(SQL["drop_made_account"], other["account_no"])


async def unlink(database: Database, party: Party, account: asyncpg.Record) -> None:
    """Take an account and its person apart, so that they are not matched again by themselves.

    Problem NOT_FOUND if it belongs to nobody. An account that was made for the person and never taken up goes with it.
    """
    await database.transact(partial(_unlink, party=party, account=account))


async def unlink_person(database: Database, party: Party, name: AccountName, person: Key) -> None:
    """The same for an account by its name, if it is this person's. Problem NOT_FOUND if it is not, or there is none."""

    async def work(connection: Connection) -> None:
        await lock_accounts(connection, party.organization)
        account = await connection.fetchrow(
            SQL["find_linked_account"], party.product, party.organization, name.id, name.external_id
        )
        if account is None:
            raise Problem(Code.NOT_FOUND, status=404, detail="There is no such account.")
        found = await connection.fetchrow(SQL["find_represented"], *person)
        key = person if found is None else (found["integration_no"], found["sourced_id"])
        await _unlink(connection, party, account, of=key)

    await database.transact(work)


async def _unlink(connection: Connection, party: Party, account: asyncpg.Record, of: Key | None = None) -> None:
    """Take an account and its person apart; with `of` only that one."""
    await lock_accounts(connection, party.organization)
    held = await connection.fetchrow(SQL["find_link_of_account"], account["no"])
    key = None if held is None else (held["integration_no"], held["sourced_id"])
    if key is None or of not in (None, key):
        raise Problem(Code.NOT_FOUND, status=404, detail="The account does not belong to them.")
    await note_accounts(connection, [account["no"]])
    await connection.execute(SQL["end_link"], account["no"], "manual", party.by)
    await connection.execute(SQL["bar_link"], account["no"], party.product, *key, party.by)
    await connection.execute(SQL["drop_made_account"], account["no"])
    await match_accounts(connection, party.product, party.organization)
    await _note(connection, party, "account.unlink", account["id"])


async def list_events(database: Database, account: int, after: int, limit: int) -> list[asyncpg.Record]:
    """What became of an account's links, oldest first, from the event after a number on."""
    return await database.fetch(SQL["list_link_events"], account, after, limit)


async def find_account(database: Database, product: UUID, person: Key) -> FoundAccount | None:
    """The account of a person, whom a product's sign-in is about; None if there is none (yet)."""
    row = await database.fetchrow(SQL["find_account_of_person"], product, *person)
    return None if row is None else FoundAccount(row["id"], row["external_id"], row["active"])


async def _note(connection: Connection, party: Party, action: str, account: UUID) -> None:
    await audit.note(
        connection,
        by=party.by,
        action=action,
        organization=party.organization,
        product=party.product,
        subject=f"account:{account}",
    )
