"""The plan: what a complete, staged fetch would change, collection by collection, before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from homeroom.db import Connection
from homeroom.messages import CollectionReport
from roster_store.guard import CollectionPlan
from roster_store.picture import PICTURE_SECONDS, Picture
from roster_store.tables import TABLES, Table


@dataclass(frozen=True, slots=True)
class Plan:
    """What would happen."""

    picture: Picture
    collections: Mapping[str, CollectionPlan]

    @property
    def changes(self) -> int:
        """How many records would change in all."""
        return sum(part.changes for part in self.collections.values())

    def amend(self, amended: Mapping[str, CollectionPlan]) -> Plan:
        """The plan with other numbers for some collections, in the order of the roster."""
        merged = {**self.collections, **amended}
        return replace(self, collections={name: merged[name] for name in TABLES if name in merged})


async def make_plan(connection: Connection, picture: Picture, reports: Mapping[str, CollectionReport]) -> Plan:
    """Compare what is staged with what is held, for every collection the fetch reports on."""
    removed = await count_gone(connection, picture)
    missed = await _count_missed(connection, picture)
    collections: dict[str, CollectionPlan] = {}
    for collection, table in TABLES.items():
        if (report := reports.get(collection)) is None:
            continue
        added, changed, manual = await _count_upserts(connection, picture, table)
        holds_any = not picture.first and await connection.fetchval(table.sql("holds_any"), picture.integration_no)
        collections[collection] = CollectionPlan(
            served=report.served,
            holds_any=holds_any,
            wanted=report.wanted,
            whole=report.whole,
            added=added,
            changed=changed,
            removed=removed.get(collection, 0),
            missed=missed.get(collection, 0),
            manual=manual,
        )
    return Plan(picture, collections)


async def count_again(connection: Connection, plan: Plan, collections: Iterable[str]) -> Plan:
    """The plan after some of what was staged of these collections was taken out again."""
    amended = {}
    for collection in collections:
        if (part := plan.collections.get(collection)) and plan.picture.holds(collection):
            added, changed, manual = await _count_upserts(connection, plan.picture, TABLES[collection])
            amended[collection] = replace(part, added=added, changed=changed, manual=manual)
    return plan.amend(amended)


async def count_gone(connection: Connection, picture: Picture) -> dict[str, int]:
    """How many active records are to be removed, by collection."""
    return {row["collection"]: row["count"] for row in await connection.fetch(picture.sql("count_gone"))}


async def _count_missed(connection: Connection, picture: Picture) -> dict[str, int]:
    """How many of them go because two runs missed them, by collection."""
    return {row["collection"]: row["count"] for row in await connection.fetch(picture.sql("count_missed"))}


async def _count_upserts(connection: Connection, picture: Picture, table: Table) -> tuple[int, int, int]:
    """How many records would be added and changed, and how many left out for others that were made by hand."""
    if table.name not in picture.staged:
        return 0, 0, 0
    row = await connection.fetchrow(
        table.sql("plan_first" if picture.first else "plan_upserts", staging=picture.name(table.name)),
        *(() if picture.first else (picture.integration_no,)),
        timeout=PICTURE_SECONDS,
    )
    assert row is not None  # noqa: S101 - an aggregate always gives a row
    return row["added"], row["changed"], row["manual"]
