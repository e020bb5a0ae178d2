"""How a run begins: whether it may, what it reads and why, the date it is decided by, and the files it is about.

Requirements C2, C3, C6, C10, C11, D5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from homeroom import messages
from homeroom.codes import Code
from homeroom.connections import UPLOADED
from homeroom.db import Connection
from homeroom.messages import Bookmark, Purpose
from homeroom.problems import Problem
from homeroom.telemetry import inject_headers
from sync_scheduler import credentials, ledger, licenses, modes, pauses
from sync_scheduler.calendars import find_date
from sync_scheduler.ledger import SQL
from sync_scheduler.runs import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What all runs are begun under."""

    deadline: timedelta = timedelta(hours=6)
    """A run that has not ended by then fails."""
    refresh_deadline: timedelta = timedelta(minutes=2)
    """The same for the refresh of one class, for which somebody waits."""
    full_every: timedelta = timedelta(days=7)
    """Everything is compared at least so often."""
    license_required: bool = False
    """Whether every organization needs a license, also one that never had any (`licenses.is_active`, D5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What kind of run is wanted, and who wants it."""

    occasion: str
    """A sentence for the log."""
    created_by: str
    asked: modes.Asked = "auto"
    kind: Purpose = "sync"
    slot: datetime | None = None
    """The moment of the schedule it is for."""
    options: Mapping[str, Any] | None = None
    """To be tried instead of the integration's own; only with an evaluation."""
    class_sourced_id: str | None = None
    teacher_sourced_id: str | None = None
    restores: UUID | None = None


async def begin(connection: Connection, run_id: UUID, integration: asyncpg.Record, wish: Wish, *, terms: Terms) -> UUID:
    """Queue a run of an integration the caller has locked; returns its id, or the id of the one that is active.

    Problems INTEGRATION_PAUSED, CREDENTIALS_MISSING, LICENSE_INACTIVE; UPLOAD_MISSING where the provider is fed by
    files and none were ever received.
    """
    now = await ledger.read_time(connection)
    await _check_gates(connection, integration, wish.kind, now, terms)
    upload = await _find_upload(connection, integration, wish.kind)
    choice = _choose(wish, integration, now, terms)
    await connection.execute(
        SQL["add_run"],
        run_id,
        integration["id"],
        choice.mode,
        choice.code.value if choice.code else None,
        find_date(now, integration["time_zone"]),
        upload,
        wish.created_by,
        inject_headers(),
        terms.refresh_deadline if wish.kind == "refresh" else terms.deadline,
        wish.kind,
        wish.slot,
        wish.options,
        wish.class_sourced_id,
        wish.teacher_sourced_id,
        wish.restores,
    )
    begun: UUID | None = await connection.fetchval(SQL["begun_run"], integration["id"], run_id)
    if begun is None:  # the other one ended in between: the whole unit of work is tried again
        raise asyncpg.SerializationError("the active run ended while another was asked for")
    if begun == run_id:
        await ledger.add_entry(connection, run_id, Entry("asked", 0, f"{wish.occasion} {choice.sentence}", choice.code))
        await connection.execute(SQL["wake"])
    return begun


async def _check_gates(
    connection: Connection, integration: asyncpg.Record, kind: Purpose, now: datetime, terms: Terms
) -> None:
    """A pause keeps back what follows the provider; evaluations and restores are what pauses are for."""
    if kind in ("sync", "refresh") and pauses.is_paused(integration, now):
        until = integration["paused_until"]
        end = f"until {until:%Y-%m-%d %H:%M} UTC" if until else "until somebody resumes it"
        detail = f"The integration {integration['id']} is paused {end}."
        raise Problem(Code.INTEGRATION_PAUSED, status=409, detail=detail)
    if kind != "restore":
        credentials.check_entered(integration)
    organization = integration["organization"]
    if not await licenses.is_active(connection, organization, now, required=terms.license_required):
        detail = f"The organization {organization} has no license that is valid now."
        raise Problem(Code.LICENSE_INACTIVE, status=409, detail=detail)


def _choose(wish: Wish, integration: asyncpg.Record, now: datetime, terms: Terms) -> modes.Choice:
    """What the run reads; of changes alone nobody could say what they would come to, or what was left out before."""
    past = read_past(integration)
    if wish.kind == "evaluation" and not past.uploaded:
        return modes.Choice("full", "Everything is read and compared, and nothing will be changed.")
    if wish.kind == "evaluation":
        return modes.Choice("full", "The files the next sync would read are compared, and nothing will be changed.")
    if wish.kind == "restore":
        return modes.Choice("full", "Nothing is read from the provider; the store undoes what was applied.")
    if wish.kind == "refresh":
        return modes.Choice("full", "Only this class and its people are read.")
    return modes.choose(wish.asked, past, now=now, full_every=terms.full_every)


def read_past(integration: asyncpg.Record) -> modes.Past:
    """What an integration's row says of its syncs so far."""
    waiting = integration["bookmark_gone"] == "hold"  # then the bookmark only serves refreshes
    return modes.Past(
        bookmark=None if waiting else read_bookmark(integration),
        gone=integration["bookmark_gone"],
        last_full_at=integration["last_full_at"],
        uploaded=integration["provider"] in UPLOADED,
    )


def read_bookmark(row: asyncpg.Record) -> Bookmark | None:
    """The bookmark of a row, as it goes out with a job."""
    return msgspec.convert(row["bookmark"], Bookmark | None)


def read_terms(row: asyncpg.Record) -> messages.Terms:
    """What the store judges and applies a run's picture under: what an integration's columns say beside its kind."""
    return messages.Terms(
        purpose=row["kind"],
        guard=msgspec.convert(row["guard"], messages.GuardLimits),
        approve_first=row["approve_first"],
        additions_only=row["additions_only"],
        takes_over=str(row["takes_over"]) if row["takes_over"] else None,
    )


async def _find_upload(connection: Connection, integration: asyncpg.Record, kind: Purpose) -> str | None:
    if integration["provider"] not in UPLOADED or kind == "restore":
        return None
    upload: str | None = await connection.fetchval(SQL["next_upload"], integration["id"])
    if upload is None:
        detail = f"No set of files was received for the integration {integration['id']} yet."
        raise Problem(Code.UPLOAD_MISSING, status=409, detail=detail)
    return upload
