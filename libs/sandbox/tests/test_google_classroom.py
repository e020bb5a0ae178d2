"""The district in Google Classroom: tokens by signed assertions, pages, people, errors."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from sandbox_district import District, Sandbox, classroom_snapshot, faults, running_sandbox
from sandbox_district.google_access import EMAILS, GRANT, SCOPES

Get = Callable[..., Awaitable[httpx2.Response]]


@pytest.fixture(name="sandbox")
async def run_sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox(District(students=130)) as sandbox:
        yield sandbox


@pytest.fixture(name="http")
async def open_client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10) as client:
        yield client


def sign(sandbox: Sandbox, key: RSAKey | None = None, **claims: Any) -> dict[str, str]:
    """The form of a token request; a claim that is None is left out."""
    file = json.loads(sandbox.google_key)
    now = int(time.time())
    usual = {
        "iss": file["client_email"],
        "sub": sandbox.google_admin,
        "aud": file["token_uri"],
        "scope": " ".join(SCOPES),
        "iat": now,
        "exp": now + 3600,
    }
    wanted = {name: value for name, value in (usual | claims).items() if value is not None}
    key = key or RSAKey.import_key(file["private_key"])
    return {"grant_type": GRANT, "assertion": jwt.encode({"alg": "RS256"}, wanted, key)}


@pytest.fixture(name="get")
async def make_get(sandbox: Sandbox, http: httpx2.AsyncClient) -> Get:
    tokens: dict[str, str] = {}

    async def get(path: str, claims: dict[str, Any] | None = None, **params: Any) -> httpx2.Response:
        wish = str(claims)
        if wish not in tokens:
            answer = await http.post(sandbox.google_token_url, data=sign(sandbox, **(claims or {})))
            tokens[wish] = answer.json()["access_token"]
        headers = {"Authorization": f"Bearer {tokens[wish]}"}
        return await http.get(f"{sandbox.google_url}/v1/{path}", params=params, headers=headers)

    return get


async def read_all(get: Get, path: str, name: str, **params: Any) -> list[dict[str, Any]]:
    """Every entry of a list, page by page."""
    found: list[dict[str, Any]] = []
    token = None
    while True:
        page = (await get(path, **params, **({"pageToken": token} if token else {}))).json()
        found += page.get(name, [])
        token = page.get("nextPageToken")
        if not token:
            return found


async def test_tokens(sandbox: Sandbox, http: httpx2.AsyncClient) -> None:
    """A rightly signed assertion for the administrator gets a bearer for an hour."""
    answer = await http.post(sandbox.google_token_url, data=sign(sandbox))
    assert answer.status_code == 200
    assert answer.json()["token_type"] == "Bearer"
    assert 3000 < answer.json()["expires_in"] <= 3600


@pytest.mark.parametrize(
    ("claims", "status", "error"),
    [
        ({"iss": "somebody@else.example"}, 400, "invalid_grant"),
        ({"sub": "nobody@lakeverity.example"}, 400, "invalid_grant"),
        ({"sub": None}, 400, "invalid_grant"),
        ({"aud": "https://else.example/token"}, 400, "invalid_grant"),
        ({"exp": int(time.time()) + 90_000}, 400, "invalid_grant"),
        ({"exp": int(time.time()) - 3600, "iat": int(time.time()) - 7000}, 400, "invalid_grant"),
        ({"scope": "https://www.googleapis.com/auth/drive"}, 401, "unauthorized_client"),
        ({"scope": ""}, 401, "unauthorized_client"),
    ],
)
async def test_refused_assertions(
    sandbox: Sandbox, http: httpx2.AsyncClient, claims: dict[str, Any], status: int, error: str
) -> None:
    """An assertion of or for somebody else, for another place, time or scope gets no token."""
    answer = await http.post(sandbox.google_token_url, data=sign(sandbox, **claims))
    assert (answer.status_code, answer.json()["error"]) == (status, error)


async def test_wrong_signatures(sandbox: Sandbox, http: httpx2.AsyncClient) -> None:
    """An assertion by another key, none at all, and another grant get no token."""
    forged = sign(sandbox, RSAKey.generate_key(2048))
    for form in (forged, {"grant_type": GRANT, "assertion": "a.b.c"}, {"grant_type": GRANT}, {"grant_type": "other"}):
        answer = await http.post(sandbox.google_token_url, data=form)
        assert answer.status_code == 400
        assert answer.json()["error"] in {"invalid_grant", "unsupported_grant_type"}


async def test_courses(sandbox: Sandbox, get: Get) -> None:
    """The secondary schools' classes are courses, the newest first, with ids that say nothing of the SIS."""
    sandbox.district.advance_day()
    courses = await read_all(get, "courses", "courses", pageSize=10)
    assert courses == list(classroom_snapshot(sandbox.district).courses.values())
    classes = sandbox.district.active("classes").values()
    assert len(courses) == sum(each["school"]["sourcedId"] in {"103", "104", "105"} for each in classes)
    assert all(each["id"].isdecimal() for each in courses)
    times = [each["creationTime"] for each in courses]
    assert times == sorted(times, reverse=True)
    assert (await get(f"courses/{courses[0]['id']}")).json() == courses[0]


