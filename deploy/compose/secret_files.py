"""Makes the secrets of a Compose installation: one file each, mode 600. What is there already stays as it is.

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

IMAGE_USER = 10001
"""Who the containers run as where root prepared the files; see deploy/Dockerfile."""


def make_secrets() -> dict[str, str]:
    """New secrets by the names of their files; those that belong together are made together."""
    password, gateway, admin = (secrets.token_urlsafe(32) for _ in range(3))
    private, public = generate_key()
    clients = [
        {"id": "admin", "secret": admin, "scopes": ["admin"]},
        {"id": "provider-gateway", "secret": gateway, "scopes": ["fingerprints.read"]},
    ]
    return {
        "postgres-password": password,
        "database-url": f"postgresql://homeroom:{password}@postgres:5432/homeroom",
        "gateway-private-keys": private,
        "gateway-public-key": public,
        "gateway-client-secret": gateway,
        "sso-key": generate_key()[0],
        "bootstrap-clients": json.dumps(clients),
        "admin-client-secret": admin,
    }


def write_secrets(folder: Path) -> bool:
    """Write the secrets into a folder, unless it has some; whether it was done. Raises OSError."""
    if folder.exists() and any(folder.iterdir()):
        return False
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in make_secrets().items():
        with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text + "\n")
        if os.geteuid() == 0:
            os.chown(folder / name, IMAGE_USER, IMAGE_USER)
    return True


if __name__ == "__main__":
    where = Path(sys.argv[1])
    made = write_secrets(where)
    sys.stdout.write(f"{where}: {'secrets were made' if made else 'has secrets already, nothing was changed'}\n")
