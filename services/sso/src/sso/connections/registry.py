"""The connections of districts: made, listed, changed and ended by admins, and written down in the audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from homeroom import audit
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.problems import Problem
from homeroom.secrets import seal
from sso.connections.bodies import (
    ConnectionBody,
    ConnectionEdit,
    OidcBody,
    object_to_connection,
    take_tenant_name,
)
from sso.connections.configs import change_oidc, enter_oidc, refuse, refuse_if
from sso.connections.quirks import QUIRKS
from sso.connections.saml_configs import SamlConfigs
from sso.connections.trust import Trust
from sso.connections.upstreams import (
    SAML_KINDS,
    Kind,
    OidcConfig,
    SamlConfig,
    decode_config,
    key_context,
    secret_context,
)
from sso.statements import SQL

MOST_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Settled:
    """An upstream's part of a connection, ready to be written: secrets are sealed."""

    config: OidcConfig | SamlConfig
    sealed_secret: str | None = None
    sealed_key: str | None = None

    @property
    def stored(self) -> dict[str, Any]:
        """The configuration as it is stored."""
        found: dict[str, Any] = msgspec.to_builtins(self.config)
        return found

    @property
    def certificate_ends(self) -> list[Any]:
        """When the pinned certificates run out."""
        return Trust.of(self.config).ends if isinstance(self.config, SamlConfig) else []


class _Changed(Exception):  # noqa: N818 - somebody else was faster
    """The upstream is not as it was read."""


