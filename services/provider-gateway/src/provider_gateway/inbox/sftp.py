"""The SFTP server districts upload to: one account for each integration, jailed in a folder of its own (A2).

Nothing but the sftp subsystem is served: no shell, no commands, no forwarding. Accounts come from the directory and
are looked up anew for every sign-in; a connection whose account changes is ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncssh
from asyncssh.sftp import SFTPServerHandler
from asyncssh.stream import SSHServerStreamSession

from homeroom.clock import Clock
from homeroom.messages import IntegrationState
from homeroom.telemetry import get_logger
from provider_gateway.inbox.accounts import Directory
from provider_gateway.inbox.door import Door, network_of
from provider_gateway.inbox.host_key import split_host_keys
from provider_gateway.inbox.jail import Jail
from provider_gateway.inbox.watching import Spools

MAX_CONNECTIONS = 400
MAX_STRANGERS_PER_ADDRESS = 16
"""Connections of one address that have not signed in yet."""
MAX_PER_ACCOUNT = 4
MAX_ATTEMPTS = 10
LOGIN_SECONDS = 30
KEEPALIVE_SECONDS = 30

log = get_logger(__name__)


class Doors:
    """All open connections: how many there are, whose, and which of them have to end."""

    def __init__(self, *, door: Door, directory: Directory, spools: Spools, clock: Clock, idle_seconds: float) -> None:
        self.door = door
        self.directory = directory
        self.spools = spools
        self.clock = clock
        self._idle_seconds = idle_seconds
        self._visits: set[Visit] = set()
        directory.listen(self._heed)

    def admit(self, visit: Visit) -> bool:
        """Whether a connection may begin to sign in."""
        strangers = sum(one.state is None and one.network == visit.network for one in self._visits)
        if len(self._visits) >= MAX_CONNECTIONS or strangers >= MAX_STRANGERS_PER_ADDRESS:
            log.warning("an SFTP connection was refused", why="too many connections")
            return False
        self._visits.add(visit)
        return True

    def leave(self, visit: Visit) -> None:
        """A connection has ended."""
        self._visits.discard(visit)

    def count(self, integration_id: str) -> int:
        """Connections of an account."""
        return sum(one.state is not None and one.state.id == integration_id for one in self._visits)

    def _heed(self, state: IntegrationState) -> None:
        """End the connections of an account that is not what it was when they signed in."""
        for visit in [one for one in self._visits if one.state is not None and one.state.id == state.id]:
            if state.state != "active" or visit.state is None or state.sftp != visit.state.sftp:
                visit.end("The account has changed; sign in again.")

    async def sweep(self) -> None:
        """End connections that do nothing, until cancelled."""
        while True:
            await asyncio.sleep(min(5.0, self._idle_seconds / 4))
            for visit in tuple(self._visits):
                if visit.state is not None and self.clock.monotonic() - visit.active > self._idle_seconds:
                    visit.end("Nothing was done for too long.")

    async def end_all(self) -> None:
        """End every connection: the process is about to."""
        for visit in tuple(self._visits):
            visit.end("The server is about to stop; come back in a moment.")


class Visit(asyncssh.SSHServer):
    """One connection."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._connection: asyncssh.SSHServerConnection | None = None
        self._attempts = 0
        self._username = ""
        self._address = ""
        self.network = ""
        self.state: IntegrationState | None = None
        """The integration, once signed in."""
        self.active = doors.clock.monotonic()

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Somebody has come."""
        self._connection = conn
        self._address = str((conn.get_extra_info("peername") or ("unknown",))[0])
        self.network = network_of(self._address)
        if not self._doors.admit(self):
            conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """They have gone."""
        self._doors.leave(self)

    def end(self, why: str) -> None:
        """End the connection, saying why."""
        if self._connection is not None:
            self._connection.disconnect(asyncssh.DISC_BY_APPLICATION, why)
        self._doors.leave(self)

    # ── signing in ────────────────────────────────────────────────────────────────────────────────────────────────

    def begin_auth(self, username: str) -> bool:
        """Everybody has to sign in."""
        self._username = username
        return True

    def password_auth_supported(self) -> bool:
        """Passwords may be used."""
        return True

    def public_key_auth_supported(self) -> bool:
        """Keys may be used."""
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        """Whether this is the account's password."""
        return self._may_try() and await self._doors.door.check_password(username, password, self._address)

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether this is a key of the account; the signature is checked by the protocol."""
        return self._may_try() and self._doors.door.check_key(username, key.public_data)

    def _may_try(self) -> bool:
        self._attempts += 1
        if self._attempts > MAX_ATTEMPTS:
            self.end("Too many attempts.")
        return self._attempts <= MAX_ATTEMPTS

    def auth_completed(self) -> None:
        """They are in, unless the account is gone by now or has enough connections."""
        state = self._doors.directory.account(self._username)
        if state is None:
            self.end("The account has changed; sign in again.")
        elif self._doors.count(state.id) >= MAX_PER_ACCOUNT:
            self.end(f"The account has {MAX_PER_ACCOUNT} connections already.")
        else:
            self.state = state
            self.touch()
            log.info("an uploader signed in", integration_id=state.id)

    # ── what is served ────────────────────────────────────────────────────────────────────────────────────────────

    def session_requested(self) -> Any:
        """A session, in which only the sftp subsystem can be asked for."""
        return _Session(self)

    def make_jail(self, channel: Any) -> Jail:
        """What a session's sftp subsystem works in. Raises SFTPPermissionDenied if nobody has signed in."""
        if self.state is None:
            raise asyncssh.SFTPPermissionDenied("The connection has ended.")
        return Jail(channel, self._doors.spools.of(self.state.id), self.touch)

    def touch(self) -> None:
        """Something was done."""
        self.active = self._doors.clock.monotonic()


