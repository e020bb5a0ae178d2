"""People as Homeroom's own REST shows them: with their roles, schools and classes in one piece."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
import msgspec
from pydantic import BaseModel, Field

from homeroom.db import Connection
from homeroom.grants import GUARDIAN_ROLES
from roster_store.places import PageCursor
from roster_store.sights import Rosters, Sight
from roster_store.tables import SQL, TABLES

READ_SECONDS: Final = 20.0
PERSON_FIELDS: Final = (
    "sourced_id",
    "given_name",
    "family_name",
    "middle_name",
    "preferred_first_name",
    "preferred_last_name",
    "roles",
    "grades",
    "username",
    "identifier",
    "email",
    "enabled_user",
)
_MORE_FIELDS: Final = (
    "pronouns",
    "sms",
    "phone",
    "user_master_identifier",
    "user_ids",
    "agent_sourced_ids",
    "metadata",
)


class OrgName(BaseModel):
    """An organization, by name; without one where it is not known or not the token's to see."""

    sourced_id: str
    name: str | None = None
    type: str | None = None


class PersonRole(BaseModel):
    """What somebody is, and where."""

    role: str
    role_type: Literal["primary", "secondary"]
    org: OrgName
    begin_date: date | None = None
    end_date: date | None = None


class PersonName(BaseModel):
    """Somebody, by name."""

    sourced_id: str
    given_name: str
    family_name: str


class Relative(PersonName):
    """A guardian of a student, or a student of a guardian."""

    relation: str = Field(description="the role of the one who is named: guardian, parent, relative, student")


class PersonClass(BaseModel):
    """A class somebody is in."""

    sourced_id: str
    title: str
    class_code: str | None = None
    school: OrgName
    role: str
    primary: bool | None = Field(default=None, description="for teachers: whether they are the first of several")
    begin_date: date | None = None
    end_date: date | None = None
    current: bool = Field(description="whether class and enrollment are current on the day that was asked for")
    enrollment_sourced_id: str


class Person(BaseModel):
    """Somebody, without their classes. Fields a license does not grant are null or empty."""

    integration_id: UUID
    sourced_id: str
    given_name: str
    family_name: str
    middle_name: str | None = None
    preferred_first_name: str | None = None
    preferred_last_name: str | None = None
    roles: list[PersonRole]
    grades: list[str]
    username: str | None = None
    identifier: str | None = None
    email: str | None = None
    enabled_user: bool
    origin: Literal["synced", "manual"]
    changed_at: datetime


class WholePerson(Person):
    """Somebody, with everything the token may see in one piece."""

    version: int
    pronouns: str | None = None
    sms: str | None = None
    phone: str | None = None
    user_master_identifier: str | None = None
    user_ids: list[dict[str, str]]
    metadata: dict[str, Any] | None = None
    classes: list[PersonClass]
    guardians: list[Relative]
    students: list[Relative] = Field(description="whose guardian the person is")
    demographics: dict[str, Any] | None = Field(
        default=None, description="with `include=demographics`, if the token may see them"
    )

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "integration_id": "0193a7a0-5a3e-7000-8000-000000000001",
                    "sourced_id": "user-17",
                    "given_name": "Nadia",
                    "family_name": "Berg",
                    "middle_name": None,
                    "preferred_first_name": None,
                    "preferred_last_name": None,
                    "roles": [
                        {
                            "role": "teacher",
                            "role_type": "primary",
                            "org": {"sourced_id": "school-1", "name": "North", "type": "school"},
                        }
                    ],
                    "grades": [],
                    "username": "nberg",
                    "identifier": "4711",
                    "email": "nadia.berg@north.example",
                    "enabled_user": True,
                    "origin": "synced",
                    "changed_at": "2026-01-12T08:00:00Z",
                    "version": 3,
                    "pronouns": None,
                    "sms": None,
                    "phone": None,
                    "user_master_identifier": None,
                    "user_ids": [],
                    "metadata": None,
                    "classes": [
                        {
                            "sourced_id": "class-3",
                            "title": "Maths 5",
                            "class_code": "M5",
                            "school": {"sourced_id": "school-1", "name": "North", "type": "school"},
                            "role": "teacher",
                            "primary": True,
                            "begin_date": None,
                            "end_date": None,
                            "current": True,
                            "enrollment_sourced_id": "enrollment-90",
                        }
                    ],
                    "guardians": [],
                    "students": [],
                    "demographics": None,
                }
            ]
        }
    }


class Narrowing(msgspec.Struct, frozen=True):
    """Which people are asked for; None does not narrow."""

    role: str | None = None
    school: str | None = None
    class_: str | None = None
    grade: str | None = None
    active: bool = True

    def roles(self) -> list[dict[str, str]] | None:
        """What one of the roles must hold."""
        wanted = {"role": self.role, "orgSourcedId": self.school}
        found = {name: value for name, value in wanted.items() if value is not None}
        return [found] if found else None


