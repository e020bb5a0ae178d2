"""Accounts of the staff and the roles they were given, in the database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Literal
from uuid import UUID

import asyncpg

from homeroom import audit
from homeroom.auth import Caller
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from sso.staff.roles import GivenRole, Kind, may_grant
from sso.statements import SQL


@dataclass(frozen=True, slots=True)
class GivenTo:
    """A role an account was given."""

    id: UUID
    account_id: UUID
    role: GivenRole
    organization_id: UUID | None
    product_id: UUID | None
    granted_by: str
    granted_at: datetime
    organization_name: str | None = None
    product_name: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody of the staff, and how they are known."""

    id: UUID
    kind: Kind
    organization_id: UUID | None
    connection_id: UUID | None
    tenant: str | None
    subject: str | None = field(repr=False)
    integration_id: UUID | None
    sourced_id: str | None
    username: str | None
    password_hash: str | None = field(repr=False)
    declared: bool
    label: str | None = field(repr=False)
    created_at: datetime
    last_used_at: datetime | None
    disabled_at: datetime | None


Change = Literal["unknown", "refused"]
"""Why nothing was changed: there is no such thing for the caller, or it is above them."""


class Accounts:
    """The staff of this installation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ── who is it ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def find(self, account_id: UUID) -> Account | None:
        """The account with this id, disabled or not."""
        row = await self._database.fetchrow(SQL["find_staff_account"], account_id)
        return None if row is None else read_account(row)

    async def find_local(self, username: str) -> Account | None:
        """The local account with this username, disabled or not."""
        row = await self._database.fetchrow(SQL["find_local_staff"], username)
        return None if row is None else read_account(row)

    async def find_all_of(
        self,
        portal: tuple[UUID, str, str] | None,
        integration_id: UUID | None,
        sourced_ids: Collection[str],
    ) -> list[Account]:
        """The accounts of somebody: by connection, tenant and the portal's user id, and by what the roster calls them.

        Portal accounts come first.
        """
        where = portal or (None, None, None)
        rows = await self._database.fetch(SQL["find_staff_of"], *where, integration_id, sorted(sourced_ids))
        return [read_account(row) for row in rows]

    async def list_roles(self, account_ids: Sequence[UUID]) -> list[GivenTo]:
        """The roles accounts were given."""
        rows = await self._database.fetch(SQL["list_staff_roles"], list(account_ids))
        return [read_role(row) for row in rows]

    async def note_use(self, account_id: UUID) -> None:
        """Write down, to the minute, that somebody signed in."""
        await self._database.fetch(SQL["use_staff"], account_id)

    # ── looking after them ────────────────────────────────────────────────────────────────────────────────────────

    async def list(self, *, after: UUID, organization_id: UUID | None, limit: int) -> list[Account]:
        """Accounts in order of their ids: of an organization's people, and those with a role in it."""
        rows = await self._database.fetch(SQL["list_staff"], after, organization_id, limit)
        return [read_account(row) for row in rows]

    async def register(
        self, caller: Caller, bound: UUID | None, integration_id: UUID, sourced_id: str, label: str | None
    ) -> Account | Change:
        """The account of somebody of a roster, made if there is none yet."""

        async def add(connection: Connection) -> Account | Change:
            integration = await connection.fetchrow(SQL["find_staff_integration"], integration_id, bound)
            if integration is None:
                return "unknown"
            organization: UUID = integration["organization_id"]
            row = await connection.fetchrow(
                SQL["add_rostered_staff"], new_id(), organization, integration_id, sourced_id, label
            )
            account = read_account(row)
            await audit.note(
                connection,
                by=caller.subject,
                action="staff.register",
                organization=organization,
                subject=f"staff:{account.id}",
            )
            return account

        return await self._database.transact(add)

    async def change(
        self,
        caller: Caller,
        bound: UUID | None,
        account_id: UUID,
        *,
        label: str | Literal[False] | None = False,
        disabled: bool | None = None,
    ) -> Account | Change:
        """Give an account another label (False leaves it), or disable or enable it.

        Whose account has roles above the caller's is not theirs to change.
        """

        async def change(connection: Connection) -> Account | Change:
            row = await connection.fetchrow(SQL["lock_staff"], account_id, bound)
            if row is None:
                return "unknown"
            roles = [read_role(one) for one in await connection.fetch(SQL["list_staff_roles"], [account_id])]
            if not row["own"] or not all(may_grant(caller, one.role, one.organization_id) for one in roles):
                return "refused"
            changed = await connection.fetchrow(
                SQL["change_staff"], account_id, label is not False, label or None, disabled
            )
            action = {None: "staff.change", True: "staff.disable", False: "staff.enable"}[disabled]
            await audit.note(
                connection,
                by=caller.subject,
                action=action,
                organization=row["organization_id"],
                subject=f"staff:{account_id}",
            )
            return read_account(changed)

        return await self._database.transact(change)

    async def list_sessions(self, account_id: UUID) -> Sequence[UUID]:
        """The sessions somebody has."""
        return [row["id"] for row in await self._database.fetch(SQL["find_staff_sessions"], account_id)]

    async def lock(self, connection: Connection, bound: UUID | None, account_id: UUID) -> Account | None:
        """The account if a caller who is bound to an organization may see it, locked for this transaction."""
        row = await connection.fetchrow(SQL["lock_staff"], account_id, bound)
        return None if row is None else read_account(row)

    async def revoke(self, caller: Caller, bound: UUID | None, account_id: UUID, role_id: UUID) -> Change | None:
        """Take a role away; None if that was done."""

        async def drop(connection: Connection) -> Change | None:
            if await self.lock(connection, bound, account_id) is None:
                return "unknown"
            row = await connection.fetchrow(SQL["lock_staff_role"], account_id, role_id)
            if row is None or (bound is not None and row["organization_id"] != bound):
                return "unknown"
            if not may_grant(caller, row["role"], row["organization_id"]):
                return "refused"
            await connection.execute(SQL["drop_staff_role"], role_id)
            await _note_role(connection, caller.subject, "staff-role.revoke", read_role(row))
            return None

        return await self._database.transact(drop)

    # ── what the operator declares ────────────────────────────────────────────────────────────────────────────────

    async def declare(
        self, username: str, password_hash: str, *, enable: bool = False, bootstrap: bool = False
    ) -> Account:
        """Make a local account an admin of the platform with this password, whatever it was before; safe to repeat.

        What `bootstrap` declares is declared again at each start. `enable` undoes that it was disabled.
        """
        return await self._database.transact(
            partial(_declare, username=username, password_hash=password_hash, enable=enable, bootstrap=bootstrap)
        )

    async def release(self, declared: Collection[str]) -> None:
        """Disable the accounts that were declared at an earlier start and are not any more."""
        for row in await self._database.fetch(SQL["release_staff"], list(declared)):
            for session in await self.list_sessions(row["id"]):
                await self._database.fetch(SQL["end_session"], session)


