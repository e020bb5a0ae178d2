"""How requests prove who we are: OAuth 1.0a signatures, and OAuth 2 client credentials.

OAuth 1.0a is RFC 5849 in its two-legged form: a consumer key and secret, no token. It is written out here because the
library at hand knows no HMAC-SHA256 for it; what is signed is exactly the path and query that go over the wire.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from typing import Literal
from urllib.parse import parse_qsl, quote

import httpx2
import msgspec

from homeroom.codes import Code
from provider_gateway.failures import ProviderError

SignatureMethod = Literal["HMAC-SHA256", "HMAC-SHA1"]
SCOPE_PREFIX = "https://purl.imsglobal.org/spec/or/v1p1/scope/"
_DIGESTS = {"HMAC-SHA256": hashlib.sha256, "HMAC-SHA1": hashlib.sha1}
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_RENEW_BEFORE_SECONDS = 30
_CREDENTIALS_REFUSED = frozenset({400, 401, 403})


def _escape(text: str) -> str:
    return quote(text, safe="-._~")


def sign(method: str, url: httpx2.URL, oauth: Mapping[str, str], secret: str, signature_method: SignatureMethod) -> str:
    """The signature of a request with these `oauth_*` parameters (RFC 5849 §3.4), without a token secret."""
    path, _, query = url.raw_path.decode("ascii").partition("?")
    host = url.netloc.decode("ascii").lower().removesuffix(_DEFAULT_PORTS.get(url.scheme, "\0"))
    pairs = [*parse_qsl(query, keep_blank_values=True), *oauth.items()]
    parameters = "&".join(f"{name}={value}" for name, value in sorted((_escape(n), _escape(v)) for n, v in pairs))
    base = "&".join(_escape(part) for part in (method.upper(), f"{url.scheme}://{host}{path or '/'}", parameters))
    key = f"{_escape(secret)}&".encode()
    return b64encode(hmac.digest(key, base.encode(), _DIGESTS[signature_method])).decode()


class OAuth1(httpx2.Auth):
    """Signs every request anew, also a repeated one: nonces are good for one use."""

    def __init__(self, client_id: str, client_secret: str, signature_method: SignatureMethod = "HMAC-SHA256") -> None:
        self._client_id = client_id
        self._client_secret = client_secret
        self._signature_method = signature_method

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Put the signed Authorization header on a request."""
        oauth = {
            "oauth_consumer_key": self._client_id,
            "oauth_nonce": secrets.token_hex(16),
            "oauth_signature_method": self._signature_method,
            "oauth_timestamp": str(int(time.time())),
        }
        signature = sign(request.method, request.url, oauth, self._client_secret, self._signature_method)
        header = {**oauth, "oauth_signature": signature}
        request.headers["Authorization"] = "OAuth " + ", ".join(
            f'{name}="{_escape(value)}"' for name, value in header.items()
        )
        yield request


class Answer(msgspec.Struct, frozen=True):
    """An answer that was read to its end."""

    status: int
    headers: httpx2.Headers
    body: bytes


PostForm = Callable[[str, Mapping[str, str], Mapping[str, str]], Awaitable[Answer]]
"""Post a form: address, fields, headers."""


class _Token(msgspec.Struct):
    value: str
    good_until: float
    accepted: bool = False


class _TokenAnswer(msgspec.Struct):
    access_token: str
    expires_in: float | str | None = None


class OAuth2(httpx2.Auth):
    """A bearer token by client credentials; renewed before it runs out, and once when the provider refuses it.

    The request that finds its token refused renews it and is sent again while the others wait, so that it can't be
    overtaken for ever where tokens last for few requests.
    """

    def __init__(
        self, client_id: str, client_secret: str, token_url: str, scopes: tuple[str, ...], post_form: PostForm
    ) -> None:
        self._client_id = client_id
        self._client_secret = client_secret
        self._token_url = token_url
        self._scope = " ".join(SCOPE_PREFIX + scope for scope in scopes)
        self._post_form = post_form
        self._token: _Token | None = None
        self._ever_accepted = False
        self._lock = asyncio.Lock()

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Put the token on a request; on 401 renew it once and send the request again."""
        async with self._lock:
            token = self._token
            if token is None or token.good_until <= time.monotonic():
                token = self._token = await self._ask_for_token()
        response = yield self._with(token, request)
        if response.status_code != httpx2.codes.UNAUTHORIZED:
            self._ever_accepted = token.accepted = True
            return
        async with self._lock:
            if not self._ever_accepted:
                raise _refused("It gave us a token and refused it at the first request.")
            token = self._token = await self._renew()
            response = yield self._with(token, request)
            if response.status_code == httpx2.codes.UNAUTHORIZED:
                raise _expired()

    @staticmethod
    def _with(token: _Token, request: httpx2.Request) -> httpx2.Request:
        request.headers["Authorization"] = f"Bearer {token.value}"
        return request

    async def _renew(self) -> _Token:
        try:
            return await self._ask_for_token()
        except ProviderError as error:
            if error.code is Code.AUTH_INVALID:
                raise _expired() from None
            raise

    async def _ask_for_token(self) -> _Token:
        """Try the ways token endpoints are known to want it: Basic then form, with the scopes then without."""
        basic = b64encode(f"{_escape(self._client_id)}:{_escape(self._client_secret)}".encode()).decode()
        in_header: dict[str, str] = {"Authorization": f"Basic {basic}"}
        in_form: dict[str, str] = {"client_id": self._client_id, "client_secret": self._client_secret}
        scopes: tuple[dict[str, str], ...] = ({"scope": self._scope}, {})
        status = 0
        for headers, credentials in ((in_header, {}), ({}, in_form)):
            for scope in scopes:
                form = {"grant_type": "client_credentials", **scope, **credentials}
                answer = await self._post_form(self._token_url, form, headers)
                if answer.status < 300:  # noqa: PLR2004 - 2xx
                    return _read_token(answer)
                status = answer.status
                if status not in _CREDENTIALS_REFUSED:
                    raise ProviderError(
                        Code.PROV_NOT_FOUND,
                        f"The token endpoint answered with status {status}; check its address.",
                        status=status,
                    )
                if status == httpx2.codes.UNAUTHORIZED:
                    break  # the scopes are not what it minds
        raise _refused(f"Its token endpoint answered with status {status}.")


def _read_token(answer: Answer) -> _Token:
    try:
        found = msgspec.json.decode(answer.body, type=_TokenAnswer)
        lifetime = float(found.expires_in or 0)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        raise ProviderError(Code.PROV_BAD_PAYLOAD, "The token endpoint's answer holds no access token.") from None
    lasting = max(lifetime - _RENEW_BEFORE_SECONDS, lifetime / 2) if lifetime > 0 else 3600.0
    return _Token(found.access_token, time.monotonic() + lasting)


def _refused(how: str) -> ProviderError:
    return ProviderError(Code.AUTH_INVALID, f"The provider refused the credentials. {how}", status=401)


def _expired() -> ProviderError:
    return ProviderError(
        Code.AUTH_EXPIRED, "The provider's token ran out in the middle of the run and could not be renewed.", status=401
    )
