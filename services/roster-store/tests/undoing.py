"""What tests of history and undo share: a district of random days, and the state of its roster."""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from played_gateway import Gateway, enrollment, section, student

from homeroom.db import Database
from homeroom.messages import Fact, GuardLimits, Restore, Terms
from roster_store.restore import restore_before
from roster_store.tables import TABLES

ANYTHING_GOES = Terms(
    guard=GuardLimits(
        remove_share=1, school_remove_share=1, change_share=1, rekey_share=1, small=0, remove_most=1_000_000
    )
)
"""A guard that lets every change pass, where a test is about something else."""

Rows = dict[tuple[str, str], dict[str, Any]]
"""Collection and sourcedId → the row."""


def run_id(number: int) -> str:
    """The id of a played gateway's run."""
    return str(uuid.UUID(int=number))


def undo(gateway: Gateway, before_run: int, *, attempt: int = 1, terms: Terms | None = None) -> Restore:
    """The next command to an integration: bring the roster back to what it was before a run."""
    gateway.run_number += attempt == 1
    return Restore(
        run_id=run_id(gateway.run_number),
        run_number=gateway.run_number,
        attempt=attempt,
        integration_id=gateway.integration_id,
        organization_id=gateway.organization_id,
        before_run_id=run_id(before_run),
        terms=terms or gateway.terms,
    )


async def carry_out(database: Database, gateway: Gateway, command: Restore) -> Fact:
    """Carry an undo out; its last fact."""
    fact = list(await restore_before(database, command))[-1]
    gateway.basis = getattr(fact, "apply", None) or gateway.basis
    return fact


async def read_rows(database: Database, integration_id: str) -> Rows:
    """Every row an integration has, removed ones too."""
    found: Rows = {}
    for collection, table in TABLES.items():
        rows = await database.fetch(
            f"SELECT held.* FROM {table.name} AS held JOIN integration ON no = integration_no WHERE id = $1::uuid",  # noqa: S608 - a table of ours
            integration_id,
        )
        found |= {(collection, row["sourced_id"]): dict(row) for row in rows}
    return found


async def count_staging(database: Database) -> int:
    """Staging tables that still exist."""
    return await database.fetchval("SELECT count(*) FROM pg_class WHERE relnamespace = 'roster_staging'::regnamespace")


def shown(rows: Rows) -> dict[tuple[str, str], dict[str, Any]]:
    """What anybody sees of them: active records with their fields."""
    return {
        place: {column: row[column] for column in TABLES[place[0]].columns}
        for place, row in rows.items()
        if row["active"]
    }


class RandomDistrict:
    """People who come, change, go and come back, with classes and enrollments that always lead somewhere."""

    def __init__(self, gateway: Gateway, seed: int) -> None:
        self.gateway = gateway
        self._random = random.Random(seed)
        self._held: dict[str, dict[str, Any]] = {"classes": {}, "users": {}, "enrollments": {}}

    def next_day(self) -> tuple[dict[str, list[Any]], dict[str, list[str]], dict[str, int]]:
        """What a gateway would send of the next day: what differs, what is gone, how many there are."""
        some = self._random
        classes = some.sample(range(4), some.randint(1, 4))
        users = some.sample(range(6), some.randint(2, 6))
        pairs = [(user, group) for user in users for group in classes if some.random() < 0.4]
        pairs = pairs or [(users[0], classes[0])]
        picture: dict[str, dict[str, Any]] = {
            "classes": {f"class-{one}": section(one, title=some.choice(("Maths", "Art"))) for one in classes},
            "users": {f"user-{one}": student(one, some.choice(("Ana", "Bea", "Mila"))) for one in users},
            "enrollments": {f"enrollment-{user}-{group}": enrollment(user, group) for user, group in pairs},
        }
        changed = {
            collection: [record for one, record in records.items() if self._held[collection].get(one) != record]
            for collection, records in picture.items()
        }
        gone = {name: [one for one in held if one not in picture[name]] for name, held in self._held.items()}
        self._held = picture
        return (
            {name: records for name, records in changed.items() if records},
            {name: ids for name, ids in gone.items() if ids},
            {name: len(records) for name, records in picture.items()},
        )

    def learn(self, rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
        """Take what the store holds for what the gateway compares with, as after an undo."""
        self._held = {"classes": {}, "users": {}, "enrollments": {}}
        for (collection, sourced_id), row in rows.items():
            if row["active"]:
                self._held[collection][sourced_id] = TABLES[collection].record(row)

    def choose(self, among: Sequence[int]) -> int:
        """One of some runs."""
        return self._random.choice(among)

    def undoes(self) -> bool:
        """Whether the next thing to happen is an undo."""
        return self._random.random() < 0.3
