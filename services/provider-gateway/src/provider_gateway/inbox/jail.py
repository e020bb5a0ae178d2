"""What an uploader sees of the inbox: the file operations of SFTP, on one integration's corner of the disk."""

# ruff: noqa: ARG002 - the protocol's methods have their arguments, whether we need them or not
from __future__ import annotations

import asyncio
import errno
import os
import posixpath
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import asyncssh
from asyncssh.constants import FXF_APPEND, FXF_CREAT, FXF_EXCL, FXF_READ, FXF_TRUNC, FXF_WRITE

from provider_gateway.inbox.spool import Handle, Parts, Spool

_MAX_READ_BYTES = 256 * 1024
_MAX_HANDLES = 32


class Jail(asyncssh.SFTPServer):
    """An uploader's view: a small tree of folders that begins at `/`, and nothing else of this machine."""

    def __init__(self, channel: Any, spool: Spool, touch: Callable[[], object]) -> None:
        super().__init__(channel)
        self._spool = spool
        self._touch = touch
        self._open = 0
        self.broken = False
        """Whether the connection ended without closing what is closed now."""

    # ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Handle:
        """Open a file for reading or writing, or both."""
        with self._doing():
            if self._open >= _MAX_HANDLES:
                raise OSError(errno.EMFILE, "too many files are open")
            handle = self._spool.open(_parts(path), _flags(pflags))
            self._open += 1
            return handle

    def open56(self, path: bytes, desired_access: int, flags: int, attrs: asyncssh.SFTPAttrs) -> Handle:
        """Versions 5 and 6 of the protocol are not offered."""
        raise asyncssh.SFTPOpUnsupported("Only version 3 of the protocol is served")

    def close(self, file_obj: object) -> None:
        """Close a file."""
        if isinstance(file_obj, Handle):
            with self._doing():
                self._open -= 1
                self._spool.close(file_obj, finished=not self.broken)

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Read from a file of one's own, to compare or to resume."""
        handle = _handle(file_obj)
        with self._doing():
            return await asyncio.to_thread(os.pread, handle.descriptor, min(size, _MAX_READ_BYTES), offset)

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Write to a file."""
        handle = _handle(file_obj)
        with self._doing():
            self._spool.reserve(handle, offset, len(data))
            return await asyncio.to_thread(_write_all, handle.descriptor, data, offset)

    async def fsync(self, file_obj: object) -> None:
        """Have a file's bytes on the disk."""
        handle = _handle(file_obj)
        with self._doing():
            await asyncio.to_thread(os.fsync, handle.descriptor)

    def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
        """An open file's size and times."""
        with self._doing():
            return _attributes(os.fstat(_handle(file_obj).descriptor))

    def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> None:
        """Set an open file's size or times; owners and modes are taken and ignored."""
        handle = _handle(file_obj)
        with self._doing():
            if attrs.size is not None:
                self._spool.reserve(handle, 0, attrs.size)
                os.ftruncate(handle.descriptor, attrs.size)
            if attrs.mtime is not None and not handle.gone:
                self._spool.touch(handle.parts, attrs.atime or attrs.mtime, attrs.mtime)

    # ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """A file's or folder's size, kind and times."""
        with self._doing():
            return _attributes(self._spool.stat(_parts(path)))

    def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """The same: there are no links."""
        return self.stat(path)

    def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Set a file's size or times; owners and modes are taken and ignored."""
        with self._doing():
            parts = _parts(path)
            if attrs.size is not None:
                self._spool.truncate(parts, attrs.size)
            if attrs.mtime is not None:
                self._spool.touch(parts, attrs.atime or attrs.mtime, attrs.mtime)
            self._spool.stat(parts)

    def lsetstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """The same: there are no links."""
        self.setstat(path, attrs)

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        """What lies in a folder."""
        with self._doing():
            parts = _parts(path)
            found = self._spool.entries(parts)
            above = (self._spool.stat(parts), self._spool.stat(parts[:-1]))
        for name, about in (*zip((".", ".."), above, strict=True), *found):
            yield asyncssh.SFTPName(name.encode(), attrs=_attributes(about))

    def realpath(self, path: bytes) -> bytes:
        """A path as it is from the root."""
        return b"/" + "/".join(_parts(path)).encode()

    def remove(self, path: bytes) -> None:
        """Remove a file."""
        with self._doing():
            self._spool.remove(_parts(path))

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename a file to a name that nothing has."""
        with self._doing():
            self._spool.rename(_parts(oldpath), _parts(newpath), replace=False)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename a file, in the place of another one if there is one."""
        with self._doing():
            self._spool.rename(_parts(oldpath), _parts(newpath), replace=True)

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Make a folder."""
        with self._doing():
            self._spool.make_folder(_parts(path))

    def rmdir(self, path: bytes) -> None:
        """Remove an empty folder."""
        with self._doing():
            self._spool.remove_folder(_parts(path))

    # ── what is not served ────────────────────────────────────────────────────────────────────────────────────────

    def readlink(self, path: bytes) -> bytes:
        """There are no links."""
        raise _refuse_links()

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        """There are no links."""
        raise _refuse_links()

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        """There are no links."""
        raise _refuse_links()

    def statvfs(self, path: bytes) -> Any:
        """How large our disks are is nobody's business."""
        raise asyncssh.SFTPOpUnsupported("The size of the file system is not told")

    def fstatvfs(self, file_obj: object) -> Any:
        """As `statvfs`."""
        raise asyncssh.SFTPOpUnsupported("The size of the file system is not told")

    def format_user(self, uid: int | None) -> str:
        """The owner, in listings."""
        return "district"

    def format_group(self, gid: int | None) -> str:
        """The group, in listings."""
        return "district"

    @contextmanager
    def _doing(self) -> Iterator[None]:
        """Around everything: it counts as activity, and what a file system says is told without its paths."""
        self._touch()
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror or "it failed") from None


def _parts(path: bytes) -> Parts:
    """An uploader's path, from the root; what climbs above the root ends there."""
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        raise OSError(errno.EINVAL, "names are UTF-8") from None
    return tuple(part for part in posixpath.normpath(f"/{text}").split("/") if part)


def _flags(pflags: int) -> int:
    """The protocol's flags for opening as those of `os.open`."""
    reads, writes = pflags & FXF_READ, pflags & (FXF_WRITE | FXF_APPEND)
    flags = (os.O_RDWR if reads else os.O_WRONLY) if writes else os.O_RDONLY
    if writes:
        for theirs, ours in (
            (FXF_APPEND, os.O_APPEND),
            (FXF_CREAT, os.O_CREAT),
            (FXF_TRUNC, os.O_TRUNC),
            (FXF_EXCL, os.O_EXCL),
        ):
            flags |= ours if pflags & theirs else 0
    return flags


def _handle(file_obj: object) -> Handle:
    if not isinstance(file_obj, Handle):
        raise OSError(errno.EBADF, "the file is not open")
    return file_obj


def _write_all(descriptor: int, data: bytes, offset: int) -> int:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written
    return len(data)


def _attributes(found: os.stat_result) -> asyncssh.SFTPAttrs:
    folder = stat.S_ISDIR(found.st_mode)
    return asyncssh.SFTPAttrs(
        size=found.st_size,
        uid=0,
        gid=0,
        permissions=(stat.S_IFDIR | 0o700) if folder else (stat.S_IFREG | 0o600),
        atime=int(found.st_atime),
        mtime=int(found.st_mtime),
        nlink=1,
    )


def _refuse_links() -> asyncssh.SFTPError:
    return asyncssh.SFTPOpUnsupported("There are no links here")
