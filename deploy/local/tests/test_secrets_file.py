"""The local installation's secrets."""

from __future__ import annotations

import stat
from pathlib import Path

from homeroom.secrets import SealingKeys, seal
from homeroom_local.secrets_file import LocalSecrets, write_private


def test_secrets_are_made_once(tmp_path: Path) -> None:
    """Secrets are made at the first start, read again at every later one, and fit together."""
    made = LocalSecrets.load(tmp_path)
    assert LocalSecrets.load(tmp_path) == made
    assert SealingKeys(made.gateway_private_key).open("i", seal(made.gateway_public_key, "i", "secret")) == "secret"
    assert LocalSecrets.load(_folder(tmp_path / "other")).admin_secret != made.admin_secret


def test_secrets_are_their_owners(tmp_path: Path) -> None:
    """Only the owner can read the file, also when an older one was open to all, and no draft is left beside it."""
    path = tmp_path / "secrets.json"
    LocalSecrets.load(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    path.with_suffix(".new").write_bytes(b"half of an")
    write_private(path, b"{}")
    assert (stat.S_IMODE(path.stat().st_mode), path.read_bytes()) == (0o600, b"{}")
    assert [found.name for found in tmp_path.iterdir()] == ["secrets.json"]


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
