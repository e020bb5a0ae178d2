"""A small world for the gateway: a store that remembers, a bus that can be read, providers as they misbehave."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
import msgspec
import pytest
import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from homeroom.bus import Message, Outgoing
from homeroom.clock import SystemClock
from homeroom.messages import (
    Bookmark,
    Chunk,
    CollectionReport,
    Fact,
    Failed,
    FetchCompleted,
    Options,
    RosterChange,
    SyncJob,
    read_change,
    read_fact,
)
from homeroom.roster import COLLECTIONS, record_key
from homeroom.secrets import SealingKeys, generate_key, seal
from provider_gateway.execution import Execution
from provider_gateway.gates import HostGates
from provider_gateway.inbox.storage import NoUploads, Uploads
from provider_gateway.readers import Readers
from provider_gateway.settings import GatewaySettings
from provider_gateway.store import RosterStore
from provider_gateway.workshop import Workshop

Serve = Callable[[Any], Awaitable[str]]


class _QuietServer(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[str]:
    """Serve an ASGI app on loopback; gives its origin."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, log_config=None, access_log=False, log_level="critical", lifespan="off", ws="none",
            timeout_graceful_shutdown=1, **options,
        )  # fmt: skip
        server = _QuietServer(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        try:
            scheme = "https" if options.get("ssl_certfile") else "http"
            yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves ASGI apps on loopback until the test ends."""
    async with AsyncExitStack() as stack:

        async def start(app: Any, **options: Any) -> str:
            return await stack.enter_async_context(serving(app, **options))

        yield start  # type: ignore[misc]  # options are for TLS only


class FakeStore:
    """A roster store as the gateway sees it: fingerprints by collection, and the sourcedIds behind them."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, tuple[int, bytes]]] = {collection: {} for collection in COLLECTIONS}
        self.basis = 0
        self.url = ""
        self.cut = False
        self.status = 200
        self.asked: list[str] = []

    def app(self) -> Starlette:
        """The endpoints the gateway uses."""
        base = "/v1/fingerprints/{integration}/{collection}"
        return Starlette(
            routes=[
                Route("/v1/fingerprints/{integration}/class-members", self._members, methods=["POST"]),
                Route(base, self._stream),
                Route(f"{base}/ids", self._ids, methods=["POST"]),
            ],
        )

    def ids(self, collection: str) -> set[str]:
        """What is held now."""
        return set(self.records[collection])

    def apply(self, changes: Sequence[RosterChange]) -> None:
        """Do what the store does with a complete fetch."""
        completed = changes[-1]
        assert isinstance(completed, FetchCompleted)
        chunks = [change for change in changes if isinstance(change, Chunk) and change.fetch_id == completed.fetch_id]
        assert sorted(chunk.seq for chunk in chunks) == list(range(completed.chunks))
        staged: dict[tuple[str, str], int] = {}
        for chunk in chunks:
            held = self.records[chunk.collection]
            if chunk.removal_reason == "unproved":
                continue
            for number, record in enumerate(msgspec.json.decode(chunk.records)):
                fingerprint = int.from_bytes(chunk.fingerprints[number * 8 :][:8], "big", signed=True)
                if staged.get((chunk.collection, record["sourcedId"]), fingerprint) > fingerprint:
                    continue
                staged[chunk.collection, record["sourcedId"]] = fingerprint
                held[record["sourcedId"]] = (fingerprint, msgspec.json.encode(record))
            gone = {chunk.removed_keys[start : start + 16] for start in range(0, len(chunk.removed_keys), 16)}
            for sourced_id in [one for one in held if record_key(one) in gone]:
                del held[sourced_id]
        self.basis += 1

    async def _stream(self, request: Request) -> Response:
        collection = request.path_params["collection"]
        rows = [
            struct.pack(">hi16siq", 2, 16, record_key(sourced_id), 8, fingerprint)
            for sourced_id, (fingerprint, _) in self.records[collection].items()
        ]
        body = b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"".join(rows) + (b"" if self.cut else b"\xff\xff")
        return Response(body, self.status, {"x-homeroom-apply": str(self.basis)}, "application/octet-stream")

    async def _members(self, request: Request) -> Response:
        asked = await request.json()
        section, users = asked["class_sourced_id"], set(asked["user_sourced_ids"])
        belongs = {
            "classes": lambda sourced_id, _: sourced_id == section,
            "users": lambda sourced_id, _: sourced_id in users,
            "enrollments": lambda _, record: record["classSourcedId"] == section,
        }
        held = {
            collection: {
                sourced_id: str(fingerprint)
                for sourced_id, (fingerprint, record) in self.records[collection].items()
                if belong(sourced_id, msgspec.json.decode(record))
            }
            for collection, belong in belongs.items()
        }
        return JSONResponse({"basis": self.basis, "held": held})

    async def _ids(self, request: Request) -> Response:
        wanted = set((await request.json())["keys"])
        self.asked += wanted
        held = self.records[request.path_params["collection"]]
        return JSONResponse({"ids": {key: one for one in held if (key := record_key(one).hex()) in wanted}})


class RecordingBus:
    """Keeps what is sent, in order; durable at once."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    async def send(self, message: Outgoing) -> Awaitable[None]:
        """Keep a message."""
        self.sent.append(message)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def publish(self, *messages: Outgoing) -> None:
        """Keep messages."""
        self.sent += messages

    def changes(self) -> list[RosterChange]:
        """What went to the store."""
        return [read_change(_as_message(one)) for one in self.sent if one.topic == "roster-changes"]

    def facts(self) -> list[Fact]:
        """What went to the scheduler."""
        return [read_fact(_as_message(one)) for one in self.sent if one.topic == "sync-facts"]


def _as_message(sent: Outgoing) -> Message:
    return Message(sent.topic, 0, 0, sent.key, sent.value, sent.headers, datetime.now(UTC))


class _NoTokens:
    def forget(self) -> None:
        """There is nothing to forget."""

    async def headers(self) -> dict[str, str]:
        """No token: the store here asks for none."""
        return {}


PRIVATE_KEY, PUBLIC_KEY = generate_key()
TLS = httpx2.create_ssl_context(trust_env=False)


class Outcome(msgspec.Struct):
    """What an execution came to."""

    changes: list[RosterChange]
    facts: list[Fact]

    @property
    def failure(self) -> Failed | None:
        """The failure, if it failed."""
        return next((fact for fact in self.facts if isinstance(fact, Failed)), None)

    @property
    def completed(self) -> FetchCompleted:
        """The last word to the store."""
        assert isinstance(self.changes[-1], FetchCompleted), self.failure
        return self.changes[-1]

    @property
    def reports(self) -> dict[str, CollectionReport]:
        """Counts by collection."""
        return self.completed.collections

    @property
    def chunks(self) -> list[Chunk]:
        """What was published."""
        return [change for change in self.changes if isinstance(change, Chunk)]


class Gateway:
    """Runs jobs the way a worker does, without a bus between."""

    def __init__(self, store: FakeStore, http: httpx2.AsyncClient) -> None:
        self.store = store
        self._http = http
        self.integration_id = str(uuid4())
        self.connection: dict[str, Any] = {}
        self.secrets = {"client_secret": "secret"}
        self.provider = "oneroster"
        self.bookmark: Bookmark | None = None
        self.uploads: Uploads = NoUploads()
        self.tls = TLS
        self.runs = 0

    def settings(self, **values: Any) -> GatewaySettings:
        """Quick settings for tests."""
        defaults: dict[str, Any] = {
            "database_url": SecretStr("postgresql://unused"),
            "issuer": "http://issuer.test",
            "store_url": self.store.url,
            "gateway_private_keys": SecretStr(PRIVATE_KEY),
            "allow_private_endpoints": True,
            "page_size": 500,
            "page_seconds": 5.0,
            "connect_seconds": 1.0,
            "retry_after_seconds": 2.0,
            "heartbeat_seconds": 0.2,
        }
        return GatewaySettings(**(defaults | values))

    def workshop(self, bus: Any, **values: Any) -> Workshop:
        """What a worker shares among executions."""
        settings = self.settings(**values)
        return Workshop(
            settings=settings,
            bus=bus,
            store=RosterStore(self._http, _NoTokens(), self.store.url),  # type: ignore[arg-type]  # all it uses
            keys=SealingKeys([PRIVATE_KEY]),
            gates=HostGates(settings.host_in_flight),
            readers=Readers(0),
            uploads=self.uploads,
            tls=self.tls,
            clock=SystemClock(),
            worker="worker-1",
        )

    def job(self, *, seconds: float = 60.0, options: dict[str, Any] | None = None, **values: Any) -> SyncJob:
        """A job of this integration."""
        self.runs += 1
        integration_id = values.get("integration_id", self.integration_id)
        defaults: dict[str, Any] = {
            "run_id": str(uuid4()),
            "run_number": self.runs,
            "attempt": 1,
            "integration_id": integration_id,
            "organization_id": str(uuid4()),
            "provider": self.provider,
            "connection": self.connection,
            "sealed_secret": seal(PUBLIC_KEY, integration_id, msgspec.json.encode(self.secrets)),
            "options": Options(**(options or {})),
            "deadline": datetime.now(UTC) + timedelta(seconds=seconds),
            "today": datetime.now(UTC).date(),
            "bookmark": self.bookmark,
        }
        return SyncJob(**(defaults | values))

    async def run(self, job: SyncJob | None = None, *, options: dict[str, Any] | None = None, **values: Any) -> Outcome:
        """Run one job to its end; what it published is not applied yet."""
        bus = RecordingBus()
        execution = Execution(self.workshop(bus, **values), job or self.job(options=options))
        async with asyncio.timeout(60):
            await execution.claim()
            await execution.start()
        return Outcome(bus.changes(), bus.facts())

    async def sync(self, **values: Any) -> Outcome:
        """Run one job and let the store apply it; its bookmark goes out with the next job."""
        outcome = await self.run(**values)
        assert outcome.failure is None, outcome.failure
        self.store.apply(outcome.changes)
        self.bookmark = outcome.completed.bookmark
        return outcome

    def point_at(self, url: str, **connection: Any) -> None:
        """Connect to a provider."""
        self.connection = {"endpoint_url": url, "auth": "oauth1", "client_id": "key-1"} | connection


@pytest.fixture
async def gateway(serve: Serve) -> AsyncIterator[Gateway]:
    """A gateway with an empty store behind it."""
    store = FakeStore()
    store.url = await serve(store.app())
    async with httpx2.AsyncClient(trust_env=False) as http:
        yield Gateway(store, http)


class TinyProvider:
    """A OneRoster server with a few users, whose way of answering a test replaces."""

    __test__ = False

    def __init__(self) -> None:
        self.collections: dict[str, list[Any]] = {collection: [] for collection in COLLECTIONS}
        self.queries: list[tuple[str, dict[str, str]]] = []
        self.answer: Callable[[str, dict[str, str], list[Any]], Response | None] = lambda *_: None
        self.most = 10_000
        self.counted = True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        collection, _, sourced_id = request.url.path.partition("/ims/oneroster/v1p1/")[2].partition("/")
        query = dict(request.query_params)
        self.queries.append((request.url.path, query))
        rows = self.collections.get(collection, [])
        response = self.answer(collection, query, rows)
        if response is None and sourced_id:
            found = [row for row in rows if isinstance(row, dict) and row.get("sourcedId") == sourced_id]
            response = JSONResponse({"record": found[0]}) if found else Response(status_code=404)
        elif response is None:
            start, limit = int(query["offset"]), min(self.most, int(query["limit"]))
            headers = {"x-total-count": str(len(rows))} if self.counted else {}
            body = msgspec.json.encode({collection: rows[start : start + limit]})
            response = Response(body, headers=headers, media_type="application/json")
        await response(scope, receive, send)


@pytest.fixture
async def provider(serve: Serve, gateway: Gateway) -> TinyProvider:
    """A tiny provider the gateway is connected to; it does not look at signatures."""
    tiny = TinyProvider()
    gateway.point_at(await serve(tiny))
    return tiny


def make_user(number: int | str, **fields: Any) -> dict[str, Any]:
    """A user as OneRoster 1.1 has it."""
    return {
        "sourcedId": f"u{number}",
        "status": "active",
        "dateLastModified": "2026-01-01T00:00:00Z",
        "username": f"user{number}",
        "enabledUser": "true",
        "givenName": f"Given {number}",
        "familyName": f"Number {number}",
        "role": "student",
        "orgs": [{"href": "https://elsewhere.example", "sourcedId": "s1", "type": "org"}],
    } | fields


@pytest.fixture
def user() -> Callable[..., dict[str, Any]]:
    """Makes users."""
    return make_user
