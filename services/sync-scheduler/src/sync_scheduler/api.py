"""The REST face: organizations, integrations and their runs (contract)."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import StrictBool

from homeroom.codes import Code
from homeroom.faultpoints import faultpoint
from homeroom.problems import Problem
from homeroom.service import RequestModel
from sync_scheduler import asked_runs, integrations, tenants, views
from sync_scheduler.callers import NOBODY, Configuration, Cursor, Data, Limit, Reader, Runner, UseCases, Writer, seen_by
from sync_scheduler.integrations import IntegrationBody, IntegrationEdit
from sync_scheduler.ledger import SQL
from sync_scheduler.paging import from_cursor
from sync_scheduler.tenants import OrganizationBody

router = APIRouter(prefix="/v1")

NEWEST = 2**63 - 1


class RunBody(RequestModel):
    """What kind of run; `auto` reads as little as the provider allows."""

    mode: Literal["auto", "full"] = "auto"
    evaluate: StrictBool = False


class ResetBody(RequestModel):
    """A reset is confirmed in so many words."""

    confirm: StrictBool = False


# ── organizations ─────────────────────────────────────────────────────────────────────────────────────────────────


@router.post("/organizations", status_code=201, tags=["organizations"])
async def create_organization(body: OrganizationBody, caller: Writer, data: Data) -> views.Organization:
    """Add a district."""
    if caller.organization_id is not None:
        detail = "Creating organizations takes a token that is not bound to one."
        raise Problem(Code.SCOPE_MISSING, status=403, detail=detail)
    return views.show_organization(await tenants.create(data, body))


@router.get("/organizations", tags=["organizations"])
async def list_organizations(
    caller: Reader, data: Data, cursor: Cursor = None, limit: Limit = 100
) -> views.Page[views.Organization]:
    """Districts, oldest first."""
    after = from_cursor(cursor, start=0)
    rows = await data.fetch(SQL["organizations"], seen_by(caller), after, limit + 1)
    return views.show_page(rows, limit, "position", views.show_organization)


@router.get("/organizations/{organization_id}", tags=["organizations"])
async def read_organization(organization_id: UUID, caller: Reader, data: Data) -> views.Organization:
    """One district."""
    return views.show_organization(await tenants.read(data, organization_id, seen_by(caller)))


# ── integrations ──────────────────────────────────────────────────────────────────────────────────────────────────


@router.post("/integrations", status_code=201, tags=["integrations"])
async def create_integration(
    body: IntegrationBody, caller: Writer, use_cases: UseCases, response: Response
) -> views.Integration:
    """Add a district's way to its provider."""
    row = await use_cases.create(body, seen_by(caller))
    response.headers["Location"] = f"/v1/integrations/{row['id']}"
    return views.show_integration(row)


@router.get("/integrations", tags=["integrations"])
async def list_integrations(
    caller: Reader, data: Data, organization_id: UUID | None = None, cursor: Cursor = None, limit: Limit = 100
) -> views.Page[views.Integration]:
    """Integrations, oldest first."""
    seen = seen_by(caller)
    if seen is not None and organization_id not in (None, seen):
        seen = NOBODY
    rows = await data.fetch(SQL["integrations"], seen or organization_id, from_cursor(cursor, start=0), limit + 1)
    return views.show_page(rows, limit, "position", views.show_integration)


@router.get("/integrations/{integration_id}", tags=["integrations"])
async def read_integration(integration_id: UUID, caller: Reader, use_cases: UseCases) -> views.Integration:
    """One integration; the secret never comes back."""
    return views.show_integration(await use_cases.read(integration_id, seen_by(caller)))


@router.patch("/integrations/{integration_id}", tags=["integrations"])
async def edit_integration(
    integration_id: UUID, body: IntegrationEdit, caller: Writer, use_cases: UseCases
) -> views.Integration:
    """Change what is sent; another endpoint, client id or way to sign in takes the secrets again, all of them."""
    return views.show_integration(await use_cases.edit(integration_id, body, seen_by(caller)))


@router.delete("/integrations/{integration_id}", status_code=204, tags=["integrations"])
async def delete_integration(integration_id: UUID, caller: Writer, use_cases: UseCases) -> None:
    """Stop updates for good; people and classes stay."""
    await use_cases.delete(integration_id, seen_by(caller))


@router.post("/integrations/{integration_id}/reset", tags=["integrations"])
async def reset_integration(
    integration_id: UUID, body: ResetBody, caller: Writer, use_cases: UseCases
) -> views.Integration:
    """Forget the last sync date."""
    if not body.confirm:
        raise Problem(Code.CONFIRMATION_REQUIRED, status=422, detail="A reset forgets the last sync date.")
    return views.show_integration(await use_cases.reset(integration_id, seen_by(caller)))


# ── runs ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@router.post("/integrations/{integration_id}/runs", status_code=202, tags=["runs"])
async def start_run(
    integration_id: UUID,
    caller: Runner,
    data: Data,
    settings: Configuration,
    response: Response,
    body: RunBody | None = None,
) -> views.RunAccepted:
    """Run now (C2)."""
    asked = body or RunBody()
    if asked.evaluate:
        raise integrations.refuse_field("evaluate", "evaluations are not offered yet; leave it at false")
    run_id = await asked_runs.start(
        data,
        integration_id,
        seen_by(caller),
        mode=asked.mode,
        created_by=caller.subject,
        terms=settings.terms,
    )
    faultpoint("scheduler.run-created")
    response.headers["Location"] = f"/v1/runs/{run_id}"
    return views.RunAccepted(run_id=run_id)


@router.get("/integrations/{integration_id}/runs", tags=["runs"])
async def list_runs(
    integration_id: UUID, caller: Reader, data: Data, use_cases: UseCases, cursor: Cursor = None, limit: Limit = 50
) -> views.Page[views.Run]:
    """An integration's runs, newest first."""
    await use_cases.read(integration_id, seen_by(caller))
    rows = await data.fetch(SQL["runs"], integration_id, from_cursor(cursor, start=NEWEST), limit + 1)
    return views.show_page(rows, limit, "number", views.show_run)


@router.get("/runs/{run_id}", tags=["runs"])
async def read_run(run_id: UUID, caller: Reader, data: Data) -> views.Run:
    """One run: where it stands, or what came of it (C5)."""
    return views.show_run(await asked_runs.read(data, run_id, seen_by(caller)))


@router.get("/runs/{run_id}/log", tags=["runs"])
async def read_log(run_id: UUID, caller: Reader, data: Data) -> views.RunLog:
    """A run's story, and the records that were not taken as they came."""
    row = await asked_runs.read(data, run_id, seen_by(caller))
    return views.show_log(row, await data.fetch(SQL["entries"], run_id))


@router.post("/runs/{run_id}/cancel", status_code=202, tags=["runs"])
async def cancel_run(run_id: UUID, caller: Runner, data: Data) -> views.Run:
    """Stop a run; one that has ended stays as it is."""
    return views.show_run(await asked_runs.cancel(data, run_id, seen_by(caller)))
