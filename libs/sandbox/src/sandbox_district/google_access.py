"""Who may read Google Classroom: service accounts by signed assertions, for people of the domain.

Source: Google's guide to server-to-server OAuth 2 (RFC 7523), and the Classroom API's scopes.
"""

import secrets
import time
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from sandbox_district.people import DOMAIN
from sandbox_district.replies import Reply, reply_json

GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPE_PREFIX: Final = "https://www.googleapis.com/auth/classroom."
COURSES, ROSTERS, EMAILS, PHOTOS, GUARDIANS = (
    SCOPE_PREFIX + name
    for name in (
        "courses.readonly",
        "rosters.readonly",
        "profile.emails",
        "profile.photos",
        "guardianlinks.students.readonly",
    )
)
SCOPES: Final = frozenset({COURSES, ROSTERS, EMAILS, PHOTOS, GUARDIANS})
_LONGEST: Final = 3600
_LEEWAY: Final = 300


@dataclass(slots=True)
class Grant:
    """A token that was given: for whom, for what, until when, and how often it was used."""

    subject: str
    scopes: frozenset[str]
    expires_at: float
    uses: int = 0


class GoogleAccess:
    """The one service account that the domain's administrator let in, and the tokens it got."""

    def __init__(self, seed: int, token_seconds: int = 3599) -> None:
        digest = blake2b(f"google/{seed}".encode(), digest_size=8).hexdigest()
        self.domain = DOMAIN
        self.admin = f"admin@{DOMAIN}"
        self.email = f"roster-{digest}@homeroom-sandbox.iam.example"
        self.scopes = SCOPES
        self.token_seconds = token_seconds
        self._digest = digest
        self._grants: dict[str, Grant] = {}

    @cached_property
    def _key(self) -> RSAKey:
        """Made when it is first asked for, which takes a moment."""
        return RSAKey.generate_key(2048)

    def write_key(self, token_url: str) -> str:
        """The JSON file that Google gives for a service account."""
        return msgspec.json.encode(
            {
                "type": "service_account",
                "project_id": "homeroom-sandbox",
                "private_key_id": self._digest,
                "private_key": self._key.as_pem(private=True).decode(),
                "client_email": self.email,
                "client_id": str(int(self._digest, 16)),
                "token_uri": token_url,
                "universe_domain": "googleapis.com",
            }
        ).decode()

    def grant(self, body: bytes, token_url: str, people: frozenset[str]) -> Reply:
        """Answer a token request.

        Args:
            body: the form.
            token_url: what the assertion has to be addressed to.
            people: the addresses of the domain's people besides the administrator, in lower case.
        """
        form = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        if form.get("grant_type") != GRANT:
            return _refuse("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', '')}")
        try:
            claims = jwt.decode(form.get("assertion", ""), self._key, algorithms=["RS256"]).claims
        except (JoseError, ValueError):
            return _refuse("invalid_grant", "Invalid JWT Signature.")
        if why := self._find_flaw(claims, token_url):
            return _refuse("invalid_grant", why)
        subject, scopes = str(claims.get("sub", "")).lower(), frozenset(str(claims.get("scope", "")).split())
        if not scopes or not scopes <= self.scopes:
            return _refuse("unauthorized_client", "The client is not authorized for the scopes requested.", 401)
        if subject != self.admin and subject not in people:
            return _refuse("invalid_grant", "Invalid email or User ID")
        token = f"ya29.{secrets.token_urlsafe(32)}"
        self._grants[token] = Grant(subject, scopes, time.monotonic() + self.token_seconds)
        return reply_json({"access_token": token, "expires_in": self.token_seconds, "token_type": "Bearer"})

    def find(self, token: str) -> Grant | None:
        """The grant of a token that is good, counting its use."""
        grant = self._grants.get(token)
        if grant is None or grant.expires_at <= time.monotonic():
            return None
        grant.uses += 1
        return grant

    def revoke(self) -> None:
        """Forget every token."""
        self._grants.clear()

    def _find_flaw(self, claims: dict[str, Any], token_url: str) -> str | None:
        now, issued, expires = time.time(), claims.get("iat"), claims.get("exp")
        if claims.get("iss") != self.email:
            return "Invalid issuer: Not found."
        if claims.get("aud") != token_url:
            return "Invalid JWT: Failed audience check."
        if not isinstance(issued, int | float) or not isinstance(expires, int | float):
            return "Invalid JWT: iat and exp are needed."
        if not now - _LEEWAY < expires <= issued + _LONGEST or issued > now + _LEEWAY:
            return "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
        return None


def _refuse(error: str, why: str, status: int = 400) -> Reply:
    return reply_json({"error": error, "error_description": why}, status)
