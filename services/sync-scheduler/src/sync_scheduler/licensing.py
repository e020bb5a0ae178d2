"""Products and licenses as they are given, renewed and revoked, and what follows at once or at their beginning (D5)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any, Self
from uuid import UUID

import asyncpg
from pydantic import AfterValidator, AwareDatetime, Field, StrictBool, model_validator

from homeroom.codes import Code
from homeroom.connections import Line
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.problems import Problem
from homeroom.service import RequestModel
from homeroom.telemetry import get_logger
from sync_scheduler import audit, integrations, ledger, licenses, slots
from sync_scheduler.ledger import SQL

log = get_logger(__name__)

WakeUp = Callable[[Connection, UUID], Coroutine[Any, Any, object]]
"""Begins what an organization's integrations have missed (`slots.wake_up`)."""

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)


def _check_moment(value: datetime) -> datetime:
    if not _EARLIEST <= value <= _LATEST:
        raise ValueError("the date must be between the years 1970 and 9000; leave it out for no end")
    return value.astimezone(UTC)


Moment = Annotated[AwareDatetime, AfterValidator(_check_moment)]


class ProductBody(RequestModel):
    """A product to be."""

    name: Line


class LicenseBody(RequestModel):
    """A license to be."""

    product_id: UUID
    organization_id: UUID
    valid_from: Moment | None = Field(default=None, description="now by default")
    valid_until: Moment | None = Field(default=None, description="the first moment without it; null for no end")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.valid_from and self.valid_until and self.valid_until <= self.valid_from:
            raise ValueError("valid_until must be later than valid_from")
        return self


class LicenseEdit(RequestModel):
    """What is left out stays as it is."""

    valid_until: Moment | None = Field(default=None, description="the new end; null for none")
    revoked: StrictBool = Field(default=False, description="true ends it at once and for good")


async def add_product(database: Database, body: ProductBody, *, by: str) -> asyncpg.Record:
    """Add a product."""
    product = new_id()

    async def add(connection: Connection) -> asyncpg.Record:
        await connection.execute(SQL["add_product"], product, body.name)
        await audit.note(connection, by=by, action="product.create", organization=None, subject=f"product:{product}")
        row = await connection.fetchrow(SQL["product"], product)
        assert row is not None  # noqa: S101 - it was added above, in the same transaction
        return row

    return await database.transact(add)


async def grant(database: Database, body: LicenseBody, *, by: str, required: bool) -> asyncpg.Record:
    """License a product to an organization. Problems NOT_FOUND, REQUEST_INVALID."""
    new = new_id()

    async def add(connection: Connection) -> asyncpg.Record:
        organization = body.organization_id
        await _lock_organization(connection, organization)
        if await connection.fetchrow(SQL["product"], body.product_id) is None:
            raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no product {body.product_id}.")
        now = await ledger.read_time(connection)
        valid_from = body.valid_from or now
        if body.valid_until is not None and body.valid_until <= valid_from:
            raise integrations.refuse_field("valid_until", "it must be later than valid_from, which is now by default")
        before = await licenses.is_active(connection, organization, now, required=required)
        await connection.execute(
            SQL["add_license"], new, body.product_id, organization, valid_from, body.valid_until, valid_from <= now
        )
        await _note(connection, by, "license.create", organization, new)
        await _follow(connection, organization, now, was_active=before, required=required)
        return await _read(connection, new)

    return await database.transact(add)


async def change(database: Database, license_id: UUID, body: LicenseEdit, *, by: str, required: bool) -> asyncpg.Record:
    """Renew or revoke a license. Problems NOT_FOUND, REQUEST_INVALID."""

    async def edit(connection: Connection) -> asyncpg.Record:
        organization = await connection.fetchval(SQL["organization_of_license"], license_id)
        if organization is None:
            raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no license {license_id}.")
        await _lock_organization(connection, organization)
        row = await _read(connection, license_id)
        now = await ledger.read_time(connection)
        if row["revoked_at"] is not None:
            raise integrations.refuse_field("revoked", "the license was revoked, which is for good; give a new one")
        until = body.valid_until if "valid_until" in body.model_fields_set else row["valid_until"]
        if until is not None and until <= row["valid_from"]:
            raise integrations.refuse_field("valid_until", "it must be later than valid_from")
        before = await licenses.is_active(connection, organization, now, required=required)
        await connection.execute(SQL["edit_license"], license_id, until, now if body.revoked else None)
        action = "license.revoke" if body.revoked else "license.renew"
        await _note(connection, by, action, organization, license_id)
        await _follow(connection, organization, now, was_active=before, required=required)
        return await _read(connection, license_id)

    return await database.transact(edit)


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
    row = await connection.fetchrow(SQL["license"], license_id)
    assert row is not None  # noqa: S101 - licenses are never deleted
    return row


async def _note(connection: Connection, by: str, action: str, organization: UUID, license_id: UUID) -> None:
    await audit.note(connection, by=by, action=action, organization=organization, subject=f"license:{license_id}")
