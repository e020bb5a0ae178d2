"""What can be set from outside; `HOMEROOM_…`, as everywhere."""

from __future__ import annotations

from datetime import timedelta
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from homeroom.secrets import seal
from homeroom.settings import Settings
from sync_scheduler.beginnings import Terms
from sync_scheduler.runs import Limits


class SchedulerSettings(Settings):
    """Settings of both roles."""

    run_deadline_hours: float = Field(6, gt=0, le=72, description="hours after which a run that has not ended fails")
    run_attempts: int = Field(5, ge=1, le=20, description="how often a run is tried at most")
    silence_seconds: float = Field(60, ge=1, description="silence after which a fetching worker is taken for lost")
    retry_seconds: float = Field(5, ge=0, description="pause before the second attempt; each further one is 4 times it")
    tick_seconds: float = Field(0.5, gt=0, le=60, description="longest pause between two rounds of the worker")

    full_every_days: float = Field(7, gt=0, le=30, description="days after which everything is compared again")

    @property
    def terms(self) -> Terms:
        """What all runs are begun under."""
        return Terms(deadline=timedelta(hours=self.run_deadline_hours), full_every=timedelta(days=self.full_every_days))

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

    inquiry_wait_seconds: float = Field(
        20, ge=0, le=60, description="how long a request waits for a provider's answer before it is told to ask again"
    )
    sftp_host: str = Field("", description="the host of the inbox as districts reach it; that of the issuer by default")
    sftp_port: int = Field(2222, ge=1, le=65535, description="its port as districts reach it")
    sftp_host_key_fingerprint: str = Field(
        "", description="the fingerprint of its host key, as `SHA256:…`, shown with new accounts"
    )

    @model_validator(mode="after")
    def _fill_sftp_host(self) -> Self:
        self.sftp_host = self.sftp_host or urlsplit(self.issuer).hostname or ""
        return self

    @field_validator("gateway_public_key")
    @classmethod
    def _check_key(cls, value: str) -> str:
        seal(value, "start", "")  # says what is wrong with a key that is none
        return value