class Connections:
    """The use cases of connections. `visible` is the one organization a caller may see, None for all; `by` calls."""

    def __init__(self, database: Database, configs: SamlConfigs, *, public_key: str, allow_private: bool) -> None:
        self._database = database
        self._configs = configs
        self._public_key = public_key
        self._allow_private = allow_private

    async def create(self, body: ConnectionBody, visible: UUID | None, *, by: str) -> asyncpg.Record:
        """Add a connection.

        Problems NOT_FOUND, REQUEST_INVALID, ENDPOINT_REFUSED, METADATA_REFUSED, TENANT_CONNECTED, SCOPE_MISSING.
        """
        if visible not in (None, body.organization_id):
            raise _no_organization(body.organization_id)
        connection_id = new_id()
        settled = None
        if body.application_id is None:
            settled = await self._settle(connection_id, body)
            refuse_if(_object_to(body, settled.config))
        elif visible is not None:
            raise _platform_only("A connection through a portal application")
        elif body.oidc is not None or body.saml is not None or body.product_id is not None:
            raise refuse([("application_id", "the portal application has these settings: oidc, saml, product_id")])

        async def add(connection: Connection) -> asyncpg.Record:
            await _check_places(connection, body)
            if settled is None:
                await _join_application(connection, body)
            else:
                await connection.execute(
                    SQL["add_upstream"],
                    *(connection_id, body.kind, False, body.name, body.product_id, settled.stored, True),
                    *(settled.sealed_secret, settled.sealed_key, settled.certificate_ends),
                )
                await _follow_metadata(connection, connection_id, settled.config)
            try:
                await connection.execute(
                    SQL["add_connection"],
                    *(connection_id, body.organization_id, body.application_id or connection_id, body.name),
                    *(body.tenant, body.integration_id, body.person_field, body.rostering),
                    *(body.max_roster_age_hours, body.enabled),
                )
            except asyncpg.UniqueViolationError:
                raise _tenant_connected() from None
            row = await _show(connection, connection_id, visible)
            await _note(connection, by, "create", row, sorted(body.model_fields_set - {"organization_id"}))
            return row

        return await self._database.transact(add)

    async def read(self, connection_id: UUID, visible: UUID | None) -> asyncpg.Record:
        """One connection. Problem NOT_FOUND, also for those of others."""
        row = await self._database.fetchrow(SQL["show_connection"], connection_id, visible)
        if row is None:
            raise no_connection(connection_id)
        return row

    async def list(
        self,
        visible: UUID | None,
        *,
        search: str = "",
        kind: Kind | None = None,
        state: str | None = None,
        application_id: UUID | None = None,
        tenant: str | None = None,
        after: UUID,
        limit: int,
    ) -> list[asyncpg.Record]:
        """Connections with ids after one, of one organization or all, narrowed by what is given."""
        narrowed = (search.strip(), kind, state, application_id, tenant)
        return await self._database.fetch(SQL["list_connections"], visible, *narrowed, after, limit)

    async def change(
        self, connection_id: UUID, body: ConnectionEdit, visible: UUID | None, *, by: str
    ) -> asyncpg.Record:
        """Change what was sent. Problems as `create`, and SECRET_REQUIRED."""
        for _ in range(MOST_TRIES):
            before = await self.read(connection_id, visible)
            sent = body.model_fields_set
            if before["shared"]:
                if sent & {"oidc", "saml", "product_id"}:
                    raise refuse([("oidc", "the portal application has these settings: oidc, saml, product_id")])
                if visible is not None and "tenant" in sent and body.tenant != before["tenant"]:
                    raise _platform_only("The tenant of a connection through a portal application")
            settled = await self._resettle(before, body)
            wanted = _merge(before, body)
            refuse_if(_object_to(wanted, settled.config))
            try:
                return await self._database.transact(
                    lambda connection: self._write(connection, before, wanted, settled, visible, by, sent)  # noqa: B023 - it is awaited within the round
                )
            except _Changed:
                continue
        detail = "Others keep changing the connection."
        raise Problem(Code.BUSY, status=503, detail=detail, headers={"Retry-After": "5"})

    async def delete(self, connection_id: UUID, visible: UUID | None, *, by: str) -> None:
        """End a connection: nobody comes in by it any more, and its secrets are gone. Problem NOT_FOUND."""

        async def end(connection: Connection) -> None:
            row = await _lock(connection, connection_id, visible)
            await _note(connection, by, "delete", row)
            await connection.execute(SQL["delete_connection"], connection_id)
            if not row["shared"]:
                await connection.execute(SQL["delete_upstream"], row["upstream_id"])
                await connection.execute(SQL["drop_metadata"], row["upstream_id"])

        await self._database.transact(end)

    async def _settle(self, upstream_id: UUID, body: ConnectionBody) -> Settled:
        """The upstream of a connection with credentials of its own."""
        wanted, other = ("saml", "oidc") if body.kind in SAML_KINDS else ("oidc", "saml")
        if getattr(body, wanted) is None or getattr(body, other) is not None:
            raise refuse([(wanted, f"a connection of this kind has {wanted}, or an application_id, and nothing else")])
        if body.saml is not None:
            config = await self._configs.enter(body.saml)
            return await self._make_key_if_needed(upstream_id, Settled(config), None)
        assert body.oidc is not None  # noqa: S101 - seen above
        return settle_oidc(upstream_id, body.kind, body.oidc, self._public_key, allow_private=self._allow_private)

    async def _resettle(self, before: asyncpg.Record, body: ConnectionEdit) -> Settled:
        """The upstream as it is wanted now; sealed texts that stay are None."""
        config = decode_config(before["kind"], before["config"])
        wanted, other = ("saml", "oidc") if isinstance(config, SamlConfig) else ("oidc", "saml")
        if getattr(body, other) is not None:
            raise refuse([(other, f"a connection of this kind has {wanted}")])
        if isinstance(config, SamlConfig):
            changed = await self._configs.change(config, body.saml) if body.saml else config
            return await self._make_key_if_needed(before["upstream_id"], Settled(changed), before["sealed_key"])
        if not body.oidc:
            return Settled(config)
        place = (before["upstream_id"], before["kind"])
        return resettle_oidc(*place, config, body.oidc, self._public_key, allow_private=self._allow_private)

    async def _make_key_if_needed(self, upstream_id: UUID, settled: Settled, sealed_key: str | None) -> Settled:
        config = settled.config
        assert isinstance(config, SamlConfig)  # noqa: S101 - its callers look
        wanted = config.encrypted or config.slo_url is not None
        if not wanted or (sealed_key is not None and config.encryption_certificate is not None):
            return settled
        private, certificate = await self._configs.make_key()
        ours = msgspec.structs.replace(config, encryption_certificate=certificate)
        return Settled(ours, None, seal(self._public_key, key_context(upstream_id), private))

    async def _write(
        self,
        connection: Connection,
        before: asyncpg.Record,
        wanted: ConnectionBody,
        settled: Settled,
        visible: UUID | None,
        by: str,
        sent: set[str],
    ) -> asyncpg.Record:
        row = await _lock(connection, before["id"], visible)
        if (row["revision"], row["updated_at"]) != (before["revision"], before["updated_at"]):
            raise _Changed
        await _check_places(connection, wanted)
        try:
            await connection.execute(
                SQL["edit_connection"],
                *(row["id"], wanted.name, wanted.tenant, wanted.integration_id, wanted.person_field),
                *(wanted.rostering, wanted.max_roster_age_hours, wanted.enabled),
            )
        except asyncpg.UniqueViolationError:
            raise _tenant_connected() from None
        if not row["shared"]:
            await connection.execute(
                SQL["edit_upstream"],
                *(row["upstream_id"], wanted.name, wanted.product_id, settled.stored, True),
                *(settled.sealed_secret, settled.sealed_key, settled.certificate_ends),
            )
            if _trusts_anew(decode_config(row["kind"], row["config"]), settled.config):
                await _follow_metadata(connection, row["upstream_id"], settled.config)
        await _note(connection, by, "change", row, sorted(sent), settled)
        return await _show(connection, row["id"], visible)


