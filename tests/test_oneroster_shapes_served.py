"""What is served as OneRoster has the standard's shapes, by schemas written from the OpenAPI documents of 1.1 and 1.2.

Every field the standard requires is required, every other field it does not know is refused.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import jsonschema
import pytest
from installation import COLLECTIONS, Installation, synced_district

Json = dict[str, Any]

BASE = "/ims/oneroster/v1p1"
BASE_1P2 = "/ims/oneroster/rostering/v1p2"
SINGLES = {
    "orgs": "org",
    "academicSessions": "academicSession",
    "courses": "course",
    "classes": "class",
    "users": "user",
    "enrollments": "enrollment",
}
FACES = {
    **{name: name for name in COLLECTIONS},
    "schools": "orgs",
    "terms": "academicSessions",
    "gradingPeriods": "academicSessions",
    "students": "users",
    "teachers": "users",
}
"""Path → the name its answers are wrapped in."""
ROLES = ["administrator", "aide", "guardian", "parent", "proctor", "relative", "student", "teacher"]

TEXT: Json = {"type": "string"}
TEXTS: Json = {"type": "array", "items": TEXT}
DAY: Json = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"}


def _reference(*kinds: str) -> Json:
    return {
        "type": "object",
        "required": ["href", "sourcedId", "type"],
        "properties": {
            "href": {"type": "string", "pattern": r"^https?://[^/]+/ims/oneroster/(v1p1|rostering/v1p2)/\w+/[^/?#]+$"},
            "sourcedId": {"type": "string", "minLength": 1},
            "type": {"enum": list(kinds)},
        },
        "additionalProperties": False,
    }


def _references(*kinds: str, least: int = 0) -> Json:
    return {"type": "array", "items": _reference(*kinds), "minItems": least}


def _object(required: str, **properties: Json) -> Json:
    common = {
        "sourcedId": {"type": "string", "minLength": 1},
        "status": {"enum": ["active", "tobedeleted"]},
        "dateLastModified": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"},
        "metadata": {"type": "object"},
    }
    return {
        "type": "object",
        "required": ["sourcedId", "status", "dateLastModified", *required.split()],
        "properties": common | properties,
        "additionalProperties": False,
    }


_SESSION = ("academicSession", "term", "gradingPeriod")
SHAPES: dict[str, Json] = {
    "orgs": _object(
        "name type identifier",
        name=TEXT,
        type={"enum": ["department", "school", "district", "local", "state", "national"]},
        identifier=TEXT,
        parent=_reference("org"),
        children=_references("org"),
    ),
    "academicSessions": _object(
        "title startDate endDate type schoolYear",
        title=TEXT,
        startDate=DAY,
        endDate=DAY,
        type={"enum": ["gradingPeriod", "semester", "schoolYear", "term"]},
        parent=_reference(*_SESSION),
        children=_references(*_SESSION),
        schoolYear={"type": "string", "pattern": r"^\d{4}$"},
    ),
    "courses": _object(
        "title courseCode",
        title=TEXT,
        courseCode=TEXT,
        schoolYear=_reference(*_SESSION),
        grades=TEXTS,
        subjects=TEXTS,
        org=_reference("org"),
        subjectCodes=TEXTS,
        resources=_references("resource"),
    ),
    "classes": _object(
        "title school course terms",
        title=TEXT,
        classCode=TEXT,
        classType={"enum": ["homeroom", "scheduled"]},
        location=TEXT,
        grades=TEXTS,
        subjects=TEXTS,
        course=_reference("course"),
        school=_reference("org"),
        terms=_references(*_SESSION, least=1),
        subjectCodes=TEXTS,
        periods=TEXTS,
        resources=_references("resource"),
    ),
    "users": _object(
        "username givenName familyName role orgs enabledUser",
        username=TEXT,
        userIds={
            "type": "array",
            "items": {
                "type": "object",
                "required": ["identifier"],
                "properties": {"type": TEXT, "identifier": TEXT},
                "additionalProperties": False,
            },
        },
        enabledUser={"type": "boolean"},
        givenName=TEXT,
        familyName=TEXT,
        middleName=TEXT,
        role={"enum": ROLES},
        identifier=TEXT,
        email=TEXT,
        sms=TEXT,
        phone=TEXT,
        agents=_references("user", "student"),
        orgs=_references("org", least=1),
        grades=TEXTS,
    ),
    "enrollments": _object(
        "user class school role",
        **{"user": _reference("user", "student", "teacher"), "class": _reference("class"), "school": _reference("org")},
        role={"enum": ROLES},
        primary={"type": "boolean"},
        beginDate=DAY,
        endDate=DAY,
    ),
}
FLAG: Json = {"enum": ["true", "false"]}
USER_ROLES_1P2 = [
    "aide",
    "counselor",
    "districtAdministrator",
    "guardian",
    "parent",
    "principal",
    "proctor",
    "relative",
    "siteAdministrator",
    "student",
    "systemAdministrator",
    "teacher",
]
ROLE_1P2: Json = {
    "type": "object",
    "required": ["roleType", "role", "org"],
    "properties": {
        "roleType": {"enum": ["primary", "secondary"]},
        "role": {"anyOf": [{"enum": USER_ROLES_1P2}, {"type": "string", "pattern": "^ext:[A-Za-z0-9._-]+$"}]},
        "org": _reference("org"),
        "userProfile": TEXT,
        "beginDate": DAY,
        "endDate": DAY,
    },
    "additionalProperties": False,
}
_USER_1P1 = SHAPES["users"]["properties"]
SHAPES_1P2: dict[str, Json] = {
    **SHAPES,
    "users": _object(
        "enabledUser givenName familyName roles",
        **{name: _USER_1P1[name] for name in ("username", "givenName", "familyName", "middleName", "identifier")},
        **{name: _USER_1P1[name] for name in ("email", "sms", "phone", "agents", "grades")},
        **dict.fromkeys(("userMasterIdentifier", "preferredFirstName", "preferredMiddleName", "pronouns"), TEXT),
        preferredLastName=TEXT,
        enabledUser=FLAG,
        userIds={
            **_USER_1P1["userIds"],
            "items": {**_USER_1P1["userIds"]["items"], "required": ["type", "identifier"]},
        },
        roles={"type": "array", "items": ROLE_1P2, "minItems": 1},
        primaryOrg=_reference("org"),
        userProfiles={"type": "array"},
        resources=_references("resource"),
    ),
    "enrollments": _object(
        "user class school role",
        **{"user": _reference("user"), "class": _reference("class"), "school": _reference("org")},
        role={
            "anyOf": [
                {"enum": ["administrator", "proctor", "student", "teacher"]},
                {"type": "string", "pattern": "^ext:[A-Za-z0-9._-]+$"},
            ]
        },
        primary=FLAG,
        beginDate=DAY,
        endDate=DAY,
    ),
}
VERSIONS = {BASE: SHAPES, BASE_1P2: SHAPES_1P2}
FAILURE: Json = {
    "type": "object",
    "required": ["imsx_codeMajor", "imsx_severity"],
    "properties": {
        "imsx_codeMajor": {"enum": ["failure"]},
        "imsx_severity": {"enum": ["error"]},
        "imsx_messageRefIdentifier": TEXT,
        "imsx_operationRefIdentifier": TEXT,
        "imsx_description": TEXT,
        "imsx_CodeMinor": {
            "type": "object",
            "required": ["imsx_codeMinorField"],
            "properties": {
                "imsx_codeMinorField": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["imsx_codeMinorFieldName", "imsx_codeMinorFieldValue"],
                        "properties": {"imsx_codeMinorFieldName": TEXT, "imsx_codeMinorFieldValue": TEXT},
                        "additionalProperties": False,
                    },
                }
            },
            "additionalProperties": False,
        },
        "code": TEXT,
        "next_step": TEXT,
        "request_id": TEXT,
    },
    "additionalProperties": False,
}
"""The standard's fields, and Homeroom's three beside them."""


@dataclass
class Reading:
    """Everything a reader of one district gets."""

    http: httpx2.AsyncClient
    records: dict[str, list[Json]]
    """Of 1.1, by path."""
    newer: dict[str, list[Json]]
    """Of 1.2."""


@pytest.fixture
async def reading(on_postgres: Installation) -> AsyncIterator[Reading]:
    """A synced district, read page by page with the token of a product of that organization."""
    async with synced_district(on_postgres, students=40) as district:
        await district.sync()
        district.sandbox.district.advance_day()
        await district.sync()
        organization = (await district.client.call("GET", f"/v1/integrations/{district.integration_id}"))[
            "organization_id"
        ]
        made = await district.client.call(
            "POST", "/v1/clients", json={"scopes": ["roster.read"], "organization_id": organization}
        )
        async with httpx2.AsyncClient(base_url=on_postgres.origin, timeout=30, trust_env=False) as http:
            form = {"grant_type": "client_credentials"}
            answer = await http.post("/oauth2/token", data=form, auth=(made["id"], made["secret"]))
            http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
            older, newer = [{face: await _follow(http, base, face) for face in FACES} for base in VERSIONS]
            yield Reading(http, older, newer)


async def _follow(http: httpx2.AsyncClient, base: str, face: str) -> list[Json]:
    """Everything of a collection by nothing but the links, which the count must fit."""
    found: list[Json] = []
    url: str | None = f"{base}/{face}?limit=50"
    while url:
        answer = await http.get(url)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert set(answer.json()) == {FACES[face]}
        found += answer.json()[FACES[face]]
        url = answer.links.get("next", {}).get("url")
    assert int(answer.headers["x-total-count"]) == len(found)
    return found


async def test_records_have_the_shapes_of_the_standard(reading: Reading) -> None:
    """Each record of each collection has all fields that its version requires, of its types, and no others."""
    wrong = [
        (face, re.sub(r"'[^']*' ", "", error.message)[:100], list(error.path))
        for served, shapes in ((reading.records, SHAPES), (reading.newer, SHAPES_1P2))
        for face, records in served.items()
        for record in records
        for error in jsonschema.Draft202012Validator(shapes[FACES[face]]).iter_errors(record)
    ]
    assert wrong == []


async def test_parts_of_collections_are_what_they_are_called(reading: Reading) -> None:
    """Schools are the orgs that are schools, students the users who are students, and so on."""
    ids = {face: {record["sourcedId"] for record in records} for face, records in reading.records.items()}
    for face, whole, field, values in (
        ("schools", "orgs", "type", {"school"}),
        ("terms", "academicSessions", "type", {"term"}),
        ("gradingPeriods", "academicSessions", "type", {"gradingPeriod"}),
        ("students", "users", "role", {"student"}),
        ("teachers", "users", "role", {"teacher"}),
    ):
        wanted = {record["sourcedId"] for record in reading.records[whole] if record[field] in values}
        assert ids[face] == wanted, face


async def test_references_lead_to_records(reading: Reading) -> None:
    """Each reference's address answers with the very record it names."""
    served = {name: {record["sourcedId"]: record for record in reading.records[name]} for name in COLLECTIONS}
    references = {
        (value["href"], value["sourcedId"])
        for name in COLLECTIONS
        for record in reading.records[name]
        for part in record.values()
        for value in (part if isinstance(part, list) else [part])
        if isinstance(value, dict) and "href" in value
    }
    assert len(references) > 50
    for number, (href, sourced_id) in enumerate(sorted(references)):
        name = href.split("/")[-2]
        assert sourced_id in served[name], href
        if number % 10 == 0 or re.search(r"%", href):
            answer = await reading.http.get(href)
            assert answer.json() == {SINGLES[name]: served[name][sourced_id]}


async def test_refusals_are_the_standards(reading: Reading) -> None:
    """A record that is not there is refused in OneRoster's own words."""
    for base in VERSIONS:
        for name in COLLECTIONS:
            answer = await reading.http.get(f"{base}/{name}/nobody")
            assert answer.status_code == 404
            jsonschema.Draft202012Validator(FAILURE).validate(answer.json())
