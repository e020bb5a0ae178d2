"""Tokens that say who somebody is, signed: ID tokens and logout tokens, and reading ID tokens that come back as hints.

Each kind names its own type in the header or lacks what the others have, so that none passes for another; access tokens
for Homeroom's REST are a third kind (`at+jwt`), which products are not given.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from homeroom.clock import Clock
from homeroom.ids import new_id
from sso.keys import ALGORITHM, Keys

ID_TOKEN_SECONDS: Final = 600
LOGOUT_TOKEN_SECONDS: Final = 120
LOGOUT_TYPE: Final = "logout+jwt"
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
MOST_HINT: Final = 8_000


@dataclass(frozen=True, slots=True)
class IdTokenHint:
    """What an ID token of ours says that a product shows again, whether it has run out or not."""

    client_id: str
    subject: str
    sid: UUID | None


class Signing:
    """Signs with the key in use."""

    def __init__(self, keys: Keys, issuer: str, clock: Clock) -> None:
        self._keys = keys
        self._issuer = issuer
        self._clock = clock

    def sign_id_token(
        self,
        client_id: str,
        claims: Mapping[str, Any],
        *,
        sid: UUID,
        nonce: str | None,
        auth_time: datetime,
        access_token: str,
    ) -> str:
        """An ID token (OIDC Core §2), good for ten minutes."""
        now = int(self._clock.now().timestamp())
        said = {
            **claims,
            "iss": self._issuer,
            "aud": client_id,
            "iat": now,
            "exp": now + ID_TOKEN_SECONDS,
            "auth_time": int(auth_time.timestamp()),
            "sid": str(sid),
            "at_hash": _hash_half(access_token),
        }
        if nonce is not None:
            said["nonce"] = nonce
        return self._sign(said, "JWT")

    def sign_logout_token(self, client_id: str, subject: str, sid: UUID) -> str:
        """A logout token (OIDC Back-Channel Logout §2.4); it never holds a nonce."""
        now = int(self._clock.now().timestamp())
        said = {
            "iss": self._issuer,
            "aud": client_id,
            "iat": now,
            "exp": now + LOGOUT_TOKEN_SECONDS,
            "jti": str(new_id()),
            "sub": subject,
            "sid": str(sid),
            "events": {LOGOUT_EVENT: {}},
        }
        return self._sign(said, LOGOUT_TYPE)

    async def read_hint(self, token: str) -> IdTokenHint | None:
        """Whose ID token this was; None for what we did not sign as one. That it has run out does not matter."""
        if len(token) > MOST_HINT:
            return None
        try:
            header = jws.extract_compact(token.encode("ascii")).headers()
            if header.get("alg") != ALGORITHM or header.get("typ") != "JWT":
                return None
            keys = KeySet.import_key_set(await self._keys.jwks())  # type: ignore[arg-type]  # our own JWKS
            claims = jwt.decode(token, keys, algorithms=[ALGORITHM]).claims
            sid = claims.get("sid")
            texts = (claims["aud"], claims["sub"])
            if claims["iss"] != self._issuer or "events" in claims or not all(isinstance(one, str) for one in texts):
                return None
            return IdTokenHint(texts[0], texts[1], None if sid is None else UUID(sid))
        except (JoseError, LookupError, TypeError, ValueError, AttributeError):
            return None

    def _sign(self, claims: Mapping[str, Any], kind: str) -> str:
        key = self._keys.signing
        return jwt.encode({"alg": ALGORITHM, "kid": key.id}, dict(claims), key.private, default_type=kind)


def _hash_half(token: str) -> str:
    """`at_hash`: the left half of the token's SHA-256 (OIDC Core §3.1.3.6)."""
    return urlsafe_b64encode(hashlib.sha256(token.encode("ascii")).digest()[:16]).rstrip(b"=").decode("ascii")
