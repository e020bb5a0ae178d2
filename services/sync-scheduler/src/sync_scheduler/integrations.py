"""Integrations: one district's way to its provider, created, edited, reset and deleted (C3, C6 to C8).

The secret is sealed the moment it arrives and never comes back; here it can't be opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

import asyncpg
from pydantic import Field, SecretStr, StrictBool, ValidationInfo, field_validator

from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.messages import Options
from homeroom.problems import Problem
from homeroom.secrets import seal
from homeroom.service import RequestModel
from sync_scheduler import ledger
from sync_scheduler.connections import (
    ADDRESSES,
    TOKEN_URL_MISSING,
    Line,
    OneRosterConnection,
    OneRosterConnectionEdit,
    needs_secret_again,
)
from sync_scheduler.endpoints import object_to
from sync_scheduler.ledger import SQL

Region = Literal["us", "au", "uk", "nz"]
KNOWN_SIS = ("PowerSchool", "Ellucian", "eSchoolPlus", "Illuminate Education", "Unit4", "other")


class OptionsBody(RequestModel):
    """What is synced; the defaults of the contract."""

    sync_classes: StrictBool = True
    respect_enrollment_dates: StrictBool = False
    respect_academic_sessions: StrictBool = False
    sync_parents: StrictBool = False
    sync_demographics: StrictBool = False
    excluded_schools: tuple[Line, ...] = ()

    @field_validator("sync_classes", "respect_enrollment_dates", "respect_academic_sessions", "excluded_schools")
    @classmethod
    def _refuse_what_is_not_offered(cls, value: object, info: ValidationInfo) -> object:
        default = cls.model_fields[info.field_name or ""].default
        if value != default:
            shown = list(default) if isinstance(default, tuple) else str(default).lower()
            raise ValueError(f"this option is not offered yet; leave it at {shown}")
        return value


class ScheduleBody(RequestModel):
    """When syncs start: for now, only when somebody asks."""

    kind: Literal["manual"] = "manual"


class IntegrationBody(RequestModel):
    """An integration to be."""

    organization_id: UUID
    name: Line
    provider: Literal["oneroster"]
    sis: Line | None = Field(default=None, description="the SIS behind the provider", examples=list(KNOWN_SIS))
    region: Region = "us"
    connection: OneRosterConnection
    options: OptionsBody = OptionsBody()
    schedule: ScheduleBody | None = None


class IntegrationEdit(RequestModel):
    """What is left out stays as it is; provider, organization and region can't be changed."""

    name: Line | None = None
    sis: Line | None = None
    connection: OneRosterConnectionEdit | None = None
    options: OptionsBody | None = None
    schedule: ScheduleBody | None = None


