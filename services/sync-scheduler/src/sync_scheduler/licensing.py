"""Licenses as they are given, renewed, changed and revoked, and what follows at once or at their beginning (D5, F3)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Self
from uuid import UUID

import asyncpg
import msgspec
from pydantic import AfterValidator, AwareDatetime, Field, StrictBool, StringConstraints, model_validator

from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.grants import DEFAULT_GROUPS, FIELD_GROUPS, GROUP_WORDS, FieldGroup
from homeroom.ids import new_id
from homeroom.messages import LicenseState
from homeroom.problems import Problem
from homeroom.service import RequestModel
from homeroom.telemetry import get_logger
from sync_scheduler import audit, integrations, ledger, licenses, products, slots
from sync_scheduler.ledger import SQL

log = get_logger(__name__)

WakeUp = Callable[[Connection, UUID], Coroutine[Any, Any, object]]
"""Begins what an organization's integrations have missed (`slots.wake_up`)."""

MAX_SCHOOLS = 2000
MAX_SCHOOL_BYTES = 900_000
"""Of all ids of a license together: the state that is told to others has to fit into one message."""
MAX_TOLD_SCHOOLS = 100
_TERMS = ("schools", "grants", "valid_from", "valid_until")
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)


def _check_moment(value: datetime) -> datetime:
    if not _EARLIEST <= value <= _LATEST:
        raise ValueError("the date must be between the years 1970 and 9000; leave it out for no end")
    return value.astimezone(UTC)


Moment = Annotated[AwareDatetime, AfterValidator(_check_moment)]
SchoolId = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]


