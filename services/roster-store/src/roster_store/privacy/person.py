"""Whom a request is about: one person of one integration, and what only they have."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from homeroom.auth import Caller
from homeroom.codes import Code
from homeroom.db import Connection
from homeroom.problems import Problem
from homeroom.roster import record_key
from roster_store.privacy.holdings import HOLDINGS, Holding
from roster_store.tables import SQL


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of an integration."""

    integration_no: int
    integration_id: UUID
    organization_id: UUID
    sourced_id: str
    key: UUID
    """What stands for them where they are not to be named."""
    records: tuple[str, ...]
    """The sourcedIds of their enrollments, those that were removed as well."""
    keys: tuple[UUID, ...]
    """What the gateway calls their records."""
    accounts: tuple[int, ...] = ()
    """Accounts of products that are theirs, or nobody's with their id or address."""

    @property
    def arguments(self) -> tuple[int, UUID, str, list[str], list[UUID], list[int]]:
        """What statements that begin with `of_person` are given."""
        return (
            self.integration_no,
            self.organization_id,
            self.sourced_id,
            list(self.records),
            list(self.keys),
            list(self.accounts),
        )

    @property
    def names(self) -> frozenset[str]:
        """Every sourcedId that is about them and nobody else."""
        return frozenset({self.sourced_id, *self.records})


async def find_person(connection: Connection, caller: Caller, integration: UUID, sourced_id: str) -> Person:
    """The person, whether or not anything is held of them. Problem NOT_FOUND for an integration not to be seen."""
    row = await connection.fetchrow(SQL["find_privacy_integration"], integration, sourced_id)
    if row is None or not caller.may_see(row["organization_id"]):
        raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no integration {integration}.")
    records = await connection.fetch(SQL["list_person_records"], row["no"], sourced_id)
    accounts = await connection.fetch(SQL["list_person_accounts"], row["no"], sourced_id)
    keys = {UUID(bytes=record_key(sourced_id)), *(UUID(str(one["key"])) for one in records)}
    return Person(
        row["no"],
        row["id"],
        row["organization_id"],
        sourced_id,
        row["key"],
        tuple(sorted(one["sourced_id"] for one in records if one["collection"] == "enrollments")),
        tuple(sorted(keys)),
        tuple(one["no"] for one in accounts),
    )


def state(statement: str, holding: Holding) -> str:
    """A named statement about a person's rows in one table."""
    return f"{SQL['of_person']}\n" + SQL[statement].format(
        table=holding.table, where=holding.where, shown=holding.shown
    )


async def count_holdings(connection: Connection, person: Person) -> dict[str, int]:
    """How many rows of each table are about a person; only tables with some."""
    counts = {
        holding.table: await connection.fetchval(state("count_holding", holding), *person.arguments)
        for holding in HOLDINGS
    }
    return {table: count for table, count in counts.items() if count}
