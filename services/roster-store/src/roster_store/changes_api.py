"""`GET /v1/changes`: the change feed for those who pull (F2)."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from homeroom.auth import Caller, require
from homeroom.codes import Code
from homeroom.events import EVENT_TYPES
from homeroom.problems import Problem
from roster_store.feed import Cursor, Scope, read_page

router = APIRouter(tags=["changes"])

_encode = msgspec.json.Encoder(order="deterministic").encode


@router.get("/v1/changes")
async def list_changes(
    request: Request,
    caller: Annotated[Caller, Depends(require("roster.read"))],
    cursor: Annotated[str | None, Query(description="from an earlier answer; none starts at the beginning")] = None,
    types: Annotated[str | None, Query(description="event types, separated by commas")] = None,
    integration: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=5_000)] = 500,
) -> Response:
    """The next events after a cursor: `{"events": [CloudEvent…], "cursor", "more"}`."""
    try:
        start = Cursor.parse(cursor) if cursor else Cursor()
    except ValueError as error:
        raise Problem(Code.CURSOR_INVALID, status=400, detail="The cursor can't be read.") from error
    wanted = frozenset(types.split(",")) if types else None
    if wanted and (unknown := wanted - EVENT_TYPES):
        raise Problem(
            Code.REQUEST_INVALID, status=422, detail=f"There are no event types {', '.join(sorted(unknown))}."
        )
    page = await read_page(
        request.app.state.database,
        start,
        limit,
        Scope(str(integration) if integration else None, caller.organization_id, wanted),
    )
    body = {"events": [found.event for found in page.events], "cursor": str(page.cursor), "more": page.more}
    return Response(_encode(body), media_type="application/json")
