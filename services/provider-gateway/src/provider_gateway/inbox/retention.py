"""How long uploads are kept: they hold whole rosters, so no longer than they are of use."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from homeroom.clock import Clock
from homeroom.telemetry import get_logger
from provider_gateway.inbox.accounts import Directory
from provider_gateway.inbox.sealing import locked_folder
from provider_gateway.inbox.storage import StoredUploads, received_at
from provider_gateway.inbox.store import StorageFailed
from provider_gateway.inbox.watching import Spools

ROUND_SECONDS = 3_600.0

log = get_logger(__name__)


def choose(upload_ids: Sequence[str], now: datetime, keep: timedelta, *, deleted: bool) -> list[str]:
    """The uploads of one integration that are to be erased: the old ones, but for the newest while it may be needed.

    Args:
        upload_ids: all of the integration's, in any order.
        now: the time.
        keep: how long they are kept.
        deleted: whether the integration is; then nobody needs its newest upload either.
    """
    newest_first = sorted(upload_ids, reverse=True)
    spared = 0 if deleted else 1
    return [one for one in newest_first[spared:] if now - received_at(one) > keep]


class Retention:
    """Erases what is too old, every hour."""

    def __init__(
        self, uploads: StoredUploads, spools: Spools, directory: Directory, clock: Clock, keep: timedelta
    ) -> None:
        self._uploads = uploads
        self._spools = spools
        self._directory = directory
        self._clock = clock
        self._keep = keep

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self.sweep()
            except (StorageFailed, OSError) as error:
                log.warning("old uploads could not be erased, trying again later", why=str(error))
            await asyncio.sleep(ROUND_SECONDS)

    async def sweep(self) -> None:
        """Erase what is too old, in the storage and in the inboxes of deleted integrations."""
        now = self._clock.now()
        for integration_id in await self._uploads.integrations():
            ids = await self._uploads.ids(integration_id)
            for upload_id in choose(ids, now, self._keep, deleted=self._is_deleted(integration_id)):
                await self._uploads.erase(integration_id, upload_id)
                log.info("an old upload was erased", integration_id=integration_id, upload_id=upload_id)
        received = self._uploads.received
        for integration_id in await received.integrations():
            for run_id in await received.ids(integration_id):
                if now - received_at(run_id) > self._keep:
                    await received.erase(integration_id, run_id)
                    log.info("what a run received was erased", integration_id=integration_id, run_id=run_id)
        for integration_id, spool in self._spools.all().items():
            await asyncio.to_thread(_sweep_posted, spool.root / "posted")
            if self._is_deleted(integration_id):
                await asyncio.to_thread(_sweep_files, spool.incoming, self._keep)
                spool.settle()

    def _is_deleted(self, integration_id: str) -> bool:
        state = self._directory.find(integration_id)
        return state is not None and state.state == "deleted"


def _sweep_posted(folder: Path) -> None:
    """Remove what is left of uploads whose process died; those under way are locked."""
    for draft in folder.iterdir() if folder.is_dir() else ():
        with locked_folder(draft) as mine:
            if mine:
                shutil.rmtree(draft, ignore_errors=True)


def _sweep_files(folder: Path, keep: timedelta) -> None:
    oldest = time.time() - keep.total_seconds()
    for path in folder.rglob("*"):
        if path.is_file() and path.lstat().st_ctime < oldest:
            path.unlink(missing_ok=True)
