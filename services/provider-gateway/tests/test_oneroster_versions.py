"""Finding the version of a OneRoster server, signing in to it, and asking it the way its system wants (A4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from homeroom.codes import Code
from homeroom.connections import KNOWN_SIS
from homeroom.roster import COLLECTIONS
from provider_gateway.providers._demographics_keys import ELL_KEYS, FRL_KEYS, IEP_KEYS, read_keys
from provider_gateway.quirks import USUAL, Quirks, find_quirks
from sandbox_district.server import Sandbox, create_district, running_sandbox

SCOPE = "https://purl.imsglobal.org/spec/or/{}/scope/{}"


class Server:
    """A OneRoster server with one base, and a token endpoint with habits of its own."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.rows: dict[str, list[Any]] = {collection: [] for collection in COLLECTIONS}
        self.asked: list[str] = []
        self.tokens: list[dict[str, str]] = []
        self.wants: dict[str, Any] = {}
        self.in_flight = self.most_in_flight = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0.002)
        response = await self._answer(request)
        self.in_flight -= 1
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.url.path == "/token":
            return self._give_token(request, (await request.body()).decode())
        self.asked.append(request.url.path)
        if not request.url.path.startswith(f"{self.base}/"):
            return Response(status_code=404)
        authorization = request.headers.get("authorization", "")
        if not authorization.startswith(("OAuth ", "Bearer good")):
            return Response(status_code=401)
        collection = request.url.path.removeprefix(f"{self.base}/")
        start, limit = int(request.query_params["offset"]), int(request.query_params["limit"])
        rows = self.rows[collection]
        body = msgspec.json.encode({collection: rows[start : start + limit]})
        return Response(body, headers={"x-total-count": str(len(rows))})

    def _give_token(self, request: Request, body: str) -> Response:
        form = {name: values[0] for name, values in parse_qs(body).items()}
        query = dict(request.query_params)
        told = {"form": "basic" if "authorization" in request.headers else "body"}
        self.tokens.append(told | {f"query.{name}": value for name, value in query.items()} | form)
        wants = self.wants
        if told["form"] != wants.get("form", told["form"]):
            return JSONResponse({"error": "invalid_client"}, wants.get("status", 400))
        scope = query.get("scope") if wants.get("in_query") else form.get("scope")
        if "scopes" in wants and (scope or "") not in wants["scopes"]:
            return JSONResponse({"error": "invalid_scope"}, 400)
        if wants.get("in_query") and query.get("grant_type") != "client_credentials":
            return JSONResponse({"error": "invalid_request"}, 400)
        return JSONResponse({"access_token": "good-1", "expires_in": 3600})


@pytest.fixture
def users(user: Any) -> list[Any]:
    """Users as OneRoster 1.2 has them."""
    found = []
    for number in range(12):
        one = user(number)
        del one["role"], one["orgs"]
        one["roles"] = [{"roleType": "primary", "role": "student", "org": {"sourcedId": "s1"}}]
        found.append(one)
    return found


@pytest.mark.parametrize("base", ["/ims/oneroster/v1p1", "/ims/oneroster/rostering/v1p2", "/ims/oneroster/v1p2"])
async def test_version_is_found(gateway: Any, serve: Any, users: list[Any], base: str) -> None:
    """Below a root the version that answers is found by itself, and asked first the next time."""
    server = Server(base)
    server.rows["users"] = users
    gateway.point_at(await serve(server))
    await gateway.sync()
    assert len(gateway.store.ids("users")) == 12
    astray = [path for path in server.asked if not path.startswith(base)]
    assert len(astray) == ("/ims/oneroster/v1p1", "/ims/oneroster/rostering/v1p2", "/ims/oneroster/v1p2").index(base)

    server.asked.clear()
    await gateway.sync()
    assert all(path.startswith(base) for path in server.asked)


async def test_version_that_moved(gateway: Any, serve: Any, users: list[Any]) -> None:
    """A server that was upgraded since the last run is found at its new base."""
    server = Server("/ims/oneroster/v1p1")
    server.rows["users"] = users
    gateway.point_at(await serve(server))
    await gateway.sync()
    server.base = "/ims/oneroster/rostering/v1p2"
    assert (await gateway.sync()).chunks == []
    assert len(gateway.store.ids("users")) == 12


async def test_no_version_at_all(gateway: Any, serve: Any) -> None:
    """A root below which there is no OneRoster is told as not found, after few requests."""
    server = Server("/elsewhere")
    gateway.point_at(await serve(server))
    outcome = await gateway.run()
    assert outcome.failure.code == Code.PROV_NOT_FOUND
    assert len(server.asked) <= 40


