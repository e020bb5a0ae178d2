"""How a provider is reached: what an admin enters, what may be shown of it, and what asks for the secret again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator

from homeroom.service import RequestModel

Line = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
]
"""A short text on one line."""
Address = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\x00-\x1f\x7f]+$")]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=4000)]

ADDRESSES = ("endpoint_url", "token_url")
BOUND = frozenset({"endpoint_url", "auth", "client_id", "token_url"})
"""A secret is only ever sent where it was entered for: when one of these changes, it must be entered again."""

TOKEN_URL_MISSING = "oauth2 needs the address that gives tokens"  # noqa: S105 - a sentence, not a secret


class OneRosterConnection(RequestModel):
    """A OneRoster provider. The endpoint may be a root or include the path of a OneRoster version."""

    endpoint_url: Address
    auth: Literal["oauth1", "oauth2"]
    client_id: Line
    client_secret: Secret
    token_url: Address | None = None
    signature_method: Literal["HMAC-SHA256", "HMAC-SHA1"] = "HMAC-SHA256"

    @model_validator(mode="after")
    def _need_token_url(self) -> Self:
        if self.auth == "oauth2" and self.token_url is None:
            raise ValueError(f"token_url is missing: {TOKEN_URL_MISSING}")
        return self

    def shown(self) -> dict[str, Any]:
        """Everything but the secret."""
        return self.model_dump(exclude={"client_secret"}, exclude_none=True)


class OneRosterConnectionEdit(RequestModel):
    """What is left out stays as it is; `"token_url": null` removes it."""

    endpoint_url: Address | None = None
    auth: Literal["oauth1", "oauth2"] | None = None
    client_id: Line | None = None
    client_secret: Secret | None = None
    token_url: Address | None = None
    signature_method: Literal["HMAC-SHA256", "HMAC-SHA1"] | None = None

    def applied_to(self, shown: dict[str, Any]) -> dict[str, Any]:
        """The connection as it is after the edit, without the secret."""
        edited = {**shown, **self.model_dump(exclude={"client_secret"}, exclude_none=True)}
        if "token_url" in self.model_fields_set and self.token_url is None:
            edited.pop("token_url", None)
        return edited


def needs_secret_again(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the stored secret may not be used for the edited connection."""
    return any(before.get(name) != after.get(name) for name in BOUND)
