"""Who may read: OAuth 1.0a signatures, really verified, and OAuth 2 client credentials."""

import base64
import binascii
import secrets
import time
from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode

from oauthlib.oauth1 import RequestValidator, SignatureOnlyEndpoint
from starlette.requests import Request

from sandbox_district.faults import Fault, TokenExpiry
from sandbox_district.replies import Reply, reply_error, reply_json

SCOPE_PREFIX = "https://purl.imsglobal.org/spec/or/v1p1/scope/"
SCOPE_PREFIX_1P2 = "https://purl.imsglobal.org/spec/or/v1p2/scope/"
SCOPES = frozenset(
    prefix + name
    for prefix in (SCOPE_PREFIX, SCOPE_PREFIX_1P2)
    for name in ("roster-core.readonly", "roster.readonly", "roster-demographics.readonly")
)


@dataclass(frozen=True, slots=True)
class _Token:
    expires_at: float
    scopes: frozenset[str]


class _Validator(RequestValidator):  # type: ignore[misc]  # oauthlib has no types
    """What oauthlib asks about a signed request; it remembers every nonce of a timestamp that is still good."""

    enforce_ssl = False
    allowed_signature_methods = ("HMAC-SHA1", "HMAC-SHA256")
    nonce_length = (1, 200)
    dummy_client = "nobody"

    def __init__(self, client_id: str, client_secret: str) -> None:
        super().__init__()
        self._client_id, self._client_secret = client_id, client_secret
        self._seen: set[tuple[str, str]] = set()

    def check_client_key(self, client_key: str) -> bool:
        return bool(client_key)

    def check_nonce(self, nonce: str) -> bool:
        return bool(nonce)

    def validate_client_key(self, client_key: str, _request: Any) -> bool:
        return client_key == self._client_id

    def get_client_secret(self, client_key: str, _request: Any) -> str:
        return self._client_secret if client_key == self._client_id else secrets.token_hex()

    def validate_timestamp_and_nonce(
        self, _client_key: str, timestamp: str, nonce: str, _request: Any, **_tokens: Any
    ) -> bool:
        if (timestamp, nonce) in self._seen:
            return False
        self._seen.add((timestamp, nonce))
        return True


class Access:
    """The one client of the district, known by the same id and secret in OAuth 1.0a and OAuth 2.

    Args:
        seed: what the id and the secret are made from; the secret has characters that must be escaped.
        token_seconds: how long a bearer token is good for.
    """

    def __init__(self, seed: int, token_seconds: int = 3600) -> None:
        digest = blake2b(str(seed).encode(), digest_size=12, person=b"sandbox").hexdigest()
        self.client_id = f"homeroom-{seed}"
        self.client_secret = f"{digest}&/=+%"
        self.token_seconds = token_seconds
        self._tokens: dict[str, _Token] = {}
        self._uses: Counter[str] = Counter()
        self._signatures = SignatureOnlyEndpoint(_Validator(self.client_id, self.client_secret))

    def refuse(
        self, request: Request, scope: str, faults: list[Fault], *, prefix: str = SCOPE_PREFIX, signed: bool = True
    ) -> Reply | None:
        """Why a request may not read what needs a scope; None if it may.

        Args:
            request: the request.
            scope: the last part of the scope's name.
            faults: the faults that strike the request.
            prefix: the first part of the scope's name, which is the version's.
            signed: whether a signature by OAuth 1.0a will do, which stands for all scopes.
        """
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        match scheme.lower():
            case "oauth" if signed:
                return None if self._verify_signature(request) else _deny("The OAuth signature is not right.")
            case "bearer":
                return self._check_token(credentials.strip(), prefix + scope, faults)
        return _deny("Sign the request with OAuth 1.0a, or send a bearer token." if signed else "Send a bearer token.")

    def grant(self, body: bytes, authorization: str) -> Reply:
        """Answer a token request; the client is named in a Basic header or in the form."""
        form = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        named = read_basic(authorization) or {(form.get("client_id", ""), form.get("client_secret", ""))}
        if (self.client_id, self.client_secret) not in named:
            return reply_json({"error": "invalid_client"}, 401, {"www-authenticate": "Basic"})
        if form.get("grant_type") != "client_credentials":
            return reply_json({"error": "unsupported_grant_type"}, 400)
        scopes = frozenset(form.get("scope", "").split()) or SCOPES
        if not scopes <= SCOPES:
            return reply_json({"error": "invalid_scope"}, 400)
        token = secrets.token_urlsafe(24)
        self._tokens[token] = _Token(time.monotonic() + self.token_seconds, scopes)
        answer = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": self.token_seconds,
            "scope": " ".join(sorted(scopes)),
        }
        return reply_json(answer, headers={"cache-control": "no-store"})

    def _check_token(self, token: str, scope: str, faults: list[Fault]) -> Reply | None:
        known = self._tokens.get(token)
        self._uses[token] += 1
        worn_out = any(isinstance(fault, TokenExpiry) and self._uses[token] > fault.requests for fault in faults)
        if known is None or known.expires_at <= time.monotonic() or worn_out:
            return _deny("The bearer token is unknown or has expired.")
        if scope not in known.scopes:
            return reply_error(403, "forbidden", f"The token lacks the scope {scope}.")
        return None

    def _verify_signature(self, request: Request) -> bool:
        # The query is spelt anew, since oauthlib refuses some unescaped characters; what is signed stays the same.
        query = urlencode(parse_qsl(request.url.query, keep_blank_values=True))
        path = request.scope.get("raw_path", b"").decode("ascii")
        uri = f"{request.url.scheme}://{request.headers['host']}{path}"
        headers = {"Authorization": request.headers["authorization"]}
        try:
            valid, _ = self._signatures.validate_request(f"{uri}?{query}" if query else uri, "GET", None, headers)
        except ValueError:
            return False
        return bool(valid)


def _deny(why: str) -> Reply:
    return reply_error(401, "unauthorisedrequest", why, {"www-authenticate": 'OAuth realm="roster", Bearer'})


def read_basic(authorization: str) -> set[tuple[str, str]]:
    """The client and secret of a Basic header, as they stand and as RFC 6749 has them escaped."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return set()
    try:
        client, _, secret = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return set()
    return {(client, secret), (unquote_plus(client), unquote_plus(secret))}
