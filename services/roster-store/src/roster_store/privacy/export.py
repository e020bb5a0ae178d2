"""Everything that is held about one person, as one JSON document, and where else something may be.

Written as it is read, table by table, from one state of the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from datetime import datetime
from typing import Any, Final

import msgspec
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from homeroom.db import Connection, Database
from homeroom.messages import TOPICS
from roster_store.picture import Picture
from roster_store.plan_changes import changes_name
from roster_store.privacy.holdings import HOLDINGS
from roster_store.privacy.person import Person, state
from roster_store.staging import list_staged
from roster_store.tables import SQL

BATCH: Final = 200
BATCH_SECONDS: Final = 120.0
STREAM_SECONDS: Final = 900.0

_STAGED_BY: Final = {"users": "sourced_id", "demographics": "sourced_id", "enrollments": "user_sourced_id"}
TOPICS_WITH_PEOPLE: Final = frozenset({"roster-changes", "roster-events", "sync-facts", "sign-ins", "erasures"})
_encode = msgspec.json.Encoder().encode

ELSEWHERE: Final = (
    {
        "where": "provider-gateway: files the district uploaded, and answers of its provider where those are kept",
        "what": "whole rosters, sealed as they were received; they can't be searched record by record",
        "kept": "HOMEROOM_UPLOADS_KEEP_DAYS, and of uploads the newest set beyond that; an erasure deletes those of "
        "the integration that are older than itself",
    },
    {
        "where": "sync-scheduler: issues of runs and of held plans",
        "what": "sourcedIds of records that were odd, without names",
        "kept": "HOMEROOM_RUN_LOG_DAYS; an erasure takes them out",
    },
    {
        "where": "sso: people who came in by a portal",
        "what": "their portal's id, their sourcedIds, sessions, connected accounts, and traces of their launches",
        "kept": "400 days after they last came, traces for HOMEROOM_TRACE_DAYS; an erasure takes them out",
    },
    {
        "where": "dead letters: messages no service could take",
        "what": "parts of rosters",
        "kept": "30 days",
    },
    {
        "where": "backups of the database",
        "what": "everything above, as it was when they were made",
        "kept": "as the operator set it; 35 days at most are advised",
    },
    {
        "where": "products that were given the record",
        "what": "what their licenses grant",
        "kept": "as agreed with them; they are told of an erasure as of a removal",
    },
)


class PersonExport(StreamingResponse):
    """The document while it is sent; it holds a connection until it is done."""

    def __init__(self, stack: AsyncExitStack, parts: AsyncGenerator[bytes], name: str) -> None:
        super().__init__(
            parts,
            media_type="application/json",
            headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
        )
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the document, and give the connection back whatever happens."""
        async with self._stack:
            await super().__call__(scope, receive, send)


async def open_export(database: Database, person: Person, at: datetime) -> PersonExport:
    """The document, not read yet."""
    stack = AsyncExitStack()
    try:
        connection = await stack.enter_async_context(database.connection())
        await stack.enter_async_context(connection.transaction(isolation="repeatable_read", readonly=True))
        parts = await stack.enter_async_context(aclosing(_render(connection, person, at)))
        return PersonExport(stack, parts, f"person-{person.key}.json")
    except BaseException:
        await stack.aclose()
        raise


async def _render(connection: Connection, person: Person, at: datetime) -> AsyncGenerator[bytes]:
    deadline = asyncio.get_running_loop().time() + STREAM_SECONDS
    about = {
        "integration_id": str(person.integration_id),
        "organization_id": str(person.organization_id),
        "sourced_id": person.sourced_id,
        "at": at,
    }
    yield b'{"about":' + _encode(about) + b',"held":['
    first = True
    for title, what, statement, arguments in await _list_sources(connection, person):
        head: dict[str, Any] = {"table": title, "what": what}
        begun = False
        cursor = await connection.cursor(statement, *arguments, timeout=BATCH_SECONDS)
        while rows := await cursor.fetch(BATCH, timeout=BATCH_SECONDS):
            start = b"," if begun else (b"" if first else b",") + _encode(head)[:-1] + b',"rows":['
            yield start + b",".join(_encode(row["row"]) for row in rows)
            begun, first = True, False
            if asyncio.get_running_loop().time() > deadline:
                msg = "an export takes too long"
                raise TimeoutError(msg)  # breaks the answer off, which its reader notices
        if begun:
            yield b"]}"
    yield b'],"elsewhere":' + _encode([*ELSEWHERE, *_list_topics()]) + b"}\n"


async def _list_sources(connection: Connection, person: Person) -> list[tuple[str, str, str, tuple[Any, ...]]]:
    """Title, meaning, statement and arguments of everything that is looked through."""
    found: list[tuple[str, str, str, tuple[Any, ...]]] = [
        (holding.table, holding.what, state("list_holding", holding), person.arguments) for holding in HOLDINGS
    ]
    for fetch in await connection.fetch(SQL["list_fetches_with_tables"], person.integration_no):
        staged = frozenset(await list_staged(connection, fetch["no"]))
        picture = Picture(person.integration_no, fetch["no"], first=False, staged=staged)
        for collection, column in _STAGED_BY.items():
            if picture.holds(collection):
                statement = SQL["list_staged_of_person"].format(staging=picture.name(collection), column=column)
                found.append((f"staged {collection}", "what a fetch brought", statement, (person.sourced_id,)))
        if await connection.fetchval(SQL["find_plan_changes"], changes_name(fetch["no"])):
            statement = SQL["list_planned_of_person"].format(changes=changes_name(fetch["no"]))
            found.append(("plan changes", "what a plan would change", statement, (sorted(person.names),)))
    return found


def _list_topics() -> list[dict[str, str]]:
    """How long messages that may hold something of a person are kept."""
    return [
        {
            "where": f"bus: {topic.name}",
            "what": "messages between services, or for products",
            "kept": f"{topic.retention_seconds / 86_400:g} days",
        }
        for topic in TOPICS
        if topic.name in TOPICS_WITH_PEOPLE
    ]
