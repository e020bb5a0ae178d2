"""The REST face of products (D2, D3, D5)."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Response
from pydantic import BaseModel

from sync_scheduler import products
from sync_scheduler.callers import Cursor, Data, Licensor, Limit, Reader, seen_by
from sync_scheduler.ledger import SQL
from sync_scheduler.paging import from_cursor
from sync_scheduler.products import Classes, ProductBody, ProductEdit, Unmatched
from sync_scheduler.views import Page, show_page

router = APIRouter(prefix="/v1/products", tags=["products"])


class Product(BaseModel):
    """What districts are rostered for."""

    id: UUID
    name: str
    classes: Classes
    unmatched: Unmatched
    created_at: datetime
    updated_at: datetime


@router.post("", status_code=201)
async def create_product(body: ProductBody, caller: Licensor, data: Data, response: Response) -> Product:
    """Add a product."""
    row = await products.add(data, body, by=caller.subject)
    response.headers["Location"] = f"/v1/products/{row['id']}"
    return _show(row)


@router.get("")
async def list_products(caller: Reader, data: Data, cursor: Cursor = None, limit: Limit = 100) -> Page[Product]:
    """Products, oldest first; an organization sees those it was ever licensed for."""
    rows = await data.fetch(SQL["products"], seen_by(caller), from_cursor(cursor, start=0), limit + 1)
    return show_page(rows, limit, "position", _show)


@router.get("/{product_id}")
async def read_product(product_id: UUID, caller: Reader, data: Data) -> Product:
    """One product."""
    return _show(await products.find(data, product_id, seen_by(caller)))


@router.patch("/{product_id}")
async def edit_product(product_id: UUID, body: ProductEdit, caller: Licensor, data: Data) -> Product:
    """Change a product's name, or how it wants its classes and people."""
    return _show(await products.edit(data, product_id, body, by=caller.subject))


@router.delete("/{product_id}", status_code=204)
async def delete_product(product_id: UUID, caller: Licensor, data: Data) -> None:
    """Take a product away for good, and revoke all its licenses; its clients see nothing from then on."""
    await products.delete(data, product_id, by=caller.subject)


def _show(row: asyncpg.Record) -> Product:
    return Product(**{name: row[name] for name in Product.model_fields})
