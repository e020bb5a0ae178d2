"""Erasing a person: what the store holds of them goes in one transaction, and everybody else is told.

Products learn of it as of any removal, so the person's records stay until then, empty but for their ids; retention
takes them away some time after. That somebody with this id was erased is kept as a hash, to keep them out while the
district goes on sending them.
"""

from __future__ import annotations

from functools import partial
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from homeroom import audit
from homeroom.auth import Caller
from homeroom.clock import Clock, SystemClock
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.messages import HoldEnded
from homeroom.problems import Problem
from homeroom.telemetry import get_logger
from roster_store.answers import decode_facts, encode_facts
from roster_store.application import ApplyNumber, Segment, take_number
from roster_store.belongings import follow
from roster_store.holding import end_hold, read_rest
from roster_store.plan_changes import changes_name
from roster_store.privacy.holdings import HOLDINGS
from roster_store.privacy.issues import clean_fact
from roster_store.privacy.person import Person, count_holdings, find_person, state
from roster_store.staging import drop_staged
from roster_store.steps import add_step
from roster_store.tables import SQL, TABLES

log = get_logger(__name__)

SECONDS: Final = 300.0

_EMPTY: Final = {
    "users": {
        "given_name": "''",
        "family_name": "''",
        "enabled_user": "false",
        "user_ids": "'[]'",
        "agent_sourced_ids": "'{}'",
        "grades": "'{}'",
    },
    "demographics": {},
    "enrollments": {},
}
"""What stands in fields that can't be null."""
_STAY: Final = {
    "users": ("sourced_id", "roles"),
    "demographics": ("sourced_id",),
    "enrollments": ("sourced_id", "user_sourced_id", "class_sourced_id", "school_sourced_id", "role"),
}
"""Fields that say which record it is, and who may be told of it."""


class Outbox(msgspec.Struct, frozen=True):
    """What others are still to be told of an erasure."""

    sourced_ids: list[str]
    ended: list[HoldEnded] = []
    """Plans that waited, and named the person."""


async def erase(
    database: Database, caller: Caller, integration: UUID, sourced_id: str, reason: str, clock: Clock | None = None
) -> UUID:
    """Erase a person and return the erasure's id; that of the earlier one for somebody who is kept out already.

    Problem NOT_FOUND for an integration not to be seen, and for somebody of whom nothing is held.
    """
    work = partial(
        _erase,
        caller=caller,
        integration=integration,
        sourced_id=sourced_id,
        reason=reason,
        clock=clock or SystemClock(),
    )
    erasure: UUID = await database.transact(work)
    log.info("person.erased", erasure_id=str(erasure), integration_id=str(integration))
    return erasure


async def _erase(
    connection: Connection, caller: Caller, integration: UUID, sourced_id: str, reason: str, clock: Clock
) -> UUID:
    number = await take_number(connection)
    await connection.fetchrow(SQL["lock_integration"], integration)
    person = await find_person(connection, caller, integration, sourced_id)
    earlier: UUID | None = await connection.fetchval(SQL["find_block"], person.integration_no, person.key)
    if earlier is not None:
        return UUID(str(earlier))
    counts = await count_holdings(connection, person)
    if not counts.keys() & {"users", "enrollments", "demographics", "history", "person_link"}:
        raise Problem(Code.NOT_FOUND, status=404, detail="Nothing is held of a person with this sourcedId.")
    erasure = new_id()
    ended = await _end_holds(connection, person, clock)
    await _forget_traces(connection, person)
    await _write_step(connection, person, number)
    outbox = Outbox(sourced_ids=sorted(person.names), ended=ended)
    await connection.execute(
        SQL["add_erasure"],
        erasure,
        person.integration_no,
        person.key,
        number.no,
        reason,
        caller.subject,
        counts,
        msgspec.to_builtins(outbox),
    )
    names = (person.organization_id, person.sourced_id, list(person.records))
    await connection.execute(SQL["keep_person_out"], person.integration_no, *names, erasure)
    await audit.note(
        connection,
        by=caller.subject,
        action="person.erase",
        organization=person.organization_id,
        subject=f"erasure:{erasure}",
        detail={"integration_id": str(integration), "person": str(person.key), "reason": reason},
    )
    return erasure


# ── the roster ────────────────────────────────────────────────────────────────────────────────────────────────────


