"""The services keep to their OpenAPI documents, whatever they are sent (Schemathesis, and values chosen to hurt)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any, Final
from unittest.mock import patch

import httpx2
import pytest
import pytest_asyncio
import requests
import schemathesis
from authorization.checking import read_code
from authorization.districts import GATEWAY, SCHEDULER, SSO, STORE, Neighbourhood, issue_token
from authorization.hostility import vary
from authorization.opening import opened_neighbourhood
from authorization.rules import AnyRule, Call, Kind, Rule
from authorization.table import TABLE
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, assume, given, settings
from pydantic import BaseModel
from schemathesis.checks import not_a_server_error
from schemathesis.core.errors import SchemathesisError
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from homeroom.auth import FINGERPRINTS, SCOPES
from homeroom.codes import Code
from homeroom.problems import RESPONSES
from homeroom.testing.postgres import fresh_database
from provider_gateway.inbox import api as uploads
from provider_gateway.inbox import downloads

SERVICES: Final = (SCHEDULER, GATEWAY, STORE, SSO)
CHECKS: Final[list[Any]] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES: Final = 4
"""Of each operation, and of each kind: the least there is, and some at random."""
AT_ONCE: Final = 16
EVERYTHING: Final = frozenset(SCOPES | {FINGERPRINTS})
METHODS: Final = ("GET", "PUT", "POST", "DELETE", "PATCH")
ORIGIN: Final = "http://homeroom.test"
LONGEST_URL: Final = 60_000
"""What a client of HTTP can send."""
_PARAMETER: Final = re.compile(r"{\w+(:path)?}")
ERRORS: Final = ("application/problem+json", "application/json")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Neighbourhood]:
    """All services with two districts in them; nobody waits for what a worker would do."""
    with ExitStack() as stack:
        for module in (uploads, downloads):
            stack.enter_context(patch.object(module, "NEWS_SECONDS", 0.01))
        async with fresh_database(request) as url, opened_neighbourhood(url, tmp_path_factory.mktemp("files")) as place:
            for app in place.apps.values():
                app.state.stop.set()
            yield place


@schemathesis.serializer("application/zip")
def _send_as_it_is(_: schemathesis.SerializationContext, value: Any) -> Any:
    """A body that is bytes already."""
    return value if isinstance(value, bytes) else b""


class Fuzz:
    """Sends what Schemathesis makes up, from a thread of its own, to an app in this one.

    What is made up is the same each time, so a failure comes again. Path parameters are those of a district where
    there are some, for there is little to be found behind ids that nobody has.
    """

    def __init__(self, app: FastAPI, client: httpx2.AsyncClient, tokens: dict[Kind, str]) -> None:
        self._client, self._tokens = client, tokens
        self._loop = asyncio.get_running_loop()
        self._schema = schemathesis.openapi.from_dict(app.openapi())
        self.examples = 0
        self.problems: list[str] = []

    def run(self, rules: Iterable[AnyRule] = (), ids: dict[str, str] | None = None) -> None:
        """Every operation of the document, those that delete at the end."""
        known = {rule.name: rule for rule in rules if isinstance(rule, Rule)}
        operations = [found.ok() for found in self._schema.get_all_operations()]
        for operation in sorted(operations, key=lambda one: one.method == "delete"):
            rule = known.get((operation.method.upper(), operation.path))
            fixed = find_parameters(operation, rule, ids or {})
            takes_anything = operation.query or operation.path_parameters or operation.body
            kinds: tuple[Kind, ...] = ("platform",)
            if rule is not None and "product" in rule.callers:
                kinds = ("platform", "product")
            self._try(operation, kinds, GenerationMode.POSITIVE, fixed)
            if takes_anything:
                self._try(operation, kinds, GenerationMode.NEGATIVE, None)

    def _try(self, operation: Any, kinds: tuple[Kind, ...], mode: GenerationMode, fixed: dict[str, str] | None) -> None:
        """Some examples of an operation, in turn as each of those who may call it."""

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(case=operation.as_strategy(generation_mode=mode, path_parameters=fixed))
        def send(case: Any) -> None:
            prepared = requests.Request(**case.as_transport_kwargs(base_url=ORIGIN)).prepare()
            assume(len(str(prepared.url)) < LONGEST_URL)
            kind = kinds[self.examples % len(kinds)]
            self.examples += 1
            answer = asyncio.run_coroutine_threadsafe(self._send(prepared, kind), self._loop).result(30)
            case.validate_response(answer, checks=CHECKS)

        try:
            send()
        except FailureGroup as group:
            self.problems += [_tell(operation, mode, error) for error in group.exceptions]
        except (Failure, SchemathesisError) as error:
            self.problems.append(_tell(operation, mode, error))

    async def _send(self, prepared: requests.PreparedRequest, kind: Kind) -> httpx2.Response:
        headers = {**prepared.headers, "Authorization": f"Bearer {self._tokens[kind]}"}
        method, url = str(prepared.method), str(prepared.url)
        return await self._client.request(method, url, headers=headers, content=prepared.body)


def find_parameters(operation: Any, rule: Rule | None, ids: dict[str, str]) -> dict[str, str] | None:
    """Path parameters behind which there is something; None for those that are to be made up."""
    if rule is None or operation.method == "delete":
        return None
    names = re.findall(r"{(\w+)}", operation.path)
    known = {name: ids.get(rule.ids.get(name, name), rule.ids.get(name, "")) for name in names}
    return known if known and all(known.values()) else None


def _tell(operation: Any, mode: GenerationMode, error: BaseException) -> str:
    told = f"{operation.method.upper()} {operation.path} ({mode.name.lower()}): {error!r} {error}"
    return told[:1_000]


def batched(calls: Iterable[Call], size: int) -> Iterator[list[Call]]:
    """Calls in groups."""
    waiting = iter(calls)
    while some := list(islice(waiting, size)):
        yield some


@pytest.mark.parametrize("service", SERVICES)
async def test_documents_are_kept_to(place: Neighbourhood, service: str) -> None:
    """Whatever fits a document, or almost does, is answered as the document says, and never with a 5xx."""
    kinds: tuple[Kind, ...] = ("platform", "product")
    tokens = {kind: issue_token(place, kind, EVERYTHING, place.ours) for kind in kinds}
    fuzz = Fuzz(place.apps[service], place.clients[service], tokens)
    await asyncio.to_thread(fuzz.run, TABLE[service], place.ours.ids)
    assert fuzz.problems == [], "\n".join(fuzz.problems)
    assert fuzz.examples > len(TABLE[service])


@pytest.mark.parametrize("service", SERVICES)
async def test_hostile_values(place: Neighbourhood, service: str) -> None:
    """A valid call with one value that hurts is refused with a problem document, or taken; it never ends in a 5xx."""
    document, problems = place.apps[service].openapi(), []
    for rule in TABLE[service]:
        if not isinstance(rule, Rule):
            continue
        kind: Kind = "platform" if "platform" in rule.callers else "product"
        ids = place.ours.ids | (await rule.prepare(place, place.ours, kind) if rule.prepare else {})
        token = issue_token(place, kind, EVERYTHING, place.ours, rule.as_product)
        for calls in batched(vary(rule, ids, document), AT_ONCE):
            answers = await asyncio.gather(*(place.send(service, call, token) for call in calls))
            problems += [
                f"{call.method} {call.path[:100]} {dict(call.query)!s:.100} {call.content!s:.160}: {answer.status_code}"
                for call, answer in zip(calls, answers, strict=True)
                if is_wrong(answer)
            ]
    assert problems == [], "\n".join(problems)


def is_wrong(answer: httpx2.Response) -> bool:
    """Whether an answer is the server's fault, or an error that does not say what is wrong."""
    if read_code(answer) == Code.BUSY:  # archives and downloads have few places, and many ask at once here
        return False
    return answer.status_code >= 500 or (answer.is_error and not answer.headers["content-type"].startswith(ERRORS))


