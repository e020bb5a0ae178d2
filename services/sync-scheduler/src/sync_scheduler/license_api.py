"""The REST face of licenses (D5, F3)."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from homeroom.grants import FieldGroup
from sync_scheduler import licenses, licensing
from sync_scheduler.callers import NOBODY, Configuration, Cursor, Data, Licensor, Limit, Reader, seen_by
from sync_scheduler.ledger import SQL
from sync_scheduler.licenses import Standing
from sync_scheduler.licensing import LicenseBody, LicenseEdit
from sync_scheduler.paging import from_cursor
from sync_scheduler.views import Page, show_page

router = APIRouter(prefix="/v1/licenses", tags=["licenses"])


class License(BaseModel):
    """A product's license of an organization."""

    id: UUID
    product_id: UUID
    organization_id: UUID
    state: Standing
    schools: list[str] | None = Field(description="sourcedIds of the schools it covers; null for all of them")
    grants: list[FieldGroup] = Field(description="the groups of fields it opens besides what every license does")
    valid_from: datetime
    valid_until: datetime | None
    revoked_at: datetime | None
    created_at: datetime
    updated_at: datetime


@router.post("", status_code=201)
async def create_license(
    body: LicenseBody, caller: Licensor, data: Data, settings: Configuration, response: Response
) -> License:
    """License a product to an organization; what was left out without one is made up for."""
    row = await licensing.grant(data, body, by=caller.subject, required=settings.license_required)
    response.headers["Location"] = f"/v1/licenses/{row['id']}"
    return _show_license(row)


@router.get("")
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


@router.get("/{license_id}")
async def read_license(license_id: UUID, caller: Reader, data: Data) -> License:
    """One license."""
    return _show_license(await licensing.find(data, license_id, seen_by(caller)))


@router.patch("/{license_id}")
async def edit_license(
    license_id: UUID, body: LicenseEdit, caller: Licensor, data: Data, settings: Configuration
) -> License:
    """Renew a license, revoke it, or change what it covers. A run that is under way ends as any other."""
    row = await licensing.change(data, license_id, body, by=caller.subject, required=settings.license_required)
    return _show_license(row)


def _show_license(row: asyncpg.Record) -> License:
    same = {name: row[name] for name in License.model_fields.keys() & row.keys()}
    standing = licenses.read(row).stand(row["now"])
    return License(**same | {"product_id": row["product"], "organization_id": row["organization"], "state": standing})
