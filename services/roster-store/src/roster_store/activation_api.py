"""Classes that wait for their teachers: what a teacher teaches, and starting a class (D2)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field

from homeroom.auth import Caller, own_teacher, require
from homeroom.codes import Code
from homeroom.problems import Problem
from homeroom.roster import MAX_TEXT
from homeroom.service import RequestModel
from roster_store.activation import Taught, list_taught, start_class
from roster_store.sights import Sight, list_product_sights

router = APIRouter(prefix="/v1/roster", tags=["teacher-started classes"])

_INTEGRATION: Final = "0190c3f2-7a10-7c55-9f3d-2b6a8c1e4d01"
_PRODUCT: Final = "0190c3f2-91aa-7d0e-8f55-0c4d3e2f1a09"
_TEXT: Final = r"^[^\x00]+$"

Starter = Annotated[Caller, Depends(require("classes.start", products=True, teachers=True))]
SourcedId = Annotated[str, Path(min_length=1, max_length=MAX_TEXT, pattern=_TEXT, examples=["class-77"])]


class StartRequest(RequestModel):
    """Who starts a class, and where."""

    teacher_sourced_id: str = Field(
        min_length=1,
        max_length=MAX_TEXT,
        pattern=_TEXT,
        description="one of the class's teachers, in whose name it is started; they count as having come in",
        examples=["teacher-12"],
    )
    integration_id: UUID | None = Field(
        default=None, description="needed where several have a class with this sourcedId", examples=[_INTEGRATION]
    )
    product_id: UUID | None = Field(
        default=None, description="whose class it is; needed unless the token is a product's", examples=[_PRODUCT]
    )


class StartedClass(BaseModel):
    """A class that is started; the answer is the same whoever starts it again."""

    integration_id: UUID = Field(examples=[_INTEGRATION])
    sourced_id: str = Field(examples=["class-77"])
    title: str = Field(examples=["Maths 5b"])
    started_at: datetime = Field(examples=["2026-11-20T08:05:00Z"])
    started_by: str = Field(description="the teacher who started it first", examples=["teacher-12"])


class TaughtClass(BaseModel):
    """A class of a teacher. Who else is in it is not told while it waits."""

    integration_id: UUID = Field(examples=[_INTEGRATION])
    sourced_id: str = Field(examples=["class-77"])
    title: str = Field(examples=["Maths 5b"])
    class_code: str | None = Field(examples=["M-5B"])
    location: str | None = Field(examples=["Room 12"])
    school_sourced_id: str = Field(examples=["school-3"])
    course_sourced_id: str | None = Field(examples=["course-5"])
    term_sourced_ids: list[str] = Field(examples=[["term-2026-1"]])
    grades: list[str] | None = Field(description="null where the license does not grant them", examples=[["05"]])
    subjects: list[str] = Field(examples=[["Mathematics"]])
    periods: list[str] = Field(examples=[["3"]])
    primary: bool | None = Field(description="whether this is its first teacher", examples=[True])
    state: Literal["dormant", "started"] = Field(examples=["started"])
    started_at: datetime | None = Field(examples=["2026-11-20T08:05:00Z"])
    started_by: str | None = Field(examples=["teacher-12"])


class TaughtClasses(BaseModel):
    """What a teacher may start."""

    classes: list[TaughtClass]


@router.post("/classes/{sourced_id}/start")
async def start(
    request: Request,
    caller: Starter,
    sourced_id: SourcedId,
    body: StartRequest,
) -> StartedClass:
    """Start a class that waits for its teachers: from now on the product sees it, and who of it comes in."""
    own_teacher(caller, body.integration_id, body.teacher_sourced_id)
    sights = await _list_sights(request, caller, body.product_id, body.integration_id)
    state = request.app.state
    started = await start_class(state.database, state.rosters, sights, sourced_id, body.teacher_sourced_id)
    return StartedClass(
        integration_id=started.integration_id,
        sourced_id=started.sourced_id,
        title=started.title,
        started_at=started.at,
        started_by=started.by,
    )


@router.get("/teachers/{sourced_id}/classes")
async def list_classes_of_teacher(
    request: Request,
    caller: Starter,
    sourced_id: Annotated[str, Path(min_length=1, max_length=MAX_TEXT, pattern=_TEXT, examples=["teacher-12"])],
    integration: UUID | None = None,
    product: Annotated[UUID | None, Query(description="needed unless the token is a product's")] = None,
) -> TaughtClasses:
    """The classes a teacher may start, and those that are: to choose from. Nobody else's and nothing about students."""
    own_teacher(caller, integration, sourced_id)
    sights = await _list_sights(request, caller, product, integration)
    if sights and not any(sight.teacher_started for sight in sights):
        raise Problem(Code.CLASSES_AUTOMATIC, status=409, detail="The product's classes don't wait for their teachers.")
    state = request.app.state
    waiting = [sight for sight in sights if sight.teacher_started]
    return TaughtClasses(
        classes=[
            _show(taught, grades="grades" in sight.grants)
            for sight in waiting
            for taught in await list_taught(state.database, state.rosters, [sight], sourced_id)
        ]
    )


def _show(taught: Taught, *, grades: bool) -> TaughtClass:
    row = taught.row
    return TaughtClass(
        integration_id=taught.integration_id,
        sourced_id=row["sourced_id"],
        title=row["title"],
        class_code=row["class_code"],
        location=row["location"],
        school_sourced_id=row["school_sourced_id"],
        course_sourced_id=row["course_sourced_id"],
        term_sourced_ids=row["term_sourced_ids"],
        grades=row["grades"] if grades else None,
        subjects=row["subjects"],
        periods=row["periods"],
        primary=row["primary"],
        state="dormant" if taught.started_at is None else "started",
        started_at=taught.started_at,
        started_by=taught.started_by,
    )


async def _list_sights(request: Request, caller: Caller, product: UUID | None, integration: UUID | None) -> list[Sight]:
    """What a product is licensed for, as far as the caller may speak for it; a teacher in their own roster only.

    Raises `Problem` REQUEST_INVALID where nobody says which product is meant, or two say it.
    """
    organization: UUID | None = None
    try:
        integration = integration if caller.teacher is None else UUID(caller.teacher[0])
        own = None if caller.product_id is None else UUID(caller.product_id)
        organization = None if caller.organization_id is None else UUID(caller.organization_id)
    except ValueError:
        return []
    if own is not None and product not in (None, own):
        return []
    wanted = own or product
    if wanted is None:
        raise Problem(Code.REQUEST_INVALID, status=422, detail="Say which product is meant.")
    sights = await list_product_sights(request.app.state.database, wanted, organization=organization)
    return [sight for sight in sights if integration in (None, sight.integration_id)]
