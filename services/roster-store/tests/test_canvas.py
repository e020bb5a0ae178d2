"""Rosters in Canvas: the files, targets, and pushes with whatever goes wrong (D6)."""

from __future__ import annotations

import asyncio
import csv
import io
import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import date
from socket import create_server
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import uvicorn
from licensed import announce, license_product
from msgspec.structs import replace
from played_gateway import ROSTER, Gateway, enrollment, section, student, together

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.roster import AcademicSession, Record, Role, User
from homeroom.testing.tokens import TestIssuer, calling
from roster_store.app import make_app
from roster_store.canvas import pushing
from roster_store.canvas.client import Canvas
from roster_store.canvas.pushing import MOST_TRIES, Pusher
from roster_store.settings import StoreSettings
from roster_store.sights import Rosters
from sandbox_district.canvas import PretendCanvas

ISSUER = TestIssuer()
AUTUMN = AcademicSession(
    sourced_id="t1", title="Autumn", type="semester", start_date=date(2020, 8, 1), end_date=date(2099, 1, 1)
)
TEACHER = User(
    sourced_id="user-9", given_name="Tea", family_name="Cher", email="tea@north.example",
    roles=(Role(role="teacher", org_sourced_id="org-North", role_type="primary"),),
)  # fmt: skip
SCHOOL = together(ROSTER, {"academicSessions": [AUTUMN], "users": [TEACHER]})


