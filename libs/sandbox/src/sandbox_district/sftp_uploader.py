"""A district's file server on its way to an inbox: CSV sets over SFTP, the way ClassLink and its like send them.

Every file goes in parts to a temporary name and is renamed when it is whole; the manifest goes last. An upload may
pause between parts, break off in the middle, and go on later where it stopped.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import asyncssh

PART_BYTES: Final = 64 * 1024
_CONNECT_SECONDS: Final = 10.0


class BrokenOff(Exception):  # noqa: N818 - what happened, as a caller asked for
    """The upload ended before its end, as it was told to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbox:
    """Where to upload and how to sign in: with a password or a private key in OpenSSH's form."""

    host: str
    port: int
    username: str
    host_key: str
    """The server's public key in OpenSSH's one-line form; any other is refused."""
    password: str | None = None
    private_key: str | None = None
    folder: str = "."


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How an upload goes about it."""

    part_bytes: int = PART_BYTES
    pause_seconds: float = 0.0
    """Silence after each part."""
    break_after: int | None = None
    """How many bytes to send before the connection is dropped."""
    resume: bool = False
    """Whether to go on with what an earlier upload left under a temporary name."""
    manifest_last: bool = True
    in_place: bool = False
    """Whether to write under the final name at once, as simple clients do."""


_USUAL: Final = Manner()


async def upload(source: Path, inbox: Inbox, manner: Manner = _USUAL) -> int:
    """Upload a zip, or the files of a folder; return how many bytes were sent.

    Raises:
        BrokenOff: it was told to break off, and did.
        asyncssh.Error: the server refused something, or could not be reached.
    """
    async with _connected(inbox) as (connection, sftp):
        await sftp.makedirs(inbox.folder, exist_ok=True)
        sending = _Sending(connection, sftp, manner)
        try:
            for path in _list_files(source, manner):
                await sending.send(path, PurePosixPath(inbox.folder) / path.name)
        except asyncssh.Error:
            if sending.broken_off:  # then even closing the file fails
                raise BrokenOff(f"The connection was dropped after {sending.sent:,} bytes.") from None
            raise
        return sending.sent


class _Sending:
    """One upload on its way."""

    def __init__(self, connection: asyncssh.SSHClientConnection, sftp: asyncssh.SFTPClient, manner: Manner) -> None:
        self._connection, self._sftp, self._manner = connection, sftp, manner
        self.sent = 0
        self.broken_off = False

    async def send(self, path: Path, target: PurePosixPath) -> None:
        """Send one file under its temporary name and rename it."""
        temporary = target if self._manner.in_place else target.with_name(f"{target.name}.filepart")
        done = await self._find_size(temporary) if self._manner.resume else None
        with path.open("rb") as source:
            async with self._sftp.open(str(temporary), "r+b" if done else "wb") as file:
                source.seek(done or 0)
                await file.seek(done or 0)
                while part := source.read(self._manner.part_bytes):
                    await self._write(file, part)
        if not self._manner.in_place:
            await self._rename(temporary, target)

    async def _write(self, file: asyncssh.SFTPClientFile, part: bytes) -> None:
        left = None if self._manner.break_after is None else self._manner.break_after - self.sent
        if left is not None and left < len(part):
            if left:
                await file.write(part[:left])
                self.sent += left
            self.broken_off = True
            self._connection.abort()
            raise asyncssh.ConnectionLost("dropped")
        await file.write(part)
        self.sent += len(part)
        if self._manner.pause_seconds:
            await asyncio.sleep(self._manner.pause_seconds)

    async def _rename(self, temporary: PurePosixPath, target: PurePosixPath) -> None:
        """Give a file its name, over an older one of the same name."""
        try:
            await self._sftp.posix_rename(str(temporary), str(target))
        except asyncssh.SFTPOpUnsupported:
            if await self._sftp.exists(str(target)):
                await self._sftp.remove(str(target))
            await self._sftp.rename(str(temporary), str(target))

    async def _find_size(self, path: PurePosixPath) -> int | None:
        try:
            return (await self._sftp.stat(str(path))).size
        except asyncssh.SFTPNoSuchFile:
            return None


@asynccontextmanager
async def _connected(inbox: Inbox) -> AsyncIterator[tuple[asyncssh.SSHClientConnection, asyncssh.SFTPClient]]:
    async with (
        asyncssh.connect(
            inbox.host,
            inbox.port,
            username=inbox.username,
            password=inbox.password,
            client_keys=[asyncssh.import_private_key(inbox.private_key)] if inbox.private_key else None,
            known_hosts=([asyncssh.import_public_key(inbox.host_key)], [], []),
            agent_path=None,
            config=None,
            connect_timeout=_CONNECT_SECONDS,
        ) as connection,
        connection.start_sftp_client() as sftp,
    ):
        yield connection, sftp


def _list_files(source: Path, manner: Manner) -> list[Path]:
    """What to send and in which order."""
    if source.is_file():
        return [source]
    files = sorted(path for path in source.iterdir() if path.is_file())
    return sorted(files, key=lambda path: path.stem.lower() == "manifest", reverse=not manner.manifest_last)
