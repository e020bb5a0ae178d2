"""The picture one complete fetch staged, prepared for being compared with what is held.

Statements name the staging tables they read as `{staged_users}`, `{gone}` and so on. Where nothing was staged they
get the collection's `_fields` table, which has the same columns and is always empty, so that no statement needs a
second form.
"""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from homeroom.db import Connection
from roster_store.staging import REMOVALS, list_staged, staging_name
from roster_store.tables import SQL, TABLES

GONE = "gone"
DANGLING = "dangling"
WAITING = "waiting"
PICTURE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Picture:
    """What is staged of one fetch; `staged` names the tables there is something in."""

    integration_no: int
    fetch_no: int
    first: bool
    """Nothing was ever applied for this integration, and nothing made by hand."""
    staged: frozenset[str]

    def name(self, table: str) -> str:
        """The staging table for one of the roster's tables, or an empty one of the same columns."""
        if table in self.staged:
            return f"roster_staging.{staging_name(self.fetch_no, table)}"
        return f"{table}_fields"

    def sql(self, statement: str, **parts: str) -> str:
        """A named statement with the names of this fetch's staging tables."""
        names = {f"staged_{table.name}": self.name(table.name) for table in TABLES.values()}
        dangling = f"roster_staging.{staging_name(self.fetch_no, DANGLING)}"
        return SQL[statement].format(**names, gone=self.name(GONE), waiting=self.waiting, dangling=dangling, **parts)

    @property
    def waiting(self) -> str:
        """The table of removals that are kept back; it is there where some are."""
        return f"roster_staging.{staging_name(self.fetch_no, WAITING)}"

    def holds(self, *collections: str) -> bool:
        """Whether anything was staged of one of these collections."""
        return any(TABLES[collection].name in self.staged for collection in collections)


async def holds_nothing(connection: Connection, integration: asyncpg.Record) -> bool:
    """Whether there is no record of an integration yet, so that there is nothing to compare a picture with.

    Records made by hand may be there before the first picture is.
    """
    if integration["last_apply"]:
        return False
    for table in TABLES.values():
        if await connection.fetchval(table.sql("holds_records"), integration["no"]):
            return False
    return True


async def open_picture(
    connection: Connection, integration_no: int, fetch_no: int, *, first: bool, duplicates: bool
) -> Picture:
    """Take what is staged of a fetch: rivals decided, statistics made, the records behind removed keys found."""
    staged = await list_staged(connection, fetch_no)
    if duplicates:
        for name in staged - {REMOVALS}:
            statement = SQL["drop_rivals"].format(staging=staging_name(fetch_no, name))
            await connection.execute(statement, timeout=PICTURE_SECONDS)
    if first:
        await forbid_nested_loops(connection)
    else:
        # Fresh tables have no statistics, and a plan that takes 5,000 removals for 5 reads the roster 5,000 times.
        for name in staged:
            await connection.execute(SQL["analyze_staging"].format(staging=staging_name(fetch_no, name)))
    removes = REMOVALS in staged and not first
    found = frozenset(staged - {REMOVALS} | ({GONE} if removes else set()))
    picture = Picture(integration_no, fetch_no, first, found)
    if removes:
        await _find_gone(connection, picture)
    return picture


async def forbid_nested_loops(connection: Connection) -> None:
    """Have Postgres join by hashing until it is allowed otherwise, or the transaction ends.

    Without good statistics it takes thousands of rows for one, and reads a table once for each of them.
    """
    await connection.execute(SQL["forbid_nested_loops"])


async def allow_nested_loops(connection: Connection, picture: Picture) -> None:
    """Allow them again where a few staged rows are looked up in a large roster; never on a first load."""
    if not picture.first:
        await connection.execute(SQL["allow_nested_loops"])


async def _find_gone(connection: Connection, picture: Picture) -> None:
    """Find the active records behind the staged keys, once; everything after goes by sourcedId.

    Keys have no index (a first load would pay for it): one pass over the district's rows finds all of them.
    """
    gone, removals = staging_name(picture.fetch_no, GONE), staging_name(picture.fetch_no, REMOVALS)
    await connection.execute(SQL["create_staging"].format(staging=gone, fields="gone_fields"))
    await forbid_nested_loops(connection)
    for row in await connection.fetch(SQL["list_removal_collections"].format(staging=removals)):
        if table := TABLES.get(row["collection"]):
            await connection.execute(
                table.sql("find_gone", staging=removals, gone=picture.name(GONE)),
                picture.integration_no,
                table.collection,
                timeout=PICTURE_SECONDS,
            )
    await allow_nested_loops(connection, picture)
    await analyze_gone(connection, picture)


async def analyze_gone(connection: Connection, picture: Picture) -> None:
    """Have statistics made of what goes, after more than a little was put there."""
    await connection.execute(SQL["analyze_staging"].format(staging=staging_name(picture.fetch_no, GONE)))
