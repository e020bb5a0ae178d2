"""`GET /v1/changes`: the change feed for those who pull (F2)."""

from __future__ import annotations

from time import monotonic
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from homeroom.auth import DEMOGRAPHICS, Caller, require
from homeroom.codes import Code
from homeroom.events import EVENT_TYPES
from homeroom.problems import Problem
from homeroom.roster import MAX_TEXT
from roster_store.feed import Cursor, Page, Scope, read_page
from roster_store.news import News

router = APIRouter(tags=["changes"])

MOST_SCHOOLS: Final = 500
MOST_WAIT: Final = 30
LOOK_SECONDS: Final = 1.0
"""How often is looked without any news: a license may end by the clock, a step be told late."""
_CURSOR_CHARACTERS: Final = 11_000

_EXAMPLE: Final = {
    "events": [
        {
            "id": "4711-18",
            "source": "/integrations/0190c3f2-7a10-7c55-9f3d-2b6a8c1e4d01",
            "type": "homeroom.enrollment.added.v1",
            "subject": "enrollments/enr-20931",
            "time": "2026-11-20T02:14:09Z",
            "data": {
                "sourcedId": "enr-20931",
                "version": 1,
                "record": {
                    "sourcedId": "enr-20931",
                    "userSourcedId": "student-1207",
                    "classSourcedId": "class-77",
                    "schoolSourcedId": "school-3",
                    "role": "student",
                },
            },
            "specversion": "1.0",
            "datacontenttype": "application/json",
        }
    ],
    "cursor": "AAAAAAAAEmcAAAAS",
    "more": False,
}
_ANSWER: Final[dict[str, Any]] = {
    "description": "Events in order, and the cursor to go on with. `more` says whether there is more at once, also "
    "where this page holds few or none. A cursor is worth keeping as soon as the page's events are dealt with.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["events", "cursor", "more"],
                "properties": {
                    "events": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "description": "a CloudEvent 1.0 in structured form",
                            "required": ["specversion", "id", "source", "type", "subject", "time", "data"],
                            "properties": {
                                "specversion": {"const": "1.0"},
                                "id": {"type": "string", "description": "the same for the same change"},
                                "source": {"type": "string", "description": "`/integrations/{id}`"},
                                "type": {"enum": sorted(EVENT_TYPES)},
                                "subject": {"type": "string"},
                                "time": {"type": "string", "format": "date-time"},
                                "datacontenttype": {"const": "application/json"},
                                "data": {"type": "object"},
                            },
                        },
                    },
                    "cursor": {"type": "string"},
                    "more": {"type": "boolean"},
                },
            },
            "example": _EXAMPLE,
        }
    },
}

_encode = msgspec.json.Encoder(order="deterministic").encode


@router.get("/v1/changes", response_class=Response, responses={200: _ANSWER})
async def list_changes(
    request: Request,
    caller: Annotated[Caller, Depends(require("roster.read", products=True))],
    cursor: Annotated[
        str | None,
        Query(max_length=_CURSOR_CHARACTERS, description="from an earlier answer; none starts at the beginning"),
    ] = None,
    types: Annotated[
        list[str] | None,
        Query(max_length=len(EVENT_TYPES), description="event types, repeated or separated by commas", examples=[[]]),
    ] = None,
    integration: Annotated[UUID | None, Query(description="only this integration's")] = None,
    organization: Annotated[UUID | None, Query(description="only this organization's")] = None,
    schools: Annotated[
        list[str] | None,
        Query(
            max_length=MOST_SCHOOLS,
            description="only what belongs to these schools, as sourcedIds, repeated or separated by commas; what "
            "leaves them is told as removed. Begin without a cursor whenever other schools are asked for",
        ),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=5_000)] = 500,
    wait: Annotated[
        int, Query(ge=0, le=MOST_WAIT, description="seconds to wait for something to tell, if there is nothing yet")
    ] = 0,
) -> Response:
    """The next events after a cursor: `{"events": [CloudEvent…], "cursor", "more"}`.

    A product is told what it is licensed for: from the beginning of its license everything it may see, then what
    changes. Demographics need the scope `demographics.read` besides.
    """
    start = _read_cursor(cursor)
    scope = _read_scope(caller, organization, integration, _split(types), _split(schools))
    if scope is None:
        return _answer(Page([], start, more=False))
    app = request.app.state
    page = await read_page(app.database, app.rosters, start, limit, scope)
    news: News = app.news
    until = monotonic() + wait
    while not page.events and not news.over and (page.more or monotonic() < until):
        if not page.more:
            await news.wait(min(LOOK_SECONDS, max(0.0, until - monotonic())))
        elif monotonic() >= until:
            break
        page = await read_page(app.database, app.rosters, page.cursor, limit, scope)
    return _answer(page)


def _answer(page: Page) -> Response:
    body = {"events": [found.event for found in page.events], "cursor": str(page.cursor), "more": page.more}
    return Response(_encode(body), media_type="application/json")


def _read_cursor(text: str | None) -> Cursor:
    try:
        return Cursor.parse(text) if text else Cursor()
    except ValueError as error:
        raise Problem(Code.CURSOR_INVALID, status=400, detail="The cursor can't be read.") from error


def _split(texts: list[str] | None) -> frozenset[str] | None:
    """Values that were repeated, separated by commas, or both."""
    found = frozenset(part for text in texts or () for part in text.split(",") if part)
    return found or None


def _read_scope(
    caller: Caller,
    organization: UUID | None,
    integration: UUID | None,
    types: frozenset[str] | None,
    schools: frozenset[str] | None,
) -> Scope | None:
    """What a caller reads; None where they may see nothing of what they ask for. Raises `Problem` REQUEST_INVALID."""
    if unknown := sorted((types or frozenset()) - EVENT_TYPES):
        known = ", ".join(text[:80] for text in unknown[:5])
        raise Problem(Code.REQUEST_INVALID, status=422, detail=f"There are no event types {known}.")
    if schools and (len(schools) > MOST_SCHOOLS or any("\0" in one or len(one) > MAX_TEXT for one in schools)):
        raise Problem(Code.REQUEST_INVALID, status=422, detail=f"At most {MOST_SCHOOLS} schools, by their sourcedIds.")
    try:
        product = None if caller.product_id is None else UUID(caller.product_id)
        bound = None if caller.organization_id is None else UUID(caller.organization_id)
    except ValueError:
        return None
    if bound is not None and organization not in (None, bound):
        return None
    return Scope(
        product_id=product,
        organization_id=bound or organization,
        integration_id=integration,
        types=types,
        schools=schools,
        demographics=DEMOGRAPHICS in caller.scopes,
    )
