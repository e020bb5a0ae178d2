"""Products as they are added, changed and deleted: what districts are rostered for (D2, D3, D5).

Whoever gives or changes a license locks its product first and its organization then, so a product that is deleted
takes all its licenses with it.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import asyncpg
from pydantic import Field

from homeroom.codes import Code
from homeroom.connections import Line
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.messages import ProductState
from homeroom.problems import Problem
from homeroom.service import RequestModel
from sync_scheduler import audit
from sync_scheduler.ledger import SQL

Classes = Annotated[
    Literal["automatic", "teacher-started"],
    Field(description="whether classes count at once, or wait until one of their teachers starts them"),
]
Unmatched = Annotated[
    Literal["list", "create"],
    Field(description="what becomes of people without an account: they are listed, or an account is made for them"),
]
Name = Annotated[Line, Field(examples=["Reading"])]


class ProductBody(RequestModel):
    """A product to be."""

    name: Name
    classes: Classes = "automatic"
    unmatched: Unmatched = "list"


class ProductEdit(RequestModel):
    """What is left out, or null, stays as it is."""

    name: Name | None = None
    classes: Classes | None = None
    unmatched: Unmatched | None = None


async def add(database: Database, body: ProductBody, *, by: str) -> asyncpg.Record:
    """Add a product; others hear of it within a moment."""
    product = new_id()
    settings = body.model_dump(exclude={"name"})

    async def add(connection: Connection) -> asyncpg.Record:
        await connection.execute(SQL["add_product"], product, body.name, body.classes, body.unmatched)
        await audit.note(
            connection,
            by=by,
            action="product.create",
            organization=None,
            subject=f"product:{product}",
            detail=settings,
        )
        await connection.execute(SQL["wake"])
        return await find(connection, product)

    return await database.transact(add)


async def edit(database: Database, product: UUID, body: ProductEdit, *, by: str) -> asyncpg.Record:
    """Change what is sent; what is as it was already is told to nobody. Problem NOT_FOUND."""

    async def change(connection: Connection) -> asyncpg.Record:
        row = await _lock(connection, product)
        wanted = {name: row[name] for name in ProductEdit.model_fields} | body.model_dump(exclude_none=True)
        changes = {name: value for name, value in wanted.items() if value != row[name]}
        if not changes:
            return row
        await connection.execute(SQL["edit_product"], product, wanted["name"], wanted["classes"], wanted["unmatched"])
        await audit.note(
            connection, by=by, action="product.edit", organization=None, subject=f"product:{product}", detail=changes
        )
        await connection.execute(SQL["wake"])
        return await find(connection, product)

    return await database.transact(change)


async def delete(database: Database, product: UUID, *, by: str) -> None:
    """Take a product away and revoke its licenses, for good; deleting it again changes nothing. Problem NOT_FOUND.

    Where no other license is left, no sync begins any more. Others hear of every license that ended, and go on
    knowing the product by its name.
    """

    async def end(connection: Connection) -> None:
        row = await connection.fetchrow(SQL["lock_product"], product)
        if row is None:
            raise no_product(product)
        if row["deleted_at"] is not None:
            return
        await connection.execute(SQL["delete_product"], product)
        for license_ in await connection.fetch(SQL["revoke_licenses"], product):
            await audit.note(
                connection,
                by=by,
                action="license.revoke",
                organization=license_["organization"],
                subject=f"license:{license_['id']}",
                detail={"product_id": str(product)},
            )
        await audit.note(connection, by=by, action="product.delete", organization=None, subject=f"product:{product}")
        await connection.execute(SQL["wake"])

    await database.transact(end)


async def find(connection: Connection | Database, product: UUID, visible: UUID | None = None) -> asyncpg.Record:
    """A product that is there; with `visible` only if it was ever licensed to that organization. Problem NOT_FOUND."""
    row = await connection.fetchrow(SQL["product"], product, visible)
    if row is None:
        raise no_product(product)
    return row


def no_product(product: UUID) -> Problem:
    """What is said of a product that is not there, or not to be seen."""
    return Problem(Code.NOT_FOUND, status=404, detail=f"There is no product {product}.")


def describe(row: asyncpg.Record) -> ProductState:
    """What others are told of a product."""
    return ProductState(id=str(row["id"]), name=row["name"], classes=row["classes"], unmatched=row["unmatched"])


async def _lock(connection: Connection, product: UUID) -> asyncpg.Record:
    row = await connection.fetchrow(SQL["lock_product"], product)
    if row is None or row["deleted_at"] is not None:
        raise no_product(product)
    return row
