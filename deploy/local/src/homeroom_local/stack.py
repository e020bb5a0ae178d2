"""The four services as processes of this machine, with the database and bus they need.

What is configured is never guessed: with HOMEROOM_DATABASE_URL or HOMEROOM_KAFKA set, those are used; otherwise
Postgres comes from a wheel and the bus runs on it. Everything else is the same code as in production.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import httpx2
import uvicorn

from homeroom.embedded import EmbeddedPostgres
from homeroom.secrets import hash_password
from homeroom_local.origin import make_origin
from homeroom_local.secrets_file import LocalSecrets, load_admin_password, write_private
from provider_gateway.inbox.host_key import fingerprints

START_SECONDS = 60.0
STOP_SECONDS = 20.0
RESTART_SECONDS = 0.5
TOKEN_RENEWAL_SECONDS = 1_500.0

ADMIN_CLIENT = "local-admin"
GATEWAY_CLIENT = "provider-gateway"
SSO_CLIENT = "sso"
ADMIN_SCOPES = "admin"
LOCAL_ADMIN = "admin"
"""The username of whoever looks after the installation."""

APIS = {
    "sso": "sso",
    "sync-scheduler": "sync_scheduler",
    "provider-gateway": "provider_gateway",
    "roster-store": "roster_store",
}
INBOX = "provider-gateway inbox"
WORKERS = APIS
"""Every service has both roles."""


class StackError(Exception):
    """The local installation could not be started; the text says what to look at."""


@dataclass
class Service:
    """One process, started again whenever it ends by itself."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = None
    stopping: bool = False

    async def run(self) -> None:
        """Keep the process running until `stop`."""
        while not self.stopping:
            with self.log.open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    *self.command,
                    env=self.environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C reaches only us, and we stop them in order
                )
            await self.process.wait()
            if not self.stopping:
                await asyncio.sleep(RESTART_SECONDS)

    async def stop(self) -> None:
        """End the process: politely, then not."""
        self.stopping = True
        if self.process is None or self.process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()

    def kill(self) -> None:
        """End the process at once, as a crash would; it is started again."""
        if self.process is not None and self.process.returncode is None:
            os.kill(self.process.pid, signal.SIGKILL)


@dataclass
class Stack:
    """A running installation."""

    origin: str
    data: Path
    database_url: str
    kafka: str | None
    secrets: LocalSecrets
    urls: Mapping[str, str]
    postgres: EmbeddedPostgres | None = None
    services: dict[str, Service] = field(default_factory=dict)
    sftp_port: int = field(default_factory=lambda: free_port())  # noqa: PLW0108 - it stands further down

    @property
    def sandbox(self) -> str:
        """The sandbox district's address."""
        return self.urls["sandbox"]

    async def token(self, scope: str = ADMIN_SCOPES) -> str:
        """An access token for the API, as the local admin."""
        return await fetch_token(self.urls["sso"], self.secrets.admin_secret, scope)


