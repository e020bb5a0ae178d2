"""homeroom.service and homeroom.problems."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import httpx2
import msgspec
import pytest
from fastapi import APIRouter, Depends, FastAPI
from pydantic import SecretStr

from homeroom.auth import Caller, require
from homeroom.bus import BusUnavailable
from homeroom.codes import Code
from homeroom.db import DatabaseBusy
from homeroom.ids import new_id
from homeroom.problems import Problem
from homeroom.service import Parts, RequestModel, create_app
from homeroom.settings import Settings
from homeroom.testing.tokens import TestIssuer, calling

CANARY = "ann-canary@example.org"
SETTINGS = Settings(database_url=SecretStr("postgresql://db/x"), issuer="https://homeroom.example", max_body_bytes=1000)
ISSUER = TestIssuer()
things = APIRouter()


class Thing(RequestModel):
    """A body."""

    size: int
    color: str = "red"


class Database:
    """Something that is opened, pinged and closed."""

    def __init__(self) -> None:
        self.story: list[str] = []
        self.up = True

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator["Database"]:
        """Tell when it is opened and closed."""
        self.story.append(f"{name} opened")
        yield self
        self.story.append(f"{name} closed")

    async def ping(self) -> None:
        """Fail when it is down."""
        if not self.up:
            raise ConnectionError(f"password {CANARY} refused")


@things.post("/things/{thing_id}", status_code=201)
async def make_thing(thing_id: str, thing: Thing, caller: Annotated[Caller, Depends(require("runs.write"))]) -> str:
    """A handler."""
    return f"{thing_id} {thing.size} {caller.subject}"


@things.get("/fail/{how}")
async def fail(how: str) -> None:
    """A handler that fails."""
    raise {
        "busy": DatabaseBusy("no connection was free"),
        "away": BusUnavailable("the bus is away"),
        "bug": ValueError(f"could not read {CANARY}"),
        "problem": Problem(Code.SYNC_IN_PROGRESS, status=409, detail="A run is under way.", run_id="r1"),
    }[how]


def _app(database: Database) -> FastAPI:
    async def open_parts(_: FastAPI, parts: Parts) -> None:
        await parts.open("database", database.open("database"), ping=Database.ping)
        await parts.open("bus", database.open("bus"))

    return create_app(
        name="things",
        title="Things",
        settings=SETTINGS,
        routers=[things],
        open_parts=open_parts,
        verifier=ISSUER.verifier,
    )


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx2.AsyncClient]:
    async with calling(_app(database), ISSUER.token(["runs.write"])) as client:
        yield client


async def test_parts_are_closed_in_reverse(database: Database) -> None:
    """What was opened last is closed first."""
    async with calling(_app(database)):
        pass

    assert database.story == ["database opened", "bus opened", "bus closed", "database closed"]


async def test_readiness_names_what_is_down(client: httpx2.AsyncClient, database: Database) -> None:
    """Readiness follows the pings and names what is down and no more; liveness asks nobody."""
    assert (await client.get("/readyz")).status_code == 200
    database.up = False

    answer = await client.get("/readyz")

    assert (answer.status_code, answer.json()["down"]) == (503, ["database"])
    assert CANARY not in answer.text
    assert (await client.get("/livez")).status_code == 200


async def test_wrong_fields_are_listed(client: httpx2.AsyncClient) -> None:
    """Each wrong or unknown field is named with what is wrong, and no value comes back."""
    answer = await client.post("/things/1", json={"size": CANARY, "colour": CANARY})

    assert answer.status_code == 422
    assert answer.json()["code"] == "REQUEST_INVALID"
    assert {error["field"] for error in answer.json()["errors"]} == {"body.size", "body.colour"}
    assert CANARY not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "NOT_FOUND"),
        ("PUT", "/things/1", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/things/1", 422, "REQUEST_INVALID"),
        ("GET", "/fail/busy", 503, "BUSY"),
        ("GET", "/fail/away", 503, "UNAVAILABLE"),
        ("GET", "/fail/bug", 500, "INTERNAL"),
        ("GET", "/fail/problem", 409, "SYNC_IN_PROGRESS"),
    ],
)
async def test_every_error_is_a_problem(
    client: httpx2.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    """Every error has the shape of RFC 9457 with a code and a next step, and holds nothing it should not."""
    answer = await client.request(method, path)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == code
    assert all(body[member] for member in ("type", "title", "detail", "next_step", "request_id"))
    assert body["status"] == status
    assert CANARY not in answer.text
    assert ("run_id" in body) == (code == "SYNC_IN_PROGRESS")
    assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize("stated", [True, False])
async def test_large_bodies_are_refused(client: httpx2.AsyncClient, *, stated: bool) -> None:
    """A body over the limit is not read to its end, whether it states its size or not."""
    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield b'{"size": 1,' + b" " * 100

    content = b" " * 10_000 if stated else body()
    answer = await client.post("/things/1", content=content)

    assert (answer.status_code, answer.json()["code"]) == (413, "REQUEST_TOO_LARGE")


async def test_tokens_are_asked_for(client: httpx2.AsyncClient) -> None:
    """No token, a bad token and a token without the scope are told apart, as RFC 6750 wants them told."""
    missing = await client.post("/things/1", json={"size": 1}, headers={"Authorization": ""})
    bad = await client.post("/things/1", json={"size": 1}, headers={"Authorization": "Bearer x.y.z"})
    weak = await client.post("/things/1", json={"size": 1}, headers=ISSUER.headers(["roster.read"]))
    good = await client.post("/things/1", json={"size": 1})

    assert [(answer.status_code, answer.json().get("code")) for answer in (missing, bad, weak)] == [
        (401, "TOKEN_MISSING"),
        (401, "TOKEN_INVALID"),
        (403, "SCOPE_MISSING"),
    ]
    assert all("Bearer" in answer.headers["www-authenticate"] for answer in (missing, bad, weak))
    assert (good.status_code, good.json()) == (201, "1 1 test")


async def test_request_ids_are_kept_or_made(client: httpx2.AsyncClient) -> None:
    """A caller's request id comes back if it is sane; anything else is replaced."""
    kept = await client.get("/livez", headers={"X-Request-Id": "run-0815-abc"})
    made = await client.get("/livez", headers={"X-Request-Id": "a b\tc<script>"})

    assert kept.headers["x-request-id"] == "run-0815-abc"
    assert "script" not in made.headers["x-request-id"]


