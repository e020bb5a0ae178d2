"""Integrations: one district's way to its provider, created, edited, reset and deleted (C3, C6 to C8).

The secret is sealed the moment it arrives and never comes back; here it can't be opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
from pydantic import AfterValidator, Field, StrictBool, ValidationInfo, field_validator

from homeroom.codes import Code
from homeroom.connections import (
    KNOWN_SIS,
    ClassLinkConnection,
    CleverConnection,
    ConnectionModel,
    CsvConnection,
    GoogleClassroomConnection,
    Line,
    OneRosterConnection,
)
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.messages import Options
from homeroom.problems import Problem
from homeroom.service import RequestModel
from sync_scheduler import credentials, ledger
from sync_scheduler.calendars import REGION_ZONES, check_zone
from sync_scheduler.ledger import SQL

Region = Literal["us", "au", "uk", "nz"]
Kind = Literal["classlink", "oneroster", "oneroster-csv", "clever", "google-classroom"]
AnyConnection = (
    OneRosterConnection | ClassLinkConnection | CleverConnection | GoogleClassroomConnection | CsvConnection | None
)
"""For the documents: which of them is meant is said by `provider`."""
Zone = Annotated[
    str,
    AfterValidator(check_zone),
    Field(description="an IANA time zone: what `today` means to the district", examples=["America/Chicago"]),
]
Sis = Annotated[Line, Field(description="the SIS behind the provider", examples=list(KNOWN_SIS))]
MAX_EXCLUDED = 2000
WITHOUT_SCHOOLS = frozenset({"google-classroom"})
"""Kinds that know no schools, so that none can be excluded."""


class OptionsBody(RequestModel):
    """What is synced; the defaults of the contract."""

    sync_classes: StrictBool = True
    respect_enrollment_dates: StrictBool = False
    respect_academic_sessions: StrictBool = False
    sync_parents: StrictBool = False
    sync_demographics: StrictBool = False
    excluded_schools: Annotated[tuple[Line, ...], Field(max_length=MAX_EXCLUDED)] = ()

    @field_validator("excluded_schools")
    @classmethod
    def _refuse_doubles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a school stands in the list more than once")
        return value


class ScheduleBody(RequestModel):
    """When syncs start: for now, only when somebody asks."""

    kind: Literal["manual"] = "manual"


class IntegrationBody(RequestModel):
    """An integration to be."""

    organization_id: UUID
    name: Line
    provider: Kind
    sis: Sis | None = None
    region: Region = "us"
    time_zone: Zone | None = Field(default=None, description="an IANA time zone; without one that of the region")
    connection: ConnectionModel = Field(
        default=None,
        validate_default=True,
        description="that of the `provider`; oneroster-csv needs none. Secrets never come back",
    )
    options: OptionsBody = OptionsBody()
    schedule: ScheduleBody | None = None

    @field_validator("connection", mode="plain", json_schema_input_type=AnyConnection)
    @classmethod
    def _check_connection(cls, entered: object, info: ValidationInfo) -> ConnectionModel | None:
        provider = info.data.get("provider")
        return credentials.check_kind(provider, entered) if provider else None


class IntegrationEdit(RequestModel):
    """What is left out stays as it is; provider, organization and region can't be changed."""

    name: Line | None = None
    sis: Sis | None = None
    time_zone: Zone | None = Field(default=None, description="an IANA time zone; null for that of the region")
    connection: dict[str, Any] | None = Field(
        default=None,
        description="fields of the kind's connection that change; null takes a field away. Secrets are sent together",
    )
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
        entered = credentials.enter(body.connection)
        self._check_addresses(body.provider, entered.shown)
        _check_options(body.provider, body.options)
        integration = new_id()
        sealed = entered.seal(self._public_key, integration)
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
                entered.shown,
                sealed,
                options,
                body.time_zone or REGION_ZONES[body.region],
                sorted(entered.secrets or ()),
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

        async def change(connection: Connection) -> asyncpg.Record:
            row = await lock(connection, integration, visible)
            sent = body.model_fields_set
            kept = credentials.Entered(row["connection"], None)
            entered = self._enter(row, body.connection) if body.connection is not None else kept
            options = row["options"] | (
                body.options.model_dump(mode="json", exclude_unset=True) if body.options else {}
            )
            if body.options:
                _check_options(row["provider"], body.options)
            zone = body.time_zone or REGION_ZONES[row["region"]] if "time_zone" in sent else row["time_zone"]
            sis = body.sis if "sis" in sent else row["sis"]
            again = entered.secrets is not None
            edited = await connection.fetchrow(
                SQL["edit_integration"],
                integration,
                body.name or row["name"],
                sis,
                entered.shown,
                entered.seal(self._public_key, integration) if again else row["sealed_secret"],
                options,
                again
                or (entered.shown, options, zone, sis)
                != (row["connection"], row["options"], row["time_zone"], row["sis"]),
                zone,
                sorted(entered.secrets or ()) if again else row["secret_names"],
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
            gone = Code.INTEGRATION_DELETED
            await connection.execute(SQL["end_inquiries"], integration, gone.value, gone.entry.cause)
            await connection.execute(SQL["wake"])
            active = await connection.fetchval(SQL["active_run"], integration)
            change = await ledger.cancel(connection, active) if active else None
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


def read_options(stored: Mapping[str, Any]) -> Options:
    """The options of a row as they go out with a job; what was added since it was stored has its default."""
    return Options(**{**stored, "excluded_schools": tuple(stored.get("excluded_schools", ()))})


def _check_options(provider: str, options: OptionsBody) -> None:
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
