"""The REST face of teachers' refresh (C2)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, StringConstraints

from homeroom.auth import own_teacher
from homeroom.codes import Code
from homeroom.service import RequestModel
from sync_scheduler import ledger, refreshes
from sync_scheduler.callers import Configuration, Data, Refresher, Stop, seen_by
from sync_scheduler.refreshes import Refresh, Throttle
from sync_scheduler.runs import State

router = APIRouter(prefix="/v1", tags=["classes"])

MOST_WAIT_SECONDS = 60

SourcedId = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]
ClassPath = Annotated[SourcedId, Path(description="the class's sourcedId, percent-encoded")]


class RefreshBody(RequestModel):
    """Of which integration, and for whom."""

    integration_id: UUID
    teacher_sourced_id: SourcedId | None = Field(
        default=None,
        description="the teacher who asks: then the class must be one of theirs; a teacher's own token says it already",
    )
    wait_seconds: float | None = Field(
        default=None,
        ge=0,
        le=MOST_WAIT_SECONDS,
        description="how long to wait for the result; as configured without it",
    )


class Changes(BaseModel):
    """What changed of one collection."""

    added: int
    changed: int
    removed: int


class Refreshed(BaseModel):
    """What came of a refresh."""

    run_id: UUID
    state: State
    code: Code | None
    detail: str | None
    next_step: str | None
    changed: bool
    changes: dict[str, Changes]


class Refreshing(BaseModel):
    """The provider takes longer; the result will be where `Location` says."""

    run_id: UUID
    state: State


_PENDING: dict[int | str, dict[str, Any]] = {
    202: {"model": Refreshing, "description": "The provider takes longer than a request may; see `Location`"}
}


@router.post("/classes/{class_sourced_id:path}/refresh", response_model=Refreshed, responses=_PENDING)
async def refresh_class(
    class_sourced_id: ClassPath,
    body: RefreshBody,
    caller: Refresher,
    data: Data,
    settings: Configuration,
    stop: Stop,
) -> Refreshed | JSONResponse:
    """Read one class again, now, and tell what changed (C2)."""
    refresh = Refresh(
        integration=body.integration_id,
        class_sourced_id=class_sourced_id,
        teacher_sourced_id=own_teacher(caller, body.integration_id, body.teacher_sourced_id),
        by=caller.subject,
    )
    throttle = Throttle(class_every=timedelta(seconds=settings.refresh_class_seconds), hourly=settings.refresh_hourly)
    run_id = await refreshes.start(
        data, seen_by(caller, teachers=True), refresh, throttle=throttle, terms=settings.terms
    )
    seconds = settings.refresh_wait_seconds if body.wait_seconds is None else body.wait_seconds
    row = await refreshes.wait(data, run_id, seconds=seconds, stop=stop)
    return _show(row)


def _show(row: asyncpg.Record) -> Refreshed | JSONResponse:
    run = ledger.read(row)
    if run.active:
        pending = Refreshing(run_id=row["id"], state=run.state)
        return JSONResponse(pending.model_dump(mode="json"), 202, {"Location": f"/v1/runs/{row['id']}"})
    applied = run.state in (State.SUCCEEDED, State.PARTIAL) or (run.hold is not None and not run.hold.everything)
    changes = {
        name: Changes(added=one.added, changed=one.changed, removed=one.removed)
        for name, one in run.collections.items()
        if applied and (one.added or one.changed or one.removed)
    }
    return Refreshed(
        run_id=row["id"],
        state=run.state,
        code=run.code,
        detail=run.detail,
        next_step=run.code.entry.next_step if run.code else None,
        changed=bool(changes),
        changes=changes,
    )
