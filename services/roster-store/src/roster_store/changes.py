"""The consumer of `roster-changes`: each message to what handles it, in the order of its partition."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby

import msgspec

from homeroom.bus import Bus, Message, Reject
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.faultpoints import faultpoint
from homeroom.messages import (
    Chunk,
    FetchAbandoned,
    FetchCompleted,
    FetchStarted,
    Held,
    RosterChange,
    read_change,
    to_facts,
)
from homeroom.telemetry import inject_headers, span_from
from roster_store.completion import Delays, complete_fetch
from roster_store.staging import StagedRows, abandon_fetch, read_chunk, stage_chunks, start_fetch

GROUP = "roster-store"
MAX_BATCH = 40
"""Messages taken at once: 40 chunks of 500 records make COPYs of 20,000 rows."""


class ChangeConsumer:
    """The handler of `roster-changes`; everything it does may be done twice."""

    def __init__(self, database: Database, bus: Bus, delays: Delays | None = None) -> None:
        self._database = database
        self._bus = bus
        self._delays = delays or Delays()

    async def handle(self, messages: Sequence[Message]) -> None:
        """Take a batch of one partition; neighbouring chunks of a fetch are staged in one transaction."""
        changes = [_read(message) for message in messages]
        for fetch_id, group in groupby(changes, key=lambda change: change[0]):
            if fetch_id is not None:
                chunks = [part for _, _, part in group if isinstance(part, StagedRows)]
                await self._database.transact(partial(stage_chunks, fetch_id=fetch_id, chunks=chunks))
                faultpoint("store.chunks-staged")
                continue
            for _, message, change in group:
                with span_from(message, f"handle {type(change).__name__}"):
                    await self._handle(change)

    async def _handle(self, change: RosterChange | StagedRows) -> None:
        if isinstance(change, FetchStarted):
            await self._database.transact(partial(start_fetch, started=change))
            faultpoint("store.fetch-started")
        elif isinstance(change, FetchAbandoned):
            await self._database.transact(partial(abandon_fetch, abandoned=change))
        elif isinstance(change, FetchCompleted):
            await self._complete(change)

    async def _complete(self, completed: FetchCompleted) -> None:
        if not (facts := await complete_fetch(self._database, completed, delays=self._delays)):
            return
        faultpoint("store.held" if isinstance(facts[-1], Held) else "store.applied")
        await self._bus.publish(*(replace(to_facts(fact), headers=inject_headers()) for fact in facts))
        faultpoint("store.fact-published")


def _read(message: Message) -> tuple[str | None, Message, RosterChange | StagedRows]:
    """The change a message holds; with the fetch's id, and as rows, if it is a chunk."""
    change = read_change(message)
    if not isinstance(change, Chunk):
        return None, message, change
    try:
        return change.fetch_id, message, read_chunk(change)
    except (msgspec.DecodeError, struct.error, ValueError, KeyError) as error:
        raise Reject(message, Code.MESSAGE_UNREADABLE) from error
