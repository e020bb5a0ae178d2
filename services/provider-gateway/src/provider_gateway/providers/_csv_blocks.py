"""A file's bytes, cut into blocks of whole lines, with no line beyond all size ever held (reliability facts C3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

BLOCK_BYTES: Final = 256 * 1024
MAX_LINE: Final = 1_000_000
"""Bytes; what is longer is a damaged row, of which only the beginning is looked at."""
MAX_HEADER: Final = 65_536
"""Bytes of a header row."""
_KEPT_OF_LINE: Final = 4_096


class Stream(Protocol):
    """Gives a file's bytes one after the other."""

    def read(self, size: int) -> bytes:
        """At least one byte, unless the file has ended."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines of a file in their order."""

    body: bytes
    endless: bool = False
    """Whether it is the beginning of one line that is too long to be a row."""
    open_end: bool = False
    """Whether the file ends with it and without a line end, as a file does that was cut off."""


def read_first_line(stream: Stream) -> bytes:
    """A file's first line with its end, if it has one; no more than so much of it as a header may have."""
    line = b""
    while len(line) <= MAX_HEADER and (chunk := stream.read(MAX_HEADER)):
        line += chunk
        if end := line.find(b"\n") + 1:
            return line[:end]
    return line


def cut_blocks(stream: Stream, size: int = BLOCK_BYTES, *, skip_first: bool = False) -> Iterator[Block]:
    """Cut a stream into blocks of about so many bytes, with its first line or without."""
    chunk = _skip_line(stream, size) if skip_first else b""
    pending: list[bytes] = []
    held = 0
    while chunk or (chunk := stream.read(size)):
        end = chunk.rfind(b"\n") + 1
        if end:
            yield Block(b"".join([*pending, chunk[:end]]))
            pending, held, chunk = [], 0, chunk[end:]
        if chunk:
            pending.append(chunk)
            held += len(chunk)
            chunk = b""
        if held > MAX_LINE:
            yield Block(b"".join(pending)[:_KEPT_OF_LINE], endless=True)
            pending, held, chunk = [], 0, _skip_line(stream, size)
    if held:
        yield Block(b"".join(pending), open_end=True)


def _skip_line(stream: Stream, size: int) -> bytes:
    """Read to the end of a line; what was read beyond it."""
    while chunk := stream.read(size):
        if end := chunk.find(b"\n") + 1:
            return chunk[end:]
    return b""
