"""The token endpoint: client credentials (RFC 6749 §4.4) for services and products.

Written plainly rather than with Authlib's authorization server: that one is synchronous and wants a request class, a
query function and a storage class around it, for one grant that is a comparison and a signature. Authlib earns its
place where sso is itself a client of somebody else's sign-in.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_plus

from joserfc import jwt

from homeroom.auth import AUDIENCE, TOKEN_TYPE, include
from homeroom.clock import Clock
from homeroom.codes import Code
from homeroom.ids import new_id
from sso.clients import LONGEST_SECRET, Client
from sso.keys import ALGORITHM, SigningKey

GRANT: Final = "client_credentials"

STANDARD_ERRORS: Final[Mapping[Code, tuple[int, str]]] = {
    Code.REQUEST_INVALID: (400, "invalid_request"),
    Code.CLIENT_INVALID: (401, "invalid_client"),
    Code.GRANT_UNSUPPORTED: (400, "unsupported_grant_type"),
    Code.SCOPE_REFUSED: (400, "invalid_scope"),
}
"""RFC 6749 §5.2: what this endpoint answers instead of problem details, by our code."""


class TokenDenied(Exception):  # noqa: N818 - what happened to the request
    """No token is given; `code` says why in our words, `STANDARD_ERRORS` in the standard's."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """Who asks, and for which scopes (none means all they may have)."""

    client_id: str
    client_secret: str
    scopes: tuple[str, ...]


def read_request(form: Sequence[tuple[str, str]], authorization: str | None) -> TokenRequest:
    """Understand a request to the token endpoint. Raises `TokenDenied`."""
    fields = dict(form)
    if len(fields) != len(form):
        raise TokenDenied(Code.REQUEST_INVALID, "A parameter was sent more than once.")
    if "grant_type" not in fields:
        raise TokenDenied(Code.REQUEST_INVALID, "The parameter grant_type is missing.")
    if fields["grant_type"] != GRANT:
        raise TokenDenied(Code.GRANT_UNSUPPORTED, "Tokens are given for client credentials only.")
    if authorization is not None:
        if "client_secret" in fields:
            raise TokenDenied(Code.REQUEST_INVALID, "The client showed its secret in two ways; use one of them.")
        client_id, secret = _read_basic(authorization)
    else:
        client_id, secret = fields.get("client_id", ""), fields.get("client_secret", "")
    if not client_id or not secret or len(client_id) > LONGEST_SECRET or len(secret) > LONGEST_SECRET:
        raise TokenDenied(Code.CLIENT_INVALID, "The client did not show a client_id and a client_secret.")
    return TokenRequest(client_id, secret, tuple(dict.fromkeys(fields.get("scope", "").split())))


def _read_basic(authorization: str) -> tuple[str, str]:
    """Client id and secret from HTTP Basic, where both are form-encoded (RFC 6749 §2.3.1)."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    client_id, colon, secret = text.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise TokenDenied(Code.CLIENT_INVALID, "The Authorization header holds no client id and secret.")
    return unquote_plus(client_id), unquote_plus(secret)


def narrow(allowed: Collection[str], asked: Sequence[str]) -> tuple[str, ...]:
    """The scopes of the token: those asked for, or all allowed if none were. Raises `TokenDenied` for one too many."""
    if refused := [scope for scope in asked if scope not in include(allowed)]:
        known = " ".join(scope for scope in refused if scope.isprintable())[:200]
        raise TokenDenied(Code.SCOPE_REFUSED, f"The client may not have: {known}.")
    return tuple(asked) or tuple(sorted(allowed))


def sign(
    client: Client, scopes: Sequence[str], key: SigningKey, *, issuer: str, clock: Clock, seconds: int
) -> dict[str, Any]:
    """The answer with an access token for a client (RFC 9068, RFC 6749 §5.1)."""
    now = int(clock.now().timestamp())
    claims = {
        "iss": issuer,
        "sub": client.id,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + seconds,
        "jti": str(new_id()),
        "client_id": client.id,
        "scope": " ".join(scopes),
    }
    if client.organization_id:
        claims["organization_id"] = str(client.organization_id)
    if client.product_id:
        claims["product_id"] = str(client.product_id)
    token = jwt.encode({"alg": ALGORITHM, "kid": key.id}, claims, key.private, default_type=TOKEN_TYPE)
    return {"access_token": token, "token_type": "Bearer", "expires_in": seconds, "scope": claims["scope"]}
