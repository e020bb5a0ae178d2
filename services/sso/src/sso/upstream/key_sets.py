"""The keys an upstream publishes: read strictly, so that only public keys for signatures are ever used."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey, import_key

MOST_KEYS: Final = 100
LEAST_RSA_BITS: Final = 2048
MOST_RSA_BITS: Final = 8192
"""Larger ones are no safer, and let whoever publishes them keep us busy."""
CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
ASYMMETRIC: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", *CURVES})
"""The signatures an ID token may have at all: those that are checked with a public key."""
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "k"})


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures may be checked with."""

    kid: str | None
    key: RSAKey | ECKey
    algorithms: frozenset[str]
    """The signatures it may be used for."""


def read_keys(document: Mapping[str, Any]) -> tuple[PublicKey, ...]:
    """The usable keys of a JWKS (RFC 7517 §5); any other is passed over, whatever is wrong with it.

    Not usable are keys for encryption, shared secrets (`oct`), private keys, weak ones, and those of kinds we do not
    know.
    """
    found = document.get("keys")
    if not isinstance(found, list):
        return ()
    return tuple(key for key in map(_read_key, found[:MOST_KEYS]) if key is not None)


def find_key(keys: Collection[PublicKey], kid: str | None, algorithm: str) -> PublicKey | None:
    """The one key that a token says it is signed with. Without `kid` there must be no choice (OIDC Core §10.1)."""
    fitting = [key for key in keys if algorithm in key.algorithms and kid in (None, key.kid)]
    return fitting[0] if len(fitting) == 1 else None


def _read_key(jwk: object) -> PublicKey | None:
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig" or not _PRIVATE.isdisjoint(jwk):
        return None
    operations, kid, algorithm = jwk.get("key_ops", ["verify"]), jwk.get("kid"), jwk.get("alg")
    if not isinstance(operations, list) or "verify" not in operations or not isinstance(kid, str | None):
        return None
    algorithms = _list_algorithms(jwk)
    if algorithm is not None:
        algorithms &= {algorithm} if isinstance(algorithm, str) else set()
    if not algorithms:
        return None
    kept = {name: jwk[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in jwk}
    try:
        key = import_key(kept)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return PublicKey(kid, key, algorithms) if isinstance(key, RSAKey | ECKey) else None


def _list_algorithms(jwk: Mapping[str, Any]) -> frozenset[str]:
    """What a key of its kind and size may sign."""
    if jwk.get("kty") == "RSA" and LEAST_RSA_BITS <= _count_bits(jwk.get("n")) <= MOST_RSA_BITS:
        return ASYMMETRIC - set(CURVES)
    if jwk.get("kty") == "EC":
        return frozenset(algorithm for algorithm, curve in CURVES.items() if curve == jwk.get("crv"))
    return frozenset()


def _count_bits(number: object) -> int:
    """The size of a number as JWKs hold them; 0 if it is none."""
    if not isinstance(number, str):
        return 0
    try:
        return int.from_bytes(base64.urlsafe_b64decode(number + "=" * (-len(number) % 4))).bit_length()
    except (binascii.Error, ValueError):
        return 0
