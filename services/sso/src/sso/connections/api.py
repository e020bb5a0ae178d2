"""`/v1/connections`: a district's ways in (E1, E3)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from homeroom.clock import Clock
from homeroom.codes import Code
from homeroom.problems import Problem
from sso.callers import Cursor, Limit, Reader, Writer, from_cursor, seen_by, to_cursor
from sso.connections.bodies import ChangeApproval, ConnectionBody, ConnectionEdit
from sso.connections.metadata_changes import Change, MetadataChanges
from sso.connections.registry import Connections
from sso.connections.sealing import name_key
from sso.connections.upstreams import Kind
from sso.connections.views import ConnectionPage, ConnectionRead, show_connection
from sso.settings import Settings

router = APIRouter(prefix="/v1/connections", tags=["connections"])

State = Literal["enabled", "disabled", "warned"]


class DifferenceRead(BaseModel):
    """Something that metadata says otherwise than was accepted."""

    field: str = Field(description="entity_id, sso_url, slo_url or certificate", examples=["certificate"])
    accepted: str | None = Field(description="what counts now; a certificate by its SHA-256 fingerprint")
    found: str | None = Field(description="what metadata says")


class MetadataChangeRead(BaseModel):
    """A change of metadata that waits for somebody's word."""

    hash: str = Field(description="to be sent back with the decision")
    found_at: datetime
    differences: list[DifferenceRead]


def _get_connections(request: Request) -> Connections:
    found: Connections = request.app.state.connections
    return found


def _get_changes(request: Request) -> MetadataChanges:
    return MetadataChanges(request.app.state.database)


class Shown:
    """How connections are shown here: with our origin, the present key and the present time."""

    def __init__(self, request: Request) -> None:
        settings: Settings = request.app.state.settings
        clock: Clock = request.app.state.clock
        self.origin = settings.issuer
        self.key_id = name_key(settings.sealing_keys)
        self.now = clock.now()


UseConnections = Annotated[Connections, Depends(_get_connections)]
UseChanges = Annotated[MetadataChanges, Depends(_get_changes)]
HowShown = Annotated[Shown, Depends()]


@router.post("", status_code=201)
async def create_connection(
    body: ConnectionBody, caller: Writer, connections: UseConnections, how: HowShown
) -> ConnectionRead:
    """Connect a district's portal or identity provider; secrets are sealed and never shown again.

    With `application_id` it goes through a portal application, which only the platform settles, for the tenant says
    whose people come in.
    """
    row = await connections.create(body, seen_by(caller), by=caller.subject)
    return show_connection(row, origin=how.origin, key_id=how.key_id, now=how.now)


@router.get("")
async def list_connections(
    caller: Reader,
    connections: UseConnections,
    how: HowShown,
    organization_id: Annotated[UUID | None, Query(description="only this organization's")] = None,
    search: Annotated[
        str, Query(max_length=100, pattern=r"^[^\x00]*$", description="part of the connection's or organization's name")
    ] = "",
    kind: Kind | None = None,
    state: Annotated[State | None, Query(description="`warned`: those with something to look after")] = None,
    application_id: Annotated[UUID | None, Query(description="only through this portal application")] = None,
    tenant: Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="exactly this one")] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> ConnectionPage:
    """Connections in the order they were made, narrowed by what is given."""
    visible = seen_by(caller)
    if organization_id is not None and visible not in (None, organization_id):
        raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no organization {organization_id}.")
    rows = await connections.list(
        visible or organization_id,
        search=search,
        kind=kind,
        state=state,
        application_id=application_id,
        tenant=tenant,
        after=from_cursor(cursor),
        limit=limit + 1,
    )
    items = [show_connection(row, origin=how.origin, key_id=how.key_id, now=how.now) for row in rows[:limit]]
    return ConnectionPage(items=items, cursor=to_cursor(items[-1].id) if len(rows) > limit else None)


@router.get("/{connection_id}")
async def read_connection(
    connection_id: UUID, caller: Reader, connections: UseConnections, how: HowShown
) -> ConnectionRead:
    """One connection, with what to enter at the portal and what to look after."""
    row = await connections.read(connection_id, seen_by(caller))
    return show_connection(row, origin=how.origin, key_id=how.key_id, now=how.now)


@router.patch("/{connection_id}")
async def change_connection(
    connection_id: UUID, body: ConnectionEdit, caller: Writer, connections: UseConnections, how: HowShown
) -> ConnectionRead:
    """Change what is sent. Another issuer, endpoint or client id wants the secret again."""
    row = await connections.change(connection_id, body, seen_by(caller), by=caller.subject)
    return show_connection(row, origin=how.origin, key_id=how.key_id, now=how.now)


@router.delete("/{connection_id}", status_code=204)
async def delete_connection(connection_id: UUID, caller: Writer, connections: UseConnections) -> None:
    """End a connection: nobody comes in by it any more, and its secrets are forgotten. People and rosters stay."""
    await connections.delete(connection_id, seen_by(caller), by=caller.subject)


@router.get("/{connection_id}/metadata-change")
async def read_metadata_change(connection_id: UUID, caller: Reader, changes: UseChanges) -> MetadataChangeRead:
    """What the provider's metadata says now that is not what was accepted; 404 if nothing waits."""
    return _show_change(await changes.read(connection_id, seen_by(caller)))


@router.post("/{connection_id}/metadata-change/approve", status_code=204)
async def approve_metadata_change(
    connection_id: UUID, body: ChangeApproval, caller: Writer, changes: UseChanges
) -> None:
    """Trust what was found from now on, if it still is what was looked at."""
    await changes.approve(connection_id, body.hash, seen_by(caller), by=caller.subject)


@router.post("/{connection_id}/metadata-change/discard", status_code=204)
async def discard_metadata_change(
    connection_id: UUID, body: ChangeApproval, caller: Writer, changes: UseChanges
) -> None:
    """Keep what was accepted; another change of the metadata waits anew."""
    await changes.discard(connection_id, body.hash, seen_by(caller), by=caller.subject)


def _show_change(change: Change) -> MetadataChangeRead:
    differences = [
        DifferenceRead(field=one.field, accepted=one.accepted, found=one.found) for one in change.differences
    ]
    return MetadataChangeRead(hash=change.hash, found_at=change.found_at, differences=differences)
