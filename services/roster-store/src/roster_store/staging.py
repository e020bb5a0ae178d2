"""Staging: what arrives of a fetch is kept apart until it is whole (architecture §1, idea 2).

A fetch is staged in tables of its own, so that one district never reads through another's rows and throwing a fetch
away is dropping tables. They are unlogged: a crash of Postgres empties them and the ledger of chunks together, the
fetch is then refused as incomplete, and the run is fetched again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from asyncpg.pgproto.pgproto import UUID

from homeroom.db import Connection
from homeroom.messages import Chunk, FetchAbandoned, FetchStarted
from homeroom.telemetry import get_logger
from roster_store.tables import SQL, TABLES

log = get_logger(__name__)

COPY_SECONDS = 300.0
REMOVALS = "removals"
KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class StagedRows:
    """A chunk made ready for COPY."""

    seq: int
    table: str
    """A table of the roster, or `removals`."""
    rows: Sequence[tuple[Any, ...]]


def read_chunk(chunk: Chunk) -> StagedRows:
    """Decode a chunk; raises ValueError, KeyError or msgspec.DecodeError for a malformed one."""
    if not chunk.removed_keys:
        table = TABLES[chunk.collection]
        return StagedRows(chunk.seq, table.name, table.rows(chunk.records, chunk.fingerprints))
    if chunk.collection not in TABLES or len(chunk.removed_keys) % KEY_BYTES:
        msg = "removals need a known collection and keys of 16 bytes"
        raise ValueError(msg)
    keys = (chunk.removed_keys[at : at + KEY_BYTES] for at in range(0, len(chunk.removed_keys), KEY_BYTES))
    return StagedRows(chunk.seq, REMOVALS, [(chunk.collection, UUID(key), chunk.removal_reason) for key in keys])


async def start_fetch(connection: Connection, started: FetchStarted) -> None:
    """Note a fetch and let it overtake older ones of its integration; an older one is not even noted."""
    await connection.execute(
        SQL["insert_integration"], started.integration_id, started.organization_id, started.provider
    )
    integration = await connection.fetchrow(SQL["lock_integration"], started.integration_id)
    assert integration is not None  # noqa: S101 - it was inserted a statement before
    if (started.run_number, started.attempt) < (integration["newest_run"], integration["newest_attempt"]):
        log.info("fetch.overtaken", run_id=started.run_id, attempt=started.attempt)
        return
    await connection.execute(SQL["fence_integration"], integration["no"], started.run_number, started.attempt)
    await connection.execute(
        SQL["insert_fetch"],
        started.fetch_id,
        integration["no"],
        started.run_id,
        started.run_number,
        started.attempt,
        started.basis,
        msgspec.to_builtins(started.terms),
    )
    for overtaken in await connection.fetch(SQL["list_overtaken"], integration["no"], started.fetch_id):
        await end_fetch(connection, overtaken["no"], "overtaken")


async def abandon_fetch(connection: Connection, abandoned: FetchAbandoned) -> None:
    """Throw a fetch away because the gateway said it will not be completed."""
    fetch = await connection.fetchrow(SQL["lock_fetch"], abandoned.fetch_id)
    if fetch is not None and fetch["state"] == "staging":
        await end_fetch(connection, fetch["no"], "abandoned")


async def stage_chunks(connection: Connection, fetch_id: str, chunks: Sequence[StagedRows]) -> None:
    """Stage chunks that were not staged before; those of an unknown or ended fetch are let go by."""
    fetch = await connection.fetchrow(SQL["find_fetch"], fetch_id)
    if fetch is None or fetch["state"] != "staging":
        return
    unique = {chunk.seq: chunk for chunk in chunks}
    new = await connection.fetch(SQL["stage_chunks"], fetch["no"], list(unique))
    for table, rows in _merge_by_table(unique[row["seq"]] for row in new):
        staging = staging_name(fetch["no"], table)
        await connection.execute(SQL["create_staging"].format(staging=staging, fields=f"{table}_fields"))
        await connection.copy_records_to_table(
            staging, schema_name="roster_staging", records=rows, timeout=COPY_SECONDS
        )


def _merge_by_table(chunks: Iterable[StagedRows]) -> Iterable[tuple[str, list[tuple[Any, ...]]]]:
    merged: dict[str, list[tuple[Any, ...]]] = {}
    for chunk in chunks:
        merged.setdefault(chunk.table, []).extend(chunk.rows)
    return merged.items()


def staging_name(fetch_no: int, table: str) -> str:
    """The staging table of one of the roster's tables for one fetch."""
    return f"f{fetch_no}_{table}"


async def list_staged(connection: Connection, fetch_no: int) -> set[str]:
    """The tables something was staged for."""
    prefix = staging_name(fetch_no, "")
    return {row["relname"].removeprefix(prefix) for row in await connection.fetch(SQL["list_staging"], prefix)}


async def end_fetch(
    connection: Connection, fetch_no: int, state: str, outcome: bytes | None = None, *, keep: Collection[str] = ()
) -> None:
    """Give a fetch its final state and throw away what was staged of it, but for the tables of what is held."""
    await connection.execute(SQL["end_fetch"], fetch_no, state, outcome)
    await drop_staged(connection, fetch_no, await list_staged(connection, fetch_no) - set(keep))
    await connection.execute(SQL["forget_chunks"], fetch_no)


async def drop_staged(connection: Connection, fetch_no: int, tables: Collection[str] | None = None) -> None:
    """Throw away what was staged of a fetch, all of it or some tables."""
    for table in await list_staged(connection, fetch_no) if tables is None else tables:
        await connection.execute(SQL["drop_staging"].format(staging=staging_name(fetch_no, table)))
