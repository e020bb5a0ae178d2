"""What the gateway is configured with beyond what every service is (`homeroom.settings`)."""

from __future__ import annotations

import os
from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from homeroom.messages import REGIONS
from homeroom.settings import Settings
from provider_gateway.client import Limits


class GatewaySettings(Settings):
    """Environment: HOMEROOM_STORE_URL, HOMEROOM_GATEWAY_PRIVATE_KEYS, HOMEROOM_REGIONS and the limits below."""

    database_url: SecretStr = Field(
        SecretStr(""),
        description="Postgres, for a worker whose bus runs on it; leave it out where HOMEROOM_KAFKA is set",
    )
    store_url: str = Field("", description="where the roster store's API is; the issuer's origin by default")
    gateway_private_keys: SecretStr = Field(
        SecretStr(""), description="keys that open sealed credentials, comma separated, the current one first"
    )
    regions: Annotated[tuple[str, ...], NoDecode] = Field(
        REGIONS, description="the regions whose jobs this worker takes, comma separated"
    )
    concurrent_jobs: int = Field(4, ge=1, le=100, description="jobs one worker works on at once")
    page_size: int = Field(1_000, ge=1, le=10_000, description="records asked for in one page")
    pages_in_flight: int = Field(3, ge=1, le=32, description="pages of one collection asked for at once")
    host_in_flight: int = Field(4, ge=1, le=64, description="requests to one provider's host at once, over all runs")
    page_seconds: float = Field(60.0, gt=0, description="the deadline of one request to a provider")
    connect_seconds: float = Field(5.0, gt=0, description="the deadline for connecting to a provider")
    retry_after_seconds: float = Field(900.0, gt=0, description="the longest wait a provider may ask for")
    retries_per_run: int = Field(50, ge=0, description="repeated requests a run may always make")
    max_page_bytes: int = Field(64_000_000, ge=1_000, description="the largest answer that is read")
    confirm_at_most: int = Field(200, ge=0, description="missing records of a collection that are asked for by id")
    chunks_in_flight: int = Field(64, ge=1, description="chunks on their way to the bus at once")
    page_processes: int = Field(
        default_factory=lambda: min(2, (os.cpu_count() or 1) - 1),
        ge=0,
        le=32,
        description="processes that decode the pages of large districts; 0 decodes in the worker itself",
    )
    workspace: str = Field("", description="where a run keeps its temporary files; the system's directory by default")
    heartbeat_seconds: float = Field(5.0, gt=0, description="between two progress facts of a job")
    grace_seconds: float = Field(20.0, ge=0, le=25, description="how long jobs may go on once the worker should stop")

    @field_validator("regions", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _default_store(self) -> Self:
        self.store_url = (self.store_url or self.issuer).rstrip("/")
        return self

    @property
    def limits(self) -> Limits:
        """How patient and greedy the client of a provider is."""
        return Limits(
            page_seconds=self.page_seconds,
            connect_seconds=self.connect_seconds,
            body_bytes=self.max_page_bytes,
            retry_after_seconds=self.retry_after_seconds,
            retries=self.retries_per_run,
        )