class _QuietServer(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Any:
        yield


@asynccontextmanager
async def serving(canvas: PretendCanvas) -> AsyncIterator[str]:
    """A pretend Canvas on loopback."""
    with create_server(("127.0.0.1", 0)) as listener:
        server = _QuietServer(
            uvicorn.Config(
                canvas.app(), log_config=None, access_log=False, log_level="critical", lifespan="off", ws="none",
                timeout_graceful_shutdown=1,
            )
        )  # fmt: skip
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


@dataclass
class World:
    """A store with a worker, a Canvas, and somebody who looks after the one in the other."""

    client: httpx2.AsyncClient
    database: Database
    gateway: Gateway
    canvas: PretendCanvas
    url: str
    pusher: Pusher
    headers: Mapping[str, str]

    async def call(self, method: str, path: str, status: int = 200, **fields: Any) -> Any:
        """The answer to a request that must have this status."""
        answer = await self.client.request(method, f"/v1/canvas{path}", headers=self.headers, **fields)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    async def add_target(self, **fields: Any) -> str:
        """A target for this Canvas; its id."""
        body = {"base_url": self.url, "account_id": "1", "access_token": self.canvas.token, **fields}
        made = await self.call("POST", "/targets", 201, json=body)
        return str(made["id"])

    async def work(self, rounds: int = 12) -> None:
        """Let the worker do all that is due, however often that is."""
        for _ in range(rounds):
            await self.database.fetch("UPDATE canvas_push SET due_at = now() WHERE due_at > now()")
            if not await self.pusher.take_up():
                return
            await self.pusher.settle()

    async def push(self, target: str, *, confirm: bool = False) -> Any:
        """Push by hand and wait for the end; the push as it is told of."""
        made = await self.call("POST", f"/targets/{target}/pushes", 202, json={"confirm": confirm})
        await self.work()
        return await self.call("GET", f"/targets/{target}/pushes/{made['id']}")


@pytest.fixture
async def world(
    settings: StoreSettings, database: Database, rosters: Rosters, gateway: Gateway
) -> AsyncIterator[World]:
    """A roster, a Canvas, and nothing between them yet."""
    canvas = PretendCanvas()
    await gateway.apply(SCHOOL)
    async with (
        serving(canvas) as url,
        calling(make_app(settings, ISSUER.verifier)) as client,
        Canvas.open(allow_private=True) as asking,
    ):
        pusher = Pusher(database, rosters, asking, settings.sealing_keys, settle_seconds=0)
        scopes = ["roster.read", "subscriptions.write"]
        headers = ISSUER.headers(scopes, organization_id=gateway.organization_id)
        yield World(client, database, gateway, canvas, url, pusher, headers)


def unpack(content: bytes) -> dict[str, list[dict[str, str]]]:
    """The files of a set."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {
            name.removesuffix(".csv"): list(csv.DictReader(io.StringIO(archive.read(name).decode(), newline="")))
            for name in archive.namelist()
        }


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_files_of_a_roster(world: World) -> None:
    """Accounts, terms, courses, sections, people, enrollments and observers of a roster, with its own ids."""
    parent = student(5, "Pia", role="parent", agent_sourced_ids=("user-1",))
    await world.gateway.apply({"users": [parent, student(6, email=None)]})
    answer = await world.client.get("/v1/canvas/sis-import.zip", headers=world.headers)
    found = unpack(answer.content)

    assert [row["account_id"] for row in found["accounts"]] == ["org-North"]
    assert [(row["term_id"], row["start_date"]) for row in found["terms"]] == [("t1", "2020-08-01T00:00:00Z")]
    assert [(row["course_id"], row["account_id"], row["status"]) for row in found["courses"]] == [
        ("class-1", "org-North", "active")
    ]
    assert {row["user_id"] for row in found["users"]} == {"user-1", "user-2", "user-3", "user-5", "user-9"}
    assert {row["section_id"] for row in found["enrollments"]} == {"class-1"}
    assert [(row["observer_id"], row["student_id"]) for row in found["user_observers"]] == [("user-5", "user-1")]
    without = await world.client.get(
        "/v1/canvas/sis-import.zip", headers=world.headers, params={"guardians": "false", "login": "sourcedId"}
    )
    assert {row["login_id"] for row in unpack(without.content)["users"]} == {
        "user-1", "user-2", "user-3", "user-6", "user-9",
    }  # fmt: skip

    problems = await world.call("GET", "/problems")
    assert problems["counts"] == {"no_login": 1}
    assert problems["problems"] == [{"reason": "no_login", "collection": "users", "sourced_id": "user-6"}]


async def test_what_left_since_a_cursor_is_told(world: World) -> None:
    """A set since an earlier one says who is suspended, which enrollments are inactive and which classes completed."""
    first = await world.client.get("/v1/canvas/sis-import.zip", headers=world.headers)
    await world.gateway.apply({}, {"users": ["user-3"], "enrollments": ["enrollment-3-1", "enrollment-2-1"]})
    params = {"since": first.headers["Homeroom-Cursor"]}
    found = unpack((await world.client.get("/v1/canvas/sis-import.zip", headers=world.headers, params=params)).content)
    assert {row["user_id"]: row["status"] for row in found["users"]}["user-3"] == "suspended"
    assert {row["user_id"]: row["status"] for row in found["enrollments"]} == {
        "user-1": "active", "user-2": "inactive", "user-3": "inactive",
    }  # fmt: skip


async def test_a_product_pushes_what_it_is_licensed_for(world: World) -> None:
    """A license without contacts has no e-mail logins; one that ended pushes nothing and says so."""
    granted = await license_product(world.database, world.gateway.organization_id)
    scopes = ["roster.read", "subscriptions.write"]
    world.headers = ISSUER.headers(scopes, product_id=granted.product_id)
    target = await world.add_target(options={"login": "sourcedId"}, automatic=False)
    assert (await world.push(target))["state"] == "succeeded"
    assert {row["email"] for row in world.canvas.state["users"].values()} == {""}
    assert (await world.call("GET", "/problems"))["counts"] == {"no_login": 4}

    await announce(world.database, replace(granted, revoked_at=granted.valid_from))
    pushed = await world.push(target)
    assert (pushed["state"], pushed["code"]) == ("failed", Code.LICENSE_INACTIVE)
    world.headers = ISSUER.headers(scopes, organization_id=world.gateway.organization_id)
    assert (await world.call("GET", "/targets"))["targets"] == []
    await world.call("GET", f"/targets/{target}", 404)


# ── targets ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_tokens_are_never_shown(world: World) -> None:
    """A target's token is sealed where it is kept, in no answer, and not carried along to another address."""
    target = await world.add_target()
    shown = await world.call("GET", f"/targets/{target}")
    [row] = await world.database.fetch("SELECT * FROM canvas_target")
    assert world.canvas.token not in str(dict(row)) + str(shown)
    refused = await world.call("PATCH", f"/targets/{target}", 422, json={"base_url": "http://127.0.0.1:1"})
    assert refused["code"] == Code.SECRET_REQUIRED
    for url in ("ftp://x.example", "https://u:p@x.example", "https://x.example/path", "x"):
        body = {"base_url": url, "account_id": "1", "access_token": "t"}
        assert (await world.call("POST", "/targets", 422, json=body))["code"] == Code.ENDPOINT_REFUSED
    changed = await world.call("PATCH", f"/targets/{target}", json={"change_threshold": 30, "automatic": False})
    assert (changed["change_threshold"], changed["automatic"], changed["mode"]) == (30, False, "diffing")
    await world.call("DELETE", f"/targets/{target}", 204)
    await world.call("GET", f"/targets/{target}", 404)
    actions = await world.database.fetch("SELECT action FROM audit_entry ORDER BY number")
    assert [row["action"] for row in actions] == [
        "canvas-target.create", "canvas-target.change", "canvas-target.delete",
    ]  # fmt: skip


async def test_private_addresses_are_refused_when_connected_to(world: World) -> None:
    """In production a Canvas on a private address is never talked to, whatever its name was when it was entered."""
    target = await world.add_target(automatic=False)
    async with Canvas.open(allow_private=False) as asking:
        world.pusher.canvas = asking
        pushed = await world.push(target)
    assert (pushed["state"], pushed["code"]) == ("failed", Code.SSRF_BLOCKED)
    assert world.canvas.requests == []


async def test_a_token_can_be_tried(world: World) -> None:
    """The test asks Canvas for the account with the token, by a worker, and says what came of it."""
    target = await world.add_target(automatic=False)

    async def worker() -> None:
        while not world.canvas.requests:
            await world.pusher.take_up()
            await asyncio.sleep(0.02)
        await world.pusher.settle()

    answer, _ = await asyncio.gather(world.call("POST", f"/targets/{target}/test"), worker())
    assert answer["ok"] is True
    world.canvas.token, world.canvas.requests = "another", []
    answer, _ = await asyncio.gather(world.call("POST", f"/targets/{target}/test"), worker())
    assert (answer["ok"], answer["code"]) == (False, Code.CANVAS_AUTH)


# ── pushes ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_pushes_follow_the_roster(world: World) -> None:
    """Each change is pushed by itself, compared with the set before; who left is suspended, nothing is deleted."""
    target = await world.add_target(change_threshold=60)
    await world.work()
    assert world.canvas.statuses("users") == dict.fromkeys(("user-1", "user-2", "user-3", "user-9"), "active")
    await world.gateway.apply(
        {"classes": [section(1, title="Maths II")]}, {"users": ["user-3"], "enrollments": ["enrollment-3-1"]}
    )
    await world.work()
    assert world.canvas.statuses("users")["user-3"] == "suspended"
    assert world.canvas.statuses("enrollments")["class-1/user-3/student"] == "inactive"
    assert world.canvas.state["courses"][("class-1",)]["long_name"] == "Maths II"
    await world.work()
    first, second = world.canvas.imports
    assert second.diffed_against == first.id
    assert second.options["diffing_user_remove_status"] == "suspended"
    [newest, oldest] = (await world.call("GET", f"/targets/{target}/pushes"))["pushes"]
    assert {newest["state"], oldest["state"]} == {"succeeded"}
    assert (newest["import_id"], newest["workflow_state"], newest["progress"]) == ("2", "imported", 100)
    assert newest["counts"]["users"] == [4, 3]


async def test_classes_that_are_gone_are_completed(world: World) -> None:
    """A class that was removed completes its course, whose section and work stay."""
    await world.gateway.apply({"classes": [section(2)], "enrollments": [enrollment(1, 2)]})
    await world.add_target(change_threshold=100)
    await world.work()
    gone = [f"enrollment-{number}-1" for number in (1, 2, 3)]
    await world.gateway.apply({}, {"classes": ["class-1"], "enrollments": gone})
    await world.work()
    assert world.canvas.statuses("courses") == {"class-1": "completed", "class-2": "active"}
    assert world.canvas.statuses("sections") == {"class-1": "active", "class-2": "active"}
    states = world.canvas.statuses("enrollments")
    assert {key for key, state in states.items() if state == "active"} == {"class-2/user-1/student"}
    assert set(states.values()) == {"active", "inactive"}


async def test_a_set_that_shrinks_waits_for_somebody(world: World) -> None:
    """A set with far fewer people is not sent until somebody confirms it, and pushes by themselves stop."""
    target = await world.add_target()
    await world.work()
    gone = {"users": ["user-2", "user-3"], "enrollments": ["enrollment-2-1", "enrollment-3-1"]}
    await world.gateway.apply({}, gone)
    await world.work()
    [held, _] = (await world.call("GET", f"/targets/{target}/pushes"))["pushes"]
    assert (held["state"], held["code"]) == ("held", Code.CANVAS_HELD)
    assert len(world.canvas.imports) == 1
    await world.gateway.apply({"classes": [section(1, title="Maths II")]})
    await world.work()
    assert len(world.canvas.imports) == 1
    refused = await world.call("POST", f"/targets/{target}/pushes", 409, json={})
    assert refused["code"] == Code.CANVAS_HELD
    assert (await world.push(target, confirm=True))["state"] == "succeeded"
    assert world.canvas.statuses("users")["user-2"] == "suspended"
    assert (await world.call("GET", f"/targets/{target}"))["held"] is None
    assert (await world.call("POST", f"/targets/{target}/pushes", 409, json={"confirm": True}))["code"] == (
        Code.NOTHING_HELD
    )


async def test_a_breach_of_canvas_threshold_waits_for_somebody(world: World) -> None:
    """When Canvas compares nothing, nothing more is sent before somebody has the set taken for a new beginning."""
    target = await world.add_target(change_threshold=5)
    await world.work()
    more: Sequence[Record] = [student(number, f"Name{number * 7919}") for number in range(100, 160)]
    await world.gateway.apply({"users": more})
    await world.work()
    [pushed, _] = (await world.call("GET", f"/targets/{target}/pushes"))["pushes"]
    assert (pushed["state"], pushed["code"]) == ("succeeded", Code.CANVAS_REMASTER)
    assert (await world.call("GET", f"/targets/{target}"))["held"] == Code.CANVAS_REMASTER
    assert (await world.push(target, confirm=True))["code"] is None
    assert world.canvas.imports[-1].options["diffing_remaster_data_set"] == "true"
    assert (await world.push(target))["code"] is None
    assert world.canvas.imports[-1].diffed_against == world.canvas.imports[-2].id


async def test_messages_are_shown_without_names(world: World) -> None:
    """What Canvas did not take is shown with its file, and without the names that Canvas quotes."""
    target = await world.add_target(automatic=False)
    await world.gateway.apply({"users": [student(7, "Zebulon", email="student1@north.example")]})
    pushed = await world.push(target)
    assert (pushed["state"], pushed["code"], pushed["message_count"]) == ("succeeded", Code.CANVAS_MESSAGES, 1)
    [said] = pushed["messages"]
    assert (said["file"], said["severity"]) == ("users.csv", "warning")
    assert "already claimed" in said["message"]
    assert "Zebulon" not in str(pushed)


@pytest.mark.parametrize(
    ("refusal", "code", "requests"),
    [
        ([(401, {})], Code.CANVAS_AUTH, 1),
        ([(403, {})], Code.CANVAS_REFUSED, 1),
        ([(404, {})], Code.CANVAS_REFUSED, 1),
        ([(302, {"Location": "http://127.0.0.1:1/"})], Code.CANVAS_REFUSED, 1),
        ([(500, {})] * MOST_TRIES, Code.CANVAS_UNREACHABLE, MOST_TRIES),
        ([(429, {"Retry-After": "1"}), (503, {}), (403, {"X-Rate-Limit-Remaining": "0.0"})], None, 5),
    ],
)
async def test_refusals(
    world: World, refusal: list[tuple[int, dict[str, str]]], code: Code | None, requests: int
) -> None:
    """What may pass is tried again and again; what is refused for good is told at once, and once."""
    target = await world.add_target(automatic=False)
    world.canvas.refuse = list(refusal)
    pushed = await world.push(target)
    assert (pushed["code"], len(world.canvas.requests)) == (code, requests)
    assert pushed["state"] == ("failed" if code else "succeeded")
    if code is Code.CANVAS_AUTH:
        changed = await world.call("PATCH", f"/targets/{target}", json={"access_token": world.canvas.token})
        assert changed["held"] is None


@pytest.mark.parametrize("state", ["failed", "aborted", "failed_with_messages"])
async def test_imports_that_fail(world: World, state: str) -> None:
    """An import that Canvas gives up is told of as failed, and is not what later sets are compared with."""
    target = await world.add_target(automatic=False)
    world.canvas.break_uploads = state
    pushed = await world.push(target)
    assert (pushed["state"], pushed["code"], pushed["workflow_state"]) == ("failed", Code.CANVAS_IMPORT_FAILED, state)
    [row] = await world.database.fetch("SELECT counts, basis FROM canvas_target")
    assert tuple(row) == (None, None)


async def test_a_set_that_is_too_large_is_not_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker writes down has a limit, and a secret that can't be opened any more is said to be that."""
    target = await world.add_target(automatic=False)
    world.pusher.most_bytes = 100
    assert (await world.push(target))["code"] == Code.CANVAS_TOO_LARGE
    monkeypatch.setattr(world.pusher, "most_bytes", pushing.MOST_BYTES)
    await world.database.fetch("UPDATE canvas_target SET sealed_token = 'gone.AAAA'")
    assert (await world.push(target))["code"] == Code.SECRET_UNREADABLE
    assert world.canvas.requests == []


async def test_a_dead_worker_is_followed_by_another(world: World) -> None:
    """While a worker holds a push nobody else takes it; when its lease has run out, another one finishes it."""
    target = await world.add_target(automatic=False)
    await world.call("POST", f"/targets/{target}/pushes", 202)
    dead = uuid4()
    claim = "UPDATE canvas_push SET state = 'working', holder = $1, lease_until = now() + make_interval(secs => $2)"
    await world.database.fetch(claim, dead, 60.0)
    assert await world.pusher.take_up() == 0
    again = await world.call("POST", f"/targets/{target}/pushes", 202)
    same = await world.call("POST", f"/targets/{target}/pushes", 202)
    assert again["id"] == same["id"], "what waits takes further requests in"
    assert await world.pusher.take_up() == 0, "never two of a target at once"
    await world.database.fetch("UPDATE canvas_push SET lease_until = now() WHERE holder = $1", dead)
    await world.work()
    pushes = (await world.call("GET", f"/targets/{target}/pushes"))["pushes"]
    assert [push["state"] for push in pushes] == ["succeeded", "succeeded"]
    assert len(world.canvas.imports) == 2
    await world.call("GET", f"/targets/{target}/pushes/{UUID(int=0)}", 404)
