"""What keeps files: the storage of uploads does not know which, a folder or a bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec


class StoredFile(msgspec.Struct, frozen=True, rename="camel"):
    """One file of a set."""

    name: str
    size: int
    sha256: str


class StorageFailed(Exception):  # noqa: N818 - a state rather than a mistake
    """The storage did not do what it was asked to; the text holds no address and no key."""


class Store(Protocol):
    """A place where files lie under names with slashes. All of it raises `StorageFailed`."""

    async def put(self, name: str, content: bytes) -> None:
        """Keep a small text, in one go."""

    async def get(self, name: str) -> bytes | None:
        """A small text, if it is there."""

    def place(self, base: str, number: int, name: str) -> str:
        """What the file of a set is called here."""

    async def keep(self, name: str, file: Path) -> None:
        """Keep a file as it is now; it may be kept already."""

    async def fetch(self, name: str, file: StoredFile, into: Path) -> Path:
        """A file on this machine, copied to `into` if it has to be. Raises `StorageFailed` if it is another one."""

    async def folders(self, name: str) -> list[str]:
        """The names of the folders in a folder ("" is all of it)."""

    async def erase(self, name: str) -> None:
        """Erase a folder and all in it."""
