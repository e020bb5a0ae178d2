"""The keys by which uploaders know the inbox again. They are made once and kept: a changed key looks like an attack."""

from __future__ import annotations

import base64
import hashlib
import re

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

_KEY = re.compile(r"-----BEGIN OPENSSH PRIVATE KEY-----.+?-----END OPENSSH PRIVATE KEY-----", re.DOTALL)


def make_host_keys() -> str:
    """New private keys in OpenSSH's form, one after the other: Ed25519, and P-256 for uploaders that know no better."""
    made = (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1()))
    return "".join(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode() for key in made)


def split_host_keys(text: str) -> list[str]:
    """The keys of a text with one or more of them. Raises ValueError if there is none."""
    found = [f"{key}\n" for key in _KEY.findall(text)]
    if not found:
        msg = "it holds no private key in OpenSSH's form; `python -m provider_gateway host-key` makes one"
        raise ValueError(msg)
    return found


def fingerprints(text: str) -> list[str]:
    """What `ssh` shows for each key: its kind and `SHA256:…`. Raises ValueError for what is no key."""
    told = []
    for key in split_host_keys(text):
        try:
            public = load_ssh_private_key(key.encode(), None).public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm):
            msg = "one of its keys is damaged, has a passphrase, or is of a kind that is not supported"
            raise ValueError(msg) from None
        kind, blob = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[:2]
        digest = base64.b64encode(hashlib.sha256(base64.b64decode(blob)).digest()).decode().rstrip("=")
        told.append(f"{kind.decode()} SHA256:{digest}")
    return told
