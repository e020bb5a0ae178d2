"""A district through Clever: lists, tokens, pauses, events, and what must hold whatever Clever does."""

import asyncio
import copy
import logging
import resource
from base64 import b64encode
from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta
from random import Random
from typing import Any

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from homeroom.codes import Code
from homeroom.messages import Inquiry
from provider_gateway.inquiries import answer_inquiry
from provider_gateway.providers.contract import Proof
from provider_gateway.scope import Scope

KINDS = ("districts", "schools", "terms", "courses", "sections", "users")
ALL = {"sync_parents": True, "sync_demographics": True}
MARKS = {"sync_demographics": True}


class TinyClever:
    """Clever with a small district and its events; a test may answer in its stead."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        self.events: list[dict[str, Any]] = []
        self.kept_from = 0
        self.token = "token-1"
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.lookups: list[tuple[str | None, dict[str, str]]] = []
        self.most = 10_000
        self.page: int | None = None
        self.answer: Callable[[str, dict[str, str]], Response | None] = lambda *_: None
        self.headers: dict[str, str] = {}
        self._number = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        query = dict(request.query_params)
        if request.url.path == "/oauth/tokens":
            self.lookups.append((request.headers.get("authorization"), query))
            body = {"data": [{"id": "x", "owner": {"type": "district", "id": "d1"}, "access_token": self.token}]}
            await JSONResponse(body)(scope, receive, send)
            return
        self.asked.append((request.url.path, query))
        response = self.answer(request.url.path, query)
        if response is None and request.headers.get("authorization") != f"Bearer {self.token}":
            response = HTMLResponse("<html>401</html>", 401)
        if response is None:
            response = self._answer(request.url.path.removeprefix("/v3.0/").split("/"), query)
        response.headers.update(self.headers)
        await response(scope, receive, send)

    def _answer(self, path: list[str], query: dict[str, str]) -> Response:
        match path:
            case ["events"]:
                return self._list_events(query)
            case ["users", user, "mycontacts"]:
                contacts = [one for one in self.objects["users"].values() if user in _students_of(one)]
                return self._list("/v3.0/" + "/".join(path), sorted(contacts, key=_id), query)
            case ["users", user, "mystudents"]:
                students = [self.objects["users"].get(one) for one in _students_of(self.objects["users"][user])]
                return self._list("/v3.0/" + "/".join(path), [one for one in students if one], query)
            case [kind]:
                rows = sorted(self.objects[kind].values(), key=_id)
                if role := query.get("role"):
                    rows = [row for row in rows if role in row["roles"]]
                return self._list(f"/v3.0/{kind}", rows, query)
            case [kind, key] if key in self.objects[kind]:
                return JSONResponse({"data": self.objects[kind][key]})
        return HTMLResponse("<html>nothing here</html>", 404)

    def _list_events(self, query: dict[str, str]) -> Response:
        kept = self.events[self.kept_from :]
        if query.get("ending_before") == "last":
            return JSONResponse({"data": [{"data": one} for one in kept[-1:]], "links": []})
        after = query.get("starting_after")
        if after and after not in {one["id"] for one in kept}:
            return JSONResponse({"error": "no such event"}, 404)
        return self._list("/v3.0/events", kept, query)

    def _list(self, path: str, rows: list[Any], query: dict[str, str]) -> Response:
        limit = int(query["limit"])
        if limit > self.most:
            return JSONResponse({"error": "too large"}, 413)
        limit = min(limit, self.page or limit)
        after = query.get("starting_after")
        start = 1 + [one["id"] for one in rows].index(after) if after else 0
        shown = rows[start : start + limit]
        links = [{"rel": "self", "uri": path}]
        if start + limit < len(rows):
            role = f"&role={query['role']}" if "role" in query else ""
            links.append({"rel": "next", "uri": f"{path}?starting_after={shown[-1]['id']}{role}&limit={limit}"})
        body = msgspec.json.encode({"data": [{"data": one, "uri": "/x"} for one in shown], "links": links})
        return Response(body, media_type="application/json")

    def put(self, kind: str, found: dict[str, Any]) -> None:
        """Create or update an object, with its event."""
        before = self.objects[kind].get(found["id"])
        self.objects[kind][found["id"]] = found
        if before is None:
            self.tell(f"{kind}.created", found)
        elif before != found:
            names = {name for name in (*before, *found) if before.get(name) != found.get(name)}
            self.tell(f"{kind}.updated", found, previous_attributes={name: before.get(name) for name in names})

    def amend(self, kind: str, key: str, **fields: Any) -> None:
        """Update some fields of an object."""
        self.put(kind, copy.deepcopy(self.objects[kind][key]) | fields)

    def drop(self, kind: str, key: str) -> None:
        """Delete an object, with its event."""
        self.tell(f"{kind}.deleted", self.objects[kind].pop(key))

    def tell(self, kind: str, found: Any, **more: Any) -> None:
        """Add an event."""
        self._number += 1
        event = {
            "id": f"e{self._number:08}",
            "type": kind,
            "created": "2026-01-01T00:00:00Z",
            "data": {"object": found},
        }
        self.events.append(copy.deepcopy(event | more))

    def paths(self) -> set[str]:
        """What was asked for."""
        return {path for path, _ in self.asked}


def _id(found: Any) -> str:
    return str(found["id"])


def _students_of(user: Any) -> list[str]:
    contact = user["roles"].get("contact") or {}
    return [one["student"] for one in contact.get("student_relationships", ())]


def make_person(key: str, email: str | None = None, **roles: Any) -> dict[str, Any]:
    return {"id": key, "district": "d1", "name": {"first": "Ada", "last": key}, "email": email or key, "roles": roles}


def make_student(key: str, school: str = "s1", **more: Any) -> dict[str, Any]:
    return make_person(key, student={"school": school, "schools": [school], "sis_id": key, "gender": "F", **more})


def make_contact(key: str, *students: str) -> dict[str, Any]:
    relations = [{"student": student, "relationship": "Parent", "type": "Parent/Guardian"} for student in students]
    return make_person(key, contact={"phone": "555-0100", "student_relationships": relations})


def make_section(key: str, students: list[str], teachers: list[str], **more: Any) -> dict[str, Any]:
    return {
        "id": key, "district": "d1", "school": "s1", "name": f"Section {key}", "course": "k1", "term_id": "t1",
        "students": students, "teachers": teachers, "teacher": teachers[0] if teachers else "", **more,
    }  # fmt: skip


@pytest.fixture
async def clever(serve: Any, gateway: Any) -> TinyClever:
    """A small district at Clever that the gateway is connected to."""
    tiny = TinyClever()
    tiny.put("districts", {"id": "d1", "name": "Lake Verity", "state": "running", "last_sync": "2026-01-01"})
    for school in ("s1", "s2"):
        tiny.put("schools", {"id": school, "district": "d1", "name": f"School {school}", "nces_id": f"06{school}"})
    tiny.put("terms", {"id": "t1", "name": "Fall", "start_date": "2025-08-01", "end_date": "2025-12-20"})
    tiny.put("courses", {"id": "k1", "name": "Art", "number": "A1"})
    for number in range(6):
        tiny.put("users", make_student(f"u{number}", "s1" if number < 3 else "s2"))
    tiny.put("users", make_person("v1", teacher={"school": "s1", "schools": ["s1"]}))
    tiny.put("users", make_person("v2", teacher={"school": "s2"}, staff={"schools": ["s1"]}))
    tiny.put("users", make_person("v3", district_admin={"title": "Head"}))
    tiny.put("users", make_contact("w1", "u0", "u3"))
    tiny.put("users", make_contact("w2", "u0"))
    tiny.put("sections", make_section("c1", ["u0", "u1", "u2"], ["v1", "v2"]))
    tiny.put("sections", make_section("c2", ["u3"], ["v2"], school="s2"))
    origin = await serve(tiny)
    gateway.provider = "clever"
    gateway.connection = {"district_id": "d1", "base_url": f"{origin}/v3.0", "token_url": f"{origin}/oauth/tokens"}
    gateway.secrets = {"district_token": "token-1"}
    tiny.asked.clear()
    return tiny


def held(gateway: Any) -> dict[str, dict[str, Any]]:
    """What the store holds, to the byte."""
    return copy.deepcopy(gateway.store.records)


async def sync_changes(gateway: Any, **options: Any) -> Any:
    """A run that asks for changes only."""
    return await gateway.sync(job=gateway.job(mode="delta", options=options))


async def compare_whole(gateway: Any, **options: Any) -> Any:
    """A run that compares everything; what it finds is what changes did not bring."""
    outcome = await gateway.run(job=gateway.job(options=options, bookmark=None))
    assert outcome.failure is None, outcome.failure
    return {name: (one.added, one.changed, one.removed) for name, one in outcome.reports.items()}


NOTHING_LEFT = [(0, 0, 0)]


async def test_a_district_is_read_whole(gateway: Any, clever: TinyClever) -> None:
    """Every collection comes, each proves itself, and the events are noted to go on from."""
    outcome = await gateway.sync(options=ALL)
    ids = {collection: sorted(records) for collection, records in gateway.store.records.items()}
    assert ids["orgs"] == ["d1", "s1", "s2"]
    assert ids["users"] == ["u0", "u1", "u2", "u3", "u4", "u5", "v1", "v2", "v3", "w1", "w2"]
    assert ids["demographics"] == ["u0", "u1", "u2", "u3", "u4", "u5"]
    assert ids["enrollments"] == [
        "c1_u0_student", "c1_u1_student", "c1_u2_student", "c1_v1_teacher", "c1_v2_teacher",
        "c2_u3_student", "c2_v2_teacher",
    ]  # fmt: skip
    assert all(report.consistent for report in outcome.reports.values())
    assert outcome.completed.issues == ()
    assert outcome.completed.bookmark.state == {"event": clever.events[-1]["id"]}
    assert outcome.completed.bookmark.increments
    served = outcome.reports["users"]
    assert served.served == served.added == 11
    again = await gateway.sync(options=ALL)
    assert {report.unchanged for report in again.reports.values()} == {3, 1, 2, 11, 7, 6}
    assert again.chunks == []


async def test_parents_are_tied_to_students_both_ways(gateway: Any, clever: TinyClever) -> None:
    """Contacts name their students, students their contacts, and contacts are at their students' schools (B2)."""
    clever.page = 2
    await gateway.sync(options=ALL)
    users = {key: msgspec.json.decode(body) for key, (_, body) in gateway.store.records["users"].items()}
    assert users["u0"]["agentSourcedIds"] == ["w1", "w2"]
    assert users["w1"]["agentSourcedIds"] == ["u0", "u3"]
    assert [(role["role"], role["orgSourcedId"]) for role in users["w1"]["roles"]] == [
        ("parent", "s1"),
        ("parent", "s2"),
    ]


