"""A toy of Clever, its district, and the objects the district is made of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

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


async def connect_clever(serve: Any, gateway: Any) -> TinyClever:
    """Serve a small district at Clever and connect the gateway to it."""
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
