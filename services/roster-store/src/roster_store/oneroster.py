"""The roster as a standard OneRoster 1.1 provider (F1): top-level collections and singles.

Wrappers are named by what they hold, so `/students` answers `{"users": [...]}`. `dateLastModified` is when Homeroom
last changed the record. With a token of one organization all of that organization is served; a platform token sees
everything and may narrow by `integration`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from homeroom.auth import Caller, require
from homeroom.db import Database
from homeroom.ids import new_id
from homeroom.roster import ENTITY_NAMES
from roster_store.oneroster_shapes import SHAPES
from roster_store.tables import TABLES, Table

BASE = "/ims/oneroster/v1p1"
MAX_LIMIT = 10_000
DEFAULT_LIMIT = 100
READ_SECONDS = 30.0

router = APIRouter(prefix=BASE, tags=["OneRoster 1.1"])

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Face:
    """A path of OneRoster: which collection it shows and what part of it."""

    collection: str
    narrowing: str = ""

    @property
    def table(self) -> Table:
        """The table behind it."""
        return TABLES[self.collection]


FACES: Mapping[str, Face] = {
    "orgs": Face("orgs"),
    "schools": Face("orgs", "AND held.type = 'school'"),
    "academicSessions": Face("academicSessions"),
    "terms": Face("academicSessions", "AND held.type = 'term'"),
    "gradingPeriods": Face("academicSessions", "AND held.type = 'gradingPeriod'"),
    "courses": Face("courses"),
    "classes": Face("classes"),
    "users": Face("users"),
    "students": Face("users", """AND held.roles @> '[{"role": "student"}]'"""),
    "teachers": Face("users", """AND held.roles @> '[{"role": "teacher"}]'"""),
    "enrollments": Face("enrollments"),
    "demographics": Face("demographics"),
}

FacePath = Annotated[str, Path(pattern=f"^({'|'.join(FACES)})$")]


def _columns(table: Table) -> str:
    return ", ".join(f'held."{column}"' for column in table.columns)


def _shape(table: Table, row: asyncpg.Record, base: str) -> dict[str, Any]:
    modified: datetime = row["applied_at"]
    return SHAPES[table.collection](table.record(row), modified, base)


def _failure(status: int, minor: str, description: str) -> Response:
    """OneRoster's own error body; clients of the standard know no other."""
    body = {
        "imsx_codeMajor": "failure",
        "imsx_severity": "error",
        "imsx_messageRefIdentifier": new_id().hex,
        "imsx_description": description,
        "imsx_CodeMinor": {
            "imsx_codeMinorField": [{"imsx_codeMinorFieldName": "TargetEndSystem", "imsx_codeMinorFieldValue": minor}]
        },
    }
    return Response(_encode(body), status_code=status, media_type="application/json")


@router.get("/{face}")
async def list_records(
    request: Request,
    face: FacePath,
    caller: Annotated[Caller, Depends(require("roster.read"))],
    integration: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    offset: Annotated[int, Query(ge=0)] = 0,
    filter: Annotated[str | None, Query(description="not offered yet")] = None,  # noqa: A002 - OneRoster's name
) -> Response:
    """A page of a collection, ordered by sourcedId, with `X-Total-Count` and `Link`."""
    if filter is not None:
        return _failure(400, "invalid_filter_field", "Filters are not offered yet; read the whole collection.")
    shown = FACES[face]
    table = shown.table
    database: Database = request.app.state.database
    who = (caller.organization_id, integration)
    async with database.connection() as connection:
        total = await connection.fetchval(
            table.sql("count_records", narrowing=shown.narrowing), *who, timeout=READ_SECONDS
        )
        rows = await connection.fetch(
            table.sql("list_records", narrowing=shown.narrowing, columns=_columns(table)),
            *who,
            limit,
            offset,
            timeout=READ_SECONDS,
        )
    base = f"{request.app.state.settings.issuer}{BASE}"
    body = {table.collection: [_shape(table, row, base) for row in rows]}
    narrowed = f"&integration={integration}" if integration else ""
    headers = {"X-Total-Count": str(total), "Link": _links(f"{base}/{face}", narrowed, limit, offset, total)}
    return Response(_encode(body), media_type="application/json", headers=headers)


def _links(url: str, narrowed: str, limit: int, offset: int, total: int) -> str:
    last = max(0, (total - 1) // limit * limit)
    places = {"first": 0, "last": last}
    if offset + limit < total:
        places["next"] = offset + limit
    if offset > 0:
        places["prev"] = max(0, offset - limit)
    return ", ".join(f'<{url}?limit={limit}&offset={place}{narrowed}>; rel="{rel}"' for rel, place in places.items())


@router.get("/{face}/{sourced_id}")
async def get_record(
    request: Request,
    face: FacePath,
    sourced_id: str,
    caller: Annotated[Caller, Depends(require("roster.read"))],
    integration: UUID | None = None,
) -> Response:
    """One record by its sourcedId."""
    shown = FACES[face]
    table = shown.table
    database: Database = request.app.state.database
    row = await database.fetchrow(
        table.sql("find_record", narrowing=shown.narrowing, columns=_columns(table)),
        caller.organization_id,
        integration,
        sourced_id,
    )
    if row is None:
        return _failure(404, "unknownobject", "There is no such record.")
    base = f"{request.app.state.settings.issuer}{BASE}"
    return Response(_encode({ENTITY_NAMES[table.collection]: _shape(table, row, base)}), media_type="application/json")
