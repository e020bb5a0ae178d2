"""Clever's objects → canonical records (`homeroom.roster`); the tables stand in docs/providers/clever.md (pure)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import msgspec

from homeroom.codes import Code
from homeroom.roster import AcademicSession, Class, Course, Demographics, Enrollment, Org, Record, Role, User, UserId
from provider_gateway.failures import RecordProblem
from provider_gateway.providers import _clever_words as words
from provider_gateway.providers._clever_words import Fields, as_text

_STAMPS = ("created", "last_modified")
_FLEETING = ("last_sync", "last_attendance_sync", "state", "error", "pause_start", "pause_end", "lms_state")
"""What a district says of its sync rather than of itself."""

Notes = list[RecordProblem]


@dataclass(frozen=True, slots=True)
class Links:
    """What of other users a user's record needs; only where parents are wanted."""

    contacts: Mapping[str, Collection[str]] = field(default_factory=dict)
    """The contacts of each student."""
    schools: Mapping[str, Collection[str]] = field(default_factory=dict)
    """The schools of each student."""


@dataclass(frozen=True, slots=True)
class View:
    """What an integration sees of a district."""

    district_id: str
    parents: bool
    demographics: bool
    links: Links = field(default_factory=Links)

    def roles(self, found: Any) -> tuple[str, ...]:
        """The roles of a user that count, the primary one first."""
        has = found.get("roles") if isinstance(found, dict) else None
        wanted = words.ROLE_ORDER if self.parents else words.ROLE_ORDER[:-1]
        return tuple(role for role in wanted if role in has and has[role] is not None) if isinstance(has, dict) else ()


def identify(found: Any) -> str:
    """The id of an object; raises `RecordProblem` if it has none."""
    if not isinstance(found, dict):
        raise RecordProblem(Code.RECORD_INVALID)
    sourced_id = as_text(found.get("id"), "id")
    if sourced_id is None:
        raise RecordProblem(Code.RECORD_NO_ID)
    return sourced_id


def read_district(found: Any, view: View, notes: Notes) -> Org:  # noqa: ARG001 - all readers are called alike
    """The district itself, without what it says of its sync."""
    fields = Fields(found)
    fields.drop(*_STAMPS, *_FLEETING)
    return Org(
        sourced_id=_id(fields),
        name=_need(fields, "name"),
        type="district",
        identifier=fields.text("nces_id"),
        metadata=fields.rest(),
    )


def read_school(found: Any, view: View, notes: Notes) -> Org:  # noqa: ARG001 - all readers are called alike
    """A school below its district."""
    fields = Fields(found)
    fields.drop(*_STAMPS, "district")
    sourced_id, name = _id(fields), _need(fields, "name")
    identifier = fields.text("nces_id") or fields.text("school_number") or fields.text("state_id")
    return Org(
        sourced_id=sourced_id,
        name=name,
        type="school",
        identifier=identifier,
        parent_sourced_id=view.district_id,
        metadata=fields.rest(),
    )


def read_term(found: Any, view: View, notes: Notes) -> AcademicSession:  # noqa: ARG001 - all readers are called alike
    """A term; one without dates is no academic session."""
    fields = Fields(found)
    fields.drop(*_STAMPS, "district")
    return AcademicSession(
        sourced_id=_id(fields),
        title=_need(fields, "name"),
        type="term",
        start_date=_need_date(fields, "start_date"),
        end_date=_need_date(fields, "end_date"),
        metadata=fields.rest(),
    )


def read_course(found: Any, view: View, notes: Notes) -> Course:  # noqa: ARG001 - all readers are called alike
    """A course; Clever makes some up from sections, and those may have a number only."""
    fields = Fields(found)
    fields.drop(*_STAMPS, "district")
    sourced_id, name, number = _id(fields), fields.text("name"), fields.text("number")
    if name is None and number is None:
        raise RecordProblem(Code.FIELD_MISSING, field="name")
    return Course(
        sourced_id=sourced_id,
        title=name or number or "",
        course_code=number,
        org_sourced_id=view.district_id,
        metadata=fields.rest(),
    )