async def test_what_is_switched_off_is_not_asked_for(gateway: Any, clever: TinyClever) -> None:
    """Neither contacts nor classes are requested where they are not wanted, and no marks leave the gateway."""
    outcome = await gateway.sync(options={"sync_classes": False})
    assert "contact" not in {query.get("role") for _, query in clever.asked}
    assert clever.paths() & {"/v3.0/sections", "/v3.0/courses"} == set()
    assert set(gateway.store.records["users"]) & {"w1", "w2"} == set()
    assert b"gender" not in b"".join(bytes(chunk.records) for chunk in outcome.chunks)


async def test_each_list_is_read_once_by_its_links(gateway: Any, clever: TinyClever) -> None:
    """Pages follow the next link, each once, and enrollments come from the sections that classes were read from."""
    clever.page = 2
    await gateway.sync(options=MARKS)
    asked = [(path, query.get("role"), query.get("starting_after")) for path, query in clever.asked]
    assert len(asked) == len(set(asked))
    assert ("/v3.0/users", "student", "u3") in asked


async def test_pages_that_are_too_large_are_halved(gateway: Any, clever: TinyClever) -> None:
    """A limit Clever refuses with 413 is halved until it is taken."""
    clever.most = 3
    await gateway.sync()
    assert len(gateway.store.records["users"]) == 9
    limits = [int(query["limit"]) for _, query in clever.asked if "limit" in query]
    assert max(limits) == 500
    assert min(limit for limit in limits if limit > 1) in {2, 3}


