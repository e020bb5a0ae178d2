"""Connections and portal applications as admins enter them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, StrictBool, StringConstraints, model_validator

from homeroom.connections import Address, Line, Secret
from homeroom.service import RequestModel
from sso.connections.quirks import QUIRKS
from sso.connections.upstreams import SAML_KINDS, Kind, PersonField

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
SharedKind = Literal["classlink", "clever", "oidc"]
MOST_METADATA: Final = 500_000
"""Characters of a metadata document that is sent along."""
MOST_SHA1_DAYS: Final = 366

_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)


def _check_moment(value: datetime) -> datetime:
    if not _EARLIEST <= value <= _LATEST:
        raise ValueError("the moment must be between the years 1970 and 9000")
    return value.astimezone(UTC)


Moment = Annotated[AwareDatetime, AfterValidator(_check_moment)]
"""A moment that can be counted with in any time zone; kept in UTC."""
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
]
"""The name of a claim or attribute."""
Tenant = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$"),
    Field(
        description="ClassLink's TenantId, Clever's district id, or what the tenant claim holds: exactly as the "
        "portal writes it",
        examples=["2284"],
    ),
]
Scope = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$")]
Pem = Annotated[str, StringConstraints(min_length=1, max_length=16_000)]

_MAIL_NAMES: Final = frozenset({"email", "e-mail", "mail", "emailaddress", "urn:oid:0.9.2342.19200300.100.1.3"})
_WHY_NO_MAIL: Final = "they repeat, change hands, and can be made up"
_MAIL_ENDINGS: Final = ("/emailaddress", ":emailaddress", "/mail", "#email")
SERVES_EVERYBODY: Final = frozenset({"https://accounts.google.com", "https://login.microsoftonline.com/common/v2.0"})
"""Issuers at which anybody in the world has an account, so that only a tenant makes it a district's."""


def names_mail(name: str | None) -> bool:
    """Whether a claim, attribute or NameID format is one for e-mail addresses, by which nobody is ever found."""
    plain = (name or "").lower()
    return plain in _MAIL_NAMES or plain.endswith(_MAIL_ENDINGS)


class OidcBody(RequestModel):
    """An OpenID provider, or one that only speaks OAuth 2; what is left out is what the kind, then its metadata say."""

    issuer: Address | None = Field(
        default=None, description="compared with `iss` character by character; the portal's own for its kind"
    )
    client_id: Line
    client_secret: Secret | None = Field(default=None, description="never shown again")
    discovery_url: Address | None = Field(default=None, description="the issuer's well-known place without one")
    authorization_endpoint: Address | None = Field(default=None, description="pinned, so that metadata can't move it")
    token_endpoint: Address | None = None
    jwks_uri: Address | None = None
    userinfo_endpoint: Address | None = None
    info_url: Address | None = Field(default=None, description="where the portal is asked who a token is about")
    openid: StrictBool = Field(default=True, description="false where there are no ID tokens: Clever without OpenID")
    scopes: Annotated[tuple[Scope, ...], Field(max_length=20)] | None = None
    tenant_claim: Name | None = Field(default=None, description="the claim that holds the tenant; the kind's if null")
    person_claim: Name | None = Field(
        default=None, description="the claim that is looked for in the roster; the kind's if null"
    )
    pkce: StrictBool | None = Field(default=None, description="null: whatever the provider says it can")
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1, max_length=9)] = ("RS256",)

    @model_validator(mode="after")
    def _refuse_mail(self) -> Self:
        if names_mail(self.person_claim) or names_mail(self.tenant_claim):
            raise ValueError(f"person_claim must not be an e-mail address: {_WHY_NO_MAIL}")
        return self


class SamlBody(RequestModel):
    """A SAML identity provider: by the address of its metadata, by the document, or field by field."""

    metadata_url: Address | None = Field(default=None, description="read now, and again every day")
    metadata: Annotated[str, Field(min_length=1, max_length=MOST_METADATA)] | None = Field(
        default=None, description="the metadata document itself, XML"
    )
    entity_id: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\s\x00-\x1f\x7f]+$")] | None = Field(
        default=None, description="with metadata: which provider of the document is meant, if there are several"
    )
    sso_url: Address | None = None
    slo_url: Address | None = None
    certificates: Annotated[tuple[Pem, ...], Field(min_length=1, max_length=10)] | None = Field(
        default=None, description="PEM; whose signatures are trusted"
    )
    idp_initiated: StrictBool = Field(default=False, description="whether answers nobody asked for are taken")
    allow_sha1_until: Moment | None = Field(
        default=None, description="an exception for signatures with SHA-1, for a year at most"
    )
    allow_unsigned_assertion: StrictBool = Field(
        default=False, description="whether a signature around the whole response is enough"
    )
    person_attribute: Name | None = Field(
        default=None, description="the attribute that is looked for in the roster; the NameID if null"
    )
    tenant_attribute: Name | None = None
    name_attribute: Name | None = Field(default=None, description="the attribute with a name to show")
    subject_attribute: Name | None = Field(
        default=None, description="the attribute with the portal's own, lasting user id; the NameID if null"
    )
    name_id_format: Name | None = Field(default=None, examples=["urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"])
    encrypted: StrictBool = Field(default=False, description="whether assertions must be encrypted for us")
    max_lifetime_seconds: Annotated[int, Field(strict=True, ge=60, le=24 * 3600)] = 3_900

    @model_validator(mode="after")
    def _refuse_mail(self) -> Self:
        if names_mail(self.person_attribute) or (self.person_attribute is None and names_mail(self.name_id_format)):
            raise ValueError(f"person_attribute must be given, and be no e-mail address: {_WHY_NO_MAIL}")
        return self


