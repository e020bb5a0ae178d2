"""`/v1/launches`: what became of launches, for whoever is asked why somebody can't come in; and how they go in all."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field

from homeroom.auth import Caller, require
from homeroom.codes import CATALOGUE, Code
from homeroom.db import Database
from homeroom.problems import Problem
from sso.callers import Cursor, Limit, from_cursor, seen_by, to_cursor
from sso.connections.upstreams import Kind
from sso.launch.traces import Purpose, read_support_id
from sso.statements import SQL

router = APIRouter(prefix="/v1", tags=["launches"])

_NEWEST: Final = UUID(int=2**128 - 1)
_COUNT: Final = SQL["count_launches"].format(outcome=SQL["outcome_of_launch"])
_EXAMPLE: Final[dict[str, Any]] = {
    "support_id": "HR-7K3M-92QX",
    "purpose": "launch",
    "kind": "classlink",
    "state": "refused",
    "reason": {
        "code": str(Code.SIGNIN_NOT_ROSTERED),
        "title": Code.SIGNIN_NOT_ROSTERED.entry.title,
        "cause": Code.SIGNIN_NOT_ROSTERED.entry.cause,
        "next_step": Code.SIGNIN_NOT_ROSTERED.entry.next_step,
        "who": Code.SIGNIN_NOT_ROSTERED.entry.who,
        "why": "not in the roster",
    },
    "began_at": "2026-09-01T06:12:03Z",
    "ended_at": "2026-09-01T06:12:05Z",
    "upstream_id": "0193a7a0-5a3e-7000-8000-0000000000c1",
    "connection_id": "0193a7a0-5a3e-7000-8000-0000000000c2",
    "organization_id": "0193a7a0-5a3e-7000-8000-000000000001",
    "integration_id": None,
    "sourced_id": None,
    "product_id": "0193a7a0-5a3e-7000-8000-0000000000b1",
}
_STEPS: Final[list[Any]] = [
    {"at": "2026-09-01T06:12:03.120+00:00", "what": "sent to the portal", "purpose": "launch"},
    {"at": "2026-09-01T06:12:05.004+00:00", "what": "refused", "why": "not in the roster"},
]

State = Literal["begun", "signed-in", "completed", "refused", "abandoned"]
Reader = Annotated[Caller, Depends(require("launches.read"))]


class Reason(BaseModel):
    """Why a launch was refused, in the words the person saw, and a finer one of ours."""

    code: str
    title: str
    cause: str
    next_step: str
    who: str = Field(description="who can do something about it")
    why: str | None = Field(description="what exactly did not fit")


class LaunchRead(BaseModel):
    """A launch; nothing here names anybody but `sourced_id`, which is known once the roster knew them."""

    support_id: str
    purpose: Purpose
    kind: Kind | None = Field(description="of the portal or identity provider; null where none was reached")
    state: State = Field(description="`abandoned`: nobody came back within a quarter of an hour")
    reason: Reason | None
    began_at: datetime
    ended_at: datetime | None
    upstream_id: UUID | None
    connection_id: UUID | None
    organization_id: UUID | None
    integration_id: UUID | None
    sourced_id: str | None
    product_id: UUID | None

    model_config = {"json_schema_extra": {"examples": [_EXAMPLE]}}


class WholeLaunch(LaunchRead):
    """A launch with its steps, oldest first."""

    steps: list[dict[str, Any]] = Field(
        description="`at`, `what`, and ids, codes and numbers beside it. With SIGNIN_AMBIGUOUS `sourced_id` is whom "
        "the portal's user is tied to, and a step's `leads_to` whom the portal's key leads to now"
    )

    model_config = {"json_schema_extra": {"examples": [{**_EXAMPLE, "steps": _STEPS}]}}


class LaunchPage(BaseModel):
    """Some launches, newest first, and the cursor of those before."""

    items: list[LaunchRead]
    cursor: str | None = Field(description="send it to get those that follow; null at the end")


class DayCount(BaseModel):
    """What became of a day's launches."""

    day: date = Field(description="in UTC")
    launches: int = Field(description="that ended")
    completed: int
    outcomes: dict[str, int] = Field(
        description="by `completed`, `abandoned` or the code of a refusal",
        examples=[{"completed": 310, "abandoned": 2, str(Code.SIGNIN_NOT_ROSTERED): 1}],
    )


