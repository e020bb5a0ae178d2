"""Licenses in force: from `tenancy` to what products see, and to the steps of the feed that tell them (D5, F3).

What a product may see of an organization stands in one row of `access`, with a revision that grows whenever it
changes. For every integration of the organization the product is then told by a `license` step: its view begins anew
there, or ends. Each step is a transaction of its own, since a step's number and its transaction must grow together;
what a crash leaves undone is found again by its revision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

import asyncpg

from homeroom.bus import Message
from homeroom.db import TRANSIENT, Connection, Database
from homeroom.messages import (
    IntegrationState,
    LicenseState,
    OrganizationState,
    ProductState,
    TenancyState,
    read_tenancy,
)
from homeroom.telemetry import get_logger
from roster_store import belongings
from roster_store.application import take_number
from roster_store.matching.matcher import rematch
from roster_store.steps import add_step
from roster_store.tables import SQL
from roster_store.terms import combine

log = get_logger(__name__)

GROUP: Final = "roster-store-tenancy"
EVERY_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 2.0
STEPS_AT_ONCE: Final = 200


class TenancyConsumer:
    """The handler of `tenancy`: keeps what matters here; everything it does may be done twice."""

    def __init__(self, database: Database, news: asyncio.Event) -> None:
        self._database = database
        self._news = news

    async def handle(self, messages: Sequence[Message]) -> None:
        """Keep the states, and have what follows from them seen to."""
        states = [read_tenancy(message) for message in messages]
        await self._database.transact(partial(_keep, states=states))
        self._news.set()


async def _keep(connection: Connection, states: Sequence[TenancyState]) -> None:
    for state in states:
        match state:
            case OrganizationState():
                await connection.execute(SQL["keep_organization"], UUID(state.id), state.name)
            case ProductState():
                product = UUID(state.id)
                await connection.execute(SQL["keep_product"], product, state.name, state.classes, state.unmatched)
                await connection.execute(SQL["doubt_product"], product)
            case LicenseState():
                await _keep_license(connection, state)
            case IntegrationState():
                continue  # an integration is known here from its first fetch on


async def _keep_license(connection: Connection, state: LicenseState) -> None:
    schools = None if state.schools is None else list(state.schools)
    product, organization = UUID(state.product_id), UUID(state.organization_id)
    moments = (state.valid_from, state.valid_until, state.revoked_at)
    await connection.execute(
        SQL["keep_license"], UUID(state.id), product, organization, schools, list(state.grants), *moments
    )
    await connection.execute(SQL["doubt_access"], product, organization)


class LicenseKeeper:
    """Sees to it that licenses begin and end on time, and that products are told, until it is told to stop."""

    def __init__(self, database: Database, news: asyncio.Event) -> None:
        self._database = database
        self._news = news

    async def run(self, stop: asyncio.Event) -> None:
        """Settle what is due, wait for news or a while, and again; go on after whatever may pass by itself."""
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                pause = EVERY_SECONDS
                self._news.clear()
                try:
                    await settle_licenses(self._database)
                except TRANSIENT as error:
                    log.warning("licenses.interrupted", error=type(error).__name__)
                    pause = RETRY_SECONDS
                hearing = asyncio.ensure_future(self._news.wait())
                await asyncio.wait([hearing, stopping], timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                hearing.cancel()
        finally:
            stopping.cancel()


async def settle_licenses(database: Database) -> int:
    """Bring `access` up to date and take the steps that follow; how many steps. Safe from several workers at once."""
    for row in await database.fetch(SQL["list_doubtful_access"]):
        await database.transact(partial(_decide, product=row["product_id"], organization=row["organization_id"]))
    taken = 0
    while due := await database.fetch(SQL["list_due_steps"], STEPS_AT_ONCE):
        for row in due:
            if row["limited"]:
                await belongings.ensure_kept(database, row["integration_no"])
            taken += await database.transact(partial(_step, product=row["product_id"], integration=row["id"]))
    for row in await database.fetch(SQL["list_unmatched_access"]):
        await database.transact(partial(_match, access=row))
    return taken


async def _match(connection: Connection, access: asyncpg.Record) -> None:
    """Match a product's accounts with the people it sees since its licenses changed."""
    product, organization = access["product_id"], access["organization_id"]
    await connection.execute(SQL["note_matched_access"], product, organization, access["revision"])
    await rematch(connection, product, organization)


async def _decide(connection: Connection, product: UUID, organization: UUID) -> None:
    """Write down what a product may see of an organization now, with a new revision if that is something else."""
    locked = await connection.fetchrow(SQL["lock_access"], product, organization)
    assert locked is not None  # noqa: S101 - rows of access are never deleted
    now: datetime = locked["now"]
    rows = await connection.fetch(SQL["list_licenses"], product, organization)
    access = combine(list(map(_read_license, rows)), now)
    wanted = await connection.fetchrow(SQL["find_product"], product)
    waits = wanted is not None and wanted["classes"] == "teacher-started"
    terms = access.terms if wanted is not None else None
    values = _Values(
        live=terms is not None,
        schools=None if terms is None or terms.schools is None else list(terms.schools),
        grants=[] if terms is None else list(terms.grants),
        teacher_started=terms is not None and waits,
    )
    changed = values != _Values(*(locked[name] for name in _Values.__slots__))
    await connection.execute(
        SQL["decide_access"],
        product,
        organization,
        values.live,
        values.schools,
        values.grants,
        values.teacher_started,
        access.until,
        changed,
    )
    if changed:
        log.info("access.changed", product_id=str(product), organization_id=str(organization), live=values.live)


@dataclass(frozen=True, slots=True)
class _Values:
    """What of an access products are told."""

    live: bool
    schools: list[str] | None
    grants: list[str]
    teacher_started: bool


async def _step(connection: Connection, product: UUID, integration: UUID) -> int:
    """Tell a product that its view of an integration begins anew or ends; 0 where it was told meanwhile."""
    number = await take_number(connection)
    held = await connection.fetchrow(SQL["lock_integration"], integration)
    access = await connection.fetchrow(SQL["find_due_step"], product, integration)
    if held is None or access is None:
        return 0
    await connection.execute(SQL["begin_view"], product, held["no"], number.no, access["revision"])
    detail = {"state": "started", "schools": access["schools"], "grants": access["grants"]}
    detail = detail if access["live"] else {"state": "ended"}
    await add_step(connection, number, "license", held["no"], product_id=product, detail=detail)
    return 1


def _read_license(row: asyncpg.Record) -> LicenseState:
    return LicenseState(
        id=str(row["id"]),
        product_id=str(row["product_id"]),
        organization_id=str(row["organization_id"]),
        schools=None if row["schools"] is None else tuple(row["schools"]),
        grants=tuple(row["grants"]),
        valid_from=row["valid_from"],
        valid_until=row["valid_until"],
        revoked_at=row["revoked_at"],
    )
