"""The REST face of decisions: approve or discard what a run holds (C14)."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field, StringConstraints

from homeroom.service import RequestModel
from sync_scheduler import asked_runs, run_views, verdicts
from sync_scheduler.callers import Approver, Configuration, Data, seen_by
from sync_scheduler.verdicts import Verdict

router = APIRouter(prefix="/v1", tags=["runs"])

Plan = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9A-Za-z_.:-]{1,128}$"),
    Field(description="the hash of the plan, as the run shows it; another plan than the one that is held is refused"),
]


class ApproveBody(RequestModel):
    """Approve exactly this plan."""

    plan: Plan
    action: Literal["all", "additions"] = Field(
        default="all", description="`additions` applies everything but the removals, which are thrown away"
    )


class DiscardBody(RequestModel):
    """Throw exactly this plan away."""

    plan: Plan


@router.post("/runs/{run_id}/approve", status_code=202)
async def approve_run(
    run_id: UUID, body: ApproveBody, caller: Approver, data: Data, settings: Configuration
) -> run_views.Run:
    """Let the store apply what a run holds. A plan can be decided once, and only while it is the one that is held."""
    verdict = Verdict(body.plan, "approve" if body.action == "all" else "additions", caller.subject)
    await verdicts.take(data, run_id, seen_by(caller), verdict, patience=settings.terms.deadline)
    return run_views.show_run(await asked_runs.read(data, run_id, seen_by(caller)))


@router.post("/runs/{run_id}/discard", status_code=202)
async def discard_run(
    run_id: UUID, body: DiscardBody, caller: Approver, data: Data, settings: Configuration
) -> run_views.Run:
    """Throw away what a run holds; what was applied of it before stays."""
    verdict = Verdict(body.plan, "discard", caller.subject)
    await verdicts.take(data, run_id, seen_by(caller), verdict, patience=settings.terms.deadline)
    return run_views.show_run(await asked_runs.read(data, run_id, seen_by(caller)))
