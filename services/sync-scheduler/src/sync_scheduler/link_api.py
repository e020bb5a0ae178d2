"""The REST face of credential links (C12)."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg
from fastapi import APIRouter
from pydantic import BaseModel

from homeroom.codes import Code
from sync_scheduler.callers import Cursor, Data, Limit, Reader, UseCases, UseLinks, Writer, seen_by
from sync_scheduler.credential_links import MOST_TRIES, LinkBody
from sync_scheduler.ledger import SQL
from sync_scheduler.paging import from_cursor
from sync_scheduler.views import Page, show_page

router = APIRouter(prefix="/v1", tags=["credential links"])

NEWEST = 2**63 - 1


class LinkMade(BaseModel):
    """A link, shown this once: whoever has it can enter the district's credentials."""

    id: UUID
    url: str
    expires_at: datetime


class Link(BaseModel):
    """A link and what became of it."""

    id: UUID
    integration_id: UUID
    state: Literal["open", "used", "revoked", "expired", "locked"]
    note: str | None
    notify: str | None
    tries: int
    outcome: Literal["verified", "failed"] | None
    """Of the last verification; null while there was none."""
    outcome_code: Code | None
    outcome_at: datetime | None
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None


@router.post("/integrations/{integration_id}/credential-links", status_code=201)
async def create_credential_link(
    integration_id: UUID, caller: Writer, links: UseLinks, body: LinkBody | None = None
) -> LinkMade:
    """Make a link by which the district enters its credentials itself, once."""
    row, url = await links.create(integration_id, body or LinkBody(), seen_by(caller), by=caller.subject)
    return LinkMade(id=row["id"], url=url, expires_at=row["expires_at"])


@router.get("/integrations/{integration_id}/credential-links")
async def list_credential_links(
    integration_id: UUID, caller: Reader, data: Data, use_cases: UseCases, cursor: Cursor = None, limit: Limit = 50
) -> Page[Link]:
    """An integration's links, newest first."""
    await use_cases.read(integration_id, seen_by(caller))
    rows = await data.fetch(SQL["links"], integration_id, from_cursor(cursor, start=NEWEST), limit + 1)
    return show_page(rows, limit, "position", _show)


@router.delete("/credential-links/{link_id}", status_code=204)
async def revoke_credential_link(link_id: UUID, caller: Writer, links: UseLinks) -> None:
    """Take a link back."""
    await links.revoke(link_id, seen_by(caller), by=caller.subject)


def _show(row: asyncpg.Record) -> Link:
    same = {name: row[name] for name in Link.model_fields.keys() & row.keys()}
    tried = row["outcome_at"] is not None
    outcome = ("failed" if row["outcome_code"] else "verified") if tried else None
    return Link(**same | {"integration_id": row["integration"], "state": _find_state(row), "outcome": outcome})


def _find_state(row: asyncpg.Record) -> str:
    states = {
        "used": row["used_at"] is not None,
        "revoked": row["revoked_at"] is not None,
        "expired": row["expires_at"] <= row["now"],
        "locked": row["tries"] >= MOST_TRIES,
    }
    return next((state for state, applies in states.items() if applies), "open")
