"""Servers that refuse a whole collection: it is read school by school, and schools that are refused are named (C4)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from homeroom.codes import Code
from homeroom.roster import COLLECTIONS

SCHOOLS = ("s1", "s2", "s/3 ü")
WRAPPERS = {"students": "users", "teachers": "users", "schools": "orgs", "terms": "academicSessions"}


class Server:
    """Three schools with two students, one teacher, a class and enrollments each; one student is at two schools."""

    def __init__(self, user: Any) -> None:
        self.refused: dict[str, int] = {}
        self.rows: dict[str, list[Any]] = {collection: [] for collection in COLLECTIONS}
        self.rows["orgs"] = [{"sourcedId": "d", "name": "District", "type": "district"}]
        self.singles = True
        self.asked: list[str] = []
        for number, school in enumerate(SCHOOLS):
            org = [{"sourcedId": school}]
            self.rows["orgs"].append({"sourcedId": school, "name": school, "type": "school"})
            self.rows["classes"].append({"sourcedId": f"c{number}", "title": "Maths", "school": org[0]})
            people = [user(f"{number}-{n}", orgs=org) for n in range(2)]
            self.rows["users"] += [*people, user(f"{number}-t", role="teacher", orgs=org)]
            self.rows["enrollments"] += [
                {
                    "sourcedId": f"e-{person['sourcedId']}",
                    "user": {"sourcedId": person["sourcedId"]},
                    "class": {"sourcedId": f"c{number}"},
                    "school": org[0],
                    "role": "student",
                }
                for person in people
            ]
        self.rows["users"][0]["orgs"] = [{"sourcedId": "s1"}, {"sourcedId": "s2"}]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        await self._answer(Request(scope, receive))(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        path = request.url.path.partition("/ims/oneroster/v1p1")[2]
        self.asked.append(path)
        for refused, status in self.refused.items():
            if path == refused or (refused.endswith("*") and path.startswith(refused[:-1])):
                return Response(status_code=status)
        for school in SCHOOLS:
            if path.startswith(f"/schools/{school}/"):
                return self._list(request, path.removeprefix(f"/schools/{school}/"), school)
        name, _, sourced_id = path[1:].partition("/")
        if sourced_id:
            found = [row for row in self.rows.get(name, []) if row["sourcedId"] == sourced_id]
            return JSONResponse({"record": found[0]}) if found and self.singles else Response(status_code=404)
        return self._list(request, name, None)

    def _list(self, request: Request, name: str, school: str | None) -> Response:
        collection = WRAPPERS.get(name, name)
        rows = [row for row in self.rows.get(collection, []) if school is None or self._is_at(row, school)]
        if name in {"students", "teachers"}:
            rows = [row for row in rows if row["role"] == name[:-1]]
        if name == "schools":
            rows = [row for row in rows if row["type"] == "school"]
        start, limit = int(request.query_params["offset"]), int(request.query_params["limit"])
        body = msgspec.json.encode({collection: rows[start : start + limit]})
        return Response(body, headers={"x-total-count": str(len(rows))})

    @staticmethod
    def _is_at(row: Any, school: str) -> bool:
        return school in [ref["sourcedId"] for ref in (*row.get("orgs", ()), row.get("school", {"sourcedId": None}))]


@pytest.fixture
async def server(gateway: Any, serve: Any, user: Any) -> Server:
    """The gateway is connected to it."""
    server = Server(user)
    gateway.point_at(await serve(server))
    return server


def held(gateway: Any) -> dict[str, set[str]]:
    """What the store holds."""
    return {collection: gateway.store.ids(collection) for collection in COLLECTIONS}


@pytest.mark.parametrize("status", [403, 404, 405, 501])
async def test_collections_that_are_refused(gateway: Any, server: Server, status: int) -> None:
    """Classes, enrollments and people that are refused as a whole are read school by school, each person once."""
    await gateway.sync()
    everything = held(gateway)
    gateway.store.records = {collection: {} for collection in COLLECTIONS}
    server.refused = dict.fromkeys(("/users", "/classes", "/enrollments"), status)
    outcome = await gateway.sync()

    assert held(gateway) == everything
    assert outcome.completed.refused_schools == {}
    assert outcome.reports["users"].stated is None
    assert not outcome.reports["users"].consistent


async def test_person_at_two_schools(gateway: Any, server: Server) -> None:
    """Somebody who is in the lists of two schools is one record, and breaks no count."""
    server.refused = {"/users": 403}
    outcome = await gateway.sync()
    report = outcome.reports["users"]
    assert (report.served, report.added, report.filtered) == (10, 9, 1)
    assert (await gateway.sync()).chunks == []


async def test_missing_by_school(gateway: Any, server: Server) -> None:
    """Who is in no school's list is asked for by id before they are taken for gone."""
    await gateway.sync()
    server.refused = {"/users": 403}
    aide = server.rows["users"][1]
    aide["role"] = "aide"
    gone = server.rows["users"].pop(3)
    await gateway.sync()
    assert aide["sourcedId"] in gateway.store.ids("users")
    assert gone["sourcedId"] not in gateway.store.ids("users")