async def test_pages_are_as_long_as_they_may_be(gateway: Any, clever: TinyClever) -> None:
    """Pages are as long as they are set to be, of sections a thousand at most, each with all its people."""
    await gateway.sync(page_size=10_000)
    limits = {path: int(query["limit"]) for path, query in clever.asked if "limit" in query}
    assert limits["/v3.0/users"] == 10_000
    assert limits["/v3.0/sections"] == 1_000


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("https://elsewhere.example/v3.0/users?starting_after=u1", Code.PROV_PAGINATION),
        ("//elsewhere.example/v3.0/users", Code.PROV_PAGINATION),
        ("/v9/users?starting_after=u1", Code.PROV_PAGINATION),
        ("/v3.0/../admin", Code.PROV_PAGINATION),
        ("/v3.0/users?starting_after=u0&role=student", Code.PROV_PAGINATION),
    ],
)
async def test_links_that_lead_astray_are_not_followed(gateway: Any, clever: TinyClever, uri: str, code: Code) -> None:
    """A next link to another host, out of the API or in a circle ends the run; nobody is removed."""

    def answer(path: str, query: dict[str, str]) -> Response | None:
        if path == "/v3.0/users" and query.get("role") == "student":
            return JSONResponse({"data": [], "links": [{"rel": "next", "uri": uri}]})
        return None

    clever.answer = answer
    outcome = await gateway.run()
    assert outcome.failure is not None
    assert outcome.failure.code is code


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"data": [',
        b'{"error": "x"}',
        b"<html></html>",
        b'{"data": {}, "links": []}',
        b"\xff\xfe",
        b"null",
    ],
)
async def test_an_answer_that_is_none_removes_nobody(gateway: Any, clever: TinyClever, body: bytes) -> None:
    """Cut, empty, HTML or an error with status 200: the run fails and the roster stays."""
    clever.answer = lambda path, _: Response(body) if path == "/v3.0/users" else None
    outcome = await gateway.run(retries=0)
    assert outcome.failure is not None
    assert outcome.failure.code is Code.PROV_BAD_PAYLOAD


