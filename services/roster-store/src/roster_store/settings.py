"""The store's settings, beside what every service has."""

from __future__ import annotations

from functools import cached_property
from typing import Self

from pydantic import Field, SecretStr, model_validator

from homeroom.secrets import SealingKeys
from homeroom.settings import Settings


class StoreSettings(Settings):
    """Environment: HOMEROOM_DATABASE_URL, HOMEROOM_KAFKA, HOMEROOM_ISSUER … (see `homeroom.settings`)."""

    store_key: SecretStr = Field(
        description="the private key that secrets of webhooks and tokens of Canvas are sealed with at rest, made by "
        "`python -m homeroom.secrets`; several with commas while it is exchanged, the current one first"
    )
    missing_hours: float = Field(
        default=1, ge=0, description="how long after the first a second run must have missed a record to remove it"
    )
    hold_days: float = Field(default=7, gt=0, description="how long what is held waits for a decision")
    history_days: float = Field(
        default=30, ge=1, description="how long runs can be undone: the history of changed rows"
    )
    tombstone_days: float = Field(
        default=400,
        ge=30,
        description="how long removed records are kept, for those who seldom read what changed",
    )
    erased_days: float = Field(
        default=30,
        ge=0,
        le=365,
        description="how long the empty records of erased people are kept, for products to be told by",
    )
    link_days: float = Field(
        default=400, ge=1, description="how long it is kept which accounts were linked, and that accounts were deleted"
    )
    audit_days: float = Field(default=730, ge=30, description="how long the audit log is kept")
    plan_days: float = Field(default=7, gt=0, description="how long reports of evaluated and held plans are kept")

    @cached_property
    def sealing_keys(self) -> SealingKeys:
        """`store_key`, read."""
        return SealingKeys(self.store_key.get_secret_value())

    @model_validator(mode="after")
    def _read(self) -> Self:
        """Say at start what can't be read, not when it is first needed."""
        try:
            _ = self.sealing_keys
        except ValueError as error:
            msg = f"HOMEROOM_STORE_KEY: {error}"
            raise ValueError(msg) from None
        return self
