"""A block of a file → a page ready to be compared; runs in whichever process there is, so it is told all it needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from homeroom.codes import Code
from homeroom.rules import find_problem
from provider_gateway.canonical import Canonical
from provider_gateway.failures import RecordProblem
from provider_gateway.providers._csv_blocks import Block
from provider_gateway.providers._csv_columns import read_columns
from provider_gateway.providers._csv_headers import Layout
from provider_gateway.providers._csv_lines import Lines, read_lines
from provider_gateway.providers._csv_roles import find_roles
from provider_gateway.providers._csv_rows import row_maker
from provider_gateway.providers._oneroster_records import read_page
from provider_gateway.providers._oneroster_shapes import DecodedPage, EnrollmentRow, Row, UserRow
from provider_gateway.providers.contract import Page, RawPage, make_page
from provider_gateway.readers import undisturbed
from provider_gateway.scope import Scope


@dataclass(frozen=True, slots=True)
class SetDown(Canonical):
    """Canonical records whose bytes were set down in a file instead of being carried from process to process.

    Most of them are found to be known and never looked at, and a large district's come to hundreds of megabytes. Only
    the last one is carried along (`body`): it is always asked for.
    """

    file: Path = Path()

    def run(self, first: int, last: int) -> bytes:
        """As of any records, read back out of the file."""
        if first == len(self) - 1:
            return self.body
        start = self.start(first)
        with self.file.open("rb", buffering=0) as file:
            file.seek(start)
            return file.read(int(self.ends[last - 1]) - start)


class ReadBlock(NamedTuple):
    """What a block came to."""

    page: Page
    doubtful: bool
    """Whether some record may have been in it that can't be named, so that nobody's absence means anything."""


@dataclass(frozen=True, slots=True)
class Directions:
    """What is needed to read the blocks of one file."""

    layout: Layout
    roles: Path | None = None
    """Of users of 1.2: where their roles were collected."""
    open_end: bool = True
    """Whether the file may end without a line end; if not, its last row may be cut off and is not taken."""


def set_down_block(directions: Directions, block: Block, scope: Scope, slot: Path) -> ReadBlock:
    """As `read_block`, with the records' bytes left in a file."""
    page, doubtful = read_block(directions, block, scope)
    found = page.canonical
    with slot.open("r+b" if slot.exists() else "wb") as file:
        file.write(found.body)
    last = found.encoded(len(found) - 1) if len(found) else b""
    kept = SetDown(last, found.ends, found.keys, found.fingerprints, found.refused, slot)
    return ReadBlock(replace(page, canonical=kept), doubtful)


def read_block(directions: Directions, block: Block, scope: Scope) -> ReadBlock:
    """A page out of a block; CSV_ENCODING if it is not UTF-8."""
    layout = directions.layout
    with undisturbed():
        cut = block.open_end and not directions.open_end
        if not cut and directions.roles is None and (page := read_columns(layout, block, scope)) is not None:
            return ReadBlock(page, doubtful=False)
        lines = read_lines(layout, block, layout.find("sourcedId"))
        if cut and not lines.last_damaged:
            lines.refuse_last(layout.find("sourcedId"))
        raw = _read_records(directions, lines)
        doubtful = block.endless or (block.open_end and lines.last_damaged) or any(map(_is_nameless, raw.refused))
        return ReadBlock(make_page(layout.collection, raw, scope), doubtful)


def _read_records(directions: Directions, lines: Lines) -> RawPage:
    layout = directions.layout
    make = row_maker(layout)
    rows = [make(cells) for cells in lines.rows]
    notes: list[RecordProblem] = []
    if layout.collection == "enrollments":
        notes = _name_enrollments(rows)
    elif directions.roles is not None:
        _give_roles(rows, directions.roles)
    raw = read_page(layout.collection, DecodedPage(rows, lines.refused, lines.received), ())
    raw.notes += notes
    return raw


def _name_enrollments(rows: list[Row]) -> list[RecordProblem]:
    """Give enrollments without a sourcedId one made of class, user and role, as ClassLink's import does."""
    named = False
    for row in rows:
        if row.sourced_id or not isinstance(row, EnrollmentRow):
            continue
        if row.class_ and row.user and row.role:
            row.sourced_id = f"{row.class_.sourced_id}_{row.user.sourced_id}_{row.role.strip().lower()}"
            named = True
    return [RecordProblem(Code.RECORD_NO_ID, field="sourcedId")] if named else []


def _give_roles(rows: list[Row], roles: Path) -> None:
    found = find_roles(roles, [row.sourced_id for row in rows if row.sourced_id])
    for row in rows:
        if isinstance(row, UserRow) and row.sourced_id in found:
            row.roles = found[row.sourced_id]


def _is_nameless(problem: RecordProblem) -> bool:
    return problem.sourced_id is None or find_problem(problem.sourced_id) is not None