async def fetch_token(base_url: str, secret: str, scope: str) -> str:
    """Ask sso for a token of the local admin's client."""
    async with httpx2.AsyncClient(timeout=10, trust_env=False) as client:
        answer = await client.post(
            f"{base_url}/oauth2/token",
            data={"grant_type": "client_credentials", "scope": scope},
            auth=(ADMIN_CLIENT, secret),
        )
        answer.raise_for_status()
        return str(answer.json()["access_token"])


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running_stack(
    data: Path,
    *,
    port: int = 0,
    sandbox: bool = True,
    extra: Mapping[str, str] | None = None,
) -> AsyncIterator[Stack]:
    """Start everything, yield when all answers, and stop what was started.

    `extra` is added to the services' environment. Raises StackError if something does not come up.
    """
    listener = _listen(port)
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        secrets = _prepare(data)
        database_url, postgres = os.environ.get("HOMEROOM_DATABASE_URL", ""), None
        if not database_url:
            postgres = EmbeddedPostgres(data / "postgres")
            await _start_postgres(stack, postgres)
            database_url = await postgres.create_database("homeroom")
        beside = (INBOX, "sandbox") if sandbox else (INBOX,)
        urls = {name: f"http://127.0.0.1:{free_port()}" for name in (*APIS, *beside)}
        if sandbox:
            urls["sandbox"] = f"http://127.0.0.1:{_keep_port(data / 'sandbox-port')}"
        running = Stack(
            origin=f"http://127.0.0.1:{listener.getsockname()[1]}",
            data=data,
            database_url=database_url,
            kafka=os.environ.get("HOMEROOM_KAFKA"),
            secrets=secrets,
            urls=urls,
            postgres=postgres,
        )
        environment = {**os.environ, **_environment(running), **(extra or {})}
        await _migrate(running, environment)
        for service in _services(running, environment):
            running.services[service.name] = service
        tasks = await stack.enter_async_context(_Background.open())
        for service in running.services.values():
            tasks.start(service.run())
            stack.push_async_callback(service.stop)
        _serve_origin(stack, tasks, listener, urls)
        await _wait_until_ready(running, tasks)
        await _write_token(running)
        tasks.start(_renew_token(running))
        yield running


