"""The key of the identity providers, and a certificate for it: made by each process for itself, or kept in a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import RSAKey

BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class Signing:
    """A key, as JSON Web Tokens and as SAML want it."""

    jwk: RSAKey
    private: rsa.RSAPrivateKey
    pem: str
    certificate: str

    def sign_token(self, claims: dict[str, Any]) -> str:
        """A JSON Web Token, by RS256."""
        return jwt.encode({"alg": "RS256", "typ": "JWT", "kid": str(self.jwk.kid)}, claims, self.jwk)

    def sign_bytes(self, content: bytes) -> bytes:
        """A signature by RSA and SHA-256, for SAML's redirect binding."""
        return self.private.sign(content, padding.PKCS1v15(), hashes.SHA256())

    def describe(self) -> dict[str, Any]:
        """The key set that others check tokens with."""
        public = self.jwk.as_dict(private=False)
        return {"keys": [{**public, "use": "sig", "alg": "RS256", "kid": self.jwk.kid}]}


@cache
def load_signing(path: Path | None) -> Signing:
    """The key and certificate of a file, which is made if it is not there; without one those of this process."""
    kept = path.read_text("utf-8") if path is not None and path.exists() else _make()
    pem, begin, rest = kept.partition("-----BEGIN CERTIFICATE-----")
    if path is not None and not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(kept)
    private = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(private, rsa.RSAPrivateKey):
        msg = "the identity providers sign with RSA only"
        raise TypeError(msg)
    jwk = RSAKey.import_key(pem, {"use": "sig", "alg": "RS256"})
    jwk.ensure_kid()
    return Signing(jwk, private, pem, begin + rest)


LoadSigning = Callable[[], Signing]
"""Gives the key when it is first needed, for making one takes a while."""


def _make() -> str:
    """A new key and its certificate, in PEM."""
    private = rsa.generate_private_key(65537, BITS)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode() + _certify(private)


def _certify(key: rsa.RSAPrivateKey) -> str:
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lake Verity identity provider (sandbox)")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()
