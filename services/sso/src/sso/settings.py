"""What sso is configured with, beside what every service is."""

from __future__ import annotations

from functools import cached_property
from typing import Self
from uuid import UUID

import msgspec
from pydantic import Field, SecretStr, model_validator

from homeroom.secrets import SealingKeys
from homeroom.settings import Settings as CommonSettings
from sso.clients import Declaration, check
from sso.staff.passwords import read_username


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
    store_url: str = Field(
        default="", description="where roster-store is asked who somebody is; the issuer's origin by default"
    )
    people_fresh_seconds: float = Field(
        default=20, ge=0, le=600, description="how long an answer of roster-store is used without asking again"
    )
    people_cache_seconds: float = Field(
        default=4 * 3600,
        ge=0,
        le=24 * 3600,
        description="how old an answer may be that is used while roster-store does not answer",
    )
    trace_days: int = Field(default=30, ge=1, le=400, description="how long the trace of a launch is kept")
    local_accounts: bool = Field(
        default=False, description="whether people may sign in to Homeroom itself with a password kept here"
    )
    local_admin: SecretStr = Field(
        default=SecretStr(""),
        description="an admin of the platform with a local account, as `username:hash`, the way "
        "`homeroom up` declares one; elsewhere `python -m sso account` registers them",
    )
    platform_organizations: list[UUID] = Field(
        default_factory=list,
        description="ids of organizations whose connections may vouch for roles that reach beyond one organization; "
        "whoever looks after one of them is as powerful as the platform",
    )
    audit_days: float = Field(default=730, ge=30, description="how long the audit log is kept")
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

    @cached_property
    def declared_admin(self) -> tuple[str, str] | None:
        """`local_admin`, read: the username and the password's hash."""
        text = self.local_admin.get_secret_value()
        name, _, hashed = text.partition(":")
        if not text:
            return None
        if read_username(name) != name or not hashed.startswith("scrypt$") or hashed.count("$") != 5:  # noqa: PLR2004 - as many as `hash_password` writes
            msg = "it is no `username:hash`"
            raise ValueError(msg)
        return name, hashed

    @model_validator(mode="after")
    def _read(self) -> Self:
        """Say at start what can't be read, not when it is first needed."""
        self.store_url = (self.store_url or self.issuer).rstrip("/")
        try:
            _ = self.sealing_keys
        except ValueError as error:
            msg = f"HOMEROOM_SSO_KEY: {error}"
            raise ValueError(msg) from None
        try:
            if self.declared_admin is not None and not self.local_accounts:
                msg = "it needs HOMEROOM_LOCAL_ACCOUNTS"
                raise ValueError(msg)
        except ValueError as error:
            msg = f"HOMEROOM_LOCAL_ADMIN: {error}"
            raise ValueError(msg) from None
        try:
            for declaration in self.declared_clients:
                check(declaration)
        except (msgspec.MsgspecError, ValueError) as error:
            msg = f"HOMEROOM_BOOTSTRAP_CLIENTS: {error}"
            raise ValueError(msg) from None
        return self
