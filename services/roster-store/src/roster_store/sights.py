"""What a caller sees of a roster, and the only way to look at it (F3).

A `Sight` is one integration through one caller's eyes: whole for the platform and an organization, through a license
for a product. Whatever serves a roster reads the views in `roster_served` inside `Rosters.look(sight)`: its
connections are of a role that may read nothing else, and the views show nothing unless the transaction says what it
looks at. So a forgotten condition shows an empty roster, never somebody else's (migration 0006).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal
from uuid import UUID

import asyncpg

from homeroom.auth import DEMOGRAPHICS, Caller
from homeroom.db import Connection, Database
from homeroom.grants import FIELD_GROUPS, FieldGroup
from roster_store.settings import StoreSettings
from roster_store.tables import SQL

SCHEMA: Final = "roster"
READER: Final = {"role": "homeroom_reader", "jit": "off"}  # what stands before the views makes them look dear
WORK: Final = {"homeroom.access": "work"}
"""What the service's own connections say; without it the owner of the tables sees nothing of them either."""
EVERYTHING: Final[frozenset[FieldGroup]] = frozenset(FIELD_GROUPS)


@dataclass(frozen=True, slots=True)
class Sight:
    """One integration as somebody sees it; hashable, and equal only where the same records and fields are seen."""

    integration_no: int
    integration_id: UUID
    organization_id: UUID
    product_id: UUID | None = None
    schools: tuple[str, ...] | None = None
    """The sourcedIds of the only schools that are seen; None for all."""
    grants: frozenset[FieldGroup] = EVERYTHING
    teacher_started: bool = False
    """Whether classes and students are seen only once they are awake (D2)."""
    newest: int = field(default=0, compare=False)
    """The newest step of the integration when the sight was listed: while it stays, nothing that is seen changes."""

    @property
    def whole(self) -> bool:
        """Whether every record of its collections is seen, so that `held_by` narrows as well as `changed_by`."""
        return self.schools is None and not self.teacher_started


async def list_sights(
    database: Database,
    caller: Caller,
    *,
    organization: UUID | None = None,
    integration: UUID | None = None,
) -> list[Sight]:
    """The integrations a caller may look at, in a stable order; empty where there is nothing for them.

    Demographics are granted only to tokens with their scope. A product sees what its licenses cover at this moment.
    """
    if caller.organization_id is not None:
        bound = _read_id(caller.organization_id)
        if bound is None or organization not in (None, bound):
            return []
        organization = bound
    product = None if caller.product_id is None else _read_id(caller.product_id)
    if caller.product_id is not None and product is None:
        return []
    statement = SQL["list_sights"] if product is None else SQL["list_licensed_sights"]
    rows = await database.fetch(statement, organization, integration, *(() if product is None else (product,)))
    hidden: frozenset[FieldGroup] = frozenset() if DEMOGRAPHICS in caller.scopes else frozenset({"demographics"})
    return [_read_sight(row, product, hidden) for row in rows]


async def list_product_sights(database: Database, product: UUID, *, organization: UUID | None = None) -> list[Sight]:
    """What a product may look at with all its licenses grant, for what is delivered without a token."""
    rows = await database.fetch(SQL["list_licensed_sights"], organization, None, product)
    return [_read_sight(row, product, frozenset()) for row in rows]


def _read_sight(row: asyncpg.Record, product: UUID | None, hidden: frozenset[FieldGroup]) -> Sight:
    where = (row["no"], row["id"], row["organization_id"])
    if product is None:
        return Sight(*where, grants=EVERYTHING - hidden, newest=row["newest"])
    schools = None if row["schools"] is None else tuple(sorted(row["schools"]))
    grants = EVERYTHING.intersection(row["grants"]) - hidden
    return Sight(*where, product, schools, grants, row["teacher_started"], row["newest"])


def _read_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


class Rosters:
    """Connections that see rosters only as a `Sight` shows them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: StoreSettings, *, application: str) -> AsyncIterator[Rosters]:
        """A pool of such connections."""
        url = settings.database_url.get_secret_value()
        size = settings.database_pool_size
        async with Database.open(url, schema=SCHEMA, size=size, application=application, session=READER) as database:
            yield cls(database)

    async def ping(self) -> None:
        """Return if the database answers."""
        await self._database.ping()

    @asynccontextmanager
    async def look(
        self, sight: Sight, *, isolation: Literal["read_committed", "repeatable_read"] = "read_committed"
    ) -> AsyncIterator[Connection]:
        """A read-only transaction in which the views show what the sight shows.

        `repeatable_read` for what is read in several statements and must fit together.
        """
        async with (
            self._database.connection() as connection,
            connection.transaction(isolation=isolation, readonly=True),
        ):
            await connection.fetchval(SQL["look"], *_settings(sight))
            yield connection


def _settings(sight: Sight) -> tuple[int, str, Collection[str] | None, str, list[str], list[str]]:
    return (
        sight.integration_no,
        "" if sight.product_id is None else str(sight.product_id),
        sight.schools,
        "on" if sight.teacher_started else "off",
        [f"homeroom.{group}" for group in FIELD_GROUPS],
        ["on" if group in sight.grants else "off" for group in FIELD_GROUPS],
    )
