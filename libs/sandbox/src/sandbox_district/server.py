"""The sandbox as a running server, inside the current event loop."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from sandbox_district.access import Access
from sandbox_district.classlink import ClassLinkFace
from sandbox_district.clever import CleverFace
from sandbox_district.control import Control
from sandbox_district.district import District
from sandbox_district.faults import Faults
from sandbox_district.google_classroom import GoogleFace
from sandbox_district.marketplace import Marketplace
from sandbox_district.oneroster_rest import TOKEN_PATH, OneRosterFace, TokenFace
from sandbox_district.oneroster_versions import BASE_1P1, BASE_1P2, VERSIONS
from sandbox_district.portals.district_portals import DistrictPortals


@dataclass
class Sandbox(Marketplace):
    """A district, its one client, the faults in force, and the requests it has answered by path."""

    district: District
    access: Access
    faults: Faults = field(default_factory=Faults)
    requests: Counter[str] = field(default_factory=Counter)
    url: str = ""
    key_file: Path | None = None
    """Where the identity providers' key is kept; without one every process makes its own."""
    count_connections: Callable[[], int] = field(default=lambda: 0, repr=False)
    """How many connections clients hold open; only of a sandbox that `running_sandbox` serves."""
    clever: CleverFace = field(init=False)
    classlink: ClassLinkFace = field(init=False)
    google: GoogleFace = field(init=False)
    portals: DistrictPortals = field(init=False)

    def __post_init__(self) -> None:
        self.clever = CleverFace(self.district, self.faults)
        self.classlink = ClassLinkFace(self.district, self.faults, self.access)
        self.google = GoogleFace(self.district, self.faults)
        self.portals = DistrictPortals(self.district, self.faults, lambda: self.clever.district_id, self.key_file)

    @property
    def base_url(self) -> str:
        """Where the OneRoster 1.1 collections are."""
        return self.url + BASE_1P1

    @property
    def base_url_1p2(self) -> str:
        """Where the OneRoster 1.2 collections are."""
        return self.url + BASE_1P2

    @property
    def token_url(self) -> str:
        """Where OAuth 2 tokens are."""
        return self.url + TOKEN_PATH

    @property
    def client_id(self) -> str:
        """The client id, and consumer key."""
        return self.access.client_id

    @property
    def client_secret(self) -> str:
        """The client secret, and consumer secret."""
        return self.access.client_secret


def create_district(seed: int = 1, students: int = 1200) -> District:
    """A district that lives in the present: its school year is the current one, and changes are dated now."""
    now = datetime.now(UTC)
    return District(seed, students, first_day=now.date(), clock=lambda: datetime.now(UTC))


def create_sandbox(
    district: District | None = None, token_seconds: int = 3600, key_file: Path | None = None
) -> Sandbox:
    """A sandbox around a district, by default one that lives in the present."""
    district = district or create_district()
    return Sandbox(district, Access(district.seed, token_seconds), key_file=key_file)


def create_app(sandbox: Sandbox, *, max_limit: int = 10_000, control: bool = True) -> ASGIApp:
    """The sandbox as an ASGI application, with or without its control routes."""
    routes: list[BaseRoute] = [*TokenFace(sandbox.faults, sandbox.access).routes]
    for version in VERSIONS:
        routes += OneRosterFace(sandbox.district, sandbox.faults, sandbox.access, max_limit, version).routes
    routes += [*sandbox.clever.routes, *sandbox.classlink.routes, *sandbox.google.routes, *sandbox.portals.routes]
    if control:
        routes += Control(sandbox.district, sandbox.faults, sandbox.access, sandbox.requests, sandbox).routes
        routes += sandbox.portals.control.routes
    app = Starlette(routes=routes)

    async def count(scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith("/sandbox"):
            sandbox.requests[scope["path"]] += 1
        await app(scope, receive, _date(send))

    return count


def _date(send: Send) -> Send:
    """Give answers a Date unless they have one: a provider's clock may be wrong, and the server's own can't be."""

    async def dated(message: Message) -> None:
        if message["type"] == "http.response.start" and not any(name == b"date" for name, _ in message["headers"]):
            now = formatdate(usegmt=True).encode()
            message = {**message, "headers": [*message["headers"], (b"date", now)]}
        await send(message)

    return dated


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Its connections send at once; else each answer would wait 40 ms for an acknowledgement."""
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def name_origin(listener: socket.socket) -> str:
    """The URL that a listening socket is reached by."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def running_sandbox(
    district: District | None = None, *, max_limit: int = 10_000, token_seconds: int = 3600, port: int = 0
) -> AsyncIterator[Sandbox]:
    """Serve a district on loopback, over real HTTP, until the block ends."""
    sandbox = create_sandbox(district, token_seconds)
    with listen("127.0.0.1", port) as listener:
        sandbox.url = name_origin(listener)
        config = uvicorn.Config(
            create_app(sandbox, max_limit=max_limit),
            log_config=None,
            access_log=False,
            log_level="critical",
            date_header=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        server = _QuietServer(config)
        sandbox.count_connections = lambda: len(server.server_state.connections)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await server.ready.wait()
            yield sandbox
        finally:
            server.should_exit = True
            await serving


class _QuietServer(uvicorn.Server):
    """A server that says when it is ready, and leaves the process's signals to whoever runs it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.ready.set()

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