def test_ids_sort_by_time() -> None:
    """Ids of our own are UUIDs of version 7: later ones are greater, and no two are alike."""
    early = [new_id() for _ in range(1000)]
    time.sleep(0.002)
    late = new_id()

    assert {made.version for made in early} == {7}
    assert len(set(early)) == 1000
    assert max(early) < late


async def test_answers_carry_security_headers(client: httpx2.AsyncClient) -> None:
    """Answers are not sniffed, framed, cached or downgraded, errors included."""
    for path in ("/livez", "/nowhere", "/fail/bug"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert "strict-transport-security" in headers


async def test_metrics_know_routes_not_paths(client: httpx2.AsyncClient) -> None:
    """Metrics count by the route's template, so ids neither leak nor multiply them."""
    await client.post("/things/somebodys-id", json={"size": 1})
    await client.get("/wp-admin")

    text = (await client.get("/metrics")).text

    assert 'route="/things/{thing_id}",status="201"' in text
    assert "somebodys-id" not in text
    assert "wp-admin" not in text


async def test_the_openapi_document_tells_of_problems(database: Database) -> None:
    """Every operation documents its problems, and is named as its function is."""
    document = _app(database).openapi()
    operation = document["paths"]["/things/{thing_id}"]["post"]

    assert operation["operationId"] == "make_thing"
    assert "application/problem+json" in operation["responses"]["default"]["content"]


WORKER = """
    import asyncio, sys
    from homeroom.service import run_worker
    from homeroom.settings import Settings

    async def main(parts, stop):
        async def fail():
            await asyncio.sleep(0.2)
            raise ValueError("canary@example.org")
        if "fail" in sys.argv:
            parts.start("doomed", fail)
        await stop.wait()
        if "hang" in sys.argv:
            await asyncio.sleep(60)

    run_worker("worker", Settings.load(), main)
"""


def _start(folder: Path, *args: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "HOMEROOM_DATABASE_URL": "postgresql://db/x",
        "HOMEROOM_ISSUER": "http://issuer.test",
        "HOMEROOM_HEALTH_PORT": "0",
        "HOMEROOM_PORT_FILE": str(folder / "port"),
    }
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(WORKER), *args],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


async def _port(folder: Path) -> int:
    async with asyncio.timeout(30):
        while not (folder / "port").exists():
            await asyncio.sleep(0.05)
    return int((folder / "port").read_text())


async def test_a_worker_is_probed_and_ends_when_asked(tmp_path: Path) -> None:
    """A worker serves its probes on a free port it writes down, and ends with 0 on SIGTERM."""
    with _start(tmp_path) as worker:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{await _port(tmp_path)}", timeout=10) as client:
            answers = [(await client.get(probe)).status_code for probe in ("/livez", "/readyz", "/metrics")]
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=30)

    assert answers == [200, 200, 200]
    assert worker.returncode == 0


async def test_a_failed_background_task_ends_the_process(tmp_path: Path) -> None:
    """When a background task fails the process ends with an error and says which, without quoting a value."""
    with _start(tmp_path, "fail") as worker:
        _, logged = worker.communicate(timeout=30)

    lines = [msgspec.json.decode(line) for line in logged.splitlines()]
    assert worker.returncode == 1
    assert [line["error"]["type"] for line in lines if line.get("task") == "doomed"] == ["ValueError"]
    assert "canary" not in logged


async def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """Whoever asks twice does not have to wait for what is under way."""
    with _start(tmp_path, "hang") as worker:
        await _port(tmp_path)
        worker.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        asked = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=30)

    assert worker.returncode == 1
    assert time.monotonic() - asked < 5
