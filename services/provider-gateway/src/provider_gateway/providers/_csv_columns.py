"""The fast way from a block of lines to canonical bytes: column by column instead of record by record.

Four fifths of a district are enrollments, and nearly all their rows are plain: as wide as the header, active, each
word spelled as the specification spells it. Such a block is split at one go, cells that repeat (schools, roles, dates,
grades) are understood once, and the canonical JSON is written straight from the cells. Where anything is out of the
ordinary the block is left to the slow way (`_csv_reading`), which says what is wrong with which record; tests hold
the two ways equal byte by byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np

from homeroom.roster import MAX_TEXT, RECORD_TYPES, UserId, encode_record
from provider_gateway.canonical import Canonical, fingerprints_of, keys_of
from provider_gateway.failures import RecordProblem
from provider_gateway.providers._csv_blocks import Block
from provider_gateway.providers._csv_headers import Layout, not_utf8
from provider_gateway.providers._csv_lines import split_lines
from provider_gateway.providers._csv_rows import read_user_ids, row_maker, split_list
from provider_gateway.providers._oneroster_records import READERS
from provider_gateway.providers._oneroster_words import BadValue
from provider_gateway.providers.contract import Page
from provider_gateway.scope import Scope

_ONE_USER_ID: Final = re.compile(r"\{([A-Za-z0-9._-]*):([A-Za-z0-9._@-]+)\}")
_TO_BE_ESCAPED: Final = bytes(set(range(32)) - {10}) + b"\\"
_DATE_LENGTH: Final = len("2026-09-01")
_QUOTE, _COMMA, _LINE_END = 34, 44, 10
_PLAIN_STATUS: Final = frozenset({"", "active"})
_HINTS_OF_MASKS: Final = (
    "***",
    "\u2022",
    "\u2588",
    "xxx",
    "masked",
    "redacted",
    "obfuscated",
    "hidden",
    "confidential",
)
"""What some text has in it, in lower case, wherever `masking.is_mask` may find a mask."""
_MOST_REMEMBERED: Final = 20_000
_GUARDIANS: Final = ('"role":"guardian"', '"role":"parent"', '"role":"relative"')


class OutOfTheOrdinaryError(Exception):
    """A block is not for the fast way."""


@dataclass(slots=True)
class Columns:
    """The cells of a block, all rows after each other."""

    flat: Sequence[str]
    width: int
    plain: bool
    """Whether no cell holds a character that JSON escapes."""

    def __len__(self) -> int:
        """How many rows."""
        return len(self.flat) // self.width

    def column(self, position: int) -> Sequence[str]:
        """The cells of one column."""
        return self.flat[position :: self.width]

    def escaped(self, position: int) -> Sequence[str]:
        """The cells of one column as they stand between quotes in JSON."""
        cells = self.column(position)
        if self.plain or not cells:
            return cells
        # Within JSON's strings a quote is never bare, so `","` only stands between two of them.
        return msgspec.json.encode(cells).decode()[2:-2].split('","')


def read_columns(layout: Layout, block: Block, scope: Scope) -> Page | None:
    """A page out of a block, or None where that takes the slow way; CSV_ENCODING if it is not UTF-8."""
    program = find_program(layout)
    if program is None or scope.tied or block.endless or not block.body:
        return None
    if layout.collection == "users" and (scope.masked is None or scope.masked):
        return None
    try:
        text = block.body.decode()
    except UnicodeDecodeError:
        raise not_utf8(layout.collection) from None
    if layout.collection == "users" and (lowered := text.lower()) and any(hint in lowered for hint in _HINTS_OF_MASKS):
        return None
    try:
        columns = split_columns(block.body, text, layout)
        canonical = program.run(columns, with_parents=scope.options.sync_parents)
    except (OutOfTheOrdinaryError, BadValue, RecordProblem):
        return None
    return Page(
        received=len(columns),
        canonical=canonical,
        left_out=(),
        tombstones=(),
        refused=(),
        stated=None,
        digest=0,
        masked=scope.masked if layout.collection == "users" else None,
    )


def split_columns(body: bytes, text: str, layout: Layout) -> Columns:
    """The cells of a block of whole lines."""
    width = layout.width
    if b"\r" in body:
        body, text = body.replace(b"\r\n", b"\n"), text.replace("\r\n", "\n")
    plain = len(body.translate(None, _TO_BE_ESCAPED)) == len(body)
    quotes, lines = body.count(b'"'), body.count(b"\n")
    if plain and body.endswith(b"\n"):
        if not quotes and _is_bare(body, lines, width):
            return Columns(text[:-1].replace("\n", ",").split(","), width, plain)
        if quotes == 2 * width * lines and _is_quoted(body, lines, width):
            flat = text[1:-2].replace('"\n"', '","').split('","')
            if len(flat) == lines * width:
                return Columns(flat, width, plain)
    found = split_lines(text, width, layout.find("sourcedId"))
    if found.refused:
        raise OutOfTheOrdinaryError
    return Columns([cell for row in found.rows for cell in row], width, plain=False)


def _is_bare(body: bytes, lines: int, width: int) -> bool:
    """Whether every line has as many commas as it should."""
    if body.count(b",") != lines * (width - 1):
        return False
    array = np.frombuffer(body, np.uint8)
    ends = np.flatnonzero((array == _COMMA) | (array == _LINE_END))[width - 1 :: width]
    return bool((array[ends] == _LINE_END).all())


def _is_quoted(body: bytes, lines: int, width: int) -> bool:
    """Whether every line begins and ends with a quote, and has no more of them than two for each cell."""
    array = np.frombuffer(body, np.uint8)
    quotes = np.flatnonzero(array == _QUOTE).reshape(lines, 2 * width)
    ends = np.flatnonzero(array == _LINE_END)
    begins = np.concatenate(([0], ends[:-1] + 1))
    return bool((quotes[:, 0] == begins).all() and (quotes[:, -1] == ends - 1).all())


# ── programs: how the canonical bytes of a file's records are written ─────────────────────────────────────────────


class _Remembered(dict[Any, str]):
    """What a cell, or some cells together, become; worked out once for each."""

    def __init__(self, work_out: Callable[[Any], str]) -> None:
        super().__init__()
        self._work_out = work_out

    def __missing__(self, cells: Any) -> str:
        found = self[cells] = self._work_out(cells)
        return found


@dataclass(slots=True)
class _Part:
    """A field of the record: either text that is one cell, or what is remembered of some cells."""

    field: str
    positions: tuple[int, ...]
    needed: bool = False
    """Of text: whether a record without it is refused."""
    kept_blank: bool = False
    """Of text: whether it is written even if it is blank."""
    remembered: _Remembered | None = None


class Program:
    """Writes the records of one file."""

    def __init__(self, at: Mapping[str, int], parts: Sequence[_Part]) -> None:
        self._id_at = at["sourcedId"]
        self._status_at = at.get("status")
        self._dates_at = (at["beginDate"], at["endDate"]) if {"beginDate", "endDate"} <= at.keys() else ()
        self._parts = parts

    def run(self, columns: Columns, *, with_parents: bool) -> Canonical:
        """The canonical records of a block; raises where a row is out of the ordinary."""
        if self._status_at is not None and not _PLAIN_STATUS.issuperset(columns.column(self._status_at)):
            raise OutOfTheOrdinaryError
        ids = columns.column(self._id_at)
        if not ids or not all(ids):
            raise OutOfTheOrdinaryError
        if self._dates_at and any(map(_is_reversed, set(zip(*map(columns.column, self._dates_at), strict=True)))):
            raise OutOfTheOrdinaryError  # it is told of
        template = ['{"sourcedId":"%s"']
        values: list[Sequence[str] | Iterator[str]] = [columns.escaped(self._id_at)]
        for part in self._parts:
            if part.field == "agentSourcedIds" and not with_parents:
                continue
            if part.remembered is not None:
                fragments = _recall(part.remembered, columns, part.positions)
                if part.field == "roles" and not with_parents and any(map(_is_guardian, set(fragments))):
                    raise OutOfTheOrdinaryError
                if len(fragments) == 1:
                    template.append(fragments[0].replace("%", "%%"))
                else:
                    template.append("%s")
                    values.append(fragments)
            else:
                _write_text(part, columns, template, values)
        whole = "".join(template) + "}"
        encoded = [(whole % cells).encode() for cells in zip(*values, strict=True)]
        if encoded and max(map(len, encoded)) > MAX_TEXT:
            raise OutOfTheOrdinaryError  # some text may be too long
        ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)) + 1) - 1
        return Canonical(b",".join(encoded), ends, keys_of(ids), fingerprints_of(encoded))


def _recall(remembered: _Remembered, columns: Columns, positions: tuple[int, ...]) -> list[str]:
    """What the cells of some columns become, row by row; only once where it is the same in all rows."""
    if len(remembered) > _MOST_REMEMBERED:
        remembered.clear()
    cells = [columns.column(position) for position in positions]
    if all(
        column.count(column[0]) == len(column) for column in cells
    ):  # mostly there is one school, one role, one date
        firsts = [column[0] for column in cells]
        return [remembered[firsts[0] if len(cells) == 1 else tuple(firsts)]]
    return list(map(remembered.__getitem__, cells[0] if len(cells) == 1 else zip(*cells, strict=True)))


def _write_text(
    part: _Part, columns: Columns, template: list[str], values: list[Sequence[str] | Iterator[str]]
) -> None:
    cells = columns.escaped(part.positions[0])
    if all(cells) or part.kept_blank:
        template.append(f',"{part.field}":"%s"')
        values.append(cells)
    elif part.needed:
        raise OutOfTheOrdinaryError
    elif any(cells):
        template.append("%s")
        values.append([f',"{part.field}":"{cell}"' if cell else "" for cell in cells])


def _is_reversed(dates: tuple[str, str]) -> bool:
    """Whether an end may lie before its begin."""
    begin, end = dates
    return bool(begin and end) and (begin > end or not len(begin) == len(end) == _DATE_LENGTH)


def _is_guardian(roles: str) -> bool:
    return any(word in roles for word in _GUARDIANS)


_TEXTS: Final[Mapping[str, Mapping[str, str]]] = {
    "users": {
        "givenName": "givenName",
        "familyName": "familyName",
        "username": "username",
        "middleName": "middleName",
        "preferredFirstName": "preferredGivenName",
        "preferredMiddleName": "preferredMiddleName",
        "preferredLastName": "preferredFamilyName",
        "pronouns": "pronouns",
        "identifier": "identifier",
        "userMasterIdentifier": "userMasterIdentifier",
        "email": "email",
        "sms": "sms",
        "phone": "phone",
    },
    "classes": {"title": "title", "classCode": "classCode"},
    "enrollments": {"userSourcedId": "userSourcedId", "classSourcedId": "classSourcedId"},
}
"""Fields that are one cell's text and mostly another one in each row, and their columns."""
_REMEMBERED: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "users": {
        "roles": ("role", "orgSourcedIds", "primaryOrgSourcedId"),
        "enabledUser": ("enabledUser",),
        "userIds": ("userIds",),
        "agentSourcedIds": ("agentSourcedIds",),
        "grades": ("grades",),
    },
    "classes": {
        "schoolSourcedId": ("schoolSourcedId",),
        "classType": ("classType",),
        "location": ("location",),
        "courseSourcedId": ("courseSourcedId",),
        "termSourcedIds": ("termSourcedIds",),
        "grades": ("grades",),
        "subjects": ("subjects",),
        "subjectCodes": ("subjectCodes",),
        "periods": ("periods",),
    },
    "enrollments": {
        "schoolSourcedId": ("schoolSourcedId",),
        "role": ("role",),
        "primary": ("primary",),
        "beginDate": ("beginDate",),
        "endDate": ("endDate",),
    },
}
"""Fields that are worked out of one or more cells, and their columns."""
_KEPT_BLANK: Final = frozenset({"givenName", "familyName"})
_SAMPLE: Final[Mapping[str, Mapping[str, str]]] = {
    "users": {"givenName": "x", "familyName": "x", "role": "student", "orgSourcedIds": "x"},
    "classes": {"title": "x", "schoolSourcedId": "x"},
    "enrollments": {"userSourcedId": "x", "classSourcedId": "x", "role": "student"},
}
"""Cells that make a record, for working out what one further cell becomes."""


