"""What can be set from outside; `HOMEROOM_…`, as everywhere."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from homeroom.secrets import seal
from homeroom.settings import Settings
from sync_scheduler.beginnings import Terms
from sync_scheduler.mail import Mail
from sync_scheduler.runs import Limits
from sync_scheduler.starts import StartLimits

LEAST_KEY = 32
"""Characters of a key that nobody guesses."""


class SchedulerSettings(Settings):
    """Settings of both roles."""

    run_deadline_hours: float = Field(6, gt=0, le=72, description="hours after which a run that has not ended fails")
    run_attempts: int = Field(5, ge=1, le=20, description="how often a run is tried at most")
    silence_seconds: float = Field(60, ge=1, description="silence after which a fetching worker is taken for lost")
    retry_seconds: float = Field(5, ge=0, description="pause before the second attempt; each further one is 4 times it")
    tick_seconds: float = Field(0.5, gt=0, le=60, description="longest pause between two rounds of the worker")

    refresh_deadline_seconds: float = Field(
        120, ge=5, le=3600, description="seconds after which the refresh of a class that has not ended fails"
    )
    full_every_days: float = Field(7, gt=0, le=30, description="days after which everything is compared again")

    host_runs: int = Field(
        8, ge=1, le=10_000, description="runs of one provider host and region that are under way at once, at most"
    )
    host_starts_per_minute: int = Field(240, ge=1, le=100_000, description="how many of them start in a minute at most")
    shared_host_factor: int = Field(
        10, ge=1, le=1000, description="how many times as much for hosts that serve every district, such as Clever's"
    )
    region_starts_per_minute: int = Field(
        3000, ge=1, le=1_000_000, description="how many runs of a region start in a minute at most"
    )
    slots_keep_days: float = Field(90, gt=0, le=3650, description="days what became of a schedule's slots is kept")

    run_log_days: float = Field(
        400, ge=1, description="days what runs found, and their stories, are kept; how they ended stays for good"
    )
    audit_days: float = Field(730, ge=30, description="days the audit log is kept")

    license_required: bool = Field(
        default=False, description="refuse organizations that were never given a license, too"
    )
    alert_signing_key: SecretStr = Field(
        SecretStr(""), description="what the signing secrets of webhooks follow from; without it there are none"
    )
    smtp_host: str = Field("", description="the mail server alerts are sent by; without it there are no e-mails")
    smtp_port: int = Field(587, ge=1, le=65535, description="its port")
    smtp_username: str = Field("", description="the name to sign in there with")
    smtp_password: SecretStr = Field(SecretStr(""), description="the password for it")
    smtp_from: str = Field("", description="the address alerts come from; homeroom@ the issuer's host by default")
    smtp_tls: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="how the connection is secured: starttls, tls from the first byte, or none"
    )

    @property
    def terms(self) -> Terms:
        """What all runs are begun under."""
        return Terms(
            deadline=timedelta(hours=self.run_deadline_hours),
            full_every=timedelta(days=self.full_every_days),
            refresh_deadline=timedelta(seconds=self.refresh_deadline_seconds),
            license_required=self.license_required,
        )

    @property
    def starts(self) -> StartLimits:
        """How much starts at once."""
        return StartLimits(
            host_runs=self.host_runs,
            host_starts=self.host_starts_per_minute,
            shared_factor=self.shared_host_factor,
            region_starts=self.region_starts_per_minute,
        )

    @property
    def limits(self) -> Limits:
        """How patient supervision is."""
        return Limits(
            attempts=self.run_attempts,
            silence=timedelta(seconds=self.silence_seconds),
            first_pause=timedelta(seconds=self.retry_seconds),
        )

    @property
    def mail(self) -> Mail:
        """The way to the mail server."""
        return Mail(
            self.smtp_host,
            self.smtp_port,
            self.smtp_from,
            self.smtp_username,
            self.smtp_password.get_secret_value(),
            self.smtp_tls,
        )

    @field_validator("alert_signing_key")
    @classmethod
    def _check_signing_key(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and len(value.get_secret_value()) < LEAST_KEY:
            raise ValueError(f"it must have {LEAST_KEY} characters; `openssl rand -base64 32` makes one")
        return value

    @model_validator(mode="after")
    def _fill_sender(self) -> Self:
        self.smtp_from = self.smtp_from or f"homeroom@{urlsplit(self.issuer).hostname}"
        return self


class ApiSettings(SchedulerSettings):
    """The api seals provider credentials; the worker never meets them."""

    gateway_public_key: str = Field(
        description="the public key of `python -m homeroom.secrets`; gateways open with the other"
    )

    inquiry_wait_seconds: float = Field(
        20, ge=0, le=60, description="how long a request waits for a provider's answer before it is told to ask again"
    )
    refresh_wait_seconds: float = Field(
        20,
        ge=0,
        le=60,
        description="how long a request waits for the refresh of a class before it is told to look again",
    )
    refresh_class_seconds: float = Field(
        300, ge=0, le=86400, description="seconds in which the same class is refreshed once at most"
    )
    refresh_hourly: int = Field(
        60, ge=1, le=10000, description="how many classes of an integration are refreshed in an hour at most"
    )
    link_verify_seconds: float = Field(
        45, ge=0, le=55, description="how long the page of a credential link waits for the provider's answer"
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
