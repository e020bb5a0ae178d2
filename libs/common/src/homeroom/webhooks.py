"""One attempt to deliver a webhook, signed by Standard Webhooks (https://www.standardwebhooks.com).

Alerts and subscriptions are sent with it. It connects to an address that was judged a moment before, follows no
redirection, and reads no more of an answer than its status.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from secrets import token_bytes
from typing import Final

import httpx2
from standardwebhooks import Webhook

from homeroom.egress import AddressRefused, find_way, open_client

DELIVERY_SECONDS = 10.0
"""From resolving the host to the status of the answer."""
_GONE: Final = 410
_AGENT: Final = "Homeroom/0.1 (webhooks)"
_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32


class NotDelivered(Exception):  # noqa: N818 - what became of it; most are tried again
    """An attempt failed.

    Args:
        why: a sentence for admins, without the address.
        for_good: whether another attempt would end the same: the endpoint says that it is gone.
        status: what the endpoint answered, if it did.
        pause: the seconds after which it asks to be tried again (Retry-After).
    """

    def __init__(
        self, why: str, *, for_good: bool = False, status: int | None = None, pause: float | None = None
    ) -> None:
        super().__init__(why)
        self.why = why
        self.for_good = for_good
        self.status = status
        self.pause = pause


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint said that took a webhook."""

    status: int
    seconds: float


def to_secret(key: bytes) -> str:
    """A signing key as its receiver enters it."""
    return _PREFIX + base64.b64encode(key).decode()


def make_secret() -> str:
    """A new signing secret."""
    return to_secret(token_bytes(_SECRET_BYTES))


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Sends webhooks, each over a connection of its own to an address that was judged."""

    http: httpx2.AsyncClient
    allow_private: bool

    @classmethod
    @asynccontextmanager
    async def open(cls, *, allow_private: bool, tls: ssl.SSLContext | None = None) -> AsyncIterator[Webhooks]:
        """A sender; without a context of its own TLS trusts what this machine trusts."""
        async with open_client(DELIVERY_SECONDS, tls) as http:
            yield cls(http, allow_private)

    async def send(
        self, url: str, message_id: str, payload: str | bytes, secrets: Sequence[str], now: datetime
    ) -> Answer:
        """Deliver once. Raises `NotDelivered`, unless the answer is a 2xx.

        Args:
            url: where to.
            message_id: the same for every attempt, so that receivers know it again.
            payload: what is signed and sent.
            secrets: one, or two while one takes the other's place.
            now: the moment that is signed.
        """
        body = payload.encode() if isinstance(payload, str) else payload
        began = time.monotonic()
        try:
            async with asyncio.timeout(DELIVERY_SECONDS):
                status, headers = await self._post(url, _sign(message_id, body, secrets, now), body)
        except (TimeoutError, httpx2.TimeoutException):
            raise NotDelivered(f"Nothing was answered within {DELIVERY_SECONDS:g} seconds.") from None
        except AddressRefused as refused:
            raise NotDelivered(refused.detail) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, OSError) as error:
            raise NotDelivered(_explain(error)) from None
        if httpx2.codes.is_redirect(status):
            raise NotDelivered(f"The endpoint answered {status}; redirections are not followed.", status=status)
        if not httpx2.codes.is_success(status):
            pause = read_retry_after(headers, now)
            raise NotDelivered(f"The endpoint answered {status}.", for_good=status == _GONE, status=status, pause=pause)
        return Answer(status, time.monotonic() - began)

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> tuple[int, Mapping[str, str]]:
        """Status and headers of the answer; what else it holds is not read."""
        way = await find_way(httpx2.URL(url), allow_private=self.allow_private)
        request = httpx2.Request(
            "POST",
            way.url,
            headers={**headers, **way.headers, "Connection": "close"},
            content=body,
            extensions={**way.extensions, "timeout": httpx2.Timeout(DELIVERY_SECONDS).as_dict()},
        )
        response = await self.http.send(request, stream=True)
        try:
            return response.status_code, response.headers
        finally:
            await response.aclose()


def read_retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds an answer asks to wait, whichever way it says so (RFC 9110 §10.2.3); None if it does not."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())


def _explain(error: BaseException) -> str:
    """A sentence about a connection that failed, in our words only."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            why = "its certificate is not trusted" if isinstance(cause, ssl.SSLCertVerificationError) else "it failed"
            return f"There is no TLS with the endpoint: {why}."
        cause = cause.__cause__ or cause.__context__
    return f"The connection failed ({type(error).__name__})."


def _sign(message_id: str, body: bytes, secrets: Sequence[str], now: datetime) -> dict[str, str]:
    text = body.decode()
    signatures = [Webhook(secret).sign(message_id, now, text) for secret in secrets]
    return {
        "Content-Type": "application/json",
        "User-Agent": _AGENT,
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
