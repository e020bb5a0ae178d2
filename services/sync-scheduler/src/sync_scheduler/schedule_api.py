"""The REST face of schedules: pauses, and what became of slots (C1, C10)."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from sync_scheduler import pausing, views
from sync_scheduler.callers import Cursor, Data, Limit, Reader, UseCases, Writer, seen_by
from sync_scheduler.ledger import SQL
from sync_scheduler.paging import from_cursor
from sync_scheduler.pausing import PauseBody

router = APIRouter(prefix="/v1", tags=["schedules"])

NEWEST = 2**63 - 1


@router.post("/integrations/{integration_id}/pause")
async def pause_integration(
    integration_id: UUID, caller: Writer, data: Data, body: PauseBody | None = None
) -> views.Integration:
    """Let no sync start until then, or until somebody resumes; a run that is under way goes on."""
    row = await pausing.pause(data, integration_id, seen_by(caller), body or PauseBody(), by=caller.subject)
    return views.show_integration(row)


@router.post("/integrations/{integration_id}/resume")
async def resume_integration(integration_id: UUID, caller: Writer, data: Data) -> views.Integration:
    """End a pause; syncs that were left out are made up for by one."""
    return views.show_integration(await pausing.resume(data, integration_id, seen_by(caller), by=caller.subject))


@router.get("/integrations/{integration_id}/slots")
async def list_slots(
    integration_id: UUID, caller: Reader, data: Data, use_cases: UseCases, cursor: Cursor = None, limit: Limit = 50
) -> views.Page[views.UsedSlot]:
    """What became of the schedule's slots, newest first: started, skipped or left out, and why."""
    await use_cases.read(integration_id, seen_by(caller))
    rows = await data.fetch(SQL["slots"], integration_id, from_cursor(cursor, start=NEWEST), limit + 1)
    return views.show_page(rows, limit, "id", views.show_slot)
