"""`/v1/roster`: people, classes and search, for what OneRoster has no word for (F1).

Everything is read through the caller's sight: a product gets what it is licensed for and nothing else. Sourced ids are
a district's own; where several integrations have the same one, `integration` says which is meant.
"""

from __future__ import annotations

from datetime import UTC, date
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field

from homeroom.auth import Caller, require
from homeroom.clock import SystemClock
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.problems import Problem
from homeroom.service import RequestModel
from roster_store import classrooms, persons, search
from roster_store.classrooms import Classroom, Member, WholeClassroom
from roster_store.persons import Person, WholePerson
from roster_store.places import PageCursor, check_text, find_owner, find_sights
from roster_store.search import Found, Kind, Match
from roster_store.sights import Rosters

router = APIRouter(prefix="/v1/roster", tags=["roster"])

MAX_LIMIT: Final = 500
DEFAULT_LIMIT: Final = 100

Reader = Annotated[Caller, Depends(require("roster.read", products=True))]
SourcedId = Annotated[str, Path(min_length=1, max_length=2_000)]
Text = Annotated[str | None, Query(min_length=1, max_length=2_000)]
Integration = Annotated[UUID | None, Query(description="only this integration; needed where several have the id")]
Organization = Annotated[UUID | None, Query(description="only its integrations")]
Cursor = Annotated[str | None, Query(max_length=12_000, description="from the page before; none begins")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
Day = Annotated[
    date | None,
    Query(
        alias="date",
        description="the day what is current is judged by; today in UTC if left out. Rosters have no time zone: send "
        "the school's own day where that matters. Begin dates are inclusive, end dates exclusive.",
    ),
]


class People(BaseModel):
    """A page of people."""

    people: list[Person]
    cursor: str | None = Field(description="for the next page; null on the last one")


class Classrooms(BaseModel):
    """A page of classes."""

    classes: list[Classroom]
    cursor: str | None = Field(description="for the next page; null on the last one")


class Members(BaseModel):
    """A page of the people in a class."""

    people: list[Member]
    cursor: str | None = Field(description="for the next page; null on the last one")


class SearchRequest(RequestModel):
    """What is looked for. It stands in the body: paths and queries are logged on their way, and this is personal."""

    q: str = Field(
        min_length=2,
        max_length=100,
        description="the beginning of a name, identifier or e-mail address, or words of a name; "
        "accents and capitals make no difference",
        examples=["berg na"],
    )
    kinds: list[Kind] = Field(default=["person", "class", "school"], min_length=1, max_length=3)
    integration: UUID | None = None
    organization: UUID | None = None
    limit: int = Field(default=20, ge=1, le=50)


class SearchResult(BaseModel):
    """A record that was found."""

    kind: Kind
    match: Match
    integration_id: UUID
    sourced_id: str
    name: str = Field(examples=["Nadia Berg"])
    detail: dict[str, Any] = Field(
        description="what tells it from others of the name: of people roles, grades, email, username, identifier; of "
        "classes code, school and grades; of schools the identifier. Only what the token may see.",
        examples=[{"roles": ["teacher"], "email": "nadia.berg@north.example"}],
    )


class SearchResults(BaseModel):
    """What was found, the best first."""

    results: list[SearchResult]
    behind: bool = Field(description="whether the newest sync is still being taken in, so that some may be missing")


# ── people ────────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/people")
async def list_people(
    request: Request,
    caller: Reader,
    role: Text = None,
    school: Text = None,
    class_: Annotated[str | None, Query(alias="class", min_length=1, max_length=2_000)] = None,
    grade: Text = None,
    active: Annotated[bool, Query(description="false for those who are gone")] = True,
    integration: Integration = None,
    organization: Organization = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> People:
    """People page by page; with `role` and `school` those who have that role at that school."""
    check_text(role, school, class_, grade)
    after = PageCursor.read(cursor)
    sights = await find_sights(request.app.state.database, caller, organization, integration)
    narrowing = persons.Narrowing(role, school, class_, grade, active)
    found, more = await persons.list_persons(request.app.state.rosters, sights, narrowing, after, limit)
    return People(people=found, cursor=None if more is None else more.render())


@router.get("/people/{sourced_id}")
async def read_person(
    request: Request,
    sourced_id: SourcedId,
    caller: Reader,
    include: Annotated[list[Literal["demographics"]] | None, Query()] = None,
    day: Day = None,
    integration: Integration = None,
    organization: Organization = None,
) -> WholePerson:
    """Somebody with roles, schools, classes, guardians and students, as far as the token may see them."""
    database, rosters = _parts(request)
    sights = await find_sights(database, caller, organization, integration)
    sight = await find_owner(rosters, sights, "users", sourced_id)
    told = "demographics" in (include or ())
    if told and "demographics" not in sight.grants:
        raise Problem(
            Code.SCOPE_MISSING,
            status=403,
            detail="Demographics need the scope demographics.read, and for a product a license that grants them.",
        )
    person = await persons.read_person(rosters, sight, sourced_id, _today(day), demographics=told)
    if person is None:
        raise Problem(Code.NOT_FOUND, status=404, detail="There is no such person.")
    return person


# ── classes ───────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/classes")
async def list_classes(
    request: Request,
    caller: Reader,
    school: Text = None,
    term: Text = None,
    teacher: Annotated[str | None, Query(min_length=1, max_length=2_000, description="who teaches it")] = None,
    student: Annotated[str | None, Query(min_length=1, max_length=2_000, description="who learns in it")] = None,
    current: Annotated[bool, Query(description="only what is current on the day, by terms and enrollments")] = False,
    day: Day = None,
    integration: Integration = None,
    organization: Organization = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Classrooms:
    """Classes page by page: of a school or term, and who teaches or learns what, now or at all."""
    check_text(school, term, teacher, student)
    after = PageCursor.read(cursor)
    database, rosters = _parts(request)
    sights = await find_sights(database, caller, organization, integration)
    narrowing = classrooms.Narrowing(school, term, teacher, student, current)
    found, more = await classrooms.list_classrooms(rosters, sights, narrowing, _today(day), after, limit)
    return Classrooms(classes=found, cursor=None if more is None else more.render())


@router.get("/classes/{sourced_id}")
async def read_class(
    request: Request,
    sourced_id: SourcedId,
    caller: Reader,
    day: Day = None,
    integration: Integration = None,
    organization: Organization = None,
) -> WholeClassroom:
    """A class with its teachers (the primary one first), course, terms, and how many students it has."""
    database, rosters = _parts(request)
    sights = await find_sights(database, caller, organization, integration)
    sight = await find_owner(rosters, sights, "classes", sourced_id)
    found = await classrooms.read_classroom(rosters, sight, sourced_id, _today(day))
    if found is None:
        raise Problem(Code.NOT_FOUND, status=404, detail="There is no such class.")
    return found


@router.get("/classes/{sourced_id}/people")
async def list_class_people(
    request: Request,
    sourced_id: SourcedId,
    caller: Reader,
    role: Text = None,
    integration: Integration = None,
    organization: Organization = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Members:
    """Who is in a class, page by page, with their role in it."""
    check_text(role)
    after = PageCursor.read(cursor)
    database, rosters = _parts(request)
    sights = await find_sights(database, caller, organization, integration)
    sight = await find_owner(rosters, sights, "classes", sourced_id)
    found, more = await classrooms.list_members(rosters, sight, sourced_id, role, after.sourced_id, limit)
    return Members(people=found, cursor=None if more is None else more.render())


# ── search ────────────────────────────────────────────────────────────────────────────────────────────────────────


@router.post("/search")
async def search_roster(request: Request, body: SearchRequest, caller: Reader) -> SearchResults:
    """People, classes and schools by the beginning of a name, identifier or address, or by words of a name.

    Exact matches come first, then beginnings, then names that hold all the words. All words must be in one field.
    Somebody is found only by fields the token may see: by e-mail only with contacts.
    """
    check_text(body.q)
    database, rosters = _parts(request)
    sights = await find_sights(database, caller, body.organization, body.integration)
    question = await search.fold_question(database, body.q)
    if not question.is_long_enough:
        raise Problem(Code.REQUEST_INVALID, status=422, detail="Not accepted: body.q has too few letters or digits.")
    found = await search.find(rosters, sights, question, body.kinds, body.limit)
    return SearchResults(results=list(map(_tell, found)), behind=await search.is_behind(database, sights))


def _tell(found: Found) -> SearchResult:
    row = found.row
    detail: dict[str, Any]
    match found.kind:
        case "person":
            first = row["preferred_first_name"] or row["given_name"]
            name = f"{first} {row['preferred_last_name'] or row['family_name']}".strip()
            detail = {"roles": sorted({role["role"] for role in row["roles"]})}
            detail |= {key: row[key] for key in ("grades", "email", "username", "identifier")}
        case "class":
            name = row["title"]
            detail = {key: row[key] for key in ("class_code", "school_sourced_id", "grades")}
        case "school":
            name, detail = row["name"], {"identifier": row["identifier"]}
    return SearchResult(
        kind=found.kind,
        match=found.match,
        integration_id=found.sight.integration_id,
        sourced_id=row["sourced_id"],
        name=name,
        detail={key: value for key, value in detail.items() if value},
    )


def _parts(request: Request) -> tuple[Database, Rosters]:
    return request.app.state.database, request.app.state.rosters


def _today(day: date | None) -> date:
    return day or SystemClock().now().astimezone(UTC).date()
