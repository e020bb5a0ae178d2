"""The OneRoster 1.2 face, and what both faces serve alike: nested paths, dates to filter by, and providers' quirks."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from oauthlib import oauth1

from sandbox_district import District, Sandbox, faults, running_sandbox
from sandbox_district.access import SCOPE_PREFIX, SCOPE_PREFIX_1P2

Get = Callable[..., Awaitable[httpx2.Response]]
READ = ("roster-core.readonly", "roster.readonly", "roster-demographics.readonly")
MANY = 10_000


@pytest.fixture(name="sandbox")
async def run_sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox(District(students=120)) as sandbox:
        yield sandbox


@pytest.fixture(name="http")
async def open_client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10) as client:
        yield client


async def sign_in(sandbox: Sandbox, http: httpx2.AsyncClient, *scopes: str) -> dict[str, str]:
    """The header of a token with these scopes."""
    form = {"grant_type": "client_credentials", "scope": " ".join(scopes)}
    answer = await http.post(sandbox.token_url, data=form, auth=(sandbox.client_id, sandbox.client_secret))
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.fixture(name="get")
async def make_get(sandbox: Sandbox, http: httpx2.AsyncClient) -> Get:
    bearer = await sign_in(sandbox, http, *(SCOPE_PREFIX_1P2 + name for name in READ))

    async def get(path: str, **params: Any) -> httpx2.Response:
        return await http.get(f"{sandbox.base_url_1p2}/{path}", params=params, headers=bearer)

    return get


@pytest.fixture(name="get_either", params=["1.1", "1.2"])
async def make_get_either(sandbox: Sandbox, http: httpx2.AsyncClient, request: pytest.FixtureRequest) -> Get:
    prefix, base = {
        "1.1": (SCOPE_PREFIX, sandbox.base_url),
        "1.2": (SCOPE_PREFIX_1P2, sandbox.base_url_1p2),
    }[request.param]
    bearer = await sign_in(sandbox, http, *(prefix + name for name in READ))

    async def get(path: str, **params: Any) -> httpx2.Response:
        return await http.get(f"{base}/{path}", params=params, headers=bearer)

    return get


def ids(answer: httpx2.Response) -> set[str]:
    """The sourcedIds of a list."""
    assert answer.status_code == 200, answer.text
    ((_, rows),) = answer.json().items()
    return {row["sourcedId"] for row in rows}


async def test_users_have_roles(sandbox: Sandbox, get: Get) -> None:
    """Users have roles with their orgs, exactly one of them primary, and no role, orgs or password of their own."""
    users = (await get("users", limit=MANY)).json()["users"]
    assert {user["sourcedId"] for user in users} == set(sandbox.district.active("users"))
    for user in users:
        source = sandbox.district.collections["users"][user["sourcedId"]]
        assert not {"role", "orgs", "password"} & set(user)
        assert [role["org"]["sourcedId"] for role in user["roles"]] == [org["sourcedId"] for org in source["orgs"]]
        assert [role["roleType"] for role in user["roles"]].count("primary") == 1
        assert user["primaryOrg"]["sourcedId"] == source["orgs"][0]["sourcedId"]
        assert user["enabledUser"] in {"true", "false"}


async def test_administrators_are_called_by_where_they_are(get: Get) -> None:
    """The role that 1.2 has no word for becomes a site's or the district's administrator."""
    users = (await get("users", limit=MANY)).json()["users"]
    admins = {
        (role["role"], role["org"]["sourcedId"] == "100")
        for user in users
        for role in user["roles"]
        if "dministrator" in role["role"]
    }
    assert admins == {("siteAdministrator", False), ("districtAdministrator", True)}


async def test_words_of_other_collections(sandbox: Sandbox, get: Get) -> None:
    """Flags are words, roles of enrollments that 1.2 does not know are extensions, and periods are lists."""
    enrollments = (await get("enrollments", limit=MANY)).json()["enrollments"]
    assert {row["role"] for row in enrollments} == {"student", "teacher", "ext:aide"}
    assert {row["primary"] for row in enrollments} == {"true", "false"}
    marks = (await get("demographics", limit=MANY)).json()["demographics"]
    assert {type(row["asian"]) for row in marks} == {str}
    sections = (await get("classes", limit=MANY)).json()["classes"]
    assert all(isinstance(row["periods"], list) and row["course"] and row["terms"] for row in sections)
    assert all("/rostering/v1p2/" in row["school"]["href"] for row in sections)
    assert "roles" not in next(iter(sandbox.district.collections["users"].values()))


async def test_filters_and_order_are_of_what_is_shown(sandbox: Sandbox, get: Get) -> None:
    """A filter and an order work on 1.2's fields; those it has no more are unknown."""
    teachers = {key for key, user in sandbox.district.active("users").items() if user["role"] == "teacher"}
    assert ids(await get("users", limit=MANY, filter="roles.role='teacher'")) == teachers
    assert (await get("users", filter="role='teacher'")).status_code == 400
    assert ids(await get("teachers", limit=MANY)) == teachers
    rows = (await get("users", limit=MANY, sort="primaryOrg.sourcedId", fields="sourcedId,primaryOrg")).json()["users"]
    schools = [row["primaryOrg"]["sourcedId"] for row in rows]
    assert schools == sorted(schools)
    assert set(rows[0]) == {"sourcedId", "primaryOrg"}
    odd = (await get("users", sort="shoeSize")).json()
    assert list(odd) == ["users"]


