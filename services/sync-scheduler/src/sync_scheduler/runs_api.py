"""The REST face of runs: begin one, look at one, cancel one, undo one (C2, C5, C11)."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import StrictBool

from homeroom.auth import Caller, require
from homeroom.codes import Code
from homeroom.faultpoints import faultpoint
from homeroom.messages import Purpose
from homeroom.problems import Problem
from homeroom.service import RequestModel
from sync_scheduler import asked_runs, restores, run_views, views
from sync_scheduler.callers import (
    Approver,
    Configuration,
    Cursor,
    Data,
    Limit,
    Reader,
    Runner,
    UseCases,
    seen_by,
)
from sync_scheduler.integration_bodies import OptionsBody
from sync_scheduler.integrations import refuse_field
from sync_scheduler.ledger import SQL
from sync_scheduler.paging import NEWEST, from_cursor
from sync_scheduler.runs import State

router = APIRouter(prefix="/v1", tags=["runs"])


class RunBody(RequestModel):
    """What kind of run; `auto` reads as little as the provider allows."""

    mode: Literal["auto", "full"] = "auto"
    evaluate: StrictBool = False
    """Whether nothing is to be changed, and only found out what would be; everything is read then."""
    options: OptionsBody | None = None
    """With `evaluate`: options to be tried before they are saved; those left out are as they are saved."""


class RestoreBody(RequestModel):
    """A restore is confirmed in so many words."""

    confirm: StrictBool = False


async def _check_onlooker(caller: Annotated[Caller, Depends(require(teachers=True))]) -> Caller:
    if not caller.scopes & {"integrations.read", "classes.refresh"}:
        detail = "The token lacks the scope integrations.read, or classes.refresh for the refresh of a class."
        raise Problem(Code.SCOPE_MISSING, status=403, detail=detail)
    return caller


Onlooker = Annotated[Caller, Depends(_check_onlooker)]
"""Whoever may have a class refreshed may see what came of it; a teacher, what came of what they asked for."""


@router.post("/integrations/{integration_id}/runs", status_code=202)
async def start_run(
    integration_id: UUID,
    caller: Runner,
    data: Data,
    settings: Configuration,
    response: Response,
    body: RunBody | None = None,
) -> run_views.RunAccepted:
    """Run now (C2), or with `evaluate` find out what a run would change (C11)."""
    asked = body or RunBody()
    if asked.options is not None and not asked.evaluate:
        raise refuse_field(
            "options", "other options can be tried with evaluate only; to keep them, edit the integration"
        )
    run_id = await asked_runs.start(
        data,
        integration_id,
        seen_by(caller),
        asked_runs.Asking(mode=asked.mode, evaluate=asked.evaluate, options=asked.options, by=caller.subject),
        terms=settings.terms,
    )
    faultpoint("scheduler.run-created")
    response.headers["Location"] = f"/v1/runs/{run_id}"
    return run_views.RunAccepted(run_id=run_id)


@router.get("/integrations/{integration_id}/runs")
async def list_runs(
    integration_id: UUID,
    caller: Reader,
    data: Data,
    use_cases: UseCases,
    state: Annotated[State | None, Query(description="only runs in this state")] = None,
    kind: Annotated[Purpose | None, Query(description="only runs of this kind")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> views.Page[run_views.Run]:
    """An integration's runs, newest first."""
    await use_cases.read(integration_id, seen_by(caller))
    before = from_cursor(cursor, start=NEWEST)
    rows = await data.fetch(SQL["runs"], integration_id, before, limit + 1, state.value if state else None, kind)
    return views.show_page(rows, limit, "number", run_views.show_run)


@router.get("/runs/{run_id}")
async def read_run(run_id: UUID, caller: Onlooker, data: Data) -> run_views.Run:
    """One run: where it stands, what waits for a decision, or what came of it (C5)."""
    only: Purpose | None = None if "integrations.read" in caller.scopes else "refresh"
    row = await asked_runs.read(data, run_id, seen_by(caller, teachers=True), only=only)
    if caller.teacher not in (None, (str(row["integration"]), row["teacher_sourced_id"])):
        raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no run {run_id}.")
    return run_views.show_run(row)


@router.get("/runs/{run_id}/log")
async def read_log(run_id: UUID, caller: Reader, data: Data) -> run_views.RunLog:
    """A run's story, and the records that were not taken as they came."""
    row = await asked_runs.read(data, run_id, seen_by(caller))
    return run_views.show_log(row, await data.fetch(SQL["entries"], run_id))


@router.post("/runs/{run_id}/cancel", status_code=202)
async def cancel_run(run_id: UUID, caller: Runner, data: Data) -> run_views.Run:
    """Stop a run; one that has ended stays as it is, and what is held is discarded instead."""
    return run_views.show_run(await asked_runs.cancel(data, run_id, seen_by(caller)))


@router.post("/runs/{run_id}/restore", status_code=202)
async def restore_run(
    run_id: UUID, body: RestoreBody, caller: Approver, data: Data, settings: Configuration, response: Response
) -> run_views.RunAccepted:
    """Undo this run and all after it: the roster becomes what it was before, and the integration is paused."""
    if not body.confirm:
        detail = "A restore undoes this run and all after it, and pauses the integration."
        raise Problem(Code.CONFIRMATION_REQUIRED, status=422, detail=detail)
    restore = await restores.start(data, run_id, seen_by(caller), by=caller.subject, terms=settings.terms)
    response.headers["Location"] = f"/v1/runs/{restore}"
    return run_views.RunAccepted(run_id=restore)