@pytest.mark.parametrize("state", ["paused", "error", "pending"])
async def test_a_halted_district_is_not_an_empty_one(gateway: Any, clever: TinyClever, state: str) -> None:
    """Paused, in error or pending: the run ends with PROV_PAUSED before anything is read."""
    clever.objects["districts"]["d1"]["state"] = state
    outcome = await gateway.run()
    assert outcome.failure is not None
    assert outcome.failure.code is Code.PROV_PAUSED
    assert clever.paths() == {"/v3.0/districts/d1"}


async def test_a_district_that_is_not_there(gateway: Any, clever: TinyClever) -> None:
    """A district the token does not see is PROV_NOT_FOUND; an HTML page as error body does no harm."""
    clever.objects["districts"].clear()
    outcome = await gateway.run()
    assert outcome.failure is not None
    assert outcome.failure.code is Code.PROV_NOT_FOUND


async def test_the_token_is_looked_up_by_the_applications_credentials(gateway: Any, clever: TinyClever) -> None:
    """Without a district token, it is asked for with Basic credentials, for this district, once."""
    gateway.connection["client_id"] = "app"
    gateway.secrets = {"client_secret": "hidden"}
    await gateway.sync()
    basic = f"Basic {b64encode(b'app:hidden').decode()}"
    assert clever.lookups == [(basic, {"owner_type": "district", "district": "d1"})]


async def test_a_token_that_was_changed_is_read_again(gateway: Any, clever: TinyClever) -> None:
    """A 401 has the token looked up once more, and the run goes on with the new one."""
    gateway.connection["client_id"] = "app"
    gateway.secrets = {"client_secret": "hidden", "district_token": "old"}
    await gateway.sync()
    assert len(clever.lookups) == 1


async def test_a_token_that_did_not_change_is_not_tried_again(gateway: Any, clever: TinyClever) -> None:
    """Refused credentials are tried once, and once more only with another token."""
    gateway.connection["client_id"] = "app"
    gateway.secrets = {"client_secret": "hidden", "district_token": "token-1"}
    clever.answer = lambda *_: HTMLResponse("<html>401</html>", 401)
    outcome = await gateway.run()
    assert outcome.failure is not None
    assert outcome.failure.code is Code.AUTH_INVALID
    assert (len(clever.asked), len(clever.lookups)) == (1, 1)
    gateway.connection = {name: value for name, value in gateway.connection.items() if name != "client_id"}
    outcome = await gateway.run()
    assert outcome.failure is not None
    assert (outcome.failure.code, len(clever.lookups)) == (Code.AUTH_INVALID, 1)


