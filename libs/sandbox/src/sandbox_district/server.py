"""The sandbox as a running server, inside the current event loop."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override

from sandbox_district.access import Access
from sandbox_district.control import Control
from sandbox_district.district import District
from sandbox_district.faults import Faults
from sandbox_district.oneroster_rest import BASE, TOKEN_PATH, OneRosterFace


@dataclass
class Sandbox:
    """A district, its one client, the faults in force, and the requests it has answered by path."""

    district: District
    access: Access
    faults: Faults = field(default_factory=Faults)
    requests: Counter[str] = field(default_factory=Counter)
    url: str = ""

    @property
    def base_url(self) -> str:
        """Where the OneRoster collections are."""
        return self.url + BASE

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


def create_sandbox(district: District | None = None, token_seconds: int = 3600) -> Sandbox:
    """A sandbox around a district, by default one that lives in the present."""
    district = district or create_district()
    return Sandbox(district, Access(district.seed, token_seconds))


def create_app(sandbox: Sandbox, *, max_limit: int = 10_000, control: bool = True) -> ASGIApp:
    """The sandbox as an ASGI application, with or without its control routes."""
    routes = OneRosterFace(sandbox.district, sandbox.faults, sandbox.access, max_limit).routes
    if control:
        routes += Control(sandbox.district, sandbox.faults, sandbox.access, sandbox.requests).routes
    app = Starlette(routes=routes)

    async def count(scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith("/sandbox"):
            sandbox.requests[scope["path"]] += 1
        await app(scope, receive, send)

    return count


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
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        server = _QuietServer(config)
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
