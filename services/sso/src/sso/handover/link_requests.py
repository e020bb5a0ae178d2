"""Connecting an account of a product with who somebody is at school (D4): asked for by the product, done by the person.

Both sides are fresh: the product says when it last had the person sign in, and here they sign in to their portal anew,
whoever is signed in in that browser. Nothing else ever connects an account; above all no launch does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, Literal
from uuid import UUID

import asyncpg

from homeroom import audit
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from sso.launch.flows import hash_token, make_token
from sso.launch.identification import Identified
from sso.launch.traces import Trace
from sso.provider.relying_parties import RelyingParty
from sso.statements import SQL

Outcome = Literal["linked", "account_linked", "person_linked", "not_rostered", "refused", "cancelled"]
SECONDS: Final = 600.0
"""How long the one-time URL is good for, and all that follows from it."""
CONFIRM_SECONDS: Final = 300.0
"""How long somebody who signed in late has at least to confirm."""
FRESH_SECONDS: Final = 300.0
"""How long ago somebody may have signed in, to the product and to the portal."""
AHEAD_SECONDS: Final = 60.0
"""How far the clock of a product or a portal may be ahead of ours."""
LONGEST_TOKEN: Final = 100


@dataclass(frozen=True, slots=True)
class Order:
    """What a product asks for."""

    product_id: UUID
    organization_id: UUID | None
    connection_id: UUID | None
    external_id: str = field(repr=False)
    label: str = field(repr=False)
    other_sign_in: bool
    return_to: str
    by: str


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """A request as it is kept; what names people is not shown in logs.

    Args:
        id: what the product knows it by.
        organization_id: the organization it must be; None for any that licenses the product.
        person_id: who signed in for it, and the rest of what is known of them.
    """

    id: UUID
    product_id: UUID
    organization_id: UUID | None
    connection_id: UUID | None
    external_id: str = field(repr=False)
    label: str = field(repr=False)
    other_sign_in: bool
    return_to: str
    by: str
    launch_id: UUID | None
    support_id: str | None
    kind: str | None
    person_id: UUID | None
    at_organization: UUID | None
    at_connection: UUID | None
    integration_id: UUID | None
    sourced_id: str | None = field(repr=False)
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    outcome: Outcome | None


def is_fresh(at: datetime, now: datetime) -> bool:
    """Whether somebody signed in just now, as far as clocks agree."""
    return -AHEAD_SECONDS <= (now - at).total_seconds() <= FRESH_SECONDS


def may_return(party: RelyingParty, address: str) -> bool:
    """Whether a browser may be sent back there: exactly one of the addresses the product registered.

    Those are its destinations, the pages people come to after signing out, and its redirect URIs.
    """
    return address in {*party.destinations.values(), *party.post_logout_redirect_uris, *party.redirect_uris}


class LinkRequests:
    """The requests under way, in the database; tokens are stored as hashes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def is_licensed(self, organization_id: UUID, product_id: UUID) -> bool:
        """Whether a license of the product is in force for the organization."""
        return bool(await self._database.fetchval(SQL["find_license_in_force"], organization_id, product_id))

    async def ask(self, order: Order) -> tuple[LinkRequest, str]:
        """Keep a request; with it the token that its URL ends with."""
        token = make_token()
        return await self._database.transact(partial(_ask, order=order, token=token)), token

    async def find(self, request_id: UUID, product_id: UUID) -> LinkRequest | None:
        """A request of a product."""
        return _read(await self._database.fetchrow(SQL["find_link_request"], request_id, product_id))

    async def open(self, token: str, browser: str) -> LinkRequest | None:
        """The request behind a URL; it belongs to the first browser that comes, until somebody signed in for it."""
        if len(token) > LONGEST_TOKEN:
            return None
        row = await self._database.fetchrow(SQL["open_link_request"], hash_token(token), hash_token(browser))
        return _read(row)

    async def find_open(self, request_id: UUID, browser: str) -> LinkRequest | None:
        """A request this browser has open, and for which nobody has signed in yet."""
        return _read(await self._database.fetchrow(SQL["find_open_link_request"], request_id, hash_token(browser)))

    async def arrive(self, request_id: UUID, browser: str, identified: Identified, trace: Trace) -> str | None:
        """Keep who signed in; what the confirmation must bring along. None if somebody did before."""
        assert identified.person is not None  # noqa: S101 - only rostered people connect accounts
        token, door = make_token(), identified.door
        row = await self._database.fetchrow(
            SQL["arrive_for_link"],
            request_id,
            hash_token(browser),
            identified.person_id,
            door.organization_id,
            door.id,
            door.integration_id,
            identified.person.sourced_id,
            hash_token(token),
            trace.id,
            trace.support_id,
            trace.kind,
            CONFIRM_SECONDS,
        )
        return None if row is None else token

    async def confirm(self, request_id: UUID, browser: str, form: str) -> LinkRequest | None:
        """Take the person's word, once: by the browser and the form it was shown in."""
        where = (request_id, hash_token(browser), hash_token(form))
        return _read(await self._database.fetchrow(SQL["confirm_link_request"], *where))

    async def release(self, request_id: UUID) -> None:
        """Let the same form be sent again, for the store did not answer."""
        await self._database.fetch(SQL["release_link_request"], request_id)

    async def end(self, request_id: UUID, outcome: Outcome) -> None:
        """Say what became of a request that connected nothing."""
        await self._database.fetch(SQL["end_link_request"], request_id, outcome)

    async def end_linked(self, request: LinkRequest) -> None:
        """Keep that an account is connected, and who wanted it, in one transaction."""
        await self._database.transact(partial(_link, request=request))


async def _ask(connection: Connection, order: Order, token: str) -> LinkRequest:
    row = await connection.fetchrow(
        SQL["ask_link"],
        new_id(),
        hash_token(token),
        *(getattr(order, name) for name in Order.__slots__),
        SECONDS,
    )
    request = _read(row)
    assert request is not None  # noqa: S101 - an INSERT returns what it inserted
    await _note(connection, request, "account-link.request", request.organization_id)
    return request


async def _link(connection: Connection, request: LinkRequest) -> None:
    await connection.execute(
        SQL["keep_linked_account"],
        request.product_id,
        request.at_organization,
        request.external_id,
        request.person_id,
        request.integration_id,
        request.sourced_id,
        request.at_connection,
        request.other_sign_in,
    )
    await connection.execute(SQL["end_link_request"], request.id, "linked")
    await _note(connection, request, "account-link.confirm", request.at_organization)


async def _note(connection: Connection, request: LinkRequest, action: str, organization: UUID | None) -> None:
    await audit.note(
        connection,
        by=request.by,
        action=action,
        organization=organization,
        product=request.product_id,
        subject=f"account-link:{request.id}",
    )


def _read(row: asyncpg.Record | None) -> LinkRequest | None:
    return None if row is None else LinkRequest(**{name: row[name] for name in LinkRequest.__slots__})