async def _write_step(connection: Connection, person: Person, number: ApplyNumber) -> None:
    """Empty the person's records and take them out of others', as a step of the feed."""
    segments: list[Segment] = []
    place = 0
    counts: dict[str, dict[str, int]] = {}
    for collection, statement, change in (
        ("users", "forget_agent", "changed"),
        ("demographics", "blank_demographics", "removed"),
        ("enrollments", "blank_enrollments", "removed"),
        ("users", "blank_person", "removed"),
    ):
        sql = SQL[statement].replace("{blanks}", _list_blanks(collection))
        done = await connection.execute(sql, person.integration_no, person.sourced_id, number.no, place)
        if written := int(done.split()[-1]):
            segments.append((collection, place + 1, place + written))
            count = counts.setdefault(collection, {"added": 0, "changed": 0, "removed": 0})
            count[change] += written
            place += written
    segments += await follow(connection, person.integration_no, number.no, place)
    await add_step(connection, number, "erasure", person.integration_no, segments=segments, counts=counts)
    totals = await connection.fetchrow(SQL["count_active"], person.integration_no)
    assert totals is not None  # noqa: S101 - an aggregate always gives a row
    await connection.execute(SQL["finish_integration"], person.integration_no, number.no, *totals)


def _list_blanks(collection: str) -> str:
    empty, stay = _EMPTY[collection], _STAY[collection]
    return ", ".join(
        f'"{field}" = {empty.get(field, "NULL")}' for field in TABLES[collection].fields if field not in stay
    )


# ── what names them elsewhere in the store ────────────────────────────────────────────────────────────────────────


async def _forget_traces(connection: Connection, person: Person) -> None:
    no, one = person.integration_no, person.sourced_id
    await connection.execute(SQL["forget_past_agent"], no, one, timeout=SECONDS)
    await connection.execute(SQL["forget_joined"], no, one)
    for holding in HOLDINGS:
        if holding.erasure == "deleted" and holding.table != "plan_report":
            await connection.fetchval(state("forget_holding", holding), *person.arguments, timeout=SECONDS)
    await connection.execute(SQL["forget_starter"], no, one)
    await connection.execute(SQL["forget_step_detail"], no, one)
    await _forget_plans(connection, person)
    await _clean_answers(connection, person)
    # A fetch on its way was compared with the roster before this: it is refused and fetched again.
    for fetch in await connection.fetch(SQL["list_privacy_staging"], no):
        await connection.execute(SQL["forget_chunks"], fetch["no"])
        await drop_staged(connection, fetch["no"])


async def _end_holds(connection: Connection, person: Person, clock: Clock) -> list[HoldEnded]:
    """Throw away what waits for a decision: it was planned for a roster with this person."""
    ended = []
    for hold in await connection.fetch(SQL["list_open_holds"], person.integration_no):
        rest = read_rest(hold["rest"])
        ended.append(await end_hold(connection, hold["no"], hold["fetch_no"], rest, Code.HOLD_REPLACED, clock.now()))
    return ended


async def _forget_plans(connection: Connection, person: Person) -> None:
    """Forget plans that name the person, the report and its changes: they are of the past anyway."""
    quoted = msgspec.json.encode(person.sourced_id).decode()
    for plan in await connection.fetch(SQL["list_kept_plans"], person.organization_id):
        changes = changes_name(plan["fetch_no"])
        there = await connection.fetchval(SQL["find_plan_changes"], changes)
        named = quoted in plan["report"] or (
            there
            and await connection.fetchval(
                SQL["plan_names_person"].format(changes=changes), sorted(person.names), quoted, timeout=SECONDS
            )
        )
        if named:
            await connection.execute(SQL["forget_report"], plan["fetch_no"])
            await connection.execute(SQL["drop_plan_changes"].format(changes=changes))


async def _clean_answers(connection: Connection, person: Person) -> None:
    """Take the person out of the facts that are kept to be given again."""
    for name in person.names:
        quoted = msgspec.json.encode(name)
        for row in await connection.fetch(SQL["list_told_outcomes"], person.integration_no, quoted):
            await connection.execute(SQL["clean_outcome"], row["no"], _clean(row["outcome"], person))
        for row in await connection.fetch(SQL["list_told_decisions"], person.integration_no, quoted):
            await connection.execute(SQL["clean_decision"], row["id"], _clean(row["outcome"], person))
        for row in await connection.fetch(SQL["list_told_holds"], person.integration_no, quoted.decode()):
            await connection.execute(SQL["clean_hold"], row["no"], _clean_rest(row, person))


def _clean(outcome: bytes, person: Person) -> bytes:
    return encode_facts([clean_fact(fact, person.names) for fact in decode_facts(outcome)])


def _clean_rest(row: asyncpg.Record, person: Person) -> object:
    rest = read_rest(row["rest"])
    return msgspec.to_builtins(msgspec.structs.replace(rest, held=clean_fact(rest.held, person.names)))
