"""Makes the secrets of a Compose installation: one file each, mode 600. What is there already stays as it is.

An installation that is older than one of the secrets which stand for themselves gets just that one; one that is older
than sso's own client gets it among its clients.

`python secret_files.py FOLDER` is what `deploy/compose/prepare` runs.
"""

# ruff: noqa: INP001 - a script that is run, not part of a package
from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path

from homeroom.secrets import generate_key
from provider_gateway.inbox.host_key import fingerprints, make_host_keys

IMAGE_USER = 10001
"""Who the containers run as where root prepared the files; see deploy/Dockerfile."""


def make_secrets() -> dict[str, str]:
    """New secrets by the names of their files; those that belong together are made together."""
    password, gateway, admin, sso = (secrets.token_urlsafe(32) for _ in range(4))
    private, public = generate_key()
    clients = [
        {"id": "admin", "secret": admin, "scopes": ["admin"]},
        {"id": "provider-gateway", "secret": gateway, "scopes": ["fingerprints.read"]},
        {"id": "sso", "secret": sso, "scopes": ["people.resolve"]},
    ]
    return {
        "postgres-password": password,
        "database-url": f"postgresql://homeroom:{password}@postgres:5432/homeroom",
        "gateway-private-keys": private,
        "gateway-public-key": public,
        "gateway-client-secret": gateway,
        "sso-key": generate_key()[0],
        "sso-client-secret": sso,
        "bootstrap-clients": json.dumps(clients),
        "admin-client-secret": admin,
    }


def make_later_secrets(folder: Path) -> dict[str, str]:
    """Secrets that belong to nothing else, so that one may be made for an installation that has the others."""
    there = folder / "sftp-host-key"
    key = there.read_text("utf-8") if there.exists() else make_host_keys()
    return {
        "sftp-host-key": key,
        "sftp-host-key-fingerprint": fingerprints(key)[0].split()[1],
        "alert-signing-key": secrets.token_urlsafe(32),
        "smtp-password": "",
        "store-key": generate_key()[0],
    }


def add_client_of_sso(folder: Path) -> dict[str, str]:
    """For an installation from before sso had a client of its own: its secret, and the clients with it among them."""
    declared = json.loads((folder / "bootstrap-clients").read_text("utf-8"))
    secret = secrets.token_urlsafe(32)
    clients = [each for each in declared if each["id"] != "sso"]
    clients.append({"id": "sso", "secret": secret, "scopes": ["people.resolve"]})
    return {"bootstrap-clients": json.dumps(clients), "sso-client-secret": secret}  # in this order, lest one is lost


def write_secrets(folder: Path) -> bool:
    """Write the secrets that a folder lacks; whether there were any. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    there = {path.name for path in folder.iterdir()}
    wanted = ({} if there else make_secrets()) | make_later_secrets(folder)
    missing = {name: text for name, text in wanted.items() if name not in there}
    if "bootstrap-clients" in there and "sso-client-secret" not in there:
        missing |= add_client_of_sso(folder)
    for name, text in missing.items():
        draft = folder / f".{name}.new"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text.rstrip() + "\n")
        if os.geteuid() == 0:
            os.chown(draft, IMAGE_USER, IMAGE_USER)
        draft.replace(folder / name)
    return bool(missing)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    made = write_secrets(where)
    sys.stdout.write(f"{where}: {'secrets were made' if made else 'has secrets already, nothing was changed'}\n")
