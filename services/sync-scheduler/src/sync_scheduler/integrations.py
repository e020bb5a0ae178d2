"""Integrations: one district's way to its provider, created, edited, reset and deleted (C3, C6 to C8).

The secret is sealed the moment it arrives and never comes back; here it can't be opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from homeroom.codes import Code
from homeroom.connections import UPLOADED
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.problems import Problem
from sync_scheduler import audit, credentials, decisions, ledger, slots
from sync_scheduler.calendars import REGION_ZONES, is_zone
from sync_scheduler.integration_bodies import IntegrationBody, IntegrationEdit, OptionsBody
from sync_scheduler.ledger import SQL
from sync_scheduler.schedule_bodies import read_schedule, store_schedule
from sync_scheduler.schedules import object_to

WITHOUT_SCHOOLS = frozenset({"google-classroom"})
"""Kinds that know no schools, so that none can be excluded."""


class Integrations:
    """The use cases of integrations. `visible` is the one organization a caller may see, or None for all.

    `by` is the subject of the caller's token, for the audit.
    """

    def __init__(self, database: Database, *, public_key: str, allow_private_endpoints: bool) -> None:
        self._database = database
        self._public_key = public_key
        self._allow_private = allow_private_endpoints

    async def create(self, body: IntegrationBody, visible: UUID | None, *, by: str) -> asyncpg.Record:
        """Add an integration.

        Problems ENDPOINT_REFUSED, SCHEDULE_IMPOSSIBLE, ZONE_UNKNOWN, TAKEOVER_UNFIT, NOT_FOUND.
        """
        organization = body.organization_id
        if visible not in (None, organization):
            raise _no_organization(organization)
        entered = credentials.enter(body.connection) if body.connection is not None else None
        shown = entered.shown if entered else {}
        self._check_addresses(body.provider, shown)
        check_options(body.provider, body.options)
        schedule = store_schedule(body.schedule)
        _check_kind_of_schedule(body.provider, schedule)
        zone = _check_zone(body.time_zone) or REGION_ZONES[body.region]
        integration = new_id()
        sealed = entered.seal(self._public_key, integration) if entered else ""
        options = body.options.model_dump(mode="json")

        async def add(connection: Connection) -> asyncpg.Record:
            now = await ledger.read_time(connection)
            if body.takes_over is not None:
                await _check_takeover(connection, organization, body.takes_over)
            await connection.execute(
                SQL["add_integration"],
                integration,
                organization,
                body.name,
                body.provider,
                body.sis,
                body.region,
                shown,
                sealed,
                options,
                zone,
                sorted((entered and entered.secrets) or ()),
                schedule,
                now,
                body.guard.merge({}),
                body.approve_first,
                body.additions_only,
                body.keep_received,
                body.takes_over,
            )
            await connection.execute(SQL["wake"])
            row = await connection.fetchrow(SQL["integration"], integration, None)
            if row is None:
                raise _no_organization(organization)
            await _note(connection, by, "create", row, sorted(body.model_fields_set - {"organization_id"}))
            return await _plan(connection, row, now)

        return await self._database.transact(add)

    async def read(self, integration: UUID, visible: UUID | None) -> asyncpg.Record:
        """One integration, also a deleted one. Problem NOT_FOUND, also for those of others."""
        row = await self._database.fetchrow(SQL["integration"], integration, visible)
        if row is None:
            raise no_integration(integration)
        return row

    async def edit(self, integration: UUID, body: IntegrationEdit, visible: UUID | None, *, by: str) -> asyncpg.Record:
        """Change what was sent; other settings of what is fetched than the last sync's ask for another (C7).

        Problems ENDPOINT_REFUSED, SECRET_REQUIRED, SCHEDULE_IMPOSSIBLE, ZONE_UNKNOWN, INTEGRATION_DELETED, NOT_FOUND.
        """
        _check_zone(body.time_zone)

        async def change(connection: Connection) -> asyncpg.Record:
            row = await lock(connection, integration, visible)
            now = await ledger.read_time(connection)
            sent = body.model_fields_set
            kept = credentials.Entered(row["connection"], None)
            entered = self._enter(row, body.connection) if body.connection is not None else kept
            options = row["options"] | (
                body.options.model_dump(mode="json", exclude_unset=True) if body.options else {}
            )
            if body.options:
                check_options(row["provider"], body.options)
            zone = body.time_zone or REGION_ZONES[row["region"]] if "time_zone" in sent else row["time_zone"]
            sis = body.sis if "sis" in sent else row["sis"]
            schedule = store_schedule(body.schedule) if "schedule" in sent else row["schedule"]
            _check_kind_of_schedule(row["provider"], schedule)
            secrets_again = entered.secrets is not None
            sync_again = secrets_again or (entered.shown, options, zone, sis) != (
                row["connection"],
                row["options"],
                row["time_zone"],
                row["sis"],
            )
            edited = await connection.fetchrow(
                SQL["edit_integration"],
                integration,
                body.name or row["name"],
                sis,
                entered.shown,
                entered.seal(self._public_key, integration) if secrets_again else row["sealed_secret"],
                options,
                sync_again,
                zone,
                sorted(entered.secrets or ()) if secrets_again else row["secret_names"],
                schedule,
                now if schedule != row["schedule"] else row["schedule_since"],
                *_merge_terms(row, body),
            )
            assert edited is not None  # noqa: S101 - the row is locked
            if (schedule, zone) != (row["schedule"], row["time_zone"]):
                edited = await _plan(connection, edited, now)
            if sync_again:
                edited = await _save_plan(connection, edited, *slots.bring_forward(edited, now))
            await _note(connection, by, "edit", edited, sorted(sent))
            await connection.execute(SQL["wake"])
            return edited

        return await self._database.transact(change)

    async def reset(self, integration: UUID, visible: UUID | None, *, by: str) -> asyncpg.Record:
        """Forget the last sync date (C6). Problems SYNC_IN_PROGRESS, INTEGRATION_DELETED, NOT_FOUND."""

        async def forget(connection: Connection) -> asyncpg.Record:
            await lock(connection, integration, visible)
            if active := await connection.fetchval(SQL["active_run"], integration):
                raise sync_in_progress(active)
            row = await connection.fetchrow(SQL["reset_integration"], integration)
            assert row is not None  # noqa: S101 - the row is locked
            await _note(connection, by, "reset", row)
            return row

        return await self._database.transact(forget)

    async def delete(self, integration: UUID, visible: UUID | None, *, by: str) -> None:
        """Stop updates for good and keep the roster (C8); an active run is cancelled. Problem NOT_FOUND."""

        async def end(connection: Connection) -> ledger.Change | None:
            row = await connection.fetchrow(SQL["lock_integration"], integration, visible)
            if row is None:
                raise no_integration(integration)
            if row["state"] == "deleted":
                return None
            await connection.execute(SQL["delete_integration"], integration)
            gone = Code.INTEGRATION_DELETED
            await connection.execute(SQL["end_inquiries"], integration, gone.value, gone.entry.cause)
            await _note(connection, by, "delete", row)
            await connection.execute(SQL["wake"])
            active = await connection.fetchval(SQL["active_run"], integration)
            change = await ledger.cancel(connection, active) if active else None
            await decisions.discard_all(connection, integration, by=by)
            # After the run, whose set is locked after it everywhere.
            await connection.execute(SQL["drop_uploads"], integration)
            return change

        if cancelled := await self._database.transact(end):
            ledger.tell(cancelled)

    def _enter(self, row: asyncpg.Record, wish: Mapping[str, Any]) -> credentials.Entered:
        entered = credentials.change(row["provider"], row["connection"], row["secret_names"], wish)
        if entered.shown != row["connection"]:
            self._check_addresses(row["provider"], entered.shown)
        return entered

    def _check_addresses(self, provider: str, shown: Mapping[str, Any]) -> None:
        credentials.check_addresses(provider, shown, allow_private=self._allow_private)


async def lock(connection: Connection, integration: UUID, visible: UUID | None) -> asyncpg.Record:
    """An integration that is there for more, locked. Problems NOT_FOUND, INTEGRATION_DELETED."""
    row = await connection.fetchrow(SQL["lock_integration"], integration, visible)
    if row is None:
        raise no_integration(integration)
    if row["state"] == "deleted":
        raise Problem(Code.INTEGRATION_DELETED, status=409, detail=f"The integration {integration} was deleted.")
    return row


async def _plan(connection: Connection, row: asyncpg.Record, now: datetime) -> asyncpg.Record:
    """The integration with its next slot, by a schedule or zone that is new. Problem SCHEDULE_IMPOSSIBLE."""
    if objection := object_to(read_schedule(row), row["time_zone"], now):
        raise Problem(Code.SCHEDULE_IMPOSSIBLE, status=422, detail=objection)
    return await _save_plan(connection, row, *slots.plan_anew(row, now))


async def _save_plan(
    connection: Connection, row: asyncpg.Record, moment: datetime | None, why: slots.Why
) -> asyncpg.Record:
    if (moment, why) == (row["next_slot_at"], row["next_slot_why"]):
        return row
    planned = await connection.fetchrow(SQL["plan_slot"], row["id"], moment, why)
    assert planned is not None  # noqa: S101 - the row is locked
    return planned


def _merge_terms(row: asyncpg.Record, body: IntegrationEdit) -> tuple[dict[str, Any], bool, bool, bool]:
    """Under what its pictures are taken: the limits of the guard, and three switches."""
    guard: dict[str, Any] = row["guard"]
    if "guard" in body.model_fields_set:
        guard = body.guard.merge(guard) if body.guard else {}
    switches = (body.approve_first, body.additions_only, body.keep_received)
    before = (row["approve_first"], row["additions_only"], row["keep_received"])
    approve, additions, received = (old if new is None else new for new, old in zip(switches, before, strict=True))
    return guard, approve, additions, received


async def _check_takeover(connection: Connection, organization: UUID, source: UUID) -> None:
    """Problem TAKEOVER_UNFIT unless it is deleted, of this organization, and nobody else's to take."""
    row = await connection.fetchrow(SQL["takeover_source"], source, organization)
    detail = None
    if row is None:
        detail = f"The organization has no integration {source}."
    elif row["state"] != "deleted":
        detail = f"The integration {source} was not deleted: it still looks after its records itself."
    elif row["taker"]:
        detail = f"The records of {source} go to the integration {row['taker']} already."
    if detail:
        raise Problem(Code.TAKEOVER_UNFIT, status=422, detail=detail)