def read_class(found: Any, view: View, notes: Notes) -> Class:  # noqa: ARG001 - all readers are called alike
    """A section without its people, who become enrollments."""
    fields = Fields(found)
    fields.drop(*_STAMPS, "district", "students", "teacher", "teachers")
    sourced_id, subject = _id(fields), fields.text("subject")
    grades = _read_grades(fields, sourced_id, notes)
    term, period = fields.text("term_id"), fields.text("period")
    return Class(
        sourced_id=sourced_id,
        title=_need(fields, "name"),
        school_sourced_id=_need(fields, "school"),
        class_code=fields.text("section_number"),
        class_type="homeroom" if subject == words.HOMEROOM else "scheduled",
        course_sourced_id=fields.text("course"),
        term_sourced_ids=(term,) if term else (),
        grades=grades,
        subjects=(subject,) if subject else (),
        periods=(period,) if period else (),
        metadata=fields.rest(),
    )


class Roster(msgspec.Struct, frozen=True, array_like=True):
    """The people of a section; each once, the first teacher being the primary one."""

    section: str
    school: str | None
    students: tuple[str, ...]
    teachers: tuple[str, ...]
    primary: str | None

    def enrollments(self) -> Sequence[Enrollment]:
        """An enrollment for each, with an id that stays the same."""
        teachers = [self._enroll(user, "teacher", primary=user == self.primary) for user in self.teachers]
        return teachers + [self._enroll(user, "student", primary=None) for user in self.students]

    def sourced_ids(self) -> set[str]:
        """The ids of the enrollments."""
        return {name_enrollment(self.section, user, "teacher") for user in self.teachers} | {
            name_enrollment(self.section, user, "student") for user in self.students
        }

    def _enroll(self, user: str, role: str, *, primary: bool | None) -> Enrollment:
        return Enrollment(
            sourced_id=name_enrollment(self.section, user, role),
            user_sourced_id=user,
            class_sourced_id=self.section,
            school_sourced_id=self.school,
            role=role,
            primary=primary,
        )


def name_enrollment(section: str, user: str, role: str) -> str:
    """The id of an enrollment, for Clever has none: a person who learns and teaches in a section has two."""
    return f"{section}_{user}_{role}"


def read_roster(found: Any) -> Roster:
    """The people of a section; lists that are missing are empty."""
    fields = Fields(found)
    first, listed = fields.text("teacher"), fields.texts("teachers")
    teachers = sorted({*listed, first} - {None}, key=str)
    return Roster(
        section=_id(fields),
        school=fields.text("school"),
        students=tuple(sorted(set(fields.texts("students")))),
        teachers=tuple(str(teacher) for teacher in teachers),
        primary=first,
    )


def read_user(found: Any, view: View, notes: Notes) -> User:
    """A person with all roles that count; raises `RecordProblem` where there is none of them."""
    fields = Fields(found)
    fields.drop(*_STAMPS, "district")
    sourced_id = _id(fields)
    names = view.roles(found)
    if not names:
        raise RecordProblem(Code.FIELD_MISSING, field="roles", sourced_id=sourced_id)
    roles_left = fields.inner("roles")
    parts = {name: roles_left.inner(name) for name in names}
    name = fields.inner("name")
    reading = _Reading(sourced_id, view, notes)
    for part_name, part in parts.items():
        reading.take(part_name, part)
    for part_name, part in parts.items():
        if rest := part.rest():
            fields.keep(part_name, rest)
    preferred = reading.preferred
    user = User(
        sourced_id=sourced_id,
        given_name=name.text("first") or "",
        family_name=name.text("last") or "",
        middle_name=name.text("middle"),
        preferred_first_name=preferred.text("first"),
        preferred_middle_name=preferred.text("middle"),
        preferred_last_name=preferred.text("last"),
        roles=reading.arrange_roles(),
        username=reading.username,
        identifier=reading.identifier,
        email=fields.text("email"),
        phone=reading.phone,
        user_ids=reading.arrange_ids(),
        agent_sourced_ids=tuple(sorted(reading.agents - {sourced_id})),
        grades=reading.grades,
    )
    return msgspec.structs.replace(user, metadata=fields.rest())


