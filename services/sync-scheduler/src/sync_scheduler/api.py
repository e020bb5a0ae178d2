"""The REST face: organizations and integrations (contract)."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import StrictBool

from homeroom.codes import Code
from homeroom.problems import Problem
from homeroom.service import RequestModel
from sync_scheduler import tenants, views
from sync_scheduler.callers import NOBODY, Cursor, Data, Limit, Reader, UseCases, Writer, seen_by
from sync_scheduler.integration_bodies import IntegrationBody, IntegrationEdit
from sync_scheduler.ledger import SQL
from sync_scheduler.paging import from_cursor
from sync_scheduler.tenants import OrganizationBody

router = APIRouter(prefix="/v1")


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
    row = await use_cases.create(body, seen_by(caller), by=caller.subject)
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
    return views.show_integration(await use_cases.edit(integration_id, body, seen_by(caller), by=caller.subject))


@router.delete("/integrations/{integration_id}", status_code=204, tags=["integrations"])
async def delete_integration(integration_id: UUID, caller: Writer, use_cases: UseCases) -> None:
    """Stop updates for good; people and classes stay."""
    await use_cases.delete(integration_id, seen_by(caller), by=caller.subject)


@router.post("/integrations/{integration_id}/reset", tags=["integrations"])
async def reset_integration(integration_id: UUID, body: ResetBody, caller: Writer, use_cases: UseCases) -> views.Reset:
    """Forget the last sync date, so that the next sync compares everything; the roster stays as it is (C6)."""
    if not body.confirm:
        raise Problem(Code.CONFIRMATION_REQUIRED, status=422, detail="A reset forgets the last sync date.")
    return views.show_reset(await use_cases.reset(integration_id, seen_by(caller), by=caller.subject))
