"""A set of CSV files as it was uploaded: a zip or a folder, opened with distrust (reliability facts §3.2 C4).

Nothing is unpacked and no header of an archive is believed: what a file takes is counted while it is read, and an
archive that is not what it says ends the reading with ZIP_UNSAFE.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final

from homeroom.codes import Code
from provider_gateway.failures import ProviderError

MAX_ENTRIES: Final = 64
MAX_RATIO: Final = 100
"""Canvas' limit for how many times larger a file may be than its packed form."""
MAX_BYTES: Final = 5_000_000_000
_RATIO_SLACK: Final = 1_000_000
_MAX_READ: Final = 2_000_000
"""The most an archive's directory may make us read at once."""
_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ARCHIVES: Final = (".zip", ".gz", ".tgz", ".7z", ".rar", ".tar", ".bz2", ".xz", ".zst", ".jar", ".cab", ".iso")
_DRIVE: Final = re.compile(r"[A-Za-z]:")
_FIRST_YEAR: Final = 2000
_AHEAD: Final = timedelta(days=1)
_DAMAGE: Final = (
    zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError, KeyError,
)  # fmt: skip
"""What reading a broken or hostile archive raises."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a set."""

    name: str
    """Without folders, in lower case, without `.csv`."""
    path: str
    """As it is called in the set, for messages."""
    size: int
    """As stated; only for estimates."""
    made_at: datetime | None


@dataclass(slots=True)
class Package:
    """A set of files, ready to be read; travels to reading processes."""

    path: Path
    zipped: bool
    members: dict[str, Member]
    """The CSV files by name, in lower case."""
    ignored: tuple[str, ...] = ()
    """Names of files that are not OneRoster's."""
    max_bytes: int = MAX_BYTES
    unpacked: int = field(default=0, repr=False)
    """Bytes read so far over all files; each is counted once."""
    _read_to: dict[str, int] = field(default_factory=dict, repr=False)

    @contextmanager
    def open(self, name: str) -> Iterator[Reading]:
        """A file's bytes as a stream that keeps to the limits; ZIP_UNSAFE where it does not, or is damaged."""
        member = self.members[name.lower()]
        packed: int | None = None
        with ExitStack() as stack:
            with _readable(), _explained(member.path):
                if self.zipped:
                    archive = _open_archive(self.path, stack)
                    info = archive.getinfo(member.path)
                    packed = info.compress_size
                    file = stack.enter_context(archive.open(info))
                else:
                    file = stack.enter_context((self.path / member.path).open("rb"))
            yield Reading(self, member, file, packed)

    def count(self, member: Member, position: int, packed: int | None) -> None:
        """Take note of how far a file was read."""
        before = self._read_to.get(member.name, 0)
        if position > before:
            self._read_to[member.name] = position
            self.unpacked += position - before
        if packed is not None and position > MAX_RATIO * packed + _RATIO_SLACK:
            raise _unsafe(f"{member.path} unpacks to more than {MAX_RATIO} times its size")
        if self.unpacked > self.max_bytes:
            text = f"the files come to more than {self.max_bytes / 1e9:g} GB"
            raise _unsafe(text) if self.zipped else ProviderError(Code.UPLOAD_TOO_LARGE, f"Not read: {text}.")

    @property
    def size(self) -> int:
        """How many bytes the CSV files have, as stated."""
        return sum(member.size for member in self.members.values())

    def find_age(self, received_at: datetime) -> datetime | None:
        """When the newest file was made, by the clock of whoever made it; None where no time is plausible."""
        times = [
            member.made_at
            for member in self.members.values()
            if member.made_at and member.made_at.year >= _FIRST_YEAR and member.made_at <= received_at + _AHEAD
        ]
        return max(times, default=None)

    def digest(self) -> str:
        """A SHA-256 over everything in the set, in hex."""
        if self.zipped:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        whole = hashlib.sha256()
        for name, member in sorted(self.members.items()):
            with (self.path / member.path).open("rb") as file:
                whole.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
        return whole.hexdigest()


class Reading:
    """A file of a set while it is read."""

    def __init__(self, package: Package, member: Member, file: IO[bytes], packed: int | None) -> None:
        self._package = package
        self._member = member
        self._file = file
        self._packed = packed
        self._position = 0

    def read(self, size: int) -> bytes:
        """The next bytes, at least one unless the file has ended; its checksum was right if it ends."""
        with _readable(), _explained(self._member.path):
            data = self._file.read(size)
        self._position += len(data)
        self._package.count(self._member, self._position, self._packed)
        return data


