"""The token endpoint: what is asked of it, and client credentials (RFC 6749 §4.4) for services and products.

Grants for people who signed in, by code or refresh token, are `sso.provider.grants`.

Written plainly rather than with Authlib's authorization server: that one is synchronous and wants a request class, a
query function and a storage class around it, for one grant that is a comparison and a signature. Authlib earns its
place where sso is itself a client of somebody else's sign-in.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
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
CODE_GRANT: Final = "authorization_code"
REFRESH_GRANT: Final = "refresh_token"
GRANTS: Final = (CODE_GRANT, GRANT, REFRESH_GRANT)

STANDARD_ERRORS: Final[Mapping[Code, tuple[int, str]]] = {
    Code.REQUEST_INVALID: (400, "invalid_request"),
    Code.CLIENT_INVALID: (401, "invalid_client"),
    Code.GRANT_UNSUPPORTED: (400, "unsupported_grant_type"),
    Code.SCOPE_REFUSED: (400, "invalid_scope"),
    Code.GRANT_INVALID: (400, "invalid_grant"),
    Code.SIGNIN_THROTTLED: (429, "temporarily_unavailable"),
    Code.SIGNIN_STORE_AWAY: (503, "temporarily_unavailable"),
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
    """Who asks for what, and for which scopes (none means all they may have).

    Args:
        client_secret: empty for who shows none, which only public clients may.
        grant: one of `GRANTS`.
        parameters: everything that was sent; for what else the grant wants.
    """

    client_id: str
    client_secret: str = field(repr=False)
    scopes: tuple[str, ...] = ()
    grant: str = GRANT
    parameters: Mapping[str, str] = field(repr=False, default_factory=dict)


def read_request(form: Sequence[tuple[str, str]], authorization: str | None) -> TokenRequest:
    """Understand a request to the token endpoint. Raises `TokenDenied`."""
    fields = read_form(form)
    if "grant_type" not in fields:
        raise TokenDenied(Code.REQUEST_INVALID, "The parameter grant_type is missing.")
    if fields["grant_type"] not in GRANTS:
        raise TokenDenied(Code.GRANT_UNSUPPORTED, f"The grant_type must be one of: {' '.join(GRANTS)}.")
    client_id, secret = read_client(fields, authorization)
    if fields["grant_type"] == GRANT and not secret:
        raise TokenDenied(Code.CLIENT_INVALID, "The client did not show a client_id and a client_secret.")
    scopes = tuple(dict.fromkeys(fields.get("scope", "").split()))
    return TokenRequest(client_id, secret, scopes, fields["grant_type"], fields)


def read_form(form: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The parameters of a form. Raises `TokenDenied` if one was sent more than once (RFC 6749 §3.2), or holds a NUL."""
    fields = dict(form)
    if len(fields) != len(form):
        raise TokenDenied(Code.REQUEST_INVALID, "A parameter was sent more than once.")
    if any("\0" in value for value in fields.values()):  # nobody's, and not storable
        raise TokenDenied(Code.REQUEST_INVALID, "A parameter holds a NUL.")
    return fields


def read_client(fields: Mapping[str, str], authorization: str | None) -> tuple[str, str]:
    """Client id and secret, shown in one way; the secret is empty if none was. Raises `TokenDenied`."""
    if authorization is not None:
        if "client_secret" in fields:
            raise TokenDenied(Code.REQUEST_INVALID, "The client showed its secret in two ways; use one of them.")
        client_id, secret = _read_basic(authorization)
        if fields.get("client_id", client_id) != client_id:
            raise TokenDenied(Code.REQUEST_INVALID, "The request names two different clients.")
    else:
        client_id, secret = fields.get("client_id", ""), fields.get("client_secret", "")
    if not client_id or len(client_id) > LONGEST_SECRET or len(secret) > LONGEST_SECRET:
        raise TokenDenied(Code.CLIENT_INVALID, "The client did not show a client_id and a client_secret.")
    return client_id, secret


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
    claims = {
        "sub": client.id,
        "client_id": client.id,
        "scope": " ".join(scopes),
        "organization_id": client.organization_id and str(client.organization_id),
        "product_id": client.product_id and str(client.product_id),
    }
    token = sign_access_token(claims, key, issuer=issuer, clock=clock, seconds=seconds)
    return {"access_token": token, "token_type": "Bearer", "expires_in": seconds, "scope": claims["scope"]}


def sign_access_token(claims: Mapping[str, Any], key: SigningKey, *, issuer: str, clock: Clock, seconds: int) -> str:
    """An access token for Homeroom's REST (RFC 9068); claims that are None are left out."""
    now = int(clock.now().timestamp())
    said = {"iss": issuer, "aud": AUDIENCE, "iat": now, "exp": now + seconds, "jti": str(new_id()), **claims}
    kept = {name: value for name, value in said.items() if value is not None}
    return jwt.encode({"alg": ALGORITHM, "kid": key.id}, kept, key.private, default_type=TOKEN_TYPE)
