"""What the local installation gives to each of its processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from homeroom_local.secrets_file import LocalSecrets
from homeroom_local.stack import APIS, INBOX, Service, Stack, _environment, _services
from provider_gateway.inbox.host_key import fingerprints


def services_of(folder: Path, kafka: str | None) -> dict[str, Service]:
    """The processes of an installation, none of them started."""
    urls = {name: f"http://127.0.0.1:{8001 + number}" for number, name in enumerate((*APIS, INBOX, "sandbox"))}
    secrets = LocalSecrets.load(folder)
    stack = Stack("http://127.0.0.1:8000", folder, "postgresql://db/homeroom", kafka, secrets, urls)
    return {service.name: service for service in _services(stack, _environment(stack))}


@pytest.mark.parametrize("kafka", [None, "kafka.test:9092"])
def test_the_gateway_gets_the_database_only_for_the_bus(tmp_path: Path, kafka: str | None) -> None:
    """Only where the bus runs on Postgres does the gateway, which talks to the outside, know the database."""
    for name, service in services_of(tmp_path, kafka).items():
        known = "HOMEROOM_DATABASE_URL" in service.environment
        assert known == (kafka is None or not name.startswith("provider-gateway")), name


def test_secrets_go_to_who_needs_them(tmp_path: Path) -> None:
    """The key that opens providers' credentials is the gateway's alone; sso and the store have keys of their own."""
    secrets = LocalSecrets.load(tmp_path)
    for secret, owner in (
        (secrets.gateway_private_key, "provider-gateway"),
        (secrets.sso_key, "sso"),
        (secrets.admin_secret, "sso"),
        (secrets.sso_secret, "sso"),
        (secrets.store_key, "roster-store"),
    ):
        found = {
            name.split()[0]
            for name, service in services_of(tmp_path, None).items()
            if any(secret in value for value in service.environment.values())
        }
        assert found == {owner}


def test_each_service_is_its_own_client(tmp_path: Path) -> None:
    """The gateway and sso each ask for tokens as a client that sso declares with exactly what it asks for."""
    services = services_of(tmp_path, None)
    clients = {each["id"]: each for each in json.loads(services["sso api"].environment["HOMEROOM_BOOTSTRAP_CLIENTS"])}
    for name, scopes in (("provider-gateway worker", ["fingerprints.read"]), ("sso api", ["people.resolve"])):
        own = services[name].environment
        declared = clients[own["HOMEROOM_CLIENT_ID"]]
        assert (declared["secret"], declared["scopes"]) == (own["HOMEROOM_CLIENT_SECRET"], scopes)


def test_the_inbox_gets_its_host_key_and_no_other(tmp_path: Path) -> None:
    """The SFTP inbox, which strangers talk to, holds its host key and no other, and all know the folder."""
    secrets = LocalSecrets.load(tmp_path)
    services = services_of(tmp_path, None)
    holders = {name for name, one in services.items() if secrets.sftp_host_key in one.environment.values()}
    assert holders == {INBOX}
    told = services["sync-scheduler api"].environment["HOMEROOM_SFTP_HOST_KEY_FINGERPRINT"]
    assert f"ssh-ed25519 {told}" in fingerprints(secrets.sftp_host_key)
    for secret in (secrets.gateway_private_key, secrets.gateway_secret, secrets.admin_secret, secrets.sso_key):
        assert not any(secret in value for value in services[INBOX].environment.values())
    folders = {one.environment.get("HOMEROOM_UPLOADS_URL") for name, one in services.items() if "gateway" in name}
    assert folders == {str(tmp_path / "uploads")}
