"""Portal applications: upstreams that serve many districts; looked after by the platform alone."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from homeroom import audit
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.problems import Problem
from sso.connections.bodies import ApplicationBody, ApplicationEdit, take_tenant_name
from sso.connections.configs import refuse
from sso.connections.registry import Settled, check_product, resettle_oidc, settle_oidc
from sso.connections.upstreams import Kind, OidcConfig, decode_config
from sso.statements import SQL


class Applications:
    """The use cases of portal applications. `by` is the subject of the caller's token."""

    def __init__(self, database: Database, *, public_key: str, allow_private: bool) -> None:
        self._database = database
        self._public_key = public_key
        self._allow_private = allow_private

    async def create(self, body: ApplicationBody, *, by: str) -> asyncpg.Record:
        """Add an application. Problems REQUEST_INVALID, ENDPOINT_REFUSED."""
        application_id = new_id()
        place = (application_id, body.kind)
        settled = settle_oidc(*place, body.oidc, self._public_key, allow_private=self._allow_private)
        _check_tenant(body.kind, settled)

        async def add(connection: Connection) -> asyncpg.Record:
            await check_product(connection, body.product_id)
            await connection.execute(
                SQL["add_upstream"],
                *(application_id, body.kind, True, body.name, body.product_id, settled.stored, body.enabled),
                *(settled.sealed_secret, None, []),
            )
            await _note(connection, by, "create", application_id, sorted(body.model_fields_set))
            return await _show(connection, application_id)

        return await self._database.transact(add)

    async def read(self, application_id: UUID) -> asyncpg.Record:
        """One application. Problem NOT_FOUND."""
        row = await self._database.fetchrow(SQL["show_application"], application_id)
        if row is None:
            raise no_application(application_id)
        return row

    async def list(self, search: str, kind: Kind | None, after: UUID, limit: int) -> list[asyncpg.Record]:
        """Applications with ids after one, whose names hold a text."""
        return await self._database.fetch(SQL["list_applications"], search.strip(), kind, after, limit)

    async def change(self, application_id: UUID, body: ApplicationEdit, *, by: str) -> asyncpg.Record:
        """Change what was sent. Problems NOT_FOUND, REQUEST_INVALID, ENDPOINT_REFUSED, SECRET_REQUIRED."""

        async def edit(connection: Connection) -> asyncpg.Record:
            row = await _lock(connection, application_id)
            config = decode_config(row["kind"], row["config"])
            assert isinstance(config, OidcConfig)  # noqa: S101 - others are never shared
            settled = Settled(config)
            if body.oidc:
                place = (application_id, row["kind"])
                settled = resettle_oidc(*place, config, body.oidc, self._public_key, allow_private=self._allow_private)
                _check_tenant(row["kind"], settled)
            enabled = row["enabled"] if body.enabled is None else body.enabled
            product_id = body.product_id if "product_id" in body.model_fields_set else row["product_id"]
            await check_product(connection, product_id)
            await connection.execute(
                SQL["edit_upstream"],
                *(application_id, body.name or row["name"], product_id, settled.stored, enabled),
                *(settled.sealed_secret, None, []),
            )
            await _note(connection, by, "change", application_id, sorted(body.model_fields_set))
            return await _show(connection, application_id)

        return await self._database.transact(edit)

    async def delete(self, application_id: UUID, *, by: str) -> None:
        """End an application no connection goes through. Problems NOT_FOUND, APPLICATION_IN_USE."""

        async def end(connection: Connection) -> None:
            await _lock(connection, application_id)
            if await connection.fetchval(SQL["is_in_use"], application_id):
                detail = "Connections go through this portal application."
                raise Problem(Code.APPLICATION_IN_USE, status=409, detail=detail)
            await connection.execute(SQL["delete_upstream"], application_id)
            await _note(connection, by, "delete", application_id)

        await self._database.transact(end)


def no_application(application_id: UUID) -> Problem:
    """There is none with this id."""
    return Problem(Code.NOT_FOUND, status=404, detail=f"There is no portal application {application_id}.")


def _check_tenant(kind: Kind, settled: Settled) -> None:
    """Districts are told apart by the tenant alone. Problem REQUEST_INVALID where nothing names it."""
    if take_tenant_name(kind, settled.stored) is None:
        raise refuse([("oidc.tenant_claim", "say where the provider names the district, by which they are told apart")])


async def _lock(connection: Connection, application_id: UUID) -> asyncpg.Record:
    row = await connection.fetchrow(SQL["lock_application"], application_id)
    if row is None:
        raise no_application(application_id)
    return row


async def _show(connection: Connection, application_id: UUID) -> asyncpg.Record:
    row = await connection.fetchrow(SQL["show_application"], application_id)
    assert row is not None  # noqa: S101 - it was written in this transaction
    return row


async def _note(
    connection: Connection, by: str, verb: str, application_id: UUID, fields: list[str] | None = None
) -> None:
    await audit.note(
        connection,
        by=by,
        action=f"portal-application.{verb}",
        organization=None,
        subject=f"portal-application:{application_id}",
        detail=None if fields is None else {"fields": fields},
    )
