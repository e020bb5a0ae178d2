"""For which product, in which organization, a caller acts: its own, or the one it names."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import asyncpg
from fastapi import Depends, Query, Request

from homeroom.auth import Caller, require
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.problems import Problem
from roster_store.matching.accounts import Party
from roster_store.tables import SQL

Organization = Annotated[
    UUID | None, Query(description="the organization; a token that is bound to one needs not name it")
]
Product = Annotated[UUID | None, Query(description="the product; a product's own token needs not name it")]
Writer = Annotated[Caller, Depends(require("accounts.write", products=True))]
Reader = Annotated[Caller, Depends(require("roster.read", products=True))]


async def find_party(request: Request, caller: Caller, organization: UUID | None, product: UUID | None) -> Party:
    """The product and organization a request is about.

    Problem REQUEST_INVALID if it does not say, NOT_FOUND if the product is not licensed there or they are not the
    caller's.
    """
    where = _choose("organization", organization, caller.organization_id)
    who = _choose("product_id", product, caller.product_id)
    database: Database = request.app.state.database
    if not await database.fetchval(SQL["find_access"], who, where):
        raise _nothing()
    return Party(who, where, caller.subject)


async def find_account(request: Request, caller: Caller, account_id: UUID) -> tuple[Party, asyncpg.Record]:
    """An account the caller may see, and whose it is; Problem NOT_FOUND."""
    database: Database = request.app.state.database
    bounds = [_read(bound) for bound in (caller.product_id, caller.organization_id)]
    row = await database.fetchrow(SQL["find_account"], account_id, *bounds)
    if row is None:
        raise _nothing()
    return Party(row["product_id"], row["organization_id"], caller.subject), row


def _choose(name: str, named: UUID | None, bound: str | None) -> UUID:
    own = _read(bound)
    if own is not None:
        if named not in (None, own):
            raise _nothing()
        return own
    if named is None:
        errors: list[Any] = [{"field": f"query.{name}", "problem": "Field required"}]
        raise Problem(Code.REQUEST_INVALID, status=422, detail=f"Not accepted: query.{name}.", errors=errors)
    return named


def _read(bound: str | None) -> UUID | None:
    """The id in a token; one that is none belongs to nobody."""
    try:
        return None if bound is None else UUID(bound)
    except ValueError:
        raise _nothing() from None


def _nothing() -> Problem:
    return Problem(Code.NOT_FOUND, status=404, detail="There is no such thing, or it is not yours to see.")
