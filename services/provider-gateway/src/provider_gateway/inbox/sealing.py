"""How files become a set that nothing changes any more: taken aside, hashed, stored, announced.

A plan is written before the first file moves, so that a crash between any two steps ends with the same set under the
same id: whoever comes next (this process, or the one after it) goes on from the plan. Everything may be done twice.
What several processes could take up is locked by the one that does.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from homeroom.bus import Bus
from homeroom.clock import Clock
from homeroom.ids import new_id
from homeroom.messages import to_facts
from homeroom.telemetry import get_logger
from provider_gateway.inbox.folder import sync_folder
from provider_gateway.inbox.spool import Parts, Spool, Stamp
from provider_gateway.inbox.storage import Seal, StoredUploads, encode, hash_file
from provider_gateway.inbox.store import StoredFile

log = get_logger(__name__)


class _Planned(msgspec.Struct, frozen=True):
    """A file that is to be taken, and what it looked like when that was decided."""

    parts: Parts
    stamp: Stamp


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become a set. `files` is empty where they lie beside the plan already."""

    received_at: datetime
    via: Literal["sftp", "rest"]
    files: tuple[_Planned, ...] = ()


_read_plan = msgspec.json.Decoder(Plan).decode


class Sealer:
    """Seals what was taken aside, for one storage and one bus."""

    def __init__(self, uploads: StoredUploads, bus: Bus, clock: Clock) -> None:
        self._uploads = uploads
        self._bus = bus
        self._clock = clock

    def take(self, spool: Spool, files: Sequence[tuple[Parts, Stamp]]) -> str:
        """Take files out of an uploader's sight; returns the id of the set they will be.

        In one go, and only if every file still is what was looked at: raises `Changed` otherwise.
        """
        if not all(spool.is_as_seen(parts, stamp) for parts, stamp in files):
            raise Changed
        upload_id = str(new_id())
        folder = sealing_folder(spool.root) / upload_id
        (folder / "files").mkdir(mode=0o700, parents=True)
        plan = Plan(
            received_at=self._clock.now(), via="sftp", files=tuple(_Planned(parts, stamp) for parts, stamp in files)
        )
        write_plan(folder, plan)
        _move(spool, folder, plan)
        spool.settle()
        return upload_id

    def recover(self, spool: Spool) -> None:
        """Finish what a crash interrupted in `take`; to be called before an uploader is let in."""
        for folder in waiting(spool.root):
            plan = _load_plan(folder)
            if plan is None:
                shutil.rmtree(folder, ignore_errors=True)  # nothing was moved before there was a plan
            elif plan.files:
                _move(spool, folder, plan)
        spool.settle()

    async def finish(self, integration_id: str, folder: Path) -> Seal | None:
        """Store and announce what was taken aside; None where another process is about it, or it is done.

        Raises `StorageFailed` or what the bus raises; then it is to be tried again.
        """
        with locked_folder(folder) as mine:
            if not mine or (plan := _load_plan(folder)) is None:
                return None
            if not any((folder / "files").iterdir()):
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
                return None
            return await self.announce(integration_id, folder, plan)

    async def announce(self, integration_id: str, folder: Path, plan: Plan) -> Seal:
        """Store and announce a set whose folder the caller has locked; its folder is gone afterwards."""
        files = [
            StoredFile(path.name, *(await asyncio.to_thread(hash_file, path)))
            for path in sorted((folder / "files").iterdir())
        ]
        seal = Seal(
            upload_id=folder.name,
            integration_id=integration_id,
            received_at=plan.received_at,
            via=plan.via,
            files=tuple(files),
        )
        await self._uploads.keep(seal, folder / "files")
        await self._bus.publish(to_facts(seal.fact()))
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        log.info(
            "a set of files was sealed",
            integration_id=integration_id,
            upload_id=seal.upload_id,
            via=seal.via,
            files=len(files),
            bytes=seal.size,
        )
        return seal


class Changed(Exception):  # noqa: N818 - what happened; the inbox looks again
    """A file is no longer what it was when it was looked at."""


def sealing_folder(root: Path) -> Path:
    """Where an integration's files lie while they become sets."""
    return root / "sealing"


def waiting(root: Path) -> list[Path]:
    """The sets of an integration that are not announced yet, in the order they were taken."""
    folder = sealing_folder(root)
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def write_plan(folder: Path, plan: Plan) -> None:
    """Write a plan so that it is there in whole or not at all."""
    draft = folder / "plan.new"
    with draft.open("wb") as file:
        file.write(encode(plan))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / "plan.json")
    sync_folder(folder)
    sync_folder(folder.parent)


def _load_plan(folder: Path) -> Plan | None:
    try:
        return _read_plan((folder / "plan.json").read_bytes())
    except FileNotFoundError:
        return None


def _move(spool: Spool, folder: Path, plan: Plan) -> None:
    """Move the files of a plan that were not moved yet."""
    for planned in plan.files:
        target = folder / "files" / planned.parts[-1]
        if not target.exists() and spool.is_as_seen(planned.parts, planned.stamp):
            spool.locate(planned.parts).rename(target)
    sync_folder(folder / "files")


@contextmanager
def locked_folder(folder: Path) -> Iterator[bool]:
    """Hold a folder against other processes; whether it could be had, and is there at all."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
