"""Writes the Secrets of a new installation as one manifest, and keeps nothing.

`.venv/bin/python deploy/k8s/secret_manifests.py | kubectl create --filename -`, once: `create` changes nothing that is
there. Without a .venv the image does it: `docker run --rm --interactive --entrypoint python IMAGE - <THIS FILE`.
"""

# ruff: noqa: INP001 - a script that is run, not part of a package
from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Mapping
from typing import Any

from homeroom.secrets import generate_key
from provider_gateway.inbox.host_key import fingerprints, make_host_keys

NAMESPACE = "homeroom"
DATABASE = "homeroom-postgres-rw:5432/homeroom?sslmode=verify-full&sslrootcert=/run/secrets/homeroom/postgres-ca.crt"
"""Where CloudNativePG serves it, and where our Pods find the certificate authority of that."""
WITH_DATABASE = ("sync-scheduler", "roster-store", "sso")


def make_secrets() -> list[dict[str, Any]]:
    """The Secrets that our Pods and the database's roles read; those that belong together are made together."""
    private, public = generate_key()
    host_keys = make_host_keys()
    gateway, admin, sso = (secrets.token_urlsafe(32) for _ in range(3))
    clients = [
        {"id": "admin", "secret": admin, "scopes": ["admin"]},
        {"id": "provider-gateway", "secret": gateway, "scopes": ["fingerprints.read"]},
        {"id": "sso", "secret": sso, "scopes": ["people.resolve"]},
    ]
    own: dict[str, dict[str, str]] = {
        "sync-scheduler": {
            "gateway-public-key": public,
            "alert-signing-key": secrets.token_urlsafe(32),
            "smtp-password": "",
            "sftp-host-key-fingerprint": fingerprints(host_keys)[0].split()[1],
        },
        "roster-store": {"store-key": generate_key()[0]},
        "sso": {
            "sso-key": generate_key()[0],
            "sso-client-secret": sso,
            "bootstrap-clients": json.dumps(clients),
        },
        "provider-gateway-worker": {"gateway-private-keys": private, "gateway-client-secret": gateway},
        "provider-gateway-inbox": {"sftp-host-key": host_keys},
        "admin-client": {"admin-client-secret": admin},
    }
    roles = []
    for service in WITH_DATABASE:
        role, password = service.replace("-", "_"), secrets.token_urlsafe(32)
        own[service]["database-url"] = f"postgresql://{role}:{password}@{DATABASE}"
        login = {"username": role, "password": password}
        # The label lets CloudNativePG hear of a new password at once.
        roles.append(
            _secret(f"postgres-{service}", login, kind="kubernetes.io/basic-auth", labels={"cnpg.io/reload": "true"})
        )
    return [_secret(name, texts) for name, texts in own.items()] + roles


def _secret(
    name: str, texts: Mapping[str, str], kind: str = "Opaque", labels: Mapping[str, str] | None = None
) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": NAMESPACE,
        "labels": {"app.kubernetes.io/part-of": "homeroom", **(labels or {})},
    }
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "stringData": dict(texts)}


if __name__ == "__main__":
    json.dump({"apiVersion": "v1", "kind": "List", "items": make_secrets()}, sys.stdout)