class _Reading:
    """A user being put together from the parts of their roles, the primary one first."""

    def __init__(self, sourced_id: str, view: View, notes: Notes) -> None:
        self.identifier: str | None = None
        self.username: str | None = None
        self.phone: str | None = None
        self.grades: tuple[str, ...] = ()
        self.preferred = Fields({})
        self.agents: set[str] = set()
        self._sourced_id = sourced_id
        self._view = view
        self._notes = notes
        self._roles: list[Role] = []
        self._ids: set[tuple[str, str]] = {("clever", sourced_id)}

    def take(self, name: str, part: Fields) -> None:
        """Take what is known of one role."""
        part.drop(*_STAMPS)
        self._take_ids(part)
        credentials = part.inner("credentials")  # taken off whatever it holds: nothing else of it is kept
        self.username = self.username or credentials.text("district_username")
        match name:
            case "student":
                self._take_student(part)
            case "contact":
                self._take_contact(part)
            case "district_admin":
                self._roles.append(Role(role=words.ROLES[name], org_sourced_id=self._view.district_id))
            case _:
                self._roles += [Role(role=words.ROLES[name], org_sourced_id=one) for one in self._schools(part)]

    def _take_ids(self, part: Fields) -> None:
        for name in ("sis_id", "staff_id"):
            if (found := part.text(name)) is None:
                continue
            if self.identifier is None:
                self.identifier = found
            elif found != self.identifier:
                self._ids.add((name, found))
        for name in ("state_id", "student_number", "teacher_number", "legacy_id"):
            if (found := part.text(name)) is not None:
                self._ids.add((name, found))

    def _schools(self, part: Fields) -> list[str]:
        """The primary school first; the district where there is none."""
        first, others = part.text("school"), part.texts("schools")
        schools = [first] if first else []
        schools += sorted(set(others) - {first})
        return schools or [self._view.district_id]

    def _take_student(self, part: Fields) -> None:
        part.drop(*words.DEMOGRAPHIC_FIELDS)
        self.preferred = part.inner("preferred_name")
        self.grades = _read_grades(part, self._sourced_id, self._notes)
        self._roles += [Role(role="student", org_sourced_id=one) for one in self._schools(part)]
        self.agents.update(self._view.links.contacts.get(self._sourced_id, ()))

    def _take_contact(self, part: Fields) -> None:
        """A contact is at the schools of their students; Clever gives contacts no school."""
        self.phone = part.text("phone")
        found = part.raw("student_relationships")
        relations = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        relations.sort(key=lambda one: msgspec.json.encode(one, order="sorted"))
        for relation in relations:
            student = as_text(relation.get("student"), "student")
            role = words.name_relation(
                as_text(relation.get("relationship"), "relationship"), as_text(relation.get("type"), "type")
            )
            if student is not None:
                self.agents.add(student)
            schools = self._view.links.schools.get(student or "") or (self._view.district_id,)
            self._roles += [Role(role=role, org_sourced_id=school) for school in sorted(schools)]
        if not relations:
            self._roles.append(Role(role="guardian", org_sourced_id=self._view.district_id))
        part.keep("student_relationships", relations)

    def arrange_roles(self) -> tuple[Role, ...]:
        """The first one is primary, the others follow sorted, each once."""
        primary, *others = self._roles
        met = {(primary.role, primary.org_sourced_id)}
        kept: list[Role] = []
        for role in sorted(others, key=lambda one: (one.org_sourced_id, one.role)):
            if (role.role, role.org_sourced_id) not in met:
                met.add((role.role, role.org_sourced_id))
                kept.append(role)
        return (msgspec.structs.replace(primary, role_type="primary"), *kept)

    def arrange_ids(self) -> tuple[UserId, ...]:
        """Identifiers in other systems, sorted."""
        return tuple(UserId(type=kind, identifier=identifier) for kind, identifier in sorted(self._ids))


