"""An inbox on loopback, with accounts, and a bus that keeps what is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncssh
import pytest

from homeroom.bus import BusUnavailable, Message, Outgoing
from homeroom.clock import Clock, SystemClock
from homeroom.messages import IntegrationState, SftpAccount, UploadReceived, read_fact, to_tenancy
from homeroom.secrets import hash_password
from provider_gateway.inbox.accounts import Directory
from provider_gateway.inbox.door import Door
from provider_gateway.inbox.folder import FolderStore
from provider_gateway.inbox.host_key import make_host_keys, split_host_keys
from provider_gateway.inbox.sealing import Sealer
from provider_gateway.inbox.sets import Rules
from provider_gateway.inbox.sftp import Doors, serving
from provider_gateway.inbox.storage import Seal, StoredUploads
from provider_gateway.inbox.watching import Spools, Watcher

HOST_KEY = make_host_keys()
PASSWORD = "correct horse battery staple"
HASH = hash_password(PASSWORD)
REST = timedelta(seconds=0.3)
NAMES = ("orgs", "academicSessions", "courses", "classes", "users", "enrollments")


def make_manifest(*names: str, mode: str = "bulk") -> bytes:
    """A manifest that ships these files."""
    rows = [("manifest.version", "1.0"), ("oneroster.version", "1.1"), *((f"file.{name}", mode) for name in names)]
    return "".join(f"{key},{value}\r\n" for key, value in [("propertyName", "value"), *rows]).encode()


def make_set(*names: str, size: int = 2_000) -> dict[str, bytes]:
    """A whole set by the names of its files, the manifest first."""
    names = names or NAMES
    files = {f"{name}.csv": (f"sourcedId,status\r\n{name}" * size)[:size].encode() for name in names}
    return {"manifest.csv": make_manifest(*names), **files}


class Bus:
    """Keeps what is published, unless it is away."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.away = False

    async def publish(self, *messages: Outgoing) -> None:
        """Keep messages."""
        if self.away:
            raise BusUnavailable("away")
        self.sent += messages

    @property
    def received(self) -> list[UploadReceived]:
        """The uploads that were announced."""
        facts = [read_fact(as_message(one)) for one in self.sent]
        assert all(isinstance(fact, UploadReceived) for fact in facts)
        return facts  # type: ignore[return-value]  # checked above


def as_message(sent: Outgoing, offset: int = 0) -> Message:
    """What was sent as a consumer sees it."""
    return Message(sent.topic, 0, offset, sent.key, sent.value, sent.headers, datetime.now(UTC))


