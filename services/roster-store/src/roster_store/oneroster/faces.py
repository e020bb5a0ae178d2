"""What OneRoster's paths show: whole collections, parts of them, and what belongs to another record.

Conditions are SQL about `held`, a row of the collection's view in `roster_served`. What belongs to another record is
found in two steps: ids by a statement of `sql/oneroster.sql`, then the records by those ids, so that an index finds
both however large the roster is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from roster_store.tables import TABLES

_ROLES: Final = """held.roles @> '[{{"role": "{}"}}]'"""


@dataclass(frozen=True, slots=True)
class Face:
    """A collection by one of its names in paths."""

    collection: str
    single: str
    """The wrapper of a single record; lists are wrapped by the name of the collection."""
    condition: str = "true"

    @property
    def view(self) -> str:
        """The view its records are read from."""
        return TABLES[self.collection].name


FACES: Final[Mapping[str, Face]] = {
    "orgs": Face("orgs", "org"),
    "schools": Face("orgs", "org", "held.type = 'school'"),
    "academicSessions": Face("academicSessions", "academicSession"),
    "terms": Face("academicSessions", "academicSession", "held.type = 'term'"),
    "gradingPeriods": Face("academicSessions", "academicSession", "held.type = 'gradingPeriod'"),
    "courses": Face("courses", "course"),
    "classes": Face("classes", "class"),
    "users": Face("users", "user"),
    "students": Face("users", "user", _ROLES.format("student")),
    "teachers": Face("users", "user", _ROLES.format("teacher")),
    "enrollments": Face("enrollments", "enrollment"),
    "demographics": Face("demographics", "demographics"),
}
"""Path → what it shows. `resources` are none of these: Homeroom holds none."""
RESOURCES: Final = "resources"


@dataclass(frozen=True, slots=True)
class Relation:
    """How records belong to another one: `{id}` stands for its sourcedId, `{ids}` for what the statement found."""

    face: Face
    condition: str
    statement: str = ""
    """Finds ids by the sourcedId."""


_AT_SCHOOL: Final = """held.roles @> jsonb_build_array(jsonb_build_object('role', '{role}', 'orgSourcedId', {{id}}))"""
_FOUND: Final = "held.sourced_id = ANY ({ids})"

RELATIONS: Final[Mapping[tuple[str, str], Relation]] = {
    ("schools", "courses"): Relation(
        FACES["courses"], f"(held.org_sourced_id = {{id}} OR {_FOUND})", "find_courses_of_school"
    ),
    ("schools", "classes"): Relation(FACES["classes"], "held.school_sourced_id = {id}"),
    ("schools", "enrollments"): Relation(
        FACES["enrollments"],
        "(held.school_sourced_id = {id} OR held.school_sourced_id IS NULL AND held.class_sourced_id = ANY ({ids}))",
        "find_classes_of_school",
    ),
    ("schools", "students"): Relation(FACES["users"], _AT_SCHOOL.format(role="student")),
    ("schools", "teachers"): Relation(FACES["users"], _AT_SCHOOL.format(role="teacher")),
    ("schools", "terms"): Relation(FACES["academicSessions"], _FOUND, "find_terms_of_school"),
    ("classes", "students"): Relation(FACES["users"], _FOUND, "find_students_of_class"),
    ("classes", "teachers"): Relation(FACES["users"], _FOUND, "find_teachers_of_class"),
    ("courses", "classes"): Relation(FACES["classes"], "held.course_sourced_id = {id}"),
    ("students", "classes"): Relation(FACES["classes"], _FOUND, "find_classes_of_student"),
    ("teachers", "classes"): Relation(FACES["classes"], _FOUND, "find_classes_of_teacher"),
    ("users", "classes"): Relation(FACES["classes"], _FOUND, "find_classes_of_user"),
    ("terms", "classes"): Relation(FACES["classes"], "{id} = ANY (held.term_sourced_ids)"),
    ("terms", "gradingPeriods"): Relation(FACES["gradingPeriods"], "held.parent_sourced_id = {id}"),
}
"""(parent, last part of the path) → what belongs to it, in both versions."""
OF_CLASS_IN_SCHOOL: Final[Mapping[str, Relation]] = {
    "enrollments": Relation(FACES["enrollments"], "held.class_sourced_id = {id}"),
    "students": RELATIONS["classes", "students"],
    "teachers": RELATIONS["classes", "teachers"],
}
"""The last part of /schools/{school}/classes/{class}/… → what belongs to the class."""
WITH_RESOURCES: Final = ("courses", "classes")
"""What 1.1 asks resources of."""
