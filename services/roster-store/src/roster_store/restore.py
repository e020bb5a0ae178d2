"""Undo: the roster of an integration as it was before a run, as a picture of its own (issue 5, item 8).

What the run and all later ones wrote is looked up in the history, and the difference to what is there now is staged
like a fetch: old values as records, whatever was not there before as removals. From there on it is a fetch like any
other, with plan, references, guard, holds, counts and events. Only schools are not judged: what they were before was
taken as whole then. Records made by hand stay, and a record that is as it was is not touched.

An undo can be undone, since it is an apply with a history too. It hands over no bookmark: the next run compares
everything, and would bring back what was undone; so whoever asks for an undo pauses the integration first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import msgspec

from homeroom.clock import Clock, SystemClock
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.messages import CollectionReport, Fact, Failed, FetchCompleted, FetchStarted, Restore
from roster_store.completion import Delays, complete_fetch
from roster_store.picture import forbid_nested_loops
from roster_store.staging import REMOVALS, end_fetch, list_staged, staging_name, start_fetch
from roster_store.tables import SQL, TABLES, Table

RESTORED = "restored"
"""The reason of an undo's removals."""
RESTORE_SECONDS = 3600.0

_NEVER_APPLIED = "That run was never applied to this integration, so there is no moment to go back to."
_TOO_OLD = "What records were before that run is not kept any more; choose a later run."


@dataclass(frozen=True, slots=True)
class _Staged:
    """What an undo comes to: records staged by collection, and the collections something goes from."""

    records: dict[str, int]
    removals: dict[str, int]


async def restore_before(
    database: Database, command: Restore, clock: Clock | None = None, delays: Delays | None = None
) -> Sequence[Fact]:
    """Bring the roster back to what it was before `command.before_run_id`; the facts to publish.

    `Failed` with `RESTORE_IMPOSSIBLE` where that can't be done; none where a newer run has begun. Done twice, it
    answers the same.
    """
    clock = clock or SystemClock()
    staged = await database.transact(partial(_stage, command=command, clock=clock))
    return await complete_fetch(database, _describe(command, staged), clock, delays)


async def _stage(connection: Connection, command: Restore, clock: Clock) -> _Staged:
    """Stage the undo, anew if that was done before; a fetch that has ended already is left alone."""
    fetch_id = _fetch_id(command)
    integration_no, basis = await _begin(connection, command)
    fetch = await connection.fetchrow(SQL["lock_fetch"], fetch_id)
    staged = _Staged({}, {})
    if fetch is None or fetch["state"] != "staging":
        return staged
    for name in await list_staged(connection, fetch["no"]):
        await connection.execute(SQL["drop_staging"].format(staging=staging_name(fetch["no"], name)))
    first, refusal = await _find_first(connection, integration_no, command.before_run_id)
    if refusal is not None:
        fact = Failed(
            run_id=command.run_id,
            attempt=command.attempt,
            integration_id=command.integration_id,
            at=clock.now(),
            code=Code.RESTORE_IMPOSSIBLE,
            detail=refusal,
        )
        await end_fetch(connection, fetch["no"], "refused", msgspec.json.encode(fact))
        return staged
    await connection.execute(SQL["move_basis"], fetch["no"], basis)
    if first is not None:
        await forbid_nested_loops(connection)
        for table in TABLES.values():
            await _stage_table(connection, table, (fetch["no"], integration_no, first), staged)
    # Counted like a fetch's chunks: if a crash of Postgres empties what is staged, this goes with it, and is missed.
    await connection.execute(SQL["stage_chunks"], fetch["no"], [0])
    return staged


async def _begin(connection: Connection, command: Restore) -> tuple[int, int]:
    """Note the undo as a fetch, which overtakes older ones; the integration's number and its newest apply."""
    await start_fetch(
        connection,
        FetchStarted(
            run_id=command.run_id,
            run_number=command.run_number,
            attempt=command.attempt,
            fetch_id=_fetch_id(command),
            integration_id=command.integration_id,
            organization_id=command.organization_id,
            basis=0,
            terms=msgspec.structs.replace(command.terms, purpose="restore"),
        ),
    )
    integration = await connection.fetchrow(SQL["lock_integration"], command.integration_id)
    assert integration is not None  # noqa: S101 - start_fetch inserts what is not there
    return integration["no"], integration["last_apply"]


async def _find_first(connection: Connection, integration_no: int, before_run_id: str) -> tuple[int | None, str | None]:
    """The first apply to be undone, None where nothing was applied since; or why it can't be done."""
    try:
        run_id = UUID(before_run_id)
    except ValueError:
        return None, _NEVER_APPLIED
    first: int | None = await connection.fetchval(SQL["find_undone"], integration_no, run_id)
    if first is None:
        known = await connection.fetchval(SQL["was_applied"], integration_no, run_id)
        return None, None if known else _NEVER_APPLIED
    horizon: int | None = await connection.fetchval(SQL["find_horizon"], integration_no)
    return first, _TOO_OLD if horizon is not None and horizon >= first else None


async def _stage_table(connection: Connection, table: Table, numbers: tuple[int, int, int], staged: _Staged) -> None:
    """Stage one collection; `numbers` are those of fetch, integration and first apply to be undone."""
    fetch_no, *where = numbers
    staging, removals = staging_name(fetch_no, table.name), staging_name(fetch_no, REMOVALS)
    await connection.execute(SQL["create_staging"].format(staging=staging, fields=f"{table.name}_fields"))
    await connection.execute(SQL["create_staging"].format(staging=removals, fields=f"{REMOVALS}_fields"))
    for statement, into, found in (
        (table.sql("stage_restored", staging=staging, columns=table.column_list), staged.records, staging),
        (table.sql("stage_undone", staging=removals), staged.removals, removals),
    ):
        status = await connection.execute(statement, *where, table.collection, timeout=RESTORE_SECONDS)
        if count := int(status.rsplit(" ", 1)[1]):
            into[table.collection] = count
        elif found == staging:
            await connection.execute(SQL["drop_staging"].format(staging=staging))


def _describe(command: Restore, staged: _Staged) -> FetchCompleted:
    """The undo as a fetch that is complete; it looked at changes only, so nothing it does not name is missed."""
    collections = {
        collection: CollectionReport(
            whole=False,
            served=staged.records.get(collection, 0),
            added=staged.records.get(collection, 0),
            removed=staged.removals.get(collection, 0),
        )
        for collection in TABLES
        if collection in staged.records or collection in staged.removals
    }
    return FetchCompleted(
        run_id=command.run_id,
        run_number=command.run_number,
        attempt=command.attempt,
        fetch_id=_fetch_id(command),
        integration_id=command.integration_id,
        chunks=1,
        collections=collections,
    )


def _fetch_id(command: Restore) -> str:
    return f"restore-{command.run_id}-{command.attempt}"
