"""Runs as rows: begin one, read one, write down what was decided about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from homeroom.codes import Code
from homeroom.db import TRANSIENT, Connection, DatabaseBusy, load_statements
from homeroom.messages import Bookmark, CollectionReport, RecordIssue
from homeroom.telemetry import RUN_SECONDS, SYNC_RUNS, get_logger
from sync_scheduler import runs
from sync_scheduler.runs import Entry, Outcome, Run, State

log = get_logger(__name__)

SQL = load_statements("sync_scheduler")

AWAY = (*TRANSIENT, DatabaseBusy)
"""The database is away for the moment."""


class Change(NamedTuple):
    """A run before and after what was decided."""

    run_id: UUID
    before: Run
    after: Run


async def lock(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, Run]:
    """The runs as they are, nobody else's to change until the transaction ends; unknown ids are left out."""
    return {row["id"]: read(row) for row in await connection.fetch(SQL["lock_runs"], ids)}


async def cancel(connection: Connection, run_id: UUID) -> Change:
    """Ask a run that is there to end."""
    before = (await lock(connection, [run_id]))[run_id]
    return await save(connection, run_id, before, [runs.cancel(before, now=await read_time(connection))])


async def save(connection: Connection, run_id: UUID, before: Run, outcomes: Sequence[Outcome]) -> Change:
    """Write down what was decided about a locked run, in order."""
    after = outcomes[-1].run if outcomes else before
    if after is not before:
        await _save_changes(connection, run_id, before, after)
    for outcome in outcomes:
        for entry in filter(None, (outcome.turn, outcome.entry)):
            await add_entry(connection, run_id, entry)
        if outcome.stop:
            await connection.execute(SQL["save_stop"], run_id, outcome.stop.below_attempt, outcome.stop.reason.value)
        if outcome.applied is not None:
            bookmark = _storable_bookmark(outcome.bookmark)
            await connection.execute(SQL["note_success"], run_id, outcome.applied, after.mode, bookmark)
    ended = before.active and not after.active
    if ended:
        await _settle_upload(connection, run_id, after)
    if ended or after.attempt > before.attempt or any(outcome.stop for outcome in outcomes):
        await connection.execute(SQL["wake"])
    return Change(run_id, before, after)


def tell(change: Change) -> None:
    """Let operations know of a run that ended, once that is committed."""
    run = change.after
    if not change.before.active or run.active:
        return
    SYNC_RUNS.labels(run.state.value).inc()
    if run.started_at and run.finished_at:
        RUN_SECONDS.labels(run.state.value).observe((run.finished_at - run.started_at).total_seconds())
    log.info("run.ended", run_id=str(change.run_id), state=run.state.value, code=run.code, attempt=run.attempt)


async def add_entry(connection: Connection, run_id: UUID, entry: Entry) -> None:
    """Write a line of the run's story, unless it stands there."""
    code = entry.code.value if entry.code else None
    await connection.execute(SQL["add_entry"], run_id, entry.attempt, entry.step, code, storable(entry.sentence))


async def _settle_upload(connection: Connection, run_id: UUID, run: Run) -> None:
    """A set of files was used if it became the roster; else the next one goes on without it."""
    used = run.state in (State.SUCCEEDED, State.PARTIAL)
    code = None if used or run.code is None else run.code.value
    await connection.execute(SQL["settle_upload"], run_id, "used" if used else "failed", code)


async def _save_changes(connection: Connection, run_id: UUID, before: Run, after: Run) -> None:
    progress = {"served": dict(after.served), "pages": after.pages}
    if (after.state, after.fetch_id, after.attempt) == (before.state, before.fetch_id, before.attempt) and (
        after.state is State.FETCHING and after.cancel_requested == before.cancel_requested
    ):
        await connection.execute(SQL["save_heartbeat"], run_id, after.heartbeat_at, progress)
        return
    await connection.execute(
        SQL["save_run"],
        run_id,
        after.state.value,
        after.code.value if after.code else None,
        storable(after.detail),
        after.attempt,
        after.not_before,
        after.fetch_id,
        after.worker,
        after.heartbeat_at,
        progress,
        after.collections,
        [_storable_issue(issue) for issue in after.issues],
        after.students,
        after.teachers,
        after.classes,
        after.cancel_requested,
        after.started_at,
        after.finished_at,
        after.mode,
        after.mode_code.value if after.mode_code else None,
    )


def storable(text: str | None) -> str | None:
    """Postgres has no NUL in texts, and what a provider calls a sourcedId may hold one."""
    return text.replace("\0", "\ufffd") if text else text


def _storable_bookmark(bookmark: Bookmark | None) -> Bookmark | None:
    """A cursor with such a character can't be kept as it is, and an altered one is worse than none."""
    if bookmark is not None and b"\\u0000" in msgspec.json.encode(bookmark):
        log.warning("bookmark.not_storable")
        return None
    return bookmark


def _storable_issue(issue: RecordIssue) -> RecordIssue:
    return msgspec.structs.replace(
        issue, sourced_id=storable(issue.sourced_id), field=storable(issue.field), detail=storable(issue.detail)
    )


def read(row: asyncpg.Record) -> Run:
    """A row of the table as the state machine knows it."""
    progress: dict[str, Any] = row["progress"]
    return Run(
        deadline_at=row["deadline_at"],
        state=State(row["state"]),
        mode=row["mode"],
        mode_code=Code(row["mode_code"]) if row["mode_code"] else None,
        attempt=row["attempt"],
        not_before=row["not_before"],
        cancel_requested=row["cancel_requested"],
        code=Code(row["code"]) if row["code"] else None,
        detail=row["detail"],
        fetch_id=row["fetch_id"],
        worker=row["worker"],
        heartbeat_at=row["heartbeat_at"],
        served=progress.get("served", {}),
        pages=progress.get("pages", 0),
        collections=msgspec.convert(row["counts"], dict[str, CollectionReport]),
        issues=msgspec.convert(row["issues"], tuple[RecordIssue, ...]),
        students=row["matched_students"],
        teachers=row["matched_teachers"],
        classes=row["imported_classes"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )


async def read_time(connection: Connection) -> datetime:
    """The database's time: the one clock all replicas share."""
    now: datetime = await connection.fetchval(SQL["now"])
    return now