@lru_cache(maxsize=256)
def find_program(layout: Layout) -> Program | None:
    """How to write the records of a file; None where only the slow way will do."""
    texts = _TEXTS.get(layout.collection)
    if texts is None:
        return None
    remembered = _REMEMBERED[layout.collection]
    at = dict(layout.columns)
    if "sourcedId" not in at or not _SAMPLE[layout.collection].keys() <= at.keys():
        return None
    parts: list[_Part] = []
    for info in msgspec.structs.fields(RECORD_TYPES[layout.collection]):
        field = info.encode_name
        if field == "metadata" and layout.metadata:
            positions = tuple(position for _, position in layout.metadata)
            parts.append(_Part(field, positions, remembered=_Remembered(_metadata_writer(layout))))
        elif field in texts and texts[field] in at:
            needed = info.required and field not in _KEPT_BLANK
            parts.append(_Part(field, (at[texts[field]],), needed, field in _KEPT_BLANK))
        elif field in remembered:
            names = [name for name in remembered[field] if name in at]
            if names:
                write = _field_writer(layout.collection, field, names)
                parts.append(_Part(field, tuple(at[name] for name in names), remembered=_Remembered(write)))
    return Program(at, parts)


def _field_writer(collection: str, field: str, names: Sequence[str]) -> Callable[[Any], str]:
    """What turns the cells of some columns into a field as it is written, by making a record of them the slow way."""
    if field in _OFTEN_DIFFERENT:
        return _OFTEN_DIFFERENT[field]
    columns = {**dict.fromkeys(_SAMPLE[collection]), **dict.fromkeys(names), "sourcedId": None}
    order = list(columns)
    make = row_maker(Layout(collection, len(order), tuple((name, number) for number, name in enumerate(order))))
    read = READERS[collection]

    def write(cells: Any) -> str:
        given = dict(zip(names, (cells,) if len(names) == 1 else cells, strict=True))
        known = {**_SAMPLE[collection], "sourcedId": "x", **given}
        fields = msgspec.json.decode(encode_record(read(make([known.get(name, "") for name in order]))), type=_FIELDS)
        return f',"{field}":{bytes(fields[field]).decode()}' if field in fields else ""

    return write