class Integrations:
    """The use cases of integrations. `visible` is the one organization a caller may see, or None for all."""

    def __init__(self, database: Database, *, public_key: str, allow_private_endpoints: bool) -> None:
        self._database = database
        self._public_key = public_key
        self._allow_private = allow_private_endpoints

    async def create(self, body: IntegrationBody, visible: UUID | None) -> asyncpg.Record:
        """Add an integration. Problems ENDPOINT_REFUSED, NOT_FOUND."""
        organization = body.organization_id
        if visible not in (None, organization):
            raise _no_organization(organization)
        shown = body.connection.shown()
        self._check_addresses(shown)
        integration = new_id()
        sealed = self._seal(integration, body.connection.client_secret)
        options = body.options.model_dump(mode="json")

        async def add(connection: Connection) -> asyncpg.Record:
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
            )
            await connection.execute(SQL["wake"])
            row = await connection.fetchrow(SQL["integration"], integration, None)
            if row is None:
                raise _no_organization(organization)
            return row

        return await self._database.transact(add)

    async def read(self, integration: UUID, visible: UUID | None) -> asyncpg.Record:
        """One integration, also a deleted one. Problem NOT_FOUND, also for those of others."""
        row = await self._database.fetchrow(SQL["integration"], integration, visible)
        if row is None:
            raise no_integration(integration)
        return row

    async def edit(self, integration: UUID, body: IntegrationEdit, visible: UUID | None) -> asyncpg.Record:
        """Change what was sent; other settings than the last sync's ask for another (C7).

        Problems ENDPOINT_REFUSED, SECRET_REQUIRED, INTEGRATION_DELETED, NOT_FOUND.
        """
        secret = body.connection.client_secret if body.connection else None
        sealed = self._seal(integration, secret) if secret else None

        async def change(connection: Connection) -> asyncpg.Record:
            row = await lock(connection, integration, visible)
            shown = body.connection.applied_to(row["connection"]) if body.connection else row["connection"]
            options = row["options"] | (
                body.options.model_dump(mode="json", exclude_unset=True) if body.options else {}
            )
            self._check_edit(row["connection"], shown, has_secret=sealed is not None)
            edited = await connection.fetchrow(
                SQL["edit_integration"],
                integration,
                body.name or row["name"],
                body.sis if "sis" in body.model_fields_set else row["sis"],
                shown,
                sealed or row["sealed_secret"],
                options,
                sealed is not None or (shown, options) != (row["connection"], row["options"]),
            )
            await connection.execute(SQL["wake"])
            assert edited is not None  # noqa: S101 - the row is locked
            return edited

        return await self._database.transact(change)

    async def reset(self, integration: UUID, visible: UUID | None) -> asyncpg.Record:
        """Forget the last sync date (C6). Problems SYNC_IN_PROGRESS, INTEGRATION_DELETED, NOT_FOUND."""

        async def forget(connection: Connection) -> asyncpg.Record:
            await lock(connection, integration, visible)
            if active := await connection.fetchval(SQL["active_run"], integration):
                raise sync_in_progress(active)
            row = await connection.fetchrow(SQL["reset_integration"], integration)
            assert row is not None  # noqa: S101 - the row is locked
            return row

        return await self._database.transact(forget)

    async def delete(self, integration: UUID, visible: UUID | None) -> None:
        """Stop updates for good and keep the roster (C8); an active run is cancelled. Problem NOT_FOUND."""

        async def end(connection: Connection) -> ledger.Change | None:
            row = await connection.fetchrow(SQL["lock_integration"], integration, visible)
            if row is None:
                raise no_integration(integration)
            if row["state"] == "deleted":
                return None
            await connection.execute(SQL["delete_integration"], integration)
            await connection.execute(SQL["wake"])
            active = await connection.fetchval(SQL["active_run"], integration)
            return await ledger.cancel(connection, active) if active else None

        if cancelled := await self._database.transact(end):
            ledger.tell(cancelled)

    def _seal(self, integration: UUID, secret: SecretStr) -> str:
        return seal(self._public_key, str(integration), secret.get_secret_value())

    def _check_addresses(self, shown: Mapping[str, Any]) -> None:
        for name in ADDRESSES:
            address = shown.get(name)
            if address and (objection := object_to(address, allow_private=self._allow_private)):
                detail = f"connection.{name} can't be used: {objection}."
                raise Problem(Code.ENDPOINT_REFUSED, status=422, detail=detail)

    def _check_edit(self, before: Mapping[str, Any], after: Mapping[str, Any], *, has_secret: bool) -> None:
        if before == after:
            return
        if after["auth"] == "oauth2" and "token_url" not in after:
            raise refuse_field("connection.token_url", TOKEN_URL_MISSING)
        self._check_addresses(after)
        if needs_secret_again(before, after) and not has_secret:
            raise Problem(
                Code.SECRET_REQUIRED, status=422, detail="The connection changed; send its client_secret with it."
            )


async def lock(connection: Connection, integration: UUID, visible: UUID | None) -> asyncpg.Record:
    """An integration that is there for more, locked. Problems NOT_FOUND, INTEGRATION_DELETED."""
    row = await connection.fetchrow(SQL["lock_integration"], integration, visible)
    if row is None:
        raise no_integration(integration)
    if row["state"] == "deleted":
        raise Problem(Code.INTEGRATION_DELETED, status=409, detail=f"The integration {integration} was deleted.")
    return row


def read_options(stored: Mapping[str, Any]) -> Options:
    """The options of a row as they go out with a job; what was added since it was stored has its default."""
    return Options(**{**stored, "excluded_schools": tuple(stored.get("excluded_schools", ()))})


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
