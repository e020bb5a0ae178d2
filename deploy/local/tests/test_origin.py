"""The one origin in front of the local installation's services."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from homeroom import problems
from homeroom_local.origin import find_service, make_origin
from homeroom_local.stack import _Server, free_port

DOCUMENTS = sorted((Path(__file__).parents[3] / "docs/api").glob("*.openapi.json"))
INTERNAL = ("/v1/fingerprints/", "/v1/people/")


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an app on a port of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(app, log_config=None, ws="none"))
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


class Upstream:
    """A service that says what it was asked, or tells a long story."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun = asyncio.Event()
        self.cut_off = asyncio.Event()
        self.app = Starlette(
            routes=[
                Route("/v1/changes", self.tell),
                Route("/v1/integrations/{id}/uploads", self.take, methods=["POST"]),
                Route("/sso/sign-in", self.sign_in, methods=["POST"]),
                Route("/{path:path}", self.echo, methods=["GET", "POST"]),
            ]
        )

    async def echo(self, request: Request) -> Response:
        """What arrived here."""
        body = (await request.body()).decode()
        target = (request.scope["raw_path"] + b"?" + request.scope["query_string"]).decode()
        asked = {"method": request.method, "target": target, "body": body, "headers": dict(request.headers)}
        return Response(json.dumps(asked), 201, {"X-Total-Count": "7"}, "application/json")

    async def sign_in(self, request: Request) -> Response:
        """Send somebody on with two cookies, to where their form says."""
        form = await request.form()
        answer = Response(status_code=303, headers={"Location": str(form["next"])})
        answer.set_cookie("__Host-one", "1", secure=True, httponly=True, samesite="none")
        answer.set_cookie("__Host-two", "2", secure=True, httponly=True, samesite="lax")
        return answer

    async def take(self, request: Request) -> Response:
        """Give back a body, and say how far it has come."""
        taken = b""
        try:
            async for piece in request.stream():
                taken += piece
                self.begun.set()
        except ClientDisconnect:
            self.cut_off.set()
        return Response(taken)

    async def tell(self, _request: Request) -> Response:
        """Half an answer, and the other half once it may go on."""

        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            await self.go_on.wait()
            yield b"last"

        return StreamingResponse(parts())


@asynccontextmanager
async def origin_of(*services: str) -> AsyncIterator[tuple[httpx2.AsyncClient, Upstream]]:
    """An origin before one upstream that stands for these services; all others are away."""
    upstream, away = Upstream(), f"http://127.0.0.1:{free_port()}"
    names = ("sso", "sync-scheduler", "provider-gateway", "roster-store")
    async with serving(upstream.app) as url:
        urls = {name: url if name in services else away for name in names}
        async with (
            serving(make_origin(urls)) as origin,
            httpx2.AsyncClient(base_url=origin, trust_env=False, timeout=10) as client,
        ):
            yield client, upstream


def check_problem(answer: httpx2.Response, status: int, code: str) -> None:
    """The answer is a problem document like every other one."""
    body = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (status, problems.MEDIA_TYPE)
    assert (body["code"], body["type"]) == (code, f"urn:homeroom:problem:{code}")
    jsonschema.Draft202012Validator(problems.SCHEMA).validate(body)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name.partition(".")[0])
def test_documented_paths_are_routed(document: Path) -> None:
    """Every path of a service's API leads to that service, but for those between services."""
    paths: dict[str, Any] = json.loads(document.read_text("utf-8"))["paths"]
    for path in paths:
        wanted = None if path.startswith(INTERNAL) else document.name.partition(".")[0]
        assert find_service(re.sub(r"\{\w+\}", "x", path)) == wanted, path


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/livez", "/readyz", "/metrics", "/v1/fingerprints/1/users", "/v1/people/resolve", "/v1/runsX"]
)
async def test_what_is_not_routed_is_not_there(path: str) -> None:
    """Probes, metrics, internal paths and paths nobody has are answered with a problem, and reach no service."""
    async with origin_of("sso", "sync-scheduler", "roster-store") as (client, _):
        check_problem(await client.get(path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    "path", ["/v1/changes/../fingerprints/1/users", "/oauth2/../metrics", "/oauth2/%2e%2e/metrics", "/v1/runs/./x"]
)
async def test_nobody_climbs_through_a_path(path: str) -> None:
    """A path with `..` in it, however it is written, does not lead to what is internal."""
    async with origin_of("sso", "sync-scheduler", "roster-store") as (client, _):
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())  # httpx2 would tidy it up
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        await writer.wait_closed()
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"urn:homeroom:problem:NOT_FOUND" in answer