# ── what portal applications share ────────────────────────────────────────────────────────────────────────────────


def settle_oidc(upstream_id: UUID, kind: Kind, body: OidcBody, public_key: str, *, allow_private: bool) -> Settled:
    """A new OpenID provider. Problems REQUEST_INVALID, ENDPOINT_REFUSED."""
    config, secret = enter_oidc(kind, body, allow_private=allow_private)
    if secret is None:
        raise refuse([("oidc.client_secret", "it is what proves to the portal that we are who we say")])
    return Settled(config, seal(public_key, secret_context(upstream_id), secret))


def resettle_oidc(
    upstream_id: UUID, kind: Kind, config: OidcConfig, wish: dict[str, Any], public_key: str, *, allow_private: bool
) -> Settled:
    """An OpenID provider with some settings changed. Problems REQUEST_INVALID, ENDPOINT_REFUSED, SECRET_REQUIRED."""
    changed, secret = change_oidc(kind, config, wish, allow_private=allow_private)
    return Settled(changed, None if secret is None else seal(public_key, secret_context(upstream_id), secret))


async def check_product(connection: Connection, product_id: UUID | None) -> None:
    """Problem REQUEST_INVALID for a product nobody has heard of."""
    if product_id is not None and await connection.fetchrow(SQL["find_product"], product_id) is None:
        raise refuse([("product_id", "there is no such product")])


def no_connection(connection_id: UUID) -> Problem:
    """Nothing there, or nothing the caller may see."""
    return Problem(Code.NOT_FOUND, status=404, detail=f"There is no connection {connection_id}.")


# ── one connection ────────────────────────────────────────────────────────────────────────────────────────────────


def _object_to(wanted: ConnectionBody, config: OidcConfig | SamlConfig) -> list[tuple[str, str]]:
    return object_to_connection(
        wanted.kind,
        tenant=wanted.tenant,
        integration_id=wanted.integration_id,
        rostering=wanted.rostering,
        tenant_named=take_tenant_name(wanted.kind, msgspec.to_builtins(config)),
        issuer=config.issuer if isinstance(config, OidcConfig) else None,
    )


def _merge(before: asyncpg.Record, body: ConnectionEdit) -> ConnectionBody:
    """The connection as it is wanted now, but for its upstream's settings."""
    sent = {name: getattr(body, name) for name in body.model_fields_set - {"oidc", "saml"}}
    may_be_empty = {"integration_id", "tenant", "product_id", "max_roster_age_hours"}
    changed = {name: value for name, value in sent.items() if value is not None or name in may_be_empty}
    kept = {
        name: before[name] for name in ConnectionBody.model_fields if name not in {"oidc", "saml", "application_id"}
    }
    return ConnectionBody.model_construct(**{**kept, **changed})


