"""Uploads in an S3-compatible store, through obstore."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from homeroom.telemetry import get_logger
from provider_gateway.inbox.store import StorageFailed, StoredFile

if TYPE_CHECKING:
    from provider_gateway.settings import GatewaySettings

log = get_logger(__name__)

REQUEST_SECONDS = 60
"""The deadline of one request; a large file takes many."""
ASK_SECONDS = 90.0
"""The deadline of a question that takes a few requests at most."""
FILE_SECONDS = 3_600.0
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 4
_PIECE_BYTES = 1 << 20
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class BucketStore:
    """Files are copied to this machine, and their hashes compared, before they are read."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Take the settings; nothing is asked yet. Raises ValueError for an address that is none."""
        parts = urlsplit(settings.uploads_url)
        if parts.scheme != "s3" or not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
            msg = "it must be a folder, or s3://bucket/prefix"
            raise ValueError(msg)
        options: dict[str, Any] = {"region": settings.uploads_s3_region}
        if settings.uploads_s3_endpoint:
            options["endpoint"] = settings.uploads_s3_endpoint
        if settings.uploads_s3_access_key_id:
            options["access_key_id"] = settings.uploads_s3_access_key_id
            options["secret_access_key"] = settings.uploads_s3_secret_access_key.get_secret_value()
        self._store = S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            client_options={
                "timeout": timedelta(seconds=REQUEST_SECONDS),
                "connect_timeout": timedelta(seconds=5),
                "allow_http": settings.uploads_s3_endpoint.startswith("http://"),
            },
            retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=REQUEST_SECONDS)},
            **options,
        )

    def place(self, base: str, number: int, name: str) -> str:  # noqa: ARG002 - names may hold what keys may not
        """The files of a set are numbered; their names stand in the seal."""
        return f"{base}/files/{number}"

    async def put(self, name: str, content: bytes) -> None:
        """Keep a small text."""
        async with _asking(ASK_SECONDS):
            await obstore.put_async(self._store, name, content)

    async def get(self, name: str) -> bytes | None:
        """A small text, if it is there."""
        async with _asking(ASK_SECONDS):
            try:
                found = await obstore.get_async(self._store, name)
            except FileNotFoundError:
                return None
            return bytes(await found.bytes_async())

    async def keep(self, name: str, file: Path) -> None:
        """Send a file, in parts."""
        async with _asking(FILE_SECONDS):
            await obstore.put_async(self._store, name, file, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)

    async def fetch(self, name: str, file: StoredFile, into: Path) -> Path:
        """Copy a file to this machine; what comes must be what was kept."""
        told, size = hashlib.sha256(), 0
        async with _asking(FILE_SECONDS):
            found = await obstore.get_async(self._store, name)
            with into.open("xb") as copy:
                async for piece in found.stream(min_chunk_size=_PIECE_BYTES):
                    size += len(piece)
                    if size > file.size:
                        break
                    told.update(piece)
                    await asyncio.to_thread(copy.write, piece)
        if size != file.size or told.hexdigest() != file.sha256:
            raise StorageFailed("a file is not as it was when it was received")
        return into

    async def folders(self, name: str) -> list[str]:
        """The names of the folders in a folder."""
        async with _asking(ASK_SECONDS):
            found = await obstore.list_with_delimiter_async(self._store, name or None)
        return [path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"]]

    async def erase(self, name: str) -> None:
        """Erase a folder, its seal first, so that nobody takes what is left for a set."""
        async with _asking(ASK_SECONDS):
            seal = f"{name}/seal.json"
            await obstore.delete_async(self._store, seal)
            async for page in obstore.list(self._store, name):
                await obstore.delete_async(self._store, [one["path"] for one in page])


@asynccontextmanager
async def _asking(seconds: float) -> AsyncIterator[None]:
    """Around what is asked of the store; its words may hold addresses and keys, so they stay here."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except (BaseError, OSError, TimeoutError, ValueError) as error:
        log.warning("the store of uploads failed", why=type(error).__name__)
        raise StorageFailed(f"the store of uploads failed ({type(error).__name__})") from None
