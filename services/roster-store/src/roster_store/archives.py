"""Zip archives of CSV files, written while they are read: never whole in memory nor on disk, whatever their size."""

from __future__ import annotations

import asyncio
import csv
import io
import zipfile
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from homeroom.codes import Code
from homeroom.problems import Problem

ARCHIVE_SECONDS = 1_800.0
MOST_ARCHIVES = 2
"""At once in a process: each takes one of its connections for as long as its reader takes."""
LARGE_ROWS = 250_000
"""From so many rows on a file may pass the 2 GiB that a zip's first format can say of it."""
_PIECE_BYTES = 65_536

Row = Sequence[object]


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive: its header, then what `render` makes of each batch of records."""

    name: str
    header: Row
    batches: AsyncIterable[Sequence[Any]]
    render: Callable[[Sequence[Any]], Iterable[Row]]
    large: bool = False


class _Outlet(io.RawIOBase):
    """What a zip is written to: it keeps the bytes until they are taken, and can't go back."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[bytes] = []
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._held.append(piece)
        self.size += len(piece)
        return len(piece)

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = b"".join(self._held)
        self._held.clear()
        self.size = 0
        return taken


async def write_archive(entries: AsyncIterator[Entry], made_at: datetime) -> AsyncGenerator[bytes]:
    """The bytes of a zip, piece by piece; CSV by RFC 4180, in UTF-8. Raises TimeoutError if it takes too long."""
    deadline = asyncio.get_running_loop().time() + ARCHIVE_SECONDS
    outlet = _Outlet()
    with zipfile.ZipFile(outlet, "w", zipfile.ZIP_DEFLATED) as archive:
        async for entry in entries:
            info = zipfile.ZipInfo(entry.name, date_time=made_at.timetuple()[:6])
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=entry.large) as file:
                file.write(_render([entry.header]))
                async for batch in entry.batches:
                    await asyncio.to_thread(_write, file, entry.render, batch)
                    if outlet.size >= _PIECE_BYTES:
                        yield outlet.take()
                    if asyncio.get_running_loop().time() > deadline:
                        msg = "an archive takes too long"
                        raise TimeoutError(msg)  # breaks the answer off, which its reader notices
    yield outlet.take()


def _write(file: Any, render: Callable[[Sequence[Any]], Iterable[Row]], batch: Sequence[Any]) -> None:
    file.write(_render(render(batch)))


def _render(rows: Iterable[Row]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


class Archive(StreamingResponse):
    """A zip as an answer, whose connection is given back however the answer ends."""

    def __init__(self, stack: AsyncExitStack, parts: AsyncIterator[bytes], name: str, headers: dict[str, str]) -> None:
        super().__init__(
            parts,
            media_type="application/zip",
            headers={"Content-Disposition": f'attachment; filename="{name}"', **headers},
        )
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the archive."""
        async with self._stack:
            await super().__call__(scope, receive, send)


_open = 0


@contextmanager
def take_place() -> Iterator[None]:
    """A place among the archives that are written at once. Raises `Problem` BUSY if there is none."""
    global _open  # noqa: PLW0603 - a number for the whole process, as its connections are
    if _open >= MOST_ARCHIVES:
        raise Problem(
            Code.BUSY, status=503, detail="Others are exporting; try again soon.", headers={"Retry-After": "30"}
        )
    _open += 1
    try:
        yield
    finally:
        _open -= 1
