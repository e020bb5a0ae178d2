"""One attempt to deliver a webhook, signed by Standard Webhooks (https://www.standardwebhooks.com).

Secrets are not kept: each follows from a key of ours, the target's id and a generation that grows when it is rotated.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import httpx2
from standardwebhooks import Webhook

from homeroom.egress import AddressRefused, find_way

DELIVERY_SECONDS = 10.0
"""From resolving the host to the status of the answer."""
_GONE = 410
_AGENT = "Homeroom/0.1 (webhooks)"
_PREFIX = "whsec_"


class NotDelivered(Exception):  # noqa: N818 - what became of it; most are tried again
    """An attempt failed. `why` is a sentence for admins; with `for_good` another attempt would end the same."""

    def __init__(self, why: str, *, for_good: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.for_good = for_good


def derive_secret(key: str, target: UUID, generation: int) -> str:
    """The signing secret of a target, as its receiver enters it."""
    digest = hmac.digest(key.encode(), f"alert-target:{target}:{generation}".encode(), hashlib.sha256)
    return _PREFIX + base64.b64encode(digest).decode()


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Sends webhooks, each over a connection of its own to an address that was judged."""

    http: httpx2.AsyncClient
    allow_private: bool

    @classmethod
    @asynccontextmanager
    async def open(cls, *, allow_private: bool, tls: ssl.SSLContext | None = None) -> AsyncIterator[Webhooks]:
        """A sender; without a context of its own TLS trusts what this machine trusts."""
        async with httpx2.AsyncClient(
            verify=tls or ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=DELIVERY_SECONDS,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
        ) as http:
            yield cls(http, allow_private)

    async def send(self, url: str, message_id: str, payload: str, secrets: Sequence[str], now: datetime) -> None:
        """Deliver once. Raises `NotDelivered`, unless the answer is a 2xx.

        Args:
            url: where to.
            message_id: the same for every attempt, so that receivers know it again.
            payload: what is signed and sent.
            secrets: one, or two while one takes the other's place.
            now: the moment that is signed.
        """
        try:
            async with asyncio.timeout(DELIVERY_SECONDS):
                status = await self._post(url, _sign(message_id, payload, secrets, now), payload)
        except (TimeoutError, httpx2.TimeoutException):
            raise NotDelivered(f"Nothing was answered within {DELIVERY_SECONDS:.0f} seconds.") from None
        except AddressRefused as refused:
            raise NotDelivered(refused.detail) from None
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, OSError) as error:
            raise NotDelivered(f"The connection failed ({type(error).__name__}).") from None
        if httpx2.codes.is_redirect(status):
            raise NotDelivered(f"The endpoint answered {status}; redirections are not followed.")
        if not httpx2.codes.is_success(status):
            raise NotDelivered(f"The endpoint answered {status}.", for_good=status == _GONE)

    async def _post(self, url: str, headers: dict[str, str], payload: str) -> int:
        """The status of the answer; what else it holds is not read."""
        way = await find_way(httpx2.URL(url), allow_private=self.allow_private)
        request = httpx2.Request(
            "POST",
            way.url,
            headers={**headers, **way.headers, "Connection": "close"},
            content=payload.encode(),
            extensions={**way.extensions, "timeout": httpx2.Timeout(DELIVERY_SECONDS).as_dict()},
        )
        response = await self.http.send(request, stream=True)
        try:
            return response.status_code
        finally:
            await response.aclose()


def _sign(message_id: str, payload: str, secrets: Sequence[str], now: datetime) -> dict[str, str]:
    signatures = [Webhook(secret).sign(message_id, now, payload) for secret in secrets]
    return {
        "Content-Type": "application/json",
        "User-Agent": _AGENT,
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
