"""What callers get to see of runs: where they stand, what waits, what came of them, and their story (C5, C10, C14)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec
from pydantic import BaseModel, Field

from homeroom.codes import Code
from homeroom.messages import Mode, Purpose
from sync_scheduler import ledger
from sync_scheduler.progress import estimate
from sync_scheduler.run_ends import count_waiting, list_incomplete_schools
from sync_scheduler.runs import Action, State
from sync_scheduler.runs import Run as Known
from sync_scheduler.uploads import read_upload

_MESSAGES: dict[State, str] = {
    State.QUEUED: "The run waits for a worker",
    State.FETCHING: "A worker fetches from the provider",
    State.APPLYING: "The store compares and applies what was fetched",
    State.SUCCEEDED: "The roster is up to date",
}
"""What a state without a code says."""
_OTHERS: dict[tuple[Purpose, State], str] = {
    ("evaluation", State.APPLYING): "The store finds out what would change",
    ("evaluation", State.SUCCEEDED): "The evaluation is there; nothing was changed",
    ("refresh", State.SUCCEEDED): "The class is up to date",
    ("restore", State.QUEUED): "The run waits to be handed to the store",
    ("restore", State.APPLYING): "The store brings the roster back",
    ("restore", State.SUCCEEDED): "The roster was brought back; the integration is paused",
}
"""What it says of other runs than syncs."""
_DECIDED = "The store carries out what was decided about the plan"


class Counts(BaseModel):
    """What became of one collection."""

    served: int
    added: int
    changed: int
    unchanged: int
    removed: int
    filtered: int
    quarantined: int
    held: int = Field(description="removals that were kept back")
    unconfirmed: int = Field(description="known records that were missing without proof that they are gone; they stay")


class Fetching(BaseModel):
    """How far a fetch has come; null is what nobody can know."""

    served: dict[str, int]
    pages: int
    reading: list[str] = Field(description="the collections that are being read")
    rate: float | None = Field(description="records a second")
    stated: int | None = Field(description="how many records there are, if the provider says so")
    percent: float | None
    estimated_end: datetime | None = Field(description="of the fetch, if it goes on like this")


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


class Reason(BaseModel):
    """One of the limits that were passed."""

    code: Code
    title: str
    sentence: str
    collection: str | None
    school: str | None
    count: int
    of: int


class Waiting(BaseModel):
    """What waits of one collection."""

    added: int
    changed: int
    removed: int


class Taken(BaseModel):
    """What was decided, while the store carries it out."""

    action: Action
    by: str
    at: datetime


class Hold(BaseModel):
    """What waits for a decision."""

    plan: str = Field(description="the hash that a decision names")
    code: Code
    sentence: str
    reasons: list[Reason]
    everything: bool = Field(description="whether nothing was applied; else only removals wait")
    expires_at: datetime
    held: dict[str, Waiting]
    decision: Taken | None


class Matching(BaseModel):
    """How the people of the integration stood with the accounts of one product after the run."""

    product_id: str
    matched_students: int
    matched_teachers: int
    created: int = Field(description="of the matched ones, how many have an account that was created for them")
    unmatched: int = Field(description="students and teachers without an account, whatever the reason")
    ambiguous: int = Field(description="of the unmatched ones, how many might be several accounts, or share one")


class Links(BaseModel):
    """Where more is to be found; null where there is nothing."""

    integration: str
    log: str
    plan: str | None
    changes: str | None
    received: str | None


class Run(BaseModel):
    """A run as the contract shows it."""

    id: UUID
    integration_id: UUID
    number: int
    kind: Purpose
    evaluate: bool
    state: State
    code: Code | None
    message: str
    detail: str | None
    next_step: str | None
    mode: Mode
    mode_code: Code | None
    slot: datetime | None = Field(description="the moment of the schedule it was begun for")
    upload: Upload | None
    attempt: int
    cancel_requested: bool
    progress: Fetching
    counts: dict[str, Counts]
    plan: str | None = Field(description="the hash of what is or was held, or was evaluated")
    hold: Hold | None
    restores: UUID | None = Field(description="the run that is undone, with all after it")
    incomplete_schools: list[IncompleteSchool]
    matched_students: int = Field(
        description="active students with an account, in the product that has the fewest of them; all active students "
        "of the roster where no product keeps accounts"
    )
    matched_teachers: int = Field(description="the same of teachers")
    unmatched_users: int = Field(
        description="students and teachers without an account, in the product that lacks the most of them; 0 where no "
        "product keeps accounts"
    )
    matching: list[Matching] = Field(description="the numbers of each product that keeps accounts")
    imported_classes: int
    created_at: datetime
    deadline_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: Links


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
    links: Links


def show_run(row: asyncpg.Record) -> Run:
    """A run's row for a caller."""
    run = ledger.read(row)
    return Run(
        id=row["id"],
        integration_id=row["integration"],
        number=row["number"],
        kind=run.kind,
        evaluate=run.kind == "evaluation",
        state=run.state,
        code=run.code,
        message=_tell(run),
        detail=run.detail,
        next_step=run.code.entry.next_step if run.code else None,
        mode=run.mode,
        mode_code=run.mode_code,
        slot=row["slot"],
        upload=_show_upload(row),
        attempt=run.attempt,
        cancel_requested=run.cancel_requested,
        progress=_show_progress(run),
        counts={
            collection: Counts(**{name: getattr(report, name) for name in Counts.model_fields})
            for collection, report in run.collections.items()
        },
        plan=run.plan,
        hold=_show_hold(run),
        restores=row["restores"],
        incomplete_schools=[
            IncompleteSchool(sourced_id=one.sourced_id, code=one.code, why=one.detail or one.code.entry.title)
            for one in list_incomplete_schools(run.issues)
        ],
        matched_students=run.students,
        matched_teachers=run.teachers,
        unmatched_users=run.unmatched,
        matching=[Matching(**msgspec.structs.asdict(one)) for one in run.matching],
        imported_classes=run.classes,
        created_at=row["created_at"],
        deadline_at=run.deadline_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        links=_show_links(row, run),
    )


