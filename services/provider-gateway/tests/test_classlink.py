"""ClassLink: the partner proxy, the revision that tells whether a roster moved, counts of pages, and masked fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from homeroom.codes import Code
from homeroom.connections import ClassLinkConnection
from homeroom.messages import FetchAbandoned
from homeroom.roster import COLLECTIONS
from provider_gateway.failures import ProviderError
from provider_gateway.providers import _classlink_proxy as proxy

APPLICATION = "a1B%2Bc%2f9%3D"
"""Percent-escaped already, as ClassLink lists it."""
PARTNER_KEY = "partner-key-of-ours"
BEARER = "bearer-of-the-district"


class RosterServer:
    """ClassLink's proxy with one district behind it, as far as it is documented."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Any]] = {collection: [] for collection in COLLECTIONS}
        self.applications: list[Any] = [
            {"id": 1, "oneroster_application_id": "other%3D", "bearer": "x", "enabled": "true"},
            {
                "id": 77,
                "name": "Homeroom",
                "tenant_name": "North",
                "tenant_id": 9,
                "tenant_status": "Active",
                "application_id": "1234",
                "oneroster_application_id": APPLICATION,
                "bearer": BEARER,
                "enabled": "true",
            },
        ]
        self.bearer = BEARER
        self.revision: str | None = "r1"
        self.headers: dict[str, str] = {}
        self.count_off = 0
        self.total_off = 0
        self.bare = False
        self.most = 10_000
        self.too_heavy = 10**9
        self.honours_filters = False
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.before: Callable[[str, dict[str, str]], None] = lambda *_: None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        await self._answer(Request(scope, receive))(scope, receive, send)

    def pages(self, collection: str) -> list[dict[str, str]]:
        """What was asked of a collection."""
        return [query for path, query in self.asked if path.endswith(f"/{collection}")]

    def _answer(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode()
        query = dict(request.query_params)
        self.asked.append((path, query))
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if path == "/applications":
            if token != PARTNER_KEY:
                return Response(status_code=401)
            start = int(query["offset"])
            return JSONResponse({"status": 1, "applications": self.applications[start : start + int(query["limit"])]})
        base = f"/{APPLICATION}/ims/oneroster/v1p1/"
        if not path.startswith(base):
            return Response(status_code=404)
        if token != self.bearer:
            return Response(status_code=401)
        collection, _, sourced_id = path.removeprefix(base).partition("/")
        self.before(collection, query)
        if sourced_id:
            found = [row for row in self.rows[collection] if row["sourcedId"] == sourced_id]
            return JSONResponse({"row": found[0]}) if found else Response(status_code=404)
        return self._list(collection, query)

    def _list(self, collection: str, query: dict[str, str]) -> Response:
        start, limit = int(query["offset"]), min(self.most, int(query["limit"]))
        if limit > self.too_heavy:
            return Response(status_code=502)
        rows = self.rows.get(collection, [])
        if self.honours_filters and "filter" in query:
            since = query["filter"].split("'")[1]
            rows = [row for row in rows if row["dateLastModified"] >= since]
        page = rows[start : start + limit]
        headers = dict(self.headers)
        headers["x-count"] = str(len(page) + (self.count_off if page else 0))
        headers["x-total-count"] = str(len(rows) + self.total_off)
        if self.revision is not None:
            headers["x-perm-rev"] = self.revision
        body = msgspec.json.encode(page if self.bare else {collection: page})
        return Response(body, headers=headers, media_type="application/json")


@pytest.fixture
async def server(gateway: Any, serve: Any, user: Any, monkeypatch: pytest.MonkeyPatch) -> RosterServer:
    """The proxy with 30 users, and a gateway that is connected to it."""
    monkeypatch.setattr("provider_gateway.client._LONGEST_PAUSE_SECONDS", 0.01)
    server = RosterServer()
    server.rows["users"] = [user(number) for number in range(30)]
    server.rows["orgs"] = [{"sourcedId": "s1", "dateLastModified": "2026-01-01", "name": "North", "type": "school"}]
    gateway.provider = "classlink"
    gateway.connection = {"auth": "proxy", "proxy_url": await serve(server), "application_id": APPLICATION}
    gateway.secrets = {"partner_key": PARTNER_KEY}
    return server


async def fail(gateway: Any) -> Code:
    """The code of a run that fails."""
    outcome = await gateway.run()
    assert outcome.failure is not None
    assert not outcome.changes or isinstance(outcome.changes[-1], FetchAbandoned)
    told = str(outcome.failure)
    assert not any(secret in told for secret in (PARTNER_KEY, BEARER, APPLICATION))
    return Code(outcome.failure.code)


async def test_proxy(gateway: Any, server: RosterServer) -> None:
    """A district is read by the proxy, under the escaped id exactly as it is listed, with its own bearer."""
    await gateway.sync()
    assert len(gateway.store.ids("users")) == 30
    assert {path.split("/")[1] for path, _ in server.asked} == {"applications", APPLICATION}


@pytest.mark.parametrize("entered", [APPLICATION, f" {APPLICATION} ", "a1B+c/9=", "1234", "77"])
async def test_ways_to_name_an_application(gateway: Any, server: RosterServer, entered: str) -> None:
    """The application is found by its escaped id, the same unescaped, or its other ids."""
    gateway.connection["application_id"] = entered
    await gateway.sync()
    assert len(gateway.store.ids("users")) == 30
    assert server.pages("users")


async def test_long_list_of_applications(gateway: Any, server: RosterServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is read page by page until the application is found."""
    monkeypatch.setattr("provider_gateway.providers._classlink_proxy._ROWS_AT_ONCE", 2)
    server.applications = [{"id": number, "bearer": "x"} for number in range(100, 105)] + server.applications
    await gateway.sync()
    assert [query["offset"] for query in server.pages("applications")] == ["0", "2", "4", "6"]


async def test_ambiguous_application(gateway: Any, server: RosterServer) -> None:
    """An id that two rows have leads to neither, for one of them is another district's."""
    gateway.connection["application_id"] = "1234"
    server.applications.append(server.applications[1] | {"oneroster_application_id": "twin", "bearer": "other"})
    assert await fail(gateway) == Code.PROV_NOT_FOUND


async def test_unknown_application(gateway: Any, server: RosterServer) -> None:
    """An application that the partner's key does not see is told as such, whether the list knows offsets or not."""
    gateway.connection["application_id"] = "nobody%3D"
    assert await fail(gateway) == Code.PROV_NOT_FOUND
    assert len(server.pages("applications")) == 2


@pytest.mark.parametrize(
    "off",
    [{"enabled": "false"}, {"enabled": False}, {"enabled": 0}, {"tenant_status": "Inactive"}],
)
async def test_disabled_application(gateway: Any, server: RosterServer, off: dict[str, Any]) -> None:
    """An application that the district switched off ends the run with its code, and nobody is removed."""
    await gateway.sync()
    server.applications[1] |= off
    assert await fail(gateway) == Code.PROV_APP_DISABLED


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"oneroster_application_id": "a/../b"}, Code.PROV_BAD_PAYLOAD),
        ({"oneroster_application_id": ".."}, Code.PROV_BAD_PAYLOAD),
        ({"oneroster_application_id": "a?b"}, Code.PROV_BAD_PAYLOAD),
        ({"oneroster_application_id": None}, Code.PROV_BAD_PAYLOAD),
        ({"bearer": ""}, Code.AUTH_INVALID),
        ({"bearer": "a\nb"}, Code.AUTH_INVALID),
    ],
)
def test_rows_that_can_not_be_used(row: dict[str, Any], code: Code) -> None:
    """A row whose id would lead elsewhere, or without a token, is refused."""
    good = {"oneroster_application_id": APPLICATION, "bearer": BEARER, "enabled": 1, "tenant_status": "ACTIVE"}
    assert proxy.read_row(good).path == APPLICATION
    with pytest.raises(ProviderError) as caught:
        proxy.read_row(good | row)
    assert caught.value.code == code
    assert BEARER not in repr(proxy.read_row(good))


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"applications":{}}', b"[" * 10_000])
def test_lists_of_applications_that_are_none(body: bytes) -> None:
    """An answer that holds no list of applications is told as such."""
    with pytest.raises(ProviderError) as caught:
        proxy.read_rows(body)
    assert caught.value.code == Code.PROV_BAD_PAYLOAD
    assert proxy.read_rows(b'[{"id":1},5]') == [{"id": 1}]


