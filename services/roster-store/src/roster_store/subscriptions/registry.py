"""Who subscribes to what: made, changed, enabled, rewound and ended, each with a line in the audit log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from homeroom import audit
from homeroom.auth import DEMOGRAPHICS, Caller
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.endpoints import object_to
from homeroom.ids import new_id
from homeroom.problems import Problem
from homeroom.secrets import SealingKeys
from homeroom.webhooks import make_secret
from roster_store.feed import Cursor
from roster_store.subscriptions.bodies import RedeliveryBody, SubscriptionBody, SubscriptionChanges
from roster_store.subscriptions.signing import seal_secret
from roster_store.tables import SQL

MOST: Final = 20
"""Subscriptions that a product, or an organization of its own, may have."""
_NEVER: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose subscriptions a caller sees. None of either is everybody's."""

    product_id: UUID | None
    organization_id: UUID | None

    @property
    def _only_own(self) -> bool:
        """Whether those of products are hidden: an organization sees its own."""
        return self.product_id is None and self.organization_id is not None

    @property
    def terms(self) -> tuple[UUID | None, UUID | None, bool]:
        """For SQL."""
        return self.product_id, self.organization_id, self._only_own


def read_owner(caller: Caller) -> Owner:
    """Whose subscriptions these are, by a token. An id that is none owns nothing."""
    return Owner(_read_id(caller.product_id), _read_id(caller.organization_id))


