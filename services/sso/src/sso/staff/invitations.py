"""Invitations: an address that makes whoever opens it first, and signs in, one of the staff.

The token is kept as a hash only and works once. By a portal it works for people who come by a connection of the
organization that invites them; a password can be chosen only where local accounts are on and the invitation says so.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

import asyncpg

from homeroom import audit
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from sso.launch.flows import hash_token, make_token
from sso.launch.refusals import Refused
from sso.staff.accounts import Account, add_role, read_account
from sso.staff.roles import GivenRole
from sso.statements import SQL

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Invitation:
    """Somebody is to have a role."""

    id: UUID
    role: GivenRole
    organization_id: UUID | None
    product_id: UUID | None
    home_id: UUID | None
    local: bool
    label: str | None
    invited_by: str
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None
    account_id: UUID | None
    withdrawn_at: datetime | None
    organization_name: str | None = None
    product_name: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """An invitation to be."""

    role: GivenRole
    organization_id: UUID | None
    product_id: UUID | None
    home_id: UUID | None
    """Of which organization's people they are to be; None for a local account of the platform."""
    local: bool
    label: str | None
    hours: int


class Invitations:
    """The invitations of this installation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, wanted: Wanted, by: str) -> tuple[Invitation, str]:
        """A new invitation and its token, which is told this once."""
        token, invitation_id = make_token(), new_id()

        async def add(connection: Connection) -> Invitation:
            row = await connection.fetchrow(
                SQL["add_invitation"],
                invitation_id,
                hash_token(token),
                wanted.role,
                wanted.organization_id,
                wanted.product_id,
                wanted.home_id,
                wanted.local,
                wanted.label,
                by,
                wanted.hours,
            )
            made = read_invitation(row)
            await _note(connection, by, "staff.invite", made)
            return made

        return await self._database.transact(add), token

    async def list(self, *, after: UUID, organization_id: UUID | None, limit: int) -> list[Invitation]:
        """Invitations in order of their ids, used ones as well."""
        rows = await self._database.fetch(SQL["list_invitations"], after, organization_id, limit)
        return [read_invitation(row) for row in rows]

    async def withdraw(self, invitation_id: UUID, organization_id: UUID | None, by: str) -> bool:
        """Take an invitation back; False if there is none. One that was used stays so."""

        async def end(connection: Connection) -> bool:
            row = await connection.fetchrow(SQL["withdraw_invitation"], invitation_id, organization_id)
            if row is None:
                return False
            await _note(connection, by, "staff.withdraw", read_invitation(row))
            return True

        return await self._database.transact(end)

    async def find(self, token: str) -> Invitation:
        """The invitation somebody opened. Raises `Refused` SIGNIN_INVITATION_OVER, whatever is wrong with it."""
        known = hash_token(token) if _TOKEN.fullmatch(token) else b""
        return self._check(await self._database.fetchrow(SQL["find_invitation"], known, None))

    async def find_by_id(self, invitation_id: UUID) -> Invitation:
        """The invitation somebody signed in for. Raises `Refused` likewise."""
        return self._check(await self._database.fetchrow(SQL["find_invitation"], None, invitation_id))

    @staticmethod
    def _check(row: asyncpg.Record | None) -> Invitation:
        if row is None:
            raise _over("no invitation that can be used")
        return read_invitation(row)

    async def accept_by_portal(self, invitation: Invitation, connection_id: UUID, tenant: str, subject: str) -> Account:
        """Use an invitation up for somebody who came by a connection. Raises `Refused`."""
        where = (invitation.home_id, connection_id, tenant, subject, invitation.label)

        async def make(connection: Connection) -> asyncpg.Record | None:
            return await connection.fetchrow(SQL["add_portal_staff"], new_id(), *where)

        return await self._database.transact(partial(_accept, invitation=invitation, make=make))

    async def accept_by_password(self, invitation: Invitation, username: str, password_hash: str) -> Account | None:
        """Use an invitation up for somebody who chose a password; None if the username is taken. Raises `Refused`."""
        where = (invitation.home_id, username, password_hash, invitation.label)

        async def make(connection: Connection) -> asyncpg.Record | None:
            return await connection.fetchrow(SQL["add_local_staff"], new_id(), *where)

        try:
            return await self._database.transact(partial(_accept, invitation=invitation, make=make))
        except _NameTaken:
            return None


class _NameTaken(Exception):  # noqa: N818 - what happened to the account
    """Somebody has the username; nothing was used up."""


async def _accept(
    connection: Connection,
    invitation: Invitation,
    make: Callable[[Connection], Awaitable[asyncpg.Record | None]],
) -> Account:
    row = await make(connection)
    if row is None:
        raise _NameTaken
    account = read_account(row)
    if account.disabled_at is not None:
        raise Refused(Code.SIGNIN_ROLE_MISSING, "the account is disabled")
    used = await connection.fetchrow(SQL["use_invitation"], invitation.id, account.id)
    if used is None:  # somebody was faster
        raise _over("used meanwhile")
    await _note(connection, f"staff:{account.id}", "staff.accept", read_invitation(used))
    bound = (invitation.organization_id, invitation.product_id)
    await add_role(connection, account.id, invitation.role, *bound, invitation.invited_by)
    return account


def _over(why: str) -> Refused:
    return Refused(Code.SIGNIN_INVITATION_OVER, why)


async def _note(connection: Connection, by: str, action: str, invitation: Invitation) -> None:
    await audit.note(
        connection,
        by=by,
        action=action,
        organization=invitation.organization_id,
        product=invitation.product_id,
        subject=f"staff-invitation:{invitation.id}",
        detail={"role": invitation.role, "local": invitation.local},
    )


def read_invitation(row: asyncpg.Record | None) -> Invitation:
    """An invitation of a row that is there."""
    assert row is not None  # noqa: S101 - it was found or inserted
    return Invitation(**{name: row[name] for name in Invitation.__slots__ if name in row.keys()})  # noqa: SIM118 - a record is no mapping