def _check_zone(name: str | None) -> str | None:
    """Problem ZONE_UNKNOWN for what is none."""
    if name is not None and not is_zone(name):
        raise Problem(Code.ZONE_UNKNOWN, status=422, detail="time_zone is no IANA time zone, such as America/Chicago.")
    return name


def _check_kind_of_schedule(provider: str, schedule: Mapping[str, Any]) -> None:
    if provider in UPLOADED and schedule["kind"] != "manual":
        problem = "files start a sync by themselves as soon as they are received; leave the schedule at manual"
        raise refuse_field("schedule.kind", problem)


async def _note(
    connection: Connection, by: str, verb: str, row: asyncpg.Record, fields: list[str] | None = None
) -> None:
    await audit.note(
        connection,
        by=by,
        action=f"integration.{verb}",
        organization=row["organization"],
        subject=f"integration:{row['id']}",
        detail={"fields": fields} if fields is not None else None,
    )


def check_options(provider: str, options: OptionsBody) -> None:
    """Refuse options that a kind of provider can't have. Problem REQUEST_INVALID."""
    if options.excluded_schools and provider in WITHOUT_SCHOOLS:
        raise refuse_field("options.excluded_schools", f"{provider} knows no schools, so none can be excluded")


def refuse_field(field: str, problem: str) -> Problem:
    """A wrong field that only shows in the light of others."""
    named = f"body.{field}"
    return Problem(
        Code.REQUEST_INVALID,
        status=422,
        detail=f"Not accepted: {named}.",
        errors=[{"field": named, "problem": problem}],
    )


def sync_in_progress(run_id: UUID) -> Problem:
    """The answer to whoever comes second."""
    detail = f"The run {run_id} is under way."
    return Problem(Code.SYNC_IN_PROGRESS, status=409, detail=detail, run_id=str(run_id))


def no_integration(integration: UUID) -> Problem:
    """Nothing there, or nothing the caller may see."""
    return Problem(Code.NOT_FOUND, status=404, detail=f"There is no integration {integration}.")


def _no_organization(organization: UUID) -> Problem:
    return Problem(Code.NOT_FOUND, status=404, detail=f"There is no organization {organization}.")