async def test_pages(get: Get) -> None:
    """A page may be shorter than asked for without being the last, and 30 are the most without being asked."""
    assert len((await get("courses")).json()["courses"]) == 30
    first = (await get("courses", pageSize=10)).json()
    second = (await get("courses", pageSize=10, pageToken=first["nextPageToken"])).json()
    assert (len(first["courses"]), len(second["courses"])) == (10, 9)
    assert second["nextPageToken"]
    assert not {each["id"] for each in first["courses"]} & {each["id"] for each in second["courses"]}


async def test_page_tokens_are_for_their_parameters(get: Get) -> None:
    """A page token beside other parameters, or of no page, is INVALID_ARGUMENT."""
    token = (await get("courses", pageSize=10)).json()["nextPageToken"]
    for params in ({"pageSize": 11, "pageToken": token}, {"pageToken": "guess"}, {"pageSize": "all"}):
        answer = await get("courses", **params)
        assert answer.status_code == 400
        assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"


async def test_a_new_course_repeats_nothing(sandbox: Sandbox, get: Get) -> None:
    """A course that comes while courses are listed is not among the later pages, nor repeats any row."""
    first = (await get("courses", pageSize=20)).json()
    courses = set(classroom_snapshot(sandbox.district).courses)
    while set(classroom_snapshot(sandbox.district).courses) == courses:
        sandbox.district.advance_day()
    rest = await read_all(get, "courses", "courses", pageSize=20)
    second = (await get("courses", pageSize=20, pageToken=first["nextPageToken"])).json()
    known = [each["id"] for each in rest if each["id"] in courses]
    assert [each["id"] for each in first["courses"] + second["courses"]] == known[:39]


async def test_states(get: Get) -> None:
    """Archived courses are listed unless only others are asked for."""
    every = await read_all(get, "courses", "courses", pageSize=100)
    active = await read_all(get, "courses", "courses", pageSize=100, courseStates=["ACTIVE"])
    archived = await read_all(get, "courses", "courses", pageSize=100, courseStates=["ARCHIVED"])
    assert archived
    assert len(active) + len(archived) == len(every)
    assert {each["courseState"] for each in archived} == {"ARCHIVED"}


async def test_people(sandbox: Sandbox, get: Get) -> None:
    """Students and teachers are those enrolled, joined to the SIS by e-mail alone; some have no counterpart there."""
    room = classroom_snapshot(sandbox.district)
    users = sandbox.district.active("users").values()
    known = {user["email"].lower() for user in users if user.get("email")}
    strangers = set()
    for course in room.courses:
        for name, found in (("students", room.students), ("teachers", room.teachers)):
            members = await read_all(get, f"courses/{course}/{name}", name, pageSize=4)
            assert [each["userId"] for each in members] == list(found[course])
            for each in members:
                assert each["courseId"] == course
                assert each["userId"] == each["profile"]["id"]
                assert each["profile"]["name"]["fullName"]
                email = each["profile"]["emailAddress"].lower()
                strangers |= {email} - known
    assert {"classroom.robot@lakeverity.example", "visitor@students.lakeverity.example"} <= strangers
    assert len(strangers) < len(room.profiles) / 4
    sourced_ids = set(sandbox.district.collections["users"])
    assert all(key.isdecimal() and key not in sourced_ids for key in room.profiles)


def test_one_account_is_shared() -> None:
    """The first two teachers of the high school share an account, so that one of them has none of their own."""
    district = District(students=130)
    emails = {profile["emailAddress"].lower() for profile in classroom_snapshot(district).profiles.values()}
    at_high = [
        user["email"]
        for user in district.active("users").values()
        if user["role"] == "teacher" and any(org["sourcedId"] == "105" for org in user["orgs"])
    ]
    assert at_high[0] in emails
    assert at_high[1] not in emails
    assert set(at_high[2:]) & emails


