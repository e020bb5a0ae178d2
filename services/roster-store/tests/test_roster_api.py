"""Homeroom's own REST over the roster: people, classes and search, through what the caller may see (F1, F3)."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import httpx2
import pytest
from played_gateway import Gateway, school, student

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.roster import AcademicSession, Class, Course, Demographics, Enrollment, User, UserId
from homeroom.testing.tokens import TestIssuer, calling
from roster_store.app import make_app
from roster_store.search import catch_up
from roster_store.settings import StoreSettings

ISSUER = TestIssuer()
ROOT = "/v1/roster"
DAY = {"date": "2026-02-02"}
EVERYTHING = ["grades", "identifiers", "contacts", "guardians", "demographics", "metadata"]


def person(name: str, *roles: str, schools: tuple[str, ...] = ("North",), **fields: Any) -> User:
    """Somebody with one role at some schools."""
    given, _, family = name.partition(" ")
    made = student(0, given, *schools, role=(roles or ("student",))[0])
    known = {"metadata": None, "email": None, "grades": (), "family_name": family, "sourced_id": given.lower()} | fields
    values = {field: getattr(made, field) for field in made.__struct_fields__} | known
    return User(**values)


def join(who: str, group: str, role: str = "student", **fields: Any) -> Enrollment:
    """Somebody in a class."""
    return Enrollment(
        sourced_id=f"{who}-{group}-{role}", user_sourced_id=who, class_sourced_id=group, role=role, **fields
    )


def term(name: str, start: date, end: date) -> AcademicSession:
    """A term."""
    return AcademicSession(sourced_id=name, title=name.title(), type="term", start_date=start, end_date=end)


DISTRICT: dict[str, list[Any]] = {
    "orgs": [school("North"), school("South")],
    "academicSessions": [
        term("autumn", date(2025, 8, 1), date(2026, 1, 10)),
        term("spring", date(2026, 1, 10), date(2026, 6, 20)),
    ],
    "courses": [Course(sourced_id="maths", title="Mathematics", course_code="MA")],
    "classes": [
        Class(sourced_id="m5", title="Maths 5", class_code="M-5", school_sourced_id="org-North",
              course_sourced_id="maths", term_sourced_ids=("spring",)),
        Class(sourced_id="old", title="Maths 4", school_sourced_id="org-North", term_sourced_ids=("autumn",)),
        Class(sourced_id="art", title="École d'Art", school_sourced_id="org-South"),
    ],
    "users": [
        person("Nadia Berg-Lund", "teacher", email="n.berg@north.example", identifier="4711"),
        person("Arne Aas", "teacher"),
        person("Zoë Ek", email="zoe@north.example", grades=("05",), agent_sourced_ids=("mona",), pronouns="she"),
        person("Ekaterina Øst", username="kat@north.example", user_ids=(UserId(type="sis", identifier="K-9"),)),
        person("Mona Ek", "guardian", sourced_id="mona"),
        person("Paul Ek", "teacher", schools=("South",)),
        person("Sune Syd", schools=("South",)),
    ],
    "enrollments": [
        join("arne", "m5", "teacher"),
        join("nadia", "m5", "teacher", primary=True),
        join("nadia", "old", "teacher"),
        join("zoë", "m5"),
        join("zoë", "art", begin_date=date(2026, 3, 1)),
        join("ekaterina", "m5", end_date=date(2026, 2, 2)),
        join("paul", "art", "teacher"),
    ],
    "demographics": [Demographics(sourced_id="zoë", sex="other", frl_status="Reduced")],
}  # fmt: skip


@pytest.fixture
async def client(database: Database, gateway: Gateway, settings: StoreSettings) -> AsyncIterator[httpx2.AsyncClient]:
    """Somebody who reads the roster of one organization."""
    await gateway.apply(DISTRICT)
    await catch_up(database)
    async with calling(make_app(settings, ISSUER.verifier)) as client:
        client.headers.update(reader(gateway))
        yield client


def reader(gateway: Gateway, *scopes: str) -> dict[str, str]:
    """The headers of somebody who reads the roster of an organization."""
    return ISSUER.headers(["roster.read", *scopes], organization_id=gateway.organization_id)


async def license_product(database: Database, gateway: Gateway, grants: list[str]) -> dict[str, str]:
    """The headers of a product that is licensed for the organization."""
    product = str(uuid.uuid4())
    await database.fetch(
        "INSERT INTO access (product_id, organization_id, grants, teacher_started, live, until, look_at)"
        " VALUES ($1, $2, $3, false, true, 'infinity', 'infinity')",
        uuid.UUID(product),
        uuid.UUID(gateway.organization_id),
        grants,
    )
    return ISSUER.headers(["roster.read", "demographics.read"], product_id=product)


async def find(client: httpx2.AsyncClient, q: str, headers: dict[str, str] | None = None, **body: Any) -> list[Any]:
    """What a search finds: matches and sourcedIds."""
    answer = await client.post(f"{ROOT}/search", json={"q": q, **body}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["behind"] is False
    return [(one["match"], one["sourced_id"]) for one in answer.json()["results"]]


async def test_a_person_in_one_call(client: httpx2.AsyncClient, database: Database, gateway: Gateway) -> None:
    """Roles, schools, classes, guardians and students come together; demographics only when asked for and allowed."""
    found = (await client.get(f"{ROOT}/people/zoë", params=DAY)).json()
    assert found["roles"] == [
        {
            "role": "student",
            "role_type": "primary",
            "org": {"sourced_id": "org-North", "name": "North", "type": "school"},
            "begin_date": None,
            "end_date": None,
        }
    ]
    assert [(one["sourced_id"], one["role"], one["current"]) for one in found["classes"]] == [
        ("m5", "student", True),
        ("art", "student", False),
    ]
    assert [(one["sourced_id"], one["relation"]) for one in found["guardians"]] == [("mona", "guardian")]
    assert (found["demographics"], found["pronouns"]) == (None, None)
    mona = (await client.get(f"{ROOT}/people/mona")).json()
    assert [one["sourced_id"] for one in mona["students"]] == ["zoë"]

    asked = {"include": "demographics"}
    refused = await client.get(f"{ROOT}/people/zoë", params=asked)
    assert (refused.status_code, refused.json()["code"]) == (403, Code.SCOPE_MISSING)
    allowed = reader(gateway, "demographics.read")
    told = (await client.get(f"{ROOT}/people/zoë", params=asked, headers=allowed)).json()
    assert (told["demographics"]["frl_status"], told["pronouns"]) == ("Reduced", "she")

    poor = await license_product(database, gateway, [])
    seen = (await client.get(f"{ROOT}/people/zoë", headers=poor)).json()
    assert (seen["email"], seen["grades"], seen["guardians"]) == (None, [], [])
    assert (await client.get(f"{ROOT}/people/mona", headers=poor)).status_code == 404
    assert (await client.get(f"{ROOT}/people/zoë", params=asked, headers=poor)).status_code == 403
    stranger = ISSUER.headers(["roster.read"], organization_id=str(uuid.uuid4()))
    assert (await client.get(f"{ROOT}/people/zoë", headers=stranger)).status_code == 404


async def test_people_by_what_they_are(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """People can be narrowed and come page by page, each of them once."""

    async def ids(**query: Any) -> list[str]:
        seen: list[str] = []
        more: dict[str, Any] = {}
        while True:
            page = (await client.get(f"{ROOT}/people", params={"limit": 2, **query, **more})).json()
            seen += [one["sourced_id"] for one in page["people"]]
            if page["cursor"] is None:
                return seen
            more = {"cursor": page["cursor"]}

    assert await ids() == ["arne", "ekaterina", "mona", "nadia", "paul", "sune", "zoë"]
    assert await ids(role="teacher") == ["arne", "nadia", "paul"]
    assert await ids(role="teacher", school="org-South") == ["paul"]
    assert await ids(grade="05") == ["zoë"]
    assert await ids(**{"class": "art"}) == ["paul", "zoë"]
    await gateway.apply({}, {"users": ["paul"]})
    assert await ids(active=False) == ["paul"]
    for query, code in (({"cursor": "%"}, 400), ({"limit": 501}, 422), ({"role": "\0"}, 422), ({"school": ""}, 422)):
        assert (await client.get(f"{ROOT}/people", params=query)).status_code == code


async def test_who_teaches_and_learns_what_now(client: httpx2.AsyncClient) -> None:
    """Classes are found by who teaches or learns in them on a day, with the primary teacher first."""

    async def ids(**query: Any) -> list[str]:
        answer = await client.get(f"{ROOT}/classes", params={**DAY, **query})
        return [one["sourced_id"] for one in answer.json()["classes"]]

    assert await ids() == ["art", "m5", "old"]
    assert await ids(teacher="nadia") == ["m5", "old"]
    assert await ids(teacher="nadia", current=True) == ["m5"]
    assert await ids(teacher="nadia", current=True, date="2026-01-09") == ["old"]
    assert await ids(teacher="nadia", current=True, date="2026-06-20") == [], "end dates are exclusive"
    assert await ids(student="zoë", current=True) == ["m5"]
    assert await ids(student="zoë", current=True, date="2026-03-01") == ["art", "m5"]
    assert await ids(student="ekaterina", current=True) == []
    assert await ids(student="ekaterina", current=True, date="2026-02-01") == ["m5"]
    assert await ids(school="org-South", current=True) == ["art"], "a class without terms is always current"
    assert await ids(term="autumn") == ["old"]

    one = (await client.get(f"{ROOT}/classes/m5", params=DAY)).json()
    assert [(who["sourced_id"], who["primary"]) for who in one["teachers"]] == [("nadia", True), ("arne", False)]
    assert (one["students"], one["current"], one["course"]["title"]) == (2, True, "Mathematics")
    assert [one["title"] for one in one["terms"]] == ["Spring"]
    first = (await client.get(f"{ROOT}/classes/m5/people", params={"limit": 3})).json()
    rest = (await client.get(f"{ROOT}/classes/m5/people", params={"cursor": first["cursor"]})).json()
    members = [(one["person"]["sourced_id"], one["role"]) for one in (*first["people"], *rest["people"])]
    assert members == [("arne", "teacher"), ("ekaterina", "student"), ("nadia", "teacher"), ("zoë", "student")]
    taught = (await client.get(f"{ROOT}/classes/m5/people", params={"role": "teacher"})).json()
    assert len(taught["people"]) == 2


async def test_search_finds_by_what_may_be_seen(
    client: httpx2.AsyncClient, database: Database, gateway: Gateway
) -> None:
    """Names, identifiers and addresses are found by their beginnings, without accents, and only by granted fields."""
    assert await find(client, "zoe") == [("exact", "zoë")]
    assert await find(client, "EK", kinds=["person"]) == [
        ("exact", "zoë"),  # the shortest name first
        ("exact", "mona"),
        ("exact", "paul"),
        ("prefix", "ekaterina"),
    ]
    assert await find(client, "berg nad") == [("contains", "nadia")]
    assert await find(client, "lund, nadia") == [("exact", "nadia")]
    assert await find(client, "ost") == [("exact", "ekaterina")]
    assert await find(client, "ecole") == [("exact", "art")]
    assert await find(client, "m-5") == [("exact", "m5")]
    assert await find(client, "nor") == [("prefix", "org-North")]
    assert await find(client, "maths", limit=1) == [("exact", "m5")]
    assert await find(client, "adia") == [], "not within a word"

    rich, poor = [await license_product(database, gateway, grants) for grants in (EVERYTHING, [])]
    ids = await license_product(database, gateway, ["identifiers"])
    for q, who in (("n.berg@n", "nadia"), ("kat@north", "ekaterina")):
        assert await find(client, q, rich) == [("prefix", who)]
        assert await find(client, q, poor) == await find(client, q, ids) == []
    for q in ("4711", "k-9"):
        assert len(await find(client, q, ids)) == 1
        assert await find(client, q, poor) == []
    assert ("exact", "mona") not in await find(client, "mona", poor)

    for body in (
        {"q": "z"},
        {"q": "x" * 101},
        {"q": "--"},
        {"q": "a\0b"},
        {"q": "zoe", "limit": 51},
        {"q": "zo", "x": 1},
    ):
        answer = await client.post(f"{ROOT}/search", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, Code.REQUEST_INVALID), body


async def test_search_follows_the_roster(client: httpx2.AsyncClient, database: Database, gateway: Gateway) -> None:
    """What a sync changes is found once it was taken in, what is made by hand at once, and who is gone not any more."""
    await gateway.apply({"users": [person("Zara Ek", sourced_id="zoë")]}, {"users": ["arne"]})
    answer = (await client.post(f"{ROOT}/search", json={"q": "zara"})).json()
    assert (answer["results"], answer["behind"]) == ([], True)
    await catch_up(database)
    assert await find(client, "zara") == [("exact", "zoë")]
    assert await find(client, "zoe") == await find(client, "arne") == []
    assert await database.fetchval("SELECT count(*) FROM search_text WHERE text LIKE 'arne%'") == 0

    made = {"givenName": "Bo", "familyName": "Ny", "roles": [{"role": "aide", "orgSourcedId": "org-North"}]}
    writer = reader(gateway, "roster.write")
    answer = await client.post(f"{ROOT}/records/users", json={**made, "sourcedId": "bo"}, headers=writer)
    assert answer.status_code == 201
    results = (await client.post(f"{ROOT}/search", json={"q": "bo ny"})).json()["results"]
    assert [(one["name"], one["detail"]) for one in results] == [("Bo Ny", {"roles": ["aide"]})]