@pytest.mark.parametrize(
    ("base", "version"), [("/ims/oneroster/v1p1", "v1p1"), ("/ims/oneroster/rostering/v1p2", "v1p2")]
)
@pytest.mark.parametrize("demographics", [False, True])
async def test_scopes(gateway: Any, serve: Any, base: str, version: str, demographics: bool) -> None:
    """Scopes are those of the version, and demographics are asked for only where they are wanted."""
    server = Server(base)
    url = await serve(server)
    gateway.point_at(url + base, auth="oauth2", token_url=f"{url}/token")
    await gateway.sync(options={"sync_demographics": demographics})
    names = ["roster-core.readonly", "roster.readonly", *(["roster-demographics.readonly"] if demographics else [])]
    (asked,) = server.tokens
    assert asked["scope"].split() == [SCOPE.format(version, name) for name in names]


CORE = SCOPE.format("v1p1", "roster-core.readonly")
STYLES: dict[str, tuple[str | None, dict[str, Any], int]] = {
    "the usual way": (None, {"form": "basic"}, 1),
    "credentials in the form": (None, {"form": "body"}, 2),
    "credentials in the form, by 401": (None, {"form": "body", "status": 401}, 2),
    "credentials in the form, known": ("Synergy", {"form": "body"}, 1),
    "a header, though another way is known": ("Synergy", {"form": "basic"}, 2),
    "core scope only": (None, {"scopes": {CORE}}, 2),
    "no scopes": (None, {"scopes": {""}}, 3),
    "everything in the query": ("Infinite Campus", {"in_query": True}, 1),
}


@pytest.mark.parametrize("style", STYLES)
async def test_token_endpoints(gateway: Any, serve: Any, style: str) -> None:
    """A token is had whichever way the endpoint wants, at once where the system is known."""
    sis, wants, tries = STYLES[style]
    server = Server("/ims/oneroster/v1p1")
    server.wants = wants
    url = await serve(server)
    gateway.point_at(url, auth="oauth2", token_url=f"{url}/token?appName=homeroom")
    await gateway.sync(job=gateway.job(sis=sis))
    assert len(server.tokens) == tries
    assert all(token["query.appName"] == "homeroom" for token in server.tokens)
    assert not any("secret" in value for token in server.tokens for name, value in token.items() if "query." in name)


async def test_token_style_is_learned(gateway: Any, serve: Any, users: list[Any]) -> None:
    """A token that is renewed is asked for the way that worked."""
    server = Server("/ims/oneroster/v1p1")
    server.wants = {"form": "body"}
    server.rows["users"] = users
    url = await serve(server)
    gateway.point_at(url, auth="oauth2", token_url=f"{url}/token")
    give = server._give_token

    def short_lived(request: Request, body: str) -> Response:
        answer = give(request, body)
        return JSONResponse({"access_token": "good-1", "expires_in": 0.001}) if answer.status_code == 200 else answer

    server._give_token = short_lived  # type: ignore[method-assign]  # tokens that run out at once
    await gateway.sync()
    assert [token["form"] for token in server.tokens].count("basic") == 1
    assert len(server.tokens) > 5


async def test_spared_systems(gateway: Any, serve: Any, users: list[Any]) -> None:
    """A system that wants to be asked serially gets one request at a time, others several."""
    most = {}
    for sis in ("Infinite Campus", "Aeries", "PowerSchool"):
        server = Server("/ims/oneroster/v1p1")
        server.rows["users"] = users
        gateway.point_at(await serve(server))
        await gateway.sync(job=gateway.job(sis=sis), page_size=2)
        most[sis] = server.most_in_flight
    assert most["Infinite Campus"] == most["Aeries"] == 1
    assert most["PowerSchool"] > 1


@pytest.mark.parametrize("label", ["infinite campus", "InfiniteCampus", " Infinite  Campus ", "INFINITE-CAMPUS"])
def test_labels(label: str) -> None:
    """A system's label is understood however it is spelled."""
    assert find_quirks(label) == find_quirks("Infinite Campus") != USUAL


def test_every_label_is_known() -> None:
    """Every label an admin can choose has quirks, and what is unknown is asked the usual way."""
    assert all(isinstance(find_quirks(label), Quirks) for label in KNOWN_SIS)
    assert find_quirks(None) == find_quirks("") == find_quirks("other") == find_quirks("никогда") == USUAL


