"""The gateway as a process: settings, roles, and the list of providers."""

import json
import os
import subprocess
import sys

import pytest
from jsonschema import Draft202012Validator
from pydantic import SecretStr

from homeroom.settings import SettingsError
from homeroom.testing.tokens import TestIssuer, calling
from provider_gateway.app import build, check_bus, read_keys
from provider_gateway.inbox.host_key import fingerprints
from provider_gateway.providers import PROVIDERS
from provider_gateway.settings import GatewaySettings

SETTINGS = {"HOMEROOM_DATABASE_URL": "postgresql://unused", "HOMEROOM_ISSUER": "http://issuer.test"}


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regions are a comma list, and the store is behind the issuer's origin unless said otherwise."""
    for name, value in (SETTINGS | {"HOMEROOM_REGIONS": "us, au"}).items():
        monkeypatch.setenv(name, value)
    settings = GatewaySettings.load()
    assert settings.regions == ("us", "au")
    assert settings.store_url == "http://issuer.test"


def test_missing_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker without keys does not start, and says which variable is missing."""
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="HOMEROOM_GATEWAY_PRIVATE_KEYS"):
        read_keys(GatewaySettings.load())


def test_no_database_with_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Kafka as the bus the gateway starts without the database's address; without both a worker says so."""
    monkeypatch.setenv("HOMEROOM_ISSUER", "http://issuer.test")
    with pytest.raises(SettingsError, match="Neither HOMEROOM_KAFKA nor HOMEROOM_DATABASE_URL is set"):
        check_bus(GatewaySettings.load())
    monkeypatch.setenv("HOMEROOM_KAFKA", "kafka.test:9092")
    check_bus(GatewaySettings.load())
    monkeypatch.delenv("HOMEROOM_KAFKA")
    monkeypatch.setenv("HOMEROOM_DATABASE_URL", "postgresql://bus.test/x")
    check_bus(GatewaySettings.load())


def test_the_inbox_says_what_it_needs() -> None:
    """The role `inbox` without its settings ends at once and names the first one that is missing."""
    done = subprocess.run(
        [sys.executable, "-m", "provider_gateway", "inbox"],
        env={name: value for name, value in os.environ.items() if not name.startswith("HOMEROOM_")} | SETTINGS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "HOMEROOM_UPLOADS_URL is not set" in done.stderr) == (78, True)


def test_host_key() -> None:
    """The role `host-key` prints keys that the inbox takes."""
    done = subprocess.run(
        [sys.executable, "-m", "provider_gateway", "host-key"], capture_output=True, text=True, timeout=60, check=True
    )
    assert len(fingerprints(done.stdout)) == 2


def test_migrate() -> None:
    """The role `migrate` succeeds and says that there is nothing to do."""
    done = subprocess.run(
        [sys.executable, "-m", "provider_gateway", "migrate"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "nothing to migrate" in done.stdout


async def test_providers() -> None:
    """Every kind of provider is listed with a valid JSON schema of its connection, and secrets marked as such."""
    issuer = TestIssuer()
    settings = GatewaySettings(database_url=SecretStr("postgresql://unused"), issuer=issuer.issuer)
    app = build(settings, issuer.verifier)
    async with calling(app, issuer.token(["integrations.read"])) as client:
        listed = (await client.get("/v1/providers")).json()["providers"]
        assert [one["kind"] for one in listed] == list(PROVIDERS)
        for one in listed:
            Draft202012Validator.check_schema(one["connection_schema"])
            for name in PROVIDERS[one["kind"]].connection_model.secret_fields():
                assert '"writeOnly": true' in json.dumps(one["connection_schema"]["properties"][name])
        assert (await client.get("/v1/providers/oneroster")).status_code == 200
        assert (await client.get("/v1/providers/nobody")).json()["code"] == "NOT_FOUND"
    async with calling(app) as client:
        assert (await client.get("/v1/providers")).status_code == 401
