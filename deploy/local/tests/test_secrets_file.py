"""The local installation's secrets."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec

from homeroom.secrets import SealingKeys, seal
from homeroom_local.secrets_file import LocalSecrets, load_admin_password, write_private
from provider_gateway.inbox.host_key import fingerprints


def test_secrets_are_made_once(tmp_path: Path) -> None:
    """Secrets are made at the first start, read again at every later one, and fit together."""
    made = LocalSecrets.load(tmp_path)
    assert LocalSecrets.load(tmp_path) == made
    assert SealingKeys(made.gateway_private_key).open("i", seal(made.gateway_public_key, "i", "secret")) == "secret"
    assert LocalSecrets.load(_folder(tmp_path / "other")).admin_secret != made.admin_secret


def test_an_older_installation_gets_what_came_later_once(tmp_path: Path) -> None:
    """Secrets from before the inbox, alerts, subscriptions and sign-in are kept, and get keys that stay the same."""
    made = LocalSecrets.load(tmp_path)
    later = ("sftp_host_key", "alert_signing_key", "store_key", "sso_secret")
    old = {name: getattr(made, name) for name in made.__struct_fields__ if name not in later}
    (tmp_path / "secrets.json").write_bytes(msgspec.json.encode(old))
    again = LocalSecrets.load(tmp_path)
    assert again == LocalSecrets.load(tmp_path)
    assert fingerprints(again.sftp_host_key) != fingerprints(made.sftp_host_key)
    assert len(again.alert_signing_key) >= 32
    assert SealingKeys(again.store_key).public_key
    assert len(again.sso_secret) >= 32
    assert {name: getattr(again, name) for name in old} == old


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


def test_the_admins_password_is_made_once(tmp_path: Path) -> None:
    """The local admin's password is long, stays the same, is their owner's to read, and is what the owner writes."""
    made, path = load_admin_password(tmp_path), tmp_path / "admin-password"
    assert (load_admin_password(tmp_path), len(made) >= 20, stat.S_IMODE(path.stat().st_mode)) == (made, True, 0o600)
    path.write_text("my own password\n")
    assert load_admin_password(tmp_path) == "my own password"


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
