"""Teachers' refresh: one class is read again at once, and whoever asked is told what changed (C2).

A refresh is a run of its own kind, short and rare: throttled for each class and each integration, so that a staff room
at eight in the morning does not become the provider's busiest client. Who asks for the same class while it is being
refreshed waits for the same run.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, repeat
from uuid import UUID

import asyncpg

from homeroom.codes import Code
from homeroom.connections import UPLOADED
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.problems import Problem
from sync_scheduler import asked_runs, beginnings, integrations
from sync_scheduler.beginnings import Terms, Wish
from sync_scheduler.doorbell import first_of
from sync_scheduler.ledger import SQL
from sync_scheduler.runs import ACTIVE, State

UNABLE = UPLOADED | {"google-classroom"}
"""Kinds of providers that show one class to nobody."""
HOUR = timedelta(hours=1)
_LOOK_SECONDS = (0.05, 0.1, 0.2, 0.4)
"""Between two looks at the run; the last one over and over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """How often the provider is asked."""

    class_every: timedelta = timedelta(minutes=5)
    hourly: int = 60
    """For all classes of an integration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """The class somebody wants to be up to date."""

    integration: UUID
    class_sourced_id: str
    teacher_sourced_id: str | None
    by: str
    """The subject of their access token."""


async def start(
    database: Database, visible: UUID | None, refresh: Refresh, *, throttle: Throttle, terms: Terms
) -> UUID:
    """Queue a refresh and return its id, or that of the same one that is under way.

    Problems NOT_FOUND, INTEGRATION_DELETED, REFRESH_UNSUPPORTED, SYNC_IN_PROGRESS, REFRESH_THROTTLED,
    INTEGRATION_PAUSED, LICENSE_INACTIVE.
    """
    run_id = new_id()

    async def begin(connection: Connection) -> UUID:
        row = await integrations.lock(connection, refresh.integration, visible)
        same: UUID | None = await connection.fetchval(
            SQL["active_refresh"], row["id"], refresh.class_sourced_id, refresh.teacher_sourced_id
        )
        if same is not None:
            return same
        _check_ability(row)
        if active := await connection.fetchval(SQL["active_run"], row["id"]):
            raise integrations.sync_in_progress(active)
        await _check_throttle(connection, refresh, throttle)
        wish = Wish(
            occasion="The refresh of a class was asked for.",
            created_by=refresh.by,
            kind="refresh",
            class_sourced_id=refresh.class_sourced_id,
            teacher_sourced_id=refresh.teacher_sourced_id,
        )
        begun = await beginnings.begin(connection, run_id, row, wish, terms=terms)
        if begun != run_id:
            raise integrations.sync_in_progress(begun)
        return begun

    return await database.transact(begin)


async def wait(database: Database, run_id: UUID, *, seconds: float, stop: asyncio.Event) -> asyncpg.Record:
    """The run's row once it has ended, or as it is after so many seconds or at `stop`."""
    ends = time.monotonic() + seconds
    looks = chain(_LOOK_SECONDS, repeat(_LOOK_SECONDS[-1]))
    while True:  # facts come to whichever process, so the row is all that there is to wait for
        row = await asked_runs.read(database, run_id, None)
        left = ends - time.monotonic()
        if State(row["state"]) not in ACTIVE or left <= 0 or stop.is_set():
            return row
        await first_of(min(left, next(looks)), stop.wait())


def _check_ability(row: asyncpg.Record) -> None:
    if row["provider"] in UNABLE:
        detail = f"{row['provider']} can't be asked for one class."
    elif row["bookmark"] is None:
        detail = "There is no settled sync that a refresh could build on; one comes first."
    else:
        return
    raise Problem(Code.REFRESH_UNSUPPORTED, status=409, detail=detail)


async def _check_throttle(connection: Connection, refresh: Refresh, throttle: Throttle) -> None:
    known = await connection.fetchrow(
        SQL["refreshes"], refresh.integration, refresh.class_sourced_id, HOUR, throttle.class_every
    )
    assert known is not None  # noqa: S101 - an aggregate always has a row
    every = throttle.class_every.total_seconds()
    if known["since_class"] is not None and known["since_class"] < every:
        raise _throttled(every - known["since_class"], "This class was refreshed a moment ago.")
    if known["lately"] >= throttle.hourly:
        raise _throttled(known["until_less"], f"{throttle.hourly} classes were refreshed within the last hour.")


def _throttled(seconds: float, detail: str) -> Problem:
    after = max(1, math.ceil(seconds))
    return Problem(Code.REFRESH_THROTTLED, status=429, detail=detail, headers={"Retry-After": str(after)})
