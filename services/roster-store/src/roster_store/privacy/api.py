"""`/v1/privacy`: what is held of a person, its erasure, and the proof of it."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from homeroom import audit
from homeroom.audit_api import make_router
from homeroom.auth import Caller, require
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.problems import Problem
from homeroom.service import RequestModel
from roster_store.privacy.erasure import erase
from roster_store.privacy.export import PersonExport, open_export
from roster_store.privacy.person import Person, find_person
from roster_store.privacy.search import search
from roster_store.tables import SQL

router = APIRouter(prefix="/v1/privacy", tags=["privacy"])
audit_router = make_router("/v1/privacy", "privacy.write")

Officer = Annotated[Caller, Depends(require("privacy.write"))]
Reason = Literal["asked-by-person", "asked-by-district", "contract-ended", "order", "other"]
SourcedId = Annotated[
    str, Field(min_length=1, max_length=2_000, pattern=r"^[^\x00]+$", examples=["b7c1f6f2-student-1207"])
]
_INTEGRATION = UUID("0190f3a1-7d2e-7c11-9b54-2f6c1e8d0a37")


class PersonBody(RequestModel):
    """One person of one integration."""

    integration_id: UUID = Field(examples=[_INTEGRATION])
    sourced_id: SourcedId


class ErasureBody(PersonBody):
    """Whom to erase, and why."""

    reason: Reason = Field(description="kept with the erasure and in the audit log", examples=["asked-by-person"])
    confirm: bool = Field(default=False, description="must be true: an erasure can't be undone", examples=[True])


class SearchBody(RequestModel):
    """What to look for."""

    texts: list[Annotated[str, Field(min_length=4, max_length=200, pattern=r"^[^\x00]+$")]] = Field(
        min_length=1,
        max_length=20,
        description="names, addresses or ids; found as a part of any value, in any case of letters",
        examples=[["b7c1f6f2-student-1207"]],
    )


class ServiceState(BaseModel):
    """How far an erasure is in one service."""

    service: str = Field(examples=["roster-store"])
    state: Literal["done", "emptied", "told", "to be told"] = Field(
        description="`emptied`: only blank records with the person's ids are left, for products to be told by; `told`: "
        "the service has the message and carries it out"
    )
    at: datetime | None = Field(examples=["2026-11-18T09:30:00Z"])
    what: str = Field(description="what the service does about it")


class Erasure(BaseModel):
    """That a person was erased; who it was is not kept."""

    id: UUID
    integration_id: UUID
    reason: Reason
    by: str
    at: datetime
    held: dict[str, int] = Field(
        description="how many rows of each table were about the person", examples=[{"users": 1, "enrollments": 6}]
    )
    blocked: bool = Field(description="whether they are kept out while the district still sends them")
    services: list[ServiceState]


class Place(BaseModel):
    """Where something was found."""

    schema_name: str = Field(examples=["roster"])
    table: str = Field(examples=["history"])
    column: str = Field(examples=["before"])
    rows: int


class SearchResult(BaseModel):
    """What was looked through, and where something was found."""

    schemas: list[str] = Field(examples=[["bus", "roster", "roster_staging", "scheduler", "sso"]])
    tables: int
    columns: int
    found: list[Place]
    skipped: list[str] = Field(description="tables that were locked or went away meanwhile; search again for these")


@router.post(
    "/exports",
    status_code=200,
    response_class=PersonExport,
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}, "description": "The document"}},
)
async def export_person(request: Request, caller: Officer, body: PersonBody) -> PersonExport:
    """Everything that is held of a person: table by table every row that is about them or names them.

    And where else something may be, with how long it is kept there. A document that can't be finished breaks off
    without the end of its chunked encoding. Each export is written into the audit log.
    """
    database: Database = request.app.state.database

    async def look(connection: Connection) -> tuple[Person, datetime]:
        person = await find_person(connection, caller, body.integration_id, body.sourced_id)
        await audit.note(
            connection,
            by=caller.subject,
            action="person.export",
            organization=person.organization_id,
            subject=f"integration:{person.integration_id}",
            detail={"person": str(person.key)},
        )
        return person, await connection.fetchval(SQL["read_moment"])

    return await open_export(database, *await database.transact(look))


@router.post("/erasures", status_code=202)
async def erase_person(request: Request, caller: Officer, body: ErasureBody) -> Erasure:
    """Erase a person from the roster and everything kept with it, and have all services forget them.

    Done at once here. Products are told as of a removal; the records they are told by are empty and go some time later.
    The person is kept out while the district still sends them, until the block is lifted. Somebody who is kept out
    already is not erased twice: the answer is the earlier erasure.
    """
    if not body.confirm:
        raise Problem(Code.CONFIRMATION_REQUIRED, status=422, detail="An erasure can't be undone.")
    database: Database = request.app.state.database
    erasure = await erase(database, caller, body.integration_id, body.sourced_id, body.reason)
    return await _find(database, caller, erasure)


@router.get("/erasures/{erasure_id}")
async def read_erasure(request: Request, caller: Officer, erasure_id: UUID) -> Erasure:
    """How far an erasure is."""
    return await _find(request.app.state.database, caller, erasure_id)


@router.delete("/erasures/{erasure_id}/block", status_code=204)
async def lift_block(request: Request, caller: Officer, erasure_id: UUID) -> Response:
    """Let the person in again: the next full sync takes them if the district still has them."""
    database: Database = request.app.state.database
    await _find(database, caller, erasure_id)
    await database.transact(partial(_lift, caller=caller, erasure_id=erasure_id))
    return Response(status_code=204)


@router.post("/searches")
async def search_everything(request: Request, caller: Officer, body: SearchBody) -> SearchResult:
    """Look for texts in every column of every table of this database, over all services: the proof of an erasure.

    For tokens that are bound to no organization, as it looks into all. What was looked for is kept nowhere.
    """
    if caller.organization_id is not None:
        detail = "A search looks into every organization; it takes a token that is bound to none."
        raise Problem(Code.SCOPE_MISSING, status=403, detail=detail)
    database: Database = request.app.state.database
    result = await search(database, body.texts)

    async def note(connection: Connection) -> None:
        detail = {"texts": len(body.texts), "found": len(result.found)}
        await audit.note(
            connection, by=caller.subject, action="data.search", organization=None, subject="data:all", detail=detail
        )

    await database.transact(note)
    return SearchResult(
        schemas=result.schemas,
        tables=result.tables,
        columns=result.columns,
        found=[
            Place(schema_name=one.schema, table=one.table, column=one.column, rows=one.rows) for one in result.found
        ],
        skipped=result.skipped,
    )


async def _lift(connection: Connection, caller: Caller, erasure_id: UUID) -> None:
    organization = await connection.fetchval(SQL["lift_block"], erasure_id, None)
    if organization is not None:
        await audit.note(
            connection,
            by=caller.subject,
            action="person.unblock",
            organization=organization,
            subject=f"erasure:{erasure_id}",
        )


async def _find(database: Database, caller: Caller, erasure_id: UUID) -> Erasure:
    row = await database.fetchrow(SQL["find_erasure"], erasure_id, None)
    if row is None or not caller.may_see(row["organization_id"]):
        raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no erasure {erasure_id}.")
    told: Literal["told", "to be told"] = "told" if row["told_at"] else "to be told"
    same = {name: row[name] for name in ("id", "integration_id", "reason", "by", "at")}
    return Erasure(
        **same,
        held=row["counts"],
        blocked=row["blocked_since"] is not None,
        services=[
            ServiceState(
                service="roster-store",
                state="done" if row["cleared_at"] else "emptied",
                at=row["cleared_at"] or row["at"],
                what="Empties the records, deletes what else is about the person, tells products, and deletes the "
                "empty records HOMEROOM_ERASED_DAYS later.",
            ),
            ServiceState(
                service="sync-scheduler",
                state=told,
                at=row["told_at"],
                what="Takes the person's ids out of the issues of runs and of held plans.",
            ),
            ServiceState(
                service="provider-gateway",
                state=told,
                at=row["told_at"],
                what="Deletes the integration's files and received answers from before the erasure.",
            ),
            ServiceState(
                service="sso",
                state=told,
                at=row["told_at"],
                what="Ends their sessions, and forgets what portals and products call them, and who came in when.",
            ),
        ],
    )
