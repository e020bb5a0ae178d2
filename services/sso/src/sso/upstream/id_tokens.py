"""ID tokens, checked by rules of our own on joserfc's signatures (OpenID Connect Core §3.1.3.7, RFC 8725).

All of it is a pure decision: a token, the keys, and what is expected go in; claims come out, or one word that says
which rule was broken. Which signatures and which issuer are right stands in the connection, never in the token, the
metadata or the key set.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from joserfc import jws
from joserfc.errors import JoseError

from sso.upstream.key_sets import ASYMMETRIC, PublicKey, find_key

SKEW_SECONDS: Final = 120
"""How far a provider's clock may be off, either way."""
OLDEST_SECONDS: Final = 600
"""How old a token may be that we have just been given; providers make them for each exchange."""
MOST_CHARACTERS: Final = 16_000
MOST_SUBJECT: Final = 255
_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()

_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_OWN_KEYS: Final = frozenset({"jwk", "jku", "x5u", "x5c"})
"""Header members by which a token would bring its own key."""
_OTHER_TOKENS: Final = frozenset({"access", "bearer", "refresh", "offline", "logout"})
"""What some providers write into the claims `typ` or `token_use` of tokens that are no ID tokens."""


class TokenRefused(Exception):  # noqa: N818 - what happened to the token
    """A token is not what it should be; `why` is a word for the trace."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class KeyUnknown(TokenRefused):
    """No key at hand fits: there may be a new one."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token must say.

    Args:
        issuer: the connection's, to be found in `iss` character by character.
        client_id: ours there, the only audience.
        nonce: what we sent.
        algorithms: which signatures the connection allows.
        access_token: the one that came with it, for `at_hash`.
        code: the one it was had for, for `c_hash`.
        signed_in_after: if a new sign-in was asked for: `auth_time` must be there and not before that.
    """

    issuer: str
    client_id: str
    nonce: str = field(repr=False)
    algorithms: Collection[str]
    access_token: str = field(repr=False)
    code: str = field(repr=False, default="")
    signed_in_after: datetime | None = None


def check_id_token(token: str, keys: Collection[PublicKey], expected: Expected, now: datetime) -> dict[str, Any]:
    """The claims of an ID token that is all it should be. Raises `TokenRefused`, of which `KeyUnknown` is one."""
    header, claims = _open(token, keys, expected.algorithms)
    _check_kind(header, claims)
    _check_parties(claims, expected)
    _check_times(claims, now)
    _check_auth_time(claims, expected)
    algorithm = str(header["alg"])
    _check_hash(claims, "at_hash", expected.access_token, algorithm)
    _check_hash(claims, "c_hash", expected.code, algorithm)
    return claims


def _open(
    token: str, keys: Collection[PublicKey], algorithms: Collection[str]
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Header and claims of a token whose signature holds."""
    if len(token) > MOST_CHARACTERS or not token.isascii() or not _COMPACT.fullmatch(token):
        raise TokenRefused("no signed token")
    header = _read_object(token.partition(".")[0], "header")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ASYMMETRIC or algorithm not in algorithms:
        raise TokenRefused("signature algorithm")
    if not _OWN_KEYS.isdisjoint(header):
        raise TokenRefused("it brings its own key")
    if "crit" in header or "b64" in header:
        raise TokenRefused("critical header")
    if not isinstance(kid, str | None):
        raise TokenRefused("key id")
    key = find_key(keys, kid, algorithm)
    if key is None:
        raise KeyUnknown("no such key")
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    try:
        jws.deserialize_compact(token, key.key, registry=registry)
    except (JoseError, ValueError, TypeError):
        raise KeyUnknown("signature") from None
    return header, _read_object(token.split(".")[1], "claims")


def _read_object(segment: str, what: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise TokenRefused(f"{what} unreadable") from None
    if not isinstance(found, dict):
        raise TokenRefused(f"{what} unreadable")
    return found


def _check_kind(header: Mapping[str, Any], claims: Mapping[str, Any]) -> None:
    """An ID token, not one made for something else (RFC 8725 §3.11): a logout token, an access token."""
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in {"jwt", "application/jwt"}:
        raise TokenRefused("another kind of token")
    if "events" in claims or "cty" in header:
        raise TokenRefused("another kind of token")
    if any(str(claims.get(name, "")).lower() in _OTHER_TOKENS for name in ("typ", "token_use")):
        raise TokenRefused("another kind of token")


def _check_parties(claims: Mapping[str, Any], expected: Expected) -> None:
    """Who made it, for whom, about whom, and as the answer to which question."""
    if claims.get("iss") != expected.issuer:
        raise TokenRefused("issuer")
    if claims.get("aud") not in (expected.client_id, [expected.client_id]):
        raise TokenRefused("audience")
    if claims.get("azp", expected.client_id) != expected.client_id:
        raise TokenRefused("authorized party")
    if not expected.nonce or claims.get("nonce") != expected.nonce:
        raise TokenRefused("nonce")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject.strip() or len(subject) > MOST_SUBJECT or not subject.isprintable():
        raise TokenRefused("subject")


def _check_times(claims: Mapping[str, Any], now: datetime) -> None:
    at = now.timestamp()
    expires, issued = _read_time(claims, "exp"), _read_time(claims, "iat")
    if expires + SKEW_SECONDS <= at:
        raise TokenRefused("expired")
    if expires < issued:
        raise TokenRefused("expired before it was issued")
    if issued > at + SKEW_SECONDS:
        raise TokenRefused("issued in the future")
    if issued + OLDEST_SECONDS + SKEW_SECONDS < at:
        raise TokenRefused("issued long ago")
    if "nbf" in claims and _read_time(claims, "nbf") > at + SKEW_SECONDS:
        raise TokenRefused("not valid yet")


def _check_auth_time(claims: Mapping[str, Any], expected: Expected) -> None:
    if expected.signed_in_after is None:
        return
    if _read_time(claims, "auth_time") + SKEW_SECONDS < expected.signed_in_after.timestamp():
        raise TokenRefused("not signed in anew")


def read_auth_time(claims: Mapping[str, Any]) -> datetime | None:
    """When somebody signed in to the portal, if a token says so."""
    try:
        return datetime.fromtimestamp(_read_time(claims, "auth_time"), UTC)
    except TokenRefused:
        return None


def _read_time(claims: Mapping[str, Any], name: str) -> float:
    """A NumericDate (RFC 7519 §2): seconds, as a number."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _LATEST:
        raise TokenRefused(f"{name} is no time")
    return float(value)


def _check_hash(claims: Mapping[str, Any], name: str, of: str, algorithm: str) -> None:
    """`at_hash` and `c_hash`, where they are given: half of the hash the signature uses (OIDC Core §3.1.3.6)."""
    if name not in claims:
        return
    digest = hashlib.new(f"sha{algorithm[2:]}", of.encode()).digest()
    wanted = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    if claims[name] != wanted:
        raise TokenRefused(name)
