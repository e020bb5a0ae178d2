"""The checker of rules notices what it is for: here are apps that are wrong in one thing each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx2
import pytest
from authorization.checking import Check
from authorization.districts import District, Neighbourhood
from authorization.routes import compare, list_routes
from authorization.rules import DISTRICTS, Rule
from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import PlainTextResponse

from homeroom.auth import Caller, identify, require
from homeroom.problems import answer_problems
from homeroom.testing.tokens import TestIssuer

LIST = Rule(
    method="GET", path="/v1/schools", needs=("roster.read",), callers=DISTRICTS, blind=True, shows=("school_id",)
)
Reader = Annotated[Caller, Depends(require("roster.read"))]
FAULTS = ("none", "no dependency", "another scope", "products let in", "leak", "nothing shown", "crash")
FOUND = {
    "none": "",
    "no dependency": "as no token: 200",
    "another scope": "with a scope missing: 200",
    "products let in": "as another product: 200",
    "leak": "as another organization: 200 1 secrets of the district are in it",
    "nothing shown": "school_id is not in it",
    "crash": "as our platform with roster.read: 500",
}


@asynccontextmanager
async def neighbourhood(app: FastAPI) -> AsyncIterator[Neighbourhood]:
    """Two districts with nothing but a school each, and one service."""
    issuer = TestIssuer()
    app.state.verifier = issuer.verifier
    answer_problems(app)
    ours, theirs = District("ourword123"), District("theirword1")
    for district in (ours, theirs):
        names = ("organization_id", "product_id", "school_id", "integration_id", "teacher_id")
        district.keep(**{name: f"{name}-{district.mark}" for name in names})
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://homeroom.test") as client:
        yield Neighbourhood(issuer, {"fake": app}, {"fake": client}, ours, theirs)


def make_app(fault: str) -> FastAPI:
    """An app with a list of schools that is right but for this."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    ours, theirs = "school_id-ourword123", "school_id-theirword1"

    def list_schools(caller: Caller | None) -> PlainTextResponse:
        if fault == "crash" and caller is not None and caller.organization_id is None:
            raise RuntimeError
        bound = None if caller is None else caller.organization_id
        seen = [one for one in (ours, theirs) if bound is None or one.rpartition("-")[2] in bound]
        if fault == "leak":
            seen = ["some school", "OURWORD123 Elementary"]
        return PlainTextResponse("" if fault == "nothing shown" else " ".join(seen))

    async def forgetful() -> PlainTextResponse:
        return list_schools(None)

    async def careless(caller: Annotated[Caller, Depends(identify)]) -> PlainTextResponse:
        return list_schools(caller)

    async def open_to_products(
        caller: Annotated[Caller, Depends(require("roster.read", products=True))],
    ) -> PlainTextResponse:
        return list_schools(caller)

    async def right(caller: Reader) -> PlainTextResponse:
        return list_schools(caller)

    handlers = {"no dependency": forgetful, "another scope": careless, "products let in": open_to_products}
    app.add_api_route("/v1/schools", handlers.get(fault, right), methods=["GET"])
    return app


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_is_wrong_is_found(fault: str) -> None:
    """Each fault is told with who could do what they should not; without one there is nothing to tell."""
    async with neighbourhood(make_app(fault)) as place:
        problems = await Check(place, "fake", LIST).run()
    assert any(FOUND[fault] in problem for problem in problems) == (fault != "none"), problems


async def test_routes_and_rules_are_compared() -> None:
    """A route without a rule is told, and so is a rule whose route is gone."""
    app = make_app("none")
    app.add_api_route("/v1/forgotten", lambda: "", methods=["POST"], include_in_schema=False)
    gone = Rule(method="GET", path="/v1/gone", needs=("admin",), callers=DISTRICTS)
    assert compare({"fake": app}, {"fake": [LIST, gone]}) == [
        "fake: POST /v1/forgotten has no rule",
        "fake: GET /v1/gone is no route",
    ]


async def test_what_is_no_plain_route_is_refused() -> None:
    """A mount or a socket can't slip by: the list of routes says that nobody has a rule for it."""
    app = make_app("none")

    async def talk(socket: WebSocket) -> None:
        await socket.accept()

    app.add_api_websocket_route("/v1/talk", talk)
    with pytest.raises(TypeError, match="/v1/talk"):
        list_routes(app)