async def test_empty_lists_have_no_array(sandbox: Sandbox, get: Get) -> None:
    """A course without students answers an object without any list."""
    district = sandbox.district
    room = classroom_snapshot(district)
    course = next(key for key in room.courses if set(room.students[key]) and int(key) % 7)
    section = next(
        key
        for key, each in district.active("classes").items()
        if each["classCode"] == room.courses[course]["section"] and each["title"] == room.courses[course]["name"]
    )
    pupils = [
        key
        for key, each in district.active("enrollments").items()
        if each["class"]["sourcedId"] == section and each["role"] == "student"
    ]
    district.change(lambda: [district.collections["enrollments"].pop(key) for key in pupils])
    assert (await get(f"courses/{course}/students")).json() == {}


async def test_profiles_show_what_the_scopes_allow(sandbox: Sandbox, get: Get) -> None:
    """E-mail addresses and photos need their own scopes, guardians too, and a list without its scope is 403."""
    course = next(iter(classroom_snapshot(sandbox.district).courses))
    bare = {"scope": " ".join(scope for scope in SCOPES if "rosters" in scope)}
    (teacher, *_) = (await get(f"courses/{course}/teachers", bare)).json()["teachers"]
    assert set(teacher["profile"]) == {"id", "name"}
    with_email = (await get(f"userProfiles/{teacher['userId']}", {"scope": f"{bare['scope']} {EMAILS}"})).json()
    assert set(with_email) == {"id", "name", "emailAddress"}
    for path in ("courses", f"courses/{course}", f"userProfiles/{teacher['userId']}/guardians"):
        refused = await get(path, bare)
        assert (refused.status_code, refused.json()["error"]["status"]) == (403, "PERMISSION_DENIED")


async def test_guardians(sandbox: Sandbox, get: Get) -> None:
    """A student's guardians come with their addresses; a student without any answers no list."""
    room = classroom_snapshot(sandbox.district)
    student = next(key for key, found in room.guardians.items() if found)
    answer = (await get(f"userProfiles/{student}/guardians")).json()["guardians"]
    assert answer == room.guardians[student]
    assert answer[0]["guardianProfile"]["emailAddress"] == answer[0]["invitedEmailAddress"]
    alone = next(key for key, found in room.guardians.items() if not found)
    assert (await get(f"userProfiles/{alone}/guardians")).json() == {}
    everybody = await read_all(get, "userProfiles/-/guardians", "guardians", pageSize=9)
    assert len(everybody) == sum(map(len, room.guardians.values()))


async def test_only_administrators_see_everything(sandbox: Sandbox, get: Get) -> None:
    """A token for a teacher lists that teacher's courses, and others are not found."""
    room = classroom_snapshot(sandbox.district)
    course, teachers = next((key, found) for key, found in room.teachers.items() if found)
    email = next(iter(teachers.values()))["emailAddress"]
    own = await read_all(get, "courses", "courses", claims={"sub": email}, pageSize=100)
    assert course in {each["id"] for each in own}
    assert len(own) < len(room.courses)
    foreign = next(key for key in room.courses if key not in {each["id"] for each in own})
    assert (await get(f"courses/{foreign}", {"sub": email})).status_code == 404
    assert (await get("userProfiles/me", {"sub": email})).json()["emailAddress"] == email
    by_teacher = await read_all(get, "courses", "courses", teacherId=email, pageSize=100)
    assert {each["id"] for each in by_teacher} <= {each["id"] for each in own}


async def test_errors(sandbox: Sandbox, http: httpx2.AsyncClient, get: Get) -> None:
    """Errors have Google's shape, those of faults too, which strike by the face's own paths."""
    missing = await get("courses/1")
    assert missing.json()["error"] == {
        "code": 404,
        "message": "Requested entity was not found.",
        "status": "NOT_FOUND",
    }
    assert (await http.get(f"{sandbox.google_url}/v1/courses")).json()["error"]["status"] == "UNAUTHENTICATED"
    sandbox.faults.replace(faults.RateLimit(path="/google/courses", retry_after=None), faults.Empty())
    limited = await get("courses")
    assert (limited.status_code, limited.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert (await get("userProfiles/me")).status_code == 200
    assert (await http.post(sandbox.google_token_url, data=sign(sandbox))).status_code == 200
    sandbox.faults.replace(faults.Unauthorized(path="/google/token"))
    assert (await http.post(sandbox.google_token_url, data=sign(sandbox))).status_code == 401
    sandbox.faults.replace(faults.Clamp(path="/google/courses", limit=3))
    assert len((await get("courses", pageSize=10)).json()["courses"]) == 3
    sandbox.faults.replace(faults.TokenExpiry(path="/google", requests=0))
    assert (await get("courses")).status_code == 401