def read_demographics(found: Any, notes: Notes) -> Demographics | None:
    """A student's demographics; None where nothing of them is shared (B5).

    Args:
        found: the student's id, and the fields of `words.DEMOGRAPHIC_FIELDS` that came.
        notes: takes the values that are none of those Clever names; they are left out.
    """
    fields = Fields(found)
    reading = _Marks(_id(fields), fields, notes)
    race = reading.text("race")
    flag = words.RACES.get(race) if race else None
    if race is not None:
        if race not in words.RACES:
            reading.note(Code.BAD_ENUM, "race")
        fields.keep("race", race)
    values: dict[str, Any] = {
        "birth_date": reading.date("dob"),
        "sex": reading.word("gender", words.SEXES),
        "hispanic_or_latino_ethnicity": reading.word("hispanic_ethnicity", words.YES_NO),
        "ell_status": reading.word("ell_status", words.YES_NO),
        "iep_status": reading.word("iep_status", words.YES_NO),
        "frl_status": reading.text("frl_status"),
    }
    if flag is not None:
        values[flag] = True
    metadata = fields.rest()
    if metadata is None and all(value is None for value in values.values()):
        return None
    return Demographics(sourced_id=reading.sourced_id, metadata=metadata, **values)


def pick_demographics(found: Any) -> dict[str, Any] | None:
    """What `read_demographics` reads, out of a user; None for a user who is no student."""
    roles = found.get("roles")
    student = roles.get("student") if isinstance(roles, dict) else None
    if not isinstance(student, dict):
        return None
    return {"id": found.get("id"), **{name: student[name] for name in words.DEMOGRAPHIC_FIELDS if name in student}}


class _Marks:
    """The marks of one student; a value nobody knows is noted and left out."""

    def __init__(self, sourced_id: str, fields: Fields, notes: Notes) -> None:
        self.sourced_id = sourced_id
        self._fields = fields
        self._notes = notes

    def note(self, code: Code, name: str) -> None:
        self._notes.append(RecordProblem(code, field=name, sourced_id=self.sourced_id))

    def text(self, name: str) -> str | None:
        try:
            text = self._fields.text(name)
        except RecordProblem:
            self.note(Code.BAD_ENUM, name)
            return None
        if text is not None and len(text) > words.LONGEST_DEMOGRAPHIC:
            self.note(Code.FIELD_TOO_LONG, name)
            return None
        return text

    def word(self, name: str, known: Mapping[str, Any]) -> Any:
        text = self.text(name)
        if text is not None and text not in known:
            self.note(Code.BAD_ENUM, name)
        return known.get(text) if text is not None else None

    def date(self, name: str) -> date | None:
        text = self.text(name)
        found = words.read_date(text) if text is not None else None
        if text is not None and found is None:
            self.note(Code.BAD_DATE, name)
        return found


def _id(fields: Fields) -> str:
    sourced_id = fields.text("id")
    if sourced_id is None:
        raise RecordProblem(Code.RECORD_NO_ID)
    return sourced_id


def _need(fields: Fields, name: str) -> str:
    text = fields.text(name)
    if text is None:
        raise RecordProblem(Code.FIELD_MISSING, field=name)
    return text


def _need_date(fields: Fields, name: str) -> date:
    found = words.read_date(_need(fields, name))
    if found is None:
        raise RecordProblem(Code.BAD_DATE, field=name)
    return found


def _read_grades(fields: Fields, sourced_id: str, notes: Notes) -> tuple[str, ...]:
    """A grade as a CEDS code; one that nobody knows is noted and kept as it came."""
    grade = fields.text("grade")
    if grade is None:
        return ()
    code = words.GRADES.get(grade)
    if code is None:
        notes.append(RecordProblem(Code.BAD_ENUM, field="grade", sourced_id=sourced_id))
        fields.keep("grade", grade)
        return ()
    return (code,)


READERS: Mapping[str, Callable[[Any, View, Notes], Record]] = {
    "districts": read_district,
    "schools": read_school,
    "terms": read_term,
    "courses": read_course,
    "sections": read_class,
    "users": read_user,
}
"""Clever's kinds of objects → what makes records of them."""
COLLECTIONS: Mapping[str, str] = {
    "districts": "orgs",
    "schools": "orgs",
    "terms": "academicSessions",
    "courses": "courses",
    "sections": "classes",
    "users": "users",
}
"""Clever's kinds of objects → collections."""
