"""The OneRoster provider over HTTP: paths, wrappers, parameters, errors, tombstones, scopes, in both versions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from itertools import product
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from licensed import license_product
from played_gateway import ROSTER, Gateway, enrollment, school, section, student

from homeroom.auth import ROSTER_CORE_SCOPES, ROSTER_SCOPES
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.roster import AcademicSession, Class, Course, Demographics, Enrollment, Org, Role, User
from homeroom.testing.tokens import TestIssuer, calling
from roster_store.app import make_app
from roster_store.settings import StoreSettings

ISSUER = TestIssuer()
V1P1 = "/ims/oneroster/v1p1"
V1P2 = "/ims/oneroster/rostering/v1p2"
BASES = (V1P1, V1P2)
TERMS = {
    "academicSessions": [
        AcademicSession(
            sourced_id=one,
            title=one,
            type=kind,
            start_date=date(2026, 1, 1),
            end_date=date(2026, 6, 1),
            parent_sourced_id=parent,
        )
        for one, kind, parent in (("t1", "term", None), ("t2", "term", None), ("g1", "gradingPeriod", "t1"))
    ],
    "courses": [Course(sourced_id="course-1", title="Maths", org_sourced_id="org-North")],
}
DISTRICT: dict[str, list[Any]] = {
    **ROSTER,
    **TERMS,
    "orgs": [school(), school("South"), Org(sourced_id="d", name="District", type="district")],
    "users": [*ROSTER["users"], student(8, "Sol", "South"), student(9, "Tea", "North", role="teacher")],
    "classes": [section(1), section(2, "South")],
    "enrollments": [
        *ROSTER["enrollments"],
        enrollment(8, 2, "South"),
        Enrollment(sourced_id="e9", user_sourced_id="user-9", class_sourced_id="class-1", role="teacher", primary=True),
    ],
}


@pytest.fixture
async def client(database: Database, settings: StoreSettings) -> AsyncIterator[httpx2.AsyncClient]:
    """A reader of rosters, without demographics."""
    assert database is not None
    async with calling(make_app(settings, ISSUER.verifier), ISSUER.token(["roster.read"])) as client:
        yield client


async def list_ids(client: httpx2.AsyncClient, path: str, **query: str) -> list[str]:
    """The sourcedIds of a list."""
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    records: list[dict[str, Any]] = next(iter(answer.json().values()))
    return [record["sourcedId"] for record in records]


async def test_every_path_answers_with_what_belongs_there(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Each path of the standard is there, wrapped by the type of what it holds."""
    await gateway.sync(DISTRICT)
    people, sections = ["user-1", "user-2", "user-3"], ["class-1"]
    wanted: dict[str, tuple[str, list[str]]] = {
        "/orgs": ("orgs", ["d", "org-North", "org-South"]),
        "/schools": ("orgs", ["org-North", "org-South"]),
        "/academicSessions": ("academicSessions", ["g1", "t1", "t2"]),
        "/terms": ("academicSessions", ["t1", "t2"]),
        "/gradingPeriods": ("academicSessions", ["g1"]),
        "/courses": ("courses", ["course-1"]),
        "/classes": ("classes", ["class-1", "class-2"]),
        "/users": ("users", [*people, "user-8", "user-9"]),
        "/students": ("users", [*people, "user-8"]),
        "/teachers": ("users", ["user-9"]),
        "/enrollments": ("enrollments", ["e9", "enrollment-1-1", "enrollment-2-1", "enrollment-3-1", "enrollment-8-2"]),
        "/schools/org-North/courses": ("courses", ["course-1"]),
        "/schools/org-North/classes": ("classes", sections),
        "/schools/org-North/enrollments": (
            "enrollments",
            ["e9", "enrollment-1-1", "enrollment-2-1", "enrollment-3-1"],
        ),
        "/schools/org-North/students": ("users", people),
        "/schools/org-North/teachers": ("users", ["user-9"]),
        "/schools/org-North/terms": ("academicSessions", ["t1"]),
        "/schools/org-North/classes/class-1/enrollments": (
            "enrollments",
            ["e9", "enrollment-1-1", "enrollment-2-1", "enrollment-3-1"],
        ),
        "/schools/org-North/classes/class-1/students": ("users", people),
        "/schools/org-North/classes/class-1/teachers": ("users", ["user-9"]),
        "/classes/class-1/students": ("users", people),
        "/classes/class-1/teachers": ("users", ["user-9"]),
        "/courses/course-1/classes": ("classes", []),
        "/students/user-1/classes": ("classes", sections),
        "/teachers/user-9/classes": ("classes", sections),
        "/users/user-9/classes": ("classes", sections),
        "/terms/t1/classes": ("classes", ["class-1", "class-2"]),
        "/terms/t1/gradingPeriods": ("academicSessions", ["g1"]),
        "/schools/org-South/students": ("users", ["user-8"]),
        "/courses/": ("courses", ["course-1"]),
    }
    for base in BASES:
        found = {path: (await client.get(base + path)).json() for path in wanted}
        assert {
            path: [(wrapper, [record["sourcedId"] for record in records]) for wrapper, records in body.items()]
            for path, body in found.items()
        } == {path: [one] for path, one in wanted.items()}
        for path, wrapper in (("/orgs/d", "org"), ("/terms/t1", "academicSession"), ("/students/user-1", "user")):
            assert list((await client.get(base + path)).json()) == [wrapper]


