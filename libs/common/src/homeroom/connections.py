"""What an admin enters to connect a district, one model for each kind of provider.

The scheduler validates and seals with these models without knowing any provider, the gateway declares its providers
by them, and forms and documents are made from their JSON schema. What is a secret is typed as one; what may be
changed without entering the secrets again is marked as such; everything else binds them: a secret is only ever sent
where it was entered for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, model_validator

from homeroom.service import RequestModel

Line = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
]
"""A short text on one line."""
Address = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\x00-\x1f\x7f]+$"),
    Field(json_schema_extra={"format": "uri"}),
]


def check_secret(value: SecretStr) -> SecretStr:
    """A secret that is a whole text. Raises ValueError for half a character, which nothing could send or seal."""
    try:
        value.get_secret_value().encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half of a character; copy it anew") from None
    return value


Secret = Annotated[
    SecretStr,
    AfterValidator(check_secret),
    Field(min_length=1, max_length=20_000, json_schema_extra={"writeOnly": True}),
]

TOKEN_URL_MISSING = "oauth2 needs the address that gives tokens"  # noqa: S105 - a sentence, not a secret


class ConnectionModel(RequestModel):
    """What all kinds of connections have in common."""

    free: ClassVar[frozenset[str]] = frozenset()
    """Fields that can be changed without entering the secrets again."""

    @classmethod
    def secret_fields(cls) -> tuple[str, ...]:
        """The names of the fields that are sealed and never shown."""
        return tuple(
            name for name, field in cls.model_fields.items() if "SecretStr" in str(field.annotation)
        )  # `Secret | None` keeps the type's name in its own

    @classmethod
    def address_fields(cls) -> tuple[str, ...]:
        """The names of the fields that are addresses of a provider's services."""
        properties = cls.model_json_schema()["properties"]
        return tuple(
            name
            for name, schema in properties.items()
            if "uri" in (schema.get("format"), *(part.get("format") for part in schema.get("anyOf", ())))
        )

    def shown(self) -> dict[str, Any]:
        """Everything but the secrets."""
        return self.model_dump(mode="json", exclude=set(self.secret_fields()), exclude_none=True)

    def secrets(self) -> dict[str, str]:
        """The secrets that were entered, in clear: to be sealed at once."""
        found = {name: getattr(self, name) for name in self.secret_fields()}
        return {name: value.get_secret_value() for name, value in found.items() if value is not None}

    @classmethod
    def binds(cls, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
        """Whether a change of what is shown asks for the secrets again."""
        names = (before.keys() | after.keys()) - cls.free
        return any(before.get(name) != after.get(name) for name in names)


class OneRosterConnection(ConnectionModel):
    """A OneRoster provider. The endpoint may be a root or include the path of a OneRoster version."""

    free: ClassVar[frozenset[str]] = frozenset({"signature_method"})

    endpoint_url: Address = Field(
        title="Endpoint URL",
        description="The server's root, or with /ims/oneroster/v1p1 or /ims/oneroster/rostering/v1p2.",
    )
    auth: Literal["oauth1", "oauth2"] = Field(title="Authentication")
    client_id: Line = Field(title="Client id (consumer key)")
    client_secret: Secret = Field(title="Client secret")
    token_url: Address | None = Field(default=None, title="Token URL", description="For oauth2 only.")
    signature_method: Literal["HMAC-SHA256", "HMAC-SHA1"] = Field(
        default="HMAC-SHA256", title="Signature method", description="For oauth1 only."
    )

    @model_validator(mode="after")
    def _need_token_url(self) -> Self:
        if self.auth == "oauth2" and self.token_url is None:
            raise ValueError(f"token_url is missing: {TOKEN_URL_MISSING}")
        return self


class ClassLinkConnection(ConnectionModel):
    """ClassLink: a district's own Roster Server by key and secret, or any of a partner's districts by the proxy."""

    free: ClassVar[frozenset[str]] = frozenset({"signature_method"})

    endpoint_url: Address | None = Field(
        default=None,
        title="Endpoint URL",
        description="Of the district's Roster Server, with or without /ims/oneroster/v1p1. Leave out for the proxy.",
    )
    auth: Literal["oauth1", "oauth2", "proxy"] = Field(default="oauth1", title="Authentication")
    client_id: Line | None = Field(default=None, title="Key")
    client_secret: Secret | None = Field(default=None, title="Secret")
    token_url: Address | None = Field(default=None, title="Token URL", description="For oauth2 only.")
    signature_method: Literal["HMAC-SHA256", "HMAC-SHA1"] = Field(
        default="HMAC-SHA256", title="Signature method", description="For oauth1 only."
    )
    proxy_url: Address = Field(
        default="https://oneroster-proxy.apis.classlink.com", title="Proxy", description="For proxy only."
    )
    application_id: Line | None = Field(
        default=None,
        title="OneRoster application id",
        description="For proxy: as ClassLink lists it for this district, with its percent signs.",
    )
    partner_key: Secret | None = Field(default=None, title="Partner key", description="For proxy only.")

    @model_validator(mode="after")
    def _need_what_the_way_needs(self) -> Self:
        needed = {
            "oauth1": ("endpoint_url", "client_id", "client_secret"),
            "oauth2": ("endpoint_url", "client_id", "client_secret", "token_url"),
            "proxy": ("application_id", "partner_key"),
        }[self.auth]
        if missing := [name for name in needed if getattr(self, name) is None]:
            raise ValueError(f"{' and '.join(missing)} missing: auth {self.auth} needs {' and '.join(needed)}")
        return self


class CleverConnection(ConnectionModel):
    """A district at Clever: by its own token, or by the application's credentials, which look the token up."""

    district_id: Line = Field(title="District id", description="24 characters, as Clever's dashboard shows it.")
    district_token: Secret | None = Field(default=None, title="District token")
    client_id: Line | None = Field(
        default=None, title="Client id", description="Of the application, to look up tokens."
    )
    client_secret: Secret | None = Field(default=None, title="Client secret")
    base_url: Address = Field(default="https://api.clever.com/v3.0", title="API", description="v3.0 or v3.1.")
    token_url: Address = Field(default="https://clever.com/oauth/tokens", title="Token list")

    @model_validator(mode="after")
    def _need_a_way_in(self) -> Self:
        if self.district_token is None and (self.client_id is None or self.client_secret is None):
            raise ValueError("district_token missing: enter it, or client_id and client_secret to look it up")
        return self


class CsvConnection(ConnectionModel):
    """OneRoster CSV sets that the district uploads, over SFTP or by hand: there is nothing to reach."""


class GoogleClassroomConnection(ConnectionModel):
    """Google Classroom by a service account with domain-wide delegation."""

    domain: Line = Field(title="Domain", description="The district's Google Workspace domain.")
    admin_email: Line = Field(
        title="Administrator to act for", description="A Workspace user who may see all courses of the domain."
    )
    service_account_key: Secret = Field(
        title="Service account key", description="The JSON file Google gave for the service account."
    )
    base_url: Address = Field(default="https://classroom.googleapis.com", title="API")
    token_url: Address = Field(default="https://oauth2.googleapis.com/token", title="Token URL")

    @model_validator(mode="after")
    def _need_a_key_file(self) -> Self:
        try:
            key = json.loads(self.service_account_key.get_secret_value())
            complete = all(isinstance(key[name], str) and key[name] for name in ("client_email", "private_key"))
        except (ValueError, KeyError, TypeError):
            complete = False
        if not complete:
            raise ValueError("service_account_key is not a service account's key: paste the whole JSON file")
        return self


CONNECTIONS: dict[str, type[ConnectionModel]] = {
    "classlink": ClassLinkConnection,
    "oneroster": OneRosterConnection,
    "oneroster-csv": CsvConnection,
    "clever": CleverConnection,
    "google-classroom": GoogleClassroomConnection,
}
"""Every kind of provider's connection."""
UPLOADED = frozenset({"oneroster-csv"})
"""Kinds that are fed by uploads and never asked."""
KNOWN_SIS = (
    "PowerSchool",
    "Ellucian",
    "eSchoolPlus",
    "Illuminate Education",
    "Unit4",
    "Infinite Campus",
    "Skyward",
    "Aeries",
    "other",
)
"""The systems behind providers whose ways are known (A4)."""
