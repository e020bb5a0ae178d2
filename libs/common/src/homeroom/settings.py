"""What a service is configured with: environment variables `HOMEROOM_*`, or files named by `HOMEROOM_*_FILE`.

A service adds fields of its own by subclassing `Settings`. Everything is checked at start, and what is wrong is said
in one readable text (`SettingsError`) without any value in it. Printing settings never shows a secret.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX = "HOMEROOM_"


class SettingsError(Exception):
    """Something is missing or wrong; the text names each variable, what is wrong and what it is for."""


class _Files(PydanticBaseSettingsSource):
    """`HOMEROOM_X_FILE=/path` gives the field x: how Docker and Kubernetes hand secrets over."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - its signature
        variable = f"{PREFIX}{field_name.upper()}"
        path = os.environ.get(f"{variable}_FILE")
        if (
            not path or f"{field_name}_file" in self.settings_cls.model_fields
        ):  # HOMEROOM_PORT_FILE is written, not read
            return None, field_name, False
        if os.environ.get(variable):
            msg = f"{variable} and {variable}_FILE are both set; set one of them."
            raise SettingsError(msg)
        try:
            return Path(path).read_text("utf-8").strip(), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or "it is no UTF-8 text"
            msg = f"{variable}_FILE names a file that can't be read ({why}); check the path and its permissions."
            raise SettingsError(msg) from None

    def __call__(self) -> dict[str, Any]:
        """The fields that files give, for fields with an environment variable of their own."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


class Settings(BaseSettings):
    """What every service is configured with."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", hide_input_in_errors=True, validate_default=False
    )

    database_url: SecretStr = Field(description="Postgres, as postgresql://user:password@host/database")
    kafka: str | None = Field(
        default=None, description="Kafka's bootstrap servers; without it the bus runs on Postgres"
    )
    kafka_replication: int = Field(default=1, ge=1, description="replicas of each topic; 3 in production")
    kafka_tls: bool = Field(default=False, description="speak TLS with Kafka")
    kafka_ca: Path | None = Field(
        default=None, description="the certificate authority of Kafka's brokers, if not public"
    )
    kafka_username: str = Field(default="", description="the name to sign in to Kafka with (SCRAM-SHA-512)")
    kafka_password: SecretStr = Field(default=SecretStr(""), description="the password for it")
    bus_session_seconds: float = Field(
        default=30, ge=2, description="silence after which a dead consumer's share of a topic goes to others"
    )
    issuer: str = Field(description="the origin everything is reached under, as http://127.0.0.1:8000")
    jwks_url: str = Field(
        default="", description="where the keys of access tokens are; /oauth2/jwks of the issuer by default"
    )
    token_url: str = Field(
        default="", description="where access tokens are had; /oauth2/token of the issuer by default"
    )
    client_id: str = Field(default="", description="this service's own client at sso")
    client_secret: SecretStr = Field(default=SecretStr(""), description="the secret of that client")
    host: str = Field(default="127.0.0.1", description="the address to listen on")
    port: int = Field(default=0, ge=0, le=65535, description="the port of the API; 0 takes a free one")
    health_port: int | None = Field(
        default=None, ge=0, le=65535, description="the port of a worker's probes and metrics"
    )
    port_file: Path | None = Field(default=None, description="a file to write the port into once it is served")
    log_level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="the least level that is logged"
    )
    otlp_endpoint: str | None = Field(
        default=None, description="an OTLP/HTTP collector for traces, as http://collector:4318"
    )
    allow_private_endpoints: bool = Field(
        default=False, description="let providers be on private addresses; never in production"
    )
    database_pool_size: int = Field(
        default=8, ge=1, le=100, description="connections to Postgres a process holds at most"
    )
    max_body_bytes: int = Field(default=1_000_000, ge=1, description="the largest request body that is read")

    @field_validator("issuer", "jwks_url", "token_url", "otlp_endpoint")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
            msg = "it must be an http or https URL without a user name or query"
            raise ValueError(msg)
        return value.rstrip("/")

    @model_validator(mode="after")
    def _fill(self) -> Self:
        self.jwks_url = self.jwks_url or f"{self.issuer}/oauth2/jwks"
        self.token_url = self.token_url or f"{self.issuer}/oauth2/token"
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings calls with all of them
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise; `_Files` takes its place
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then environment variables, then files named by them."""
        return init_settings, env_settings, _Files(settings_cls)

    @classmethod
    def load(cls) -> Self:
        """Read the settings of this process. Raises `SettingsError` naming all that is missing or wrong."""
        try:
            return cls()  # type: ignore[call-arg]  # the environment gives what is not passed
        except ValidationError as error:
            raise SettingsError("\n".join(_complain(cls, dict(found)) for found in error.errors())) from None

    def describe(self) -> dict[str, str]:
        """All settings as text with secrets hidden, for logs and `--help`."""
        return {name: str(getattr(self, name)) for name in type(self).model_fields}


def _complain(settings: type[Settings], found: dict[str, Any]) -> str:
    """One line about one wrong setting, without its value."""
    name = str(found["loc"][0]) if found["loc"] else ""
    purpose = settings.model_fields[name].description if name in settings.model_fields else None
    meaning = f" It is {purpose}." if purpose else ""
    if found["type"] == "missing":
        return f"{PREFIX}{name.upper()} is not set.{meaning}"
    return f"{PREFIX}{name.upper()} is wrong: {str(found['msg']).removeprefix('Value error, ')}.{meaning}"