_PERSON: Any = Field(
    default="sourcedId", description="which field of the roster's users the portal's key is compared with"
)
_ROSTERING: Any = Field(default="required", description="`optional` lets in whom the roster never knew")
_AGE = Annotated[int, Field(strict=True, ge=1, le=24 * 366)]


class ConnectionBody(RequestModel):
    """A connection to be."""

    organization_id: UUID
    kind: Kind
    name: Line
    integration_id: UUID | None = Field(default=None, description="whose roster its people are in; also a deleted one")
    tenant: Tenant | None = None
    application_id: UUID | None = Field(
        default=None, description="the portal application it goes through, instead of credentials of its own"
    )
    product_id: UUID | None = Field(default=None, description="what a tile without further words opens; null asks")
    person_field: PersonField = _PERSON
    rostering: Literal["required", "optional"] = _ROSTERING
    max_roster_age_hours: _AGE | None = None
    enabled: StrictBool = True
    oidc: OidcBody | None = None
    saml: SamlBody | None = None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "organization_id": "0190f3a1-7d2e-7c11-9b54-2f6c1e8d0a37",
                    "kind": "classlink",
                    "name": "LaunchPad",
                    "integration_id": "0190f3a1-7d2e-7c11-9b54-2f6c1e8d0a38",
                    "tenant": "2284",
                    "oidc": {"client_id": "c0ffee", "client_secret": "made-up secret"},
                }
            ]
        }
    )


class ConnectionEdit(RequestModel):
    """What is left out stays as it is; organization, kind and portal application can't be changed."""

    name: Line | None = None
    integration_id: UUID | None = None
    tenant: Tenant | None = None
    product_id: UUID | None = None
    person_field: PersonField | None = None
    rostering: Literal["required", "optional"] | None = None
    max_roster_age_hours: _AGE | None = None
    enabled: StrictBool | None = None
    oidc: dict[str, Any] | None = Field(
        default=None, description="fields that change; null takes a field back", examples=[{"pkce": True}]
    )
    saml: dict[str, Any] | None = Field(
        default=None,
        description="fields that change; what identifies the provider is given as a whole: `metadata_url`, `metadata`, "
        "or `entity_id`, `sso_url` and `certificates`",
    )


class ApplicationBody(RequestModel):
    """An application at a portal that is to serve many districts."""

    kind: SharedKind
    name: Line
    product_id: UUID | None = Field(default=None, description="what a tile without further words opens; null asks")
    enabled: StrictBool = True
    oidc: OidcBody

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"kind": "clever", "name": "Clever", "oidc": {"client_id": "c0ffee", "client_secret": "made-up secret"}}
            ]
        }
    )


class ApplicationEdit(RequestModel):
    """What is left out stays as it is; the kind can't be changed."""

    name: Line | None = None
    product_id: UUID | None = None
    enabled: StrictBool | None = None
    oidc: dict[str, Any] | None = Field(default=None, description="fields that change; null takes a field back")


class ChangeApproval(RequestModel):
    """Which change is approved."""

    hash: str = Field(pattern="^[0-9a-f]{64}$", description="of the change that was looked at")


Complaint = tuple[str, str]
"""A field, and what is wrong with it."""


def object_to_connection(
    kind: Kind,
    *,
    tenant: str | None,
    integration_id: UUID | None,
    rostering: str,
    tenant_named: str | None,
    issuer: str | None,
) -> list[Complaint]:
    """What is wrong with a connection as a whole.

    `tenant_named` is the claim or attribute that would hold the tenant, as entered or by the kind.
    """
    found: list[Complaint] = []
    quirks = QUIRKS[kind]
    if rostering == "required" and integration_id is None:
        found.append(("integration_id", "people are looked for in its roster; or let rostering be optional"))
    if quirks.tenant_required and tenant is None:
        found.append(("tenant", f"{quirks.portal} serves many districts, so say which one this is"))
    elif issuer in SERVES_EVERYBODY and (tenant is None or tenant_named is None):
        found.append(("tenant", "everybody has an account there, so name your tenant and the claim that holds it"))
    elif tenant is not None and tenant_named is None:
        where = "saml.tenant_attribute" if kind in SAML_KINDS else "oidc.tenant_claim"
        found.append((where, "say where the provider names the tenant, or leave the tenant out"))
    elif tenant is None and tenant_named is not None:
        found.append(("tenant", "the provider is said to name one, so say which one is yours"))
    return found


def object_to_exception(until: datetime | None, now: datetime) -> list[Complaint]:
    """What is wrong with an exception for SHA-1."""
    if until is not None and (until - now).days >= MOST_SHA1_DAYS:
        return [("saml.allow_sha1_until", "it lasts a year at most")]
    return []


def take_tenant_name(kind: Kind, settings: Mapping[str, Any]) -> str | None:
    """The claim or attribute that holds the tenant, by a configuration or the kind."""
    if kind in SAML_KINDS:
        return settings.get("tenant_attribute")
    return settings.get("tenant_claim") or next(iter(QUIRKS[kind].tenant_claims), None)
