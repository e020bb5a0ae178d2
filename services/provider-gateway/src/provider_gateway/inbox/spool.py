"""One integration's corner of the inbox's disk: what its uploader sees, what is being written, and what it may take.

Names are tuples of an uploader's path (`("DailyImport", "users.csv")`), never paths of this machine. Everything but
reading and writing happens in the event loop in one go, so that a set is never sealed between two halves of a change.
Failures are `OSError`s in words an uploader may read.

A file that was opened for writing carries a mark on the disk until its uploader closes or renames it. A connection that
breaks, or a crash of ours, leaves the mark, and a marked file is never taken for whole.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from provider_gateway.inbox.sets import Seen

MAX_FILES = 64
MAX_FOLDERS = 16
MAX_DEPTH = 3
"""Two folders and a file."""
_MAX_NAME_BYTES = 200

Parts = tuple[str, ...]
Stamp = tuple[int, int, int, int]
"""Size, two times and the file's number on its disk: different after any change."""


@dataclass(eq=False, slots=True)
class Handle:
    """A file as one connection has it open."""

    parts: Parts
    descriptor: int
    writes: bool
    appends: bool = False
    gone: bool = False
    """Whether it was removed or replaced meanwhile."""


@dataclass(slots=True)
class _Watched:
    stamp: Stamp
    since: float


