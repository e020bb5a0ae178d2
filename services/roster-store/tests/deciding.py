"""Plays an admin who decides about what is held, and looks at what became of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from played_gateway import Gateway, as_message, campus, together

from homeroom.db import Database
from homeroom.messages import Decide, Fact, Held, to_commands
from roster_store.commands import CommandConsumer

_FACTS: msgspec.json.Decoder[Fact] = msgspec.json.Decoder(Fact)

TOWN = together(campus("North", 1, students=80, classes=4), campus("South", 201, students=80, classes=4))
"""Two schools of 80 students each, all of whom are in their school's first class."""


@dataclass
class Admin:
    """Decides about what the integration of a played gateway holds."""

    gateway: Gateway
    database: Database

    def command(self, held: Held, action: Any = "approve", **changed: Any) -> Decide:
        """A decision about a hold; anything of it may be forged."""
        command = Decide(
            decision_id=uuid.uuid4().hex,
            run_id=held.run_id,
            attempt=held.attempt,
            integration_id=held.integration_id,
            plan=held.plan,
            action=action,
            by="admin",
            at=datetime(2026, 9, 1, 12, tzinfo=UTC),
        )
        return msgspec.structs.replace(command, **changed)

    async def send(self, *commands: Decide) -> list[Fact]:
        """Send decisions and return all that is published about them."""
        bus = self.gateway.bus
        before = len(bus.published)
        consumer = CommandConsumer(self.database, bus)  # type: ignore[arg-type]  # publish is all the consumer uses
        await consumer.handle([as_message(to_commands(command), place) for place, command in enumerate(commands)])
        facts = self.facts(before)
        for fact in facts:
            self.gateway.basis = getattr(fact, "apply", None) or self.gateway.basis
        return facts

    def facts(self, start: int) -> list[Fact]:
        """The facts that were published, from one on."""
        return [_FACTS.decode(message.value) for message in self.gateway.bus.published[start:]]

    async def decide(self, held: Held, action: Any = "approve", **changed: Any) -> list[Fact]:
        """Decide about a hold."""
        return await self.send(self.command(held, action, **changed))

    async def count(self) -> dict[str, int]:
        """How many records are active, by table."""
        return {
            table: await self.database.fetchval(f"SELECT count(*) FROM {table} WHERE active")  # noqa: S608 - our tables
            for table in ("orgs", "classes", "users", "enrollments")
        }

    async def dangling(self) -> int:
        """Active enrollments of people or classes that are not (I8)."""
        found: int = await self.database.fetchval(
            "SELECT count(*) FROM enrollments AS held WHERE active AND (NOT EXISTS (SELECT FROM users AS person"
            " WHERE person.active AND person.integration_no = held.integration_no"
            " AND person.sourced_id = held.user_sourced_id) OR NOT EXISTS (SELECT FROM classes AS class"
            " WHERE class.active AND class.integration_no = held.integration_no"
            " AND class.sourced_id = held.class_sourced_id))"
        )
        return found

    async def staged(self) -> set[str]:
        """The tables that are still staged, without the number of their fetch, and whether they would survive."""
        rows = await self.database.fetch(
            "SELECT relname, relpersistence::text AS kind FROM pg_class"
            " WHERE relnamespace = 'roster_staging'::regnamespace AND relname LIKE 'f%'"
        )
        return {row["relname"].partition("_")[2] + ("" if row["kind"] == "p" else " unlogged") for row in rows}


def people(first: int, last: int) -> list[str]:
    """The sourcedIds of students."""
    return [f"user-{number}" for number in range(first, last + 1)]


def leave(first: int, last: int, group: int) -> dict[str, list[str]]:
    """Removals of students and of their enrollments in a class."""
    return {
        "users": people(first, last),
        "enrollments": [f"enrollment-{number}-{group}" for number in range(first, last + 1)],
    }


def merge(*removals: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Several removals as one."""
    merged: dict[str, list[str]] = {}
    for part in removals:
        for collection, ids in part.items():
            merged.setdefault(collection, []).extend(ids)
    return merged
