"""When a set of files is complete: decided from what lies in one folder of an inbox (reliability facts §3.2 C1).

Three kinds of things are handed on. A *set* is a manifest and every file it names, all of one night and at rest. A
*zip* is a set by itself, at rest; one that does not open is given longer, because that is what half an upload looks
like, and is then handed on all the same, so that its run fails with a code the admin sees. A manifest that can't be
understood is handed on for the same reason.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Literal

MANIFEST = "manifest.csv"
MAX_MANIFEST_BYTES = 100_000
"""A manifest is a page of text; what is longer is not read to decide anything."""
_DRAFT_ENDINGS = (".filepart", ".part", ".tmp")
_SHIPPED = frozenset({"bulk", "delta"})
_MAX_NAMED = 40


@dataclass(frozen=True, slots=True)
class Rules:
    """How patient the inbox is."""

    rest: timedelta = timedelta(seconds=30)
    """How long nothing may have happened to a file before it counts as whole."""
    broken_rest: timedelta = timedelta(minutes=5)
    """The same for a zip that does not open, which may be the first half of one."""
    window: timedelta = timedelta(hours=6)
    """How far apart the files of one night may arrive."""
    wait: timedelta = timedelta(hours=12)
    """How long a set may be incomplete before somebody is told."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it lies in the folder."""

    name: str
    size: int
    arrived: datetime
    """When the last byte or name of it came, by our clock: uploaders set modification times as they like."""
    unchanged: timedelta
    """How long it has been watched without a change."""
    writing: bool = False
    """Whether it is open for writing, or was when its connection broke; closing or renaming it ends that."""
    opens: bool | None = None
    """Of a zip: whether it can be opened; None where nobody has looked."""

    @property
    def draft(self) -> bool:
        """Whether the name says that the file is not to be taken as it is."""
        return is_draft(self.name)


@dataclass(frozen=True, slots=True)
class Ready:
    """Files that are one set."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Files that are no set yet."""

    why: Literal["missing", "arriving", "nights"]
    """Files are missing; files are not at rest; files come from different nights."""
    files: tuple[str, ...]
    """Those that are missing, arriving, or older than the rest."""
    present: int
    since: datetime
    """When the last of them arrived."""
    overdue: bool
    """Whether that is longer ago than a set may take."""


Verdict = Ready | Waiting
"""What is to be said about a folder that is not empty."""


def is_draft(name: str) -> bool:
    """Whether uploaders use such a name for what they have not finished."""
    return name.startswith(".") or name.lower().endswith(_DRAFT_ENDINGS)


def is_manifest(name: str) -> bool:
    """Whether a file is a manifest by its name, in whatever case."""
    return name.lower() == MANIFEST


def is_zip(name: str) -> bool:
    """Whether a file is a zip by its name."""
    return name.lower().endswith(".zip")


def read_manifest(content: bytes) -> frozenset[str] | None:
    """The names (in lower case) of the files that a manifest says are shipped; None if it can't be understood."""
    if len(content) > MAX_MANIFEST_BYTES:
        return None
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error):
        return None
    said = {row[0].strip().lower(): row[1].strip().lower() for row in rows if len(row) > 1}
    files = {key.removeprefix("file."): mode for key, mode in said.items() if key.startswith("file.")}
    if not files and "oneroster.version" not in said:
        return None
    return frozenset(f"{PurePosixPath(name).name}.csv" for name, mode in files.items() if mode in _SHIPPED)


def decide(files: Sequence[Seen], named: frozenset[str] | None, now: datetime, rules: Rules) -> Verdict | None:
    """What is to be done with the files of one folder; None where there are none.

    Args:
        files: everything in the folder, drafts included.
        named: what its manifest names (`read_manifest`); only looked at if there is a manifest.
        now: by the same clock as `Seen.arrived`.
        rules: how patient to be.
    """
    if not files:
        return None
    whole = [file for file in files if not file.draft]
    zips = sorted((file for file in whole if is_zip(file.name)), key=lambda file: (file.arrived, file.name))
    for file in zips:  # the oldest first, so that sets keep the order they came in
        if not _arriving(file, rules):
            return Ready((file.name,))
    rest = [file for file in whole if not is_zip(file.name)]
    drafts = [file for file in files if file.draft and file.unchanged < rules.rest]
    if not rest:
        arriving = [*zips, *(file for file in files if file.draft)]
        return _wait("arriving", arriving, arriving, now, rules)
    return _decide_set(rest, drafts, named, now, rules)


def _decide_set(
    files: Sequence[Seen], drafts: Sequence[Seen], named: frozenset[str] | None, now: datetime, rules: Rules
) -> Verdict:
    manifest = [file for file in files if is_manifest(file.name)]
    if not manifest:
        return _wait("missing", [MANIFEST], files, now, rules)
    if arriving := [file for file in manifest if _arriving(file, rules)]:
        return _wait("arriving", arriving, files, now, rules)
    there = {file.name.lower() for file in files}
    if missing := sorted((named or frozenset()) - there):
        return _wait("missing", missing, [*files, *drafts], now, rules)
    if arriving := [file for file in (*files, *drafts) if file.draft or _arriving(file, rules)]:
        return _wait("arriving", arriving, files, now, rules)
    meant = [file for file in files if named is None or is_manifest(file.name) or file.name.lower() in named]
    newest = max(file.arrived for file in meant)
    if older := [file for file in meant if newest - file.arrived > rules.window]:
        return _wait("nights", older, files, now, rules)
    return Ready(tuple(sorted(file.name for file in files)))


def _arriving(file: Seen, rules: Rules) -> bool:
    return file.writing or file.unchanged < (rules.broken_rest if file.opens is False else rules.rest)


def _wait(
    why: Literal["missing", "arriving", "nights"],
    files: Iterable[Seen | str],
    present: Sequence[Seen],
    now: datetime,
    rules: Rules,
) -> Waiting:
    since = max(file.arrived for file in present)
    names = sorted(file if isinstance(file, str) else file.name for file in files)
    return Waiting(why, tuple(names[:_MAX_NAMED]), len(present), since, now - since > rules.wait)