async def test_what_is_not_there_is_404(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Unknown paths, records and parents are refused in OneRoster's words, with Homeroom's beside them."""
    await gateway.sync(DISTRICT)
    for base in BASES:
        for path in (
            "/wizards",
            "/schools/d",
            "/students/user-9",
            "/classes/nobody/students",
            "/schools/org-South/classes/class-1/students",
            "/classes/class-1/enrollments",
            "/users/user-1%00",
            "/terms/g1/classes",
        ):
            answer = await client.get(base + path)
            body = answer.json()
            assert (answer.status_code, body["imsx_codeMajor"], body["code"]) == (404, "failure", Code.NOT_FOUND)
            assert body["imsx_CodeMinor"]["imsx_codeMinorField"][0]["imsx_codeMinorFieldValue"] == "unknownobject"


async def test_resources_are_none(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """1.1 asks for resources below the same base: there are none, and an unknown class has not even none."""
    await gateway.sync(DISTRICT)
    for path in ("/resources", "/classes/class-1/resources", "/courses/course-1/resources"):
        answer = await client.get(V1P1 + path)
        assert (answer.json(), answer.headers["x-total-count"]) == ({"resources": []}, "0")
    assert (await client.get(f"{V1P1}/resources/one")).status_code == 404
    assert (await client.get(f"{V1P1}/classes/nobody/resources")).status_code == 404
    assert (await client.get(f"{V1P2}/resources")).status_code == 404


async def test_removed_records_are_told_to_who_asks(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Plain lists leave removed records out; asked for by status or date, or singly, they are `tobedeleted`."""
    await gateway.sync(DISTRICT)
    await gateway.sync({}, {"users": ["user-2"]})
    for base in BASES:
        single = (await client.get(f"{base}/users/user-2")).json()["user"]
        since = single["dateLastModified"]

        assert "user-2" not in await list_ids(client, f"{base}/users")
        assert (single["status"], single["familyName"]) == ("tobedeleted", "Ek")
        assert await list_ids(client, f"{base}/students", filter="status='tobedeleted'") == ["user-2"]
        assert await list_ids(client, f"{base}/users", filter=f"dateLastModified>='{since}'") == ["user-2"]
        assert await list_ids(client, f"{base}/users", filter=f"dateLastModified>'{since}'") == []
        assert len(await list_ids(client, f"{base}/users", filter="dateLastModified>='2000-01-01'")) == 5
        assert await list_ids(client, f"{base}/users", filter="dateLastModified>'2999-01-01'") == []


async def test_bad_filters_are_refused_with_their_place(client: httpx2.AsyncClient) -> None:
    """What can't be honoured is a 400 with the character at fault; nothing is ever served unfiltered instead."""
    wrong = {
        "familyName=": 12,
        "wizard='x'": 1,
        "familyName='x' AND school.sourcedId='x'": 20,
        "enabledUser='yes'": 13,
        "enabledUser>'true'": 12,
        "dateLastModified>'soon'": 18,
        "agents='x'": 1,
        "metadata='x'": 1,
        "roles.*='x'": 1,
        "": 1,
    }
    for base, (wanted, position) in product(BASES, wrong.items()):
        answer = await client.get(f"{base}/users", params={"filter": wanted})
        body = answer.json()
        assert (answer.status_code, body["code"], body["position"]) == (400, Code.FILTER_INVALID, position), wanted
        assert f"character {position}" in body["imsx_description"]
        assert body["next_step"]
        assert body["imsx_CodeMinor"]["imsx_codeMinorField"][0]["imsx_codeMinorFieldValue"] == "invalid_filter_field"


async def test_bad_parameters_are_refused(client: httpx2.AsyncClient) -> None:
    """Each parameter that can't be taken is an error in the standard's shape."""
    wrong = {
        "limit=0": 422,
        "limit=10001": 422,
        "offset=-1": 422,
        "orderBy=sideways": 422,
        "integration=x": 422,
        "fields=": 400,
        "fields=sourcedId,,title": 400,
        "filter=title~'a'&filter=title~'b'": 422,
        "after=AAAA": 400,
        "after=%C3%A4": 400,
    }
    for base, (query, status) in product(BASES, wrong.items()):
        answer = await client.get(f"{base}/classes?{query}")
        assert (answer.status_code, answer.json()["imsx_codeMajor"]) == (status, "failure"), query
        assert answer.json()["code"] in {Code.REQUEST_INVALID, Code.CURSOR_INVALID}


async def test_unknown_sort_and_fields_are_a_notice(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """By an unknown field nothing is sorted or left out; 1.1 says so beside the records, both in a header."""
    await gateway.sync(DISTRICT)
    for base in BASES:
        for query, minor in (("sort=wizard", "invalid_sort_field"), ("fields=wizard,title", "invalid_selection_field")):
            answer = await client.get(f"{base}/classes?{query}")
            assert (answer.status_code, answer.headers["x-homeroom-notice"]) == (200, minor)
            assert next(iter(answer.json())) == "classes"
            assert answer.json()["classes"][0]["title"] == "Maths"
            assert ("statusInfoSet" in answer.json()) == (base == V1P1)


async def test_fields_are_chosen(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """With `fields` nothing else is answered, in lists and singly."""
    await gateway.sync(DISTRICT)
    listed = (await client.get(f"{V1P2}/users?fields=givenName,sourcedId&limit=1")).json()
    single = (await client.get(f"{V1P1}/users/user-1?fields=familyName")).json()
    assert listed == {"users": [{"sourcedId": "user-1", "givenName": "Mila"}]}
    assert single == {"user": {"familyName": "Ek"}}


async def test_links_keep_everything_else(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Following the links keeps filter, sort and narrowing; they lead to the first, previous, next and last page."""
    await gateway.sync(DISTRICT)
    query = {"limit": 1, "filter": "familyName='Ek'", "fields": "sourcedId", "integration": gateway.integration_id}
    seen: list[str] = []
    answer = await client.get(f"{V1P1}/users", params=query)
    first = answer.links
    while True:
        seen += [user["sourcedId"] for user in answer.json()["users"]]
        if "next" not in answer.links:
            break
        answer = await client.get(answer.links["next"]["url"])
    assert seen == ["user-1", "user-2", "user-3", "user-8", "user-9"]
    assert set(first) == {"first", "last", "next"}
    assert set(answer.links) == {"first", "last", "prev"}
    assert (await client.get(first["last"]["url"])).json() == {"users": [{"sourcedId": "user-9"}]}
    assert all("familyName" in link["url"] and "integration=" in link["url"] for link in first.values())


async def test_followers_miss_and_double_nothing(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Records that come and go before a page that was read already don't shift the next one."""
    await gateway.sync({"users": [student(number) for number in (2, 3, 4, 5)]})
    first = await client.get(f"{V1P1}/users?limit=2")
    await gateway.sync({"users": [student(1)]}, {"users": ["user-3"]})
    second = await client.get(first.links["next"]["url"])
    assert [user["sourcedId"] for user in second.json()["users"]] == ["user-4", "user-5"]
    assert second.headers["x-total-count"] == "4"
    by_offset = await client.get(f"{V1P1}/users?limit=2&offset=1")
    assert [user["sourcedId"] for user in by_offset.json()["users"]] == ["user-2", "user-4"]


async def test_integrations_follow_each_other(client: httpx2.AsyncClient, gateway: Gateway, neighbour: Gateway) -> None:
    """A list goes through all rosters in a stable order; an id that several have must be asked for with one's name."""
    await gateway.sync({"users": [student(number) for number in (1, 2, 3)]})
    await neighbour.sync({"users": [student(number) for number in (1, 2)], "classes": [section(7)]})
    pages = [await list_ids(client, f"{V1P1}/users", limit="2", offset=str(place)) for place in (0, 2, 4)]
    followed, url = [], f"{V1P1}/users?limit=2"
    while url:
        answer = await client.get(url)
        followed += [user["sourcedId"] for user in answer.json()["users"]]
        url = answer.links.get("next", {}).get("url", "")

    assert [one for page in pages for one in page] == followed == ["user-1", "user-2", "user-3", "user-1", "user-2"]
    ambiguous = await client.get(f"{V1P1}/users/user-1")
    assert (ambiguous.status_code, ambiguous.json()["code"]) == (400, Code.INTEGRATION_AMBIGUOUS)
    nested = await client.get(f"{V1P1}/users/user-1/classes")
    assert (nested.status_code, nested.json()["code"]) == (400, Code.INTEGRATION_AMBIGUOUS)
    named = {"integration": neighbour.integration_id}
    assert (await client.get(f"{V1P1}/users/user-1", params=named)).status_code == 200
    assert await list_ids(client, f"{V1P1}/users", organization=neighbour.organization_id) == ["user-1", "user-2"]
    assert await list_ids(client, f"{V1P1}/users", integration=str(uuid4())) == []
    await gateway.sync({}, {"users": ["user-1"]})
    assert (await client.get(f"{V1P1}/users/user-1")).json()["user"]["status"] == "active"


async def test_ids_may_hold_anything(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """A sourcedId with slashes, spaces and quotes is found by the address of its reference."""
    odd = "a/b c'd%2F\u00e4"
    pupil = User(sourced_id="p", given_name="O", family_name="D", roles=(Role(role="student", org_sourced_id=odd),))
    await gateway.sync(
        {
            "classes": [Class(sourced_id=odd, title="Odd", school_sourced_id=odd)],
            "orgs": [Org(sourced_id=odd, name="Odd", type="school")],
            "users": [pupil],
            "enrollments": [Enrollment(sourced_id="e", user_sourced_id="p", class_sourced_id=odd, role="student")],
        }
    )
    served = (await client.get(f"{V1P1}/classes", params={"filter": "title='Odd'"})).json()["classes"][0]
    href = served["school"]["href"]
    assert (await client.get(href)).json()["org"]["sourcedId"] == odd
    assert await list_ids(client, f"{href.replace('/orgs/', '/schools/')}/classes") == [odd]


# ── shapes ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_people_have_the_shape_of_their_version(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """1.1 knows one role and orgs, 1.2 roles with their orgs, words for flags, preferred names and pronouns."""
    person = User(
        sourced_id="p",
        given_name="Mila",
        family_name="Ek",
        preferred_first_name="Mi",
        pronouns="she",
        user_master_identifier="m1",
        roles=(
            Role(role="administrator", org_sourced_id="d"),
            Role(role="administrator", org_sourced_id="org-North", role_type="primary", begin_date=date(2026, 1, 2)),
            Role(role="ext:nurse", org_sourced_id="org-North"),
        ),
    )
    nobody = User(sourced_id="q", given_name="No", family_name="Role", roles=())
    await gateway.sync({**DISTRICT, "users": [*DISTRICT["users"], person, nobody]})
    old = (await client.get(f"{V1P1}/users/p")).json()["user"]
    as_told = ISSUER.headers(["roster.read", "demographics.read"])  # pronouns are demographics
    new = (await client.get(f"{V1P2}/users/p", headers=as_told)).json()["user"]

    assert (old["role"], [org["sourcedId"] for org in old["orgs"]]) == ("administrator", ["d", "org-North"])
    assert (old["username"], old["enabledUser"], "roles" in old, "pronouns" in old) == ("", True, False, False)
    assert [(role["roleType"], role["role"], role["org"]["sourcedId"]) for role in new["roles"]] == [
        ("secondary", "districtAdministrator", "d"),
        ("primary", "siteAdministrator", "org-North"),
        ("secondary", "ext:nurse", "org-North"),
    ]
    assert new["roles"][1]["beginDate"] == "2026-01-02"
    assert new["primaryOrg"]["href"].endswith(f"{V1P2}/orgs/org-North")
    assert (new["preferredFirstName"], new["pronouns"], new["userMasterIdentifier"]) == ("Mi", "she", "m1")
    assert new["enabledUser"] == "true"
    assert not {"role", "orgs", "username"} & set(new)
    bare = (await client.get(f"{V1P1}/users/q")).json()["user"]
    assert ("role" in bare, bare["orgs"]) == (False, [])
    assert (await client.get(f"{V1P2}/users/q")).json()["user"]["roles"] == []


async def test_enrollments_have_a_school_and_known_roles(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Where the provider names no school it is the class's; roles 1.2 does not know are its extensions."""
    aide = Enrollment(sourced_id="a", user_sourced_id="user-1", class_sourced_id="class-2", role="aide", primary=False)
    await gateway.sync({**DISTRICT, "enrollments": [aide, enrollment(1, 1)]})
    old = (await client.get(f"{V1P1}/enrollments/a")).json()["enrollment"]
    new = (await client.get(f"{V1P2}/enrollments/a")).json()["enrollment"]
    assert (old["school"]["sourcedId"], old["role"], old["primary"]) == ("org-South", "aide", False)
    assert (new["school"]["sourcedId"], new["role"], new["primary"]) == ("org-South", "ext:aide", "false")


# ── tokens ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_scopes_are_the_standards(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Core reads collections and single records, roster what belongs to one as well, demographics have their own."""
    await gateway.sync({**DISTRICT, "demographics": [Demographics(sourced_id="user-1")]})
    core, roster = sorted(ROSTER_CORE_SCOPES), sorted(ROSTER_SCOPES - ROSTER_CORE_SCOPES)
    demographics = [scope.replace("roster", "roster-demographics") for scope in roster]
    paths = ("/users", "/users/user-1", "/classes/class-1/students", "/demographics", "/demographics/user-1")
    wanted = {
        "core": (core, [200, 200, 403, 403, 403]),
        "roster": (roster, [200, 200, 200, 403, 403]),
        "ours": (["roster.read"], [200, 200, 200, 403, 403]),
        "demographics": (demographics, [403, 403, 403, 200, 200]),
        "our demographics": (["demographics.read"], [403, 403, 403, 200, 200]),
        "admin": (["admin"], [200] * 5),
        "others": (["integrations.read"], [403] * 5),
    }
    for name, (scopes, statuses) in wanted.items():
        for scope in scopes:
            headers = ISSUER.headers([scope])
            for base in BASES:
                answers = [await client.get(base + path, headers=headers) for path in paths]
                assert [answer.status_code for answer in answers] == statuses, (name, base)
                assert all("imsx_codeMajor" in answer.json() for answer in answers if answer.status_code == 403)


async def test_nobody_without_a_token(client: httpx2.AsyncClient) -> None:
    """Without a token, or with a wrong one, each path is a 401 in OneRoster's shape; discovery alone is open."""
    for base in BASES:
        for path in ("/users", "/users/x", "/classes/x/students", "/wizards/x/y/z"):
            for headers in ({"Authorization": ""}, {"Authorization": "Bearer nonsense"}):
                answer = await client.get(base + path, headers=headers)
                assert (answer.status_code, answer.json()["imsx_codeMajor"]) == (401, "failure")
                assert answer.headers["www-authenticate"].startswith("Bearer")
    document = (await client.get(f"{V1P2}/discovery", headers={"Authorization": ""})).json()
    assert "/schools/{sourcedId}/classes/{classSourcedId}/students" in document["paths"]
    assert document["servers"][0]["url"].endswith(V1P2)


async def test_a_product_sees_its_license(
    client: httpx2.AsyncClient, database: Database, gateway: Gateway, neighbour: Gateway
) -> None:
    """A product's token reads what its license covers and grants, in both versions, and nothing of others."""
    await gateway.sync({**DISTRICT, "demographics": [Demographics(sourced_id="user-1", sex="male")]})
    await neighbour.sync({"users": [student(77)]})
    reader = await license_product(database, gateway.organization_id, grants=("identifiers",))
    token = ISSUER.token(["roster.read", "demographics.read"], product_id=reader.product_id)
    headers = {"Authorization": f"Bearer {token}"}
    for base in BASES:
        users = (await client.get(f"{base}/users", headers=headers)).json()["users"]
        assert [user["sourcedId"] for user in users] == ["user-1", "user-2", "user-3", "user-8", "user-9"]
        assert not any(user.get("email") or user["metadata"] or user["grades"] for user in users)
        assert (await client.get(f"{base}/demographics", headers=headers)).json() == {"demographics": []}
        assert (await client.get(f"{base}/users/user-77", headers=headers)).status_code == 404
        other = {"integration": neighbour.integration_id}
        assert (await client.get(f"{base}/users", params=other, headers=headers)).json() == {"users": []}
        found = await client.get(f"{base}/users", params={"filter": "email~'north'"}, headers=headers)
        assert found.json() == {"users": []}, "what is masked can't be looked for"
