"""The frame every service stands in: what it opens, probes, errors, request ids, limits, and a graceful end.

An API process is `run_api(create_app(...), settings)`, a worker process is `run_worker(...)`; `run_roles` picks one
by the command line (`python -m <package> api|worker|migrate`). Whatever a process opens is registered once in its
`Parts`, with its ping and its close. A process ends with 0 when it was asked to, with 1 when something in it failed.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar

import uvicorn
import uvloop
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from structlog.contextvars import bound_contextvars

from homeroom.auth import Verifier
from homeroom.codes import Code
from homeroom.ids import new_id
from homeroom.migrate import migrate
from homeroom.problems import RESPONSES, Problem, answer_problems, as_problem
from homeroom.settings import Settings, SettingsError
from homeroom.telemetry import HTTP_SECONDS, configure, get_logger, trace_requests

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

T = TypeVar("T")

PING_SECONDS: Final = 2.0
DRAIN_SECONDS: Final = 20
"""How long requests under way may take to finish once the process is asked to end."""
STOP_SECONDS: Final = 30.0
"""How long a worker's main may take to return unless it says otherwise, and each background task to end."""
COLLECT_AFTER: Final = 10_000
"""Objects made, and not gone again, until the garbage collector looks at the newest; 700 is Python's own number."""
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 64
EXIT_CONFIG: Final = 78

