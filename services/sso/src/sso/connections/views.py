"""Connections and portal applications as admins read them: no secrets, and what to enter at the other side."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg
import msgspec
from pydantic import BaseModel, ConfigDict, Field

from homeroom.codes import Code
from sso.connections.trust import describe_certificate
from sso.connections.upstreams import Kind, PersonField, SamlConfig, decode_config
from sso.connections.warnings import Facts, warn

_ID = "0190f3a1-7d2e-7c11-9b54-2f6c1e8d0a37"


class OidcRead(BaseModel):
    """An OpenID provider, without its secret."""

    issuer: str = Field(examples=["https://launchpad.classlink.com"])
    client_id: str
    discovery_url: str | None = None
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    jwks_uri: str | None = None
    userinfo_endpoint: str | None = None
    info_url: str | None = None
    openid: bool
    scopes: list[str] | None = None
    tenant_claim: str | None = None
    person_claim: str | None = None
    pkce: bool | None = None
    algorithms: list[str]
    secret_entered_at: datetime | None = Field(description="when the client secret was entered")


class CertificateRead(BaseModel):
    """A certificate whose signatures are trusted."""

    fingerprint: str = Field(description="SHA-256, as portals show it")
    begins_at: datetime
    ends_at: datetime


class SamlRead(BaseModel):
    """A SAML identity provider, as it was accepted."""

    entity_id: str
    sso_url: str
    slo_url: str | None = None
    certificates: list[CertificateRead]
    metadata_url: str | None = None
    metadata_read_at: datetime | None = Field(description="when its metadata could be read last")
    idp_initiated: bool
    allow_sha1_until: datetime | None = None
    allow_unsigned_assertion: bool
    person_attribute: str | None = None
    tenant_attribute: str | None = None
    name_attribute: str | None = None
    subject_attribute: str | None = None
    name_id_format: str | None = None
    encrypted: bool
    max_lifetime_seconds: int


class PortalRead(BaseModel):
    """What an admin enters at the portal or identity provider."""

    launch_url: str = Field(
        description="for tiles; `?product=` and `&destination=` say what is opened",
        examples=[f"https://homeroom.example/sso/launch/{_ID}"],
    )
    redirect_uri: str | None = Field(description="for OpenID Connect and OAuth 2")
    metadata_url: str | None = Field(description="for SAML: ours, which holds all that follows")
    entity_id: str | None
    acs_url: str | None
    slo_url: str | None


class WarningRead(BaseModel):
    """What should be looked after."""

    code: str = Field(examples=[str(Code.CERTIFICATE_EXPIRES)])
    message: str = Field(examples=["A certificate runs out on 2026-12-24, in 32 days."])
    next_step: str


class ConnectionRead(BaseModel):
    """A connection, without secrets."""

    id: UUID
    organization_id: UUID
    organization: str | None = Field(examples=["North District"])
    kind: Kind
    name: str
    integration_id: UUID | None
    integration_deleted: bool = Field(description="its people may go on; nobody is added any more")
    tenant: str | None
    application_id: UUID | None = Field(description="the portal application it goes through")
    product_id: UUID | None
    person_field: PersonField
    rostering: Literal["required", "optional"]
    max_roster_age_hours: int | None
    enabled: bool
    oidc: OidcRead | None = Field(description="null for SAML, and where a portal application has these settings")
    saml: SamlRead | None
    portal: PortalRead
    warnings: list[WarningRead]
    created_at: datetime
    updated_at: datetime

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": _ID, "kind": "classlink", "name": "LaunchPad"}]})


class ConnectionPage(BaseModel):
    """Some connections, and the cursor of what follows."""

    items: list[ConnectionRead]
    cursor: str | None = Field(description="send it to get those that follow; null at the end")


class ApplicationRead(BaseModel):
    """A portal application, without its secret."""

    id: UUID
    kind: Kind
    name: str
    product_id: UUID | None
    enabled: bool
    connections: int = Field(description="how many districts' connections go through it")
    oidc: OidcRead
    portal: PortalRead
    warnings: list[WarningRead]
    created_at: datetime
    updated_at: datetime


class ApplicationPage(BaseModel):
    """Some portal applications, and the cursor of what follows."""

    items: list[ApplicationRead]
    cursor: str | None


def show_connection(row: asyncpg.Record, *, origin: str, key_id: str, now: datetime) -> ConnectionRead:
    """A row of `connection_view`. `key_id` names the key that secrets are sealed to now."""
    own = not row["shared"]
    config = decode_config(row["kind"], row["config"])
    saml = config if isinstance(config, SamlConfig) else None
    facts = Facts(
        certificate_ends=row["certificate_ends"],
        sha1_until=None if saml is None else saml.allow_sha1_until,
        change_found_at=row["change_found_at"],
        failing_since=row["failing_since"],
        problem=row["problem"],
        sealed=(row["sealed_secret"], row["sealed_key"]) if own else (),
        key_id=key_id,
    )
    return ConnectionRead(
        **{name: row[name] for name in ConnectionRead.model_fields if name in row},
        organization=row["organization_name"],
        application_id=None if own else row["upstream_id"],
        oidc=_show_oidc(row) if own and saml is None else None,
        saml=None if saml is None else _show_saml(saml, row),
        portal=_show_portal(row["upstream_id"], origin, saml=saml is not None),
        warnings=_show_warnings(facts, now),
    )


def show_application(row: asyncpg.Record, *, origin: str, key_id: str, now: datetime) -> ApplicationRead:
    """A row of `show_application`."""
    facts = Facts(sealed=(row["sealed_secret"],), key_id=key_id)
    return ApplicationRead(
        **{name: row[name] for name in ApplicationRead.model_fields if name in row},
        oidc=_show_oidc(row),
        portal=_show_portal(row["id"], origin, saml=False),
        warnings=_show_warnings(facts, now),
    )


def _show_oidc(row: asyncpg.Record) -> OidcRead:
    config = decode_config(row["kind"], row["config"])
    return OidcRead(**msgspec.structs.asdict(config), secret_entered_at=row["secret_since"])


def _show_saml(config: SamlConfig, row: asyncpg.Record) -> SamlRead:
    shown: dict[str, Any] = msgspec.structs.asdict(config)
    shown["certificates"] = [describe_certificate(one) for one in config.certificates]
    return SamlRead(**shown, metadata_read_at=row["read_at"])


def _show_portal(upstream_id: UUID, origin: str, *, saml: bool) -> PortalRead:
    base = f"{origin}/sso/saml/{upstream_id}"
    return PortalRead(
        launch_url=f"{origin}/sso/launch/{upstream_id}",
        redirect_uri=None if saml else f"{origin}/sso/callback/{upstream_id}",
        metadata_url=f"{base}/metadata" if saml else None,
        entity_id=f"{base}/metadata" if saml else None,
        acs_url=f"{base}/acs" if saml else None,
        slo_url=f"{base}/slo" if saml else None,
    )


def _show_warnings(facts: Facts, now: datetime) -> list[WarningRead]:
    return [
        WarningRead(code=one.code, message=one.message, next_step=Code(one.code).entry.next_step)
        for one in warn(facts, now)
    ]