def _listen(port: int) -> socket.socket:
    """The origin's socket, taken before anything is started. Raises StackError if somebody else has the port."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        msg = f"port {port} can't be listened on ({error.strerror}); choose another with --port"
        raise StackError(msg) from error


async def _start_postgres(stack: AsyncExitStack, postgres: EmbeddedPostgres) -> None:
    """Start it in a thread; it is stopped at the end even if we are told to end while it starts."""
    starting = asyncio.create_task(asyncio.to_thread(postgres.start))

    async def stop() -> None:
        await asyncio.wait([starting])
        await asyncio.to_thread(postgres.stop)

    stack.push_async_callback(stop)
    await asyncio.shield(starting)


def _keep_port(path: Path) -> int:
    """The port that a file names, if nobody listens there now; else a free one, which is kept: others know it."""
    with suppress(OSError, ValueError):
        port = int(path.read_text("utf-8"))
        socket.create_server(("127.0.0.1", port)).close()
        return port
    port = free_port()
    path.write_text(str(port), "utf-8")
    return port


def _prepare(data: Path) -> LocalSecrets:
    (data / "logs").mkdir(parents=True, exist_ok=True)
    return LocalSecrets.load(data)


class _Background:
    """Tasks that live as long as the stack."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        self._tasks.append(asyncio.create_task(work))
        return self._tasks[-1]

    def check(self) -> None:
        """Raise what a task failed with."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[_Background]:
        background = cls()
        try:
            yield background
        finally:
            for task in background._tasks:
                task.cancel()
            await asyncio.gather(*background._tasks, return_exceptions=True)


def _environment(stack: Stack) -> dict[str, str]:
    return {
        "HOMEROOM_DATABASE_URL": stack.database_url,
        "HOMEROOM_ISSUER": stack.origin,
        "HOMEROOM_JWKS_URL": f"{stack.urls['sso']}/oauth2/jwks",
        "HOMEROOM_TOKEN_URL": f"{stack.urls['sso']}/oauth2/token",
        "HOMEROOM_ALLOW_PRIVATE_ENDPOINTS": "true",
        "HOMEROOM_STORE_URL": stack.urls["roster-store"],
        "HOMEROOM_REGIONS": "us,au,uk,nz",
        "HOMEROOM_DATABASE_POOL_SIZE": "6",
        "HOMEROOM_UPLOADS_URL": str(stack.data.absolute() / "uploads"),
    }


_OWN: Mapping[str, tuple[str, ...]] = {
    "sso": (
        "HOMEROOM_SSO_KEY",
        "HOMEROOM_BOOTSTRAP_CLIENTS",
        "HOMEROOM_CLIENT_ID",
        "HOMEROOM_CLIENT_SECRET",
        "HOMEROOM_LOCAL_ACCOUNTS",
        "HOMEROOM_LOCAL_ADMIN",
    ),
    "sync-scheduler": ("HOMEROOM_GATEWAY_PUBLIC_KEY", "HOMEROOM_ALERT_SIGNING_KEY"),
    "provider-gateway": ("HOMEROOM_GATEWAY_PRIVATE_KEYS", "HOMEROOM_CLIENT_ID", "HOMEROOM_CLIENT_SECRET"),
    "roster-store": ("HOMEROOM_STORE_KEY",),
}
"""Secrets go only to the service that needs them."""


_hash_once = cache(hash_password)


def _own_environment(stack: Stack, service: str) -> dict[str, str]:
    secrets = stack.secrets
    clients = [
        {"id": ADMIN_CLIENT, "secret": secrets.admin_secret, "scopes": [ADMIN_SCOPES]},
        {"id": GATEWAY_CLIENT, "secret": secrets.gateway_secret, "scopes": ["fingerprints.read"]},
        {"id": SSO_CLIENT, "secret": secrets.sso_secret, "scopes": ["people.resolve"]},
    ]
    own_client = {
        "provider-gateway": (GATEWAY_CLIENT, secrets.gateway_secret),
        "sso": (SSO_CLIENT, secrets.sso_secret),
    }.get(service, ("", ""))
    every = {
        "HOMEROOM_SSO_KEY": secrets.sso_key,
        "HOMEROOM_LOCAL_ACCOUNTS": "true",
        "HOMEROOM_LOCAL_ADMIN": f"{LOCAL_ADMIN}:{_hash_once(load_admin_password(stack.data))}",
        "HOMEROOM_BOOTSTRAP_CLIENTS": json.dumps(clients),
        "HOMEROOM_GATEWAY_PUBLIC_KEY": secrets.gateway_public_key,
        "HOMEROOM_ALERT_SIGNING_KEY": secrets.alert_signing_key,
        "HOMEROOM_GATEWAY_PRIVATE_KEYS": secrets.gateway_private_key,
        "HOMEROOM_STORE_KEY": secrets.store_key,
        "HOMEROOM_CLIENT_ID": own_client[0],
        "HOMEROOM_CLIENT_SECRET": own_client[1],
    }
    return {name: every[name] for name in _OWN.get(service, ())}


def _environment_of(stack: Stack, environment: Mapping[str, str], service: str) -> dict[str, str]:
    """All of one service's environment. What talks to the outside gets no key to a database it does not need."""
    kept_away = {"HOMEROOM_DATABASE_URL"} if stack.kafka and service == "provider-gateway" else set()
    found = {**environment, **_own_environment(stack, service)}
    return {name: value for name, value in found.items() if name not in kept_away}


def _inbox_as_told(stack: Stack) -> dict[str, str]:
    """What the scheduler tells districts about the inbox."""
    return {
        "HOMEROOM_SFTP_HOST": "127.0.0.1",
        "HOMEROOM_SFTP_PORT": str(stack.sftp_port),
        "HOMEROOM_SFTP_HOST_KEY_FINGERPRINT": fingerprints(stack.secrets.sftp_host_key)[0].split()[1],
    }


async def _migrate(stack: Stack, environment: Mapping[str, str]) -> None:
    async def migrate(service: str, package: str) -> None:
        with (stack.data / "logs" / f"{service}-migrate.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", package, "migrate"),
                env=_environment_of(stack, environment, service),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            try:
                failed = await asyncio.wait_for(process.wait(), START_SECONDS)
            finally:
                if process.returncode is None:
                    process.kill()
            if failed:
                msg = f"{service} could not prepare its database:\n{_read_end(Path(log.name))}"
                raise StackError(msg)

    await asyncio.gather(*(migrate(service, package) for service, package in APIS.items()))


