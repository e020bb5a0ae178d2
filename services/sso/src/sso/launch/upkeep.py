"""What sign-in does in the background: launches nobody ended are ended, days are counted, what is over is forgotten.

Everything is done in batches that are statements of their own, and by any number of workers at once: rows one of them
has taken are skipped by the others. What fails is done with the next round.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import date
from typing import Final

import asyncpg

from homeroom.bus import Bus, BusError
from homeroom.db import Connection, Database, DatabaseBusy
from homeroom.problems import AWAY
from homeroom.telemetry import LAUNCHES, get_logger
from sso.launch.sessions import IDLE_SECONDS
from sso.launch.sign_ins import MOST_AT_ONCE, tell_sign_ins
from sso.settings import Settings
from sso.statements import SQL

EVERY_SECONDS: Final = 60.0
RARELY_SECONDS: Final = 3_600.0
"""How often what changes slowly is looked at."""
TELL_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 5.0
BATCH: Final = 2_000
ABANDONED_SECONDS: Final = 15 * 60
"""Longer than a flow and what follows it may take."""
UNUSED_DAYS: Final = 400
"""Whoever did not come for longer than a school year is met as for the first time."""
COUNT_DAYS: Final = 400

_COUNT_DAY: Final = SQL["count_day"].format(outcome=SQL["outcome_of_launch"])

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sweep:
    """A statement that forgets at most so many rows ($1) that are older than something ($2, unless there is none)."""

    statement: str
    age: float | None = None


class Upkeep:
    """Does what is due, until it is told to stop."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._often = (
            Sweep("sweep_flows"),
            Sweep("sweep_presented"),
            Sweep("sweep_handed_over"),
            Sweep("blank_link_requests"),
            Sweep("sweep_link_requests"),
            Sweep("sweep_answers", settings.people_cache_seconds),
            Sweep("sweep_sessions", IDLE_SECONDS),
            Sweep("forget_saml_arrivals"),
            Sweep("forget_saml_logouts"),
        )
        self._rarely = (
            Sweep("forget_launches", settings.trace_days),
            Sweep("forget_counts", COUNT_DAYS),
            Sweep("forget_days", COUNT_DAYS),
            Sweep("forget_participations"),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Tidy, wait, and tidy again; go on after whatever may pass by itself."""
        rounds = 0
        while not stop.is_set():
            try:
                await self.tidy()
                if rounds % int(RARELY_SECONDS / EVERY_SECONDS) == 0:
                    await self.tidy_rarely()
                rounds += 1
            except (*AWAY, DatabaseBusy, asyncpg.PostgresError) as error:
                log.warning("upkeep goes on later", error=type(error).__name__)
            await _wait(stop, EVERY_SECONDS)

    async def tidy(self) -> dict[str, int]:
        """What is due all the time; how much of what was done."""
        return {"abandoned": await self._abandon()} | {one.statement: await self._sweep(one) for one in self._often}

    async def tidy_rarely(self) -> dict[str, int]:
        """What is due once an hour; likewise."""
        done = {"days": 0, "identities": await self._forget_identities()}
        while await self._database.transact(count_day) is not None:
            done["days"] += 1
        return done | {one.statement: await self._sweep(one) for one in self._rarely}

    async def _sweep(self, one: Sweep) -> int:
        """Forget batch by batch; how many went."""
        total = 0
        while True:
            some = await self._database.transact(lambda connection: _forget(connection, one))
            total += some
            if some < BATCH:
                return total

    async def _abandon(self) -> int:
        """End the launches nobody came back from."""
        total = 0
        while True:
            some = 0
            for row in await self._database.fetch(SQL["abandon_launches"], BATCH, ABANDONED_SECONDS):
                LAUNCHES.labels(row["kind"], row["purpose"], "abandoned").inc(row["launches"])
                some += int(row["launches"])
            total += some
            if some < BATCH:
                return total

    async def _forget_identities(self) -> int:
        total = 0
        while True:
            some = await self._database.transact(_forget_identities)
            total += some
            if some < BATCH:
                return total


async def _forget(connection: Connection, one: Sweep) -> int:
    arguments = (BATCH,) if one.age is None else (BATCH, one.age)
    if one.statement == "sweep_sessions":  # says how many, since it tells products as well
        return int(await connection.fetchval(SQL[one.statement], *arguments))
    done = await connection.execute(SQL[one.statement], *arguments)
    return int(done.split()[-1])


async def _forget_identities(connection: Connection) -> int:
    """Forget portals' users, and people of whom none is left."""
    rows = await connection.fetch(SQL["forget_identities"], BATCH, UNUSED_DAYS)
    await connection.execute(SQL["forget_persons"], list({row["person_id"] for row in rows}))
    return len(rows)


async def count_day(connection: Connection) -> date | None:
    """Count the launches of the next day that is over; which day, or None if none is due or another worker is at it."""
    if not await connection.fetchval(SQL["lock_days"]):
        return None
    day: date | None = await connection.fetchval(SQL["find_due_day"])
    if day is not None:
        await connection.execute(_COUNT_DAY, day)
        await connection.execute(SQL["close_day"], day)
    return day


async def keep_telling(database: Database, bus: Bus, stop: asyncio.Event) -> None:
    """Tell the store who came into which product, until it is told to stop; while the bus is away all of it is kept."""
    while not stop.is_set():
        pause = TELL_SECONDS
        try:
            while await tell_sign_ins(database, bus) == MOST_AT_ONCE and not stop.is_set():
                continue
        except (*AWAY, DatabaseBusy, BusError, asyncpg.PostgresError) as error:
            log.warning("sign-ins are told later", error=type(error).__name__)
            pause = RETRY_SECONDS
        await _wait(stop, pause)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
