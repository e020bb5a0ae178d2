"""A real Keycloak as a school's identity provider: from Maven Central, started for a session of tests.

It takes half a minute to start, so its tests run in `make test-all` only (HOMEROOM_TEST_KEYCLOAK=1).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

VERSION = "26.3.0"
START_SECONDS = 120
FETCH_SECONDS = 300
PASSWORD = "picture-of-a-duck"


@dataclass
class Keycloak:
    """A running Keycloak with one realm."""

    origin: str
    realm: str = "school"

    @property
    def issuer(self) -> str:
        """The realm's OpenID issuer, and its SAML entity id."""
        return f"{self.origin}/realms/{self.realm}"

    @property
    def saml_metadata(self) -> str:
        """Where the realm's SAML metadata is."""
        return f"{self.issuer}/protocol/saml/descriptor"


def describe_person(username: str, sourced_id: str, given: str, family: str) -> dict[str, Any]:
    """A made-up person of the realm."""
    return {
        "username": username,
        "enabled": True,
        "firstName": given,
        "lastName": family,
        "email": f"{username}@school.example",
        "emailVerified": True,
        "attributes": {"sourcedId": [sourced_id]},
        "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
    }


def describe_openid_client(client_id: str, secret: str, redirect_uri: str) -> dict[str, Any]:
    """Our client in the realm, which must use PKCE; the person's sourcedId is a claim of the ID token."""
    mapper = {
        "name": "sourcedId",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-usermodel-attribute-mapper",
        "config": {
            "user.attribute": "sourcedId",
            "claim.name": "sourcedId",
            "id.token.claim": "true",
            "jsonType.label": "String",
        },
    }
    return {
        "clientId": client_id,
        "protocol": "openid-connect",
        "secret": secret,
        "publicClient": False,
        "redirectUris": [redirect_uri],
        "attributes": {"pkce.code.challenge.method": "S256"},
        "protocolMappers": [mapper],
    }


def describe_saml_client(entity_id: str, acs_url: str) -> dict[str, Any]:
    """Us as a SAML service provider in the realm, with the person's sourcedId as an attribute."""
    mapper = {
        "name": "sourcedId",
        "protocol": "saml",
        "protocolMapper": "saml-user-attribute-mapper",
        "config": {"user.attribute": "sourcedId", "attribute.name": "sourcedId", "attribute.nameformat": "Basic"},
    }
    return {
        "clientId": entity_id,
        "protocol": "saml",
        "redirectUris": [acs_url],
        "attributes": {
            "saml_assertion_consumer_url_post": acs_url,
            "saml.assertion.signature": "true",
            "saml.server.signature": "true",
            "saml.client.signature": "false",
            "saml.signature.algorithm": "RSA_SHA256",
            "saml.authnstatement": "true",
            "saml_name_id_format": "persistent",
            "saml_force_name_id_format": "true",
            "saml_idp_initiated_sso_url_name": "homeroom",
        },
        "protocolMappers": [mapper],
    }


@contextmanager
def running_keycloak(clients: Sequence[Mapping[str, Any]], people: Sequence[Mapping[str, Any]]) -> Iterator[Keycloak]:
    """Keycloak with a realm of these clients and people, on loopback, until the block ends."""
    if os.environ.get("HOMEROOM_TEST_KEYCLOAK") != "1":
        pytest.skip("Keycloak runs in `make test-all` only")
    with tempfile.TemporaryDirectory(prefix="keycloak-") as folder:
        home = _unpack(Path(folder))
        (home / "data" / "import").mkdir(parents=True)
        realm = {
            "realm": "school",
            "enabled": True,
            "sslRequired": "none",
            "clients": list(clients),
            "users": list(people),
            "components": {"org.keycloak.userprofile.UserProfileProvider": [_allow_attributes()]},
        }
        (home / "data" / "import" / "school.json").write_text(json.dumps(realm), "utf-8")
        port = _free_port()
        command = ["bin/kc.sh", "start-dev", "--http-host=127.0.0.1", f"--http-port={port}", "--import-realm"]
        environment = {**os.environ, "JAVA_OPTS_APPEND": "-Xmx512m"}
        log = home / "run.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=home, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        try:
            keycloak = Keycloak(f"http://127.0.0.1:{port}")
            _wait(keycloak, process, log)
            yield keycloak
        finally:
            os.killpg(process.pid, 15)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait(10)


def _allow_attributes() -> dict[str, Any]:
    profile = {
        "attributes": [{"name": name} for name in ("username", "email", "firstName", "lastName")],
        "unmanagedAttributePolicy": "ENABLED",
    }
    return {"providerId": "declarative-user-profile", "config": {"kc.user.profile.config": [json.dumps(profile)]}}


def _unpack(folder: Path) -> Path:
    """The distribution from Maven Central, kept by Maven itself."""
    if shutil.which("mvn") is None or shutil.which("java") is None:
        pytest.skip("Keycloak needs Java and Maven")
    artifact = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"
    common = ["mvn", "-q", "-B"]
    fetch = [*common, "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
    subprocess.run(fetch, check=True, timeout=FETCH_SECONDS, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.zip"))) as archive:
        archive.extractall(folder)
    home = folder / f"keycloak-{VERSION}"
    (home / "bin" / "kc.sh").chmod(0o755)
    return home


def _wait(keycloak: Keycloak, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    with httpx2.Client(timeout=5, trust_env=False) as client:
        while True:
            try:
                if client.get(f"{keycloak.issuer}/.well-known/openid-configuration").status_code == 200:
                    return
            except httpx2.HTTPError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(log.read_text("utf-8", "replace")[-3000:])
            time.sleep(0.5)


def _free_port() -> int:

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
