"""How requests prove who we are: OAuth 1.0a signatures, OAuth 2 client credentials, and tokens got elsewhere.

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
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Literal
from urllib.parse import parse_qsl, quote

import httpx2
import msgspec

from homeroom.codes import Code
from provider_gateway.failures import ProviderError

SignatureMethod = Literal["HMAC-SHA256", "HMAC-SHA1"]
ScopeVersion = Literal["v1p1", "v1p2"]
TokenForm = Literal["basic", "body"]
"""Where a token endpoint wants the credentials: in a Basic header, or in the form."""
SCOPE_PREFIX = "https://purl.imsglobal.org/spec/or/{version}/scope/"
_DIGESTS = {"HMAC-SHA256": hashlib.sha256, "HMAC-SHA1": hashlib.sha1}
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_RENEW_BEFORE_SECONDS = 30
_CREDENTIALS_REFUSED = frozenset({400, 401, 403})
_MOST_CLOCK_SECONDS = 60
"""A signature refused by a server whose clock is further off than this is made once more by that clock."""


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
        self._clock_ahead = 0.0
        """Seconds by which the server's clock is ahead of ours, once it refused a signature for it."""

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Put the signed Authorization header on a request."""
        response = yield self._sign(request)
        if response.status_code == httpx2.codes.UNAUTHORIZED:
            ahead = read_clock(response.headers)
            if ahead is not None and abs(ahead - self._clock_ahead) > _MOST_CLOCK_SECONDS:
                self._clock_ahead = ahead
                yield self._sign(request)

    def _sign(self, request: httpx2.Request) -> httpx2.Request:
        oauth = {
            "oauth_consumer_key": self._client_id,
            "oauth_nonce": secrets.token_hex(16),
            "oauth_signature_method": self._signature_method,
            "oauth_timestamp": str(int(time.time() + self._clock_ahead)),
        }
        signature = sign(request.method, request.url, oauth, self._client_secret, self._signature_method)
        header = {**oauth, "oauth_signature": signature}
        request.headers["Authorization"] = "OAuth " + ", ".join(
            f'{name}="{_escape(value)}"' for name, value in header.items()
        )
        return request


def read_clock(headers: httpx2.Headers) -> float | None:
    """Seconds by which the clock of who sent these headers is ahead of ours; None if they don't say."""
    try:
        return parsedate_to_datetime(headers["date"]).timestamp() - time.time()
    except (KeyError, ValueError, OverflowError):
        return None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStyle:
    """How a token endpoint is asked first; if it refuses that, credentials go the other way once."""

    form: TokenForm = "basic"
    in_query: bool = False
    """Whether grant type and scopes stand in the query, beside what the address already has there."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further parameters."""


@dataclass(frozen=True, slots=True)
class _Way:
    """One way of asking for a token."""

    form: TokenForm
    scope: str


class Bearer(httpx2.Auth):
    """A token that was got elsewhere; refused once, it is looked up again.

    Args:
        token: what is sent as `Authorization: Bearer …`.
        refresh: gets the token that is valid now; None if there is none. Asked at a 401, by one request while others
            wait; only if it brings another token, the request is sent again. It may ask by the same client.
    """

    def __init__(self, token: str, refresh: Callable[[], Awaitable[str | None]] | None = None) -> None:
        self._token = token
        self._refresh = refresh
        self._lock = asyncio.Lock()

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Put the token on a request; on 401 look it up once, and send the request again if it is another."""
        used = self._token
        request.headers["Authorization"] = f"Bearer {used}"
        response = yield request
        if response.status_code != httpx2.codes.UNAUTHORIZED or self._refresh is None:
            return
        async with self._lock:
            if self._token == used:
                self._token = await self._refresh() or used
        if self._token != used:
            request.headers["Authorization"] = f"Bearer {self._token}"
            yield request


class OAuth2(httpx2.Auth):
    """A bearer token by client credentials; renewed before it runs out, and once when the provider refuses it.

    The request that finds its token refused renews it and is sent again while the others wait, so that it can't be
    overtaken for ever where tokens last for few requests.
    """

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        token_url: str,
        scopes: tuple[str, ...],
        post_form: PostForm,
        *,
        version: ScopeVersion = "v1p1",
        style: TokenStyle | None = None,
    ) -> None:
        """Take the credentials, OneRoster's names of the scopes, and how tokens are asked for."""
        self._client_id = client_id
        self._client_secret = client_secret
        self._token_url = token_url
        self._post_form = post_form
        self._style = style or TokenStyle()
        self._ways = list_ways(scopes, version, self._style.form)
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
        """Try the ways token endpoints are known to want it, until one works; that one comes first from then on."""
        status = 0
        hopeless: TokenForm | None = None
        for way in self._ways:
            if way.form == hopeless:
                continue
            answer = await self._ask(way)
            if answer.status < 300:  # noqa: PLR2004 - 2xx
                self._ways = [way, *(other for other in self._ways if other != way)]
                return _read_token(answer)
            status = answer.status
            if status not in _CREDENTIALS_REFUSED:
                raise ProviderError(
                    Code.PROV_NOT_FOUND,
                    f"The token endpoint answered with status {status}; check its address.",
                    status=status,
                )
            if status == httpx2.codes.UNAUTHORIZED or _read_error(answer) == "invalid_client":
                hopeless = way.form  # the scopes are not what it minds
        raise _refused(f"Its token endpoint answered with status {status}.")

    async def _ask(self, way: _Way) -> Answer:
        question = {"grant_type": "client_credentials", **self._style.extra}
        if way.scope:
            question["scope"] = way.scope
        headers: dict[str, str] = {}
        credentials: dict[str, str] = {}
        if way.form == "basic":
            pair = f"{_escape(self._client_id)}:{_escape(self._client_secret)}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            credentials = {"client_id": self._client_id, "client_secret": self._client_secret}
        if not self._style.in_query:
            return await self._post_form(self._token_url, question | credentials, headers)
        address = httpx2.URL(self._token_url).copy_merge_params(question)
        return await self._post_form(str(address), credentials, headers)  # what is secret never stands in an address


def list_ways(scopes: tuple[str, ...], version: ScopeVersion, form: TokenForm) -> list[_Way]:
    """The usual way first, then with fewer scopes, then with the credentials in the other place (pure)."""
    prefix = SCOPE_PREFIX.format(version=version)
    core = tuple(scope for scope in scopes if scope != "roster.readonly")  # which only nested paths need
    choices = dict.fromkeys(" ".join(prefix + scope for scope in chosen) for chosen in (scopes, core, ()))
    forms: tuple[TokenForm, TokenForm] = ("basic", "body") if form == "basic" else ("body", "basic")
    return [_Way(way, scope) for way in forms for scope in choices]


def _read_error(answer: Answer) -> str | None:
    """OAuth 2's name of an error (RFC 6749 §5.2), if the answer gives one."""
    try:
        found = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, str) else None


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