async def test_requests_pass_unchanged() -> None:
    """Method, path, query, body and headers arrive as they were sent, and so does the answer."""
    async with origin_of("sync-scheduler") as (client, _):
        answer = await client.post(
            "/v1/integrations/a%2Fb?limit=5&name=%C3%A4", content=b'{"a":1}', headers={"Authorization": "Bearer t"}
        )
        seen = answer.json()
        assert (answer.status_code, answer.headers["x-total-count"]) == (201, "7")
        assert (seen["method"], seen["body"]) == ("POST", '{"a":1}')
        assert seen["target"] == "/v1/integrations/a%2Fb?limit=5&name=%C3%A4"
        sent = {name.lower(): value for name, value in answer.request.headers.items() if name.lower() != "connection"}
        assert {name: value for name, value in seen["headers"].items() if name != "connection"} == sent


async def test_browsers_sign_in_through_it() -> None:
    """A form's answer comes back with its redirect, and with all of its cookies, which nobody keeps."""
    async with origin_of("sso") as (client, _):
        place = "https://portal.example/authorize?state=a%2Fb&scope=openid+profile"
        answer = await client.post("/sso/sign-in", data={"next": place})
        assert (answer.status_code, answer.headers["location"]) == (303, place)
        given = answer.headers.get_list("set-cookie")
        assert [text.partition(";")[0] for text in given] == ["__Host-one=1", "__Host-two=2"]
        assert all("Secure" in text and "HttpOnly" in text for text in given)
        client.cookies.clear()
        assert "cookie" not in (await client.get("/sso/session")).json()["headers"]
        client.cookies.set("mine", "3")
        assert (await client.get("/sso/session")).json()["headers"]["cookie"] == "mine=3"


async def test_nothing_is_added_to_requests() -> None:
    """A caller that asks for no compression and gives no name of itself is passed on as such."""
    async with origin_of("sync-scheduler") as (client, _):
        for name in ("accept", "accept-encoding", "user-agent"):
            del client.headers[name]
        seen = (await client.get("/v1/runs")).json()["headers"]
        assert {"accept", "accept-encoding", "user-agent"}.isdisjoint(seen)


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/v1/integrations/i1/uploads", "provider-gateway"),
        ("/v1/integrations/uploads", "sync-scheduler"),
        ("/v1/integrations/i1/uploads/", "sync-scheduler"),
        ("/v1/integrations/i1/x/uploads", "sync-scheduler"),
        ("/v1/integrations/../uploads", None),
        ("/v1/inquiries/q1", "sync-scheduler"),
    ],
)
def test_uploads_are_the_gateways(path: str, service: str | None) -> None:
    """Exactly the uploads of an integration go to the gateway, everything else of it to the scheduler."""
    assert find_service(path) == service


async def test_bodies_stream() -> None:
    """What a caller has sent so far is passed on before all of it was sent, and pauses do no harm."""
    async with origin_of("provider-gateway") as (client, upstream):

        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            await asyncio.wait_for(upstream.begun.wait(), 10)
            yield b"last"

        answer = await client.post("/v1/integrations/i1/uploads", content=body())
        assert (answer.status_code, answer.content) == (200, b"firstlast")


async def test_a_caller_that_goes_away_ends_the_request_behind() -> None:
    """A body that is cut off on its way in is cut off for the service as well."""
    async with origin_of("provider-gateway") as (client, upstream):
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(b"POST /v1/integrations/i1/uploads HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nfirst")
        await asyncio.wait_for(upstream.begun.wait(), 10)
        writer.close()
        await writer.wait_closed()
        await asyncio.wait_for(upstream.cut_off.wait(), 10)
        assert await reader.read() == b""


async def test_answers_stream() -> None:
    """What a service has said so far is passed on before it has said everything."""
    async with origin_of("roster-store") as (client, upstream), client.stream("GET", "/v1/changes") as answer:
        parts = answer.aiter_raw()
        assert await asyncio.wait_for(anext(parts), 5) == b"first"
        upstream.go_on.set()
        assert b"".join([part async for part in parts]) == b"last"


async def test_a_service_that_is_away() -> None:
    """Where a service does not answer, the caller is told so and asked to come back."""
    async with origin_of() as (client, _):
        answer = await client.get("/v1/runs/1")
        check_problem(answer, 503, "UNAVAILABLE")
        assert "sync-scheduler" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) > 0