async def test_partner_key_refused(gateway: Any, server: RosterServer) -> None:
    """A partner key that ClassLink refuses is tried once."""
    gateway.secrets = {"partner_key": "wrong"}
    assert await fail(gateway) == Code.AUTH_INVALID
    assert len(server.asked) == 1


async def test_bearer_that_changed(gateway: Any, server: RosterServer) -> None:
    """A bearer that is refused in the middle of a run is looked up again, and the run goes on at the same page."""
    server.most = 10

    def renew(collection: str, query: dict[str, str]) -> None:
        if collection == "users" and query.get("offset") == "10" and server.bearer == BEARER:
            server.bearer = server.applications[1]["bearer"] = "another"

    server.before = renew
    await gateway.sync()
    assert len(gateway.store.ids("users")) == 30
    assert len(server.pages("applications")) == 2


async def test_bearer_that_is_revoked(gateway: Any, server: RosterServer) -> None:
    """A bearer that is refused and still listed is not sent again."""
    server.bearer = "another"
    assert await fail(gateway) == Code.AUTH_INVALID
    tried = [path for path, _ in server.asked if path != "/applications"]
    assert len(tried) == len(set(tried)), "no collection was asked for twice"


async def test_steady_revision_proves(gateway: Any, server: RosterServer) -> None:
    """Where the revision stayed the same and counts agree, whoever is missing is gone, without being asked for."""
    await gateway.sync()
    server.revision = "r2"
    del server.rows["users"][3:8]
    outcome = await gateway.sync()
    assert outcome.reports["users"].removed == 5
    assert outcome.reports["users"].consistent
    assert gateway.store.asked == []