async def list_persons(
    rosters: Rosters, sights: Sequence[Sight], narrowing: Narrowing, after: PageCursor, limit: int
) -> tuple[list[Person], PageCursor | None]:
    """The next people by integration and sourcedId, and where the page after begins, if there is one."""
    found: list[Person] = []
    statement = SQL["list_persons"].format(columns=columns(PERSON_FIELDS))
    for sight in sights:
        if sight.integration_no < after.integration_no:
            continue
        start = after.sourced_id if sight.integration_no == after.integration_no else ""
        async with rosters.look(sight) as connection:
            rows = await connection.fetch(
                statement,
                narrowing.active,
                start,
                narrowing.roles(),
                narrowing.grade,
                narrowing.class_,
                limit + 1 - len(found),
                timeout=READ_SECONDS,
            )
            names = await name_orgs(connection, _list_orgs(rows))
        for row in rows:
            if len(found) == limit:
                return found, after
            found.append(Person(**make_person(sight, row, names)))
            after = PageCursor(sight.integration_no, row["sourced_id"])
    return found, None


async def read_person(
    rosters: Rosters, sight: Sight, sourced_id: str, day: date, *, demographics: bool
) -> WholePerson | None:
    """Somebody with everything that is to be seen of them; None if there is nobody."""
    async with rosters.look(sight, isolation="repeatable_read") as connection:
        statement = SQL["see_person"].format(columns=columns((*PERSON_FIELDS, *_MORE_FIELDS)))
        row = await connection.fetchrow(statement, sourced_id)
        if row is None:
            return None
        classes = await connection.fetch(
            SQL["list_classes_of_person"].format(current=SQL["class_is_current"]), sourced_id, day
        )
        guardians, students = await _find_relatives(connection, row)
        told = await _read_demographics(connection, sourced_id) if demographics else None
        names = await name_orgs(connection, {*_list_orgs([row]), *(one["school_sourced_id"] for one in classes)})
    return WholePerson(
        **make_person(sight, row, names),
        version=row["version"],
        **{name: row[name] for name in _MORE_FIELDS if name != "agent_sourced_ids"},
        classes=[_make_class(one, names) for one in classes],
        guardians=guardians,
        students=students,
        demographics=told,
    )


async def _find_relatives(connection: Connection, row: asyncpg.Record) -> tuple[list[Relative], list[Relative]]:
    """Guardians and students: whom the person names as agents, and who names the person."""
    named = await connection.fetch(SQL["list_persons_by_id"], row["agent_sourced_ids"])
    guards = any(role["role"] in GUARDIAN_ROLES for role in row["roles"])
    wards = await connection.fetch(SQL["list_wards"], row["sourced_id"], timeout=READ_SECONDS) if guards else []
    relatives = {one["sourced_id"]: _make_relative(one) for one in (*named, *wards)}
    guardians = [one for one in relatives.values() if one.relation in GUARDIAN_ROLES]
    return guardians, [one for one in relatives.values() if one.relation == "student"]


def _make_relative(row: asyncpg.Record) -> Relative:
    roles = [role["role"] for role in row["roles"]]
    relation = next((role for role in roles if role in (*GUARDIAN_ROLES, "student")), roles[0] if roles else "")
    return Relative(
        sourced_id=row["sourced_id"], given_name=row["given_name"], family_name=row["family_name"], relation=relation
    )


async def _read_demographics(connection: Connection, sourced_id: str) -> dict[str, Any] | None:
    table = TABLES["demographics"]
    statement = table.sql("see_record", columns=columns(table.fields))
    row = await connection.fetchrow(statement, sourced_id)
    return None if row is None else {name: row[name] for name in table.fields if name != "sourced_id"}


async def name_orgs(connection: Connection, sourced_ids: Iterable[str]) -> Mapping[str, OrgName]:
    """Names of orgs, of those that may be seen."""
    rows = await connection.fetch(SQL["name_orgs"], sorted(set(sourced_ids)))
    return {row["sourced_id"]: OrgName(**row) for row in rows}


def columns(names: Iterable[str], table: str = "held") -> str:
    """Columns for a statement."""
    return ", ".join(f'{table}."{name}"' for name in names)


def make_person(sight: Sight, row: asyncpg.Record, names: Mapping[str, OrgName]) -> dict[str, Any]:
    """The fields of a `Person`."""
    roles = [
        PersonRole(
            role=role["role"],
            role_type=role.get("roleType", "secondary"),
            org=names.get(role["orgSourcedId"]) or OrgName(sourced_id=role["orgSourcedId"]),
            begin_date=role.get("beginDate"),
            end_date=role.get("endDate"),
        )
        for role in row["roles"]
    ]
    return {
        "integration_id": sight.integration_id,
        **{name: row[name] for name in PERSON_FIELDS if name != "roles"},
        "roles": roles,
        "origin": row["origin"],
        "changed_at": row["changed_at"],
    }


def _make_class(row: asyncpg.Record, names: Mapping[str, OrgName]) -> PersonClass:
    return PersonClass(
        sourced_id=row["sourced_id"],
        title=row["title"],
        class_code=row["class_code"],
        school=names.get(row["school_sourced_id"]) or OrgName(sourced_id=row["school_sourced_id"]),
        role=row["role"],
        primary=row["primary"],
        begin_date=row["begin_date"],
        end_date=row["end_date"],
        current=row["current"],
        enrollment_sourced_id=row["enrollment"],
    )


def _list_orgs(rows: Iterable[asyncpg.Record]) -> set[str]:
    return {role["orgSourcedId"] for row in rows for role in row["roles"]}
