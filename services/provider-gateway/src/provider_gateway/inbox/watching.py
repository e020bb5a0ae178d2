"""Watches the inbox: what lies there, whether it is complete, and what to do about it."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from homeroom.bus import BusError
from homeroom.clock import Clock
from homeroom.connections import UPLOADED
from homeroom.telemetry import explain_error, get_logger
from provider_gateway.inbox import sets
from provider_gateway.inbox.accounts import Directory
from provider_gateway.inbox.sealing import Changed, Sealer, waiting
from provider_gateway.inbox.sets import Ready, Rules, Seen, Waiting
from provider_gateway.inbox.spool import Parts, Spool, Stamp
from provider_gateway.inbox.storage import Expected, StoredUploads, is_id
from provider_gateway.inbox.store import StorageFailed

_END_OF_ZIP: Final = b"PK\x05\x06"
_END_OF_ZIP64: Final = b"PK\x06\x06"
_ENTRY: Final = b"PK\x01\x02"
_TAIL_BYTES: Final = 66_000
_RETRY_SECONDS: Final = 5.0
_TELL_SECONDS: Final = 60.0
_NEVER: Final = datetime.min.replace(tzinfo=UTC)

log = get_logger(__name__)


class Spools:
    """The corners of all integrations, made when they are first needed."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._spools: dict[str, Spool] = {}

    def of(self, integration_id: str) -> Spool:
        """An integration's corner."""
        spool = self._spools.get(integration_id)
        if spool is None:
            spool = self._spools[integration_id] = Spool(self._root / integration_id, self._max_bytes)
        return spool

    def all(self) -> dict[str, Spool]:
        """Every corner there is on the disk."""
        for path in self._root.iterdir():
            if path.is_dir() and path.name not in self._spools and is_id(path.name):
                self.of(path.name)
        return dict(self._spools)


