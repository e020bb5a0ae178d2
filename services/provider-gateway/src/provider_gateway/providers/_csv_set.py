"""A set of files as a whole: what it holds, how complete it is, and whether its turn has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from homeroom.codes import Code
from homeroom.messages import Finding, Options
from provider_gateway.failures import ProviderError
from provider_gateway.providers._csv_blocks import cut_blocks, read_first_line
from provider_gateway.providers._csv_headers import Layout, read_header
from provider_gateway.providers._csv_lines import read_lines
from provider_gateway.providers._csv_manifest import (
    MAX_MANIFEST,
    ROSTER_FILES,
    Manifest,
    Part,
    find_missing,
    find_name,
    judge_part,
    read_manifest,
)
from provider_gateway.providers._csv_package import Package, open_package
from provider_gateway.scope import Scope, stages

_SKEW: Final = timedelta(hours=2)
"""Archives carry local times: an hour comes and goes twice a year."""
_MAX_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class CsvSet:
    """An opened set."""

    package: Package
    minor: int
    layouts: Mapping[str, Layout]
    """By OneRoster's name of the file."""
    parts: Mapping[str, Part]
    """How much of its collection each file is."""
    needed: tuple[str, ...]
    """The files without which nothing can be decided about a district, by its options."""
    tied: bool
    """Whether the options can only be decided with everything at hand."""

    @property
    def lacking(self) -> tuple[str, ...]:
        """Needed files that are not there."""
        return tuple(name for name in self.needed if name not in self.parts)

    @property
    def stands_alone(self) -> bool:
        """Whether it builds on no set before it."""
        return all(self.parts.get(name) is Part.BULK for name in self.needed)

    @property
    def is_whole(self) -> bool:
        """Whether all that was shipped is complete, and all that counts was shipped."""
        return self.stands_alone and all(part is Part.BULK for part in self.parts.values())

    def remark(self) -> Sequence[Finding]:
        """What is in the set, and what was left alone."""
        words = [f"{name} ({part.value})" for name, part in self.parts.items()]
        findings = [Finding(check="files", ok=True, detail=f"OneRoster 1.{self.minor}: {', '.join(words) or 'none'}.")]
        if self.package.ignored or self._strangers():
            count = len(self.package.ignored) + len(self._strangers())
            findings.append(Finding(check="other files", ok=True, detail="Not OneRoster's, left alone.", count=count))
        return findings

    def _strangers(self) -> list[str]:
        return [name for name in self.package.members if find_name(name) is None and name != "manifest"]


def open_set(path: Path, options: Options, max_bytes: int) -> CsvSet:
    """Look at everything but the rows.

    Raises `ProviderError`: ZIP_UNSAFE, CSV_MANIFEST, CSV_ENCODING, CSV_HEADER, SFTP_INCOMPLETE_SET.
    """
    package = open_package(path, max_bytes=max_bytes)
    manifest = _read_manifest(package)
    there = {name: member for name in ROSTER_FILES if (member := package.members.get(name.lower()))}
    if missing := find_missing(manifest, there):
        code = Code.CSV_MANIFEST if package.zipped else Code.SFTP_INCOMPLETE_SET
        raise ProviderError(code, f"The manifest names files that are not there: {_list(missing)}.")
    layouts: dict[str, Layout] = {}
    parts: dict[str, Part] = {}
    for name in there:
        with package.open(name) as stream:
            layout = read_header(name, read_first_line(stream))
        part = _find_part(package, layout, manifest.modes.get(name, ""))
        if part is not None:
            layouts[name], parts[name] = layout, part
    _check_roles(layouts, parts)
    needed = [name for stage in stages(options) for name in stage if name != "demographics"]
    if "roles" in parts:
        needed.append("roles")
    return CsvSet(package, manifest.minor, layouts, parts, tuple(needed), Scope(options, date.min).tied)


def _read_manifest(package: Package) -> Manifest:
    if "manifest" not in package.members:
        raise ProviderError(Code.CSV_MANIFEST, "There is no manifest.csv, so nothing says which set this is.")
    content = b""
    with package.open("manifest") as stream:
        while len(content) <= MAX_MANIFEST and (chunk := stream.read(MAX_MANIFEST)):
            content += chunk
    return read_manifest(content)


def _find_part(package: Package, layout: Layout, mode: str) -> Part | None:
    """How much of its collection a file is; its rows are only looked at where they have a say."""
    rows = dated = False
    if mode in {"delta", "absent"}:
        marks = [at for name in ("status", "dateLastModified") if (at := layout.find(name)) is not None]
        with package.open(layout.collection) as stream:
            for block in cut_blocks(stream, skip_first=True):
                lines = read_lines(layout, block, None)
                rows = rows or lines.received > 0
                dated = dated or any(row[at].strip() for row in lines.rows for at in marks)
                if dated or (rows and mode == "absent"):
                    break
    return judge_part(mode, rows=rows, dated=dated)


def _check_roles(layouts: dict[str, Layout], parts: dict[str, Part]) -> None:
    """In 1.2 a person is in users.csv and roles.csv together, and only both of them whole tell all of their roles."""
    if "users" in layouts and "roles" not in layouts:
        missing = [name for name in ("role", "orgSourcedIds") if layouts["users"].find(name) is None]
        if missing:
            text = f"{' and '.join(missing)} missing, and there is no roles.csv"
            raise ProviderError(Code.CSV_HEADER, f"The header of users.csv can't be used: {text}.")
    if "roles" in parts and (parts.get("users") is not Part.BULK or parts["roles"] is Part.DELTA):
        text = "people of OneRoster 1.2 can't be read as changes, since only all of their roles say what they are"
        raise ProviderError(Code.CSV_DELTA_GAP, f"users.csv and roles.csv both have to be bulk files: {text}.")


# ── whose turn it is ──────────────────────────────────────────────────────────────────────────────────────────────


def check_turn(files: CsvSet, state: Mapping[str, Any], number: int, made_at: datetime | None) -> Code | None:
    """Why a set can't be applied now, if that can be told before it is read.

    Args:
        files: the set.
        state: what `make_state` gave for the set that was applied last; empty if there is none.
        number: of the set, in the order sets were received.
        made_at: when its newest file was made.
    """
    if files.tied and not files.stands_alone:
        return Code.OPTIONS_NEED_BULK
    if not state:
        return None
    last_made_at = datetime.fromisoformat(state["made_at"]) if state.get("made_at") else None
    if number < state["number"] or (made_at and last_made_at and made_at < last_made_at - _SKEW):
        return Code.CSV_STALE
    if not files.stands_alone and number > state["number"] + 1:
        return Code.CSV_DELTA_GAP
    return None


def check_first(files: CsvSet, state: Mapping[str, Any]) -> None:
    """Refuse a first set that can't stand alone; only once it was read, so that a verification can look into it."""
    if state or files.stands_alone:
        return
    if files.lacking:
        raise ProviderError(Code.CSV_MANIFEST, f"The first set has to be whole; it lacks {_list(files.lacking)}.")
    raise ProviderError(Code.CSV_DELTA_GAP, "The first set has to be bulk: there is nothing yet to change.")


def make_state(
    state: Mapping[str, Any], number: int, made_at: datetime | None, digest: str
) -> dict[str, str | int | None]:
    """What the next set is compared with. The time never goes back, not even by what is forgiven each time."""
    times = [time for time in (made_at.isoformat() if made_at else None, state.get("made_at")) if time]
    return {"number": number, "made_at": max(times, default=None), "digest": digest}


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join([f"{name}.csv" for name in names[:_MAX_NAMED]]) + more
