"""What changed, on its way to the store: records into chunks, chunks onto the bus, and never too many at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeroom.bus import Bus, Outgoing
from homeroom.codes import Code
from homeroom.faultpoints import faultpoint
from homeroom.messages import (
    MAX_CHUNK_RECORDS,
    MAX_REPORTED_ISSUES,
    Bookmark,
    Chunk,
    CollectionReport,
    FetchAbandoned,
    FetchCompleted,
    FetchStarted,
    Mode,
    RecordIssue,
    RemovalReason,
    RosterChange,
    SyncJob,
    to_changes,
)
from homeroom.rules import MAX_RECORD_BYTES
from homeroom.telemetry import inject_headers
from provider_gateway.canonical import FINGERPRINT_BYTES, Canonical
from provider_gateway.comparer import KEY_BYTES

_MOST_ISSUE_BYTES = 500_000


@dataclass(slots=True)
class _Pile:
    """Records of one collection that wait for their chunk to be full."""

    runs: list[bytes] = field(default_factory=list)
    """Canonical records, with commas between those of a run."""
    fingerprints: list[bytes] = field(default_factory=list)
    records: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a fetch came to beside its records and counts; see `FetchCompleted`."""

    mode: Mode
    mode_code: Code | None
    bookmark: Bookmark | None
    refused_schools: dict[str, str]
    duplicates: bool


class Publisher:
    """Publishes one fetch."""

    def __init__(self, bus: Bus, job: SyncJob, fetch_id: str, *, in_flight: int) -> None:
        self._bus = bus
        self._job = job
        self._fetch_id = fetch_id
        self._in_flight = in_flight
        self._outstanding: deque[Awaitable[None]] = deque()
        self._piles: dict[str, _Pile] = {}
        self._headers = inject_headers()
        self.chunks = 0
        self.started = False

    async def start(self, basis: int) -> None:
        """Say that the fetch begins; durable on return."""
        job = self._job
        self.started = True
        await self._publish(
            FetchStarted(
                run_id=job.run_id,
                run_number=job.run_number,
                attempt=job.attempt,
                fetch_id=self._fetch_id,
                integration_id=job.integration_id,
                organization_id=job.organization_id,
                basis=basis,
                provider=job.provider,
                terms=job.terms,
            )
        )

    async def put(self, collection: str, canonical: Canonical, chosen: NDArray[np.intp]) -> None:
        """Add some of a page's records to what is published; neighbours are taken as one piece."""
        fingerprints = canonical.fingerprints.astype(">i8").tobytes()
        for run in np.split(chosen, np.nonzero(np.diff(chosen) != 1)[0] + 1):
            first, last = int(run[0]), int(run[-1]) + 1
            while first < last:
                pile = self._piles.setdefault(collection, _Pile())
                most = canonical.start(first) + MAX_RECORD_BYTES - pile.size
                fitting = int(np.searchsorted(canonical.ends, most, side="right"))
                until = min(last, first + MAX_CHUNK_RECORDS - pile.records, fitting)
                if until <= first:
                    await self._send_pile(collection)
                    continue
                piece = canonical.run(first, until)
                pile.runs.append(piece)
                pile.fingerprints.append(fingerprints[first * FINGERPRINT_BYTES : until * FINGERPRINT_BYTES])
                pile.records += until - first
                pile.size += len(piece) + 1
                first = until

    async def remove(self, collection: str, keys: bytes, reason: RemovalReason) -> None:
        """Publish that records are gone."""
        step = MAX_CHUNK_RECORDS * KEY_BYTES
        for start in range(0, len(keys), step):
            await self._send(
                Chunk(
                    fetch_id=self._fetch_id,
                    integration_id=self._job.integration_id,
                    seq=self.chunks,
                    collection=collection,
                    removed_keys=keys[start : start + step],
                    removal_reason=reason,
                )
            )

    async def flush(self, collection: str) -> None:
        """Send what waits for a fuller chunk."""
        if collection in self._piles:
            await self._send_pile(collection)

    async def settle(self) -> None:
        """Send what is left, and wait until every chunk is durable."""
        for collection in tuple(self._piles):
            await self._send_pile(collection)
        while self._outstanding:
            await self._outstanding.popleft()

    async def complete(
        self, reports: dict[str, CollectionReport], issues: Sequence[RecordIssue], result: Result
    ) -> None:
        """Say that the picture is whole, once it is settled; durable on return."""
        job = self._job
        await self._publish(
            FetchCompleted(
                run_id=job.run_id,
                run_number=job.run_number,
                attempt=job.attempt,
                fetch_id=self._fetch_id,
                integration_id=job.integration_id,
                chunks=self.chunks,
                collections=reports,
                issues=reportable(issues),
                mode=result.mode,
                mode_code=result.mode_code,
                bookmark=result.bookmark,
                refused_schools=result.refused_schools,
                duplicates=result.duplicates,
            )
        )

    async def abandon(self, message: FetchAbandoned) -> None:
        """Say that nothing comes any more, if anything came."""
        if self._outstanding:
            await asyncio.gather(*self._outstanding, return_exceptions=True)
            self._outstanding.clear()
        if self.started:
            await self._publish(message)

    async def _send_pile(self, collection: str) -> None:
        pile = self._piles.pop(collection)
        await self._send(
            Chunk(
                fetch_id=self._fetch_id,
                integration_id=self._job.integration_id,
                seq=self.chunks,
                collection=collection,
                records=msgspec.Raw(b"[" + b",".join(pile.runs) + b"]"),
                fingerprints=b"".join(pile.fingerprints),
            )
        )

    async def _send(self, chunk: Chunk) -> None:
        self.chunks += 1  # taken before anything is waited for: collections are fetched side by side
        while len(self._outstanding) >= self._in_flight:
            await self._outstanding.popleft()
        self._outstanding.append(await self._bus.send(self._with_trace(chunk)))
        faultpoint("gateway.chunk-sent")

    async def _publish(self, change: RosterChange) -> None:
        await self._bus.publish(self._with_trace(change))

    def _with_trace(self, change: RosterChange) -> Outgoing:
        message = to_changes(change)
        return Outgoing(message.topic, message.key, message.value, self._headers)


def reportable(issues: Sequence[RecordIssue]) -> tuple[RecordIssue, ...]:
    """As many issues as a message can carry."""
    chosen: list[RecordIssue] = []
    size = 0
    for issue in issues[:MAX_REPORTED_ISSUES]:
        size += len(msgspec.json.encode(issue))
        if size > _MOST_ISSUE_BYTES:
            break
        chosen.append(issue)
    return tuple(chosen)
