"""Which table holds which collection, and how a record becomes a row and back."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

import asyncpg
import msgspec
from asyncpg.pgproto.pgproto import UUID
from msgspec.structs import astuple

from homeroom.db import load_statements
from homeroom.roster import RECORD_TYPES, Record, record_key

SQL = load_statements("roster_store")

_JSON_FIELDS = frozenset({"metadata", "roles", "user_ids"})


@dataclass(frozen=True, slots=True)
class Table:
    """A collection's table; `fields` are the record's, in the order rows are written and read."""

    collection: str
    name: str
    record_type: type[Record]
    fields: tuple[str, ...]
    columns: tuple[str, ...]
    decoder: msgspec.json.Decoder[list[Any]]

    def sql(self, statement: str, **parts: str) -> str:
        """A named statement for this table."""
        return SQL[statement].format(table=self.name, **parts)

    @property
    def column_list(self) -> str:
        """The columns of key, fingerprint and record, quoted and separated by commas."""
        return ", ".join(f'"{column}"' for column in self.columns)

    def rows(self, records: bytes | msgspec.Raw, fingerprints: bytes) -> list[tuple[Any, ...]]:
        """A chunk's records as rows for COPY. Raises msgspec.DecodeError, struct.error or ValueError if malformed."""
        decoded = self.decoder.decode(records)
        marks = struct.unpack(f">{len(fingerprints) // 8}q", fingerprints)
        return [
            (UUID(record_key(record.sourced_id)), mark, *astuple(record))
            for record, mark in zip(decoded, marks, strict=True)
        ]

    def record(self, row: asyncpg.Record) -> Record:
        """The record of a row that was read with `column_list`."""
        return msgspec.convert(
            {camel: row[column] for column, camel in _camel_names(self.fields).items()}, self.record_type
        )


_CAMEL: dict[tuple[str, ...], dict[str, str]] = {}


def _camel_names(fields: tuple[str, ...]) -> dict[str, str]:
    if fields not in _CAMEL:
        _CAMEL[fields] = {name: re.sub(r"_(\w)", lambda found: found[1].upper(), name) for name in fields}
    return _CAMEL[fields]


def _table(collection: str, record_type: type[Record]) -> Table:
    fields = record_type.__struct_fields__
    return Table(
        collection=collection,
        name=re.sub(r"[A-Z]", lambda found: "_" + found[0].lower(), collection),
        record_type=record_type,
        fields=fields,
        columns=("key", "fingerprint", *fields),
        decoder=msgspec.json.Decoder(list[record_type]),  # type: ignore[valid-type]  # a type chosen at run time
    )


TABLES: dict[str, Table] = {collection: _table(collection, kind) for collection, kind in RECORD_TYPES.items()}
"""Every collection's table, parents before children."""
