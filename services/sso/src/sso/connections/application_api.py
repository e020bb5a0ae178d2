"""`/v1/portal-applications`: applications at portals that serve many districts; for the platform alone."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from sso.callers import Cursor, Limit, PlatformReader, PlatformWriter, from_cursor, to_cursor
from sso.connections.api import HowShown
from sso.connections.applications import Applications
from sso.connections.bodies import ApplicationBody, ApplicationEdit, SharedKind
from sso.connections.views import ApplicationPage, ApplicationRead, show_application

router = APIRouter(prefix="/v1/portal-applications", tags=["connections"])


def _get_applications(request: Request) -> Applications:
    found: Applications = request.app.state.applications
    return found


UseApplications = Annotated[Applications, Depends(_get_applications)]


@router.post("", status_code=201)
async def create_portal_application(
    body: ApplicationBody, caller: PlatformWriter, applications: UseApplications, how: HowShown
) -> ApplicationRead:
    """Enter an application at a portal; its secret is sealed and never shown again."""
    row = await applications.create(body, by=caller.subject)
    return show_application(row, origin=how.origin, key_id=how.key_id, now=how.now)


@router.get("")
async def list_portal_applications(
    caller: PlatformReader,  # noqa: ARG001 - who may call is all it says
    applications: UseApplications,
    how: HowShown,
    search: Annotated[str, Query(max_length=100, pattern=r"^[^\x00]*$", description="part of the name")] = "",
    kind: SharedKind | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> ApplicationPage:
    """Portal applications in the order they were made."""
    rows = await applications.list(search, kind, from_cursor(cursor), limit + 1)
    items = [show_application(row, origin=how.origin, key_id=how.key_id, now=how.now) for row in rows[:limit]]
    return ApplicationPage(items=items, cursor=to_cursor(items[-1].id) if len(rows) > limit else None)


@router.get("/{application_id}")
async def read_portal_application(
    application_id: UUID,
    caller: PlatformReader,  # noqa: ARG001 - who may call is all it says
    applications: UseApplications,
    how: HowShown,
) -> ApplicationRead:
    """One portal application, with what to enter at the portal."""
    row = await applications.read(application_id)
    return show_application(row, origin=how.origin, key_id=how.key_id, now=how.now)


@router.patch("/{application_id}")
async def change_portal_application(
    application_id: UUID, body: ApplicationEdit, caller: PlatformWriter, applications: UseApplications, how: HowShown
) -> ApplicationRead:
    """Change what is sent. Another issuer, endpoint or client id wants the secret again."""
    row = await applications.change(application_id, body, by=caller.subject)
    return show_application(row, origin=how.origin, key_id=how.key_id, now=how.now)


@router.delete("/{application_id}", status_code=204)
async def delete_portal_application(
    application_id: UUID, caller: PlatformWriter, applications: UseApplications
) -> None:
    """End an application that no connection goes through."""
    await applications.delete(application_id, by=caller.subject)
