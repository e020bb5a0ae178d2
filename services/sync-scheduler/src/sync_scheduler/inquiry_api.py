"""The REST face of inquiries: verify an integration, list its schools (C4, C11)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from homeroom.codes import Code
from homeroom.problems import Problem
from sync_scheduler import inquiries, inquiry_views
from sync_scheduler.callers import Asker, Configuration, Data, Reader, Runner, Stop, seen_by
from sync_scheduler.inquiries import Asking
from sync_scheduler.inquiry_views import Inquiry, Pending, Report, Schools

router = APIRouter(prefix="/v1", tags=["inquiries"])

_PENDING: dict[int | str, dict[str, Any]] = {
    202: {"model": Pending, "description": "The provider takes longer than a request may; see `Location`"}
}


@router.post("/integrations/{integration_id}/verify", response_model=Report, responses=_PENDING)
async def verify_integration(
    integration_id: UUID, caller: Runner, data: Data, settings: Configuration, stop: Stop
) -> Report | JSONResponse:
    """Try the connection and look for what is odd, without a run (C11, C13)."""
    row = await inquiries.ask(
        data, integration_id, seen_by(caller), Asking("verify"), wait_seconds=settings.inquiry_wait_seconds, stop=stop
    )
    if row["answered_at"] is None:
        return _point_to(row)
    if row["code"] == Code.INTEGRATION_DELETED:
        raise _refuse(row)
    return inquiry_views.show_report(row)


@router.get("/integrations/{integration_id}/schools", response_model=Schools, responses=_PENDING)
async def list_schools(
    integration_id: UUID, caller: Reader, data: Data, settings: Configuration, stop: Stop, *, refresh: bool = False
) -> Schools | JSONResponse:
    """The schools as the provider names them now, or did at most ten minutes ago (C4)."""
    row = await inquiries.ask(
        data,
        integration_id,
        seen_by(caller),
        Asking("schools", refresh=refresh),
        wait_seconds=settings.inquiry_wait_seconds,
        stop=stop,
    )
    if row["answered_at"] is None:
        return _point_to(row)
    if row["code"] is not None:
        raise _refuse(row)
    return inquiry_views.show_schools(row)


@router.get("/inquiries/{inquiry_id}")
async def read_inquiry(inquiry_id: UUID, caller: Asker, data: Data) -> Inquiry:
    """A question and its answer, for a day."""
    return inquiry_views.show_inquiry(await inquiries.read(data, inquiry_id, seen_by(caller)))


def _point_to(row: asyncpg.Record) -> JSONResponse:
    pending = Pending(inquiry_id=row["id"])
    return JSONResponse(pending.model_dump(mode="json"), 202, {"Location": f"/v1/inquiries/{row['id']}"})


def _refuse(row: asyncpg.Record) -> Problem:
    """A question that could not be answered: the provider's fault, unless the integration is gone."""
    code = Code(row["code"])
    status = 409 if code is Code.INTEGRATION_DELETED else 502
    return Problem(code, status=status, detail=row["detail"] or code.entry.cause, inquiry_id=str(row["id"]))