@pytest.mark.usefixtures("clever")
async def test_a_district_without_a_token_has_not_authorized_us(gateway: Any) -> None:
    """Where Clever lists no token of the district, the application is off for it."""
    gateway.connection |= {"client_id": "app", "district_id": "d2"}
    gateway.secrets = {"client_secret": "hidden"}
    outcome = await gateway.run()
    assert outcome.failure is not None
    assert outcome.failure.code is Code.PROV_APP_DISABLED


async def test_a_person_with_several_roles_is_counted_once(gateway: Any, clever: TinyClever) -> None:
    """Clever lists a person under each role; it is read once, and nothing is called a duplicate (P17)."""
    clever.put("users", make_person("v9", student={"school": "s1", "gender": "X"}, teacher={}, contact={}))
    outcome = await gateway.sync(options=ALL)
    assert outcome.completed.issues == ()
    assert outcome.reports["users"].served == outcome.reports["users"].added == 12
    assert "v9" in gateway.store.records["demographics"]


async def test_people_of_a_damaged_section_stay(gateway: Any, clever: TinyClever) -> None:
    """Where the people of a section can't be read, its enrollments are asked for, not removed."""
    await gateway.sync()
    clever.objects["sections"]["c2"]["students"] = [{"id": "u3"}]
    outcome = await gateway.sync()
    assert not outcome.reports["enrollments"].consistent
    assert "c2_u3_student" in gateway.store.records["enrollments"]
    assert outcome.reports["enrollments"].unconfirmed == 2


async def test_an_unreadable_row_lets_nobody_go(gateway: Any, clever: TinyClever) -> None:
    """A user without an id may be anybody: who is missing is asked for by id, and only a 404 means gone."""
    await gateway.sync(options=ALL)
    gone = clever.objects["users"].pop("u4")
    row = clever.objects["users"].pop("u5")

    def answer(path: str, query: dict[str, str]) -> Response | None:
        if path == "/v3.0/users" and query.get("role") == "student":
            rows = [one for one in clever.objects["users"].values() if "student" in one["roles"]]
            return JSONResponse({"data": [{"data": one} for one in [*rows, row | {"id": ""}]], "links": []})
        return JSONResponse({"data": row}) if path == "/v3.0/users/u5" else None

    clever.answer = answer
    outcome = await gateway.sync(options=ALL)
    assert outcome.reports["users"].quarantined == 1
    assert "u5" in gateway.store.records["users"]
    assert gone["id"] not in gateway.store.records["users"]


async def test_where_there_are_no_events_everything_is_compared(gateway: Any, clever: TinyClever) -> None:
    """An application without events has no increments, and says so in its bookmark."""
    clever.answer = lambda path, _: HTMLResponse("no", 403) if path == "/v3.0/events" else None
    outcome = await gateway.sync()
    assert not outcome.completed.bookmark.increments


async def test_no_events_change_nothing(gateway: Any, clever: TinyClever) -> None:
    """Where nothing happened, two requests are all there is."""
    await gateway.sync(options=ALL)
    clever.asked.clear()
    outcome = await sync_changes(gateway, **ALL)
    assert (outcome.completed.mode, outcome.completed.mode_code) == ("delta", None)
    assert clever.paths() == {"/v3.0/districts/d1", "/v3.0/events"}
    assert outcome.chunks == []
    assert outcome.completed.bookmark.state == {"event": clever.events[-1]["id"]}


