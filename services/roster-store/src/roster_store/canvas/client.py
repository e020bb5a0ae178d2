"""Talks to one Canvas: an account, an upload, an import's state (Canvas REST API, "SIS Imports").

Every request is a connection of its own to an address that was judged as it was resolved. Answers are read up to a
limit, redirections are not followed, and nothing of an answer is passed on but what is named here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO, Any, Final

import httpx2
import msgspec

from homeroom.codes import Code
from homeroom.egress import AddressRefused, find_way, open_client

ASK_SECONDS: Final = 30.0
UPLOAD_SECONDS: Final = 1_800.0
_CHUNK: Final = 262_144
_MOST_ANSWER: Final = 4_000_000
_AGENT: Final = "Homeroom/0.1 (canvas)"
_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY, _SERVER_ERROR = 401, 403, 429, 500
_REFUSALS: Final = {
    _UNAUTHORIZED: "Canvas does not accept the access token.",
    _FORBIDDEN: "The token's user may not import SIS data into this account.",
    404: "Canvas knows no such account, or imports are turned off for it.",
}
_MOST_WAIT: Final = 3_600.0

DONE: Final = frozenset({"imported", "imported_with_messages", "restored", "partially_restored"})
FAILED: Final = frozenset({"aborted", "failed", "failed_with_messages"})
"""States of an import that do not change any more; all others are on their way."""


class CanvasProblem(Exception):  # noqa: N818 - what became of a request; most are tried again
    """A request came to nothing.

    Args:
        code: one of CANVAS_*, or what an address is refused with.
        detail: a sentence for admins.
        again: whether another attempt may end otherwise.
        wait: for how many seconds Canvas wants to be left alone.
    """

    def __init__(self, code: Code, detail: str, *, again: bool = False, wait: float | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.again = again
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Place:
    """Where a Canvas is, and with what it is asked."""

    base_url: str
    account_id: str
    token: str

    @property
    def account_url(self) -> str:
        """The root account."""
        return f"{self.base_url}/api/v1/accounts/{self.account_id}"


class Import(msgspec.Struct, frozen=True):
    """What Canvas says of an import."""

    id: int | str
    workflow_state: str = "created"
    progress: int | float | str | None = None
    processing_warnings: list[Any] | None = None
    processing_errors: list[Any] | None = None
    diffing_threshold_exceeded: bool | None = None

    @property
    def percent(self) -> int | None:
        """How far it is."""
        try:
            return None if self.progress is None else max(0, min(100, int(float(self.progress))))
        except (ValueError, OverflowError):
            return None


@dataclass(frozen=True, slots=True)
class Canvas:
    """Asks Canvases."""

    http: httpx2.AsyncClient
    allow_private: bool

    @classmethod
    @asynccontextmanager
    async def open(cls, *, allow_private: bool, tls: ssl.SSLContext | None = None) -> AsyncIterator[Canvas]:
        """A client; without a context of its own TLS trusts what this machine trusts."""
        async with open_client(ASK_SECONDS, tls) as http:
            yield cls(http, allow_private)

    async def check_account(self, place: Place) -> None:
        """Return if the account is there and the token may look at it. Raises `CanvasProblem`."""
        await self._ask(place, "GET", place.account_url)

    async def upload(self, place: Place, file: IO[bytes], size: int, options: Mapping[str, str]) -> Import:
        """Begin an import of a zip. Raises `CanvasProblem`."""
        url = f"{place.account_url}/sis_imports?{httpx2.QueryParams({'import_type': 'instructure_csv', **options})}"
        headers = {"Content-Type": "application/zip", "Content-Length": str(size)}
        await asyncio.to_thread(file.seek, 0)
        return _read_import(await self._ask(place, "POST", url, headers, _read_file(file), UPLOAD_SECONDS))

    async def look_up(self, place: Place, import_id: str) -> Import:
        """How an import stands. Raises `CanvasProblem`."""
        return _read_import(await self._ask(place, "GET", f"{place.account_url}/sis_imports/{import_id}"))

    async def _ask(
        self,
        place: Place,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        content: AsyncIterator[bytes] | None = None,
        seconds: float = ASK_SECONDS,
    ) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                status, given, body = await self._send(place, method, url, headers or {}, content)
        except (TimeoutError, httpx2.TimeoutException):
            raise _unreachable(f"Canvas did not answer within {seconds:.0f} seconds.") from None
        except AddressRefused as refused:
            again = refused.code is Code.PROV_UNREACHABLE
            code = Code.CANVAS_UNREACHABLE if again else refused.code
            raise CanvasProblem(code, refused.detail, again=again) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, OSError) as error:
            raise _unreachable(f"The connection to Canvas failed ({type(error).__name__}).") from None
        if not httpx2.codes.is_success(status):
            raise _judge(status, given)
        return body

    async def _send(
        self, place: Place, method: str, url: str, headers: Mapping[str, str], content: AsyncIterator[bytes] | None
    ) -> tuple[int, httpx2.Headers, bytes]:
        way = await find_way(httpx2.URL(url), allow_private=self.allow_private)
        request = httpx2.Request(
            method,
            way.url,
            headers={
                "Authorization": f"Bearer {place.token}",
                "Accept": "application/json",
                "User-Agent": _AGENT,
                **headers,
                **way.headers,
                "Connection": "close",
            },
            content=content,
            extensions={**way.extensions, "timeout": httpx2.Timeout(ASK_SECONDS).as_dict()},
        )
        response = await self.http.send(request, stream=True)
        try:
            body = b""
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > _MOST_ANSWER:
                    raise _unreachable("Canvas answered with more than can be read.")
            return response.status_code, response.headers, body
        finally:
            await response.aclose()


async def _read_file(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, _CHUNK):
        yield piece


def _read_import(body: bytes) -> Import:
    try:
        return msgspec.json.decode(body, type=Import)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _unreachable("What answered is no Canvas.") from None


def _judge(status: int, headers: httpx2.Headers) -> CanvasProblem:
    """What a status other than success means."""
    throttled = status == _TOO_MANY or (
        status == _FORBIDDEN and headers.get("X-Rate-Limit-Remaining", "").startswith("0")
    )
    if throttled:
        return CanvasProblem(
            Code.CANVAS_UNREACHABLE, "Canvas asked us to slow down.", again=True, wait=_read_wait(headers)
        )
    if status >= _SERVER_ERROR:
        return CanvasProblem(
            Code.CANVAS_UNREACHABLE, f"Canvas answered {status}.", again=True, wait=_read_wait(headers)
        )
    if httpx2.codes.is_redirect(status):
        return CanvasProblem(Code.CANVAS_REFUSED, f"Canvas answered {status}; redirections are not followed.")
    code = Code.CANVAS_AUTH if status == _UNAUTHORIZED else Code.CANVAS_REFUSED
    return CanvasProblem(code, _REFUSALS.get(status, f"Canvas answered {status}."))


def _read_wait(headers: httpx2.Headers) -> float | None:
    try:
        return max(0.0, min(_MOST_WAIT, float(headers.get("Retry-After", ""))))
    except ValueError:
        return None


def _unreachable(detail: str) -> CanvasProblem:
    return CanvasProblem(Code.CANVAS_UNREACHABLE, detail, again=True)
