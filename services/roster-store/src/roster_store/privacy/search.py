"""Searching everything for a text: the proof that somebody was erased, or the way to find where they are still.

Every column that can hold text, JSON or bytes, of every table of Homeroom's schemas in this database, is read once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import asyncpg

from homeroom.db import Connection, Database
from roster_store.tables import SQL

TABLE_SECONDS: Final = 600.0
LOCK_MILLISECONDS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Found:
    """Where something was found."""

    schema: str
    table: str
    column: str
    rows: int


@dataclass(frozen=True, slots=True)
class Search:
    """What a search came to."""

    schemas: list[str]
    tables: int
    columns: int
    found: list[Found]
    skipped: list[str]
    """Tables that went or were locked meanwhile, as staging tables do."""


async def search(database: Database, texts: Sequence[str]) -> Search:
    """Look for any of these texts, in any case of letters, as a part of any value.

    In bytes, which is how messages are kept, the case counts.
    """
    forms = sorted({form for text in texts for form in _list_forms(text)})
    wanted = sorted({form.lower() for form in forms}), [form.encode() for form in forms]
    async with database.connection() as connection:
        schemas = [row["nspname"] for row in await connection.fetch(SQL["list_search_schemas"])]
        columns = await connection.fetch(SQL["list_searched"], schemas)
        found: list[Found] = []
        skipped: list[str] = []
        tables = 0
        for (schema, table), fields in groupby(columns, key=lambda row: (row["schema"], row["table"])):
            try:
                found += await _search_table(connection, schema, table, list(fields), wanted)
                tables += 1
            except (asyncpg.UndefinedTableError, asyncpg.LockNotAvailableError):
                skipped.append(f"{schema}.{table}")
    return Search(schemas, tables, len(columns), found, skipped)


def _list_forms(text: str) -> list[str]:
    """A text as it stands in text, and in JSON where that differs."""
    return [text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1]]


async def _search_table(
    connection: Connection,
    schema: str,
    table: str,
    fields: Sequence[asyncpg.Record],
    wanted: tuple[list[str], list[bytes]],
) -> list[Found]:
    counts = ", ".join(f"count(*) FILTER (WHERE {_holds(field['column'], binary=field['binary'])})" for field in fields)
    async with connection.transaction(readonly=True):
        await connection.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
        row = await connection.fetchrow(
            f"SELECT {counts} FROM {_quote(schema)}.{_quote(table)} AS held,"  # noqa: S608 - names of the catalogue, quoted
            " (SELECT $1::text[] AS texts, $2::bytea[] AS bytes) AS wanted",
            *wanted,
            timeout=TABLE_SECONDS,
        )
    assert row is not None  # noqa: S101 - an aggregate always gives a row
    return [
        Found(schema, table, field["column"], count) for field, count in zip(fields, row.values(), strict=True) if count
    ]


def _holds(column: str, *, binary: bool) -> str:
    """Whether a column holds one of the texts; in bytes the case of letters counts."""
    name = f"held.{_quote(column)}"
    if binary:
        return f"EXISTS (SELECT FROM unnest(wanted.bytes) AS one WHERE position(one IN {name}) > 0)"
    return f"EXISTS (SELECT FROM unnest(wanted.texts) AS one WHERE strpos(lower({name}::text), one) > 0)"


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
