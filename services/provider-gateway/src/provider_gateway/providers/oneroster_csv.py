"""OneRoster CSV sets, 1.1 and 1.2, bulk or delta, as districts upload them (docs/providers/oneroster-csv.md)."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from homeroom.codes import Code
from homeroom.connections import CsvConnection
from homeroom.messages import Finding, Mode
from homeroom.roster import COLLECTIONS
from provider_gateway.failures import ProviderError, RecordProblem
from provider_gateway.providers._csv_blocks import Block, cut_blocks
from provider_gateway.providers._csv_manifest import Part
from provider_gateway.providers._csv_package import MAX_BYTES, Package
from provider_gateway.providers._csv_reading import Directions, ReadBlock, read_block, set_down_block
from provider_gateway.providers._csv_roles import collect_roles
from provider_gateway.providers._csv_set import CsvSet, check_first, check_turn, make_state, open_set
from provider_gateway.providers.contract import Opening, Page, Proof, Seen, Source
from provider_gateway.scope import Scope

_SMALL_SET: Final = 2_000_000
"""Bytes; a set of no more is read in the worker itself, handing it over would take longer."""
_BLOCKS_TO_A_PAGE: Final = 2
"""Blocks come faster than a provider's pages, so more of them are on their way at once."""


class OneRosterCsv:
    """Declares the provider and opens sets of files."""

    kind = "oneroster-csv"
    title = "OneRoster CSV over SFTP"
    connection_model = CsvConnection
    capabilities: Mapping[str, Any] = {
        "collections": list(COLLECTIONS),
        "modes": ["full", "delta"],
        "states_counts": False,
        "single_records": False,
        "single_classes": False,
        "uploads": True,
    }

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        """Take how many bytes the files of a set may come to, unpacked."""
        self._max_bytes = max_bytes

    @asynccontextmanager
    async def open(self, opening: Opening) -> AsyncIterator[Source]:
        """Look at the set: what is in it, whether it is safe, and whether its turn has come."""
        if opening.upload is None:
            raise ProviderError(Code.UPLOAD_MISSING, "No complete set of files was received yet.")
        into = opening.workspace / "set"
        await asyncio.to_thread(into.mkdir)
        path = await opening.uploads.fetch(opening.integration_id, opening.upload.id, into)
        files = await asyncio.to_thread(open_set, path, opening.options, self._max_bytes)
        digest = asyncio.create_task(asyncio.to_thread(files.package.digest))
        try:
            district = _District(opening, files, digest)
            await district.check_turn()
            yield district
        finally:
            digest.cancel()
            await asyncio.gather(digest, return_exceptions=True)


