"""Where complete sets of files are kept until they are read: a folder, or an S3-compatible store.

A set lies under its integration and its own id, with a seal that says what it is made of. The seal is written last, so
that what has no seal is not there; a set is never changed afterwards.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol
from uuid import UUID

import msgspec

from homeroom.codes import Code
from homeroom.messages import UploadReceived
from homeroom.settings import SettingsError
from homeroom.telemetry import get_logger
from provider_gateway.failures import ProviderError
from provider_gateway.inbox.store import StorageFailed, Store, StoredFile

if TYPE_CHECKING:
    from provider_gateway.settings import GatewaySettings

log = get_logger(__name__)

_RECEIVED = "received/"
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Seal(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a set is made of; its presence says that the set is whole."""

    upload_id: str
    integration_id: str
    received_at: datetime
    via: Literal["sftp", "rest", "fetch"]
    """`fetch`: what a provider sent in the course of a run, not an upload."""
    files: tuple[StoredFile, ...]

    @property
    def size(self) -> int:
        """All bytes."""
        return sum(file.size for file in self.files)

    @property
    def digest(self) -> str:
        """SHA-256 over the files' names and contents: equal for equal sets, whenever and however they came."""
        told = hashlib.sha256()
        for file in sorted(self.files, key=lambda file: file.name):
            told.update(f"{file.sha256} {len(file.name.encode())} {file.name}\n".encode())
        return told.hexdigest()

    def fact(self) -> UploadReceived:
        """What the scheduler is told of an upload."""
        assert self.via != "fetch"  # noqa: S101 - what was fetched is nobody's news
        return UploadReceived(
            upload_id=self.upload_id,
            integration_id=self.integration_id,
            at=self.received_at,
            via=self.via,
            files=len(self.files),
            bytes=self.size,
            digest=self.digest,
        )


class Expected(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A folder of an integration's inbox whose files are no set yet."""

    folder: str
    why: Literal["missing", "arriving", "nights"]
    files: tuple[str, ...]
    present: int
    since: datetime
    overdue: bool


_read_seal = msgspec.json.Decoder(Seal).decode
_read_expected = msgspec.json.Decoder(tuple[Expected, ...]).decode
encode = msgspec.json.Encoder().encode


class Uploads(Protocol):
    """The sets of files that were received, as a worker sees them."""

    async def fetch(self, integration_id: str, upload_id: str, into: Path) -> Path:
        """The set as a folder or a zip on this machine, below `into` if it had to be copied there.

        Raises `ProviderError` UPLOAD_MISSING where there is none, SFTP_IO where it is not as it was received.
        """


class NoUploads:
    """An installation without an inbox."""

    async def fetch(self, integration_id: str, upload_id: str, into: Path) -> Path:  # noqa: ARG002 - there are none
        """Never finds a set."""
        raise ProviderError(Code.UPLOAD_MISSING, "This installation keeps no uploads.")


class StoredUploads:
    """Sets of files in a store."""

    def __init__(self, store: Store, shelf: str = "") -> None:
        """Take a store; a `shelf` keeps sets of another sort apart from uploads."""
        self._store = store
        self._shelf = shelf

    @property
    def received(self) -> StoredUploads:
        """Where what providers sent is kept, by run, for integrations that ask for it."""
        return StoredUploads(self._store, _RECEIVED)

    async def keep(self, seal: Seal, files: Path) -> None:
        """Keep a set whose files lie in a folder; doing it twice does no harm. Raises `StorageFailed`."""
        base = self._base(seal.integration_id, seal.upload_id)
        for number, file in enumerate(seal.files):
            await self._store.keep(self._store.place(base, number, file.name), files / file.name)
        await self._store.put(f"{base}/seal.json", encode(seal))

    async def fetch(self, integration_id: str, upload_id: str, into: Path) -> Path:
        """As `Uploads` says."""
        try:
            seal = await self.find(integration_id, upload_id)
            if seal is None:
                raise ProviderError(
                    Code.UPLOAD_MISSING, "The set of files is not there, or is older than files are kept."
                )
            base = self._base(integration_id, upload_id)
            found = [
                await self._store.fetch(self._store.place(base, number, file.name), file, into / file.name)
                for number, file in enumerate(seal.files)
            ]
        except StorageFailed as error:
            raise ProviderError(Code.SFTP_IO, f"The uploaded files could not be read: {error}.") from None
        if len(found) == 1 and found[0].suffix.lower() == ".zip":
            return found[0]
        return found[0].parent if found else into

    async def find(self, integration_id: str, upload_id: str) -> Seal | None:
        """What a set is made of; None where there is none. Raises `StorageFailed`."""
        if not (is_id(integration_id) and is_id(upload_id)):
            return None
        content = await self._store.get(f"{self._base(integration_id, upload_id)}/seal.json")
        if content is None:
            return None
        try:
            seal = _read_seal(content)
        except msgspec.MsgspecError:
            raise StorageFailed("the seal of a set is damaged") from None
        if any(Path(file.name).name != file.name for file in seal.files):
            raise StorageFailed("the seal of a set names a path")
        return seal

    async def ids(self, integration_id: str) -> list[str]:
        """The ids of an integration's sets, newest first; the last one may still be on its way."""
        return sorted(filter(is_id, await self._store.folders(f"{self._shelf}{integration_id}")), reverse=True)

    async def integrations(self) -> list[str]:
        """Every integration that has sets."""
        return sorted(filter(is_id, await self._store.folders(self._shelf.rstrip("/"))))

    async def erase(self, integration_id: str, upload_id: str) -> None:
        """Erase a set."""
        await self._store.erase(self._base(integration_id, upload_id))

    def _base(self, integration_id: str, upload_id: str) -> str:
        return f"{self._shelf}{integration_id}/{upload_id}"

    async def note(self, integration_id: str, expected: Sequence[Expected]) -> None:
        """Keep what an integration's inbox waits for, for whoever asks."""
        await self._store.put(f"{integration_id}/expected.json", encode(tuple(expected)))

    async def expected(self, integration_id: str) -> tuple[Expected, ...]:
        """What an integration's inbox waits for."""
        content = await self._store.get(f"{integration_id}/expected.json")
        try:
            return _read_expected(content) if content else ()
        except msgspec.MsgspecError:
            raise StorageFailed("what the inbox waits for can't be read") from None


def received_at(upload_id: str) -> datetime:
    """When an upload's id was made (RFC 9562 §5.7)."""
    return datetime.fromtimestamp((UUID(upload_id).int >> 80) / 1000, UTC)


def is_id(text: str) -> bool:
    """Whether a text is an id of ours, and so can't be a path."""
    return _ID.fullmatch(text) is not None


def hash_file(path: Path) -> tuple[int, str]:
    """A file's size and SHA-256; read in pieces, to be called in a thread."""
    told, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            told.update(piece)
            size += len(piece)
    return size, told.hexdigest()


@asynccontextmanager
async def open_uploads(settings: GatewaySettings) -> AsyncIterator[StoredUploads | None]:
    """The configured storage, or None where there is none. Raises `SettingsError` for one that can't be."""
    yield StoredUploads(_open_store(settings)) if settings.uploads_url else None


def _open_store(settings: GatewaySettings) -> Store:
    if settings.uploads_folder is not None:
        from provider_gateway.inbox.folder import FolderStore

        return FolderStore(settings.uploads_folder)
    from provider_gateway.inbox.bucket import BucketStore  # a library of some size, for those who use it

    try:
        return BucketStore(settings)
    except ValueError as error:
        raise SettingsError(f"HOMEROOM_UPLOADS_URL can't be used: {error}.") from None
