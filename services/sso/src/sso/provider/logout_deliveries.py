"""Tells products that sessions ended: logout tokens, posted to each product's endpoint (OIDC Back-Channel Logout 1.0).

A row of `participation` that has ended and is due is the message to send. Whoever takes it puts its next try off for a
while; if that process dies, another goes on. A product may hear of the same end twice, which changes nothing. One whose
endpoint does not answer is left in peace for a while, with all that waits for it, so that it holds nobody up.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import httpx2

from homeroom.db import Database, DatabaseBusy
from homeroom.egress import AddressRefused, find_way, open_client
from homeroom.problems import AWAY
from homeroom.telemetry import get_logger
from sso.provider.relying_parties import RelyingParties
from sso.provider.signing import Signing
from sso.statements import SQL

ATTEMPT_SECONDS: Final = 10.0
"""From resolving the host to the status of the answer."""
TAKEN_SECONDS: Final = 60.0
"""Longer than any attempt takes."""
PAUSES: Final = (15.0, 60.0, 300.0, 1_800.0, 2 * 3_600.0, 5 * 3_600.0, 8 * 3_600.0)
"""Seconds after the first failed try, the second, and so on; the last one again and again."""
GIVE_UP_SECONDS: Final = 24 * 3_600.0
"""No session lasts longer, at a product either."""
AT_ONCE: Final = 32
AT_ONCE_OF_ONE: Final = 8
"""Of these at most so many for one client, so that a dead one leaves room for others."""
TICK_SECONDS: Final = 1.0
SWEEP_SECONDS: Final = 60.0
_GONE: Final = 410
_AWAY: Final = (*AWAY, DatabaseBusy, asyncpg.PostgresError)

log = get_logger(__name__)


class NotTold(Exception):  # noqa: N818 - what became of it; most are tried again
    """An attempt failed.

    Args:
        why: a few words of ours.
        silent: whether the endpoint did not answer as one that works: others need not be tried now.
        for_good: whether another attempt would end the same.
    """

    def __init__(self, why: str, *, silent: bool = False, for_good: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.silent = silent
        self.for_good = for_good


def find_pause(tries: int, age: float) -> float | None:
    """Seconds to wait after so many failed tries; None to give up.

    Args:
        tries: how many there were.
        age: seconds since the session ended.
    """
    pause = PAUSES[min(tries, len(PAUSES)) - 1]
    return None if age + pause > GIVE_UP_SECONDS else pause


class LogoutDeliveries:
    """Tells what is due, in one process of any number."""

    def __init__(
        self,
        database: Database,
        parties: RelyingParties,
        signing: Signing,
        http: httpx2.AsyncClient,
        *,
        allow_private: bool,
    ) -> None:
        self._database = database
        self._parties = parties
        self._signing = signing
        self._http = http
        self._allow_private = allow_private

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        database: Database,
        parties: RelyingParties,
        signing: Signing,
        *,
        allow_private: bool,
        tls: ssl.SSLContext | None = None,
    ) -> AsyncIterator[LogoutDeliveries]:
        """With a client that follows no redirects; without a context of its own TLS trusts what this machine trusts."""
        async with open_client(ATTEMPT_SECONDS, tls) as http:
            yield cls(database, parties, signing, http, allow_private=allow_private)

    async def run(self) -> None:
        """Tell for ever, and forget from time to time what has run out."""
        swept = -SWEEP_SECONDS
        while True:
            try:
                told = await self.tell_due()
                if time.monotonic() - swept >= SWEEP_SECONDS:
                    await self._database.fetch(SQL["sweep_provider"])
                    swept = time.monotonic()
            except _AWAY as error:
                log.warning("products are told later", error=type(error).__name__)
                told = 0
            if not told:
                await asyncio.sleep(TICK_SECONDS)

    async def tell_due(self) -> int:
        """Try what is due, some at a time; returns how many were tried."""
        rows = await self._database.fetch(SQL["take_ended_participations"], AT_ONCE, TAKEN_SECONDS, AT_ONCE_OF_ONE)
        if rows:
            async with asyncio.TaskGroup() as tasks:
                for row in rows:
                    tasks.create_task(self._tell(row))
        return len(rows)

    async def _tell(self, row: asyncpg.Record) -> None:
        try:
            try:
                await self._attempt(row)
            except NotTold as trouble:
                await self._put_off(row, trouble)
            else:
                await self._database.fetch(SQL["forget_participation"], row["sid"])
        except _AWAY as error:  # it is taken again once its time is over
            log.warning("products are told later", error=type(error).__name__)

    async def _put_off(self, row: asyncpg.Record, trouble: NotTold) -> None:
        pause = None if trouble.for_good else find_pause(row["tries"], row["age"])
        log.warning(
            "a product was not told of a logout",
            client_id=row["client_id"],
            why=trouble.why,
            tries=row["tries"],
            given_up=pause is None,
        )
        if pause is None:
            await self._database.fetch(SQL["forget_participation"], row["sid"])
            return
        late = pause * random.uniform(1, 1.1)
        if trouble.silent:
            await self._database.fetch(SQL["put_client_off"], row["client_id"], min(late, PAUSES[1]))
        await self._database.fetch(SQL["put_participation_off"], row["sid"], late)

    async def _attempt(self, row: asyncpg.Record) -> None:
        """Try once; nothing is to be told to who has no endpoint. Raises `NotTold`."""
        party = await self._parties.find(row["client_id"])
        if party is None or party.backchannel_logout_uri is None:
            return
        token = self._signing.sign_logout_token(party.client_id, row["subject"], row["sid"])
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                status = await self._post(party.backchannel_logout_uri, {"logout_token": token})
        except AddressRefused as refused:
            raise NotTold(str(refused.code), silent=True) from None
        except (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise NotTold(type(error).__name__, silent=True) from None
        if not httpx2.codes.is_success(status):
            raise NotTold(f"status {status}", silent=httpx2.codes.is_server_error(status), for_good=status == _GONE)

    async def _post(self, url: str, form: dict[str, Any]) -> int:
        """The status of the answer; what else it holds is not read."""
        way = await find_way(httpx2.URL(url), allow_private=self._allow_private)
        request = httpx2.Request(
            "POST",
            way.url,
            headers={**way.headers, "Connection": "close"},
            data=form,
            extensions={**way.extensions, "timeout": httpx2.Timeout(ATTEMPT_SECONDS).as_dict()},
        )
        response = await self._http.send(request, stream=True)
        try:
            return response.status_code
        finally:
            await response.aclose()
