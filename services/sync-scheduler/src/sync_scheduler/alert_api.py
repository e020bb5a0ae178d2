"""The REST face of alerts: who is told, what was told, and silence for a while."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, StrictBool

from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.problems import Problem
from homeroom.service import RequestModel
from sync_scheduler import alerting, audit, integrations, ledger
from sync_scheduler.alert_targets import TargetBody, Targets
from sync_scheduler.alerts import Health, Kind
from sync_scheduler.callers import NOBODY, Cursor, Data, Limit, Reader, Writer, seen_by
from sync_scheduler.ledger import SQL
from sync_scheduler.licensing import Moment
from sync_scheduler.paging import from_cursor
from sync_scheduler.views import Page, show_page

router = APIRouter(prefix="/v1", tags=["alerts"])

NEWEST = 2**63 - 1


def _get_targets(request: Request) -> Targets:
    found: Targets = request.app.state.targets
    return found


UseTargets = Annotated[Targets, Depends(_get_targets)]


class Target(BaseModel):
    """Who is told."""

    id: UUID
    organization_id: UUID | None
    integration_id: UUID | None
    kind: Literal["webhook", "email"]
    url: str | None
    address: str | None
    created_at: datetime
    rotated_at: datetime | None


class TargetWithSecret(Target):
    """A target and what its webhooks are signed with, which is shown this once."""

    secret: str | None


class TestSent(BaseModel):
    """Where what came of a test can be looked up: `GET /v1/alerts/{alert_id}`."""

    alert_id: UUID


class Delivery(BaseModel):
    """How far an alert has come on its way to somebody."""

    target_id: UUID | None
    kind: Literal["webhook", "email"]
    state: Literal["pending", "delivered", "given_up", "dropped"]
    tries: int
    next_try_at: datetime | None
    ended_at: datetime | None
    problem: str | None


class Alert(BaseModel):
    """What was told, and to whom."""

    id: UUID
    organization_id: UUID | None
    integration_id: UUID | None
    run_id: UUID | None
    kind: Kind
    code: Code | None
    title: str | None
    next_step: str | None
    message: str
    at: datetime
    deliveries: list[Delivery]


class MuteBody(RequestModel):
    """Silence, for a while or until it is ended."""

    muted: StrictBool
    until: Moment | None = None


class Mute(BaseModel):
    """Whether nothing is told of an integration, and how it fares as far as was told."""

    integration_id: UUID
    muted: bool
    until: datetime | None
    health: Health
    since: datetime


@router.post("/alert-targets", status_code=201)
async def create_alert_target(body: TargetBody, caller: Writer, targets: UseTargets) -> TargetWithSecret:
    """Have somebody told of alerts; a webhook's signing secret is shown this once."""
    row = await targets.create(body, seen_by(caller), by=caller.subject)
    return _show_with_secret(targets, row)


@router.get("/alert-targets")
async def list_alert_targets(
    caller: Reader, data: Data, organization_id: UUID | None = None, cursor: Cursor = None, limit: Limit = 100
) -> Page[Target]:
    """Who is told, oldest first."""
    seen = seen_by(caller)
    if seen is not None and organization_id not in (None, seen):
        seen = NOBODY
    rows = await data.fetch(SQL["targets"], seen or organization_id, from_cursor(cursor, start=0), limit + 1)
    return show_page(rows, limit, "position", lambda row: Target(**_show_target(row)))


@router.delete("/alert-targets/{target_id}", status_code=204)
async def delete_alert_target(target_id: UUID, caller: Writer, targets: UseTargets) -> None:
    """Tell a target nothing any more."""
    await targets.delete(target_id, seen_by(caller), by=caller.subject)


@router.post("/alert-targets/{target_id}/rotate")
async def rotate_alert_target(target_id: UUID, caller: Writer, targets: UseTargets) -> TargetWithSecret:
    """Give a webhook a new signing secret; for 24 hours it is signed with the earlier one as well."""
    return _show_with_secret(targets, await targets.rotate(target_id, seen_by(caller), by=caller.subject))


@router.post("/alert-targets/{target_id}/test", status_code=202)
async def send_test(target_id: UUID, caller: Writer, targets: UseTargets) -> TestSent:
    """Send a target a test."""
    return TestSent(alert_id=await targets.test(target_id, seen_by(caller)))


