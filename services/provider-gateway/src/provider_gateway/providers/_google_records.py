"""Google Classroom's courses and people → canonical records (docs/providers/google-classroom.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from homeroom.codes import Code
from homeroom.roster import Class, Enrollment, Org, Role, User
from provider_gateway.failures import RecordProblem

ACTIVE: Final = "ACTIVE"
_NOT_KEPT: Final = ("updateTime", "creationTime", "enrollmentCode", "courseState")
"""Stamps, what is the same for all courses that are taken, and a code that lets anybody who has it join."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody, and everything they are in the domain."""

    sourced_id: str
    profile: Mapping[str, Any]
    student: bool
    teacher: bool
    guardian: bool
    agents: tuple[str, ...] = ()


def make_org(domain: str) -> Org:
    """The one organization: Classroom knows no schools."""
    return Org(sourced_id=domain, name=domain, type="district")


def read_course(found: Any, domain: str) -> Class:
    """A course as a class."""
    if not isinstance(found, dict):
        raise RecordProblem(Code.RECORD_INVALID)
    sourced_id, title = _text(found, "id"), _text(found, "name")
    if sourced_id is None:
        raise RecordProblem(Code.RECORD_NO_ID)
    if title is None:
        raise RecordProblem(Code.FIELD_MISSING, field="name", sourced_id=sourced_id)
    taken = {"id", "name", "section", "room", "ownerId", *_NOT_KEPT}
    return Class(
        sourced_id=sourced_id,
        title=title,
        school_sourced_id=domain,
        class_code=_text(found, "section"),
        location=_text(found, "room"),
        metadata=_rest(found, taken),
    )


def read_person(person: Person, domain: str) -> User:
    """A person with all their roles at the domain: who teaches anything is a teacher first."""
    names = [
        role
        for role, has in (("teacher", person.teacher), ("student", person.student), ("guardian", person.guardian))
        if has
    ]
    roles = [Role(role=role, org_sourced_id=domain) for role in sorted(names[1:])]
    first = Role(role=names[0], org_sourced_id=domain, role_type="primary")
    profile = person.profile
    name = profile.get("name")
    name = name if isinstance(name, dict) else {}
    given, family = _text(name, "givenName"), _text(name, "familyName")
    if given is None and family is None:
        family = _text(name, "fullName")
    return User(
        sourced_id=person.sourced_id,
        given_name=given or "",
        family_name=family or "",
        roles=(first, *roles),
        email=_text(profile, "emailAddress"),
        agent_sourced_ids=tuple(sorted(set(person.agents) - {person.sourced_id})),
        metadata=_rest(profile, {"id", "name", "emailAddress"}),
    )


def make_enrollment(course: str, user: str, role: str, *, owner: bool, domain: str) -> Enrollment:
    """Somebody in a course; its owner is the primary teacher."""
    return Enrollment(
        sourced_id=f"{course}_{user}_{role}",
        user_sourced_id=user,
        class_sourced_id=course,
        school_sourced_id=domain,
        role=role,
        primary=owner if role == "teacher" else None,
    )


def identify(found: Any, name: str) -> str | None:
    """An id out of an object; None if there is none."""
    return _text(found, name) if isinstance(found, dict) else None


def _text(found: Mapping[str, Any], name: str) -> str | None:
    match found.get(name):
        case str(text):
            return text.strip() or None
        case None:
            return None
        case int(number) if not isinstance(number, bool):
            return str(number)
    raise RecordProblem(Code.RECORD_INVALID, field=name)


def _rest(found: Mapping[str, Any], taken: set[str]) -> dict[str, Any] | None:
    left = {name: value for name, value in found.items() if name not in taken and value not in (None, "", [], {})}
    return left or None
