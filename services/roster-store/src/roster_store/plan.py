"""The plan: what a complete, staged fetch would change, collection by collection, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from homeroom.db import Connection
from homeroom.messages import CollectionReport
from roster_store.guard import CollectionPlan
from roster_store.staging import REMOVALS, list_staged, staging_name
from roster_store.tables import TABLES

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
    collections: dict[str, CollectionPlan] = {}
    for collection, table in TABLES.items():
        if (report := reports.get(collection)) is None:
            continue
        added = changed = removed = 0
        if table.name in staged:
            row = await connection.fetchrow(
                table.sql("plan_upserts", staging=staging_name(fetch_no, table.name)),
                integration_no,
                timeout=PLAN_SECONDS,
            )
            assert row is not None  # noqa: S101 - an aggregate always gives a row
            added, changed = row["added"], row["changed"]
        if REMOVALS in staged:
            removed = await connection.fetchval(
                table.sql("plan_removals", staging=staging_name(fetch_no, REMOVALS)),
                integration_no,
                collection,
                timeout=PLAN_SECONDS,
            )
        holds_any = last_apply > 0 and await connection.fetchval(table.sql("holds_any"), integration_no)
        collections[collection] = CollectionPlan(report.served, holds_any, added, changed, removed)
    return Plan(integration_no, fetch_no, last_apply == 0, frozenset(staged), collections)