def _write_user_ids(cell: str) -> str:
    if match := _ONE_USER_ID.fullmatch(cell):
        return f',"userIds":[{{"type":"{match[1]}","identifier":"{match[2]}"}}]'
    if not cell:
        return ""
    found = sorted({(one.type or "", one.identifier) for one in read_user_ids(cell) if one.identifier})
    ids = [UserId(type=kind, identifier=identifier) for kind, identifier in found]
    return f',"userIds":{msgspec.json.encode(ids).decode()}' if ids else ""


def _write_agents(cell: str) -> str:
    agents = sorted({agent for agent in split_list(cell) if agent}) if cell else ()
    return f',"agentSourcedIds":{msgspec.json.encode(agents).decode()}' if agents else ""


_OFTEN_DIFFERENT: Final = {"userIds": _write_user_ids, "agentSourcedIds": _write_agents}
"""Fields for which making a record takes too long, since few cells repeat."""


def _metadata_writer(layout: Layout) -> Callable[[Any], str]:
    keys = [key for key, _ in layout.metadata]
    encode = msgspec.json.Encoder(order="deterministic").encode

    def write(cells: Any) -> str:
        given = zip(keys, (cells,) if len(keys) == 1 else cells, strict=True)
        metadata = {key: cell for key, cell in given if cell}
        return f',"metadata":{encode(metadata).decode()}' if metadata else ""

    return write


_FIELDS: Final = dict[str, msgspec.Raw]
