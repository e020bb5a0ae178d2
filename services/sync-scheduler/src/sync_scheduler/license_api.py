"""The REST face of products and licenses (D5)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends
from pydantic import BaseModel

from homeroom.auth import Caller, require
from homeroom.codes import Code
from homeroom.problems import Problem
from sync_scheduler import licenses, licensing
from sync_scheduler.callers import NOBODY, Configuration, Cursor, Data, Limit, Reader, seen_by
from sync_scheduler.ledger import SQL
from sync_scheduler.licenses import Standing
from sync_scheduler.licensing import LicenseBody, LicenseEdit, ProductBody
from sync_scheduler.paging import from_cursor
from sync_scheduler.views import Page, show_page

router = APIRouter(prefix="/v1", tags=["licenses"])


async def _check_licensor(caller: Annotated[Caller, Depends(require("licenses.write"))]) -> Caller:
    if caller.organization_id is not None:
        detail = "Products and licenses are given by a token that is not bound to an organization."
        raise Problem(Code.SCOPE_MISSING, status=403, detail=detail)
    return caller


Licensor = Annotated[Caller, Depends(_check_licensor)]
"""Nobody licenses themselves."""


class Product(BaseModel):
    """What districts are rostered for."""

    id: UUID
    name: str
    created_at: datetime
    updated_at: datetime


class License(BaseModel):
    """A product's license of an organization."""

    id: UUID
    product_id: UUID
    organization_id: UUID
    state: Standing
    valid_from: datetime
    valid_until: datetime | None
    revoked_at: datetime | None
    created_at: datetime
    updated_at: datetime


@router.post("/products", status_code=201)
async def create_product(body: ProductBody, caller: Licensor, data: Data) -> Product:
    """Add a product."""
    return _show_product(await licensing.add_product(data, body, by=caller.subject))


@router.get("/products")
async def list_products(caller: Reader, data: Data, cursor: Cursor = None, limit: Limit = 100) -> Page[Product]:
    """Products, oldest first; an organization sees those it was ever licensed for."""
    rows = await data.fetch(SQL["products"], seen_by(caller), from_cursor(cursor, start=0), limit + 1)
    return show_page(rows, limit, "position", _show_product)


@router.post("/licenses", status_code=201)
async def create_license(body: LicenseBody, caller: Licensor, data: Data, settings: Configuration) -> License:
    """License a product to an organization; what was left out without one is made up for."""
    row = await licensing.grant(data, body, by=caller.subject, required=settings.license_required)
    return _show_license(row)


@router.get("/licenses")
async def list_licenses(
    caller: Reader,
    data: Data,
    organization_id: UUID | None = None,
    product_id: UUID | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[License]:
    """Licenses, oldest first."""
    seen = seen_by(caller)
    if seen is not None and organization_id not in (None, seen):
        seen = NOBODY
    after = from_cursor(cursor, start=0)
    rows = await data.fetch(SQL["licenses"], seen or organization_id, product_id, after, limit + 1)
    return show_page(rows, limit, "position", _show_license)


@router.patch("/licenses/{license_id}")
async def edit_license(
    license_id: UUID, body: LicenseEdit, caller: Licensor, data: Data, settings: Configuration
) -> License:
    """Renew or revoke a license. A run that is under way ends as any other."""
    row = await licensing.change(data, license_id, body, by=caller.subject, required=settings.license_required)
    return _show_license(row)


def _show_product(row: asyncpg.Record) -> Product:
    return Product(**{name: row[name] for name in Product.model_fields})


def _show_license(row: asyncpg.Record) -> License:
    same = {name: row[name] for name in License.model_fields.keys() & row.keys()}
    standing = licenses.read(row).stand(row["now"])
    return License(**same | {"product_id": row["product"], "organization_id": row["organization"], "state": standing})
