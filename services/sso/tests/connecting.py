"""Puts connections into sso's tables for tests, without the REST interface: `make_connection`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID, uuid4

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from roster_stand_in import make_district

from homeroom.db import Database
from homeroom.secrets import seal
from sso.connections.quirks import QUIRKS
from sso.connections.upstreams import SAML_KINDS, Kind, OidcConfig, SamlConfig, key_context, secret_context
from sso.settings import Settings

NEVER_MATCHED = "https://idp.test"


@cache
def make_key(name: str = "idp") -> rsa.RSAPrivateKey:
    """An RSA key that is the same whenever it is asked for by this name: making one takes a while."""
    _ = name
    return rsa.generate_private_key(65537, 2048)


def make_certificate(
    name: str = "idp", *, key: rsa.RSAPrivateKey | None = None, begins_days: float = -30, ends_days: float = 365
) -> str:
    """A self-signed certificate in PEM, for `make_key(name)` unless a key is given; days count from now."""
    key, now = key or make_key(name), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begins_days))
        .not_valid_after(now + timedelta(days=ends_days))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def to_pem(key: rsa.RSAPrivateKey) -> str:
    """A private key in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def make_config(kind: Kind, **config: Any) -> OidcConfig | SamlConfig:
    """A configuration of a kind, with what must be there filled in; for SAML the certificate of `make_key("idp")`."""
    if kind in SAML_KINDS:
        least = {"entity_id": NEVER_MATCHED, "sso_url": f"{NEVER_MATCHED}/sso"}
        return msgspec.convert(
            {**least, "certificates": config.pop("certificates", None) or [make_certificate()]} | config, SamlConfig
        )
    return msgspec.convert(
        {"issuer": QUIRKS[kind].issuer or NEVER_MATCHED, "client_id": "homeroom", **config}, OidcConfig
    )


async def make_connection(
    database: Database,
    settings: Settings,
    *,
    kind: Kind = "oidc",
    shared: bool = False,
    upstream_id: UUID | None = None,
    organization_id: UUID | None = None,
    integration_id: UUID | None = None,
    product_id: UUID | None = None,
    tenant: str | None = None,
    secret: str | None = "upstream-secret-0123456789",  # noqa: S107 - made up
    private_key: str | None = None,
    rostering: str = "required",
    person_field: str = "sourcedId",
    max_roster_age_hours: int | None = None,
    enabled: bool = True,
    name: str = "Sign-in",
    **config: Any,
) -> tuple[UUID, UUID]:
    """A connection and its upstream; their ids, which are the same unless the upstream is shared.

    With `upstream_id` it is added to a shared upstream that is there already. Without `organization_id` a new district
    is made; without `integration_id` the organization's first one is taken, if it has any. `product_id` is what a tile
    without further words opens, `private_key` the PEM for encrypted assertions, and `config` holds fields of
    `OidcConfig` or `SamlConfig`.
    """
    if organization_id is None:
        organization_id = (await make_district(database)).organization_id
    if integration_id is None:
        integration_id = await database.fetchval(
            "SELECT id FROM integration WHERE organization_id = $1 ORDER BY id LIMIT 1", organization_id
        )
    connection_id = uuid4()
    if upstream_id is None:
        upstream_id = uuid4() if shared else connection_id
        public_key = settings.sealing_keys.public_key
        await database.fetch(
            "INSERT INTO upstream (id, kind, shared, name, product_id, config, sealed_secret, sealed_key) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            upstream_id,
            kind,
            shared,
            name,
            product_id,
            msgspec.to_builtins(make_config(kind, **config)),
            None if secret is None or kind in SAML_KINDS else seal(public_key, secret_context(upstream_id), secret),
            None if private_key is None else seal(public_key, key_context(upstream_id), private_key),
        )
    await database.fetch(
        "INSERT INTO connection (id, organization_id, upstream_id, name, tenant, integration_id, person_field, "
        "rostering, max_roster_age_hours, enabled) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        connection_id,
        organization_id,
        upstream_id,
        name,
        tenant,
        integration_id,
        person_field,
        rostering,
        max_roster_age_hours,
        enabled,
    )
    return upstream_id, connection_id
