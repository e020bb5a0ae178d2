"""Tokens for tests of any service: an issuer of its own, without a running sso.

issuer = TestIssuer()
app = create_app(..., verifier=issuer.verifier)
async with calling(app, issuer.token(scopes=["admin"])) as client:
    answer = await client.get("/v1/integrations")
"""

from __future__ import annotations

import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from homeroom.auth import AUDIENCE, TOKEN_TYPE, Verifier


class TestIssuer:
    """A signing key, tokens signed with it, and a verifier that trusts it."""

    __test__ = False  # pytest would take the class for a test by its name

    def __init__(self, issuer: str = "http://issuer.test") -> None:
        self.issuer = issuer
        self.key = ECKey.generate_key("P-256", auto_kid=True)
        self.verifier = Verifier(issuer, self.jwks)

    async def jwks(self) -> Mapping[str, Any]:
        """The public key, as sso would serve it."""
        return KeySet([self.key]).as_dict(private=False)

    def token(
        self,
        scopes: Collection[str] = (),
        *,
        organization_id: object = None,
        product_id: object = None,
        subject: str = "test",
        **claims: Any,
    ) -> str:
        """A token that is valid for an hour; `claims` replace what it would say, None leaves a claim out."""
        now = int(time.time())
        said = {
            "iss": self.issuer,
            "sub": subject,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + 3600,
            "client_id": subject,
            "scope": " ".join(scopes),
            "organization_id": None if organization_id is None else str(organization_id),
            "product_id": None if product_id is None else str(product_id),
        } | claims
        header = {"alg": "ES256", "kid": self.key.kid}
        kept = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(header, kept, self.key, default_type=TOKEN_TYPE)

    def headers(self, scopes: Collection[str] = (), **more: Any) -> dict[str, str]:
        """The Authorization header with such a token."""
        return {"Authorization": f"Bearer {self.token(scopes, **more)}"}


def forge_hmac(public_pem: bytes, kid: str, claims: Mapping[str, Any]) -> str:
    """A token signed with a public key as if it were a shared secret (HS256): the classic confusion of algorithms."""
    parts = [{"alg": "HS256", "typ": TOKEN_TYPE, "kid": kid}, dict(claims)]
    signed = b".".join(urlsafe_b64encode(msgspec.json.encode(part)).rstrip(b"=") for part in parts)
    signature = urlsafe_b64encode(hmac.digest(public_pem, signed, "sha256")).rstrip(b"=")
    return b".".join((signed, signature)).decode()


@asynccontextmanager
async def calling(app: FastAPI, token: str | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an app that is opened and closed as in a real process, without a socket between them."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app), base_url="http://homeroom.test", headers=headers, timeout=30
        ) as client,
    ):
        yield client
