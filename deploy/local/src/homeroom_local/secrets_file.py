"""The local installation's secrets: made once, kept in its data folder, readable by their owner only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec

from homeroom.secrets import generate_key
from provider_gateway.inbox.host_key import make_host_keys


class LocalSecrets(msgspec.Struct, frozen=True):
    """What the services of this installation share with each other, and with nobody else."""

    gateway_private_key: str
    gateway_public_key: str
    sso_key: str
    admin_secret: str
    gateway_secret: str
    sftp_host_key: str = ""
    """Made later for installations that are older than it."""
    alert_signing_key: str = ""
    """Likewise."""
    store_key: str = ""
    """Likewise."""
    sso_secret: str = ""
    """Likewise."""

    @classmethod
    def load(cls, data: Path) -> LocalSecrets:
        """Read the secrets of a data folder, making them first if there are none."""
        path = data / "secrets.json"
        made = msgspec.json.decode(path.read_bytes(), type=cls) if path.exists() else cls._make()
        if made.sftp_host_key and made.alert_signing_key and made.store_key and made.sso_secret:
            return made
        made = msgspec.structs.replace(
            made,
            sftp_host_key=made.sftp_host_key or make_host_keys(),
            alert_signing_key=made.alert_signing_key or secrets.token_urlsafe(32),
            store_key=made.store_key or generate_key()[0],
            sso_secret=made.sso_secret or secrets.token_urlsafe(32),
        )
        write_private(path, msgspec.json.encode(made))
        return made

    @classmethod
    def _make(cls) -> LocalSecrets:
        private, public = generate_key()
        sso_key, _ = generate_key()
        return cls(private, public, sso_key, secrets.token_urlsafe(32), secrets.token_urlsafe(32))


def load_admin_password(data: Path) -> str:
    """The password of the local admin's account, made once; whoever writes another one into the file has that."""
    path = data / "admin-password"
    if not path.exists():
        write_private(path, f"{secrets.token_urlsafe(18)}\n".encode())
    return path.read_text("utf-8").strip()


def write_private(path: Path, content: bytes) -> None:
    """Write a file only its owner can read; whoever reads it sees the old content or the new, never half."""
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    beside.replace(path)
