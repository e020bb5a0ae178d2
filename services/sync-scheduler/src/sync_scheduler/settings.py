"""What can be set from outside; `HOMEROOM_…`, as everywhere."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, field_validator

from homeroom.secrets import seal
from homeroom.settings import Settings
from sync_scheduler.runs import Limits


class SchedulerSettings(Settings):
    """Settings of both roles."""

    run_deadline_hours: float = Field(6, gt=0, le=72, description="hours after which a run that has not ended fails")
    run_attempts: int = Field(5, ge=1, le=20, description="how often a run is tried at most")
    silence_seconds: float = Field(60, ge=1, description="silence after which a fetching worker is taken for lost")
    retry_seconds: float = Field(5, ge=0, description="pause before the second attempt; each further one is 4 times it")
    tick_seconds: float = Field(0.5, gt=0, le=60, description="longest pause between two rounds of the worker")

    @property
    def limits(self) -> Limits:
        """How patient supervision is."""
        return Limits(
            attempts=self.run_attempts,
            silence=timedelta(seconds=self.silence_seconds),
            first_pause=timedelta(seconds=self.retry_seconds),
        )


class ApiSettings(SchedulerSettings):
    """The api seals provider credentials; the worker never meets them."""

    gateway_public_key: str = Field(
        description="the public key of `python -m homeroom.secrets`; gateways open with the other"
    )

    @field_validator("gateway_public_key")
    @classmethod
    def _check_key(cls, value: str) -> str:
        seal(value, "start", "")  # says what is wrong with a key that is none
        return value
