"""The hosts that upstreams' servers have: where each was found to be, and connections to it, both kept for a moment.

A launch asks a portal one to three questions, and the next launch asks the same portal again; most of what a question
costs is finding the host and greeting it (TLS). So the address that was judged for a host is remembered for some
seconds, and connections stay open for some more, in a pool of their own for each host: pools tell hosts apart by
address, and two of them may share one. A connection only ever goes to the address that it was opened for, which was
judged; where a host is judged to be elsewhere, it gets other connections.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx2

from homeroom.clock import Clock, SystemClock
from homeroom.egress import AddressRefused, Way, find_way

JUDGED_SECONDS: Final = 20.0
"""How long it counts where a host was found to be."""
KEPT_SECONDS: Final = 4.0
"""How long a connection stays open that nobody uses: less than servers wait by default (Node and Apache, 5 seconds)."""
IDLE_SECONDS: Final = 20.0
"""When a host that nobody asked is let go, with what is open to it: nothing of it counts any longer by then."""
SWEEP_SECONDS: Final = 5.0
MOST_HOSTS: Final = 100
MOST_KEPT: Final = 10
"""Connections to one host that are kept; there may be more while they are used."""


@dataclass(slots=True, eq=False)
class Host:
    """A host that is asked, over connections that are its own."""

    place: tuple[str, bytes]
    """Scheme, name and port."""
    transport: httpx2.AsyncBaseTransport
    """Without cookies, redirects and proxies, all of which are a client's."""
    way: Way | None = None
    judged: float = float("-inf")
    judging: asyncio.Task[Way] | None = None
    lent: int = 0
    used: float = float("-inf")
    dismissed: bool = False
    answered: bool = False
    """Whether it has answered before, so that a connection to it may be a kept one."""

    def forget(self) -> None:
        """Have it judged anew: where it was found to be, nobody answers."""
        self.way = None


class Order:
    """Sees to it that an answer came after its question, for a single request.

    What is left in a kept connection was meant for whoever asked before. A server that once sends an answer too many
    would otherwise have everybody after that be told about somebody else. An answer to this question takes a wait, in
    which the event loop goes on; one that was there before does not.
    """

    def __init__(self) -> None:
        self._waited = False

    async def watch(self, event: str, _: dict[str, Any]) -> None:
        """Follow a request, as httpcore2's extension `trace` does. Raises `httpx2.RemoteProtocolError`."""
        if event == "http11.receive_response_headers.started":
            asyncio.get_running_loop().call_soon(self._note_wait)
        elif event == "http11.receive_response_headers.complete" and not self._waited:
            msg = "the server answered before it was asked"
            raise httpx2.RemoteProtocolError(msg)

    def _note_wait(self) -> None:
        self._waited = True


class Hosts:
    """The hosts that were asked lately; a bounded number of them."""

    def __init__(self, *, allow_private: bool, tls: ssl.SSLContext, clock: Clock) -> None:
        self._allow_private = allow_private
        self._tls = tls
        self._clock = clock
        self._hosts: OrderedDict[tuple[str, bytes], Host] = OrderedDict()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, *, allow_private: bool, tls: ssl.SSLContext | None = None, clock: Clock | None = None
    ) -> AsyncIterator[Hosts]:
        """Ready to lend; without a context of its own TLS trusts what this machine trusts."""
        hosts = cls(allow_private=allow_private, tls=tls or ssl.create_default_context(), clock=clock or SystemClock())
        hosts._open_transport()  # the first one imports what connections are made of: in nobody's time
        sweeping = asyncio.create_task(hosts._keep_sweeping())
        try:
            yield hosts
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
            await hosts._close_all()

    @asynccontextmanager
    async def lend(self, url: httpx2.URL) -> AsyncIterator[tuple[Host, Way]]:
        """The host of a URL, and the way to the URL. Raises `AddressRefused` as `find_way` does."""
        host = self._take((url.scheme, url.netloc))
        try:
            while len(self._hosts) > MOST_HOSTS:
                await self._drop(next(iter(self._hosts.values())))
            way = await self._judge(host, url)
            yield host, replace(way, url=url.copy_with(host=way.url.host))
        finally:
            host.lent -= 1
            host.used = self._clock.monotonic()
            if host.dismissed and not host.lent:
                await _close(host)

    async def sweep(self) -> None:
        """Let go of hosts that nobody asked for a while."""
        before = self._clock.monotonic() - IDLE_SECONDS
        for host in [one for one in self._hosts.values() if not one.lent and one.used <= before]:
            await self._drop(host)

    def _take(self, place: tuple[str, bytes]) -> Host:
        host = self._hosts.get(place)
        if host is None:
            host = self._hosts[place] = Host(place, self._open_transport())
        self._hosts.move_to_end(place)
        host.lent += 1
        return host

    async def _judge(self, host: Host, url: httpx2.URL) -> Way:
        """Where a host is, asked for by one for all; whoever stops waiting does not stop the others."""
        if host.way is not None and self._clock.monotonic() - host.judged < JUDGED_SECONDS:
            return host.way
        if host.judging is None:
            host.judging = asyncio.create_task(self._find(host, url))
            host.judging.add_done_callback(_hear_out)
        try:
            return await asyncio.shield(host.judging)
        except AddressRefused:
            self._dismiss(host)
            raise

    async def _find(self, host: Host, url: httpx2.URL) -> Way:
        began = self._clock.monotonic()
        try:
            host.way = await find_way(url, allow_private=self._allow_private)
            host.judged = began
            return host.way
        finally:
            host.judging = None

    def _open_transport(self) -> httpx2.AsyncBaseTransport:
        return httpx2.AsyncHTTPTransport(
            verify=self._tls,
            trust_env=False,
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=MOST_KEPT, keepalive_expiry=KEPT_SECONDS
            ),
        )

    def _dismiss(self, host: Host) -> None:
        """Lend a host to nobody else; what is under way with it goes on."""
        host.dismissed = True
        if self._hosts.get(host.place) is host:
            del self._hosts[host.place]

    async def _drop(self, host: Host) -> None:
        self._dismiss(host)
        if not host.lent:
            await _close(host)

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self.sweep()

    async def _close_all(self) -> None:
        for host in list(self._hosts.values()):
            if host.judging is not None:
                host.judging.cancel()
            self._dismiss(host)
            await _close(host)


async def _close(host: Host) -> None:
    with suppress(httpx2.HTTPError, OSError):
        await host.transport.aclose()


def _hear_out(judging: asyncio.Task[Way]) -> None:
    """Take note of what became of it, even if nobody waits for it any longer."""
    if not judging.cancelled():
        judging.exception()
