"""The polite client: asks providers for pages with deadlines, waits as they ask, and gives up in good time.

Every way a request can fail has its code and its number of tries. A page is tried at most five times, and a run has a
budget for repeating that grows with what it has fetched, so that a provider that is down is not kept down by us.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol, TypeVar

import httpx2
import msgspec

from homeroom.codes import Code
from homeroom.egress import AddressRefused, check_public, read_address
from homeroom.telemetry import FETCH_BYTES, FETCH_PAGES, FETCH_RETRIES, get_logger, span
from provider_gateway.failures import ProviderError
from provider_gateway.gates import HostGate, HostGates, Pace
from provider_gateway.signing import Answer

T = TypeVar("T")
log = get_logger(__name__)

_AGENT = "Homeroom/0.1 (roster sync)"
_MOST_TRIES = {
    Code.PROV_UNREACHABLE: 3,
    Code.PROV_TIMEOUT: 3,
    Code.PROV_BAD_PAYLOAD: 3,
    Code.PROV_RATE_LIMITED: 5,
    Code.PROV_5XX: 5,
}
"""How often a request is tried; what is not listed here is not repeated."""
_TRIES_ONCE_REACHED = 5
_TRIES_WITH_ANOTHER_WAY = 2
_LONGEST_PAUSE_SECONDS = 30.0
_TOKEN_BODY_BYTES = 100_000
_GIVEN_UP_AT_ONCE = frozenset({501, 505})
"""Server errors that will be the same next time."""
_has_slot: ContextVar[bool] = ContextVar("has_slot", default=False)
"""Whether this is asked in the midst of another request, as for a new token: that one's place at the host serves both,
for waiting for another while holding one could go on for ever."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient and how greedy the client is."""

    page_seconds: float = 60.0
    """From sending a request to the last byte of its answer."""
    connect_seconds: float = 5.0
    body_bytes: int = 64_000_000
    """The largest answer that is read, after decompression."""
    retry_after_seconds: float = 900.0
    """The longest wait a provider may ask for."""
    first_pause_seconds: float = 0.5
    retries: int = 50
    """Repeated requests a run may always make; beyond them it may repeat one in ten."""


class Recorder(Protocol):
    """Keeps answers as they came."""

    async def keep(self, path: str, body: bytes) -> None:
        """Keep one; `path` is how it is called in errors."""


@dataclass(slots=True)
class Traffic:
    """What a run has asked of its provider so far."""

    requests: int = 0
    retries: int = 0
    bytes: int = 0


class _Trouble(ProviderError):  # noqa: N818 - one try's trouble, often overcome by the next one
    """One try failed; `wait` is what the provider asked for, in seconds."""

    def __init__(self, code: Code, detail: str, *, status: int | None = None, wait: float | None = None) -> None:
        super().__init__(code, detail, status=status)
        self.wait = wait


