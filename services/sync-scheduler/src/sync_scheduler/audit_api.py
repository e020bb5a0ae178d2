"""The REST face of the audit: who did what."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Query
from pydantic import BaseModel

from homeroom.codes import Code
from homeroom.problems import Problem
from sync_scheduler import views
from sync_scheduler.callers import Cursor, Data, Limit, Reader, seen_by
from sync_scheduler.ledger import SQL
from sync_scheduler.paging import NEWEST, from_cursor

router = APIRouter(prefix="/v1", tags=["audit"])

Subject = Annotated[
    str | None,
    Query(
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="only what was done to this one, as `run:…` or `integration:…`",
    ),
]


class AuditEntry(BaseModel):
    """Something that somebody did."""

    at: datetime
    by: str
    action: str
    subject: str
    organization_id: UUID | None
    detail: dict[str, Any]


@router.get("/audit")
async def list_audit(
    caller: Reader,
    data: Data,
    organization_id: UUID | None = None,
    subject: Subject = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> views.Page[AuditEntry]:
    """Who did what, newest first: approvals, pauses, resets, edits, deletions, links and licenses."""
    visible = seen_by(caller)
    if organization_id is not None and visible not in (None, organization_id):
        raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no organization {organization_id}.")
    before = from_cursor(cursor, start=NEWEST)
    rows = await data.fetch(SQL["audit"], visible or organization_id, subject, before, limit + 1)
    return views.show_page(rows, limit, "position", _show)


def _show(row: asyncpg.Record) -> AuditEntry:
    same = {name: row[name] for name in ("at", "by", "action", "subject", "detail")}
    return AuditEntry(**same, organization_id=row["organization"])
