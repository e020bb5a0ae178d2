"""Integrations as admins enter and edit them (C1, C3, C4, C8, C14)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from pydantic import Field, StrictBool, ValidationInfo, field_validator

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
from homeroom.messages import GuardLimits, Options
from homeroom.service import RequestModel
from sync_scheduler import credentials
from sync_scheduler.schedule_bodies import AnySchedule, check_schedule

Region = Literal["us", "au", "uk", "nz"]
Kind = Literal["classlink", "oneroster", "oneroster-csv", "clever", "google-classroom"]
AnyConnection = (
    OneRosterConnection | ClassLinkConnection | CleverConnection | GoogleClassroomConnection | CsvConnection | None
)
"""For the documents: which of them is meant is said by `provider`."""
Zone = Annotated[
    str,
    Field(
        max_length=100,
        description="an IANA time zone: what `today` and the schedule mean to the district",
        examples=["America/Chicago"],
    ),
]
Sis = Annotated[Line, Field(description="the SIS behind the provider", examples=list(KNOWN_SIS))]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Number = Annotated[int, Field(strict=True, ge=0, le=100_000_000)]
MAX_EXCLUDED = 2000


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


class GuardBody(RequestModel):
    """From where on a change is unusual (C14); null, or left out at creation, for the default."""

    remove_share: Share | None = None
    remove_least: Number | None = None
    remove_most: Number | None = None
    school_remove_share: Share | None = None
    school_remove_least: Number | None = None
    change_share: Share | None = None
    rekey_share: Share | None = None
    quarantine_share: Share | None = None
    quarantine_least: Number | None = None
    small: Number | None = None

    def merge(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """What is stored of the limits once what was sent has taken its place: those that differ from the defaults."""
        sent = self.model_dump(exclude_unset=True)
        wanted = msgspec.structs.asdict(_read_guard(stored)) | sent
        return {
            field.encode_name: wanted[field.name]
            for field in msgspec.structs.fields(GuardLimits)
            if wanted[field.name] not in (None, field.default)
        }


class IntegrationBody(RequestModel):
    """An integration to be."""

    organization_id: UUID
    name: Line
    provider: Kind
    sis: Sis | None = None
    region: Region = "us"
    time_zone: Zone | None = Field(default=None, description="an IANA time zone; without one that of the region")
    connection: ConnectionModel | None = Field(
        default_factory=dict,
        validate_default=True,
        description="that of the `provider`; oneroster-csv needs none. Secrets never come back. null where the "
        "district will enter it by a credential link",
    )
    options: OptionsBody = OptionsBody()
    schedule: Any = Field(default=None, validate_default=True, description="when syncs are due; manual without one")
    guard: GuardBody = GuardBody()
    approve_first: StrictBool = Field(default=False, description="whether the first picture waits for approval")
    additions_only: StrictBool = Field(default=False, description="whether nothing is ever removed")
    keep_received: StrictBool = Field(
        default=False, description="whether what the provider sends is kept for a while, to be downloaded"
    )
    takes_over: UUID | None = Field(
        default=None,
        description="a deleted integration of the organization whose records become this one's where ids are the same",
    )

    @field_validator("connection", mode="plain", json_schema_input_type=AnyConnection)
    @classmethod
    def _check_connection(cls, entered: object, info: ValidationInfo) -> ConnectionModel | None:
        provider = info.data.get("provider")
        if provider is None or (entered is None and credentials.asks_for_any(provider)):
            return None
        return credentials.check_kind(provider, entered)

    @field_validator("schedule", mode="plain", json_schema_input_type=AnySchedule | None)
    @classmethod
    def _check_schedule(cls, entered: object) -> Any:
        return check_schedule(entered)


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
    schedule: Any = Field(default=None, description="the whole of the new schedule; null for manual")
    guard: GuardBody | None = Field(default=None, description="limits that change; null for all the defaults")
    approve_first: StrictBool | None = None
    additions_only: StrictBool | None = None
    keep_received: StrictBool | None = None

    @field_validator("schedule", mode="plain", json_schema_input_type=AnySchedule | None)
    @classmethod
    def _check_schedule(cls, entered: object) -> Any:
        return check_schedule(entered)


def read_options(stored: Mapping[str, Any]) -> Options:
    """The options of a row as they go out with a job; what was added since it was stored has its default."""
    return Options(**{**stored, "excluded_schools": tuple(stored.get("excluded_schools", ()))})


def show_guard(stored: Mapping[str, Any]) -> GuardBody:
    """The limits that count for a row, defaults and all."""
    return GuardBody.model_construct(**msgspec.structs.asdict(_read_guard(stored)))


def _read_guard(stored: Mapping[str, Any]) -> GuardLimits:
    return msgspec.convert(stored, GuardLimits)