@dataclass(slots=True)
class Spool:
    """What one integration's uploader works in."""

    root: Path
    max_bytes: int
    _handles: set[Handle] = field(default_factory=set)
    _marks: dict[Parts, Handle | None] = field(default_factory=dict)
    """Marked files, and the handle that is expected to finish each; none after a crash."""
    _watched: dict[Parts, _Watched] = field(default_factory=dict)
    _used: int = 0

    def __post_init__(self) -> None:
        """Make the folders and read what an earlier process left."""
        for folder in (self.incoming, self._writing):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for mark in self._writing.iterdir():
            parts = tuple(mark.read_text("utf-8").split("/"))
            if self._local(parts).is_file():
                self._marks[parts] = None
            else:
                mark.unlink()
        self._measure()

    @property
    def incoming(self) -> Path:
        """The uploader's root folder."""
        return self.root / "incoming"

    @property
    def _writing(self) -> Path:
        return self.root / "writing"

    # ── what an uploader may do ───────────────────────────────────────────────────────────────────────────────────

    def open(self, parts: Parts, flags: int) -> Handle:
        """Open a file; `flags` are `os.open`'s."""
        path = self._local_file(parts)
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        if writes and not path.exists() and len(list(self._files())) >= MAX_FILES:
            raise OSError(errno.EDQUOT, f"there may be {MAX_FILES} files at a time")
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EISDIR, "it is a folder")
        handle = Handle(parts, descriptor, writes, appends=bool(flags & os.O_APPEND))
        self._handles.add(handle)
        if writes:
            self._mark(parts, handle)
        if flags & os.O_TRUNC:
            self._measure()
        return handle

    def reserve(self, handle: Handle, offset: int, count: int) -> None:
        """Make sure that so many bytes may be written to a handle's file at that place."""
        if not handle.writes:
            raise OSError(errno.EACCES, "the file is open for reading")
        if handle.gone:
            raise OSError(errno.ENOENT, "the file was removed")
        size = os.fstat(handle.descriptor).st_size
        more = max(0, (size if handle.appends else offset) + count - size)
        if self._used + more > self.max_bytes:
            self._measure()  # what was taken meanwhile makes room
            if self._used + more > self.max_bytes:
                raise OSError(errno.EDQUOT, f"there may be {self.max_bytes:,} bytes at a time")
        self._used += more

    def close(self, handle: Handle, *, finished: bool) -> None:
        """Close a file; `finished` says that its uploader did, rather than that the connection broke."""
        self._handles.discard(handle)
        os.close(handle.descriptor)
        if finished and self._marks.get(handle.parts, handle) is handle:
            self._unmark(handle.parts)

    def truncate(self, parts: Parts, size: int) -> None:
        """Cut a file off, or fill it up with zeros."""
        handle = self.open(parts, os.O_WRONLY)
        try:
            self.reserve(handle, 0, size)
            os.ftruncate(handle.descriptor, size)
        finally:
            self.close(handle, finished=True)
        self._measure()

    def stat(self, parts: Parts) -> os.stat_result:
        """A file's or folder's size, kind and times."""
        return os.lstat(self._local(parts))

    def touch(self, parts: Parts, accessed: float, modified: float) -> None:
        """Set times; they decide nothing, but uploaders compare them."""
        os.utime(self._local(parts), (accessed, modified), follow_symlinks=False)

    def entries(self, parts: Parts) -> list[tuple[str, os.stat_result]]:
        """What lies in a folder."""
        with os.scandir(self._local(parts)) as found:
            return sorted((entry.name, entry.stat(follow_symlinks=False)) for entry in found)

    def remove(self, parts: Parts) -> None:
        """Remove a file."""
        self._local(parts).unlink()
        self._forget(parts)
        self._measure()

    def rename(self, old: Parts, new: Parts, *, replace: bool) -> None:
        """Rename a file. With it the uploader says that it is finished, unless it is still open."""
        source, target = self._local(old), self._local_file(new)
        if not stat.S_ISREG(os.lstat(source).st_mode):
            raise OSError(errno.EACCES, "only files can be renamed")
        if old == new:
            return
        if target.is_dir() or (target.exists() and not replace):
            raise OSError(errno.EEXIST, "there is something of that name")
        source.rename(target)
        self._forget(new)
        owner = self._marks.get(old)
        self._unmark(old)
        for handle in self._handles:
            if handle.parts == old:
                handle.parts = new
        if owner is not None and owner in self._handles:
            self._mark(new, owner)
        self._watched.pop(old, None)
        self._measure()

    def make_folder(self, parts: Parts) -> None:
        """Make a folder, at most two deep."""
        if len(parts) >= MAX_DEPTH:
            raise OSError(errno.EACCES, "folders may be two deep")
        if len(list(self._folders())) > MAX_FOLDERS:
            raise OSError(errno.EDQUOT, f"there may be {MAX_FOLDERS} folders")
        self._local(parts).mkdir(mode=0o700)

    def remove_folder(self, parts: Parts) -> None:
        """Remove an empty folder."""
        if not parts:
            raise OSError(errno.EACCES, "it is the root")
        self._local(parts).rmdir()

    # ── what the inbox sees ───────────────────────────────────────────────────────────────────────────────────────

    def look(self, monotonic: float) -> dict[Parts, list[tuple[Seen, Stamp]]]:
        """Every folder that holds files, with each file and a stamp to take it by; `monotonic` is the time now."""
        seen: dict[Parts, list[tuple[Seen, Stamp]]] = {}
        open_now = {handle.parts for handle in self._handles if handle.writes}
        watched: dict[Parts, _Watched] = {}
        for parts, found in self._files():
            stamp = _stamp(found)
            before = self._watched.get(parts)
            now = before if before is not None and before.stamp == stamp else _Watched(stamp, monotonic)
            watched[parts] = now
            one = Seen(
                parts[-1],
                found.st_size,
                datetime.fromtimestamp(found.st_ctime, UTC),
                timedelta(seconds=monotonic - now.since),
                writing=parts in self._marks or parts in open_now,
            )
            seen.setdefault(parts[:-1], []).append((one, stamp))
        self._watched = watched
        return seen

    def is_as_seen(self, parts: Parts, stamp: Stamp) -> bool:
        """Whether a file is still what `look` saw."""
        try:
            found = os.lstat(self._local(parts))
        except OSError:
            return False
        busy = parts in self._marks or any(one.parts == parts and one.writes for one in self._handles)
        return _stamp(found) == stamp and not busy

    def locate(self, parts: Parts) -> Path:
        """Where a file is on this machine."""
        return self._local(parts)

    def settle(self) -> None:
        """Files were taken away: count anew what is left."""
        self._measure()

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _local(self, parts: Parts) -> Path:
        """The path of a name. Nothing here ever makes a link; should there be one, it leads nowhere."""
        path = self.incoming
        for number, part in enumerate(parts):
            check_name(part)
            path /= part
            if number + 1 < len(parts) and path.is_symlink():
                raise OSError(errno.EACCES, "links are not followed")
        return path

    def _local_file(self, parts: Parts) -> Path:
        if not parts or len(parts) > MAX_DEPTH:
            raise OSError(errno.EACCES, "files may lie two folders deep")
        return self._local(parts)

    def _folders(self) -> Iterator[tuple[Parts, Path]]:
        waiting: list[tuple[Parts, Path]] = [((), self.incoming)]
        while waiting:
            parts, path = waiting.pop()
            yield parts, path
            with os.scandir(path) as found:
                waiting += [((*parts, one.name), Path(one.path)) for one in found if one.is_dir(follow_symlinks=False)]

    def _files(self) -> Iterator[tuple[Parts, os.stat_result]]:
        for parts, path in self._folders():
            with os.scandir(path) as found:
                for one in found:
                    if one.is_file(follow_symlinks=False):
                        yield (*parts, one.name), one.stat(follow_symlinks=False)

    def _measure(self) -> None:
        self._used = sum(found.st_size for _, found in self._files())

    def _mark_path(self, parts: Parts) -> Path:
        return self._writing / hashlib.sha256("/".join(parts).encode()).hexdigest()[:32]

    def _mark(self, parts: Parts, handle: Handle) -> None:
        if parts not in self._marks:
            self._mark_path(parts).write_text("/".join(parts), "utf-8")
        self._marks[parts] = handle

    def _unmark(self, parts: Parts) -> None:
        if parts in self._marks:
            del self._marks[parts]
            with suppress(FileNotFoundError):
                self._mark_path(parts).unlink()

    def _forget(self, parts: Parts) -> None:
        """A file was removed or replaced; whoever has it open writes to nothing."""
        self._unmark(parts)
        self._watched.pop(parts, None)
        for handle in self._handles:
            if handle.parts == parts:
                handle.gone = True


def check_name(name: str) -> None:
    """Raise OSError for a name that is more than a name."""
    if (
        name in {"", ".", ".."}
        or len(name.encode()) > _MAX_NAME_BYTES
        or "/" in name
        or "\\" in name
        or not name.isprintable()
    ):
        raise OSError(errno.EINVAL, "a name has up to 200 bytes of printable characters without slashes")


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
