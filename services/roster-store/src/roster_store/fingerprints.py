"""What the store holds, for the gateway to compare with: a key and a fingerprint a record, streamed.

The stream is Postgres's own binary COPY format of (uuid, int8), untouched: 34 bytes a record, parsed by the reader
without a loop. `X-Homeroom-Apply` names the apply it shows, which is the fetch's basis.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from homeroom.auth import Caller, require
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.problems import Problem
from homeroom.service import RequestModel
from roster_store.tables import SQL, TABLES, Table


async def _check_gateway(caller: Annotated[Caller, Depends(require("fingerprints.read"))]) -> None:
    """Fingerprints are of every organization, so whoever is bound to one gets none, whatever its token says."""
    if caller.organization_id is not None:
        detail = "Fingerprints are read with a token that is not bound to an organization."
        raise Problem(Code.SCOPE_MISSING, status=403, detail=detail)


router = APIRouter(tags=["fingerprints"], dependencies=[Depends(_check_gateway)])

STREAM_SECONDS = 600.0
_QUEUED_PARTS = 8


def find_table(collection: str) -> Table:
    """The table of a collection, or 404."""
    if (table := TABLES.get(collection)) is None:
        raise Problem(Code.NOT_FOUND, status=404, detail="There is no such collection.")
    return table


@router.get("/v1/fingerprints/{integration_id}/{collection}", response_class=StreamingResponse)
async def read_fingerprints(request: Request, integration_id: UUID, collection: str) -> StreamingResponse:
    """Stream key and fingerprint of every active synced record of a collection, as binary COPY."""
    table = find_table(collection)
    database: Database = request.app.state.database
    stack = AsyncExitStack()
    try:
        connection = await stack.enter_async_context(database.connection())
        await stack.enter_async_context(connection.transaction(isolation="repeatable_read", readonly=True))
        basis = await connection.fetchval(SQL["last_apply"], integration_id) or 0
    except BaseException:
        await stack.aclose()
        raise
    return StreamingResponse(
        _stream(stack, connection, table, integration_id),
        media_type="application/octet-stream",
        headers={"X-Homeroom-Apply": str(basis)},
    )


async def _stream(
    stack: AsyncExitStack, connection: Connection, table: Table, integration_id: UUID
) -> AsyncIterator[bytes]:
    parts: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUED_PARTS)

    async def copy() -> None:
        try:
            await connection.copy_from_query(
                table.sql("fingerprints"), integration_id, output=parts.put, format="binary", timeout=STREAM_SECONDS
            )
        finally:
            await parts.put(None)

    async with stack:
        copying = asyncio.create_task(copy())
        try:
            while (part := await parts.get()) is not None:
                yield bytes(part)  # asyncpg hands over its own bytearray
            await copying  # a failure ends the stream without its trailer, which the reader notices
        finally:
            copying.cancel()
            await asyncio.gather(copying, return_exceptions=True)


class Keys(RequestModel):
    """Keys of records, 32 hex digits each."""

    keys: list[Annotated[str, Field(pattern="^[0-9a-f]{32}$")]] = Field(max_length=500)


class SourcedIds(RequestModel):
    """The sourcedIds of the keys that are known."""

    ids: dict[str, str]


@router.post("/v1/fingerprints/{integration_id}/{collection}/ids")
async def find_ids(request: Request, integration_id: UUID, collection: str, body: Keys) -> SourcedIds:
    """The sourcedIds behind some keys, so that the gateway can ask the provider for those records."""
    database: Database = request.app.state.database
    rows = await database.fetch(find_table(collection).sql("ids"), integration_id, [UUID(key) for key in body.keys])
    return SourcedIds(ids={row["key"].hex: row["sourced_id"] for row in rows})


class ClassQuestion(RequestModel):
    """A class, and users who may be held."""

    class_sourced_id: str = Field(min_length=1, max_length=1_000, pattern=r"^[^\x00]+$")
    user_sourced_ids: list[str] = Field(max_length=10_000)


class ClassMembers(RequestModel):
    """What is held of a class: collection → sourcedId → fingerprint, as text since JSON's numbers are too short."""

    basis: int
    held: dict[str, dict[str, str]]


@router.post("/v1/fingerprints/{integration_id}/class-members")
async def read_class_members(request: Request, integration_id: UUID, body: ClassQuestion) -> ClassMembers:
    """The class itself, all its enrollments, and those of the users that are held; for a refresh of one class (C2)."""
    database: Database = request.app.state.database
    users = [one for one in body.user_sourced_ids if "\0" not in one]  # a provider may say so, and nothing such is held
    async with (
        database.connection() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        basis = await connection.fetchval(SQL["last_apply"], integration_id) or 0
        found = {
            "classes": await connection.fetch(SQL["held_class"], integration_id, body.class_sourced_id),
            "users": await connection.fetch(SQL["held_users"], integration_id, users),
            "enrollments": await connection.fetch(SQL["held_enrollments"], integration_id, body.class_sourced_id),
        }
    held = {name: {row["sourced_id"]: str(row["fingerprint"]) for row in rows} for name, rows in found.items()}
    return ClassMembers(basis=basis, held=held)
