"""What callers get to see of organizations, integrations and runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

import asyncpg
import msgspec
from pydantic import BaseModel

from homeroom.codes import Code
from homeroom.messages import Mode
from sync_scheduler import ledger
from sync_scheduler.integrations import OptionsBody, ScheduleBody, read_options
from sync_scheduler.paging import to_cursor
from sync_scheduler.runs import State, list_incomplete_schools
from sync_scheduler.sftp_accounts import read_account
from sync_scheduler.uploads import read_upload

V = TypeVar("V", bound=BaseModel)

MESSAGES = {
    State.QUEUED: "The run waits for a worker",
    State.FETCHING: "A worker fetches from the provider",
    State.APPLYING: "The store compares and applies what was fetched",
    State.SUCCEEDED: "The roster is up to date",
}
"""What a state without a code says."""


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
    options: OptionsBody
    schedule: ScheduleBody
    state: str
    needs_sync: bool
    sftp: SftpAccount | None
    last_success_at: datetime | None
    last_full_at: datetime | None
    created_at: datetime
    updated_at: datetime


class Counts(BaseModel):
    """What became of one collection."""

    served: int
    added: int
    changed: int
    unchanged: int
    removed: int
    filtered: int
    quarantined: int


class Fetching(BaseModel):
    """How far a fetch has come."""

    served: dict[str, int]
    pages: int


class IncompleteSchool(BaseModel):
    """A school whose records stayed as they were, and why."""

    sourced_id: str | None
    code: Code
    why: str


class Upload(BaseModel):
    """The set of files a run reads."""

    id: str
    number: int
    received_at: datetime


class Run(BaseModel):
    """A run as the contract shows it."""

    id: UUID
    integration_id: UUID
    number: int
    state: State
    code: Code | None
    message: str
    detail: str | None
    next_step: str | None
    mode: Mode
    mode_code: Code | None
    upload: Upload | None
    attempt: int
    cancel_requested: bool
    progress: Fetching
    counts: dict[str, Counts]
    incomplete_schools: list[IncompleteSchool]
    matched_students: int
    matched_teachers: int
    unmatched_users: int
    imported_classes: int
    created_at: datetime
    deadline_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class RunAccepted(BaseModel):
    """The run that was queued."""

    run_id: UUID


class LogEntry(BaseModel):
    """One step of a run's story."""

    at: datetime
    attempt: int
    step: str
    code: Code | None
    sentence: str


class Issue(BaseModel):
    """A record that was not taken as it came."""

    collection: str
    sourced_id: str | None
    code: Code
    title: str
    next_step: str
    field: str | None
    detail: str | None


class RunLog(BaseModel):
    """A run's story and the records it stumbled over; at most as many as a fetch reports, the counts are exact."""

    run_id: UUID
    entries: list[LogEntry]
    issues: list[Issue]


def show_organization(row: asyncpg.Record) -> Organization:
    """An organization's row for a caller."""
    return Organization(**{name: row[name] for name in Organization.model_fields})


def show_integration(row: asyncpg.Record) -> Integration:
    """An integration's row for a caller."""
    # Stored options passed their checks when they came; what is offered may have changed since.
    options = OptionsBody.model_construct(**msgspec.structs.asdict(read_options(row["options"])))
    same = {name: row[name] for name in Integration.model_fields.keys() & row.keys()}
    return Integration(
        **same
        | {
            "organization_id": row["organization"],
            "options": options,
            "schedule": ScheduleBody(),
            "sftp": _show_account(row),
        }
    )


def _show_account(row: asyncpg.Record) -> SftpAccount | None:
    account = read_account(row)
    if account is None:
        return None
    return SftpAccount(username=account.username, auth="password" if account.password_hash else "key")


def show_run(row: asyncpg.Record) -> Run:
    """A run's row for a caller."""
    run = ledger.read(row)
    return Run(
        id=row["id"],
        integration_id=row["integration"],
        number=row["number"],
        state=run.state,
        code=run.code,
        message=run.code.entry.title if run.code else MESSAGES[run.state],
        detail=run.detail,
        next_step=run.code.entry.next_step if run.code else None,
        mode=run.mode,
        mode_code=run.mode_code,
        upload=_show_upload(row),
        attempt=run.attempt,
        cancel_requested=run.cancel_requested,
        progress=Fetching(served=dict(run.served), pages=run.pages),
        counts={
            collection: Counts(**{name: getattr(report, name) for name in Counts.model_fields})
            for collection, report in run.collections.items()
        },
        incomplete_schools=[
            IncompleteSchool(sourced_id=one.sourced_id, code=one.code, why=one.detail or one.code.entry.title)
            for one in list_incomplete_schools(run.issues)
        ],
        matched_students=run.students,
        matched_teachers=run.teachers,
        unmatched_users=row["unmatched_users"],
        imported_classes=run.classes,
        created_at=row["created_at"],
        deadline_at=run.deadline_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
    )


def _show_upload(row: asyncpg.Record) -> Upload | None:
    upload = read_upload(row)
    return Upload(**msgspec.structs.asdict(upload)) if upload else None


def show_log(row: asyncpg.Record, entries: Iterable[asyncpg.Record]) -> RunLog:
    """A run's entries and issues for a caller."""
    issues = [
        Issue(
            collection=issue.collection,
            sourced_id=issue.sourced_id,
            code=issue.code,
            title=issue.code.entry.title,
            next_step=issue.code.entry.next_step,
            field=issue.field,
            detail=issue.detail,
        )
        for issue in ledger.read(row).issues
    ]
    told = [LogEntry(**{name: entry[name] for name in LogEntry.model_fields}) for entry in entries]
    return RunLog(run_id=row["id"], entries=told, issues=issues)


def show_page(rows: Sequence[asyncpg.Record], limit: int, order: str, show: Callable[[asyncpg.Record], V]) -> Page[V]:
    """A page of a list that was read one row beyond `limit`, ordered by the column `order`."""
    shown = rows[:limit]
    more = len(rows) > limit
    cursor = to_cursor(shown[-1][order]) if more else None
    return Page(items=[show(row) for row in shown], cursor=cursor, more=more)
