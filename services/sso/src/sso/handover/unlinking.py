"""Taking apart what somebody connected: by the product, and never the last way into an account."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from uuid import UUID

import asyncpg

from homeroom import audit
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.people import LinkOrder
from homeroom.problems import Problem
from sso.launch.people import People
from sso.statements import SQL


@dataclass(frozen=True, slots=True)
class Unlinking:
    """Takes accounts and people apart; `app.state.unlinking`."""

    database: Database
    people: People

    async def remove(
        self, product_id: UUID, external_id: str, organization_id: UUID | None, *, other_sign_in: bool | None, by: str
    ) -> None:
        """Take an account apart from whoever connected it.

        Args:
            product_id: whose account.
            external_id: the product's own id of it.
            organization_id: where, if the product has the id in several.
            other_sign_in: whether the account can be signed in to without us, as of now; None is as it was told before.
            by: who wants it.

        Raises:
            Problem: NOT_FOUND, REQUEST_INVALID where several organizations have the id, LINK_LAST_SIGN_IN.
            Refused: SIGNIN_STORE_AWAY.
        """
        row = await self._find(product_id, external_id, organization_id)
        if not (row["other_sign_in"] if other_sign_in is None else other_sign_in):
            raise Problem(
                Code.LINK_LAST_SIGN_IN, status=409, detail="Nothing else lets anybody sign in to the account."
            )
        order = LinkOrder(
            action="unlink",
            product_id=str(product_id),
            organization_id=str(row["organization_id"]),
            integration_id=str(row["integration_id"]),
            sourced_id=row["sourced_id"],
            external_id=external_id,
        )
        # Where the store knows nothing of it, others took it apart before us: that is as good.
        await self.people.link(order)
        drop = partial(_drop, product_id=product_id, external_id=external_id, row=row, by=by)
        await self.database.transact(drop)
        await self.people.forget(row["integration_id"], row["sourced_id"])

    async def _find(self, product_id: UUID, external_id: str, organization_id: UUID | None) -> asyncpg.Record:
        rows = await self.database.fetch(SQL["list_linked_accounts"], product_id, external_id, organization_id)
        if not rows:
            raise Problem(Code.NOT_FOUND, status=404, detail="Nobody connected an account of this id.")
        if len(rows) > 1:
            errors = [{"field": "body.organization_id", "problem": "several organizations have an account of this id"}]
            raise Problem(Code.REQUEST_INVALID, status=422, detail="Not accepted: body.organization_id.", errors=errors)
        return rows[0]


async def _drop(connection: Connection, product_id: UUID, external_id: str, row: asyncpg.Record, by: str) -> None:
    where = (product_id, row["organization_id"], external_id)
    if await connection.fetchval(SQL["drop_linked_account"], *where) is None:
        return  # somebody else was quicker
    await audit.note(
        connection,
        by=by,
        action="account-link.remove",
        organization=row["organization_id"],
        product=product_id,
        subject=f"product:{product_id}",
    )
