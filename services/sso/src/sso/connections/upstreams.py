"""Identity providers as sso uses them: what they are, what is trusted of them, and their secrets opened.

An upstream is either an application at a portal that serves many districts (`shared`: Clever, ClassLink) or belongs to
one connection, whose id it has then. What kinds of provider do differently stands in `sso.connections.quirks`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import asyncpg
import msgspec

from homeroom.clock import Clock
from homeroom.db import Database
from homeroom.secrets import SealingKeys
from sso.statements import SQL

Kind = Literal["classlink", "clever", "oidc", "classlink-saml", "saml"]
KINDS: Final[tuple[Kind, ...]] = ("classlink", "clever", "oidc", "classlink-saml", "saml")
SAML_KINDS: Final[frozenset[Kind]] = frozenset({"classlink-saml", "saml"})
PersonField = Literal["sourcedId", "identifier", "userMasterIdentifier"]
"""Which field of the roster's users the portal's answer is compared with; never an e-mail address."""

FRESH_SECONDS: Final = 5.0
MOST_KEPT: Final = 5_000


class OidcConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An OpenID provider, or one that only speaks OAuth 2. What is None is what the kind's quirks say, then discovery.

    Args:
        issuer: compared with `iss` character by character.
        client_id: ours there.
        discovery_url: where the metadata is; the issuer's well-known place by default.
        authorization_endpoint: and the other endpoints: pinned here, so that metadata can't move them.
        openid: False where the portal does not give ID tokens (Clever, unless its support turned OpenID on).
        scopes: what is asked for; None for the kind's.
        tenant_claim: the claim that holds the tenant; None for the kind's.
        person_claim: the claim that is compared with the roster; None for the kind's.
        pkce: None for whatever the provider says it can.
        algorithms: which signatures are accepted, of the asymmetric ones.
    """

    issuer: str
    client_id: str
    discovery_url: str | None = None
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    jwks_uri: str | None = None
    userinfo_endpoint: str | None = None
    info_url: str | None = None
    openid: bool = True
    scopes: tuple[str, ...] | None = None
    tenant_claim: str | None = None
    person_claim: str | None = None
    pkce: bool | None = None
    algorithms: tuple[str, ...] = ("RS256",)


class SamlConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A SAML identity provider: what its metadata said when it was accepted, and what is allowed of it.

    Args:
        entity_id: compared with Issuer character by character.
        sso_url: where AuthnRequests go, by the redirect binding.
        slo_url: where LogoutRequests go; None where there is no single logout.
        certificates: whose signatures are trusted, each PEM; at least one.
        metadata_url: where its metadata is read again from time to time.
        idp_initiated: whether answers nobody asked for are taken.
        allow_sha1_until: a logged exception for signatures with SHA-1; None refuses them.
        allow_unsigned_assertion: whether a signature around the whole response is enough.
        person_attribute: the attribute compared with the roster; None is the NameID.
        tenant_attribute: the attribute that names the tenant; None where there is none.
        name_attribute: the attribute with a name to show.
        subject_attribute: the attribute that is the portal's own user id; None is the NameID.
        name_id_format: what is asked for in AuthnRequests; None asks for nothing.
        encrypted: whether assertions must be encrypted.
        encryption_certificate: PEM, ours, with the public half of the upstream's private key; our metadata shows it.
        max_lifetime_seconds: the longest a single assertion may be valid; Microsoft makes them valid for an hour.
    """

    entity_id: str
    sso_url: str
    certificates: tuple[str, ...]
    slo_url: str | None = None
    metadata_url: str | None = None
    idp_initiated: bool = False
    allow_sha1_until: datetime | None = None
    allow_unsigned_assertion: bool = False
    person_attribute: str | None = None
    tenant_attribute: str | None = None
    name_attribute: str | None = None
    subject_attribute: str | None = None
    name_id_format: str | None = None
    encrypted: bool = False
    encryption_certificate: str | None = None
    max_lifetime_seconds: int = 3_900


@dataclass(frozen=True, slots=True)
class Upstream:
    """An identity provider, ready to be used."""

    id: UUID
    kind: Kind
    shared: bool
    name: str
    product_id: UUID | None
    """What a tile without further words opens; None asks."""
    config: OidcConfig | SamlConfig
    enabled: bool
    revision: int
    secret: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    """PEM; what assertions for us are encrypted to."""

    @property
    def oidc(self) -> OidcConfig:
        """Its configuration as an OpenID provider. Raises TypeError for others."""
        if not isinstance(self.config, OidcConfig):
            msg = "this upstream speaks SAML"
            raise TypeError(msg)
        return self.config

    @property
    def saml(self) -> SamlConfig:
        """Its configuration as a SAML identity provider. Raises TypeError for others."""
        if not isinstance(self.config, SamlConfig):
            msg = "this upstream speaks OpenID Connect"
            raise TypeError(msg)
        return self.config


def decode_config(kind: Kind, config: object) -> OidcConfig | SamlConfig:
    """A stored configuration, by the kind of its upstream."""
    if kind in SAML_KINDS:
        return msgspec.convert(config, SamlConfig)
    return msgspec.convert(config, OidcConfig)


def secret_context(upstream: UUID) -> str:
    """What a sealed client secret is bound to."""
    return f"upstream-secret:{upstream}"


def key_context(upstream: UUID) -> str:
    """What a sealed private key is bound to."""
    return f"upstream-key:{upstream}"


class Upstreams:
    """The upstreams of this installation; one that is used often is read every few seconds only."""

    def __init__(self, database: Database, sealing: SealingKeys, clock: Clock) -> None:
        self._database = database
        self._sealing = sealing
        self._clock = clock
        self._kept: OrderedDict[UUID, tuple[float, Upstream | None]] = OrderedDict()

    async def find(self, upstream_id: UUID, *, fresh: bool = False) -> Upstream | None:
        """The upstream with this id, disabled ones as well; None if there is none. `fresh` asks the database."""
        kept = self._kept.get(upstream_id)
        if kept is not None and not fresh and self._clock.monotonic() - kept[0] < FRESH_SECONDS:
            return kept[1]
        row = await self._database.fetchrow(SQL["find_upstream"], upstream_id)
        found = None if row is None else self._open(row)
        self._kept[upstream_id] = (self._clock.monotonic(), found)
        self._kept.move_to_end(upstream_id)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return found

    def _open(self, row: asyncpg.Record) -> Upstream:
        secret = row["sealed_secret"] and self._sealing.open(secret_context(row["id"]), row["sealed_secret"])
        private_key = row["sealed_key"] and self._sealing.open(key_context(row["id"]), row["sealed_key"])
        return Upstream(
            id=row["id"],
            kind=row["kind"],
            shared=row["shared"],
            name=row["name"],
            product_id=row["product_id"],
            config=decode_config(row["kind"], row["config"]),
            enabled=row["enabled"],
            revision=row["revision"],
            secret=secret,
            private_key=private_key,
        )