async def test_changes_lead_to_the_same_roster(gateway: Any, clever: TinyClever) -> None:
    """Joiners, leavers, a new teacher, deleted sections and people: as if everything had been compared."""
    await gateway.sync(options=MARKS)
    clever.amend("sections", "c1", students=["u1", "u4"], teacher="v2", teachers=["v2", "v9"])
    clever.put("users", make_person("v9", teacher={"school": "s1"}))
    clever.amend("users", "u1", email="new@lake.example")
    clever.drop("users", "u2")
    clever.drop("sections", "c2")
    clever.put("sections", make_section("c3", ["u1"], []))
    clever.amend("users", "u5", roles={"teacher": {"school": "s2"}})
    clever.amend("schools", "s2", name="South")
    clever.amend("districts", "d1", name="Lake Verity Unified", state="success")
    clever.drop("terms", "t1")
    clever.tell("resources.created", {"id": "r1"})
    outcome = await sync_changes(gateway, **MARKS)
    assert outcome.completed.mode == "delta"
    assert set(gateway.store.records["enrollments"]) == {
        "c1_u1_student", "c1_u4_student", "c1_v2_teacher", "c1_v9_teacher", "c3_u1_student",
    }  # fmt: skip
    assert set(gateway.store.records["demographics"]) == {"u0", "u1", "u3", "u4"}
    assert list((await compare_whole(gateway, **MARKS)).values()) == NOTHING_LEFT * 7


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("options", [MARKS, ALL, {"sync_classes": False}], ids=["marks", "parents", "no classes"])
async def test_full_and_events_equal_a_fresh_full(
    gateway: Any, clever: TinyClever, seed: int, options: dict[str, Any]
) -> None:
    """Whatever is edited, and however often its events come, the roster is that of a fresh read, byte for byte."""
    rng = Random(seed)
    clever.page = rng.choice((None, 2, 3))
    await gateway.sync(options=options)
    for _ in range(3):
        for _ in range(rng.randrange(1, 12)):
            edit(clever, rng)
        clever.events += [event | {} for event in clever.events[-1:]]  # one that comes twice
        outcome = await sync_changes(gateway, **options)
        assert outcome.completed.mode == "delta" or options is ALL
    integrated = held(gateway)
    gateway.store.records = {collection: {} for collection in gateway.store.records}
    gateway.bookmark = None
    await gateway.sync(options=options)
    assert integrated == held(gateway)


def edit(clever: TinyClever, rng: Random) -> None:  # noqa: C901 - one line for each thing a district may do
    """Something a district may do."""
    users, sections = clever.objects["users"], clever.objects["sections"]
    students = [key for key, one in users.items() if "student" in one["roles"]]
    teachers = [key for key, one in users.items() if "teacher" in one["roles"]]
    fresh = f"{rng.randrange(10**6):06}"
    match rng.randrange(11):
        case 0:
            clever.put("users", make_student(f"u{fresh}", rng.choice(("s1", "s2")), race="Asian"))
        case 1 if students:
            clever.drop("users", rng.choice(students))
        case 2 if students:
            clever.amend("users", rng.choice(students), email=fresh)
        case 3 if students:
            key = rng.choice(students)
            roles = copy.deepcopy(users[key]["roles"])
            roles["student"] |= {"grade": str(rng.randrange(1, 13)), "school": rng.choice(("s1", "s2"))}
            clever.amend("users", key, roles=roles)
        case 4:
            chosen = rng.sample(students, min(len(students), rng.randrange(4)))
            clever.put("sections", make_section(f"c{fresh}", chosen, rng.sample(teachers, min(2, len(teachers)))))
        case 5 if sections:
            clever.drop("sections", rng.choice(list(sections)))
        case 6 | 7 if sections:
            chosen = rng.sample(students, min(len(students), rng.randrange(5)))
            clever.amend("sections", rng.choice(list(sections)), students=chosen, school=rng.choice(("s1", "s2")))
        case 8 if sections and teachers:
            first, *others = rng.sample(teachers, rng.randrange(1, len(teachers) + 1))
            clever.amend("sections", rng.choice(list(sections)), teacher=first, teachers=[*others, first])
        case 9 if students:
            clever.put("users", make_contact(f"w{fresh}", *rng.sample(students, min(2, len(students)))))
        case 10 if students:
            key = rng.choice(students)
            clever.drop("users", key)
            clever.put("users", make_person(key, teacher={"school": "s1"}))


async def test_changed_contacts_have_everything_compared(gateway: Any, clever: TinyClever) -> None:
    """A contact that changed may change what others' records say, so changes alone are not enough."""
    await gateway.sync(options=ALL)
    clever.put("users", make_contact("w2", "u1"))
    outcome = await sync_changes(gateway, **ALL)
    assert (outcome.completed.mode, outcome.completed.mode_code) == ("full", Code.DELTA_NOT_ENOUGH)
    users = {key: msgspec.json.decode(body) for key, (_, body) in gateway.store.records["users"].items()}
    assert users["u1"]["agentSourcedIds"] == ["w2"]
    assert users["u0"]["agentSourcedIds"] == ["w1"]


