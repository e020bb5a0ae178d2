"""The steps of the feed that a reader is told of, and how much of them is read at once.

What a reader sees of a step comes with the step, read in the same statement: a product's license may end, or begin
anew with other terms, between any two steps. How steps are cut into stretches is decided without the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.events import RECORD_EVENTS, SYNC_APPLIED
from homeroom.grants import FieldGroup
from homeroom.problems import Problem
from roster_store.belongings import SEGMENT as BELONGING
from roster_store.cursors import Cursor
from roster_store.sights import EVERYTHING, Sight
from roster_store.tables import SQL, TABLES

STEPS_AT_ONCE: Final = 200
MOST_PLACES: Final = 50_000
"""Places of a step looked at in one go: of them a product for one school may see none."""
WOKEN_AT_ONCE: Final = 50
"""Classes started and people who came in that are told in one go."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Who reads the feed, and what they want of it."""

    product_id: UUID | None = None
    """The product whose feed it is; None for the platform and organizations, who see every record."""
    organization_id: UUID | None = None
    integration_id: UUID | None = None
    types: frozenset[str] | None = None
    """The only event types; None for all."""
    schools: frozenset[str] | None = None
    """sourcedIds of the only schools; None for all that are seen."""
    demographics: bool = True
    """Whether demographics may be told, where they are granted."""

    def wants(self, kind: str) -> bool:
        """Whether events of a type are wanted."""
        return self.types is None or kind in self.types

    @property
    def hidden(self) -> frozenset[FieldGroup]:
        """Groups of fields that are left out whatever is granted."""
        return frozenset() if self.demographics else frozenset({"demographics"})


@dataclass(frozen=True, slots=True)
class Step:
    """One step, and what the reader sees of its integration."""

    no: int
    kind: str
    at: datetime
    integration_id: UUID
    organization_id: UUID
    run_id: UUID | None
    segments: Sequence[tuple[str, int, int]]
    counts: dict[str, dict[str, int]]
    detail: dict[str, Any]
    sight: Sight | None
    """None where the license is out of force."""
    undecided: bool = False
    """Whether it is being found out what the product may see now: what follows has to wait."""

    @property
    def changes_records(self) -> bool:
        """Whether it is a step of everybody's feed, whose changes have places."""
        return self.kind in ("sync", "manual", "erasure", "schools")

    @property
    def last(self) -> int:
        """The last place in it."""
        return max((last for _, _, last in self.segments), default=0)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a step: places of one collection."""

    step: Step
    collection: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is read at once: spans in feed order, and the steps of which nothing is left after it."""

    spans: Sequence[Span]
    ended: Sequence[Step]
    end: Cursor
    """Where a reader stands who has read all of it."""


async def list_steps(database: Database, cursor: Cursor, scope: Scope) -> list[Step]:
    """The next steps of which a reader may still be told something, `STEPS_AT_ONCE` at most, in their order."""
    first = cursor.apply_no + cursor.step_done
    if scope.product_id is not None:
        statement, narrowing = "list_product_steps", (scope.organization_id, scope.integration_id, scope.product_id)
    elif scope.organization_id is not None or scope.integration_id is not None:
        statement, narrowing = "list_applies_of", (scope.organization_id, scope.integration_id)  # type: ignore[assignment]  # one value less
    else:
        statement, narrowing = "list_applies", ()  # type: ignore[assignment]  # two values less
    rows = await database.fetch(SQL[statement], first, STEPS_AT_ONCE, *narrowing)
    return [_read_step(row, scope) for row in rows]


def _read_step(row: asyncpg.Record, scope: Scope) -> Step:
    licensed = scope.product_id is not None
    return Step(
        no=row["no"],
        kind=row["kind"],
        at=row["applied_at"],
        integration_id=row["integration_id"],
        organization_id=row["organization_id"],
        run_id=row["run_id"],
        segments=row["segments"],
        counts=row["counts"],
        detail=row["detail"] or {},
        sight=_read_sight(row, scope),
        undecided=licensed and row["live"] and bool(row["undecided"]),
    )


