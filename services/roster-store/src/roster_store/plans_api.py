"""`GET /v1/plans/{run_id}`: what a run would change, and every change of it as a file (C11, C14)."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from homeroom.auth import Caller, require
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.problems import Problem
from homeroom.roster import COLLECTIONS
from roster_store.downloads import Download, Filters, find_source, forgotten, open_download
from roster_store.plans import PlanReport
from roster_store.tables import SQL

router = APIRouter(tags=["plans"])

Reader = Annotated[Caller, Depends(require("roster.read"))]


@router.get("/v1/plans/{run_id}")
async def read_plan(request: Request, run_id: UUID, caller: Reader) -> PlanReport:
    """What an evaluation found, or what a held run would change; kept some days. Other runs have no report."""
    database: Database = request.app.state.database
    row = await database.fetchrow(SQL["find_report"], run_id, caller.organization_id)
    if row is None:
        raise Problem(
            Code.NOT_FOUND, status=404, detail="No plan of this run is known; evaluations and held runs have one."
        )
    if row["report"] is None:
        raise forgotten()
    return PlanReport(
        **row["report"],
        run_id=run_id,
        integration_id=row["integration_id"],
        plan=row["plan"],
        made_at=row["made_at"],
    )


@router.get(
    "/v1/plans/{run_id}/changes.csv",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "The changes"}},
)
async def download_changes(
    request: Request,
    run_id: UUID,
    caller: Reader,
    collection: Annotated[str | None, Query(pattern=f"^({'|'.join(COLLECTIONS)})$")] = None,
    change: Literal["added", "changed", "removed"] | None = None,
    school: Annotated[str | None, Query(max_length=2_000, description="the sourcedId of a school")] = None,
) -> Download:
    """Every change of a run as CSV: of an evaluation or a held plan as it was made, of an applied run as it was done.

    A line for each record that comes or goes, and for each field of a record that changes. UTF-8 with a byte order
    mark, which Excel needs; text a spreadsheet would run as a formula has an apostrophe before it. Reasons of removals
    are known of plans only. A file that can't be finished breaks off without the end of its chunked encoding.
    """
    if school is not None and "\0" in school:
        raise Problem(Code.REQUEST_INVALID, status=422, detail="No sourcedId holds a NUL.")
    database: Database = request.app.state.database
    source = await find_source(database, run_id, caller.organization_id)
    if source is None:
        raise Problem(Code.NOT_FOUND, status=404, detail="No changes of this run are known.")
    filters = Filters(collection, change, school)
    return await open_download(database, source, filters, f"changes-{run_id}.csv")
