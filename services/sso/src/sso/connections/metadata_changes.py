"""Metadata that says something else than was accepted: held until somebody approves it, never applied by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec

from homeroom import audit
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.problems import Problem
from sso.connections.registry import no_connection
from sso.connections.trust import Difference, Trust, compare
from sso.connections.upstreams import Kind, SamlConfig, decode_config
from sso.statements import SQL


@dataclass(frozen=True, slots=True)
class Change:
    """A change that waits, as it is looked at."""

    hash: str
    found_at: datetime
    found: Trust
    differences: list[Difference]


class MetadataChanges:
    """The use cases of changes that wait. `visible` is the one organization a caller may see, None for all."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, connection_id: UUID, visible: UUID | None) -> Change:
        """The change that waits. Problem NOT_FOUND."""
        return await self._database.transact(lambda connection: _find(connection, connection_id, visible))

    async def approve(self, connection_id: UUID, known: str, visible: UUID | None, *, by: str) -> None:
        """Trust what was found from now on. Problems NOT_FOUND, METADATA_CHANGE_GONE."""

        async def accept(connection: Connection) -> None:
            upstream_id, config = await _lock(connection, connection_id, visible)
            change = await _match(connection, connection_id, visible, known)
            changed = change.found.put_into(config)
            await connection.execute(SQL["accept_trust"], upstream_id, msgspec.to_builtins(changed), change.found.ends)
            await connection.execute(SQL["drop_metadata_change"], upstream_id)
            await _note(connection, by, "approve", connection_id, change)

        await self._database.transact(accept)

    async def discard(self, connection_id: UUID, known: str, visible: UUID | None, *, by: str) -> None:
        """Keep what was accepted, and be told again when metadata changes once more. Problems as `approve`."""

        async def drop(connection: Connection) -> None:
            upstream_id, _ = await _lock(connection, connection_id, visible)
            change = await _match(connection, connection_id, visible, known)
            await connection.execute(SQL["discard_metadata_change"], upstream_id)
            await _note(connection, by, "discard", connection_id, change)

        await self._database.transact(drop)


async def hold(connection: Connection, upstream_id: UUID, kind: Kind, found: Trust) -> bool:
    """Note what metadata says now, if it is something else than was accepted; whether that is news."""
    row = await connection.fetchrow(SQL["lock_upstream"], upstream_id)
    if row is None:
        return False
    config = decode_config(kind, row["config"])
    if not isinstance(config, SamlConfig) or Trust.of(config).hash == found.hash:
        await connection.execute(SQL["drop_metadata_change"], upstream_id)
        return False
    held = await connection.fetchval(SQL["hold_metadata_change"], upstream_id, found.hash, msgspec.to_builtins(found))
    return held is not None


async def _lock(connection: Connection, connection_id: UUID, visible: UUID | None) -> tuple[UUID, SamlConfig]:
    locked = await connection.fetchrow(SQL["lock_connection"], connection_id, visible)
    if locked is None:
        raise no_connection(connection_id)
    row = await connection.fetchrow(SQL["lock_upstream"], locked["upstream_id"])
    config = None if row is None else decode_config(row["kind"], row["config"])
    if not isinstance(config, SamlConfig):
        raise _nothing_waits()
    return locked["upstream_id"], config


async def _find(connection: Connection, connection_id: UUID, visible: UUID | None) -> Change:
    shown = await connection.fetchrow(SQL["show_connection"], connection_id, visible)
    if shown is None:
        raise no_connection(connection_id)
    row = await connection.fetchrow(SQL["find_metadata_change"], shown["upstream_id"])
    config = decode_config(shown["kind"], shown["config"])
    if row is None or not isinstance(config, SamlConfig):
        raise _nothing_waits()
    found = msgspec.convert(row["found"], Trust)
    return Change(row["hash"], row["found_at"], found, compare(Trust.of(config), found))


async def _match(connection: Connection, connection_id: UUID, visible: UUID | None, known: str) -> Change:
    change = await _find(connection, connection_id, visible)
    if change.hash != known:
        raise Problem(Code.METADATA_CHANGE_GONE, status=409, detail="Another change waits than the one with this hash.")
    return change


async def _note(connection: Connection, by: str, verb: str, connection_id: UUID, change: Change) -> None:
    row = await connection.fetchrow(SQL["show_connection"], connection_id, None)
    await audit.note(
        connection,
        by=by,
        action=f"metadata-change.{verb}",
        organization=None if row is None else row["organization_id"],
        subject=f"connection:{connection_id}",
        detail={"hash": change.hash, "fields": sorted({one.field for one in change.differences})},
    )


def _nothing_waits() -> Problem:
    return Problem(Code.NOT_FOUND, status=404, detail="No change of metadata waits.")