async def test_one_school_is_refused(gateway: Any, server: Server) -> None:
    """A school whose own list is refused is named with the reason, and the others go on."""
    await gateway.sync()
    everything = held(gateway)
    server.refused = {"/classes": 403, "/users": 403, "/schools/s2/classes": 403, "/schools/s2/teachers": 404}
    server.rows["classes"][0]["title"] = "Physics"
    outcome = await gateway.sync()

    assert set(outcome.completed.refused_schools) == {"s2"}
    assert set(outcome.completed.refused_schools["s2"].split("; ")) == {"classes refused: 403", "teachers refused: 404"}
    assert outcome.reports["classes"].changed == 1
    assert held(gateway) == everything


@pytest.mark.parametrize(("status", "code"), [(403, Code.PROV_SCOPE), (404, Code.PROV_NOT_FOUND)])
async def test_every_school_is_refused(gateway: Any, server: Server, status: int, code: Code) -> None:
    """Where every school's list is refused as well, the run ends with the code of the collection."""
    await gateway.sync()
    server.refused = {"/classes": status, "/schools/*": 403}
    outcome = await gateway.run()
    assert outcome.failure.code == code


async def test_schools_without_a_list_of_their_own(gateway: Any, server: Server) -> None:
    """Where there is no list of schools, they are taken from the orgs; where there are no orgs, from the schools."""
    server.refused = {"/classes": 403, "/schools": 404}
    await gateway.sync()
    assert len(gateway.store.ids("classes")) == 3

    server.refused = {"/orgs": 403, "/classes": 403}
    await gateway.sync()
    assert gateway.store.ids("orgs") == {"d", *SCHOOLS}, "the district itself is asked for by id, and found"


async def test_nothing_is_readable(gateway: Any, server: Server) -> None:
    """Where neither schools nor orgs can be read, the run ends as it would have without looking for another way."""
    server.refused = {"/*": 403}
    outcome = await gateway.run()
    assert outcome.failure.code == Code.PROV_SCOPE
    assert len(server.asked) <= 30


async def test_errors_are_no_refusals(gateway: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A school whose list breaks is no reason to leave it out: the run ends, and nothing is applied."""
    monkeypatch.setattr("provider_gateway.client._LONGEST_PAUSE_SECONDS", 0.01)
    server.refused = {"/classes": 403, "/schools/s2/classes": 500}
    outcome = await gateway.run()
    assert outcome.failure.code == Code.PROV_5XX


async def test_ids_never_stand_in_errors(gateway: Any, server: Server) -> None:
    """An error about a school's list names the kind of list, not the school."""
    server.refused = {"/classes": 403, "/schools/s/3 ü/classes": 400}
    outcome = await gateway.run()
    assert outcome.failure.code == Code.PROV_BAD_PAYLOAD
    assert "/schools/{id}/classes" in outcome.failure.detail
