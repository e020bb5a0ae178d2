"""A domain through Google Classroom: courses, people, guardians, tokens, and what is refused."""

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from homeroom.codes import Code
from homeroom.messages import Inquiry
from provider_gateway.inquiries import answer_inquiry
from provider_gateway.providers._google_records import Person, read_course, read_person
from provider_gateway.providers.contract import Proof
from provider_gateway.scope import Scope
from sandbox_district import faults
from sandbox_district.server import create_district, running_sandbox

DOMAIN = "lakeverity.example"
KEY = RSAKey.generate_key(2048)
SCOPES = {
    "https://www.googleapis.com/auth/classroom.courses.readonly",
    "https://www.googleapis.com/auth/classroom.rosters.readonly",
    "https://www.googleapis.com/auth/classroom.profile.emails",
}
GUARDIANS_SCOPE = "https://www.googleapis.com/auth/classroom.guardianlinks.students.readonly"


class TinyClassroom:
    """Google's token endpoint and Classroom API with a small domain; a test may answer in its stead."""

    def __init__(self) -> None:
        self.courses: list[dict[str, Any]] = []
        self.rosters: dict[tuple[str, str], list[str]] = {}
        self.guardians: list[dict[str, Any]] = []
        self.page = 2
        self.everybody = True
        self.tokens = 0
        self.good_for = 10_000
        self.claims: list[dict[str, Any]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answer: Callable[[str, dict[str, str]], Response | None] = lambda *_: None
        self.origin = ""
        self._used = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        if request.url.path == "/token":
            response = self._give_token((await request.body()).decode())
        else:
            self.asked.append((request.url.path, dict(request.query_params)))
            response = self._check(request) or self.answer(*self.asked[-1]) or self._read(*self.asked[-1])
        await response(scope, receive, send)

    def _give_token(self, body: str) -> Response:
        form = {name: values[0] for name, values in parse_qs(body).items()}
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        token = jwt.decode(form["assertion"], KEY, algorithms=["RS256"])
        self.claims.append(dict(token.claims))
        self.tokens += 1
        self._used = 0
        return JSONResponse({"access_token": f"token-{self.tokens}", "expires_in": 3600, "token_type": "Bearer"})

    def _check(self, request: Request) -> Response | None:
        self._used += 1
        if request.headers.get("authorization") != f"Bearer token-{self.tokens}" or self._used > self.good_for:
            return JSONResponse({"error": {"code": 401, "status": "UNAUTHENTICATED"}}, 401)
        return None

    def _read(self, path: str, query: dict[str, str]) -> Response:  # noqa: PLR0911 - one for each path there is
        match path.removeprefix("/v1/").split("/"):
            case ["courses"]:
                return self._list("courses", self.courses, query)
            case ["courses", course] if found := [one for one in self.courses if one["id"] == course]:
                return JSONResponse(found[0])
            case ["courses", course, role]:
                return self._list(role, [_member(course, user) for user in self.rosters.get((course, role), [])], query)
            case ["courses", course, role, user] if user in self.rosters.get((course, role), []):
                return JSONResponse(_member(course, user))
            case ["userProfiles", user] if any(user in users for users in self.rosters.values()):
                return JSONResponse(_member("", user)["profile"])
            case ["userProfiles", student, "guardians"] if student != "-" or self.everybody:
                found = [one for one in self.guardians if student in {"-", one["studentId"]}]
                return self._list("guardians", found, query)
        return JSONResponse({"error": {"code": 404, "status": "NOT_FOUND"}}, 404)

    def _list(self, key: str, rows: list[Any], query: dict[str, str]) -> Response:
        start = int(query.get("pageToken", "0"))
        shown = rows[start : start + self.page]
        body: dict[str, Any] = {key: shown} if shown else {}
        if start + self.page < len(rows):
            body["nextPageToken"] = str(start + self.page)
        return JSONResponse(body)


def _member(course: str, user: str) -> dict[str, Any]:
    name = {"givenName": "Ada", "familyName": user, "fullName": f"Ada {user}"}
    return {
        "courseId": course, "userId": user, "profile": {"id": user, "name": name, "emailAddress": f"{user}@{DOMAIN}"},
    }  # fmt: skip


def make_course(key: str, owner: str, **more: Any) -> dict[str, Any]:
    return {
        "id": key, "name": f"Course {key}", "section": "P1", "room": "12", "ownerId": owner, "courseState": "ACTIVE",
        "updateTime": "2026-01-01T00:00:00Z", "enrollmentCode": "canary-code", **more,
    }  # fmt: skip


@pytest.fixture
async def classroom(serve: Any, gateway: Any) -> TinyClassroom:
    """A small domain at Google Classroom that the gateway is connected to."""
    tiny = TinyClassroom()
    for number in range(1, 4):
        tiny.courses.append(make_course(f"{number}", "90"))
        tiny.rosters[f"{number}", "teachers"] = ["90", "91"]
        tiny.rosters[f"{number}", "students"] = [f"{10 + place}" for place in range(number, number + 5)]
    tiny.rosters["3", "students"].append("91")
    tiny.guardians = [
        {"studentId": "11", "guardianId": "70", "guardianProfile": {"id": "70", "name": {"fullName": "Grace H"}}},
        {"studentId": "12", "guardianId": "70", "invitedEmailAddress": "grace@home.example"},
        {"studentId": "99", "guardianId": "71", "invitedEmailAddress": "of-nobody-here@home.example"},
        {"studentId": "12", "guardianId": "90", "guardianProfile": _member("", "90")["profile"]},
    ]
    tiny.origin = await serve(tiny)
    gateway.provider = "google-classroom"
    gateway.connection = {
        "domain": DOMAIN,
        "admin_email": f"admin@{DOMAIN}",
        "base_url": tiny.origin,
        "token_url": f"{tiny.origin}/token",
    }
    key = {
        "client_email": "sync@project.example",
        "private_key": KEY.as_pem(private=True).decode(),
        "private_key_id": "k1",
    }
    gateway.secrets = {"service_account_key": msgspec.json.encode(key).decode()}
    return tiny


def users_of(gateway: Any) -> dict[str, Any]:
    return {key: msgspec.json.decode(body) for key, (_, body) in gateway.store.records["users"].items()}


async def test_a_domain_is_read_whole(gateway: Any, classroom: TinyClassroom) -> None:
    """One organization, its active courses, everybody in them once, and who is what where; each list is read once."""
    outcome = await gateway.sync()
    assert set(gateway.store.records["orgs"]) == {DOMAIN}
    assert set(gateway.store.records["classes"]) == {"1", "2", "3"}
    assert set(gateway.store.records["users"]) == {"11", "12", "13", "14", "15", "16", "17", "90", "91"}
    assert len(gateway.store.records["enrollments"]) == 6 + 15 + 1
    assert all(report.consistent for report in outcome.reports.values())
    assert outcome.completed.issues == ()
    assert not outcome.completed.bookmark.increments
    assert len({(path, query.get("pageToken")) for path, query in classroom.asked}) == len(classroom.asked)
    again = await gateway.sync()
    assert again.chunks == []


@pytest.mark.usefixtures("classroom")
async def test_the_owner_is_the_primary_teacher(gateway: Any) -> None:
    """The owner is primary, other teachers are not, students are neither; ids name course, person and role (B3)."""
    await gateway.sync()
    records = {key: msgspec.json.decode(body) for key, (_, body) in gateway.store.records["enrollments"].items()}
    assert records["3_90_teacher"]["primary"] is True
    assert records["3_91_teacher"]["primary"] is False
    assert "primary" not in records["3_91_student"]
    assert records["3_91_student"]["schoolSourcedId"] == DOMAIN
    roles = [(role["role"], role.get("roleType")) for role in users_of(gateway)["91"]["roles"]]
    assert roles == [("teacher", "primary"), ("student", None)]


async def test_pages_differ_by_their_token_only(gateway: Any, classroom: TinyClassroom) -> None:
    """Lists are read until there is no page token, with all other parameters the same; only for active courses."""
    await gateway.sync()
    queries = [query for path, query in classroom.asked if path == "/v1/courses"]
    assert [query.pop("pageToken", None) for query in queries] == [None, "2"]
    assert queries[0] == queries[1] == {"courseStates": "ACTIVE", "pageSize": "100"}


async def test_courses_that_are_not_active_are_gone(gateway: Any, classroom: TinyClassroom) -> None:
    """An archived course that comes all the same counts as gone, and nobody in it is asked for."""
    await gateway.sync()
    classroom.courses[0]["courseState"] = "ARCHIVED"
    classroom.asked.clear()
    await gateway.sync()
    assert set(gateway.store.records["classes"]) == {"2", "3"}
    assert "/v1/courses/1/students" not in {path for path, _ in classroom.asked}
    assert "11" not in gateway.store.records["users"]


@pytest.mark.parametrize("everybody", [True, False], ids=["one list", "student by student"])
async def test_guardians_are_tied_to_students_both_ways(
    gateway: Any, classroom: TinyClassroom, *, everybody: bool
) -> None:
    """Guardians come where parents are wanted, in one list or by student, and a teacher may be one (B2)."""
    classroom.everybody = everybody
    await gateway.sync(options={"sync_parents": True})
    users = users_of(gateway)
    assert users["70"]["agentSourcedIds"] == ["11", "12"]
    assert "71" not in users
    assert users["12"]["agentSourcedIds"] == ["70", "90"]
    assert [role["role"] for role in users["90"]["roles"]] == ["teacher", "guardian"]
    assert set(classroom.claims[0]["scope"].split()) == SCOPES | {GUARDIANS_SCOPE}


async def test_what_is_switched_off_is_not_asked_for(gateway: Any, classroom: TinyClassroom) -> None:
    """Without parents no guardians are asked for, and no scope for them; without classes people still come."""
    await gateway.sync(options={"sync_classes": False})
    assert not [path for path, _ in classroom.asked if "guardians" in path]
    assert set(classroom.claims[0]["scope"].split()) == SCOPES
    assert set(gateway.store.records["users"]) >= {"11", "90"}
    assert not gateway.store.records["classes"]


async def test_the_assertion_names_account_administrator_and_endpoint(gateway: Any, classroom: TinyClassroom) -> None:
    """A token is asked for once, by an assertion of the account for the administrator, good for an hour (RFC 7523)."""
    await gateway.sync()
    (claims,) = classroom.claims
    assert claims["iss"] == "sync@project.example"
    assert claims["sub"] == f"admin@{DOMAIN}"
    assert claims["aud"] == f"{classroom.origin}/token"
    assert claims["exp"] - claims["iat"] == 3600


async def test_a_token_that_ends_is_renewed(gateway: Any, classroom: TinyClassroom) -> None:
    """A 401 in the middle of a run has the token renewed, and the run goes on at the same page."""
    classroom.good_for = 8
    await gateway.sync(pages_in_flight=1)
    assert classroom.tokens > 1
    assert len(gateway.store.records["users"]) == 9


async def test_a_refused_account_ends_the_run(gateway: Any, classroom: TinyClassroom) -> None:
    """A key that can't be read, and a delegation Google does not know, are AUTH_INVALID."""
    secrets = gateway.secrets
    gateway.secrets = {"service_account_key": '{"client_email": "a", "private_key": "canary-key"}'}
    outcome = await gateway.run()
    assert outcome.failure is not None
    assert outcome.failure.code is Code.AUTH_INVALID
    assert "canary" not in repr(outcome.facts)
    gateway.secrets = secrets
    classroom._give_token = lambda _: JSONResponse({"error": "unauthorized_client"}, 401)  # type: ignore[method-assign]  # the toy, refusing
    outcome = await gateway.run()
    assert outcome.failure is not None
    assert outcome.failure.code is Code.AUTH_INVALID


@pytest.mark.parametrize("status", [403, 404])
async def test_a_roster_that_is_refused_removes_nobody(gateway: Any, classroom: TinyClassroom, status: int) -> None:
    """One course's people are refused: it is told, its enrollments stay, the other courses go on."""
    await gateway.sync()

    def answer(path: str, _: dict[str, str]) -> Response | None:
        refused = path.startswith("/v1/courses/1/")
        return (
            JSONResponse({"error": {"status": "PERMISSION_DENIED"}}, 403 if path.count("/") > 4 else status)
            if refused
            else None
        )

    classroom.answer = answer
    classroom.rosters["2", "students"].remove("12")
    outcome = await gateway.sync()
    held = gateway.store.records["enrollments"]
    assert {"1_11_student", "1_90_teacher"} <= set(held)
    assert "2_12_student" not in held
    assert not outcome.reports["enrollments"].consistent
    assert outcome.reports["classes"].consistent
    issues = {(issue.code, issue.sourced_id) for issue in outcome.completed.issues}
    assert (Code.PROV_SCOPE, "1") in issues
    assert "11" in gateway.store.records["users"]


async def test_rosters_that_are_all_refused_end_the_run(gateway: Any, classroom: TinyClassroom) -> None:
    """Where no course shows its people, the scope is missing, and the run says so."""
    classroom.answer = lambda path, _: JSONResponse({}, 403) if path.count("/") > 3 else None
    outcome = await gateway.run()
    assert outcome.failure is not None
    assert outcome.failure.code is Code.PROV_SCOPE


async def test_guardians_that_are_refused_end_the_run(gateway: Any, classroom: TinyClassroom) -> None:
    """Without the right to see guardians, nobody's links are dropped: the run fails with PROV_SCOPE."""
    classroom.answer = lambda path, _: JSONResponse({}, 403) if "guardians" in path else None
    outcome = await gateway.run(options={"sync_parents": True})
    assert outcome.failure is not None
    assert outcome.failure.code is Code.PROV_SCOPE


@pytest.mark.parametrize("body", [{"nextPageToken": "0"}, {"courses": [make_course("1", "9")], "nextPageToken": "7"}])
async def test_page_tokens_that_come_again_end_the_run(
    gateway: Any, classroom: TinyClassroom, body: dict[str, Any]
) -> None:
    """Pages that go in a circle, empty or not, are no roster."""
    classroom.answer = lambda path, _: JSONResponse(body) if path == "/v1/courses" else None
    outcome = await gateway.run()
    assert outcome.failure is not None
    assert outcome.failure.code is Code.PROV_PAGINATION


@pytest.mark.parametrize("body", [b"", b"[]", b'{"courses": [', b'{"error": {}}', b"<html>", b'{"courses": {"a": 1}}'])
async def test_an_answer_that_is_none_removes_nobody(gateway: Any, classroom: TinyClassroom, body: bytes) -> None:
    """Cut, empty, HTML or an error with status 200 ends the run; the roster stays."""
    classroom.answer = lambda path, _: Response(body) if path == "/v1/courses" else None
    outcome = await gateway.run(retries=0)
    assert outcome.failure is not None
    assert outcome.failure.code is Code.PROV_BAD_PAYLOAD


async def test_google_is_asked_again_later_when_it_says_so(gateway: Any, classroom: TinyClassroom) -> None:
    """RESOURCE_EXHAUSTED is waited out."""
    busy = iter([JSONResponse({"error": {"status": "RESOURCE_EXHAUSTED"}}, 429, {"retry-after": "0"})])
    classroom.answer = lambda path, _: next(busy, None) if path.endswith("/students") else None
    outcome = await gateway.sync()
    assert outcome.reports["enrollments"].consistent


async def test_an_unreadable_person_lets_nobody_go(gateway: Any, classroom: TinyClassroom) -> None:
    """A row without an id may be anybody: it is quarantined, and absent people are asked for before they go."""
    await gateway.sync()

    def answer(path: str, _: dict[str, str]) -> Response | None:
        if path != "/v1/courses/3/students":
            return None
        users = classroom.rosters["3", "students"]
        return JSONResponse(
            {"students": [_member("3", user) | {"userId": "" if user == "17" else user} for user in users]}
        )

    classroom.answer = answer
    outcome = await gateway.sync()
    assert "3_17_student" in gateway.store.records["enrollments"]
    assert "17" in gateway.store.records["users"]
    assert outcome.reports["users"].quarantined == 1


@pytest.mark.usefixtures("classroom")
async def test_single_records_are_what_the_lists_say(gateway: Any) -> None:
    """A record asked for by its id is that of the list; one that is not there is None."""
    await gateway.sync()
    job = gateway.job()
    scope = Scope(job.options, job.today)
    async with gateway.workshop(None).open_source(job, mode="full", bookmark=None, began=job.deadline) as source:
        _ = [page async for page in source.pages("users", scope)]
        for collection in source.collections:
            assert source.proof(collection) is Proof.WHOLE
            for sourced_id, (_, body) in gateway.store.records[collection].items():
                page = await source.find(collection, sourced_id, scope)
                assert msgspec.json.decode(page.canonical.encoded(0)) == msgspec.json.decode(body)
            for absent in ("none", "1_none_student", "1_11_owner"):
                assert await source.find(collection, absent, scope) is None


async def test_a_verification_looks_at_a_few_courses(gateway: Any, classroom: TinyClassroom) -> None:
    """A first look reads one page of courses and the people of few of them."""
    classroom.page = 20
    classroom.courses += [make_course(f"{number}", "90") for number in range(100, 140)]
    job = gateway.job()
    fields = {name: value for name, value in msgspec.structs.asdict(job).items() if name in Inquiry.__struct_fields__}
    answer = await answer_inquiry(gateway.workshop(None), Inquiry(inquiry_id="i", kind="verify", **fields))
    assert answer.code is None
    assert len([path for path, _ in classroom.asked if path.endswith("/students")]) == 5


async def test_a_large_course_is_read_page_by_page(gateway: Any, classroom: TinyClassroom) -> None:
    """A course of 3,000 students comes in pages of a hundred and is complete."""
    classroom.page = 100
    classroom.rosters["1", "students"] = [f"{number}" for number in range(1_000, 4_000)]
    await gateway.sync()
    assert len(gateway.store.records["enrollments"]) == 3_000 + 17


async def test_secrets_and_people_are_in_no_log(
    gateway: Any, classroom: TinyClassroom, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither key, tokens, join codes nor people are written anywhere, also when something goes wrong."""
    caplog.set_level(logging.DEBUG)
    failing = iter([HTMLResponse("canary-body", 500)])
    classroom.answer = lambda path, _: next(failing, None) if path == "/v1/courses" else None
    outcome = await gateway.sync()
    written = caplog.text + "".join(capsys.readouterr()) + repr(outcome.facts)
    assert not [word for word in ("canary", "token-1", "PRIVATE KEY", "Ada", f"11@{DOMAIN}") if word in written]
    assert b"canary" not in b"".join(bytes(chunk.records) for chunk in outcome.chunks)


def test_courses_become_classes() -> None:
    """Section and room are class code and location; times and join codes are left out, the rest is kept."""
    found = read_course(make_course("1", "90", descriptionHeading="Art", alternateLink=""), DOMAIN)
    assert (found.title, found.class_code, found.location) == ("Course 1", "P1", "12")
    assert found.metadata == {"descriptionHeading": "Art"}


def test_names_may_be_in_part() -> None:
    """Where only a full name is known, it is the family name; without an e-mail there is none."""
    user = read_person(Person("1", {"name": {"fullName": "Grace H"}}, False, False, True), DOMAIN)  # noqa: FBT003 - what somebody is, in the order of the fields
    assert (user.given_name, user.family_name, user.email) == ("", "Grace H", None)
    assert [role.role for role in user.roles] == ["guardian"]


@pytest.mark.parametrize("trouble", [None, faults.ServerError(every=9), faults.RateLimit(every=9, retry_after=0.01)])
async def test_the_sandbox_domain_through_its_days(gateway: Any, monkeypatch: pytest.MonkeyPatch, trouble: Any) -> None:
    """After each day a read of the sandbox's domain is what it has: courses, people, guardians, and nobody else."""
    monkeypatch.setattr("provider_gateway.client._LONGEST_PAUSE_SECONDS", 0.05)
    async with running_sandbox(create_district(seed=3, students=40)) as sandbox:
        origin, access = f"{sandbox.url}/google", sandbox.google.access
        gateway.provider = "google-classroom"
        gateway.connection = {
            "domain": access.domain,
            "admin_email": access.admin,
            "base_url": origin,
            "token_url": f"{origin}/token",
        }
        gateway.secrets = {"service_account_key": access.write_key(f"{origin}/token")}
        sandbox.faults.replace(*([trouble] if trouble else []))
        for _ in range(3):
            outcome = await gateway.sync(options={"sync_parents": True})
            room = sandbox.google.read()
            active = [key for key, course in room.courses.items() if course["courseState"] == "ACTIVE"]
            members = {
                f"{course}_{user}_{role}"
                for role, rosters in (("student", room.students), ("teacher", room.teachers))
                for course in active
                for user in rosters[course]
            }
            assert gateway.store.ids("classes") == set(active)
            assert gateway.store.ids("enrollments") == members
            assert gateway.store.ids("users") >= {one.split("_")[1] for one in members}
            assert outcome.reports["users"].consistent
            assert (await gateway.run(options={"sync_parents": True})).chunks == []
            sandbox.district.advance_day()