async def _lock(connection: Connection, connection_id: UUID, visible: UUID | None) -> asyncpg.Record:
    locked = await connection.fetchrow(SQL["lock_connection"], connection_id, visible)
    if locked is None:
        raise no_connection(connection_id)
    await connection.fetchrow(SQL["lock_upstream"], locked["upstream_id"])
    return await _show(connection, connection_id, visible)


async def _show(connection: Connection, connection_id: UUID, visible: UUID | None) -> asyncpg.Record:
    row = await connection.fetchrow(SQL["show_connection"], connection_id, visible)
    assert row is not None  # noqa: S101 - it was written or locked in this transaction
    return row


async def _check_places(connection: Connection, wanted: ConnectionBody) -> None:
    """Problem NOT_FOUND or REQUEST_INVALID unless all are known and belong together; a deleted integration does."""
    organization_id, integration_id = wanted.organization_id, wanted.integration_id
    if not await connection.fetchval(SQL["knows_organization"], organization_id):
        raise _no_organization(organization_id)
    if integration_id is not None and not await connection.fetchval(
        SQL["owns_integration"], integration_id, organization_id
    ):
        raise refuse([("integration_id", "the organization has no such integration")])
    await check_product(connection, wanted.product_id)


async def _join_application(connection: Connection, body: ConnectionBody) -> None:
    row = await connection.fetchrow(SQL["share_application"], body.application_id)
    if row is None:
        raise refuse([("application_id", "there is no such portal application")])
    if row["kind"] != body.kind:
        raise refuse([("kind", f"the portal application is of the kind {row['kind']}")])
    config = decode_config(row["kind"], row["config"])
    refuse_if(_object_to(body, config))
    if body.tenant is None:
        raise refuse([("tenant", f"{QUIRKS[body.kind].portal} serves many districts, so say which one this is")])


def _trusts_anew(before: OidcConfig | SamlConfig, after: OidcConfig | SamlConfig) -> bool:
    if not (isinstance(before, SamlConfig) and isinstance(after, SamlConfig)):
        return False
    return Trust.of(before).hash != Trust.of(after).hash or before.metadata_url != after.metadata_url


async def _follow_metadata(connection: Connection, upstream_id: UUID, config: OidcConfig | SamlConfig) -> None:
    """What was accepted just now counts; its metadata, if it has an address, is read again tomorrow."""
    await connection.execute(SQL["drop_metadata_change"], upstream_id)
    if isinstance(config, SamlConfig) and config.metadata_url is not None:
        await connection.execute(SQL["follow_metadata"], upstream_id)
    else:
        await connection.execute(SQL["drop_metadata"], upstream_id)


async def _note(
    connection: Connection,
    by: str,
    verb: str,
    row: asyncpg.Record,
    fields: list[str] | None = None,
    settled: Settled | None = None,
) -> None:
    detail: dict[str, Any] = {} if fields is None else {"fields": fields}
    config = decode_config(row["kind"], row["config"]) if settled is None else settled.config
    if verb != "delete" and isinstance(config, SamlConfig):
        if settled is None or _trusts_anew(decode_config(row["kind"], row["config"]), config):
            detail["trust"] = Trust.of(config).hash
        if config.allow_sha1_until is not None:
            detail["allow_sha1_until"] = config.allow_sha1_until.isoformat()
    await audit.note(
        connection,
        by=by,
        action=f"connection.{verb}",
        organization=row["organization_id"],
        subject=f"connection:{row['id']}",
        detail=detail,
    )


def _tenant_connected() -> Problem:
    detail = "Another connection through this portal application has the tenant."
    return Problem(Code.TENANT_CONNECTED, status=409, detail=detail)


def _platform_only(what: str) -> Problem:
    detail = f"{what} is settled with a token that is not bound to an organization."
    return Problem(Code.SCOPE_MISSING, status=403, detail=detail)


def _no_organization(organization: UUID) -> Problem:
    return Problem(Code.NOT_FOUND, status=404, detail=f"There is no organization {organization}.")