class PoliteClient:
    """Asks one integration's provider; open one for a run, so that cookies and tokens never mix."""

    def __init__(
        self, http: httpx2.AsyncClient, gates: HostGates, limits: Limits, *, provider: str, allow_private: bool
    ) -> None:
        self._http = http
        self._gates = gates
        self._limits = limits
        self._provider = provider
        self._allow_private = allow_private
        self._gate_of: dict[str, HostGate] = {}
        self._checked: set[bytes] = set()
        self._reached = False
        self.traffic = Traffic()
        self.recording: Recorder | None = None
        """Where answers are kept, if they are."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, gates: HostGates, limits: Limits, tls: ssl.SSLContext, *, provider: str, allow_private: bool
    ) -> AsyncIterator[PoliteClient]:
        """A client with a connection pool and cookies of its own."""
        async with httpx2.AsyncClient(
            verify=tls,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(limits.page_seconds, connect=limits.connect_seconds),
            limits=httpx2.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=30),
            headers={"Accept": "application/json", "User-Agent": _AGENT},
        ) as http:
            yield cls(http, gates, limits, provider=provider, allow_private=allow_private)

    def pace(self, key: str, per_minute: int) -> Pace:
        """A limit of requests a minute, shared over all runs of this process by key (`HostGates.pace`)."""
        return self._gates.pace(key, per_minute)

    def address(self, text: str) -> httpx2.URL:
        """An address as entered by an admin; ENDPOINT_REFUSED if it can't be one of a provider."""
        with _told_as_trouble():
            return read_address(text, allow_private=self._allow_private)

    async def get(
        self,
        url: httpx2.URL,
        *,
        path: str,
        auth: httpx2.Auth | None,
        read: Callable[[Answer], Awaitable[T]],
        quiet: bool = False,
        headers: Mapping[str, str] | None = None,
        pace: Pace | None = None,
        passes_on: Callable[[ProviderError], bool] | None = None,
    ) -> T:
        """Ask for a page and read it; what `read` finds wrong with it is reason to ask once more.

        Args:
            url: the whole address, with its query.
            path: how to call it in errors: a collection's path, never an id.
            auth: signs each try.
            read: makes something of the answer, or raises `ProviderError`.
            quiet: whether to leave pages and bytes uncounted, as for single records.
            headers: sent beside the usual ones.
            pace: counts this request with others of the same key, and learns from its answer.
            passes_on: which trouble is tried only twice, because the caller has another way then.
        """

        async def once() -> T:
            async with self._slot(url, pace):
                request = self._http.build_request("GET", url, headers=dict(headers or {}))
                answer = await self._exchange(request, auth, self._limits.body_bytes, path)
            if pace is not None:
                pace.heed(answer.headers)
            self._judge(answer, path, url)
            self.traffic.bytes += len(answer.body)
            if self.recording is not None:
                await self.recording.keep(path, answer.body)
            if not quiet:
                FETCH_PAGES.labels(self._provider).inc()
                FETCH_BYTES.labels(self._provider).inc(len(answer.body))
            return await read(answer)

        with span("fetch page", homeroom_path=path):
            return await self._persist(once, url, path, passes_on)

    async def post_json(
        self,
        url: httpx2.URL,
        body: object,
        *,
        path: str,
        auth: httpx2.Auth | None,
        read: Callable[[Answer], Awaitable[T]],
        headers: Mapping[str, str] | None = None,
        pace: Pace | None = None,
    ) -> T:
        """Post JSON that only asks a question, so that asking it again does no harm; otherwise as `get`."""
        content = msgspec.json.encode(body)
        kind = {"Content-Type": "application/json"}

        async def once() -> T:
            async with self._slot(url, pace):
                request = self._http.build_request("POST", url, content=content, headers=kind | dict(headers or {}))
                answer = await self._exchange(request, auth, self._limits.body_bytes, path)
            if pace is not None:
                pace.heed(answer.headers)
            self._judge(answer, path, url)
            self.traffic.bytes += len(answer.body)
            if self.recording is not None:
                await self.recording.keep(path, answer.body)
            return await read(answer)

        with span("fetch page", homeroom_path=path):
            return await self._persist(once, url, path)

    async def post_form(self, address: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """Ask a token endpoint; any answer below 500 but 429 is returned as it is."""
        url = self.address(address)

        async def once() -> Answer:
            request = self._http.build_request("POST", url, data=dict(form), headers=dict(headers))
            answer = await self._exchange(request, None, _TOKEN_BODY_BYTES, "the token endpoint")
            status = answer.status
            if status == httpx2.codes.TOO_MANY_REQUESTS or status >= 500 or 300 <= status < 400:  # noqa: PLR2004 - HTTP's
                self._judge(answer, "the token endpoint", url)
            return answer

        return await self._persist(once, url, "the token endpoint")

    @asynccontextmanager
    async def _slot(self, url: httpx2.URL, pace: Pace | None) -> AsyncIterator[None]:
        """Wait for a turn at the host, and for the pace."""
        if pace is not None:
            await pace.wait()
        if _has_slot.get():
            yield
            return
        async with self._gate(url).slot():
            token = _has_slot.set(True)
            try:
                yield
            finally:
                _has_slot.reset(token)

    async def _persist(
        self,
        once: Callable[[], Awaitable[T]],
        url: httpx2.URL,
        path: str,
        passes_on: Callable[[ProviderError], bool] | None = None,
    ) -> T:
        """Try until it works, the tries for the kind of trouble are used up, or the run's budget is."""
        if not self._allow_private and url.netloc not in self._checked:
            with _told_as_trouble():
                await check_public(url)
            self._checked.add(url.netloc)
        tries = 0
        while True:
            tries += 1
            self.traffic.requests += 1
            try:
                result = await once()
            except ProviderError as trouble:
                passed_on = passes_on is not None and passes_on(trouble)
                if tries >= min(self._most_tries(trouble), _TRIES_WITH_ANOTHER_WAY if passed_on else tries + 1):
                    raise ProviderError(trouble.code, trouble.detail, status=trouble.status) from None
                if self.traffic.retries >= self._limits.retries + self.traffic.requests // 10:
                    detail = f"{trouble.detail} Too many requests had to be repeated in this run."
                    raise ProviderError(trouble.code, detail, status=trouble.status) from None
                self.traffic.retries += 1
                FETCH_RETRIES.labels(self._provider).inc()
                pause = self._pause(trouble, tries)
                log.info("asking again", path=path, code=str(trouble.code), tries=tries, pause=round(pause, 2))
                await asyncio.sleep(pause)
            else:
                self._reached = True
                return result

    def _most_tries(self, trouble: ProviderError) -> int:
        """How often a request is tried that fails like this."""
        if trouble.code is Code.PROV_UNREACHABLE and self._reached:
            return _TRIES_ONCE_REACHED
        if trouble.code is Code.PROV_BAD_PAYLOAD and trouble.status is not None:
            return 1  # it says so itself, or sends too much; only a body that came to harm may come better next time
        if trouble.status in _GIVEN_UP_AT_ONCE:
            return 1
        return _MOST_TRIES.get(trouble.code, 1)

    def _pause(self, trouble: ProviderError, tries: int) -> float:
        """Seconds to wait before the next try: what the provider asked for and a little more, or growing by chance."""
        wait = trouble.wait if isinstance(trouble, _Trouble) else None
        if wait is not None:
            return wait + random.uniform(0, min(1.0, 0.1 * wait + 0.05))
        first = self._limits.first_pause_seconds
        if trouble.code is Code.PROV_RATE_LIMITED:
            first *= 2
        return min(_LONGEST_PAUSE_SECONDS, first * 2.0 ** (tries - 1)) * random.uniform(0.5, 1.0)

    async def _exchange(self, request: httpx2.Request, auth: httpx2.Auth | None, most_bytes: int, path: str) -> Answer:
        """Send a request and read the whole answer, or raise what went wrong on the way."""
        answered = False
        try:
            async with asyncio.timeout(self._limits.page_seconds):
                response = await self._http.send(request, auth=auth, stream=True)
                answered = True
                try:
                    body = await _read_body(response, most_bytes, path)
                finally:
                    await response.aclose()
        except (TimeoutError, httpx2.TimeoutException) as error:
            if isinstance(error, httpx2.ConnectTimeout):
                raise _Trouble(Code.PROV_UNREACHABLE, f"Nothing answers at {request.url.host}.") from None
            detail = f"{path} did not answer completely within {self._limits.page_seconds:g} seconds."
            raise _Trouble(Code.PROV_TIMEOUT, detail) from None
        except httpx2.ConnectError as error:
            raise _explain_connect(error, request.url.host) from None
        except httpx2.DecodingError:
            raise _Trouble(Code.PROV_BAD_PAYLOAD, f"The answer of {path} was wrongly compressed.") from None
        except (httpx2.TransportError, ssl.SSLError):
            if answered:
                raise _Trouble(Code.PROV_BAD_PAYLOAD, f"The answer of {path} broke off.") from None
            detail = f"{request.url.host} closed the connection without an answer."
            raise _Trouble(Code.PROV_UNREACHABLE, detail) from None
        return Answer(response.status_code, response.headers, body)

    def _judge(self, answer: Answer, path: str, url: httpx2.URL) -> None:
        """Let a good answer pass; raise what a bad status means."""
        status = answer.status
        gate = self._gate(url)
        if status < 300:  # noqa: PLR2004 - where HTTP's good answers end
            gate.speed_up()
            return
        wait = _read_retry_after(answer.headers.get("retry-after"), self._limits.retry_after_seconds)
        told = f"{path} answered with status {status}"
        match status:
            case 429:
                gate.slow_down(wait or 0.0)
                raise _Trouble(Code.PROV_RATE_LIMITED, f"{told} (too many requests).", status=status, wait=wait)
            case 401:
                detail = f"The provider refused the credentials: {told}."
                raise ProviderError(Code.AUTH_INVALID, detail, status=status)
            case 403:
                raise ProviderError(Code.PROV_SCOPE, f"{told}: it is not shared with this application.", status=status)
            case 404 | 410:
                raise ProviderError(Code.PROV_NOT_FOUND, f"{told}.", status=status)
            case 408:
                raise _Trouble(Code.PROV_TIMEOUT, f"{told}.", status=status)
            case _ if status < 400:  # noqa: PLR2004 - HTTP's redirects
                raise _explain_redirect(told, url, answer)
            case _ if status >= 500:  # noqa: PLR2004 - HTTP's server errors
                raise _Trouble(Code.PROV_5XX, f"{told}.", status=status, wait=wait)
        raise ProviderError(Code.PROV_BAD_PAYLOAD, f"{told}.", status=status)

    def _gate(self, url: httpx2.URL) -> HostGate:
        host = url.netloc.decode("ascii")
        gate = self._gate_of.get(host)
        if gate is None:
            gate = self._gate_of[host] = self._gates.of(host)
        return gate


async def _read_body(response: httpx2.Response, most_bytes: int, path: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > most_bytes:
            detail = f"The answer of {path} is larger than {most_bytes:,} bytes."
            raise ProviderError(Code.PROV_BAD_PAYLOAD, detail, status=response.status_code)
        parts.append(part)
    return b"".join(parts)


@contextmanager
def _told_as_trouble() -> Iterator[None]:
    """An address that is refused is the provider's trouble, as a run's log tells it."""
    try:
        yield
    except AddressRefused as refused:
        raise ProviderError(refused.code, refused.detail) from None


def _explain_connect(error: httpx2.ConnectError, host: str) -> ProviderError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ProviderError(Code.PROV_TLS, f"The certificate of {host} is not valid: {cause.verify_message}.")
        if isinstance(cause, ssl.SSLError):
            return ProviderError(Code.PROV_TLS, f"No secure connection to {host} could be made.")
        cause = cause.__cause__ or cause.__context__
    return _Trouble(Code.PROV_UNREACHABLE, f"{host} could not be reached: no such host, or nothing answers there.")


def _explain_redirect(told: str, url: httpx2.URL, answer: Answer) -> ProviderError:
    """Redirections are never followed; one that leads elsewhere may be somebody's attempt to have our secrets sent."""
    location = answer.headers.get("location")
    try:
        target = url.join(location) if location else url
    except (httpx2.InvalidURL, ValueError):
        target = url
    if target.netloc.lower() != url.netloc.lower() or target.scheme != url.scheme:
        detail = f"{told}, a redirection to another server or away from https; nothing was sent there."
        return ProviderError(Code.SSRF_BLOCKED, detail, status=answer.status)
    return ProviderError(Code.PROV_NOT_FOUND, f"{told}, a redirection; those are never followed.", status=answer.status)


def _read_retry_after(value: str | None, most: float) -> float | None:
    """Seconds to wait, from seconds or an HTTP date; None if it says nothing."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), most) if seconds == seconds else None  # noqa: PLR0124 - NaN