@pytest.mark.parametrize("wrong", [{"revision": None}, {"total_off": 7}, {"count_off": -1}])
async def test_no_proof(gateway: Any, server: RosterServer, wrong: dict[str, Any]) -> None:
    """Without a revision counts have to agree by themselves; with counts that disagree missing people are asked for."""
    await gateway.sync()
    for name, value in (wrong | {"total_off": 7}).items():
        setattr(server, name, value)
    gone = server.rows["users"].pop()
    kept, server.rows["users"] = server.rows["users"], server.rows["users"][:20]

    def restore(collection: str, query: dict[str, str]) -> None:
        if collection == "users" and "limit" not in query:
            server.rows["users"] = kept

    server.before = restore
    outcome = await gateway.sync()
    assert outcome.reports["users"].removed == 1
    assert gone["sourcedId"] not in gateway.store.ids("users")
    assert len(gateway.store.asked) == 10


async def test_revision_that_changes_once(gateway: Any, server: RosterServer) -> None:
    """A revision that changes while pages are read is reason to begin again, and nothing of the first try counts."""
    server.most = 10

    def publish(collection: str, query: dict[str, str]) -> None:
        if collection == "users" and query.get("offset") == "20" and server.revision == "r1":
            server.revision = "r2"
            server.rows["users"] = server.rows["users"][5:]

    server.before = publish
    outcome = await gateway.sync()
    assert gateway.store.ids("users") == {f"u{number}" for number in range(5, 30)}
    assert [change.code for change in outcome.changes if isinstance(change, FetchAbandoned)] == [Code.PROV_CHANGED]
    assert gateway.bookmark.state["revision"] == "r2"


async def test_revision_that_never_rests(gateway: Any, server: RosterServer) -> None:
    """A roster that is published anew during every try ends the run with its code."""

    def publish(*_: Any) -> None:
        server.revision = f"r{len(server.asked)}"

    server.before = publish
    assert await fail(gateway) == Code.PROV_CHANGED


async def test_same_revision_as_last_time(gateway: Any, server: RosterServer) -> None:
    """An increment that finds the revision of the last fetch asks for one row and is done."""
    await gateway.sync()
    assert gateway.bookmark.increments
    server.asked.clear()
    outcome = await gateway.sync(job=gateway.job(mode="delta"))

    assert (outcome.completed.mode, outcome.completed.mode_code) == ("delta", None)
    assert outcome.chunks == []
    assert [path for path, _ in server.asked if path != "/applications"] == [f"/{APPLICATION}/ims/oneroster/v1p1/orgs"]
    assert gateway.bookmark.state["revision"] == "r1"
    assert gateway.bookmark.increments


async def test_another_revision_without_filters(gateway: Any, server: RosterServer) -> None:
    """An increment that finds another revision reads everything where filters are not honoured, and says so."""
    await gateway.sync()
    server.revision = "r2"
    server.rows["users"].pop()
    outcome = await gateway.sync(job=gateway.job(mode="delta"))
    assert (outcome.completed.mode, outcome.completed.mode_code) == ("full", Code.DELTA_UNSUPPORTED)
    assert outcome.reports["users"].removed == 1
    assert (await gateway.sync(job=gateway.job(mode="delta"))).completed.mode == "delta"