def _read_id(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return _NEVER


@dataclass(frozen=True, slots=True)
class Registry:
    """The use cases. Those about one subscription raise the problem NOT_FOUND, also for somebody else's."""

    database: Database
    keys: SealingKeys
    allow_private: bool

    async def create(self, body: SubscriptionBody, caller: Caller) -> tuple[asyncpg.Record, str | None]:
        """Add a subscription; its row and its secret.

        Problems ENDPOINT_REFUSED, REQUEST_INVALID, SUBSCRIPTION_LIMIT, SUBSCRIPTION_EXISTS.
        """
        owner = self._choose_owner(body, read_owner(caller))
        self._check_url(body.url)
        subscription = new_id()
        secret = make_secret() if body.kind == "webhook" else None
        sealed = None if secret is None else seal_secret(self.keys, subscription, secret)

        async def add(connection: Connection) -> None:
            await _check_subjects(connection, owner, body.integration_id, read_owner(caller).product_id)
            await connection.fetchval(SQL["lock_subscriber"], str(owner.product_id or owner.organization_id))
            if await connection.fetchval(SQL["count_subscriptions"], owner.product_id, owner.organization_id) >= MOST:
                raise Problem(
                    Code.SUBSCRIPTION_LIMIT, status=409, detail=f"There are {MOST} already, which is the most."
                )
            cursor = Cursor()
            if body.start == "now":
                cursor = Cursor(await connection.fetchval(SQL["find_feed_end"]))
            try:
                await connection.execute(
                    SQL["add_subscription"],
                    subscription,
                    owner.product_id,
                    owner.organization_id,
                    body.integration_id,
                    body.kind,
                    body.url,
                    body.types,
                    body.schools,
                    DEMOGRAPHICS in caller.scopes,
                    body.batch,
                    caller.subject,
                    sealed,
                    str(cursor),
                    cursor.apply_no,
                    body.start == "beginning",
                )
            except asyncpg.UniqueViolationError as error:
                detail = "The product has a subscription of the kind kafka already."
                raise Problem(Code.SUBSCRIPTION_EXISTS, status=409, detail=detail) from error
            await _note(connection, caller, "create", subscription, owner.product_id, owner.organization_id)
            await connection.execute(SQL["announce_subscription"])

        await self.database.transact(add)
        return await self.read(subscription, Owner(None, None)), secret

    async def list(self, owner: Owner, after: UUID, limit: int) -> list[asyncpg.Record]:
        """Some of an owner's subscriptions, in the order they were made."""
        return await self.database.fetch(SQL["list_subscriptions"], *owner.terms, None, after, limit)

    async def read(self, subscription: UUID, owner: Owner) -> asyncpg.Record:
        """One subscription."""
        row = await self.database.fetchrow(SQL["list_subscriptions"], *owner.terms, subscription, _NEVER, 1)
        if row is None:
            raise _no_subscription(subscription)
        return row

    async def change(self, subscription: UUID, changes: SubscriptionChanges, caller: Caller) -> asyncpg.Record:
        """Let other terms hold from now on; with other schools everything is told anew.

        Problems ENDPOINT_REFUSED, REQUEST_INVALID.
        """
        said = changes.model_fields_set
        self._check_url(changes.url)

        async def turn(connection: Connection, row: asyncpg.Record) -> None:
            if "url" in said and row["kind"] != "webhook":
                raise _refuse("url", "a topic has none")
            terms = [
                getattr(changes, name) if name in said else row[name] for name in ("url", "types", "schools", "batch")
            ]
            if said - {"enabled"}:
                await connection.execute(SQL["change_subscription"], subscription, *terms)
            if "schools" in said and changes.schools != row["schools"]:
                # What is seen of other schools is another view, which is told from its beginning (`feed.read_page`).
                await connection.execute(SQL["rewind_subscription"], subscription, str(Cursor()), 0)
            if "enabled" in said:
                verb = "enable_subscription" if changes.enabled else "pause_subscription"
                await connection.execute(SQL[verb], subscription)

        return await self._act(subscription, caller, "change", turn)

    async def enable(self, subscription: UUID, caller: Caller) -> asyncpg.Record:
        """Go on where it stopped, at once."""

        async def turn(connection: Connection, row: asyncpg.Record) -> None:
            await connection.execute(SQL["enable_subscription"], row["id"])

        return await self._act(subscription, caller, "enable", turn)

    async def rotate(self, subscription: UUID, caller: Caller) -> tuple[asyncpg.Record, str]:
        """Sign with a new secret, and for a day with the earlier one besides. Problem REQUEST_INVALID for a topic."""
        secret = make_secret()

        async def turn(connection: Connection, row: asyncpg.Record) -> None:
            if row["kind"] != "webhook":
                raise _refuse("kind", "only webhooks are signed")
            await connection.execute(SQL["rotate_subscription"], row["id"], seal_secret(self.keys, row["id"], secret))

        return await self._act(subscription, caller, "rotate", turn), secret

    async def redeliver(self, subscription: UUID, body: RedeliveryBody, caller: Caller) -> asyncpg.Record:
        """Send everything from an earlier place on once more. Problems CURSOR_INVALID, REQUEST_INVALID."""

        async def turn(connection: Connection, row: asyncpg.Record) -> None:
            cursor = await _find_place(connection, body)
            if body.start is None and cursor > Cursor.parse(row["cursor"]):
                raise _refuse("cursor", "it has not come so far yet; only what was sent can be sent again")
            await connection.execute(SQL["rewind_subscription"], row["id"], str(cursor), cursor.apply_no)

        return await self._act(subscription, caller, "redeliver", turn)

    async def delete(self, subscription: UUID, caller: Caller) -> None:
        """End a subscription. What is on its way may still arrive."""

        async def end(connection: Connection) -> None:
            row = await self._lock(connection, subscription, caller)
            await connection.execute(SQL["delete_subscription"], subscription)
            await _note(connection, caller, "delete", subscription, row["product_id"], row["organization_id"])

        await self.database.transact(end)

    async def ask_test(self, subscription: UUID, caller: Caller) -> UUID:
        """Have a worker send a test; its id. One that is under way already serves for this one as well."""

        async def ask(connection: Connection) -> UUID:
            await self._lock(connection, subscription, caller)
            await connection.execute(SQL["forget_tests"])
            found: UUID = await connection.fetchval(SQL["ask_test"], new_id(), subscription)
            await connection.execute(SQL["announce_subscription"])
            return found

        return await self.database.transact(ask)

    async def read_test(self, test: UUID) -> asyncpg.Record | None:
        """What came of a test; None while it is under way."""
        return await self.database.fetchrow(SQL["read_test"], test)

    async def _act(
        self,
        subscription: UUID,
        caller: Caller,
        verb: str,
        turn: Callable[[Connection, asyncpg.Record], Awaitable[None]],
    ) -> asyncpg.Record:
        async def act(connection: Connection) -> None:
            row = await self._lock(connection, subscription, caller)
            await turn(connection, row)
            await _note(connection, caller, verb, subscription, row["product_id"], row["organization_id"])
            await connection.execute(SQL["announce_subscription"])

        await self.database.transact(act)
        return await self.read(subscription, read_owner(caller))

    async def _lock(self, connection: Connection, subscription: UUID, caller: Caller) -> asyncpg.Record:
        row = await connection.fetchrow(SQL["lock_subscription"], *read_owner(caller).terms, subscription)
        if row is None:
            raise _no_subscription(subscription)
        return row

    def _choose_owner(self, body: SubscriptionBody, caller: Owner) -> Owner:
        """Whose a new subscription is. A token that is bound can't speak for anybody else."""
        for field, asked, bound in (
            ("product_id", body.product_id, caller.product_id),
            ("organization_id", body.organization_id, caller.organization_id),
        ):
            if None not in (asked, bound) and asked != bound:
                raise _refuse(field, "the token speaks for another one")
        if caller.product_id is None and caller.organization_id is not None and body.product_id is not None:
            raise _refuse("product_id", "an organization can't subscribe for a product")
        owner = Owner(caller.product_id or body.product_id, caller.organization_id or body.organization_id)
        if owner == Owner(None, None):
            raise _refuse("product_id", "say for which product, or which organization, it is")
        if body.kind == "kafka" and owner.product_id is None:
            raise _refuse("kind", "only products have topics of their own")
        return owner

    def _check_url(self, url: str | None) -> None:
        if url is not None and (why := object_to(url, allow_private=self.allow_private, allow_query=True)):
            raise Problem(Code.ENDPOINT_REFUSED, status=422, detail=f"url can't be used: {why}.")


async def _check_subjects(
    connection: Connection, owner: Owner, integration: UUID | None, bound_to: UUID | None
) -> None:
    """Refuse what is not there, or not for the product a token is `bound_to`: nobody waits for what never comes."""
    if owner.product_id is not None and not await connection.fetchval(SQL["knows_product"], owner.product_id):
        raise _refuse("product_id", "there is no such product")
    organization = owner.organization_id
    if organization is not None and not await connection.fetchval(SQL["knows_organization"], organization, bound_to):
        raise _refuse("organization_id", "there is no such organization")
    if integration is not None:
        terms = (integration, owner.organization_id, owner.product_id)
        if not await connection.fetchval(SQL["knows_integration"], *terms):
            raise _refuse("integration_id", "there is no such integration")


async def _find_place(connection: Connection, body: RedeliveryBody) -> Cursor:
    if body.cursor is not None:
        try:
            return Cursor.parse(body.cursor)
        except ValueError:
            raise Problem(Code.CURSOR_INVALID, status=400, detail="The cursor can't be read.") from None
    if body.since is not None:
        return Cursor(await connection.fetchval(SQL["find_step_before"], body.since))
    return Cursor()


async def _note(
    connection: Connection,
    caller: Caller,
    verb: str,
    subscription: UUID,
    product: UUID | None,
    organization: UUID | None,
) -> None:
    await audit.note(
        connection,
        by=caller.subject,
        action=f"subscription.{verb}",
        organization=organization,
        subject=f"subscription:{subscription}",
        product=product,
    )


def _refuse(field: str, why: str) -> Problem:
    return Problem(Code.REQUEST_INVALID, status=422, detail=f"{field}: {why}.")


def _no_subscription(subscription: UUID) -> Problem:
    return Problem(Code.NOT_FOUND, status=404, detail=f"There is no subscription {subscription}.")
