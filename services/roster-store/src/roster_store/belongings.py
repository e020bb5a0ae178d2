"""Which schools records belong to, kept where a license or a reader names schools (F3).

Classes belong to their school, enrollments to that of their class, people to the schools of their roles and of the
classes they are in, guardians to those of their students, demographics to those of their person. So a record can move
without changing itself: when a class moves, its enrollments and people do. Each step that changes a roster works that
out for the records it may concern, and what moved gets a place in the step, as what changed has one.

Integrations nobody wants by school pay nothing: keeping begins with the first who does.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from homeroom.db import Connection, Database
from roster_store.application import Segment, take_number
from roster_store.steps import add_step
from roster_store.tables import SQL

SEGMENT: Final = "belonging"
"""The name under which moved records stand in a step's segments."""
SECONDS: Final = 600.0

_PASSES: Final = ("belong_classes", "belong_users", "belong_guardians", "belong_enrollments", "belong_demographics")
_AFFECTED: Final = (
    "affect_classes",
    "affect_enrollments",
    "affect_past_enrollments",
    "affect_users",
    "affect_guardians",
    "affect_demographics",
)


async def ensure_kept(database: Database, integration_no: int) -> None:
    """Have the schools of an integration's records kept from now on; at once where they are kept already."""
    if not await database.fetchval(SQL["keeps_schools"], integration_no):
        await database.transact(partial(_begin, integration_no=integration_no))


async def _begin(connection: Connection, integration_no: int) -> None:
    number = await take_number(connection)
    await connection.fetchrow(SQL["lock_integration_no"], integration_no)
    if await connection.fetchval(SQL["keeps_schools"], integration_no):
        return
    await connection.execute(SQL["begin_keeping_schools"], integration_no, number.no)
    await connection.execute(SQL["make_affected"])
    await connection.execute(SQL["affect_everything"], integration_no, timeout=SECONDS)
    moved = await _write(connection, integration_no, number.no, 0)
    await add_step(connection, number, "schools", integration_no, segments=[(SEGMENT, 1, moved)] if moved else [])


async def follow(connection: Connection, integration_no: int, number: int, place: int) -> list[Segment]:
    """Keep up with what a step changed, after it did, in its transaction.

    Args:
        connection: of the transaction that writes the step.
        integration_no: whose roster it changes.
        number: the step's number.
        place: the last place in the step that is taken.

    Returns:
        The places of records that moved without changing, if any did: one segment or none.
    """
    if not await connection.fetchval(SQL["keeps_schools"], integration_no):
        return []
    await connection.execute(SQL["make_affected"])
    for statement in _AFFECTED:
        await connection.execute(SQL[statement], integration_no, number, timeout=SECONDS)
    moved = await _write(connection, integration_no, number, place)
    if moved:
        moved += await connection.fetchval(SQL["touch_tied"], integration_no, number, place + moved, timeout=SECONDS)
    return [(SEGMENT, place + 1, place + moved)] if moved else []


async def _write(connection: Connection, integration_no: int, number: int, place: int) -> int:
    """Work out the schools of the records concerned, and keep those that are others than before; how many those are."""
    await connection.execute(SQL["analyze_affected"])
    for statement in _PASSES:
        await connection.execute(SQL[statement], integration_no, timeout=SECONDS)
    moved: int = await connection.fetchval(SQL["keep_belonging"], integration_no, number, place, timeout=SECONDS)
    await connection.execute(SQL["drop_affected"])
    return moved