def open_package(path: Path, *, max_bytes: int = MAX_BYTES) -> Package:
    """Look at a set: which files it has, and whether it is safe to read them.

    Raises `ProviderError`: ZIP_UNSAFE, CSV_MANIFEST where the files lie in several places.
    """
    if path.is_dir():
        zips = [one for one in path.iterdir() if one.suffix.lower() == ".zip"]
        if len(zips) != 1 or any(one.suffix.lower() == ".csv" for one in path.iterdir()):
            return _open_folder(path, max_bytes)
        path = zips[0]
    if path.is_symlink():
        raise _unsafe("it is a link")
    with ExitStack() as stack:
        with _readable(), _explained("its directory"):
            infos = _open_archive(path, stack).infolist()
        if len(infos) > MAX_ENTRIES:
            raise _unsafe(f"it has more than {MAX_ENTRIES} entries")
        members = [_as_member(info) for info in infos if _is_worth_reading(info)]
    _refuse_doubles(infos)
    return _collect(path, members, zipped=True, max_bytes=max_bytes)


def _open_folder(path: Path, max_bytes: int) -> Package:
    members: list[Member] = []
    for parent, folders, files in os.walk(path):
        for name in (*folders, *files):
            if (Path(parent) / name).is_symlink():
                raise _unsafe(f"{name} is a link")
        for name in files:
            file = Path(parent) / name
            status = file.stat()
            if stat.S_ISREG(status.st_mode) and not _is_hidden(name):
                made_at = datetime.fromtimestamp(status.st_mtime, UTC)
                relative = file.relative_to(path).as_posix()
                members.append(Member(name, relative, status.st_size, made_at))
        if len(members) > MAX_ENTRIES:
            raise ProviderError(Code.UPLOAD_TOO_LARGE, f"The set has more than {MAX_ENTRIES} files.")
    nested = [member.path for member in members if member.path.lower().endswith(_ARCHIVES)]
    if nested:
        raise ProviderError(Code.CSV_MANIFEST, f"Beside CSV files there is {nested[0]}: which is the set?")
    return _collect(path, members, zipped=False, max_bytes=max_bytes)


def _collect(path: Path, members: Sequence[Member], *, zipped: bool, max_bytes: int) -> Package:
    found: dict[str, Member] = {}
    ignored: list[str] = []
    folders: set[str] = set()
    for member in members:
        folder, _, base = member.path.replace("\\", "/").lower().rpartition("/")
        if not base.endswith(".csv"):
            ignored.append(member.path)
            continue
        name = base.removesuffix(".csv")
        if name in found:
            text = f"{base} is there twice"
            raise _unsafe(text) if zipped else ProviderError(Code.CSV_MANIFEST, f"The set can't be read: {text}.")
        found[name] = Member(name, member.path, member.size, member.made_at)
        folders.add(folder)
    if len(folders) > 1:
        raise ProviderError(Code.CSV_MANIFEST, "The CSV files lie in several folders; put them into one.")
    return Package(path, zipped, found, tuple(ignored), max_bytes)


# ── archives ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Frugal:
    """A file that gives no more than so much at once: a directory may claim to be gigabytes long."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seekable, self.tell, self.close = file.seekable, file.tell, file.close

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if offset < 0 and whence == os.SEEK_SET:
            raise zipfile.BadZipFile
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        if size > _MAX_READ:
            raise zipfile.BadZipFile
        return self._file.read(_MAX_READ if size < 0 else size)


def _open_archive(path: Path, stack: ExitStack) -> zipfile.ZipFile:
    frugal: Any = _Frugal(stack.enter_context(path.open("rb")))
    return stack.enter_context(zipfile.ZipFile(frugal))


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ProviderError(Code.SFTP_IO, "The uploaded files could not be read from where they are kept.") from error


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise _unsafe(f"{where} is damaged or packed in a way we don't read") from error


def _is_worth_reading(info: zipfile.ZipInfo) -> bool:
    """Whether an entry is a file of the set; raises ZIP_UNSAFE where it has no place in one."""
    path = info.filename.replace("\\", "/")
    shown = path[:100]
    parts = path.split("/")
    if "\0" in info.orig_filename or path.startswith("/") or _DRIVE.match(path) or ".." in parts:
        raise _unsafe(f"the entry {shown!r} leads out of it")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise _unsafe(f"the entry {shown!r} is a link or a device")
    if info.flag_bits & _ENCRYPTED:
        raise _unsafe("it is encrypted")
    if path.endswith("/"):
        return False
    if path.lower().endswith(_ARCHIVES):
        raise _unsafe(f"it holds another archive, {shown!r}")
    if parts[0] == "__MACOSX" or _is_hidden(parts[-1]):
        return False  # what macOS puts beside the files
    if info.compress_type not in _METHODS:
        raise _unsafe(f"{shown!r} is packed in a way we don't read")
    return True


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _refuse_doubles(infos: Sequence[zipfile.ZipInfo]) -> None:
    names = [info.filename.replace("\\", "/").casefold() for info in infos]
    if len(set(names)) != len(names):
        raise _unsafe("it holds the same file twice")


def _as_member(info: zipfile.ZipInfo) -> Member:
    try:
        made_at = datetime(*info.date_time, tzinfo=UTC)
    except ValueError:
        made_at = None  # month 0 and the like
    return Member(info.filename, info.filename, info.file_size, made_at)


def _unsafe(why: str) -> ProviderError:
    return ProviderError(Code.ZIP_UNSAFE, f"The archive was not read: {why}.")
