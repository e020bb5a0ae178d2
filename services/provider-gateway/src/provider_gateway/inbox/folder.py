"""Uploads in a folder of this machine, or one that is mounted from elsewhere."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import TypeVar

from provider_gateway.inbox.store import StorageFailed, StoredFile

T = TypeVar("T")


class FolderStore:
    """Files are read where they lie."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def place(self, base: str, number: int, name: str) -> str:  # noqa: ARG002 - names are enough here
        """The files of a set lie in one folder by their names."""
        return f"{base}/files/{name}"

    async def put(self, name: str, content: bytes) -> None:
        """Keep a small text; readers see all of it or nothing."""
        await _work(_write, self._root / name, content)

    async def get(self, name: str) -> bytes | None:
        """A small text, if it is there."""
        return await _work(_read, self._root / name)

    async def keep(self, name: str, file: Path) -> None:
        """Keep a file: by a second name where that is possible, else as a copy."""
        await _work(_link, file, self._root / name)

    async def fetch(self, name: str, file: StoredFile, into: Path) -> Path:  # noqa: ARG002 - nothing is copied
        """Where the file lies. Only its size is compared, for reading it all twice would cost as much as the sync."""
        path = self._root / name
        size = await _work(_measure, path)
        if size != file.size:
            raise StorageFailed("a file is not as long as it was when it was received")
        return path

    async def folders(self, name: str) -> list[str]:
        """The names of the folders in a folder."""
        return await _work(_list_folders, self._root / name if name else self._root)

    async def erase(self, name: str) -> None:
        """Erase a folder, its seal first, so that nobody takes what is left for a set."""
        await _work(_erase, self._root / name)


async def _work(work: Callable[..., T], *args: object) -> T:
    """Do something with the disk, in a thread."""
    try:
        return await asyncio.to_thread(work, *args)
    except OSError as error:
        raise StorageFailed(f"the folder of uploads failed ({error.strerror or type(error).__name__})") from None


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{token_hex(4)}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _read(path: Path) -> bytes | None:
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return None


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; where the two are on different disks, copy it."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with source.open("rb") as file:
        os.fsync(file.fileno())
    with suppress(FileExistsError):
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}:
                raise
            _copy(source, target)
    sync_folder(target.parent)


def _copy(source: Path, target: Path) -> None:
    draft = target.with_name(f".{token_hex(4)}")
    try:
        shutil.copyfile(source, draft)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _measure(path: Path) -> int:
    return path.stat().st_size


def _list_folders(path: Path) -> list[str]:
    try:
        with os.scandir(path) as found:
            return [one.name for one in found if one.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _erase(path: Path) -> None:
    (path / "seal.json").unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        shutil.rmtree(path)


def sync_folder(path: Path) -> None:
    """Let names that were given or taken in a folder outlive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
