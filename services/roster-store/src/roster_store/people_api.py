"""`GET /v1/people-links`: who the people of a Google Classroom integration are in the SIS (A5)."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from homeroom.auth import Caller, require
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.problems import Problem
from roster_store.tables import SQL

router = APIRouter(tags=["people"])


class Link(BaseModel):
    """A person of this integration who is one of the SIS's."""

    sourced_id: str
    sis_integration_id: UUID
    sis_sourced_id: str


class Unmatched(BaseModel):
    """A person of this integration of whom that is not known."""

    sourced_id: str
    reason: Literal["no_email", "unknown", "ambiguous"] = Field(
        description="`no_email`: no address; `unknown`: nobody in the organization's other rosters has it; "
        "`ambiguous`: several people have it, on either side"
    )


class PeopleLinks(BaseModel):
    """A page of an integration's people in the order of their sourcedIds, apart by whether they are matched."""

    links: list[Link]
    unmatched: list[Unmatched]
    cursor: str | None = Field(description="for the next page; null on an empty one")
    more: bool


@router.get("/v1/people-links")
async def list_people_links(
    request: Request,
    caller: Annotated[Caller, Depends(require("roster.read"))],
    integration: Annotated[UUID, Query(description="an integration of Google Classroom; others have no links")],
    cursor: Annotated[str | None, Query(description="from an earlier answer; none starts at the beginning")] = None,
    limit: Annotated[int, Query(ge=1, le=5_000, description="people on the page, matched or not")] = 500,
) -> PeopleLinks:
    """Who is who: people joined to the SIS's by their e-mail address, and those who could not be."""
    database: Database = request.app.state.database
    after = _parse(cursor) if cursor else None
    rows = await database.fetch(SQL["list_links"], integration, caller.organization_id, after, limit + 1)
    page = rows[:limit]
    return PeopleLinks(
        links=[
            Link(
                sourced_id=row["sourced_id"],
                sis_integration_id=row["sis_integration_id"],
                sis_sourced_id=row["sis_sourced_id"],
            )
            for row in page
            if row["reason"] is None
        ],
        unmatched=[
            Unmatched(sourced_id=row["sourced_id"], reason=row["reason"]) for row in page if row["reason"] is not None
        ],
        cursor=_render(page[-1]["sourced_id"]) if page else None,
        more=len(rows) > limit,
    )


def _render(sourced_id: str) -> str:
    return base64.urlsafe_b64encode(sourced_id.encode()).decode().rstrip("=")


def _parse(cursor: str) -> str:
    """The sourcedId a page ended with; a text that can't be one is refused."""
    try:
        sourced_id = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise Problem(Code.CURSOR_INVALID, status=400, detail="The cursor can't be read.") from error
    if not sourced_id or "\0" in sourced_id:
        raise Problem(Code.CURSOR_INVALID, status=400, detail="The cursor can't be read.")
    return sourced_id
