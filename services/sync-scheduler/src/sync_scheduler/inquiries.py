"""Questions about an integration that a worker of its region answers without a run (C4, C11).

A question is a row; ticking publishes it, a fact answers it, and whoever asked looks at the row until then. The
scheduler itself never talks to a provider.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import chain, repeat
from typing import Any, Literal, TypeVar
from uuid import UUID

import asyncpg
import msgspec

from homeroom.bus import Outgoing
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.messages import Answered, Finding, Inquiry, School, to_inquiries
from homeroom.problems import Problem
from homeroom.telemetry import inject_headers
from sync_scheduler import credentials, integrations, ledger
from sync_scheduler.calendars import find_date
from sync_scheduler.doorbell import first_of
from sync_scheduler.integration_bodies import read_options
from sync_scheduler.ledger import SQL
from sync_scheduler.uploads import read_upload

P = TypeVar("P", Finding, School)

Kind = Literal["verify", "schools"]

ANSWER_WITHIN = timedelta(seconds=90)
"""A question nobody has answered by then ends with PROV_TIMEOUT."""
PUBLISH_EVERY = timedelta(seconds=30)
PUBLISH_AT_MOST = 3
"""Once, and twice again where no answer comes."""
KEEP = timedelta(days=1)
FRESH = timedelta(minutes=10)
"""How long an answer about the schools serves others, too."""
_LOOK_SECONDS = (0.05, 0.1, 0.2, 0.4)
"""Between two looks at the row; the last one over and over."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A connection that is tried before it is saved; it is forgotten as soon as there is an answer."""

    connection: dict[str, Any]
    sealed_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Asking:
    """Somebody's question."""

    kind: Kind
    refresh: bool = False
    """Whether an answer that is not old yet won't do."""
    draft: Draft | None = None
    """To be asked with instead of what is saved."""


async def ask(
    database: Database,
    integration: UUID,
    visible: UUID | None,
    asking: Asking,
    *,
    wait_seconds: float,
    stop: asyncio.Event,
) -> asyncpg.Record:
    """Put a question and wait for its answer for a while; the row comes back with or without one.

    Nobody is kept waiting by a process that is asked to `stop`.

    Problems CREDENTIALS_MISSING, INTEGRATION_DELETED, NOT_FOUND.
    """
    inquiry = new_id()
    put = await database.transact(lambda connection: _put(connection, inquiry, integration, visible, asking))
    ends = time.monotonic() + wait_seconds
    looks = chain(_LOOK_SECONDS, repeat(_LOOK_SECONDS[-1]))
    while True:  # the answer comes to whichever process, so the row is all that there is to wait for
        row = await read(database, put, None)
        left = ends - time.monotonic()
        if row["answered_at"] is not None or left <= 0 or stop.is_set():
            return row
        await first_of(min(left, next(looks)), stop.wait())


async def read(database: Database, inquiry: UUID, visible: UUID | None) -> asyncpg.Record:
    """A question and its answer if there is one. Problem NOT_FOUND, also for those of others and forgotten ones."""
    row = await database.fetchrow(SQL["inquiry"], inquiry, visible)
    if row is None:
        raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no inquiry {inquiry}; they are kept for a day.")
    return row


async def receive(connection: Connection, integration: UUID, inquiry: UUID, fact: Answered) -> None:
    """Take note of an answer; only the first one counts, and none to a question nobody put."""
    await connection.execute(
        SQL["answer_inquiry"],
        inquiry,
        integration,
        fact.code.value if fact.code else None,
        ledger.storable(fact.detail),
        {"findings": list(map(_storable, fact.findings)), "schools": list(map(_storable, fact.schools))},
    )


async def look_after(connection: Connection, limit: int) -> int:
    """End what nobody answered in time and forget what is old; returns how many were ended."""
    code = Code.PROV_TIMEOUT
    detail = f"No worker answered within {ANSWER_WITHIN.total_seconds():.0f} seconds."
    ended = await connection.execute(SQL["end_overdue_inquiries"], code.value, detail, limit)
    await connection.execute(SQL["forget_inquiries"], KEEP, limit)
    return int(ended.rpartition(" ")[2])


async def list_due(connection: Connection, limit: int) -> Sequence[asyncpg.Record]:
    """Questions to publish now, locked."""
    return await connection.fetch(SQL["unpublished_inquiries"], limit)


async def mark(connection: Connection, rows: Sequence[asyncpg.Record]) -> None:
    """They were published; without an answer they are again."""
    await connection.executemany(SQL["mark_inquiry"], [(row["id"], PUBLISH_AT_MOST, PUBLISH_EVERY) for row in rows])


def make_message(row: asyncpg.Record) -> Outgoing:
    """A question as a worker gets it."""
    inquiry = Inquiry(
        inquiry_id=str(row["id"]),
        kind=row["kind"],
        integration_id=str(row["integration"]),
        organization_id=str(row["organization"]),
        provider=row["provider"],
        connection=row["connection"],
        sealed_secret=row["sealed_secret"],
        options=read_options(row["options"]),
        deadline=row["deadline_at"],
        sis=row["sis"],
        today=find_date(row["asked_at"], row["time_zone"]),
        upload=read_upload(row),
    )
    return replace(to_inquiries(inquiry, row["region"]), headers=row["headers"])


async def _put(connection: Connection, inquiry: UUID, integration: UUID, visible: UUID | None, asking: Asking) -> UUID:
    """The id of the question that is to be waited for: this one, a pending one, or one with a fresh answer."""
    row = await integrations.lock(connection, integration, visible)
    about = (integration, asking.kind, row["edition"])
    if asking.draft is not None:  # nobody else's question
        shown, sealed = asking.draft.connection, asking.draft.sealed_secret
        await connection.execute(SQL["add_inquiry"], inquiry, *about, ANSWER_WITHIN, inject_headers(), shown, sealed)
        await connection.execute(SQL["wake"])
        return inquiry
    credentials.check_entered(row)
    if asking.kind == "schools" and not asking.refresh:
        fresh = await connection.fetchrow(SQL["fresh_inquiry"], *about, FRESH)
        if fresh is not None:
            return UUID(str(fresh["id"]))
    await connection.execute(SQL["add_inquiry"], inquiry, *about, ANSWER_WITHIN, inject_headers(), None, None)
    await connection.execute(SQL["wake"])
    pending: UUID | None = await connection.fetchval(SQL["pending_inquiry"], *about)
    if pending is None:  # the other one was answered in between: the whole unit of work is tried again
        raise asyncpg.SerializationError("the pending inquiry was answered while it was asked again")
    return pending


def _storable(part: P) -> P:
    texts = {name: value for name, value in msgspec.structs.asdict(part).items() if isinstance(value, str)}
    return msgspec.structs.replace(part, **{name: ledger.storable(value) for name, value in texts.items()})
