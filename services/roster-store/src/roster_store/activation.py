"""Classes that wait for their teachers, and people who join when they first come in (D2).

A product that wants it sees a class from the moment one of its teachers starts it there, and a student from their first
sign-in to it. Both are written down in `activation` with the step that tells the product; a person may be written down
before the roster knows them, and for a product whose classes don't wait now but may one day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

import asyncpg

from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.problems import Problem
from homeroom.telemetry import get_logger
from roster_store.application import take_number
from roster_store.places import ambiguous, check_text
from roster_store.privacy.noting import note_start
from roster_store.sights import Rosters, Sight
from roster_store.steps import Kind, add_step
from roster_store.tables import SQL

log = get_logger(__name__)

MOST_CLASSES: Final = 1_000
"""Classes of one teacher that are listed."""


@dataclass(frozen=True, slots=True)
class Start:
    """That a class is started: when, and by which of its teachers first."""

    integration_id: UUID
    sourced_id: str
    title: str
    at: datetime
    by: str


@dataclass(frozen=True, slots=True)
class Taught:
    """A class somebody teaches, and when it was started if it was."""

    integration_id: UUID
    row: asyncpg.Record
    started_at: datetime | None
    started_by: str | None


def show_dormant(sight: Sight) -> Sight:
    """What a license covers, whether it is awake or not."""
    return replace(sight, teacher_started=False)


# ── classes ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def start_class(
    database: Database, rosters: Rosters, sights: Sequence[Sight], sourced_id: str, teacher: str
) -> Start:
    """Start a class for a product, in the name of one of its teachers, who counts as having come in.

    Done again it gives the same answer.

    Raises `Problem`: NOT_FOUND, INTEGRATION_AMBIGUOUS, CLASSES_AUTOMATIC, CLASS_NOT_TAUGHT.
    """
    check_text(sourced_id, teacher)
    found = [(sight, title) for sight in sights if (title := await _find_class(rosters, sight, sourced_id)) is not None]
    if not found:
        raise Problem(Code.NOT_FOUND, status=404, detail="There is no such class.")
    if len(found) > 1:
        owners = [sight for sight, _ in found]
        raise ambiguous(owners, f"{len(owners)} integrations have a class with this sourcedId.")
    ((sight, title),) = found
    async with rosters.look(show_dormant(sight)) as connection:
        taught = await connection.fetchval(SQL["teaches_class"], sourced_id, teacher)
    if not sight.teacher_started:
        raise Problem(Code.CLASSES_AUTOMATIC, status=409, detail="The product's classes don't wait for their teachers.")
    if not taught:
        raise Problem(Code.CLASS_NOT_TAUGHT, status=403, detail="This person does not teach the class.")
    product = sight.product_id
    assert product is not None  # noqa: S101 - only a product's sight waits for teachers
    row = await database.fetchrow(SQL["find_activation"], product, sight.integration_no, "classes", sourced_id)
    known = await database.fetchrow(SQL["find_activation"], product, sight.integration_no, "users", teacher)
    if row is None or known is None:
        row = await database.transact(partial(_start, sight=sight, sourced_id=sourced_id, teacher=teacher))
    return Start(sight.integration_id, sourced_id, title, row["at"], row["by"])


async def _find_class(rosters: Rosters, sight: Sight, sourced_id: str) -> str | None:
    async with rosters.look(show_dormant(sight)) as connection:
        title: str | None = await connection.fetchval(SQL["find_startable_class"], sourced_id)
    return title


async def _start(connection: Connection, sight: Sight, sourced_id: str, teacher: str) -> asyncpg.Record:
    number = await take_number(connection)
    product, no = sight.product_id, sight.integration_no
    assert product is not None  # noqa: S101 - as above
    woken = (("class", "classes", sourced_id, teacher), ("user", "users", teacher, None))
    news = {
        word: one
        for word, collection, one, by in woken
        if await connection.fetchrow(SQL["insert_activation"], product, no, collection, one, number.no, None, by)
    }
    if news:
        kind: Kind = "class-started" if "class" in news else "signed-in"
        await add_step(connection, number, kind, no, product_id=product, detail=news)
        await note_start(connection, no, product, class_id=sourced_id, teacher=teacher, step=number.no)
        log.info("class.started", product_id=str(product), integration_id=str(sight.integration_id))
    row = await connection.fetchrow(SQL["find_activation"], product, no, "classes", sourced_id)
    assert row is not None  # noqa: S101 - it was there or was inserted
    return row


async def list_taught(database: Database, rosters: Rosters, sights: Sequence[Sight], teacher: str) -> list[Taught]:
    """The classes somebody teaches that a product is licensed for, started or not, with nothing about students."""
    check_text(teacher)
    listed: list[Taught] = []
    for sight in sights:
        async with rosters.look(show_dormant(sight)) as connection:
            rows = await connection.fetch(SQL["list_taught_classes"], teacher, MOST_CLASSES - len(listed))
        ids = [row["sourced_id"] for row in rows]
        found = await database.fetch(SQL["list_started"], sight.product_id, sight.integration_no, ids)
        started = {row["sourced_id"]: row for row in found}
        for row in rows:
            start = started.get(row["sourced_id"])
            at, by = (None, None) if start is None else (start["at"], start["by"])
            listed.append(Taught(sight.integration_id, row, at, by))
        if len(listed) >= MOST_CLASSES:
            break
    return listed


# ── people ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody came into a product."""

    product_id: UUID
    integration_id: UUID
    organization_id: UUID
    user: str
    at: datetime


async def connect_people(database: Database, arrivals: Sequence[Arrival]) -> int:
    """Write down who came into which product for the first time; how many of them products are told of.

    Safe to repeat and in any order. Whoever the roster does not know yet is connected once they are there.
    """
    first = {(one.product_id, one.integration_id, one.user): one for one in reversed(arrivals)}
    keys = list(first)
    rows = await database.fetch(
        SQL["list_connected"], [key[0] for key in keys], [key[1] for key in keys], [key[2] for key in keys]
    )
    for row in rows:
        del first[row["product_id"], row["integration_id"], row["sourced_id"]]
    told = 0
    for arrival in reversed(first.values()):
        told += await database.transact(partial(_connect, arrival=arrival))
    return told


async def _connect(connection: Connection, arrival: Arrival) -> int:
    """Write one down, and take a step if the product's classes wait for their teachers.

    What is not told now is seen by whoever begins later, so it must be certain that no view begins in between: whether
    classes wait is asked after the transaction has its id. A view that begins because of a later change of that has a
    greater one, and its readers wait until this transaction is over (0003).
    """
    number = await take_number(connection)
    await connection.execute(SQL["insert_integration"], arrival.integration_id, arrival.organization_id, "")
    integration = await connection.fetchrow(SQL["find_integration_of"], arrival.integration_id)
    assert integration is not None  # noqa: S101 - it was there or was inserted
    product, key = arrival.product_id, (arrival.product_id, integration["no"], "users", arrival.user)
    if not await connection.fetchrow(SQL["insert_activation"], *key, 0, arrival.at, None):
        return 0
    if not await connection.fetchval(SQL["waits_for_teachers"], product, integration["organization_id"]):
        return 0
    await connection.execute(SQL["tell_activation"], *key, number.no)
    await add_step(
        connection, number, "signed-in", integration["no"], product_id=product, detail={"user": arrival.user}
    )
    return 1