def metadata_cases() -> list[tuple[dict[str, Any], tuple[Any, Any, Any], list[tuple[Code, str]]]]:
    """Metadata, what is taken of it, and what is told."""
    cases: list[tuple[dict[str, Any], tuple[Any, Any, Any], list[tuple[Code, str]]]] = [
        ({}, (None, None, None), []),
        ({"FRL": "x", "Sped": "true", "cl.lep": "true"}, (None, None, None), []),
        ({"frl": "F", "frl_status": "R"}, ("F", None, None), []),
        ({"frl": 1, "frl_status": "R"}, ("R", None, None), [(Code.BAD_ENUM, "metadata.frl")]),
        ({"frl": "x" * 255}, ("x" * 255, None, None), []),
        ({"frl": "x" * 256}, (None, None, None), [(Code.FIELD_TOO_LONG, "metadata.frl")]),
        ({"iep": "True"}, (None, None, None), [(Code.BAD_ENUM, "metadata.iep")]),
        ({"iep": "Y", "sped": "false"}, (None, False, None), [(Code.BAD_ENUM, "metadata.iep")]),
        ({"iep": True, "sped": "false"}, (None, True, None), []),
        ({"ell": 1}, (None, None, None), [(Code.BAD_ENUM, "metadata.ell")]),
        ({"ell": "", "CL.lep": None}, (None, None, None), []),
        ({"ell": {"a": 1}}, (None, None, None), [(Code.BAD_ENUM, "metadata.ell")]),
    ]
    cases += [({key: "Free"}, ("Free", None, None), []) for key in FRL_KEYS]
    cases += [({key: "true"}, (None, True, None), []) for key in IEP_KEYS]
    cases += [({key: "false"}, (None, None, False), []) for key in ELL_KEYS]
    return cases


@pytest.mark.parametrize(("metadata", "found", "told"), metadata_cases(), ids=str)
def test_demographics_keys(metadata: dict[str, Any], found: tuple[Any, Any, Any], told: list[tuple[Code, str]]) -> None:
    """Keys are case sensitive, only accepted values are taken, the first accepted alias counts, the rest is told."""
    keyed = read_keys(metadata, "u1")
    assert keyed[:3] == found
    assert [(note.code, note.field) for note in keyed.notes] == told


async def test_demographics_of_classlink(gateway: Any, provider: Any) -> None:
    """What ClassLink puts into metadata becomes fields of its own, and stays in metadata as it is."""
    provider.collections["demographics"] = [
        {"sourcedId": "u1", "metadata": {"frl-status": "Reduced", "CL.sped": "true", "emergentBilingual": "maybe"}}
    ]
    outcome = await gateway.sync(options={"sync_demographics": True})
    record = msgspec.json.decode(gateway.store.records["demographics"]["u1"][1])
    assert (record["frlStatus"], record["iepStatus"], record.get("ellStatus")) == ("Reduced", True, None)
    assert record["metadata"]["emergentBilingual"] == "maybe"
    (issue,) = outcome.completed.issues
    assert (issue.code, issue.field, issue.sourced_id) == (Code.BAD_ENUM, "metadata.emergentBilingual", "u1")
    assert outcome.reports["demographics"].quarantined == 0


@pytest.fixture
async def sandbox(gateway: Any) -> AsyncIterator[Sandbox]:
    """A district that speaks 1.1 and 1.2."""
    async with running_sandbox(create_district(seed=4, students=40)) as sandbox:
        gateway.secrets = {"client_secret": sandbox.client_secret}
        yield sandbox


async def test_both_versions_are_one_roster(gateway: Any, sandbox: Sandbox) -> None:
    """A district read as 1.2 after 1.1 is the same, but for administrators, whose roles 1.2 calls otherwise."""
    options = {"sync_parents": True, "sync_demographics": True}
    connection = {"auth": "oauth2", "client_id": sandbox.client_id, "token_url": sandbox.token_url}
    gateway.point_at(sandbox.base_url, **connection)
    await gateway.sync(options=options)
    before = {collection: dict(records) for collection, records in gateway.store.records.items()}
    gateway.point_at(sandbox.base_url_1p2, **connection)
    await gateway.sync(options=options)
    after = gateway.store.records
    assert {collection: set(records) for collection, records in after.items()} == {
        collection: set(records) for collection, records in before.items()
    }
    differing = [
        (collection, before[collection][sourced_id][1])
        for collection, records in after.items()
        for sourced_id, record in records.items()
        if record != before[collection][sourced_id]
    ]
    assert {collection for collection, _ in differing} == {"users"}
    assert all(b'"role":"administrator"' in record for _, record in differing)
