"""Keeps what a provider sends in the course of a run, for integrations that ask for it, to be downloaded.

Every answer becomes a file in one zip, in the order they came. It holds a whole roster, so it lies where uploads lie,
is kept as long, and is only made where an admin asked for it.
"""

from __future__ import annotations

import asyncio
import zipfile
from datetime import datetime
from pathlib import Path

from homeroom.telemetry import get_logger
from provider_gateway.inbox.storage import Seal, StoredUploads, hash_file
from provider_gateway.inbox.store import StorageFailed, StoredFile

log = get_logger(__name__)

MOST_BYTES = 4_000_000_000
"""Answers beyond so many bytes, before they are compressed, are not kept any more."""
_LEVEL = 1
_NAME = "received.zip"


class Recording:
    """The answers of one run, on their way into a zip below `folder`."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._turn = asyncio.Lock()
        self._zip: zipfile.ZipFile | None = None
        self._bytes = 0
        self.answers = 0
        self.whole = True
        """Whether every answer is in it."""

    async def keep(self, path: str, body: bytes) -> None:
        """Add an answer; `path` is how it is called in errors, and so holds no id."""
        async with self._turn:
            if self._bytes + len(body) > self._most_bytes:
                self.whole = False
                return
            self.answers += 1
            self._bytes += len(body)
            await asyncio.to_thread(self._write, path, body)

    async def put_away(self, uploads: StoredUploads, integration_id: str, run_id: str, now: datetime) -> None:
        """Put the zip where it can be had; that it can't be is no reason for a run to fail."""
        async with self._turn:
            if self._zip is None:
                return
            try:
                await asyncio.to_thread(self._close)
                size, sha256 = await asyncio.to_thread(hash_file, self._folder / _NAME)
                seal = Seal(
                    upload_id=run_id,
                    integration_id=integration_id,
                    received_at=now,
                    via="fetch",
                    files=(StoredFile(_NAME, size, sha256),),
                )
                await uploads.keep(seal, self._folder)
            except (StorageFailed, OSError) as error:
                log.warning("what was received could not be kept", run_id=run_id, error_type=type(error).__name__)
                return
            log.info("what was received is kept", run_id=run_id, answers=self.answers, whole=self.whole)

    def _write(self, path: str, body: bytes) -> None:
        if self._zip is None:
            self._zip = zipfile.ZipFile(self._folder / _NAME, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL)
        name = "".join(letter if letter.isalnum() else "-" for letter in path).strip("-") or "answer"
        self._zip.writestr(f"{self.answers:06}-{name}.json", body)

    def _close(self) -> None:
        assert self._zip is not None  # noqa: S101 - asked for by `put_away` only then
        if not self.whole:
            self._zip.writestr("NOT-EVERYTHING.txt", f"Answers beyond {self._most_bytes:,} bytes were not kept.\n")
        self._zip.close()