class Watcher:
    """Looks at every corner again and again, seals what is complete, and says what is missing."""

    def __init__(
        self,
        *,
        spools: Spools,
        directory: Directory,
        sealer: Sealer,
        uploads: StoredUploads,
        clock: Clock,
        rules: Rules,
    ) -> None:
        self._spools = spools
        self._directory = directory
        self._sealer = sealer
        self._uploads = uploads
        self._clock = clock
        self._rules = rules
        self._opens: dict[tuple[str, Parts], tuple[Stamp, bool]] = {}
        self._told: dict[str, tuple[tuple[Expected, ...], float]] = {}
        self._not_before: dict[str, float] = {}

    def recover(self) -> None:
        """Finish what an earlier process was about, before anybody is let in."""
        for spool in self._spools.all().values():
            self._sealer.recover(spool)

    async def run(self) -> None:
        """Look until cancelled; somebody's trouble never keeps the others waiting."""
        pause = min(2.0, max(0.05, self._rules.rest.total_seconds() / 4))
        while True:
            for integration_id, spool in self._spools.all().items():
                if self._clock.monotonic() < self._not_before.get(integration_id, 0.0):
                    continue
                try:
                    await self.look(integration_id, spool)
                except (StorageFailed, BusError, OSError) as error:
                    self._not_before[integration_id] = self._clock.monotonic() + _RETRY_SECONDS
                    log.warning(
                        "an inbox has to wait",
                        integration_id=integration_id,
                        why=str(error),
                        error=explain_error(error),
                    )
            await asyncio.sleep(pause)

    async def look(self, integration_id: str, spool: Spool) -> None:
        """Look at one corner: announce what was taken aside, take what is complete, note what is not."""
        await self._finish(integration_id, spool)
        state = self._directory.find(integration_id)
        if state is None or state.state != "active" or state.provider not in UPLOADED:
            return
        expected: list[Expected] = []
        for folder, files in sorted(spool.look(self._clock.monotonic()).items()):
            verdict = sets.decide(
                [await self._look_into(integration_id, spool, folder, *file) for file in files],
                await self._read_manifest(spool, folder, files),
                self._clock.now(),
                self._rules,
            )
            match verdict:
                case Ready():
                    stamps = {one.name: stamp for one, stamp in files}
                    with suppress(Changed):
                        self._sealer.take(spool, [((*folder, name), stamps[name]) for name in verdict.names])
                case Waiting():
                    expected.append(_expect("/".join(folder), verdict))
        await self._finish(integration_id, spool)
        await self._tell(integration_id, tuple(expected))

    async def _finish(self, integration_id: str, spool: Spool) -> None:
        """Announce in the order in which sets were taken; one that fails holds up those behind it."""
        for folder in waiting(spool.root):
            await self._sealer.finish(integration_id, folder)

    async def _look_into(self, integration_id: str, spool: Spool, folder: Parts, file: Seen, stamp: Stamp) -> Seen:
        """A zip at rest is looked into once."""
        if not sets.is_zip(file.name) or file.writing or file.unchanged < self._rules.rest:
            return file
        key = integration_id, (*folder, file.name)
        known = self._opens.get(key)
        if known is None or known[0] != stamp:
            path = spool.locate((*folder, file.name))
            known = self._opens[key] = (stamp, await asyncio.to_thread(opens, path))
            if len(self._opens) > 10_000:  # noqa: PLR2004 - more than any inbox holds; it is only a memory
                self._opens.clear()
        return Seen(file.name, file.size, file.arrived, file.unchanged, file.writing, known[1])

    async def _read_manifest(
        self, spool: Spool, folder: Parts, files: list[tuple[Seen, Stamp]]
    ) -> frozenset[str] | None:
        named = [one for one, _ in files if sets.is_manifest(one.name)]
        if not named:
            return None
        content = await asyncio.to_thread(_read_head, spool.locate((*folder, named[0].name)))
        return sets.read_manifest(content)

    async def _tell(self, integration_id: str, expected: tuple[Expected, ...]) -> None:
        """Note what is waited for, for whoever asks; while files arrive, not with each of their bytes."""
        told, at = self._told.get(integration_id, (None, 0.0))
        if told is None:  # an earlier process may have said something
            told = await self._uploads.expected(integration_id)
        moved = told != expected and self._clock.monotonic() - at > _TELL_SECONDS
        if _without_times(told) == _without_times(expected) and not moved:
            self._told.setdefault(integration_id, (told, at))
            return
        await self._uploads.note(integration_id, expected)
        self._told[integration_id] = (expected, self._clock.monotonic())
        for one in expected:
            if one.overdue:
                log.warning(
                    "a set of files is incomplete for long",
                    integration_id=integration_id,
                    why=one.why,
                    files=list(one.files),
                )


def _without_times(expected: tuple[Expected, ...]) -> list[Expected]:
    return [msgspec.structs.replace(one, since=_NEVER) for one in expected]


def _expect(folder: str, verdict: Waiting) -> Expected:
    return Expected(
        folder=folder,
        why=verdict.why,
        files=verdict.files,
        present=verdict.present,
        since=verdict.since,
        overdue=verdict.overdue,
    )


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(sets.MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        return b""


def opens(path: Path) -> bool:
    """Whether a zip is all there: its directory, which comes last, lies where it should. Reads only the file's end."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start = max(0, size - _TAIL_BYTES)
            file.seek(start)
            tail = file.read(_TAIL_BYTES)
            at = tail.rfind(_END_OF_ZIP)
            if at < 0 or len(tail) - at < 22:  # noqa: PLR2004 - the size of the record (APPNOTE 4.3.16)
                return False
            count, length, offset = struct.unpack_from("<HII", tail, at + 10)
            if 0xFFFFFFFF in {length, offset} or count == 0xFFFF:  # noqa: PLR2004 - "see the other record" (4.4.1.4)
                return _END_OF_ZIP64 in tail[:at]
            if offset + length > start + at:
                return False
            file.seek(start + at - length)
            return length == 0 or file.read(4) == _ENTRY
    except OSError:
        return False