@router.get("/alerts")
async def list_alerts(
    caller: Reader,
    data: Data,
    organization_id: UUID | None = None,
    integration_id: UUID | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[Alert]:
    """What was told, newest first, with how far each message has come; kept for 90 days."""
    seen = seen_by(caller)
    narrowed = NOBODY if seen is not None and organization_id not in (None, seen) else seen or organization_id
    before = from_cursor(cursor, start=NEWEST)
    rows = await data.fetch(SQL["alerts"], narrowed, integration_id, before, limit + 1)
    deliveries = await _read_deliveries(data, rows, seen)
    return show_page(rows, limit, "position", lambda row: _show_alert(row, deliveries))


@router.get("/alerts/{alert_id}")
async def read_alert(alert_id: UUID, caller: Reader, data: Data) -> Alert:
    """One alert, with how far each message has come."""
    row = await data.fetchrow(SQL["alert"], alert_id, seen_by(caller))
    if row is None:
        raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no alert {alert_id}; they are kept for 90 days.")
    return _show_alert(row, await _read_deliveries(data, [row], seen_by(caller)))


@router.put("/integrations/{integration_id}/mute")
async def mute_integration(integration_id: UUID, body: MuteBody, caller: Writer, data: Data) -> Mute:
    """Tell nothing of an integration; when that ends, what changed meanwhile is told, once."""

    async def mute(connection: Connection) -> asyncpg.Record:
        row = await integrations.lock(connection, integration_id, seen_by(caller))
        now = await ledger.read_time(connection)
        if body.until is not None and (not body.muted or body.until <= now):
            raise integrations.refuse_field("until", "it goes with muted: true, and must be in the future")
        action = "integration.mute" if body.muted else "integration.unmute"
        subject = f"integration:{integration_id}"
        await audit.note(
            connection, by=caller.subject, action=action, organization=row["organization"], subject=subject
        )
        watch = await connection.fetchrow(SQL["mute"], integration_id, body.muted, body.until, caller.subject)
        assert watch is not None  # noqa: S101 - it was written
        return watch

    return _show_mute(await data.transact(mute), await data.fetchval(SQL["now"]))


@router.get("/integrations/{integration_id}/mute")
async def read_mute(integration_id: UUID, caller: Reader, data: Data) -> Mute:
    """Whether nothing is told of an integration, and how it fares."""
    row = await data.fetchrow(SQL["watch"], integration_id, seen_by(caller))
    if row is None:
        raise integrations.no_integration(integration_id)
    return _show_mute(row, await data.fetchval(SQL["now"]))


async def _read_deliveries(
    data: Database, alerts: Iterable[asyncpg.Record], seen: UUID | None
) -> dict[UUID, list[Delivery]]:
    found: dict[UUID, list[Delivery]] = {}
    for row in await data.fetch(SQL["deliveries_of"], [alert["id"] for alert in alerts], seen):
        delivery = Delivery(
            target_id=row["target"],
            kind=row["target_kind"] or "email",
            state=row["state"],
            tries=row["tries"],
            next_try_at=row["due_at"],
            ended_at=row["ended_at"],
            problem=row["problem"],
        )
        found.setdefault(row["alert"], []).append(delivery)
    return found


def _show_target(row: asyncpg.Record) -> dict[str, Any]:
    same = {name: row[name] for name in Target.model_fields.keys() & row.keys()}
    return same | {"organization_id": row["organization"], "integration_id": row["integration"]}


def _show_with_secret(targets: Targets, row: asyncpg.Record) -> TargetWithSecret:
    return TargetWithSecret.model_validate(_show_target(row) | {"secret": targets.secret(row)})


def _show_alert(row: asyncpg.Record, deliveries: dict[UUID, list[Delivery]]) -> Alert:
    code = Code(row["code"]) if row["code"] else None
    return Alert(
        id=row["id"],
        organization_id=row["organization"],
        integration_id=row["integration"],
        run_id=row["run"],
        kind=Kind(row["kind"]),
        code=code,
        title=code.entry.title if code else None,
        next_step=code.entry.next_step if code else None,
        message=row["mail"]["text"].partition("\n")[0],
        at=row["at"],
        deliveries=deliveries.get(row["id"], []),
    )


def _show_mute(row: asyncpg.Record, now: datetime) -> Mute:
    muted = alerting.is_muted(row, now)
    return Mute(
        integration_id=row["integration"],
        muted=muted,
        until=row["muted_until"] if muted else None,
        health=Health(row["state"]),
        since=row["since"],
    )
