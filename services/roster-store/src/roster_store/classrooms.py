"""Classes as Homeroom's own REST shows them: who teaches them, who is in them, and which are current."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Final, Literal
from uuid import UUID

import asyncpg
import msgspec
from pydantic import BaseModel, Field

from homeroom.db import Connection
from roster_store.persons import (
    PERSON_FIELDS,
    READ_SECONDS,
    OrgName,
    Person,
    PersonName,
    columns,
    make_person,
    name_orgs,
)
from roster_store.places import PageCursor
from roster_store.sights import Rosters, Sight
from roster_store.tables import SQL

_FIELDS: Final = (
    "sourced_id",
    "title",
    "class_code",
    "class_type",
    "location",
    "school_sourced_id",
    "course_sourced_id",
    "term_sourced_ids",
    "grades",
    "subjects",
    "periods",
)


class Teacher(PersonName):
    """Somebody who teaches a class."""

    primary: bool = Field(description="whether they are marked as the first of several")


class Term(BaseModel):
    """When a class meets; the end date is exclusive."""

    sourced_id: str
    title: str
    type: str
    start_date: date
    end_date: date


class CourseName(BaseModel):
    """The course a class is a section of."""

    sourced_id: str
    title: str | None = None
    course_code: str | None = None


class Classroom(BaseModel):
    """A class with its teachers, the primary one first, and how many students it has."""

    integration_id: UUID
    sourced_id: str
    title: str
    class_code: str | None = None
    class_type: str | None = None
    location: str | None = None
    school: OrgName
    grades: list[str]
    subjects: list[str]
    periods: list[str]
    teachers: list[Teacher]
    students: int
    origin: Literal["synced", "manual"]
    changed_at: datetime


class WholeClassroom(Classroom):
    """A class with its course and terms besides."""

    version: int
    course: CourseName | None = None
    terms: list[Term]
    current: bool = Field(description="whether it is current on the day that was asked for")

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "integration_id": "0193a7a0-5a3e-7000-8000-000000000001",
                    "sourced_id": "class-3",
                    "title": "Maths 5",
                    "class_code": "M5",
                    "class_type": "scheduled",
                    "location": "Room 12",
                    "school": {"sourced_id": "school-1", "name": "North", "type": "school"},
                    "grades": ["05"],
                    "subjects": ["Mathematics"],
                    "periods": ["2"],
                    "teachers": [
                        {"sourced_id": "user-17", "given_name": "Nadia", "family_name": "Berg", "primary": True}
                    ],
                    "students": 24,
                    "origin": "synced",
                    "changed_at": "2026-01-12T08:00:00Z",
                    "version": 1,
                    "course": {"sourced_id": "course-5", "title": "Mathematics", "course_code": "MA"},
                    "terms": [
                        {
                            "sourced_id": "term-1",
                            "title": "Spring",
                            "type": "term",
                            "start_date": "2026-01-05",
                            "end_date": "2026-06-20",
                        }
                    ],
                    "current": True,
                }
            ]
        }
    }


class Member(BaseModel):
    """Somebody in a class."""

    enrollment_sourced_id: str
    role: str
    primary: bool | None = None
    begin_date: date | None = None
    end_date: date | None = None
    person: Person


class Narrowing(msgspec.Struct, frozen=True):
    """Which classes are asked for; None does not narrow."""

    school: str | None = None
    term: str | None = None
    teacher: str | None = None
    student: str | None = None
    current: bool = False


async def list_classrooms(
    rosters: Rosters, sights: Sequence[Sight], narrowing: Narrowing, day: date, after: PageCursor, limit: int
) -> tuple[list[Classroom], PageCursor | None]:
    """The next classes by integration and sourcedId, and where the page after begins, if there is one."""
    found: list[Classroom] = []
    statement = SQL["list_classrooms"].format(columns=columns(_FIELDS, "class"), current=SQL["class_is_current"])
    for sight in sights:
        if sight.integration_no < after.integration_no:
            continue
        start = after.sourced_id if sight.integration_no == after.integration_no else ""
        async with rosters.look(sight, isolation="repeatable_read") as connection:
            rows = await connection.fetch(
                statement,
                start,
                day,
                narrowing.school,
                narrowing.term,
                narrowing.teacher,
                narrowing.student,
                narrowing.current,
                limit + 1 - len(found),
                timeout=READ_SECONDS,
            )
            shown = await _describe(connection, sight, rows[: limit - len(found)])
        if shown:
            found += shown
            after = PageCursor(sight.integration_no, shown[-1].sourced_id)
        if len(rows) > len(shown):
            return found, after
    return found, None


async def read_classroom(rosters: Rosters, sight: Sight, sourced_id: str, day: date) -> WholeClassroom | None:
    """A class with its teachers, terms and course; None if there is none."""
    statement = SQL["see_classroom"].format(columns=columns(_FIELDS, "class"), current=SQL["class_is_current"])
    async with rosters.look(sight, isolation="repeatable_read") as connection:
        row = await connection.fetchrow(statement, sourced_id, day)
        if row is None:
            return None
        (shown,) = await _describe(connection, sight, [row])
        terms = await connection.fetch(SQL["list_terms"], row["term_sourced_ids"])
        course = await _read_course(connection, row["course_sourced_id"])
    return WholeClassroom(
        **dict(shown),
        version=row["version"],
        course=course,
        terms=[Term(**one) for one in terms],
        current=row["current"],
    )


async def list_members(
    rosters: Rosters, sight: Sight, sourced_id: str, role: str | None, after: str, limit: int
) -> tuple[list[Member], PageCursor | None]:
    """The next people in a class, in the order of their enrollments."""
    statement = SQL["list_members"].format(columns=columns(PERSON_FIELDS))
    async with rosters.look(sight) as connection:
        rows = await connection.fetch(statement, sourced_id, after, role, limit + 1, timeout=READ_SECONDS)
        orgs = {role["orgSourcedId"] for row in rows for role in row["roles"]}
        names = await name_orgs(connection, orgs)
    found = [_make_member(sight, row, names) for row in rows[:limit]]
    more = PageCursor(sight.integration_no, found[-1].enrollment_sourced_id) if len(rows) > limit else None
    return found, more


async def _describe(connection: Connection, sight: Sight, rows: Sequence[asyncpg.Record]) -> list[Classroom]:
    """Classes with what belongs to them, a page at once."""
    ids = [row["sourced_id"] for row in rows]
    teachers: dict[str, dict[str, Teacher]] = {}
    for row in await connection.fetch(SQL["list_teachers"], ids):
        one = Teacher(
            sourced_id=row["sourced_id"],
            given_name=row["given_name"],
            family_name=row["family_name"],
            primary=bool(row["primary"]),
        )
        teachers.setdefault(row["class_sourced_id"], {}).setdefault(one.sourced_id, one)
    counted = await connection.fetch(SQL["count_students"], ids)
    students = {row["class_sourced_id"]: row["students"] for row in counted}
    names = await name_orgs(connection, (row["school_sourced_id"] for row in rows))
    return [
        Classroom(
            integration_id=sight.integration_id,
            sourced_id=row["sourced_id"],
            title=row["title"],
            class_code=row["class_code"],
            class_type=row["class_type"],
            location=row["location"],
            school=names.get(row["school_sourced_id"]) or OrgName(sourced_id=row["school_sourced_id"]),
            grades=row["grades"],
            subjects=row["subjects"],
            periods=row["periods"],
            teachers=list(teachers.get(row["sourced_id"], {}).values()),
            students=students.get(row["sourced_id"], 0),
            origin=row["origin"],
            changed_at=row["changed_at"],
        )
        for row in rows
    ]


async def _read_course(connection: Connection, sourced_id: str | None) -> CourseName | None:
    if sourced_id is None:
        return None
    row = await connection.fetchrow(SQL["see_course"], sourced_id)
    return CourseName(sourced_id=sourced_id) if row is None else CourseName(**row)


def _make_member(sight: Sight, row: asyncpg.Record, names: Mapping[str, OrgName]) -> Member:
    return Member(
        enrollment_sourced_id=row["enrollment"],
        role=row["role"],
        primary=row["primary"],
        begin_date=row["begin_date"],
        end_date=row["end_date"],
        person=Person(**make_person(sight, row, names)),
    )