async def test_a_changed_student_keeps_their_contacts(gateway: Any, clever: TinyClever) -> None:
    """A student's own object does not name the contacts; they are asked for."""
    await gateway.sync(options=ALL)
    clever.amend("users", "u0", email="changed")
    outcome = await sync_changes(gateway, **ALL)
    assert outcome.completed.mode == "delta"
    user = msgspec.json.decode(gateway.store.records["users"]["u0"][1])
    assert (user["email"], user["agentSourcedIds"]) == ("changed", ["w1", "w2"])


@pytest.mark.parametrize("how", ["purged", "old", "refused", "another district's bookmark"])
async def test_a_gap_in_the_events_has_everything_compared(gateway: Any, clever: TinyClever, how: str) -> None:
    """Events that Clever no longer has, or keeps from us, are no changes: everything is read, and the run says why."""
    await gateway.sync()
    clever.drop("users", "u2")
    match how:
        case "purged":
            clever.kept_from = len(clever.events)
        case "old":
            gateway.bookmark = msgspec.structs.replace(gateway.bookmark, at=gateway.bookmark.at - timedelta(days=30))
        case "refused":
            clever.answer = lambda path, _: HTMLResponse("no", 403) if path == "/v3.0/events" else None
        case _:
            gateway.bookmark = msgspec.structs.replace(gateway.bookmark, state={})
    outcome = await sync_changes(gateway)
    assert (outcome.completed.mode, outcome.completed.mode_code) == ("full", Code.CLEVER_EVENTS_GAP)
    assert outcome.completed.bookmark.increments == (how != "refused")
    assert "u2" not in gateway.store.records["users"]


async def test_events_that_tell_too_little_have_everything_compared(gateway: Any, clever: TinyClever) -> None:
    """A section that was deleted without saying who was in it: changes can't be trusted, everything is read."""
    await gateway.sync()
    clever.drop("sections", "c1")
    clever.events[-1]["data"]["object"] = {"id": "c1"}
    outcome = await sync_changes(gateway)
    assert (outcome.completed.mode, outcome.completed.mode_code) == ("full", Code.DELTA_DRIFT)
    assert set(gateway.store.records["enrollments"]) == {"c2_u3_student", "c2_v2_teacher"}


async def test_an_object_that_is_not_shared_any_more_is_gone(gateway: Any, clever: TinyClever) -> None:
    """A partial object is asked for by its id, and a 404 means gone; the run goes on (P18)."""
    await gateway.sync()
    del clever.objects["users"]["u1"]
    clever.tell("users.updated", {"id": "u1"}, previous_attributes={"email": "x"})
    clever.objects["users"]["u0"]["email"] = "whole"
    clever.tell("users.updated", {"id": "u0"}, previous_attributes={"email": "x"})
    outcome = await sync_changes(gateway)
    assert outcome.completed.mode == "delta"
    assert "u1" not in gateway.store.records["users"]
    assert msgspec.json.decode(gateway.store.records["users"]["u0"][1])["email"] == "whole"


async def test_users_without_a_wanted_role_leave_with_the_changes(gateway: Any, clever: TinyClever) -> None:
    """Who becomes a contact only is gone where parents are not wanted, and contacts' events bring nobody."""
    await gateway.sync()
    clever.put("users", make_contact("u1", "u0"))
    clever.put("users", make_contact("w9", "u0"))
    await sync_changes(gateway)
    assert set(gateway.store.records["users"]) & {"u1", "w9"} == set()


async def test_a_pause_keeps_changes_waiting(gateway: Any, clever: TinyClever) -> None:
    """Events of a district that is paused are not applied."""
    await gateway.sync()
    clever.drop("users", "u1")
    clever.objects["districts"]["d1"]["state"] = "paused"
    outcome = await gateway.run(job=gateway.job(mode="delta"))
    assert outcome.failure is not None
    assert outcome.failure.code is Code.PROV_PAUSED


async def test_wrong_marks_are_told_by_field(gateway: Any, clever: TinyClever) -> None:
    """A mark that is none of Clever's words is an issue of the run with field and id, not with its value (B5)."""
    clever.put("users", make_student("u7", ell_status="Maybe", dob="2012-01-02"))
    outcome = await gateway.sync(options=MARKS)
    (issue,) = outcome.completed.issues
    assert (issue.collection, issue.sourced_id, issue.code, issue.field) == (
        "demographics", "u7", Code.BAD_ENUM, "ell_status",
    )  # fmt: skip
    assert b"Maybe" not in msgspec.json.encode(outcome.completed)


