"""Rules for the routes a roster is served and edited by."""

from __future__ import annotations

from typing import Final

from authorization.additions import add_record
from authorization.bodies import describe_person
from authorization.rules import DISTRICTS, EVERYBODY, FINE, KINDS, AnyRule, Public, Rule

READ: Final = ("roster.read",)
WRITE: Final = ("roster.write",)
START: Final = ("classes.start",)
DEMOGRAPHICS: Final = ("demographics.read",)
OURS: Final = {"integration": "integration_id", "organization": "organization_id"}
HERE: Final = {"integration": "integration_id"}
ANY_VERSION: Final = {"If-Match": "*"}
V1P1: Final = "/ims/oneroster/v1p1"
V1P2: Final = "/ims/oneroster/rostering/v1p2"
RECORD: Final = "/v1/roster/records/{collection}/{sourced_id}"


def _read(path: str, *, shows: tuple[str, ...], ids: dict[str, str] | None = None, blind: bool = False) -> Rule:
    """A route that reads from a roster, for whoever may see it."""
    return Rule(
        method="GET", path=path, needs=READ, callers=EVERYBODY, ids=ids or {}, shows=shows, blind=blind, narrows=OURS
    )


def _list_oneroster(base: str) -> tuple[AnyRule, ...]:
    """The routes both versions have."""
    of_class = {"sourced_id": "school_id", "class_sourced_id": "class_id", "related": "students"}
    return (
        Rule(
            method="GET",
            path=f"{base}/demographics",
            needs=DEMOGRAPHICS,
            callers=EVERYBODY,
            blind=True,
            narrows=OURS,
            shows=("student_id", "2014-02-03"),
        ),
        Rule(
            method="GET",
            path=f"{base}/demographics/{{sourced_id}}",
            needs=DEMOGRAPHICS,
            callers=EVERYBODY,
            ids={"sourced_id": "student_id"},
            shows=("student_id", "2014-02-03"),
        ),
        _read(f"{base}/{{face}}", ids={"face": "users"}, shows=("student_id", "teacher_id", "mark"), blind=True),
        _read(
            f"{base}/{{face}}/{{sourced_id}}",
            ids={"face": "students", "sourced_id": "student_id"},
            shows=("student_id", "mark"),
        ),
        _read(
            f"{base}/schools/{{sourced_id}}/classes/{{class_sourced_id}}/{{related}}",
            ids=of_class,
            shows=("student_id",),
        ),
        _read(
            f"{base}/{{parent}}/{{sourced_id}}/{{related}}",
            ids={"parent": "classes", "sourced_id": "class_id", "related": "teachers"},
            shows=("teacher_id",),
        ),
        _read(f"{base}/{{path:path}}", ids={"path": "classes/"}, shows=("class_id",), blind=True),
    )


_WHY: Final = "what is served here is no secret, and OneRoster 1.2's clients ask before they have a token"
ROSTER_RULES: Final[tuple[AnyRule, ...]] = (
    *_list_oneroster(V1P1),
    *_list_oneroster(V1P2),
    _read(f"{V1P1}/resources", shows=('"resources"',), blind=True),
    Public(method="GET", path=f"{V1P2}/discovery", reason=_WHY),
    Public(method="GET", path=f"{V1P2}/discovery/onerosterv1p2rostersservice_openapi3_v1p0.json", reason=_WHY),
    # the feed, and archives
    _read("/v1/changes", shows=("student_id", "integration_id", "mark"), blind=True),
    Rule(
        method="GET",
        path="/v1/exports/oneroster.zip",
        needs=READ,
        callers=EVERYBODY,
        query=HERE,
        shows=("student_id", "mark"),
    ),
    Rule(
        method="GET",
        path="/v1/canvas/sis-import.zip",
        needs=READ,
        callers=EVERYBODY,
        query=HERE,
        shows=("student_id", "mark"),
    ),
    Rule(
        method="GET",
        path="/v1/canvas/problems",
        needs=READ,
        callers=EVERYBODY,
        query=HERE,
        shows=('"problems"',),
    ),
    # Homeroom's own
    Rule(
        method="GET",
        path="/v1/people-links",
        needs=READ,
        callers=DISTRICTS,
        blind=True,
        query=HERE,
        shows=('"links"',),
        single_page="only integrations of Google Classroom have links",
    ),
    _read("/v1/roster/people", shows=("student_id", "mark"), blind=True),
    _read("/v1/roster/people/{sourced_id}", ids={"sourced_id": "student_id"}, shows=("student_id", "class_id")),
    _read("/v1/roster/classes", shows=("class_id", "mark"), blind=True),
    _read("/v1/roster/classes/{sourced_id}", ids={"sourced_id": "class_id"}, shows=("class_id", "teacher_id")),
    _read("/v1/roster/classes/{sourced_id}/people", ids={"sourced_id": "class_id"}, shows=("student_id",)),
    Rule(
        method="POST",
        path="/v1/roster/search",
        needs=READ,
        callers=EVERYBODY,
        blind=True,
        body=lambda ids: {"q": ids["mark"]},
        shows=("student_id", "class_id"),
    ),
    # records
    Rule(
        method="GET",
        path=RECORD,
        needs=READ,
        callers=EVERYBODY,
        narrows=OURS,
        ids={"collection": "users", "sourced_id": "student_id"},
        shows=("student_id", "mark"),
    ),
    Rule(
        method="GET",
        path=f"{RECORD}/history",
        needs=READ,
        callers=DISTRICTS,
        narrows=OURS,
        ids={"collection": "users", "sourced_id": "student_id"},
        shows=("student_id",),
    ),
    Rule(
        method="POST",
        path="/v1/roster/records/{collection}",
        needs=WRITE,
        callers=DISTRICTS,
        query=HERE,
        ids={"collection": "users"},
        body=describe_person,
        statuses=FINE,
    ),
    Rule(
        method="PUT",
        path=RECORD,
        needs=WRITE,
        callers=DISTRICTS,
        narrows=OURS,
        ids={"collection": "users"},
        prepare=add_record,
        headers=ANY_VERSION,
        body=describe_person,
    ),
    Rule(
        method="PATCH",
        path=RECORD,
        needs=WRITE,
        callers=DISTRICTS,
        narrows=OURS,
        ids={"collection": "users"},
        prepare=add_record,
        headers=ANY_VERSION,
        body=lambda _: {"familyName": "Lund"},
    ),
    Rule(
        method="DELETE",
        path=RECORD,
        needs=WRITE,
        callers=DISTRICTS,
        narrows=OURS,
        ids={"collection": "users"},
        prepare=add_record,
        headers=ANY_VERSION,
    ),
    # classes that wait for their teachers
    Rule(
        method="POST",
        path="/v1/roster/classes/{sourced_id}/start",
        needs=START,
        callers=KINDS,
        as_product="starter_id",
        ids={"sourced_id": "class_id"},
        body=lambda ids: {"teacher_sourced_id": ids["teacher_id"], "product_id": ids["starter_id"]},
        shows=("class_id", "integration_id"),
    ),
    Rule(
        method="GET",
        path="/v1/roster/teachers/{sourced_id}/classes",
        needs=START,
        callers=KINDS,
        blind=True,
        as_product="starter_id",
        ids={"sourced_id": "teacher_id"},
        query={"product": "starter_id"},
        shows=("class_id", "integration_id"),
    ),
)
