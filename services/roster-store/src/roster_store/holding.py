"""What is held: how removals are kept back, how a plan waits for a decision, and how a hold ends (C14).

What waits of a fetch stays in its staging tables, which become logged, so that a crash of Postgres does not cost a
decision. Of a plan held as a whole that is everything; where only removals wait, it is the table of what goes, and the
rest was applied. An approval finds its plan by reading the same tables again (`decisions`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import msgspec

from homeroom.codes import Code
from homeroom.db import Connection
from homeroom.messages import Bookmark, Held, HoldEnded
from roster_store.guard import Verdict
from roster_store.picture import GONE, PICTURE_SECONDS, WAITING, Picture, allow_nested_loops, forbid_nested_loops
from roster_store.plan import Plan
from roster_store.protection import NOTHING_NEW, SchoolMemory
from roster_store.staging import drop_staged, staging_name
from roster_store.tables import SQL

HOLD_DAYS = 7.0
FORSAKEN_DAYS = 30.0
"""So long after it expired, what nobody told to be thrown away is: its integration may be there no more."""

ENDS: Mapping[Code, str] = {
    Code.HOLD_DISCARDED: "discarded",
    Code.HOLD_EXPIRED: "expired",
    Code.HOLD_REPLACED: "replaced",
    Code.HOLD_LOST: "lost",
}
"""How a hold ends without being approved, and the state it is in then."""


class Rest(msgspec.Struct, frozen=True, kw_only=True):
    """What an approval needs beside what is staged."""

    held: Held
    """What was told: the counts, the issues, the run."""
    bookmark: Bookmark | None = None
    """What the next fetch may go on from once all of it is applied."""
    memory: SchoolMemory = NOTHING_NEW
    """Which schools are known to be incomplete from then on."""


# ── keeping back ──────────────────────────────────────────────────────────────────────────────────────────────────


async def withhold(connection: Connection, plan: Plan, verdict: Verdict) -> Plan:
    """Note which removals wait, and count them as held; nothing goes yet.

    What waits is consistent in itself: whoever stays keeps their enrollments, a class that stays its students, and no
    enrollment stays of somebody who goes (I8).
    """
    picture, no = plan.picture, plan.picture.integration_no
    await connection.execute(picture.sql("create_waiting"))
    await forbid_nested_loops(connection)
    if verdict.removals:
        await connection.execute(picture.sql("hold_all"), timeout=PICTURE_SECONDS)
    else:
        if verdict.collections:
            held = sorted(verdict.collections)
            await connection.execute(picture.sql("hold_collections"), held, timeout=PICTURE_SECONDS)
        if verdict.schools:
            schools = sorted(verdict.schools)
            await connection.execute(picture.sql("hold_schools"), no, schools, timeout=PICTURE_SECONDS)
        await connection.execute(picture.sql("hold_following"), no, timeout=PICTURE_SECONDS)
        await connection.execute(picture.sql("release_referring"), no, timeout=PICTURE_SECONDS)
    await allow_nested_loops(connection, picture)
    waiting = {row["collection"]: row["count"] for row in await connection.fetch(picture.sql("count_waiting"))}
    return plan.amend(
        {
            name: replace(part, removed=part.removed - waiting[name], held=waiting[name])
            for name, part in plan.collections.items()
            if name in waiting
        }
    )


def spare(plan: Plan) -> Plan:
    """The plan without its removals, which are counted as held."""
    return plan.amend({name: replace(part, removed=0, held=part.removed) for name, part in plan.collections.items()})


async def part(connection: Connection, picture: Picture) -> None:
    """Take what waits out of what goes; to be called before the rest is applied."""
    await forbid_nested_loops(connection)
    await connection.execute(picture.sql("part_from_waiting"), timeout=PICTURE_SECONDS)
    await allow_nested_loops(connection, picture)


async def leave_waiting(connection: Connection, picture: Picture) -> None:
    """After the rest was applied: what waits is now what goes, once somebody approves it."""
    await drop_staged(connection, picture.fetch_no, [GONE])
    statement = SQL["rename_staging"].format(
        staging=staging_name(picture.fetch_no, WAITING), name=staging_name(picture.fetch_no, GONE)
    )
    await connection.execute(statement)


# ── holds ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def read_expiry(connection: Connection, days: float) -> datetime:
    """When a hold that begins now expires, by the database's clock."""
    expires_at: datetime = await connection.fetchval(SQL["read_expiry"], days * 86_400)
    return expires_at


async def begin_hold(connection: Connection, picture: Picture, rest: Rest, kept: Collection[str]) -> None:
    """Keep a hold and the staging tables it needs."""
    staged = {}
    for name in sorted(kept):
        staging = staging_name(picture.fetch_no, name)
        await connection.execute(SQL["log_staging"].format(staging=staging), timeout=PICTURE_SECONDS)
        staged[name] = await count_rows(connection, picture.fetch_no, name)
    held = rest.held
    await connection.execute(
        SQL["insert_hold"],
        picture.fetch_no,
        picture.integration_no,
        held.run_id,
        held.plan,
        held.everything,
        held.code,
        held.expires_at,
        staged,
        msgspec.to_builtins(rest),
    )


async def count_rows(connection: Connection, fetch_no: int, name: str) -> int:
    """How many rows a staging table has."""
    statement = SQL["count_staged"].format(staging=f"roster_staging.{staging_name(fetch_no, name)}")
    found: int = await connection.fetchval(statement, timeout=PICTURE_SECONDS)
    return found


async def replace_open_holds(connection: Connection, integration_no: int, at: datetime) -> Sequence[HoldEnded]:
    """End what an integration holds because there is a newer plan."""
    return [
        await end_hold(connection, hold["no"], hold["fetch_no"], read_rest(hold["rest"]), Code.HOLD_REPLACED, at)
        for hold in await connection.fetch(SQL["list_open_holds"], integration_no)
    ]


async def end_hold(connection: Connection, no: int, fetch_no: int, rest: Rest, code: Code, at: datetime) -> HoldEnded:
    """Throw away what waits; the code says why."""
    await connection.execute(SQL["end_hold"], no, ENDS[code])
    await drop_staged(connection, fetch_no)
    held = rest.held
    return HoldEnded(
        run_id=held.run_id,
        attempt=held.attempt,
        integration_id=held.integration_id,
        at=at,
        plan=held.plan,
        code=code,
    )


async def end_forsaken_hold(connection: Connection) -> int:
    """Throw away one hold that nobody cares for any more; how many there were, one or none."""
    hold = await connection.fetchrow(SQL["find_forsaken_hold"], FORSAKEN_DAYS * 86_400)
    if hold is None:
        return 0
    await connection.execute(SQL["end_hold"], hold["no"], ENDS[Code.HOLD_EXPIRED])
    await drop_staged(connection, hold["fetch_no"])
    return 1


def read_rest(kept: object) -> Rest:
    """What was kept of a hold."""
    return msgspec.convert(kept, Rest)
