"""What a record was and when, from the states the store keeps (`history`): which fields changed, by what, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
from pydantic import BaseModel, Field

from homeroom.codes import Code
from homeroom.problems import Problem
from homeroom.roster import RECORD_TYPES
from homeroom.rules import list_fields
from roster_store.places import ambiguous
from roster_store.sights import Rosters, Sight
from roster_store.tables import TABLES

MOST_STATES: Final = 500
SECONDS: Final = 20.0

Why = Literal["synced", "edited by hand", "made by hand", "deleted by hand", "erased", "unknown"]


class FieldChange(BaseModel):
    """A field that became another."""

    field: str = Field(description="OneRoster's name of it")
    before: Any = None
    after: Any = None


class RecordState(BaseModel):
    """A record from one change to the next."""

    version: int
    change: Literal["added", "updated", "removed"]
    at: datetime | None = Field(default=None, description="when it became so; null where that is not kept any more")
    why: Why
    run_id: UUID | None = Field(default=None, description="the run that brought it; null for changes by hand")
    by: str | None = Field(default=None, description="who made a change by hand: the subject of their token")
    origin: Literal["synced", "manual"]
    changes: list[FieldChange] = Field(
        description="against the state before; of the oldest one all fields that have values"
    )


class RecordHistory(BaseModel):
    """What is kept about a record, newest first."""

    integration_id: UUID
    collection: str
    sourced_id: str
    states: list[RecordState]
    complete: bool = Field(
        description="whether the oldest state is the first there ever was; older ones are forgotten in time"
    )

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "integration_id": "0193a7a0-5a3e-7000-8000-000000000001",
                    "collection": "users",
                    "sourced_id": "user-17",
                    "states": [
                        {
                            "version": 2,
                            "change": "updated",
                            "at": "2026-01-12T08:00:00Z",
                            "why": "edited by hand",
                            "run_id": None,
                            "by": "admin-console",
                            "origin": "synced",
                            "changes": [{"field": "familyName", "before": "Berg", "after": "Berg-Lund"}],
                        }
                    ],
                    "complete": False,
                }
            ]
        }
    }


async def read_history(rosters: Rosters, sights: Sequence[Sight], collection: str, sourced_id: str) -> RecordHistory:
    """The history of the one record there is with this id. Raises `Problem` NOT_FOUND, INTEGRATION_AMBIGUOUS."""
    table, found = TABLES[collection], []
    for sight in sights:
        async with rosters.look(sight) as connection:
            statement = table.sql("list_record_states")
            rows = await connection.fetch(statement, collection, sourced_id, MOST_STATES, timeout=SECONDS)
        if rows:
            found.append((sight, rows))
    if not found:
        raise Problem(Code.NOT_FOUND, status=404, detail=f"Nothing is known of such a record in {collection}.")
    if len(found) > 1:
        raise ambiguous([sight for sight, _ in found], f"{len(found)} integrations have or had a record with this id.")
    ((sight, rows),) = found
    past = [row["record"] for row in rows[1:]]
    states = [_tell(collection, row["record"], before, row) for row, before in zip(rows, [*past, None], strict=True)]
    return RecordHistory(
        integration_id=sight.integration_id,
        collection=collection,
        sourced_id=sourced_id,
        states=states,
        complete=states[-1].version == 1,
    )


def compare_states(collection: str, before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[FieldChange]:
    """Which fields of a record became others; from nothing, all that have a value."""
    changes = []
    for name, wire in list_fields(RECORD_TYPES[collection]):
        if name == "sourced_id":
            continue
        old, new = None if before is None else before.get(name), after.get(name)
        if old != new and not (before is None and not new and new is not False):
            changes.append(FieldChange(field=wire, before=old, after=new))
    return changes


def explain(record: Mapping[str, Any], kind: str | None) -> Why:
    """Why a record became what it is, from the kind of the step that made it."""
    match kind:
        case "sync":
            return "synced"
        case "manual" if record["change"] == "removed":
            return "deleted by hand"
        case "manual":
            return "made by hand" if record["change"] == "added" else "edited by hand"
        case "erasure":
            return "erased"
    return "unknown"


def _tell(
    collection: str, record: Mapping[str, Any], before: Mapping[str, Any] | None, step: asyncpg.Record
) -> RecordState:
    return RecordState(
        version=record["version"],
        change=record["change"],
        at=step["applied_at"],
        why=explain(record, step["kind"]),
        run_id=step["run_id"],
        by=(step["detail"] or {}).get("by"),
        origin=record["origin"],
        changes=compare_states(collection, before, record),
    )
