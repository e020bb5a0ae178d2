"""Asks upstreams' servers: within a deadline, up to a size, at addresses that egress allows, and without redirects.

Whatever an upstream's server does (nothing for a minute, gigabytes, a page for people, a private address behind its
name), the caller gets an answer or one exception that says in a word what was wrong.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import httpx2
import msgspec

from homeroom.clock import Clock
from homeroom.egress import AddressRefused, Way, read_address
from sso.upstream.hosts import Host, Hosts, Order

FETCH_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 2.0
MOST_JSON_BYTES: Final = 256 * 1024
MOST_DOCUMENT_BYTES: Final = 5 * 1024 * 1024
"""Metadata of SAML federations is large; that of a single provider is a few kilobytes."""

Word = Literal["address", "unreachable", "timeout", "tls", "redirect", "status", "too-large", "content", "unreadable"]

_AGENT: Final = "Homeroom"
_UNPACK: Final = 47
"""zlib's word for: gzip or zlib, whichever the header says."""


class NotFetched(Exception):  # noqa: N818 - what happened to the request
    """Nothing usable came.

    Args:
        word: what was wrong: `address` (egress does not allow it), `unreachable`, `timeout`, `tls`, `redirect`,
            `status`, `too-large`, `content` (not what was asked for), `unreadable`.
        detail: a plain sentence that names the host at most, for admins.
        status: HTTP's, where one came.
    """

    def __init__(self, word: Word, detail: str, *, status: int | None = None) -> None:
        super().__init__(f"{word}: {detail}")
        self.word: Word = word
        self.detail = detail
        self.status = status


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def read_json(self) -> Any:
        """What it says in JSON. Raises `NotFetched` if it is not labelled as JSON, or is none."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in {"application/json", "text/json"} and not kind.endswith("+json"):
            raise NotFetched("content", "What was answered is not JSON.", status=self.status)
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise NotFetched("unreadable", "What was answered is not well-formed JSON.", status=self.status) from None


@dataclass(frozen=True, slots=True)
class Fetching:
    """Asks servers that somebody else names, at judged addresses, over connections that are each host's own."""

    hosts: Hosts
    allow_private: bool
    seconds: float = FETCH_SECONDS

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        allow_private: bool,
        tls: ssl.SSLContext | None = None,
        seconds: float = FETCH_SECONDS,
        clock: Clock | None = None,
    ) -> AsyncIterator[Fetching]:
        """Ready to ask; without a context of its own TLS trusts what this machine trusts."""
        async with Hosts.open(allow_private=allow_private, tls=tls, clock=clock) as hosts:
            yield cls(hosts, allow_private, seconds)

    async def get_json(self, url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The JSON object at a URL. Raises `NotFetched`."""
        found = (await self._get(url, MOST_JSON_BYTES, {"Accept": "application/json", **(headers or {})})).read_json()
        if not isinstance(found, dict):
            raise NotFetched("unreadable", "What was answered is JSON, but no object.")
        return found

    async def get_bytes(self, url: str, max_bytes: int = MOST_DOCUMENT_BYTES, accept: str = "*/*") -> bytes:
        """The document at a URL. Raises `NotFetched`."""
        return (await self._get(url, max_bytes, {"Accept": accept})).body

    async def post(
        self, url: str, content: bytes, headers: Mapping[str, str], max_bytes: int = MOST_JSON_BYTES
    ) -> Fetched:
        """What is answered to a request with a body, whatever its status but redirects. Raises `NotFetched`."""
        return await self._ask("POST", url, max_bytes, headers, content)

    async def _get(self, url: str, max_bytes: int, headers: Mapping[str, str]) -> Fetched:
        found = await self._ask("GET", url, max_bytes, headers, None)
        if found.status != httpx2.codes.OK:
            raise NotFetched("status", f"The server answered {found.status}.", status=found.status)
        return found

    async def _ask(
        self, method: str, url: str, max_bytes: int, headers: Mapping[str, str], content: bytes | None
    ) -> Fetched:
        try:
            address = read_address(url, allow_private=self.allow_private)
            async with asyncio.timeout(self.seconds):
                found = await self._send(method, address, max_bytes, headers, content)
        except (TimeoutError, httpx2.TimeoutException):
            raise NotFetched("timeout", f"The server did not answer within {self.seconds:g} seconds.") from None
        except AddressRefused as refused:
            raise NotFetched("address", refused.detail) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, OSError, ValueError) as error:
            raise _explain(error) from None
        if httpx2.codes.is_redirect(found.status):
            detail = f"The server answered {found.status}; redirections are not followed."
            raise NotFetched("redirect", detail, status=found.status)
        return found

    async def _send(
        self, method: str, url: httpx2.URL, max_bytes: int, headers: Mapping[str, str], content: bytes | None
    ) -> Fetched:
        async with self.hosts.lend(url) as (host, way):
            response = await _open(host, lambda: self._make_request(method, way, headers, content))
            try:
                body = bytearray()
                async for piece in response.aiter_raw():
                    body += piece
                    if len(body) > max_bytes:
                        raise _too_large(max_bytes, response.status_code)
            finally:
                await response.aclose()
        unpacked = _unpack(bytes(body), response.headers.get("content-encoding", ""), max_bytes)
        return Fetched(response.status_code, response.headers, unpacked)

    def _make_request(self, method: str, way: Way, headers: Mapping[str, str], content: bytes | None) -> httpx2.Request:
        connect = {"connect": min(CONNECT_SECONDS, self.seconds)}  # all of it together has a deadline already
        return httpx2.Request(
            method,
            way.url,
            headers={"User-Agent": _AGENT, "Accept-Encoding": "identity", **headers, **way.headers},
            content=content,
            extensions={**way.extensions, "timeout": connect, "trace": Order().watch},
        )


async def _open(host: Host, make_request: Callable[[], httpx2.Request]) -> httpx2.Response:
    """The beginning of an answer.

    A server may close a kept connection in the moment it is used again. A question that changes nothing is then asked
    once more. One that does (a code is exchanged) is not: nobody can tell whether it was read.
    """
    request = make_request()
    try:
        response = await host.transport.handle_async_request(request)
    except (httpx2.ConnectError, httpx2.ConnectTimeout):
        host.forget()
        raise
    except (httpx2.ReadError, httpx2.RemoteProtocolError):
        if request.method != "GET" or not host.answered:
            raise
        response = await host.transport.handle_async_request(make_request())
    host.answered = True
    return response


def _unpack(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """The body as it was before it was packed, which we did not ask for; never more than may be read."""
    if encoding.strip().lower() in {"", "identity"}:
        return body
    if encoding.strip().lower() not in {"gzip", "x-gzip", "deflate"}:
        raise NotFetched("content", "What was answered is packed in a way that was not asked for.")
    try:
        unpacked = zlib.decompressobj(_UNPACK).decompress(body, max_bytes + 1)
    except zlib.error:
        raise NotFetched("unreadable", "What was answered can't be unpacked.") from None
    if len(unpacked) > max_bytes:
        raise _too_large(max_bytes)
    return unpacked


def _too_large(max_bytes: int, status: int | None = None) -> NotFetched:
    return NotFetched("too-large", f"The server answered with more than {max_bytes} bytes.", status=status)


def _explain(error: BaseException) -> NotFetched:
    """A connection that failed, in our words only."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return NotFetched("tls", "The server's certificate is not trusted.")
        if isinstance(cause, ssl.SSLError):
            return NotFetched("tls", "The secure connection to the server failed.")
        cause = cause.__cause__ or cause.__context__
    return NotFetched("unreachable", f"The connection to the server failed ({type(error).__name__}).")
