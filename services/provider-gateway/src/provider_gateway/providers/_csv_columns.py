"""The fast way from a block of lines to canonical bytes: column by column instead of record by record.

Four fifths of a district are enrollments, and nearly all their rows are plain: as wide as the header, active, each
word spelled as the specification spells it. Such a block is split at one go, cells that repeat (schools, roles, dates,
grades) are understood once, and the canonical JSON is written straight from the cells. Where anything is out of the
ordinary the block is left to the slow way (`_csv_reading`), which says what is wrong with which record; tests hold
the two ways equal byte by byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np
import xxhash

from homeroom.roster import MAX_TEXT, RECORD_TYPES, UserId, encode_record
from provider_gateway.canonical import Canonical, fingerprints_of
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
_PLAIN_STATUS: Final = frozenset({b"", b"active"})
_HINTS_OF_MASKS: Final = (
    b"***", "\u2022".encode(), "\u2588".encode(), b"xxx", b"masked", b"redacted", b"obfuscated", b"hidden",
    b"confidential",
)  # fmt: skip
"""What a block has in it, in lower case, wherever `masking.is_mask` may find a mask."""
_MOST_REMEMBERED: Final = 20_000
_GUARDIANS: Final = (b'"role":"guardian"', b'"role":"parent"', b'"role":"relative"')


class OutOfTheOrdinaryError(Exception):
    """A block is not for the fast way."""


@dataclass(slots=True)
class Columns:
    """The cells of a block, all rows after each other, each with `step` places."""

    flat: Sequence[bytes]
    step: int
    plain: bool
    """Whether no cell holds a character that JSON escapes."""

    def __len__(self) -> int:
        """How many rows."""
        return len(self.flat) // self.step

    def column(self, position: int) -> Sequence[bytes]:
        """The cells of one column."""
        return self.flat[position :: self.step]

    def escaped(self, position: int) -> Sequence[bytes]:
        """The cells of one column as they stand between quotes in JSON."""
        cells = self.column(position)
        if self.plain:
            return cells
        return [msgspec.json.encode(cell.decode())[1:-1] for cell in cells]


def read_columns(layout: Layout, block: Block, scope: Scope) -> Page | None:
    """A page out of a block, or None where that takes the slow way; CSV_ENCODING if it is not UTF-8."""
    program = find_program(layout)
    if program is None or scope.tied or block.endless or not block.body:
        return None
    of_users = layout.collection == "users"
    if of_users and (scope.masked is None or scope.masked):
        return None
    try:
        block.body.isascii() or block.body.decode()
    except UnicodeDecodeError:
        raise not_utf8(layout.collection) from None
    if of_users and (lowered := block.body.lower()) and any(hint in lowered for hint in _HINTS_OF_MASKS):
        return None
    try:
        columns = split_columns(block.body, layout)
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
        masked=scope.masked if of_users else None,
    )


def split_columns(body: bytes, layout: Layout) -> Columns:
    """The cells of a block of whole lines, if each of them is a row.

    Where no cell is in quotes, or every cell is, one split does it: line ends become cells of their own, and the split
    was right if they come where they should and no quote is left over.
    """
    width = layout.width
    quotes, lines, returns = body.count(b'"'), body.count(b"\n"), body.count(b"\r")
    end = b"\r\n" if returns == lines else b"\n"
    plain = len(body.translate(None, _TO_BE_ESCAPED)) + returns == len(body)
    if plain and returns in {0, lines} and body.endswith(end):
        flat: list[bytes] = []
        if not quotes:
            flat = body[: -len(end)].replace(end, b",\n,").split(b",")
        elif quotes == 2 * width * lines:
            flat = body[1 : -len(end) - 1].replace(b'"%b"' % end, b'","\n","').split(b'","')
        if len(flat) == (width + 1) * lines - 1 and flat[width :: width + 1].count(b"\n") == lines - 1:
            flat.append(b"\n")
            return Columns(flat, width + 1, plain=True)
    found = split_lines(body.decode(), width, layout.find("sourcedId"))
    if found.refused:
        raise OutOfTheOrdinaryError
    return Columns([cell.encode() for row in found.rows for cell in row], width, plain=False)


# ── programs: how the canonical bytes of a file's records are written ─────────────────────────────────────────────


class _Remembered(dict[Any, bytes]):
    """What a cell, or some cells together, become; worked out once for each."""

    def __init__(self, work_out: Callable[[tuple[str, ...]], str]) -> None:
        super().__init__()
        self._work_out = work_out

    def __missing__(self, cells: bytes | tuple[bytes, ...]) -> bytes:
        texts = (cells.decode(),) if isinstance(cells, bytes) else tuple([cell.decode() for cell in cells])
        found = self[cells] = self._work_out(texts).encode()
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
            raise OutOfTheOrdinaryError  # that is told of
        template = [b'{"sourcedId":"%b"']
        values: list[Sequence[bytes]] = [columns.escaped(self._id_at)]
        for part in self._parts:
            if part.field == "agentSourcedIds" and not with_parents:
                continue
            if part.remembered is not None:
                fragments = _recall(part.remembered, columns, part.positions)
                if part.field == "roles" and not with_parents and any(map(_is_guardian, set(fragments))):
                    raise OutOfTheOrdinaryError
                if len(fragments) == 1:
                    template.append(fragments[0].replace(b"%", b"%%"))
                else:
                    template.append(b"%b")
                    values.append(fragments)
            else:
                _write_text(part, columns, template, values)
        whole = b"".join(template) + b"}"
        encoded = [whole % cells for cells in zip(*values, strict=True)]
        if encoded and max(map(len, encoded)) > MAX_TEXT:
            raise OutOfTheOrdinaryError  # some text may be too long
        ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)) + 1) - 1
        keys = b"".join(map(xxhash.xxh3_128_digest, ids))
        return Canonical(b",".join(encoded), ends, keys, fingerprints_of(encoded))


def _recall(remembered: _Remembered, columns: Columns, positions: tuple[int, ...]) -> list[bytes]:
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


def _write_text(part: _Part, columns: Columns, template: list[bytes], values: list[Sequence[bytes]]) -> None:
    cells = columns.escaped(part.positions[0])
    beginning = f',"{part.field}":"'.encode()
    if all(cells) or part.kept_blank:
        template += [beginning, b'%b"']
        values.append(cells)
    elif part.needed:
        raise OutOfTheOrdinaryError
    elif any(cells):
        template.append(b"%b")
        values.append([b'%b%b"' % (beginning, cell) if cell else b"" for cell in cells])


def _is_reversed(dates: tuple[bytes, ...]) -> bool:
    """Whether an end may lie before its begin."""
    begin, end = dates
    return bool(begin and end) and (begin > end or not len(begin) == len(end) == _DATE_LENGTH)


def _is_guardian(roles: bytes) -> bool:
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


def _field_writer(collection: str, field: str, names: Sequence[str]) -> Callable[[tuple[str, ...]], str]:
    """What turns the cells of some columns into a field as it is written, by making a record of them the slow way."""
    if field in _OFTEN_DIFFERENT:
        return _OFTEN_DIFFERENT[field]
    columns = {**dict.fromkeys(_SAMPLE[collection]), **dict.fromkeys(names), "sourcedId": None}
    order = list(columns)
    make = row_maker(Layout(collection, len(order), tuple((name, number) for number, name in enumerate(order))))
    read = READERS[collection]

    def write(cells: tuple[str, ...]) -> str:
        given = dict(zip(names, cells, strict=True))
        known = {**_SAMPLE[collection], "sourcedId": "x", **given}
        fields = msgspec.json.decode(encode_record(read(make([known.get(name, "") for name in order]))), type=_FIELDS)
        return f',"{field}":{bytes(fields[field]).decode()}' if field in fields else ""

    return write


def _write_user_ids(cells: tuple[str, ...]) -> str:
    (cell,) = cells
    if match := _ONE_USER_ID.fullmatch(cell):
        return f',"userIds":[{{"type":"{match[1]}","identifier":"{match[2]}"}}]'
    if not cell:
        return ""
    found = sorted({(one.type or "", one.identifier) for one in read_user_ids(cell) if one.identifier})
    ids = [UserId(type=kind, identifier=identifier) for kind, identifier in found]
    return f',"userIds":{msgspec.json.encode(ids).decode()}' if ids else ""


def _write_agents(cells: tuple[str, ...]) -> str:
    (cell,) = cells
    agents = sorted({agent for agent in split_list(cell) if agent}) if cell else ()
    return f',"agentSourcedIds":{msgspec.json.encode(agents).decode()}' if agents else ""


_OFTEN_DIFFERENT: Final = {"userIds": _write_user_ids, "agentSourcedIds": _write_agents}
"""Fields for which making a record takes too long, since few cells repeat."""


def _metadata_writer(layout: Layout) -> Callable[[tuple[str, ...]], str]:
    keys = [key for key, _ in layout.metadata]
    encode = msgspec.json.Encoder(order="deterministic").encode

    def write(cells: tuple[str, ...]) -> str:
        metadata = {key: cell for key, cell in zip(keys, cells, strict=True) if cell}
        return f',"metadata":{encode(metadata).decode()}' if metadata else ""

    return write


_FIELDS: Final = dict[str, msgspec.Raw]
