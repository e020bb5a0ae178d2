"""`GET /v1/exports/oneroster.zip`: a roster as OneRoster CSV (F1)."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from homeroom.auth import Caller, require
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.problems import Problem
from roster_store.csv_export.exports import CURSOR_HEADER, Wish, open_export
from roster_store.csv_export.layouts import Version
from roster_store.feed import Cursor
from roster_store.sights import Sight, list_sights

router = APIRouter(tags=["exports"])

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the archive",
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {CURSOR_HEADER: {"description": "the `since` of the next one", "schema": {"type": "string"}}},
    }
}
SINCE = Query(max_length=64, description=f"`{CURSOR_HEADER}` of an earlier archive of the same roster")


async def find_sight(database: Database, caller: Caller, integration: UUID | None, organization: UUID | None) -> Sight:
    """The one roster a caller means. Raises `Problem`: NOT_FOUND, or REQUEST_INVALID naming those there are."""
    sights = await list_sights(database, caller, organization=organization, integration=integration)
    if not sights:
        raise Problem(Code.NOT_FOUND, status=404, detail="There is no such roster.")
    if len(sights) > 1:
        raise Problem(
            Code.REQUEST_INVALID,
            status=422,
            detail=f"An archive is of one roster, and {len(sights)} can be seen; name one as `integration`.",
            integrations=[str(sight.integration_id) for sight in sights[:100]],
        )
    return sights[0]


async def confirm_sight(database: Database, caller: Caller, sight: Sight) -> None:
    """Refuse what was opened under terms that have changed meanwhile. Raises `Problem` BUSY: it passes at once."""
    now = await list_sights(database, caller, integration=sight.integration_id)
    if now != [sight]:
        detail = "What may be seen has changed a moment ago."
        raise Problem(Code.BUSY, status=503, detail=detail, headers={"Retry-After": "1"})


def read_cursor(text: str | None) -> Cursor | None:
    """A cursor as it was given; `Problem` CURSOR_INVALID if it is none."""
    try:
        return None if text is None else Cursor.parse(text)
    except ValueError:
        raise Problem(Code.CURSOR_INVALID, status=400, detail="The cursor can't be read.") from None


@router.get("/v1/exports/oneroster.zip", response_class=Response, responses=ANSWERS)
async def export_oneroster(
    request: Request,
    caller: Annotated[Caller, Depends(require("roster.read", products=True))],
    version: Version = "1.2",
    since: Annotated[str | None, SINCE] = None,
    integration: UUID | None = None,
    organization: UUID | None = None,
) -> Response:
    """A OneRoster CSV set: everything, or with `since` what changed since an earlier one."""
    database: Database = request.app.state.database
    wish = Wish(version, read_cursor(since))
    sight = await find_sight(database, caller, integration, organization)
    stack, archive = await open_export(database, request.app.state.rosters, sight, wish)
    try:
        await confirm_sight(database, caller, sight)
    except BaseException:
        await stack.aclose()
        raise
    return archive
