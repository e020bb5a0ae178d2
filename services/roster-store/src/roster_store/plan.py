"""The plan: what a complete, staged fetch would change, collection by collection, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from homeroom.db import Connection
from homeroom.messages import CollectionReport
from roster_store.guard import CollectionPlan
from roster_store.staging import REMOVALS, list_staged, staging_name
from roster_store.tables import SQL, TABLES

PLAN_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What would happen; `staged` names the tables there is something in."""

    integration_no: int
    fetch_no: int
    first: bool
    """Nothing was ever applied for this integration."""
    staged: frozenset[str]
    collections: Mapping[str, CollectionPlan]

    @property
    def changes(self) -> int:
        """How many records would change in all."""
        return sum(part.changes for part in self.collections.values())


async def make_plan(
    connection: Connection, integration_no: int, fetch_no: int, last_apply: int, reports: Mapping[str, CollectionReport]
) -> Plan:
    """Compare what is staged with what is held, for every collection the fetch reports on."""
    staged = await list_staged(connection, fetch_no)
    first = last_apply == 0
    if not first:
        # Fresh tables have no statistics, and a plan that takes 5,000 removals for 5 reads the roster 5,000 times.
        for name in staged:
            await connection.execute(SQL["analyze_staging"].format(staging=staging_name(fetch_no, name)))
    removed = await _plan_removals(connection, integration_no, fetch_no) if REMOVALS in staged and not first else {}
    collections: dict[str, CollectionPlan] = {}
    for collection, table in TABLES.items():
        if (report := reports.get(collection)) is None:
            continue
        added = changed = 0
        if table.name in staged:
            statement = "plan_first" if first else "plan_upserts"
            row = await connection.fetchrow(
                table.sql(statement, staging=staging_name(fetch_no, table.name)),
                *(() if first else (integration_no,)),
                timeout=PLAN_SECONDS,
            )
            assert row is not None  # noqa: S101 - an aggregate always gives a row
            added, changed = row["added"], row["changed"]
        holds_any = not first and await connection.fetchval(table.sql("holds_any"), integration_no)
        collections[collection] = CollectionPlan(
            report.served, holds_any, report.wanted, added, changed, removed.get(collection, 0)
        )
    return Plan(integration_no, fetch_no, first, frozenset(staged), collections)


async def _plan_removals(connection: Connection, integration_no: int, fetch_no: int) -> dict[str, int]:
    """How many of the staged keys are those of active records, by collection.

    Keys have no index (a first load would pay for it): one pass over the district's rows finds all of them.
    """
    staging = staging_name(fetch_no, REMOVALS)
    await connection.execute(SQL["forbid_nested_loops"])
    found = {}
    for row in await connection.fetch(SQL["list_removal_collections"].format(staging=staging)):
        if table := TABLES.get(row["collection"]):
            found[table.collection] = await connection.fetchval(
                table.sql("plan_removals", staging=staging), integration_no, table.collection, timeout=PLAN_SECONDS
            )
    await connection.execute(SQL["allow_nested_loops"])
    return found