@dataclass
class Harbour:
    """The parts of an inbox, with a folder as storage; `serve` opens it."""

    folder: Path
    bus: Bus = field(default_factory=Bus)
    rules: Rules = field(default_factory=lambda: Rules(rest=REST, broken_rest=3 * REST))
    clock: Clock = field(default_factory=SystemClock)
    max_bytes: int = 10_000_000
    idle_seconds: float = 30.0
    port: int = 0

    def __post_init__(self) -> None:
        """Put the parts together; they read what is in the folder already."""
        self.directory = Directory(self.bus)  # type: ignore[arg-type]  # told by hand
        self.uploads = StoredUploads(FolderStore(self.folder))
        self.sealer = Sealer(self.uploads, self.bus, self.clock)  # type: ignore[arg-type]  # all it uses
        inbox = self.folder / "inbox"
        inbox.mkdir(parents=True, exist_ok=True)
        self.spools = Spools(inbox, self.max_bytes)
        self.watcher = Watcher(
            spools=self.spools,
            directory=self.directory,
            sealer=self.sealer,
            uploads=self.uploads,
            clock=self.clock,
            rules=self.rules,
        )

    async def tell(self, state: IntegrationState) -> IntegrationState:
        """Let the directory know an integration as it is now."""
        await self.directory.take([as_message(to_tenancy(state))])
        return state

    async def add(self, **values: Any) -> IntegrationState:
        """A new integration with an account."""
        number = uuid4()
        defaults: dict[str, Any] = {
            "id": str(number),
            "organization_id": str(uuid4()),
            "name": "Test district",
            "provider": "oneroster-csv",
            "region": "us",
            "state": "active",
            "sftp": SftpAccount(username=f"district-{number.hex[:8]}", password_hash=HASH),
        }
        return await self.tell(IntegrationState(**(defaults | values)))

    @asynccontextmanager
    async def serve(self, *, watch: bool = True) -> AsyncIterator[None]:
        """Let uploaders in, and watch what they do."""
        self.watcher.recover()
        self.doors = Doors(
            door=Door(self.directory, self.clock),
            directory=self.directory,
            spools=self.spools,
            clock=self.clock,
            idle_seconds=self.idle_seconds,
        )
        tasks = [asyncio.create_task(self.doors.sweep())]
        if watch:
            tasks.append(asyncio.create_task(self.watcher.run()))
        try:
            async with serving("127.0.0.1", self.port, HOST_KEY, self.doors) as self.port:
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @asynccontextmanager
    async def connect(
        self, state: IntegrationState, password: str | None = PASSWORD, key: asyncssh.SSHKey | None = None
    ) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """An SSH connection of an account, to a server it knows."""
        assert state.sftp is not None
        known = [asyncssh.import_private_key(text).convert_to_public() for text in split_host_keys(HOST_KEY)]
        async with asyncssh.connect(
            "127.0.0.1",
            self.port,
            username=state.sftp.username,
            password=password,
            client_keys=[key] if key is not None else None,
            known_hosts=(known, [], []),
            agent_path=None,
            config=None,
            login_timeout=20,
        ) as connection:
            yield connection

    @asynccontextmanager
    async def sftp(self, state: IntegrationState, **how: Any) -> AsyncIterator[asyncssh.SFTPClient]:
        """An SFTP session of an account."""
        async with self.connect(state, **how) as connection, connection.start_sftp_client() as client:
            yield client

    def incoming(self, state: IntegrationState) -> Path:
        """Where an account's files lie."""
        return self.spools.of(state.id).incoming

    async def sealed(self, count: int = 1, seconds: float = 20) -> list[UploadReceived]:
        """Wait until so many uploads were announced."""
        await until(lambda: len(self.bus.received) >= count, seconds)
        return self.bus.received

    async def read(self, fact: UploadReceived, into: Path) -> dict[str, bytes]:
        """The files of an upload as a worker gets them."""
        found = await self.uploads.fetch(fact.integration_id, fact.upload_id, into)
        files = [found] if found.is_file() else sorted(found.iterdir())
        return {path.name: path.read_bytes() for path in files}

    async def seal_of(self, fact: UploadReceived) -> Seal:
        """What an upload says it is made of."""
        seal = await self.uploads.find(fact.integration_id, fact.upload_id)
        assert seal is not None
        return seal


async def until(reached: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something."""
    async with asyncio.timeout(seconds):
        while not reached():
            await asyncio.sleep(0.02)


async def put(client: asyncssh.SFTPClient, files: dict[str, bytes], folder: str = "") -> None:
    """Upload files in their order."""
    for name, content in files.items():
        async with client.open(f"{folder}{name}", "wb") as file:
            await file.write(content)


@dataclass(frozen=True)
class Tools:
    """What tests of the inbox use."""

    put: Callable[..., Any] = put
    until: Callable[..., Any] = until
    make_set: Callable[..., dict[str, bytes]] = make_set
    make_manifest: Callable[..., bytes] = make_manifest
    password: str = PASSWORD
    password_hash: str = HASH
    host_key: str = HOST_KEY
    rest: timedelta = REST
    names: Sequence[str] = NAMES
    harbour: type[Harbour] = Harbour
    bus: type[Bus] = Bus
    as_message: Callable[..., Message] = as_message


@pytest.fixture
def tools() -> Tools:
    """Helpers for uploading and waiting."""
    return Tools()


@pytest.fixture
def harbour(tmp_path: Path) -> Harbour:
    """An inbox that nobody has opened yet."""
    return Harbour(tmp_path / "uploads")