async def test_another_revision_with_filters(gateway: Any, server: RosterServer) -> None:
    """Where filters are honoured only changes are read; a purge shows in the count, and all is read."""
    server.honours_filters = True
    await gateway.sync()
    server.revision = "r2"
    server.rows["users"][3] |= {"familyName": "Changed", "dateLastModified": "2999-01-01T00:00:00.000Z"}
    outcome = await gateway.sync(job=gateway.job(mode="delta"))
    assert (outcome.completed.mode, outcome.reports["users"].served) == ("delta", 1)

    server.revision = "r3"
    server.rows["users"].pop()
    outcome = await gateway.sync(job=gateway.job(mode="delta"))
    assert (outcome.completed.mode, outcome.completed.mode_code) == ("full", Code.DELTA_DRIFT)
    assert len(gateway.store.ids("users")) == 29


async def test_page_that_is_short_of_its_count(gateway: Any, server: RosterServer) -> None:
    """A page with fewer rows than it says it has is asked for again, and never believed."""
    server.count_off = 2
    assert await fail(gateway) == Code.PROV_BAD_PAYLOAD
    assert len(server.pages("orgs")) == 3 or len(server.pages("users")) == 3


async def test_pages_that_are_too_heavy(gateway: Any, server: RosterServer, user: Any) -> None:
    """Pages are asked for with 10,000 rows, and with half as many after 502, at the same place."""
    server.rows["users"] = [user(number) for number in range(3000)]
    server.too_heavy = 1500
    await gateway.sync()
    assert len(gateway.store.ids("users")) == 3000
    sizes = [query["limit"] for query in server.pages("users") if "filter" not in query]
    assert list(dict.fromkeys(sizes)) == ["10000", "5000", "2500", "1250"]


async def test_pages_that_are_always_too_heavy(gateway: Any, server: RosterServer) -> None:
    """A server that fails even at 500 rows ends the run."""
    server.too_heavy = 0
    assert await fail(gateway) == Code.PROV_5XX


async def test_bare_lists(gateway: Any, server: RosterServer) -> None:
    """The proxy's lists without a wrapper are read, and hrefs are never followed."""
    server.bare = True
    await gateway.sync()
    assert len(gateway.store.ids("users")) == 30


async def test_obfuscated(gateway: Any, server: RosterServer) -> None:
    """That ClassLink masks fields is told once in the run."""
    server.headers["x-obfuscated"] = "1"
    outcome = await gateway.sync()
    told = [issue.field for issue in outcome.completed.issues if issue.code == Code.FIELD_MASKED]
    assert told.count("x-obfuscated") == 1


async def open_source(gateway: Any) -> Any:
    """What a verification says beside the pages."""
    workshop = gateway.workshop(None)
    async with workshop.open_source(gateway.job(), mode="full", bookmark=None, began=workshop.clock.now()) as source:
        return await source.remark()


async def test_verification(gateway: Any, server: RosterServer) -> None:
    """A verification tells that the application is enabled, that fields are masked, and what is not shared at all."""
    server.headers["x-obfuscated"] = "true"
    findings = {finding.check: finding for finding in await open_source(gateway)}
    assert findings["application"].ok
    assert findings["masked fields"].code == Code.FIELD_MASKED
    assert "Basic" in findings["sharing"].detail
    assert all(PARTNER_KEY not in finding.detail and BEARER not in finding.detail for finding in findings.values())


async def test_direct(gateway: Any, provider: Any, user: Any) -> None:
    """A district's own Roster Server is read by key and secret, by the same code."""
    provider.collections["users"] = [user(number) for number in range(30)]
    gateway.provider = "classlink"
    gateway.secrets = {"client_secret": "secret"}
    await gateway.sync()
    assert len(gateway.store.ids("users")) == 30
    limits = {query["limit"] for path, query in provider.queries if path.endswith("/users")}
    assert limits <= {"10000", "1"}


@pytest.mark.parametrize(
    "connection",
    [
        {"auth": "proxy", "partner_key": "k"},
        {"auth": "oauth1", "endpoint_url": "https://x.example"},
        {"auth": "oauth2", "endpoint_url": "https://x.example", "client_id": "k", "client_secret": "s"},
    ],
)
def test_settings(connection: dict[str, str]) -> None:
    """A connection names what its way of signing in needs."""
    with pytest.raises(ValidationError):
        ClassLinkConnection(**connection)  # type: ignore[arg-type]  # as it comes from outside