@pytest.mark.parametrize("service", SERVICES)
async def test_other_methods(place: Neighbourhood, service: str) -> None:
    """A method a path does not have is refused with 405 and those it has."""
    token = issue_token(place, "platform", EVERYTHING, place.ours)
    rules = TABLE[service]
    paths = {
        filled: {other.method for other in rules if re.fullmatch(_PARAMETER.sub("[^/]+", other.path), filled)}
        for filled in (_PARAMETER.sub("0190f3a1-7d2e-7c11-9b54-2f6c1e8d0a37", rule.path) for rule in rules)
    }
    problems = []
    for path, methods in paths.items():
        for method in set(METHODS) - methods:
            answer = await place.send(service, Call(method, path), token)
            if answer.status_code != 405 or read_code(answer) != Code.METHOD_NOT_ALLOWED:
                problems.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
    assert problems == [], "\n".join(problems)


class Answer(BaseModel):
    """What the broken app says it answers."""

    number: int


async def test_broken_promises_are_found() -> None:
    """An app that crashes, or answers what its document does not say, is told of: these tests can fail."""
    app = FastAPI(responses=RESPONSES)

    @app.get("/right", response_model=Answer)
    async def right() -> Any:
        return {"number": 1}

    @app.get("/crash/{number}", response_model=Answer)
    async def crash(number: int) -> Any:
        return {"number": number / 0}

    @app.get("/text", responses={200: {"model": Answer}})
    async def text() -> Any:
        return {"number": "one"}

    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url=ORIGIN) as client:
        fuzz = Fuzz(app, client, {"platform": "none"})
        await asyncio.to_thread(fuzz.run)
    assert {problem.split(" (")[0] for problem in fuzz.problems} == {"GET /crash/{number}", "GET /text"}