_PROBES: Final = frozenset({"/livez", "/readyz", "/metrics"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SANE_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")

log = get_logger(__name__)


class RequestModel(BaseModel):
    """What request bodies are made of: an unknown field is refused instead of ignored."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


# ── what a process opens ──────────────────────────────────────────────────────────────────────────────────────────


class Parts:
    """What a process has opened: entered in order, pinged for readiness, closed in reverse order."""

    def __init__(self, stop: asyncio.Event | None = None) -> None:
        self.stop = stop or asyncio.Event()
        """Set when the process is to end, by a signal or by a background task that failed."""
        self.failed = False
        self._stack = AsyncExitStack()
        self._pings: dict[str, Callable[[], Awaitable[object]]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def open(
        self,
        name: str,
        manager: AbstractAsyncContextManager[T],
        ping: Callable[[T], Awaitable[object]] | None = None,
    ) -> T:
        """Enter a context manager now and leave it at the end; `ping` raises if the part does not answer."""
        value = await self._stack.enter_async_context(manager)
        if ping is not None:
            self._pings[name] = lambda: ping(value)
        return value

    def start(self, name: str, work: Callable[[], Coroutine[Any, Any, object]]) -> asyncio.Task[object]:
        """Run a background task until the end. If it raises, the process ends with an error."""

        async def watched() -> object:
            try:
                return await work()
            except Exception:
                self.failed = True
                self.stop.set()
                log.exception("a background task failed, the process ends", task=name)
                return None

        task = asyncio.create_task(watched(), name=name)
        self._stack.push_async_callback(_end, name, task)
        return task

    async def find_down(self) -> list[str]:
        """The names of the parts that do not answer in time."""

        async def answers(ping: Callable[[], Awaitable[object]]) -> bool:
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await ping()
            except Exception:  # noqa: BLE001 - whatever a ping raises, its part is down
                return False
            return True

        found = await asyncio.gather(*map(answers, self._pings.values()))
        return [name for name, up in zip(self._pings, found, strict=True) if not up]


async def _end(name: str, task: asyncio.Task[object]) -> None:
    """Cancel a background task and wait until it is gone, for a while."""
    task.cancel()
    _, pending = await asyncio.wait([task], timeout=STOP_SECONDS)
    if pending:
        log.error("a background task did not end in time", task=name)


# ── the app ───────────────────────────────────────────────────────────────────────────────────────────────────────


def create_app(
    *,
    name: str,
    title: str,
    settings: Settings,
    routers: Sequence[APIRouter],
    open_parts: Callable[[FastAPI, Parts], Awaitable[None]],
    verifier: Verifier | None = None,
) -> FastAPI:
    """The app of a service. `open_parts` runs at start and puts what handlers need on `app.state`.

    `app.state` holds `settings`, `parts` and `verifier` besides. A verifier given here, or put there by `open_parts`,
    takes the place of the one that asks sso for its keys (tests, and sso itself).
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Parts(app.state.stop) as parts:
            app.state.parts = parts
            app.state.verifier = verifier
            await open_parts(app, parts)
            if app.state.verifier is None:
                app.state.verifier = await parts.open("keys", Verifier.open(settings))
            yield

    app = FastAPI(
        title=title,
        version="1",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere; the documents are generated into docs/ instead
        redoc_url=None,
        redirect_slashes=False,  # behind another origin a redirect would lead astray
        openapi_url=f"/openapi/{name}.json",
        responses=RESPONSES,
        generate_unique_id_function=_name_operation,
    )
    app.state.name = name
    app.state.settings = settings
    app.state.stop = asyncio.Event()
    for router in (_probes, *routers):
        app.include_router(router)
    answer_problems(app)
    app.add_middleware(_Frame, max_body=settings.max_body_bytes, https=settings.issuer.startswith("https:"))
    trace_requests(app, exported=settings.otlp_endpoint is not None)
    return app


def _name_operation(route: APIRoute) -> str:
    return route.name


_probes = APIRouter(include_in_schema=False)


@_probes.get("/livez")
async def livez() -> dict[str, str]:
    """The process runs; nothing else is asked."""
    return {"status": "ok"}


@_probes.get("/readyz")
async def readyz(request: Request) -> dict[str, str]:
    """All that is needed answers; 503 names what does not."""
    parts: Parts = request.app.state.parts
    down = ["stopping"] if parts.stop.is_set() else await parts.find_down()
    if down:
        raise Problem(Code.UNAVAILABLE, status=503, detail=f"Down: {', '.join(down)}.", down=down)
    return {"status": "ok"}


@_probes.get("/metrics")
async def metrics() -> Response:
    """What Prometheus reads."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


class _Frame:
    """Around every request: an id, a log line, a metric, a limit for its body, headers, and a last net for errors."""

    def __init__(self, app: ASGIApp, *, max_body: int, https: bool) -> None:
        self._app = app
        self._max_body = max_body
        self._headers = {
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
            "Cache-Control": "no-store",
        } | ({"Strict-Transport-Security": "max-age=31536000"} if https else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope)
        request_id = given.get("x-request-id", "")
        if not _SANE_ID.fullmatch(request_id):
            request_id = str(new_id())
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for header, value in self._headers.items():
                    headers.setdefault(header, value)
            await send(message)

        began = time.perf_counter()
        with bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, self._limit(given, receive), answer)
            except Exception as error:
                log.exception("a request failed")
                if status:
                    raise  # the answer has begun; breaking the connection is the only way left to say so
                await as_problem(error).response(request_id)(scope, receive, answer)
            finally:
                _record(scope, status, time.perf_counter() - began)

    def _limit(self, given: Headers, receive: Receive) -> Receive:
        """`receive`, but for bodies that are too large, whether they say so or not."""
        stated = given.get("content-length", "")
        read = int(stated) if stated.isdecimal() and int(stated) > self._max_body else 0

        async def limited() -> Message:
            nonlocal read
            message = await receive() if read <= self._max_body else {}
            read += len(message.get("body", b""))
            if read > self._max_body:
                # Of all exceptions only this one passes FastAPI's body parsing unchanged.
                raise HTTPException(413, f"The body may have {self._max_body:,} bytes")
            return message

        return limited


def _record(scope: Scope, status: int, seconds: float) -> None:
    """A metric and a log line about a request, by its route's template: a path may hold somebody's id."""
    if scope["path"] in _PROBES:
        return
    method = scope["method"] if scope["method"] in _METHODS else "OTHER"
    route = getattr(scope.get("route"), "path", "unmatched")
    HTTP_SECONDS.labels(method, route, str(status)).observe(seconds)
    log.info("request", method=method, route=route, status=status, seconds=round(seconds, 4))


# ── processes ─────────────────────────────────────────────────────────────────────────────────────────────────────


def run_api(app: FastAPI, settings: Settings) -> NoReturn:
    """Serve an app until SIGTERM or SIGINT, finish what is under way, and exit."""

    async def main() -> bool:
        stop: asyncio.Event = app.state.stop
        _heed_signals(stop)
        async with app.router.lifespan_context(app), _serving(app, settings.host, settings.port, settings.port_file):
            _spare_collector()
            await stop.wait()
            log.info("stopping")
        return not app.state.parts.failed

    _run(app.state.name, settings, main)


def _spare_collector() -> None:
    """Have the garbage collector leave alone what is there for good, and come less often: requests make few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 20)


def run_worker(
    name: str,
    settings: Settings,
    main: Callable[[Parts, asyncio.Event], Awaitable[None]],
    *,
    stop_seconds: float = STOP_SECONDS,
) -> NoReturn:
    """Run `main` until it returns, which it does when the event is set; probes and metrics are served beside it.

    Once the event is set, `main` has `stop_seconds` to return.
    """

    async def work() -> bool:
        stop = asyncio.Event()
        _heed_signals(stop)
        async with Parts(stop) as parts:
            if settings.health_port is not None:
                app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
                app.state.parts = parts
                app.include_router(_probes)
                answer_problems(app)
                await parts.open("probes", _serving(app, settings.host, settings.health_port, settings.port_file))
            log.info("working")
            await _within_bounds(main(parts, stop), stop, stop_seconds)
            log.info("stopping")
        return not parts.failed

    _run(name, settings, work)


def run_roles(package: str, roles: Mapping[str, Callable[[], object]]) -> None:
    """Run the role that the command line names: `python -m package ROLE`. Further arguments are the role's own."""
    role = roles.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if role is None:
        sys.stderr.write(f"usage: python -m {package} {'|'.join(roles)}\n")
        sys.exit(EXIT_USAGE)
    try:
        role()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_CONFIG)


