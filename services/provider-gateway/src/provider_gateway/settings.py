"""What the gateway is configured with beyond what every service is (`homeroom.settings`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import unquote, urlsplit

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
    uploads_url: str = Field(
        "", description="where uploaded files are kept: a folder, or s3://bucket/prefix; without it there is no inbox"
    )
    uploads_s3_endpoint: str = Field("", description="the address of an S3-compatible store, if it is not Amazon's")
    uploads_s3_region: str = Field("us-east-1", description="the region of the bucket")
    uploads_s3_access_key_id: str = Field(
        "", description="the key to the bucket; without it, what the machine may do is used"
    )
    uploads_s3_secret_access_key: SecretStr = Field(SecretStr(""), description="the secret of that key")
    uploads_keep_days: float = Field(
        14, gt=0, description="days after which uploads are erased, but for the newest of each integration"
    )
    upload_max_bytes: int = Field(
        5_000_000_000, ge=1_000, description="the most an integration may upload at once, over SFTP or REST"
    )
    upload_chunk_seconds: float = Field(30.0, gt=0, description="the longest pause in the body of an upload over REST")
    inbox_dir: str = Field(
        "", description="where uploads lie until they are complete; the folder of uploads by default, if it is one"
    )
    inbox_rest_seconds: float = Field(
        30.0, gt=0, description="how long nothing may happen to uploaded files before they count as whole"
    )
    inbox_wait_hours: float = Field(12.0, gt=0, description="hours after which an incomplete upload is reported")
    sftp_bind: str = Field("", description="the address the SFTP server listens on; HOMEROOM_HOST by default")
    sftp_port: int = Field(2222, ge=0, le=65535, description="the port of the SFTP server; 0 takes a free one")
    sftp_idle_seconds: float = Field(300.0, gt=0, description="silence after which an SFTP connection is ended")
    sftp_host_key: SecretStr = Field(
        SecretStr(""), description="the SFTP server's private keys, in OpenSSH's form; it must stay the same for ever"
    )
    grace_seconds: float = Field(
        20.0, ge=0, le=6 * 3600, description="how long jobs may go on once the worker should stop"
    )

    @field_validator("regions", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _default_store(self) -> Self:
        self.store_url = (self.store_url or self.issuer).rstrip("/")
        return self

    @field_validator("uploads_url")
    @classmethod
    def _check_uploads(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and not (Path(value).is_absolute() or (parts.scheme == "file" and not parts.netloc) or _is_s3(value)):
            msg = "it must be the absolute path of a folder, file:///…, or s3://bucket/prefix"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _need_an_inbox(self) -> Self:
        if _is_s3(self.uploads_url) and not self.inbox_dir:
            msg = "HOMEROOM_INBOX_DIR is not set: with uploads in a bucket, a folder is needed for what is incomplete"
            raise ValueError(msg)
        return self

    @property
    def uploads_folder(self) -> Path | None:
        """The folder uploads are kept in, if it is one."""
        if not self.uploads_url or _is_s3(self.uploads_url):
            return None
        return Path(unquote(urlsplit(self.uploads_url).path) if self.uploads_url[:5] == "file:" else self.uploads_url)

    @property
    def spool_folder(self) -> Path:
        """Where uploads lie until they are complete; only asked for where there is an inbox."""
        return Path(self.inbox_dir) if self.inbox_dir else (self.uploads_folder or Path()) / "inbox"

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


def _is_s3(url: str) -> bool:
    return url.startswith("s3://")