def _read_sight(row: asyncpg.Record, scope: Scope) -> Sight | None:
    where = (row["integration_no"], row["integration_id"], row["organization_id"])
    wanted = None if scope.schools is None else tuple(sorted(scope.schools))
    if scope.product_id is None:
        return Sight(*where, schools=wanted, grants=EVERYTHING - scope.hidden)
    if not row["live"]:
        return None
    schools = wanted
    if row["schools"] is not None:
        schools = tuple(sorted(set(row["schools"]) if scope.schools is None else scope.schools & set(row["schools"])))
    grants = EVERYTHING.intersection(row["grants"]) - scope.hidden
    return Sight(*where, scope.product_id, schools, grants, row["teacher_started"])


async def begin_reading(database: Database, cursor: Cursor, scope: Scope) -> Cursor:
    """The cursor to read on from, for a reader who begins with nothing with the moment at which it does.

    Raises `Problem` CURSOR_EXPIRED where removals after the cursor are not kept any more.
    """
    if cursor.apply_no == 0:
        newest = await database.fetchval(SQL["find_newest_step"])
        return Cursor(since=newest or 0)
    passed = max(cursor.passed, cursor.since)
    narrowing = (scope.organization_id, scope.integration_id)
    if scope.product_id is None:
        expired = await database.fetchval(SQL["is_past_horizon"], passed, *narrowing)
    else:
        expired = await database.fetchval(SQL["is_past_product_horizon"], passed, *narrowing, scope.product_id)
    if expired:
        raise Problem(
            Code.CURSOR_EXPIRED,
            status=410,
            detail="Removals after this cursor are not kept any more; begin without one.",
        )
    return cursor


# ── cutting, without the database ─────────────────────────────────────────────────────────────────────────────────


def cut_stretch(steps: Sequence[Step], cursor: Cursor, room: int, scope: Scope) -> Stretch:
    """As much of the next steps that change records as has room, but at least one span.

    Ends before the first step of another kind. A span that has no room alone is a stretch of its own.
    """
    spans: list[Span] = []
    ended: list[Step] = []
    end, places = cursor, 0
    for step in steps:
        if not step.changes_records or step.undecided:
            break
        done = cursor.change_no if step.no == cursor.apply_no else 0
        for span in _list_spans(step, done, scope):
            size = span.last - span.first + 1
            if spans and places + size > room:
                return Stretch(spans, ended, end)
            cut = min(span.last, span.first + MOST_PLACES - 1)
            spans.append(Span(step, span.collection, span.first, cut))
            places += size
            end = Cursor(step.no, cut)
            if size > room:
                return Stretch(spans, ended, end)
        ended.append(step)
        end = Cursor(step.no)
    return Stretch(spans, ended, end)


def _list_spans(step: Step, done: int, scope: Scope) -> list[Span]:
    """What of a step is still to be read, in feed order."""
    if step.sight is None:
        return []
    limited = step.sight.schools is not None
    return [
        Span(step, collection, max(first, done + 1), last)
        for collection, first, last in step.segments
        if last > done and (limited if collection == BELONGING else wants_collection(collection, scope, step.sight))
    ]


def wants_collection(collection: str, scope: Scope, sight: Sight) -> bool:
    """Whether a reader may see a collection, and wants events of its records."""
    if collection == "demographics" and "demographics" not in sight.grants:
        return False
    return scope.types is None or any(RECORD_EVENTS.get(kind) == collection for kind in scope.types)


def cut_woken(steps: Sequence[Step]) -> list[Step]:
    """The classes started and people who came in at the head of the steps, of one integration and seen alike."""
    woken: list[Step] = []
    for step in steps[:WOKEN_AT_ONCE]:
        if step.kind not in ("class-started", "signed-in") or step.undecided or step.sight != steps[0].sight:
            break
        woken.append(step)
    return woken


def tells_end(step: Step, cursor: Cursor, scope: Scope) -> bool:
    """Whether a reader is told that a sync was applied: once, after everything it changed."""
    done = cursor.change_no if step.no == cursor.apply_no else 0
    return step.kind == "sync" and step.sight is not None and done <= step.last and scope.wants(SYNC_APPLIED)


def list_told_counts(step: Step) -> dict[str, dict[str, int]]:
    """How many records a sync changed, of collections that the reader sees as a whole."""
    if step.sight is None or not step.sight.whole:
        return {}
    shown = set(TABLES) if "demographics" in step.sight.grants else set(TABLES) - {"demographics"}
    return {collection: count for collection, count in step.counts.items() if collection in shown}