def run_once(name: str, settings: Settings, work: Callable[[], Coroutine[Any, Any, object]]) -> NoReturn:
    """Do one piece of work and exit: for roles that end by themselves."""

    async def main() -> bool:
        await work()
        return True

    _run(name, settings, main)


def run_migrations(name: str, settings: Settings, *, schema: str, package: str) -> NoReturn:
    """Bring a service's schema up to date (the role `migrate`)."""

    async def work() -> None:
        applied = await migrate(settings.database_url.get_secret_value(), schema=schema, package=package)
        log.info("the schema is up to date", schema=schema, applied=applied)

    run_once(name, settings, work)


def _run(name: str, settings: Settings, main: Callable[[], Coroutine[Any, Any, bool]]) -> NoReturn:
    configure(name, settings)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            well = runner.run(main())
    except Exception:
        log.exception("the process failed")
        well = False
    log.info("stopped")
    sys.exit(0 if well else EXIT_FAILED)


def _heed_signals(stop: asyncio.Event) -> None:
    """The first SIGTERM or SIGINT asks for an end, the second one is the end."""

    def heed() -> None:
        if stop.is_set():
            log.error("asked to end for the second time, ending at once")
            os._exit(EXIT_FAILED)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heed)


async def _within_bounds(work: Awaitable[None], stop: asyncio.Event, seconds: float) -> None:
    """Wait for the work, but not for ever once it should stop. Raises what the work raises, or TimeoutError."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait_for(working, seconds if not working.done() else None)
    finally:
        stopping.cancel()


class _Server(uvicorn.Server):
    """uvicorn without its own signals, because the process ends in one place for all roles; it says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        self.up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `_heed_signals`."""
        yield


@asynccontextmanager
async def _serving(app: ASGIApp, host: str, port: int, port_file: Path | None) -> AsyncIterator[None]:
    """Serve an app while inside; requests under way are finished on leaving, for `DRAIN_SECONDS`."""
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound = listener.getsockname()[1]
    server = _Server(
        uvicorn.Config(
            app,
            lifespan="off",  # the lifespan is around us, so that its errors are ours to log
            log_config=None,
            access_log=False,  # paths may hold ids; `_record` logs routes instead
            server_header=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            log_level="warning",
        )
    )
    serving = asyncio.create_task(server.serve([listener]), name="http")
    try:
        await asyncio.wait_for(server.up.wait(), STOP_SECONDS)
        log.info("listening", host=host, port=bound)
        if port_file is not None:
            _write(port_file, f"{bound}\n")
        yield
    finally:
        server.should_exit = True
        await serving


def _write(path: Path, text: str) -> None:
    """Write a file so that nobody ever reads half of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
