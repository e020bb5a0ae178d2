"""Runs as rows: begin one, read one, write down what was decided about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from homeroom import audit
from homeroom.codes import Code
from homeroom.db import TRANSIENT, Connection, DatabaseBusy, load_statements
from homeroom.ids import new_id
from homeroom.messages import Bookmark, CollectionReport, ProductMatching, RecordIssue
from homeroom.telemetry import RUN_SECONDS, SYNC_RUNS, get_logger
from sync_scheduler import erasures, transitions
from sync_scheduler.runs import Entry, Hold, Outcome, Run, State

log = get_logger(__name__)

SQL = load_statements("sync_scheduler")

SCHEDULER = "scheduler"
"""Who decides where nobody did."""
PAUSED_BY_RESTORE = "An earlier state of the roster was brought back; the next sync would undo that."

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
    return await save(connection, run_id, before, [transitions.cancel(before, now=await read_time(connection))])


async def save(connection: Connection, run_id: UUID, before: Run, outcomes: Sequence[Outcome]) -> Change:
    """Write down what was decided about a locked run, in order."""
    after = outcomes[-1].run if outcomes else before
    if after is not before:
        await _save_changes(connection, run_id, before, after)
    for outcome in outcomes:
        for entry in filter(None, (outcome.turn, outcome.entry, *outcome.reasons)):
            await add_entry(connection, run_id, entry)
        if outcome.stop:
            await connection.execute(SQL["save_stop"], run_id, outcome.stop.below_attempt, outcome.stop.reason.value)
        await _note(connection, run_id, outcome)
        await _settle_decisions(connection, run_id, outcome)
    stopped = after.state is not before.state and not after.active
    if after.state is not before.state:
        await connection.execute(SQL["watch_again"], run_id)
    if stopped and after.kind == "sync":
        await _settle_upload(connection, run_id, after)
    if stopped or after.attempt > before.attempt or any(outcome.stop or outcome.unwanted for outcome in outcomes):
        await connection.execute(SQL["wake"])
    return Change(run_id, before, after)


async def _note(connection: Connection, run_id: UUID, outcome: Outcome) -> None:
    """What an integration is to know of a run that reached its roster; evaluations and refreshes leave it alone."""
    kind = outcome.run.kind
    if kind == "sync" and outcome.applied is not None:
        bookmark = _storable_bookmark(outcome.bookmark)
        gone = "hold" if outcome.held else "sync"
        await connection.execute(SQL["note_success"], run_id, outcome.applied, outcome.run.mode, bookmark, gone)
    elif kind == "sync" and outcome.held:
        await connection.execute(SQL["note_hold"], run_id)
    elif kind == "restore" and (outcome.held or outcome.applied is not None):
        await _note_restore(connection, run_id, applied=outcome.applied is not None)


async def _note_restore(connection: Connection, run_id: UUID, *, applied: bool) -> None:
    """A restore pauses its integration already while it waits: a newer plan would take its place."""
    if applied:
        await connection.execute(SQL["note_restore"], run_id)
    paused = await connection.fetchrow(SQL["pause_for_restore"], run_id, PAUSED_BY_RESTORE)
    if paused is not None:
        await audit.note(
            connection,
            by=paused["created_by"],
            action="integration.pause",
            organization=paused["organization"],
            subject=f"integration:{paused['id']}",
            detail={"run_id": str(run_id)},
        )


async def _settle_decisions(connection: Connection, run_id: UUID, outcome: Outcome) -> None:
    """Answered decisions are not sent again; what is held for nobody is thrown away."""
    if answer := outcome.answer:
        refused = answer.refused.value if answer.refused else None
        decision = _read_uuid(answer.decision_id) if answer.decision_id else None
        if answer.decision_id is None or decision is not None:
            await connection.execute(SQL["answer_decisions"], run_id, decision, answer.plan, refused)
    if outcome.unwanted is not None:  # after a refusal, which leaves room for it
        await connection.execute(SQL["add_decision"], new_id(), run_id, *outcome.unwanted, "discard", SCHEDULER)


def _read_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def tell(change: Change) -> None:
    """Let operations know of a run that ended, once that is committed."""
    run = change.after
    if run.state is change.before.state or run.active:
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
    progress = {
        "served": dict(after.served),
        "pages": after.pages,
        "stated": dict(after.stated),
        "reading": after.reading,
        "since": after.fetching_since,
    }
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
        await erasures.leave_out(connection, run_id, [_storable_issue(issue) for issue in after.issues]),
        after.students,
        after.teachers,
        after.classes,
        after.cancel_requested,
        after.started_at,
        after.finished_at,
        after.mode,
        after.mode_code.value if after.mode_code else None,
        after.deadline_at,
        after.plan,
        _storable_hold(after.hold),
        after.hold.expires_at if after.hold and after.hold.decision is None else None,
        after.unmatched,
        after.matching,
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


def _storable_hold(hold: Hold | None) -> Hold | None:
    if hold is None:
        return None
    reasons = tuple(
        msgspec.structs.replace(one, sentence=storable(one.sentence) or "", school=storable(one.school))
        for one in hold.reasons
    )
    return msgspec.structs.replace(hold, sentence=storable(hold.sentence) or "", reasons=reasons)


def read(row: asyncpg.Record) -> Run:
    """A row of the table as the state machine knows it."""
    progress: dict[str, Any] = row["progress"]
    return Run(
        deadline_at=row["deadline_at"],
        kind=row["kind"],
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
        fetching_since=msgspec.convert(progress.get("since"), datetime | None),
        served=progress.get("served", {}),
        stated=progress.get("stated", {}),
        reading=tuple(progress.get("reading", ())),
        pages=progress.get("pages", 0),
        collections=msgspec.convert(row["counts"], dict[str, CollectionReport]),
        issues=msgspec.convert(row["issues"], tuple[RecordIssue, ...]),
        students=row["matched_students"],
        teachers=row["matched_teachers"],
        unmatched=row["unmatched_users"],
        matching=msgspec.convert(row["matching"], tuple[ProductMatching, ...]),
        classes=row["imported_classes"],
        plan=row["plan"],
        hold=msgspec.convert(row["hold"], Hold | None),
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )


async def read_time(connection: Connection) -> datetime:
    """The database's time: the one clock all replicas share."""
    now: datetime = await connection.fetchval(SQL["now"])
    return now