def show_log(row: asyncpg.Record, entries: Iterable[asyncpg.Record]) -> RunLog:
    """A run's entries and issues for a caller."""
    run = ledger.read(row)
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
        for issue in run.issues
    ]
    told = [LogEntry(**{name: entry[name] for name in LogEntry.model_fields}) for entry in entries]
    return RunLog(run_id=row["id"], entries=told, issues=issues, links=_show_links(row, run))


def _tell(run: Known) -> str:
    if run.code:
        return run.code.entry.title
    if run.hold is not None:
        return _DECIDED
    return _OTHERS.get((run.kind, run.state), _MESSAGES[run.state])


def _show_progress(run: Known) -> Fetching:
    known = estimate(run)
    return Fetching(
        served=dict(run.served),
        pages=run.pages,
        reading=list(run.reading),
        rate=None if known.rate is None else round(known.rate, 1),
        stated=known.stated,
        percent=None if known.percent is None else round(known.percent, 1),
        estimated_end=known.estimated_end,
    )


def _show_hold(run: Known) -> Hold | None:
    hold = run.hold
    if hold is None:
        return None
    waiting = count_waiting(run.collections, everything=hold.everything)
    return Hold(
        plan=hold.plan,
        code=hold.code,
        sentence=hold.sentence,
        reasons=[
            Reason(
                code=one.code,
                title=one.code.entry.title,
                sentence=one.sentence,
                collection=one.collection,
                school=one.school,
                count=one.count,
                of=one.of,
            )
            for one in hold.reasons
        ],
        everything=hold.everything,
        expires_at=hold.expires_at,
        held={name: Waiting(**counts) for name, counts in waiting.items()},
        decision=Taken(action=hold.decision.action, by=hold.decision.by, at=hold.decision.at)
        if hold.decision
        else None,
    )


def _show_upload(row: asyncpg.Record) -> Upload | None:
    upload = read_upload(row)
    return Upload(**msgspec.structs.asdict(upload)) if upload else None


def _show_links(row: asyncpg.Record, run: Known) -> Links:
    plan = f"/v1/plans/{row['id']}"
    applied = run.state in (State.SUCCEEDED, State.PARTIAL)
    return Links(
        integration=f"/v1/integrations/{row['integration']}",
        log=f"/v1/runs/{row['id']}/log",
        plan=plan if run.plan else None,
        changes=f"{plan}/changes.csv" if run.plan or applied else None,
        received=_find_received(row, run),
    )


def _find_received(row: asyncpg.Record, run: Known) -> str | None:
    """Where to download what the provider sent, or the district uploaded, if it was kept."""
    if row["upload"] is not None:
        return f"/v1/received/{row['integration']}/{row['upload']}"
    kept = row["keep_received"] and run.kind != "restore" and run.started_at is not None
    return f"/v1/received/{row['integration']}/{row['id']}" if kept else None
