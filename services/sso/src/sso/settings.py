"""What sso is configured with, beside what every service is."""

from __future__ import annotations

from functools import cached_property
from typing import Self

import msgspec
from pydantic import Field, SecretStr, model_validator

from homeroom.secrets import SealingKeys
from homeroom.settings import Settings as CommonSettings
from sso.clients import Declaration, check


class Settings(CommonSettings):
    """Settings of sso."""

    sso_key: SecretStr = Field(
        description="the private key that signing keys are sealed with at rest, made by `python -m homeroom.secrets`; "
        "several with commas while it is exchanged, the current one first"
    )
    bootstrap_clients: SecretStr = Field(
        default=SecretStr("[]"),
        description='clients to register at start, as [{"id":"…","secret":"…","scopes":["…"]}]; '
        "each may have an organization_id and a product_id",
    )
    token_seconds: int = Field(default=3600, ge=60, le=24 * 3600, description="how long access tokens are valid")
    key_days: int = Field(default=30, ge=1, le=365, description="how long a key signs before the next one does")

    @cached_property
    def sealing_keys(self) -> SealingKeys:
        """`sso_key`, read."""
        return SealingKeys(self.sso_key.get_secret_value())

    @cached_property
    def declared_clients(self) -> list[Declaration]:
        """`bootstrap_clients`, read."""
        return msgspec.json.decode(self.bootstrap_clients.get_secret_value(), type=list[Declaration])

    @model_validator(mode="after")
    def _read(self) -> Self:
        """Say at start what can't be read, not when it is first needed."""
        try:
            _ = self.sealing_keys
        except ValueError as error:
            msg = f"HOMEROOM_SSO_KEY: {error}"
            raise ValueError(msg) from None
        try:
            for declaration in self.declared_clients:
                check(declaration)
        except (msgspec.MsgspecError, ValueError) as error:
            msg = f"HOMEROOM_BOOTSTRAP_CLIENTS: {error}"
            raise ValueError(msg) from None
        return self