async def test_a_verification_looks_at_first_pages(gateway: Any, clever: TinyClever) -> None:
    """A first look tells of the district and each collection, and reads no list to its end."""
    clever.page = 1
    inquiry = Inquiry(
        inquiry_id="i", kind="verify", **{
            name: value for name, value in msgspec.structs.asdict(gateway.job(options=ALL)).items()
            if name in Inquiry.__struct_fields__
        },
    )  # fmt: skip
    answer = await answer_inquiry(gateway.workshop(None), inquiry)
    assert answer.code is None
    assert "state running" in answer.findings[0].detail
    assert {one.check for one in answer.findings} > {"orgs", "users", "enrollments", "demographics"}
    assert ("/v3.0/users", "u2") not in [(path, query.get("starting_after")) for path, query in clever.asked]


@pytest.mark.usefixtures("clever")
async def test_single_records_are_what_the_lists_say(gateway: Any) -> None:
    """A record asked for by its id is that of the list, to the byte; one that is not there is None."""
    await gateway.sync(options=ALL)
    job = gateway.job(options=ALL)
    scope = Scope(job.options, job.today)
    async with gateway.workshop(None).open_source(job, mode="full", bookmark=None, began=job.deadline) as source:
        for collection, records in gateway.store.records.items():
            assert source.proof(collection) is Proof.WHOLE
            for sourced_id, (_, body) in records.items():
                page = await source.find(collection, sourced_id, scope)
                assert msgspec.json.decode(page.canonical.encoded(0)) == msgspec.json.decode(body)
            absent = await source.find(collection, "none_none_student", scope)
            assert absent is None


async def test_a_run_that_is_given_up_leaves_nothing_behind(gateway: Any, clever: TinyClever, tmp_path: Any) -> None:
    """Closing a list in the middle ends its requests, and the workspace is gone with the run."""
    clever.page = 1
    job = gateway.job(options=ALL)
    workshop = gateway.workshop(None, workspace=str(tmp_path))
    async with workshop.open_source(job, mode="full", bookmark=None, began=job.deadline) as source:
        async with aclosing(source.pages("users", Scope(job.options, job.today))) as pages:
            await anext(pages)
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
    assert [task for task in asyncio.all_tasks() if "_page" in repr(task.get_coro())] == []


async def test_secrets_and_people_are_in_no_log(
    gateway: Any, clever: TinyClever, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither tokens nor names, addresses or marks are written anywhere, also when things go wrong."""
    caplog.set_level(logging.DEBUG)
    gateway.connection["client_id"] = "app"
    gateway.secrets = {"client_secret": "canary-secret", "district_token": "canary-token"}
    clever.put("users", make_student("u7", ell_status="canary-mark") | {"email": "canary-mail", "name": 5})
    failing = iter([HTMLResponse("canary-body", 500)])
    clever.answer = lambda path, _: next(failing, None) if path == "/v3.0/schools" else None
    outcome = await gateway.sync(options=ALL)
    written = caplog.text + "".join(capsys.readouterr()) + repr(outcome.facts)
    assert "canary" not in written


async def test_large_sections_and_many_events_need_little_memory(gateway: Any, clever: TinyClever) -> None:
    """A section of 5,000 students and 50,000 events are read in bounded memory, and end where they should."""
    everybody = [f"x{number:05}" for number in range(5_000)]
    clever.put("sections", make_section("c9", everybody, ["v1"]))
    await gateway.sync()
    assert len(gateway.store.records["enrollments"]) == 7 + 5_001
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(25_000):
        clever.amend("users", f"u{number % 6}", email=f"{number}@lake.example")
        clever.tell("users.updated", make_student(f"y{number}"), previous_attributes={"email": "x"})
    served_by_toy = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = await sync_changes(gateway)
    assert outcome.completed.mode == "delta"
    assert len(gateway.store.records["users"]) == 9 + 25_000
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - max(before, served_by_toy)
    assert grown < 150_000, f"{grown} KiB more than before"