class _District:
    """One set of files."""

    mode_code: Code | None = None
    increments = False

    def __init__(self, opening: Opening, files: CsvSet, digest: asyncio.Task[str]) -> None:
        assert opening.upload is not None  # noqa: S101 - `open` has seen to it
        self._opening = opening
        self._upload = opening.upload
        self._files = files
        self._digest = digest
        self._state = opening.bookmark.state if opening.bookmark else {}
        self._made_at = files.package.find_age(opening.upload.received_at)
        self._in_workers = files.package.size > _SMALL_SET
        self._doubtful: set[str] = set()
        self._open: set[str] = set()
        """Collections whose file ends without a line end: by the exporter's habit, or because it was cut off."""
        self._told_unnamed = False
        self.collections = tuple(name for name in COLLECTIONS if name in files.parts)
        self.mode: Mode = "full" if files.is_whole else "delta"
        self.refused_schools: dict[str, str] = {}

    async def check_turn(self) -> None:
        """Refuse a set that is older than what was applied, or that builds on one that was not."""
        code = check_turn(self._files, self._state, self._upload.number, self._made_at)
        if code is not None and (code is Code.OPTIONS_NEED_BULK or await self._digest != self._state.get("digest")):
            raise ProviderError(code, code.entry.cause)

    async def pages(self, collection: str, scope: Scope) -> AsyncGenerator[Page, None]:
        """All pages of a collection in order; each is a block of its file."""
        habit = not self._state or collection in self._state.get("open", ())
        directions = Directions(self._files.layouts[collection], open_end=habit)
        notes: list[RecordProblem] = []
        if collection == "users" and "roles" in self._files.layouts:
            directions, notes = await self._collect_roles(directions)
        reading = _BlockReader(self._files.package, collection)
        waiting: deque[asyncio.Task[ReadBlock]] = deque()
        most = _BLOCKS_TO_A_PAGE * self._opening.pages_in_flight if self._in_workers else 1
        first = True
        number = 0
        try:
            ended = False
            while True:
                while not ended and len(waiting) < (1 if first else most):
                    block = await reading.next()
                    ended = block is None
                    if block is not None:
                        self._note_end(collection, block)
                        slot = self._opening.workspace / f"{collection}-{number % (most + 1)}"
                        number += 1
                        waiting.append(asyncio.create_task(self._read(directions, block, scope, slot)))
                if not waiting:
                    return
                page, doubtful = await waiting[0]
                waiting.popleft()
                if doubtful:
                    self._doubtful.add(collection)
                if scope.masked is None and page.masked is not None:
                    scope = replace(scope, masked=page.masked)
                if first:
                    page = replace(page, notes=[*notes, *page.notes])
                first = False
                yield self._tell_unnamed_once(page)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await reading.close()

    def _note_end(self, collection: str, block: Block) -> None:
        if block.open_end:
            self._open.add(collection)
            if collection not in self._state.get("open", ()):
                self._doubtful.add(collection)

    async def _read(self, directions: Directions, block: Block, scope: Scope, slot: Path) -> ReadBlock:
        if self._in_workers:
            return await self._opening.readers.run(set_down_block, directions, block, scope, slot)
        return read_block(directions, block, scope)

    async def _collect_roles(self, directions: Directions) -> tuple[Directions, list[RecordProblem]]:
        database = self._opening.workspace / "roles.sqlite"
        run = self._opening.readers.run if self._in_workers else asyncio.to_thread
        collected = await run(collect_roles, self._files.package, self._files.layouts["roles"], database)
        notes = [RecordProblem(Code.CSV_ROW, field="roles")] * bool(collected.unread)
        return replace(directions, roles=database), notes

    def _tell_unnamed_once(self, page: Page) -> Page:
        """Enrollments that were given an id are told of once, not with every block."""
        if not any(note.code is Code.RECORD_NO_ID for note in page.notes):
            return page
        notes = [note for note in page.notes if note.code is not Code.RECORD_NO_ID or not self._told_unnamed]
        self._told_unnamed = True
        return replace(page, notes=notes)

    def proof(self, collection: str) -> Proof:
        """A bulk file is everything, unless something in it could not be told apart, or it may have been cut off.

        A file without a last line end may be an exporter's habit; until it was seen twice, nobody is gone by it.
        """
        if self._files.parts[collection] is not Part.BULK:
            return Proof.CHANGES
        return Proof.COUNTS if collection in self._doubtful else Proof.WHOLE

    async def find(self, collection: str, sourced_id: str, scope: Scope) -> Page | None:  # noqa: ARG002 - there is nobody to ask
        """Files can't be asked; only looked for where a damaged file proves nothing."""
        raise ProviderError(Code.CSV_ROW, f"{collection}.csv is damaged, so that nobody's absence means anything.")

    async def finish(self, seen: Mapping[str, Seen]) -> dict[str, Any]:  # noqa: ARG002 - nothing is checked with it
        """The number, age and digest of the set, for the next one to be compared with."""
        check_first(self._files, self._state)
        state = make_state(self._state, self._upload.number, self._made_at, await self._digest)
        read = {name for name, part in self._files.parts.items() if part is Part.BULK}
        return state | {"open": sorted(self._open | (set(self._state.get("open", ())) - read))}

    async def remark(self) -> Sequence[Finding]:
        """What is in the set."""
        return self._files.remark()


class _BlockReader:
    """A file's blocks, read in a thread one at a time."""

    def __init__(self, package: Package, collection: str) -> None:
        self._stack = ExitStack()
        self._package = package
        self._collection = collection
        self._blocks: Iterator[Block] | None = None
        self._turn = threading.Lock()
        """A thread goes on reading when nobody waits for it any more."""

    async def next(self) -> Block | None:
        """The next block; None at the end."""
        return await asyncio.to_thread(self._next)

    async def close(self) -> None:
        """Close the file."""
        await asyncio.to_thread(self._close)

    def _next(self) -> Block | None:
        with self._turn:
            if self._blocks is None:
                stream = self._stack.enter_context(self._package.open(self._collection))
                self._blocks = cut_blocks(stream, skip_first=True)
            return next(self._blocks, None)

    def _close(self) -> None:
        with self._turn:
            self._stack.close()
