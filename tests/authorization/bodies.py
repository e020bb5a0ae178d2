"""What calls say about a district, and its roster: every text has the district's mark in it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from datetime import date
from typing import Any

from homeroom.roster import (
    AcademicSession,
    Class,
    Course,
    Demographics,
    Enrollment,
    Org,
    Role,
    User,
)


def describe_subscription(ids: Mapping[str, str]) -> dict[str, Any]:
    """A webhook about a district."""
    about = {"organization_id": ids["organization_id"], "integration_id": ids["integration_id"]}
    return {"kind": "webhook", "url": f"https://{ids['mark']}.example.org/events", **about}


def describe_canvas(ids: Mapping[str, str]) -> dict[str, Any]:
    """A Canvas of a district."""
    return {
        "integration": ids["integration_id"],
        "base_url": f"https://canvas.{ids['mark']}.example.org",
        "account_id": "1",
        "access_token": f"token-{ids['mark']}",
    }


def describe_person(ids: Mapping[str, str]) -> dict[str, Any]:
    """Somebody to be entered by hand."""
    return {
        "givenName": f"Nadia {ids['mark']}",
        "familyName": "Berg",
        "roles": [{"role": "teacher", "orgSourcedId": ids["school_id"]}],
    }


def describe_erasure(ids: Mapping[str, str]) -> dict[str, Any]:
    """Whom to erase."""
    return {
        "integration_id": ids["integration_id"],
        "sourced_id": ids["sourced_id"],
        "reason": "asked-by-person",
        "confirm": True,
    }


def describe_accounts(ids: Mapping[str, str]) -> dict[str, Any]:
    """An account of a product."""
    return {"accounts": [{"external_id": ids["external_id"]}]}


def describe_link(ids: Mapping[str, str]) -> dict[str, Any]:
    """Whose an account is."""
    return {
        "account_id": ids["account_id"],
        "integration": ids["integration_id"],
        "sourced_id": ids["teacher_id"],
        "replace": True,
    }


def describe_integration(ids: Mapping[str, str]) -> dict[str, Any]:
    """The body of an integration of a district."""
    return {
        "organization_id": ids["organization_id"],
        "name": f"SIS {ids['mark']}",
        "provider": "oneroster",
        "connection": {
            "endpoint_url": f"https://{ids['mark']}.example.org/ims/oneroster/v1p1",
            "auth": "oauth1",
            "client_id": f"client-{ids['mark']}",
            "client_secret": f"secret-{ids['mark']}",
        },
    }


def describe_target(ids: Mapping[str, str]) -> dict[str, Any]:
    """The body of an alert target of a district."""
    url = f"https://{ids['mark']}.example.org/alerts"
    return {"organization_id": ids["organization_id"], "kind": "webhook", "url": url}


def make_set() -> bytes:
    """A zip of OneRoster files, as far as an upload looks into it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("manifest.csv", "propertyName,value\r\n")
    return content.getvalue()


def make_roster(mark: str) -> dict[str, list[Any]]:
    """A school with a teacher, students, a guardian, and their class; every value that can has the mark in it."""
    school, klass, term, course = f"school-{mark}", f"class-{mark}", f"term-{mark}", f"course-{mark}"
    dates = {"start_date": date(2020, 8, 1), "end_date": date(2999, 6, 30)}

    def person(name: str, role: str, **more: Any) -> User:
        return User(
            sourced_id=f"{name}-{mark}",
            given_name=f"{name.title()} {mark}",
            family_name=f"Family {mark}",
            email=f"{name}@{mark}.example.org",
            username=f"{name}.{mark}",
            roles=(Role(role=role, org_sourced_id=school, role_type="primary"),),
            **more,
        )

    def enrolled(name: str, role: str) -> Enrollment:
        return Enrollment(
            sourced_id=f"enrollment-{name}-{mark}",
            user_sourced_id=f"{name}-{mark}",
            class_sourced_id=klass,
            school_sourced_id=school,
            role=role,
        )

    return {
        "orgs": [Org(sourced_id=school, name=f"School {mark}", type="school")],
        "academicSessions": [
            AcademicSession(sourced_id=term, title=f"Term {mark}", type="term", **dates),
            AcademicSession(
                sourced_id=f"period-{mark}",
                title=f"Period {mark}",
                type="gradingPeriod",
                parent_sourced_id=term,
                **dates,
            ),
        ],
        "courses": [Course(sourced_id=course, title=f"Course {mark}", org_sourced_id=school)],
        "classes": [
            Class(
                sourced_id=klass,
                title=f"Class {mark}",
                course_sourced_id=course,
                school_sourced_id=school,
                term_sourced_ids=(term,),
            )
        ],
        "users": [
            person("teacher", "teacher"),
            person("student", "student", grades=("05",)),
            person("pupil", "student"),
            person("leaver", "student"),
        ],
        "enrollments": [enrolled("teacher", "teacher"), enrolled("student", "student"), enrolled("pupil", "student")],
        "demographics": [Demographics(sourced_id=f"student-{mark}", birth_date=date(2014, 2, 3), sex="female")],
    }
