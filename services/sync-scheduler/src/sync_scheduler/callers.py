"""Who calls, what they may see, and what handlers work with."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query, Request

from homeroom.auth import Caller, require
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.problems import Problem
from sync_scheduler.credential_links import Links
from sync_scheduler.integrations import Integrations
from sync_scheduler.settings import ApiSettings

NOBODY = UUID(int=0)

Reader = Annotated[Caller, Depends(require("integrations.read"))]
Writer = Annotated[Caller, Depends(require("integrations.write"))]
Runner = Annotated[Caller, Depends(require("runs.write"))]
Approver = Annotated[Caller, Depends(require("runs.approve"))]
Refresher = Annotated[Caller, Depends(require("classes.refresh", teachers=True))]
"""Whoever may have a class refreshed; teachers their own."""
Anyone = Annotated[Caller, Depends(require())]
"""Whoever has a token that is no product's; the route decides what else it takes."""
Cursor = Annotated[str | None, Query(description="from an earlier answer; none starts at the beginning")]
Limit = Annotated[int, Query(ge=1, le=500)]


async def _check_asker(caller: Anyone) -> Caller:
    if not caller.scopes & {"integrations.read", "runs.write"}:
        detail = "The token lacks the scope integrations.read, or runs.write."
        raise Problem(Code.SCOPE_MISSING, status=403, detail=detail)
    return caller


Asker = Annotated[Caller, Depends(_check_asker)]
"""Whoever may ask one of the questions may read answers."""


async def _check_licensor(caller: Annotated[Caller, Depends(require("licenses.write"))]) -> Caller:
    if caller.organization_id is not None:
        detail = "Products and licenses are given by a token that is not bound to an organization."
        raise Problem(Code.SCOPE_MISSING, status=403, detail=detail)
    return caller


Licensor = Annotated[Caller, Depends(_check_licensor)]
"""Nobody licenses themselves."""


def _get_database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def _get_integrations(request: Request) -> Integrations:
    found: Integrations = request.app.state.integrations
    return found


def _get_links(request: Request) -> Links:
    found: Links = request.app.state.links
    return found


def _get_settings(request: Request) -> ApiSettings:
    settings: ApiSettings = request.app.state.settings
    return settings


def _get_stop(request: Request) -> asyncio.Event:
    stop: asyncio.Event = request.app.state.stop
    return stop


Data = Annotated[Database, Depends(_get_database)]
UseCases = Annotated[Integrations, Depends(_get_integrations)]
UseLinks = Annotated[Links, Depends(_get_links)]
Configuration = Annotated[ApiSettings, Depends(_get_settings)]
Stop = Annotated[asyncio.Event, Depends(_get_stop)]
"""Set when the process is asked to end."""


def seen_by(caller: Caller, *, teachers: bool = False) -> UUID | None:
    """The one organization a caller may see; None for all. A product sees none here, whatever its token is bound to.

    Nor does a teacher, unless `teachers` says that the route sees to it that they see their own classes only.
    """
    if caller.product_id is not None or (caller.teacher is not None and not teachers):
        return NOBODY
    if caller.organization_id is None:
        return None
    try:
        return UUID(caller.organization_id)
    except ValueError:
        return NOBODY
