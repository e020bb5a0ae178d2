"""A Google service account acting for an administrator: OAuth 2 by signed assertion (RFC 7523)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Final

import httpx2
import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from homeroom.codes import Code
from provider_gateway.failures import ProviderError
from provider_gateway.signing import PostForm

_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LASTS_SECONDS: Final = 3_600
_RENEW_BEFORE_SECONDS: Final = 60
_REFUSED: Final = frozenset({400, 401, 403})


class _Key(msgspec.Struct):
    client_email: str
    private_key: str
    private_key_id: str | None = None


class _TokenAnswer(msgspec.Struct):
    access_token: str
    expires_in: float | None = None


class ServiceAccount(httpx2.Auth):
    """Puts an access token on requests; renewed before it runs out, and once when a request is refused.

    Args:
        key_file: the JSON Google gave for the account.
        subject: whom it acts for.
        scopes: what it may see; all of them must be delegated to it.
        token_url: gives tokens, and is whom assertions are made out to.
        post_form: posts to it.

    Raises `ProviderError` AUTH_INVALID where the key can't be read or tokens are refused.
    """

    def __init__(
        self, key_file: str, subject: str, scopes: tuple[str, ...], token_url: str, post_form: PostForm
    ) -> None:
        try:
            self._key = msgspec.json.decode(key_file, type=_Key)
            self._private_key = RSAKey.import_key(self._key.private_key)
        except (msgspec.MsgspecError, ValueError, TypeError, JoseError):
            raise _unreadable() from None
        if not self._private_key.is_private:
            raise _unreadable()
        self._subject = subject
        self._scopes = scopes
        self._token_url = token_url
        self._post_form = post_form
        self._token = ""
        self._good_until = 0.0
        self._turn = asyncio.Lock()

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Put a token on a request; on 401 renew it once and send the request again."""
        token = await self._renew("") if self._good_until <= time.monotonic() else self._token
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == httpx2.codes.UNAUTHORIZED:
            request.headers["Authorization"] = f"Bearer {await self._renew(token)}"
            yield request

    async def _renew(self, refused: str) -> str:
        """A token that is not the refused one, asked for once however many requests need it."""
        async with self._turn:
            if self._token == refused or self._good_until <= time.monotonic():
                self._token, lasts = await self._ask_for_token()
                self._good_until = time.monotonic() + max(lasts - _RENEW_BEFORE_SECONDS, lasts / 2)
            return self._token

    async def _ask_for_token(self) -> tuple[str, float]:
        form = {"grant_type": _GRANT, "assertion": self._sign(int(time.time()))}
        answer = await self._post_form(self._token_url, form, {})
        if answer.status in _REFUSED:
            detail = (
                f"Google gave no token (status {answer.status}): the service account's key, the delegation of its "
                "scopes or the administrator it acts for is not right."
            )
            raise ProviderError(Code.AUTH_INVALID, detail, status=answer.status)
        if answer.status != httpx2.codes.OK:
            detail = f"The token endpoint answered with status {answer.status}; check its address."
            raise ProviderError(Code.PROV_NOT_FOUND, detail, status=answer.status)
        try:
            found = msgspec.json.decode(answer.body, type=_TokenAnswer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ProviderError(Code.PROV_BAD_PAYLOAD, "The token endpoint's answer holds no access token.") from None
        return found.access_token, found.expires_in or _LASTS_SECONDS

    def _sign(self, now: int) -> str:
        header = {"alg": "RS256", "typ": "JWT"}
        if self._key.private_key_id:
            header["kid"] = self._key.private_key_id
        claims = {
            "iss": self._key.client_email,
            "sub": self._subject,
            "scope": " ".join(self._scopes),
            "aud": self._token_url,
            "iat": now,
            "exp": now + _LASTS_SECONDS,
        }
        return jwt.encode(header, claims, self._private_key)


def _unreadable() -> ProviderError:
    return ProviderError(Code.AUTH_INVALID, "The service account's key can't be read.")