async def test_single_records(get: Get) -> None:
    """A single record is the one of the list, also where its id has a slash."""
    (listed,) = (await get("users", filter="sourcedId='aide/ü 3'")).json()["users"]
    answer = await get(f"users/{quote('aide/ü 3', safe='')}")
    assert answer.json() == {"user": listed}


async def test_scopes_are_of_the_version(sandbox: Sandbox, http: httpx2.AsyncClient) -> None:
    """1.2 takes no signature and no token for 1.1; demographics and nested paths need scopes of their own."""
    url = f"{sandbox.base_url_1p2}/orgs"
    _, signed, _ = oauth1.Client(sandbox.client_id, sandbox.client_secret, signature_method="HMAC-SHA256").sign(url)
    assert (await http.get(url, headers={"Authorization": signed["Authorization"]})).status_code == 401
    older = await sign_in(sandbox, http, *(SCOPE_PREFIX + name for name in READ))
    assert (await http.get(url, headers=older)).status_code == 403
    assert (await http.get(f"{sandbox.base_url}/orgs", headers=older)).status_code == 200
    core = await sign_in(sandbox, http, SCOPE_PREFIX_1P2 + "roster-core.readonly")
    statuses = {
        path: (await http.get(f"{sandbox.base_url_1p2}/{path}", headers=core)).status_code
        for path in ("orgs", "users", "demographics", "schools/101/classes")
    }
    assert statuses == {"orgs": 200, "users": 200, "demographics": 403, "schools/101/classes": 403}


async def test_what_belongs_to_a_school(sandbox: Sandbox, get_either: Get) -> None:
    """A school's own lists hold what belongs to it, and those of all schools make up the whole."""
    district = sandbox.district
    for name in ("classes", "enrollments"):
        whole = set()
        for school in ("101", "102", "103", "104", "105"):
            found = ids(await get_either(f"schools/{school}/{name}", limit=MANY))
            records = district.active(name)
            assert found == {key for key, record in records.items() if record["school"]["sourcedId"] == school}
            whole |= found
        assert whole == set(district.active(name))
    students = ids(await get_either("schools/103/students", limit=MANY))
    assert students == {
        key
        for key, user in district.active("users").items()
        if user["role"] == "student" and "103" in [org["sourcedId"] for org in user["orgs"]]
    }
    assert ids(await get_either("schools/103/teachers", limit=MANY))
    assert ids(await get_either("schools/103/courses")) < set(district.active("courses"))
    sections = [one for one in district.active("classes").values() if one["school"]["sourcedId"] == "103"]
    terms = {term["sourcedId"] for section in sections for term in section["terms"]}
    assert ids(await get_either("schools/103/terms")) == terms > {"year"}


async def test_other_nested_paths(sandbox: Sandbox, get_either: Get) -> None:
    """Classes have their members, members their classes; what has no such parent or path is 404."""
    section = next(iter(sandbox.district.active("classes")))
    students = ids(await get_either(f"classes/{section}/students", limit=MANY))
    assert students
    assert section in ids(await get_either(f"students/{min(students)}/classes"))
    assert ids(await get_either("terms/s1/gradingPeriods")) == {"q1", "q2"}
    for path in ("schools/999/classes", "schools/101/orgs", "classes/none/students", "users/a/b/c"):
        assert (await get_either(path)).status_code == 404