class _Session(SSHServerStreamSession[bytes]):
    """asyncssh's session, but with a handler that says when files were left open."""

    def __init__(self, visit: Visit) -> None:
        super().__init__(None, visit.make_jail)

    def session_started(self) -> None:
        """The subsystem was asked for; nothing else is ever granted."""
        channel = self._chan
        connection = self._conn
        assert channel is not None  # noqa: S101 - asyncssh has made both before it calls this
        assert connection is not None  # noqa: S101 - likewise
        jail = self._init_sftp_server()
        reader = asyncssh.SSHReader[bytes](self, channel)
        writer = asyncssh.SSHWriter[bytes](self, channel)
        handler = _Handler(jail, reader, writer, 3)  # type: ignore[arg-type]  # `make_jail` is no coroutine
        connection.create_task(handler.run(), reader.logger)


class _Handler(SFTPServerHandler):
    """asyncssh's handler closes what is still open when a connection ends; the jail has to know that it was so."""

    async def _cleanup(self, exc: Exception | None) -> None:
        jail: Any = self._server
        if jail is not None:
            jail.broken = True
        await super()._cleanup(exc)


@asynccontextmanager
async def serving(host: str, port: int, host_key: str, doors: Doors) -> AsyncIterator[int]:
    """Serve while inside; gives the port. Raises OSError if it can't be listened on."""
    keys = [asyncssh.import_private_key(text) for text in split_host_keys(host_key)]
    acceptor = await asyncssh.listen(
        host,
        port,
        server_factory=lambda: Visit(doors),
        server_host_keys=keys,
        server_version="Homeroom",
        login_timeout=LOGIN_SECONDS,
        keepalive_interval=KEEPALIVE_SECONDS,
        keepalive_count_max=3,
        compression_algs=None,
        gss_host=None,
        gss_kex=False,
        gss_auth=False,
        allow_pty=False,
        agent_forwarding=False,
        allow_scp=False,
        encoding=None,
        config=[],
        reuse_address=True,
    )
    try:
        yield acceptor.get_port()
    finally:
        acceptor.close()
        await doors.end_all()
        async with asyncio.timeout(5):
            await acceptor.wait_closed()