def _services(stack: Stack, environment: Mapping[str, str]) -> list[Service]:
    logs = stack.data / "logs"
    found = []
    for service, package in APIS.items():
        own = {
            **_environment_of(stack, environment, service),
            **(_inbox_as_told(stack) if service == "sync-scheduler" else {}),
            "HOMEROOM_PORT": stack.urls[service].rsplit(":")[-1],
        }
        found.append(
            Service(f"{service} api", [sys.executable, "-m", package, "api"], own, logs / f"{service}-api.log")
        )
    for service, package in WORKERS.items():
        own = _environment_of(stack, environment, service)
        found.append(
            Service(f"{service} worker", [sys.executable, "-m", package, "worker"], own, logs / f"{service}-worker.log")
        )
    own = _environment_of(stack, environment, "provider-gateway") | {
        "HOMEROOM_SFTP_HOST_KEY": stack.secrets.sftp_host_key,
        "HOMEROOM_SFTP_PORT": str(stack.sftp_port),
        "HOMEROOM_HEALTH_PORT": stack.urls[INBOX].rsplit(":")[-1],
    }
    for name in _OWN["provider-gateway"]:
        del own[name]  # it opens no credentials and asks no other service
    found.append(Service(INBOX, [sys.executable, "-m", "provider_gateway", "inbox"], own, _log_of(stack, INBOX)))
    if "sandbox" in stack.urls:
        command = [sys.executable, "-m", "sandbox_district", "--port", stack.urls["sandbox"].rsplit(":")[-1]]
        command += ["--key-file", str(stack.data.absolute() / "sandbox-key.pem")]
        found.append(Service("sandbox", command, dict(environment), logs / "sandbox.log"))
    return found


class _Server(uvicorn.Server):
    """uvicorn without its own signals, which are the command line's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def _serve_origin(stack: AsyncExitStack, tasks: _Background, listener: socket.socket, urls: Mapping[str, str]) -> None:
    server = _Server(
        uvicorn.Config(
            make_origin(urls),
            log_level="warning",
            access_log=False,
            lifespan="on",
            server_header=False,  # the services' answers have these already
            date_header=False,
        )
    )
    serving = tasks.start(server.serve([listener]))

    async def stop() -> None:
        server.should_exit = True
        await asyncio.wait([serving], timeout=STOP_SECONDS)

    stack.push_async_callback(stop)


async def _wait_until_ready(stack: Stack, tasks: _Background) -> None:
    """Return when every API says it is ready; raise StackError if one does not in time."""
    async with httpx2.AsyncClient(timeout=5, trust_env=False) as client:
        for name, url in stack.urls.items():
            path = "/sandbox" if name == "sandbox" else "/readyz"
            try:
                async with asyncio.timeout(START_SECONDS):
                    while not await _answers(client, url + path):
                        tasks.check()
                        await asyncio.sleep(0.05)
            except TimeoutError as error:
                log = _read_end(_log_of(stack, name))
                msg = f"{name} did not become ready within {START_SECONDS:.0f} s:\n{log}"
                raise StackError(msg) from error


def _log_of(stack: Stack, name: str) -> Path:
    """Where a process logs that is waited for."""
    return stack.data / "logs" / (f"{name}-api.log" if name in APIS else f"{name.replace(' ', '-')}.log")


def _read_end(log: Path) -> str:
    """The last lines of a log, for the folder may be gone when somebody wants to read it."""
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-5:])


async def _answers(client: httpx2.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).is_success
    except httpx2.TransportError:
        return False


async def _write_token(stack: Stack) -> None:
    write_private(stack.data / "admin-token", (await stack.token()).encode())


async def _renew_token(stack: Stack) -> None:
    """Keep DIR/admin-token valid for as long as the installation runs."""
    while True:
        await asyncio.sleep(TOKEN_RENEWAL_SECONDS)
        with suppress(httpx2.HTTPError):
            await _write_token(stack)