def _check_schools(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    if len(set(value)) < len(value):
        raise ValueError("a school stands in it twice")
    if len(msgspec.json.encode(value)) > MAX_SCHOOL_BYTES:
        raise ValueError("the ids are too long, taken together")
    return tuple(sorted(value))


def _check_grants(value: tuple[FieldGroup, ...]) -> tuple[FieldGroup, ...]:
    return tuple(sorted(set(value)))


Schools = Annotated[
    Annotated[tuple[SchoolId, ...], Field(min_length=1, max_length=MAX_SCHOOLS)] | None,
    AfterValidator(_check_schools),
    Field(
        description="sourcedIds of the schools it covers, people and classes included; null for all schools",
        examples=[["school-1", "school-2"]],
    ),
]
Grants = Annotated[
    tuple[FieldGroup, ...],
    Field(
        max_length=50,
        description="the groups of fields it opens: "
        + "; ".join(f"`{group}`: {GROUP_WORDS[group]}" for group in FIELD_GROUPS),
        examples=[list(DEFAULT_GROUPS)],
    ),
    AfterValidator(_check_grants),
]


class LicenseBody(RequestModel):
    """A license to be."""

    product_id: UUID
    organization_id: UUID
    schools: Schools = None
    grants: Grants = DEFAULT_GROUPS
    valid_from: Moment | None = Field(default=None, description="now by default")
    valid_until: Moment | None = Field(default=None, description="the first moment without it; null for no end")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.valid_from and self.valid_until and self.valid_until <= self.valid_from:
            raise ValueError("valid_until must be later than valid_from")
        return self


class LicenseEdit(RequestModel):
    """What is left out stays as it is."""

    schools: Schools = None
    grants: Grants | None = None
    valid_until: Moment | None = Field(default=None, description="the new end; null for none")
    revoked: StrictBool = Field(default=False, description="true ends it at once and for good")


async def grant(database: Database, body: LicenseBody, *, by: str, required: bool) -> asyncpg.Record:
    """License a product to an organization. Problems NOT_FOUND, REQUEST_INVALID."""
    new = new_id()

    async def add(connection: Connection) -> asyncpg.Record:
        organization = body.organization_id
        if await connection.fetchval(SQL["share_product"], body.product_id) is None:
            raise products.no_product(body.product_id)
        await _lock_organization(connection, organization)
        now = await ledger.read_time(connection)
        valid_from = body.valid_from or now
        if body.valid_until is not None and body.valid_until <= valid_from:
            raise integrations.refuse_field("valid_until", "it must be later than valid_from, which is now by default")
        before = await licenses.is_active(connection, organization, now, required=required)
        await connection.execute(
            SQL["add_license"],
            new,
            body.product_id,
            organization,
            valid_from,
            body.valid_until,
            valid_from <= now,
            body.schools,
            body.grants,
        )
        row = await _read(connection, new)
        changes = {"product_id": str(body.product_id)} | {name: row[name] for name in _TERMS}
        await _note(connection, by, "license.create", row, changes)
        await connection.execute(SQL["wake"])
        await _follow(connection, organization, now, was_active=before, required=required)
        return await _read(connection, new)

    return await database.transact(add)


async def change(database: Database, license_id: UUID, body: LicenseEdit, *, by: str, required: bool) -> asyncpg.Record:
    """Renew a license, revoke it or change what it covers. Problems NOT_FOUND, REQUEST_INVALID."""

    async def edit(connection: Connection) -> asyncpg.Record:
        parties = await connection.fetchrow(SQL["parties_of_license"], license_id)
        if parties is None:
            raise _no_license(license_id)
        organization = parties["organization"]
        await connection.fetchval(SQL["share_product"], parties["product"])
        await _lock_organization(connection, organization)
        row = await _read(connection, license_id)
        now = await ledger.read_time(connection)
        if row["revoked_at"] is not None:
            raise integrations.refuse_field("revoked", "the license was revoked, which is for good; give a new one")
        wanted = _edit(row, body)
        until = wanted["valid_until"]
        if until is not None and until <= row["valid_from"]:
            raise integrations.refuse_field("valid_until", "it must be later than valid_from")
        before = await licenses.is_active(connection, organization, now, required=required)
        revoked_at = now if body.revoked else None
        await connection.execute(
            SQL["edit_license"], license_id, until, revoked_at, wanted["schools"], wanted["grants"]
        )
        changes = {name: value for name, value in wanted.items() if value != row[name]}
        await _note(connection, by, _name_action(body, changes), row, changes)
        await connection.execute(SQL["wake"])
        await _follow(connection, organization, now, was_active=before, required=required)
        return await _read(connection, license_id)

    return await database.transact(edit)


async def find(database: Database, license_id: UUID, visible: UUID | None) -> asyncpg.Record:
    """A license; with `visible` only if it is that organization's. Problem NOT_FOUND."""
    row = await database.fetchrow(SQL["license"], license_id, visible)
    if row is None:
        raise _no_license(license_id)
    return row


def describe(row: asyncpg.Record) -> LicenseState:
    """What others are told of a license."""
    return LicenseState(
        id=str(row["id"]),
        product_id=str(row["product"]),
        organization_id=str(row["organization"]),
        schools=None if row["schools"] is None else tuple(row["schools"]),
        grants=tuple(row["grants"]),
        valid_from=row["valid_from"],
        valid_until=row["valid_until"],
        revoked_at=row["revoked_at"],
    )


async def begin_due(connection: Connection, limit: int, *, required: bool) -> int:
    """Follow licenses whose beginning came since the last round; returns how many."""
    rows = await connection.fetch(SQL["licenses_to_begin"], limit)
    for row in rows:
        every = list(map(licenses.read, await connection.fetch(SQL["licenses_of"], row["organization"])))
        was_active = licenses.judge(every, row["valid_from"] - licenses.INSTANT, required=required)
        now = await ledger.read_time(connection)
        await _follow(connection, row["organization"], now, was_active=was_active, required=required)
        await connection.execute(SQL["mark_license"], row["id"])
    return len(rows)


async def _follow(
    connection: Connection, organization: UUID, now: datetime, *, was_active: bool, required: bool
) -> None:
    """Where syncs become possible, what was left out is made up for; where they cease to be, they are watched."""
    active = await licenses.is_active(connection, organization, now, required=required)
    if active and not was_active:
        log.info("licenses.active", organization_id=str(organization))
        await slots.wake_up(connection, organization)
        await connection.execute(SQL["wake"])


async def _lock_organization(connection: Connection, organization: UUID) -> None:
    """Whoever changes an organization's licenses comes one after the other. Problem NOT_FOUND."""
    if await connection.fetchval(SQL["lock_organization"], organization) is None:
        raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no organization {organization}.")


async def _read(connection: Connection, license_id: UUID) -> asyncpg.Record:
    row = await connection.fetchrow(SQL["license"], license_id, None)
    assert row is not None  # noqa: S101 - licenses are never deleted
    return row


async def _note(connection: Connection, by: str, action: str, row: asyncpg.Record, changes: Mapping[str, Any]) -> None:
    """Who did it and what became otherwise; of a long list of schools only how long it is."""
    detail = dict(changes)
    schools = detail.get("schools")
    if schools is not None and len(schools) > MAX_TOLD_SCHOOLS:
        detail["schools"] = f"{len(schools):,} schools"
    await audit.note(
        connection,
        by=by,
        action=action,
        organization=row["organization"],
        subject=f"license:{row['id']}",
        detail=detail,
    )


def _edit(row: asyncpg.Record, body: LicenseEdit) -> dict[str, Any]:
    """The terms of a license after an edit; only schools and the end know null as a value of their own."""
    sent = {name: getattr(body, name) for name in body.model_fields_set & set(_TERMS)}
    if sent.get("grants", ()) is None:
        del sent["grants"]
    lists = {name: list(sent[name]) for name in ("schools", "grants") if sent.get(name) is not None}
    return {name: row[name] for name in _TERMS if name != "valid_from"} | sent | lists


def _name_action(body: LicenseEdit, changes: Mapping[str, Any]) -> str:
    if body.revoked:
        return "license.revoke"
    return "license.edit" if changes.keys() - {"valid_until"} else "license.renew"


def _no_license(license_id: UUID) -> Problem:
    return Problem(Code.NOT_FOUND, status=404, detail=f"There is no license {license_id}.")