async def add_role(
    connection: Connection,
    account_id: UUID,
    role: GivenRole,
    organization_id: UUID | None,
    product_id: UUID | None,
    by: str,
) -> GivenTo:
    """Give an account a role, in the caller's transaction; one it has already stays as it is."""
    what = (role, organization_id, product_id)
    row = await connection.fetchrow(SQL["add_staff_role"], new_id(), account_id, *what, by)
    if row is None:
        row = await connection.fetchrow(SQL["find_staff_role"], account_id, *what)
        return read_role(row)
    given = read_role(row)
    await _note_role(connection, by, "staff-role.grant", given)
    return given


async def _declare(
    connection: Connection, username: str, password_hash: str, *, enable: bool, bootstrap: bool
) -> Account:
    row = await connection.fetchrow(SQL["declare_local_staff"], new_id(), username, password_hash, bootstrap, enable)
    account = read_account(row)
    await add_role(connection, account.id, "platform-admin", None, None, "operator")
    return account


async def _note_role(connection: Connection, by: str, action: str, given: GivenTo) -> None:
    await audit.note(
        connection,
        by=by,
        action=action,
        organization=given.organization_id,
        product=given.product_id,
        subject=f"staff:{given.account_id}",
        detail={"role": given.role},
    )


def read_account(row: asyncpg.Record | None) -> Account:
    """An account of a row that is there."""
    assert row is not None  # noqa: S101 - it was found, inserted or locked
    return Account(**{name: row[name] for name in Account.__slots__})


def read_role(row: asyncpg.Record | None) -> GivenTo:
    """A role of a row that is there; names of what it is bound to only where they were read as well."""
    assert row is not None  # noqa: S101 - likewise
    return GivenTo(**{name: row[name] for name in GivenTo.__slots__ if name in row.keys()})  # noqa: SIM118 - a record is no mapping
