"""Canvases that are kept in step: who may see and change them, with their tokens sealed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from homeroom import audit
from homeroom.auth import Caller
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.problems import Problem
from homeroom.secrets import SealingKeys, seal
from roster_store.canvas.client import Place
from roster_store.canvas.options import CanvasOptions
from roster_store.sights import Sight, list_product_sights, list_sights
from roster_store.tables import SQL

MOST_TARGETS = 50
"""Of an organization, or of a product there."""
TEST_SECONDS = 20.0
_LOOK_SECONDS = 0.25
CONFIRMABLE = (Code.CANVAS_HELD, Code.CANVAS_REMASTER)
"""Holds that only somebody who confirms them ends."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a target is to be."""

    base_url: str
    account_id: str
    options: CanvasOptions
    mode: str
    change_threshold: int
    automatic: bool
    token: str | None = None
    """None keeps the one there is."""


async def add_target(database: Database, keys: SealingKeys, caller: Caller, sight: Sight, wanted: Wanted) -> UUID:
    """Keep a new target; its id. Raises `Problem` REQUEST_INVALID where there are too many."""
    target = new_id()

    async def insert(connection: Connection) -> None:
        count = await connection.fetchval(SQL["count_canvas_targets"], sight.product_id, sight.organization_id)
        if count >= MOST_TARGETS:
            raise Problem(Code.REQUEST_INVALID, status=422, detail=f"There are {MOST_TARGETS} targets already.")
        await connection.execute(
            SQL["insert_canvas_target"], target, sight.product_id, sight.organization_id, sight.integration_no,
            sight.integration_id, wanted.base_url, wanted.account_id, _seal(keys, target, wanted.token or ""),
            wanted.options.model_dump(), wanted.mode, wanted.change_threshold, wanted.automatic, caller.subject,
        )  # fmt: skip
        await _note(connection, caller, "canvas-target.create", target, sight.organization_id, wanted)

    await database.transact(insert)
    return target


async def list_targets(database: Database, caller: Caller, target: UUID | None = None) -> list[asyncpg.Record]:
    """The targets a caller may see: a product's own, an organization's own, or all that belong to organizations."""
    product = None if caller.product_id is None else UUID(caller.product_id)
    organization = None if caller.organization_id is None else UUID(caller.organization_id)
    return await database.fetch(SQL["list_canvas_targets"], product, organization, target)


async def find_target(database: Database, caller: Caller, target: UUID) -> asyncpg.Record:
    """One of them. Raises `Problem` NOT_FOUND."""
    found = await list_targets(database, caller, target)
    if not found:
        raise Problem(Code.NOT_FOUND, status=404, detail="There is no such Canvas target.")
    return found[0]


async def change_target(
    database: Database, keys: SealingKeys, caller: Caller, row: asyncpg.Record, wanted: Wanted
) -> None:
    """Change a target. What makes its sets others than before begins a new generation, compared with nothing."""
    target: UUID = row["id"]
    anew = (row["base_url"], row["account_id"], CanvasOptions.model_validate(row["options"])) != (
        wanted.base_url,
        wanted.account_id,
        wanted.options,
    )
    repaired = wanted.token is not None and row["held_code"] not in CONFIRMABLE

    async def update(connection: Connection) -> None:
        sealed = row["sealed_token"] if wanted.token is None else _seal(keys, target, wanted.token)
        await connection.execute(
            SQL["update_canvas_target"], target, wanted.base_url, wanted.account_id, sealed,
            wanted.options.model_dump(), wanted.mode, wanted.change_threshold, wanted.automatic, anew, repaired,
        )  # fmt: skip
        await _note(connection, caller, "canvas-target.change", target, row["organization_id"], wanted)

    await database.transact(update)


async def delete_target(database: Database, caller: Caller, row: asyncpg.Record) -> None:
    """Forget a target with its token and its pushes; nothing in Canvas changes."""

    async def delete(connection: Connection) -> None:
        await connection.execute(SQL["delete_canvas_target"], row["id"])
        await _note(connection, caller, "canvas-target.delete", row["id"], row["organization_id"], None)

    await database.transact(delete)


async def request_push(database: Database, caller: Caller, row: asyncpg.Record, *, confirm: bool) -> asyncpg.Record:
    """Have a target pushed soon. Raises `Problem`: what it is held for, or NOTHING_HELD for a needless confirmation."""
    target: UUID = row["id"]

    async def request(connection: Connection) -> asyncpg.Record:
        held = await connection.fetchrow(SQL["lock_canvas_target"], target)
        if held is None:
            raise Problem(Code.NOT_FOUND, status=404, detail="There is no such Canvas target.")
        code = held["held_code"]
        if confirm and code not in CONFIRMABLE:
            raise Problem(Code.NOTHING_HELD, status=409, detail="Nothing is held that could be confirmed.")
        if not confirm and code in CONFIRMABLE:
            detail = "The target is held until somebody confirms it with confirm=true; see its last push."
            raise Problem(Code(code), status=409, detail=detail)
        push = await connection.fetchrow(SQL["request_canvas_push"], new_id(), target, code if confirm else None)
        assert push is not None  # noqa: S101 - the statement always gives a row
        await audit.note(
            connection, by=caller.subject, action="canvas-push.confirm" if confirm else "canvas-push.request",
            organization=held["organization_id"], subject=f"canvas-target:{target}",
            product=held["product_id"], detail={"code": code} if confirm else None,
        )  # fmt: skip
        return push

    return await database.transact(request)


async def ask_test(database: Database, target: UUID) -> tuple[str | None, str] | None:
    """What Canvas says to the target's token: a code or None, and a sentence; None if nobody has asked it in time."""
    asked = await database.fetchval(SQL["ask_canvas_test"], target)
    deadline = asyncio.get_running_loop().time() + TEST_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        row = await database.fetchrow(SQL["find_canvas_test"], target)
        if row is not None and row["test_answered"] >= (asked or 0):
            return row["test_code"], row["test_detail"]
        await asyncio.sleep(_LOOK_SECONDS)
    return None


async def find_place(keys: SealingKeys, row: asyncpg.Record) -> Place:
    """Where a target is. Raises `SecretUnreadable`."""
    token = await asyncio.to_thread(keys.open, _context(row["id"]), row["sealed_token"])
    return Place(row["base_url"], row["account_id"], token)


async def find_owners_sight(database: Database, row: asyncpg.Record) -> Sight | None:
    """What the owner of a target may see of its roster now; None if that is nothing."""
    if row["product_id"] is not None:
        sights = await list_product_sights(database, row["product_id"], organization=row["organization_id"])
    else:
        owner = Caller("canvas", frozenset({"roster.read"}), str(row["organization_id"]))
        sights = await list_sights(database, owner, integration=row["integration_id"])
    return next((sight for sight in sights if sight.integration_id == row["integration_id"]), None)


def _context(target: UUID) -> str:
    return f"canvas-target:{target}"


def _seal(keys: SealingKeys, target: UUID, token: str) -> str:
    return seal(keys.public_key, _context(target), token)


async def _note(
    connection: Connection, caller: Caller, action: str, target: UUID, organization: UUID, wanted: Wanted | None
) -> None:
    detail: dict[str, Any] = {}
    if wanted is not None:
        detail = {"mode": wanted.mode, "threshold": wanted.change_threshold, "token": wanted.token is not None}
    await audit.note(
        connection, by=caller.subject, action=action, organization=organization, subject=f"canvas-target:{target}",
        product=None if caller.product_id is None else UUID(caller.product_id), detail=detail,
    )  # fmt: skip
