"""manifest.csv, and what a set comes to once manifest and files are laid side by side (pure; OneRoster CSV §2.2).

Manifests contradict their files in practice. The data win: a file that is there is read whatever the manifest says of
it, and how complete it is shows in its rows where manifest and rows disagree. Where in doubt nobody is concluded gone.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from homeroom.codes import Code
from provider_gateway.failures import ProviderError

MAX_MANIFEST: Final = 100_000
"""Bytes."""
ROSTER_FILES: Final = (
    "orgs", "academicSessions", "courses", "classes", "users", "roles", "enrollments", "demographics",
)  # fmt: skip
"""The files that are read."""
OTHER_FILES: Final = (
    "categories", "classResources", "courseResources", "lineItemLearningObjectiveIds", "lineItemScoreScales",
    "lineItems", "resources", "resultLearningObjectiveIds", "resultScoreScales", "results", "scoreScales",
    "userProfiles", "userResources",
)  # fmt: skip
"""OneRoster's other files. They are left alone; userProfiles holds passwords."""
_BY_LOWER: Final = {name.lower(): name for name in (*ROSTER_FILES, *OTHER_FILES)}
_VERSION: Final = re.compile(r"v?1\.([12])(?:\.\d+)*\Z", re.IGNORECASE)
_MAX_QUOTED: Final = 40


class Part(Enum):
    """How much of a collection a file is."""

    BULK = "bulk"
    """All of it."""
    DELTA = "delta"
    """What changed since the set before."""
    LEFTOVER = "leftover"
    """Something the manifest knows nothing of: read, but no proof of anything."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says."""

    minor: int
    """1 or 2, of OneRoster 1.1 or 1.2."""
    modes: Mapping[str, str]
    """`absent`, `bulk`, `delta` or nothing, by OneRoster's name of the file."""


def find_name(name: str) -> str | None:
    """OneRoster's spelling of a file's name, if it is one of its files.

    >>> find_name("userprofiles"), find_name("notes")
    ('userProfiles', None)
    """
    return _BY_LOWER.get(name.lower())


def read_manifest(content: bytes) -> Manifest:
    """Understand a manifest: rows in any order and case, cells quoted or not, with or without a last line end.

    Raises `ProviderError`: CSV_ENCODING, or CSV_MANIFEST saying what is wrong with it.
    """
    if len(content) > MAX_MANIFEST:
        raise _wrong("it is longer than any manifest")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ProviderError(Code.CSV_ENCODING, "manifest.csv is not UTF-8.") from None
    if "\0" in text:
        raise ProviderError(Code.CSV_ENCODING, "manifest.csv is not UTF-8.")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error:
        raise _wrong("a quote in it is never closed, or closed too early") from None
    said = {row[0].strip().lower(): row[1].strip() for row in rows if len(row) > 1}
    version = said.get("oneroster.version", "")
    match = _VERSION.match(version)
    if match is None:
        shown = repr(version[:_MAX_QUOTED]) if version else "no version"
        raise _wrong(f"it names {shown}; we read OneRoster 1.1 and 1.2")
    modes = {}
    for name, value in said.items():
        if name.startswith("file.") and (known := find_name(name.removeprefix("file.").removesuffix(".csv"))):
            if value.lower() not in {"", "absent", "bulk", "delta"}:
                raise _wrong(f"it calls {known} {value[:_MAX_QUOTED]!r}, which is none of absent, bulk and delta")
            modes[known] = value.lower()
    return Manifest(int(match[1]), modes)


def find_missing(manifest: Manifest, there: Collection[str]) -> list[str]:
    """The roster files the manifest promises and nobody shipped."""
    return [name for name in ROSTER_FILES if manifest.modes.get(name) in {"bulk", "delta"} and name not in there]


def judge_part(mode: str, *, rows: bool, dated: bool) -> Part | None:
    """How much of its collection a file is that was shipped.

    Args:
        mode: what the manifest says.
        rows: whether the file has any.
        dated: whether any row has a status or a date; only rows of a delta must.

    >>> judge_part("bulk", rows=True, dated=True), judge_part("delta", rows=True, dated=False)
    (<Part.BULK: 'bulk'>, <Part.BULK: 'bulk'>)
    >>> judge_part("absent", rows=True, dated=False), judge_part("absent", rows=False, dated=False)
    (<Part.LEFTOVER: 'leftover'>, None)
    """
    match mode:
        case "delta":
            return Part.DELTA if dated or not rows else Part.BULK
        case "absent":
            return Part.LEFTOVER if rows else None
    return Part.BULK


def _wrong(why: str) -> ProviderError:
    return ProviderError(Code.CSV_MANIFEST, f"manifest.csv can't be used: {why}.")
