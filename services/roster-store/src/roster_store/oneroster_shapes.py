"""Canonical records in OneRoster 1.1's JSON shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime
from typing import Any
from urllib.parse import quote

from homeroom.roster import AcademicSession, Class, Course, Demographics, Enrollment, Org, Record, User

Shape = Callable[[Any, datetime, str], dict[str, Any]]

_REFERENCE_PATHS = {
    "org": "orgs",
    "academicSession": "academicSessions",
    "course": "courses",
    "class": "classes",
    "user": "users",
}
_ROLES_1P2 = {
    "districtAdministrator": "administrator",
    "siteAdministrator": "administrator",
    "systemAdministrator": "administrator",
    "principal": "administrator",
    "counselor": "aide",
}
"""Roles of OneRoster 1.2 that 1.1 has no word for."""


def _reference(base: str, kind: str, sourced_id: str | None) -> dict[str, str] | None:
    if sourced_id is None:
        return None
    return {
        "href": f"{base}/{_REFERENCE_PATHS[kind]}/{quote(sourced_id, safe='')}",
        "sourcedId": sourced_id,
        "type": kind,
    }


def _references(base: str, kind: str, sourced_ids: Iterable[str]) -> list[dict[str, str] | None]:
    return [_reference(base, kind, sourced_id) for sourced_id in sourced_ids]


def _day(day: date | None) -> str | None:
    return day.isoformat() if day else None


def _common(record: Record, modified: datetime) -> dict[str, Any]:
    return {
        "sourcedId": record.sourced_id,
        "status": "active",
        "dateLastModified": modified.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "metadata": record.metadata or {},
    }


def _strip(shape: dict[str, Any]) -> dict[str, Any]:
    """OneRoster leaves out what is missing; a null trips strict clients."""
    return {name: value for name, value in shape.items() if value is not None}


def _org(record: Org, modified: datetime, base: str) -> dict[str, Any]:
    return _common(record, modified) | {
        "name": record.name,
        "type": record.type,
        "identifier": record.identifier,
        "parent": _reference(base, "org", record.parent_sourced_id),
    }


def _session(record: AcademicSession, modified: datetime, base: str) -> dict[str, Any]:
    return _common(record, modified) | {
        "title": record.title,
        "type": record.type,
        "startDate": _day(record.start_date),
        "endDate": _day(record.end_date),
        "parent": _reference(base, "academicSession", record.parent_sourced_id),
        "schoolYear": record.school_year,
    }


def _course(record: Course, modified: datetime, base: str) -> dict[str, Any]:
    return _common(record, modified) | {
        "title": record.title,
        "courseCode": record.course_code,
        "schoolYear": _reference(base, "academicSession", record.school_year_sourced_id),
        "org": _reference(base, "org", record.org_sourced_id),
        "grades": record.grades,
        "subjects": record.subjects,
        "subjectCodes": record.subject_codes,
    }


def _class(record: Class, modified: datetime, base: str) -> dict[str, Any]:
    return _common(record, modified) | {
        "title": record.title,
        "classCode": record.class_code,
        "classType": record.class_type,
        "location": record.location,
        "grades": record.grades,
        "subjects": record.subjects,
        "subjectCodes": record.subject_codes,
        "periods": record.periods,
        "course": _reference(base, "course", record.course_sourced_id),
        "school": _reference(base, "org", record.school_sourced_id),
        "terms": _references(base, "academicSession", record.term_sourced_ids),
    }


def _user(record: User, modified: datetime, base: str) -> dict[str, Any]:
    primary = next((role for role in record.roles if role.role_type == "primary"), None) or record.roles[0]
    return _common(record, modified) | {
        "username": record.username or "",
        "userIds": record.user_ids,
        "enabledUser": record.enabled_user,
        "givenName": record.given_name,
        "familyName": record.family_name,
        "middleName": record.middle_name,
        "role": _ROLES_1P2.get(primary.role, primary.role),
        "identifier": record.identifier,
        "email": record.email,
        "sms": record.sms,
        "phone": record.phone,
        "agents": _references(base, "user", record.agent_sourced_ids),
        "orgs": _references(base, "org", dict.fromkeys(role.org_sourced_id for role in record.roles)),
        "grades": record.grades,
    }


def _enrollment(record: Enrollment, modified: datetime, base: str) -> dict[str, Any]:
    return _common(record, modified) | {
        "user": _reference(base, "user", record.user_sourced_id),
        "class": _reference(base, "class", record.class_sourced_id),
        "school": _reference(base, "org", record.school_sourced_id),
        "role": record.role,
        "primary": record.primary,
        "beginDate": _day(record.begin_date),
        "endDate": _day(record.end_date),
    }


def _flag(value: bool | None) -> str | None:
    """OneRoster 1.1 writes the flags of demographics as text."""
    return None if value is None else str(value).lower()


def _demographics(record: Demographics, modified: datetime, base: str) -> dict[str, Any]:
    """What 1.1 has no field for stands in `metadata`, under the names of B5, unless the provider has put it there."""
    del base  # demographics point to nothing: their sourcedId is the user's
    programs = {
        "frl_status": record.frl_status,
        "iep_status": _flag(record.iep_status),
        "ell_status": _flag(record.ell_status),
    }
    common = _common(record, modified)
    common["metadata"] = _strip(programs) | common["metadata"]
    return common | {
        "birthDate": _day(record.birth_date),
        "sex": record.sex if record.sex in ("male", "female") else None,  # all that 1.1 has words for
        "americanIndianOrAlaskaNative": _flag(record.american_indian_or_alaska_native),
        "asian": _flag(record.asian),
        "blackOrAfricanAmerican": _flag(record.black_or_african_american),
        "nativeHawaiianOrOtherPacificIslander": _flag(record.native_hawaiian_or_other_pacific_islander),
        "white": _flag(record.white),
        "demographicRaceTwoOrMoreRaces": _flag(record.demographic_race_two_or_more_races),
        "hispanicOrLatinoEthnicity": _flag(record.hispanic_or_latino_ethnicity),
        "countryOfBirthCode": record.country_of_birth_code,
        "stateOfBirthAbbreviation": record.state_of_birth_abbreviation,
        "cityOfBirth": record.city_of_birth,
        "publicSchoolResidenceStatus": record.public_school_residence_status,
    }


def _stripped(shape: Shape) -> Shape:
    return lambda record, modified, base: _strip(shape(record, modified, base))


SHAPES: dict[str, Shape] = {
    "orgs": _stripped(_org),
    "academicSessions": _stripped(_session),
    "courses": _stripped(_course),
    "classes": _stripped(_class),
    "users": _stripped(_user),
    "enrollments": _stripped(_enrollment),
    "demographics": _stripped(_demographics),
}
"""(record, last changed, base URL) → JSON object, by collection."""
