"""Lines of CSV → rows of cells (pure; RFC 4180 as OneRoster narrows it: no line break inside a cell).

Since a row is a line, a damaged one harms no other: whatever is wrong with its quotes, the next line begins a new row.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from homeroom.codes import Code
from provider_gateway.failures import RecordProblem
from provider_gateway.providers._csv_blocks import Block
from provider_gateway.providers._csv_headers import Layout, not_utf8

MAX_CELL: Final = 65_536
"""Characters."""
_NOTHING: Final = " \t\r\x1a"
"""What a line may consist of without being a row; DOS ends its files with the last of them."""


@dataclass(slots=True)
class Lines:
    """What some lines hold."""

    rows: list[list[str]] = field(default_factory=list)
    """Each as wide as the header."""
    refused: list[RecordProblem] = field(default_factory=list)
    last_damaged: bool = False
    """Whether the last line is no row."""

    def refuse_last(self, id_at: int | None) -> None:
        """Take the last row for one that was cut off."""
        if self.rows:
            row = self.rows.pop()
            self.refused.append(
                RecordProblem(Code.CSV_ROW, sourced_id=row[id_at] or None if id_at is not None else None)
            )

    @property
    def received(self) -> int:
        """How many rows there were; blank lines are none."""
        return len(self.rows) + len(self.refused)


def read_lines(layout: Layout, block: Block, id_at: int | None) -> Lines:
    """The rows of a block; CSV_ENCODING if it is not UTF-8."""
    if block.endless:
        beginning = block.body.decode("utf-8", "ignore")  # it may be cut within a letter
        return Lines(refused=[_damaged(beginning, id_at)], last_damaged=True)
    try:
        text = block.body.decode()
    except UnicodeDecodeError:
        raise not_utf8(layout.collection) from None
    return split_lines(text, layout.width, id_at)


def split_lines(text: str, width: int, id_at: int | None) -> Lines:
    """The rows in a text of whole lines.

    Args:
        text: with LF or CRLF, or both; the last line may have neither.
        width: how many cells a row must have.
        id_at: the position of the sourcedId, to say which record a damaged row is of.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    if "\0" not in text and "\r" not in text and len(max(lines, key=len, default="")) <= MAX_CELL:
        try:
            rows = list(csv.reader(lines, strict=True)) if '"' in text else [line.split(",") for line in lines]
        except csv.Error:
            rows = []
        if len(rows) == len(lines) and set(map(len, rows)) <= {width} and (id_at is None or all(_column(rows, id_at))):
            return Lines(rows)
    return _split_one_by_one(lines, width, id_at)


def _column(rows: list[list[str]], position: int) -> Iterator[str]:
    return (row[position] for row in rows)


def _split_one_by_one(lines: list[str], width: int, id_at: int | None) -> Lines:
    found = Lines()
    for line in lines:
        if not line.strip(_NOTHING):
            continue
        row = _split(line, width)
        found.last_damaged = row is None
        if (not any(row)) if row is not None else (not line.strip("," + _NOTHING)):
            continue  # what spreadsheets leave below a table
        if row is None:
            found.refused.append(_damaged(line, id_at))
        elif "\0" in line:
            id_cell = row[id_at] if id_at is not None else ""
            sourced_id = id_cell if id_cell and "\0" not in id_cell else None
            found.refused.append(RecordProblem(Code.BAD_TEXT, sourced_id=sourced_id))
        else:
            found.rows.append(row)
    return found


def _split(line: str, width: int) -> list[str] | None:
    """The cells of one line; None if it is no row."""
    if "\r" in line:
        return None
    try:
        row = next(csv.reader([line], strict=True))
    except csv.Error:
        return None
    if len(row) > width and not any(row[width:]):
        del row[width:]  # commas at the end of every row but the header's
    return row if len(row) == width and len(max(row, key=len)) <= MAX_CELL else None


def _damaged(line: str, id_at: int | None) -> RecordProblem:
    """The problem of a line that is no row, with its sourcedId if that cell is surely whole."""
    problem = RecordProblem(Code.CSV_ROW)
    if id_at is not None:
        beginning = line[:MAX_CELL].partition("\r")[0]
        try:
            cells = next(csv.reader([beginning]), [])
        except csv.Error:
            cells = []
        if id_at + 1 < len(cells) and cells[id_at] and not {'"', "\r", "\n", "\0"}.intersection(cells[id_at]):
            problem.sourced_id = cells[id_at]
    return problem
