"""People who were erased: files that may name them go. They can't be searched, so all from before the erasure do.

The next upload, or the next run, brings what the district has then; the store keeps those out who were erased.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from homeroom.bus import Message, Retry
from homeroom.messages import Erased, read_erasure
from homeroom.telemetry import get_logger
from provider_gateway.inbox.storage import StoredUploads, is_id, received_at
from provider_gateway.inbox.store import StorageFailed
from provider_gateway.inbox.watching import Spools

GROUP = "provider-gateway.erasures"

log = get_logger(__name__)


class Erasures:
    """The handler of `erasures`; hearing one twice changes nothing."""

    def __init__(self, uploads: StoredUploads, spools: Spools) -> None:
        self._uploads = uploads
        self._spools = spools

    async def handle(self, messages: Sequence[Message]) -> None:
        """Erase files. Raises Reject for what can't be read, Retry while the storage is away."""
        for message in messages:
            erased = read_erasure(message)
            try:
                gone = await self._erase(erased)
            except (StorageFailed, OSError) as error:
                log.warning("files could not be erased, trying again", why=type(error).__name__)
                raise Retry from error
            log.info("files were erased", erasure_id=erased.erasure_id, integration_id=erased.integration_id, sets=gone)

    async def _erase(self, erased: Erased) -> int:
        """Erase what an integration sent before the erasure; how many sets and recordings that were."""
        if not is_id(erased.integration_id):
            return 0
        gone = 0
        for shelf in (self._uploads, self._uploads.received):
            for upload_id in await shelf.ids(erased.integration_id):
                if received_at(upload_id) <= erased.at:
                    await shelf.erase(erased.integration_id, upload_id)
                    gone += 1
        spool = self._spools.all().get(erased.integration_id)
        if spool is not None:
            await asyncio.to_thread(_erase_files, spool.incoming, erased.at)
            spool.settle()
        return gone


def _erase_files(folder: Path, at: datetime) -> None:
    """Remove what lies in an inbox and was last written before then; what is being written stays, it is newer."""
    for path in folder.rglob("*"):
        if path.is_file() and path.lstat().st_ctime <= at.timestamp():
            path.unlink(missing_ok=True)