async def test_what_was_modified_since(sandbox: Sandbox, get_either: Get) -> None:
    """DateLastModified can be filtered by, to whatever precision and in whatever zone, with tombstones."""
    changes = sandbox.district.advance_day()
    there = sandbox.district.collections["users"]
    touched = {
        key for key in changes["users"].added | changes["users"].changed | changes["users"].removed if key in there
    }
    for spelling in ("2026-09-15T05:00:00.000Z", "2026-09-15T05:00:00Z", "2026-09-15T07:00:00+02:00", "2026-09-15"):
        assert ids(await get_either("users", limit=MANY, filter=f"dateLastModified>='{spelling}'")) == touched
    assert ids(await get_either("users", limit=MANY, filter="dateLastModified>'2026-09-15T05:00:00Z'")) == set()


SINCE = "dateLastModified>='2026-09-15'"


async def test_filters_that_fail(sandbox: Sandbox, get_either: Get) -> None:
    """A filter is ignored, matches nothing, or is refused; only where it names the field, if there is one named."""
    whole = set(sandbox.district.active("users"))
    sandbox.faults.replace(faults.IgnoreFilter())
    assert ids(await get_either("users", limit=MANY, filter=SINCE)) == whole
    sandbox.faults.replace(faults.FilterEmpty())
    assert ids(await get_either("users", limit=MANY, filter=SINCE)) == set()
    assert ids(await get_either("users", limit=MANY)) == whole
    sandbox.faults.replace(faults.FilterRefused(fields=("dateLastModified",)))
    assert (await get_either("users", filter=SINCE)).status_code == 400
    assert ids(await get_either("users", limit=MANY, filter="status='active'")) == whole


async def test_unstamped_changes(sandbox: Sandbox, get_either: Get) -> None:
    """A share of the edits can't be found by their date, the same ones every time, though the records are new."""
    before = set(sandbox.district.collections["enrollments"])
    sandbox.district.advance_day()
    stamped = ids(await get_either("enrollments", limit=MANY, filter=SINCE))
    sandbox.faults.replace(faults.UnstampedChanges(share=0.5))
    first, second = [ids(await get_either("enrollments", limit=MANY, filter=SINCE)) for _ in range(2)]
    assert first == second < stamped
    assert stamped - before <= first
    sandbox.faults.replace(faults.UnstampedChanges(share=1.0))
    assert ids(await get_either("enrollments", limit=MANY, filter=SINCE)) == stamped - before


async def test_purged_deletions(sandbox: Sandbox, get_either: Get) -> None:
    """Nothing deleted is served any more, neither in lists nor one by one."""
    sandbox.district.advance_day()
    users = sandbox.district.collections["users"]
    buried = next(key for key, user in users.items() if user["status"] == "tobedeleted")
    assert (await get_either(f"users/{buried}")).status_code == 200
    sandbox.faults.replace(faults.PurgedDeletions())
    listed = await get_either("users", limit=MANY)
    assert ids(listed) == set(sandbox.district.active("users"))
    assert listed.headers["x-total-count"] == str(len(sandbox.district.active("users")))
    assert (await get_either(f"users/{buried}")).status_code == 404


async def test_refused_collection(sandbox: Sandbox, get_either: Get) -> None:
    """A collection is refused as a whole and one by one, while schools' own lists of it come, but for some."""
    section = next(iter(sandbox.district.active("classes")))
    sandbox.faults.replace(faults.RefusedCollection(path="/classes", schools=("104",)))
    for path in ("classes", f"classes/{section}", "schools/104/classes"):
        assert (await get_either(path)).status_code == 403
    for path in ("schools/103/classes", "enrollments", "schools/104/enrollments"):
        assert (await get_either(path)).status_code == 200


async def test_no_nested_paths(sandbox: Sandbox, get_either: Get) -> None:
    """Nested paths are 404, and collections and single records are not, even where an id has a slash."""
    sandbox.faults.replace(faults.NoNested())
    assert (await get_either("schools/101/classes")).status_code == 404
    for path in ("classes", f"users/{quote('aide/ü 3', safe='')}"):
        assert (await get_either(path)).status_code == 200


async def test_shifted_clock(sandbox: Sandbox, get_either: Get) -> None:
    """The Date header and every stamp are ahead by as much; without the fault the Date is right, and there once."""
    right = await get_either("orgs")
    assert abs(parsedate_to_datetime(right.headers["date"]).timestamp() - time.time()) < 5
    sandbox.faults.replace(faults.ShiftedClock(seconds=7200))
    wrong = await get_either("orgs")
    assert 7190 < parsedate_to_datetime(wrong.headers["date"]).timestamp() - time.time() < 7210
    for before, after in zip(right.json()["orgs"], wrong.json()["orgs"], strict=True):
        shift = datetime.fromisoformat(after["dateLastModified"]) - datetime.fromisoformat(before["dateLastModified"])
        assert shift == timedelta(hours=2)