class Statistics(BaseModel):
    """How a connection's launches went; trials and what is still under way are not counted."""

    connection_id: UUID
    launches: int
    completed: int
    availability: float | None = Field(
        description="the share of launches that were completed; null without any", examples=[0.991]
    )
    days: list[DayCount] = Field(description="oldest first; days without launches are left out")


@router.get("/launches")
async def list_launches(
    request: Request,
    caller: Reader,
    connection: Annotated[UUID | None, Query(description="only by this connection")] = None,
    organization: Annotated[UUID | None, Query(description="only this organization's")] = None,
    product: Annotated[UUID | None, Query(description="only to this product")] = None,
    code: Annotated[Code | None, Query(description="only refused with this code")] = None,
    state: State | None = None,
    began_from: Annotated[datetime | None, Query(description="only those that began then or later")] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> LaunchPage:
    """Launches of the last weeks, newest first, narrowed by what is given."""
    visible = seen_by(caller)
    if organization is not None and visible not in (None, organization):
        raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no organization {organization}.")
    database: Database = request.app.state.database
    rows = await database.fetch(
        SQL["list_launches"],
        _NEWEST if cursor is None else from_cursor(cursor),
        visible or organization,
        connection,
        product,
        None if code is None else str(code),
        state,
        None if began_from is None else first_id(began_from),
        limit + 1,
    )
    page = rows[:limit]
    return LaunchPage(
        items=[LaunchRead(**_show(row)) for row in page],
        cursor=to_cursor(page[-1]["id"]) if len(rows) > limit else None,
    )


@router.get("/launches/{support_id}")
async def read_launch(
    request: Request,
    caller: Reader,
    support_id: Annotated[
        str, Path(max_length=100, description="as it was read out: case, spaces, dashes, O and 0 don't matter")
    ],
) -> WholeLaunch:
    """One launch by the support id on the page, step by step."""
    database: Database = request.app.state.database
    plain = read_support_id(support_id)
    row = None if plain is None else await database.fetchrow(SQL["find_launch"], plain, seen_by(caller))
    if row is None:
        raise Problem(Code.NOT_FOUND, status=404, detail="There is no launch with this support id, or not any more.")
    return WholeLaunch(**_show(row), steps=row["steps"])


@router.get("/connections/{connection_id}/statistics")
async def read_statistics(
    request: Request,
    caller: Reader,
    connection_id: UUID,
    days: Annotated[int, Query(ge=1, le=400, description="how many, today included")] = 30,
) -> Statistics:
    """How many launches by a connection were completed, and what became of the others, day by day."""
    database: Database = request.app.state.database
    if await database.fetchval(SQL["find_connection_of"], connection_id, seen_by(caller)) is None:
        raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no connection {connection_id}.")
    since = await database.fetchval(SQL["find_uncounted_day"])
    rows = await database.fetch(_COUNT, connection_id, days, since, first_id(since))
    counted: dict[date, dict[str, int]] = {}
    for row in rows:
        counted.setdefault(row["day"], {})[row["outcome"]] = row["launches"]
    told = [
        DayCount(day=day, launches=sum(some.values()), completed=some.get("completed", 0), outcomes=some)
        for day, some in counted.items()
    ]
    launches, completed = sum(one.launches for one in told), sum(one.completed for one in told)
    return Statistics(
        connection_id=connection_id,
        launches=launches,
        completed=completed,
        availability=completed / launches if launches else None,
        days=told,
    )


def first_id(at: datetime) -> UUID:
    """The least id that is made at a moment or later (`homeroom.ids`)."""
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return UUID(int=max(0, min(int(at.timestamp() * 1000), 2**48 - 1)) << 80)


def _show(row: asyncpg.Record) -> dict[str, Any]:
    return {name: row[name] for name in LaunchRead.model_fields if name != "reason"} | {"reason": _explain(row)}


def _explain(row: asyncpg.Record) -> Reason | None:
    """Why it was refused; codes of an older version have no words any more."""
    if row["state"] != "refused" or row["code"] not in CATALOGUE:
        return None
    entry = Code(row["code"]).entry
    whys = [step["why"] for step in row["steps"] if step.get("what") == "refused" and step.get("why")]
    return Reason(
        code=row["code"],
        title=entry.title,
        cause=entry.cause,
        next_step=entry.next_step,
        who=entry.who,
        why=whys[0] if whys else None,
    )
