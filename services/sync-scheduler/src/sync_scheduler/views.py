"""What callers get to see of organizations and integrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import msgspec
from pydantic import BaseModel

from homeroom.clock import SystemClock
from homeroom.codes import Code
from sync_scheduler import slots
from sync_scheduler.calendars import is_zone
from sync_scheduler.integration_bodies import GuardBody, OptionsBody, read_options, show_guard
from sync_scheduler.paging import to_cursor
from sync_scheduler.pauses import is_paused
from sync_scheduler.schedule_bodies import AnySchedule, show_schedule
from sync_scheduler.schedules import Reason
from sync_scheduler.sftp_accounts import read_account

V = TypeVar("V", bound=BaseModel)

NEXT_RUNS = 5
_CLOCK = SystemClock()


class Page(BaseModel, Generic[V]):
    """Some of a list, and the cursor of what follows."""

    items: list[V]
    cursor: str | None
    more: bool


class Organization(BaseModel):
    """A district."""

    id: UUID
    name: str
    created_at: datetime
    updated_at: datetime


class SftpAccount(BaseModel):
    """The account in the inbox, without what opens it."""

    username: str
    auth: Literal["password", "key"]


class NextRun(BaseModel):
    """A run that is ahead, in UTC and by the district's clocks."""

    at: datetime
    local: datetime
    why: Reason


class Pause(BaseModel):
    """While it lasts, no sync starts."""

    since: datetime
    until: datetime | None
    reason: str | None
    by: str


class Integration(BaseModel):
    """An integration, without its secrets."""

    id: UUID
    organization_id: UUID
    name: str
    provider: str
    sis: str | None
    region: str
    time_zone: str
    connection: dict[str, Any]
    credentials_missing: bool
    options: OptionsBody
    schedule: AnySchedule
    next_slot_at: datetime | None
    next_runs: list[NextRun]
    guard: GuardBody
    approve_first: bool
    additions_only: bool
    keep_received: bool
    takes_over: UUID | None
    state: str
    paused: Pause | None
    needs_sync: bool
    sftp: SftpAccount | None
    last_success_at: datetime | None
    last_full_at: datetime | None
    created_at: datetime
    updated_at: datetime


class Reset(Integration):
    """An integration that was reset, and what happens next."""

    next_step: str


class UsedSlot(BaseModel):
    """What became of one slot of the schedule, or of several that shared a fate."""

    slot: datetime
    local: datetime
    outcome: Literal["started", "skipped", "left_out"]
    code: Code | None
    sentence: str
    slots: int
    run_id: UUID | None
    at: datetime


def show_organization(row: asyncpg.Record) -> Organization:
    """An organization's row for a caller."""
    return Organization(**{name: row[name] for name in Organization.model_fields})


def show_integration(row: asyncpg.Record) -> Integration:
    """An integration's row for a caller."""
    # Stored options passed their checks when they came; what is offered may have changed since.
    options = OptionsBody.model_construct(**msgspec.structs.asdict(read_options(row["options"])))
    now = _CLOCK.now()
    same = {name: row[name] for name in Integration.model_fields.keys() & row.keys()}
    return Integration(
        **same
        | {
            "organization_id": row["organization"],
            "credentials_missing": not row["sealed_secret"],
            "options": options,
            "schedule": show_schedule(row["schedule"]),
            "next_runs": _show_next_runs(row, now),
            "guard": show_guard(row["guard"]),
            "paused": _show_pause(row, now),
            "sftp": _show_account(row),
        }
    )


def show_reset(row: asyncpg.Record) -> Reset:
    """An integration after its reset: a reset is a refresh, and forgets no record (C6)."""
    shown = show_integration(row)
    when = (
        f"by its schedule at {shown.next_slot_at:%Y-%m-%d %H:%M} UTC" if shown.next_slot_at else "as soon as it is run"
    )
    if shown.paused:
        when = "once the integration is resumed"
    next_step = (
        f"Everything is read and compared {when}. Until that picture is complete the roster stays readable as it is,"
        " and records that turn out to be unchanged cause no events."
    )
    return Reset(**shown.model_dump(), next_step=next_step)


def show_slot(row: asyncpg.Record) -> UsedSlot:
    """A slot's outcome for a caller."""
    code = Code(row["code"]) if row["code"] else None
    return UsedSlot(
        slot=row["slot"],
        local=_show_local(row["slot"], row),
        outcome=row["outcome"],
        code=code,
        sentence=code.entry.title if code else "A sync was started",
        slots=row["slots"],
        run_id=row["run"],
        at=row["at"],
    )


def _show_next_runs(row: asyncpg.Record, now: datetime) -> list[NextRun]:
    coming = slots.list_coming(row, now, NEXT_RUNS)
    return [NextRun(at=one.at, local=_show_local(one.at, row), why=one.why) for one in coming]


def _show_local(moment: datetime, row: asyncpg.Record) -> datetime:
    """By the district's clocks; in UTC where its zone went out of use."""
    zone: str = row["time_zone"]
    return moment.astimezone(ZoneInfo(zone)) if is_zone(zone) else moment


def _show_pause(row: asyncpg.Record, now: datetime) -> Pause | None:
    if not is_paused(row, now):
        return None
    return Pause(since=row["paused_at"], until=row["paused_until"], reason=row["pause_reason"], by=row["paused_by"])


def _show_account(row: asyncpg.Record) -> SftpAccount | None:
    account = read_account(row)
    if account is None:
        return None
    return SftpAccount(username=account.username, auth="password" if account.password_hash else "key")


def show_page(rows: Sequence[asyncpg.Record], limit: int, order: str, show: Callable[[asyncpg.Record], V]) -> Page[V]:
    """A page of a list that was read one row beyond `limit`, ordered by the column `order`."""
    shown = rows[:limit]
    more = len(rows) > limit
    cursor = to_cursor(shown[-1][order]) if more else None
    return Page(items=[show(row) for row in shown], cursor=cursor, more=more)
