"""Which addresses outsiders may have us talk to: https, on the public internet, unless the installation allows others.

What somebody enters is judged as a text where it is entered (`read_address`), and again by what its host resolves to
where a connection is made. `check_public` judges a host that is then connected to by its name; `find_way` also says
which of the judged addresses to connect to, so that a name which leads elsewhere a moment later leads nowhere.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from homeroom.codes import Code

RESOLVE_SECONDS = 5.0
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv6 addresses whose last 32 bits are the IPv4 address a translator connects to (RFC 6052)."""
_TUNNELLED = tuple(map(ipaddress.IPv6Network, ("64:ff9b:1::/48", "2001::/32")))
"""IPv6 addresses that stand for an IPv4 address which can't be told (RFC 8215, RFC 4380)."""


class AddressRefused(Exception):  # noqa: N818 - what happened to the address
    """An address can't be used.

    Args:
        code: ENDPOINT_REFUSED, PROV_UNREACHABLE or SSRF_BLOCKED.
        detail: a plain sentence that names the host at most.
    """

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@asynccontextmanager
async def open_client(seconds: float, tls: ssl.SSLContext | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    """A client for addresses that `find_way` judged: each request a connection of its own, no redirects, no proxies.

    Without a context of its own TLS trusts what this machine trusts. A connection that was kept would go to an address
    that nobody judged for the next request.
    """
    async with httpx2.AsyncClient(
        verify=tls or ssl.create_default_context(),
        trust_env=False,
        follow_redirects=False,
        timeout=seconds,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
    ) as client:
        yield client


@dataclass(frozen=True, slots=True)
class Way:
    """Where to connect for a URL: an address that was judged, spoken to as the host it stands for."""

    url: httpx2.URL
    headers: Mapping[str, str]
    extensions: Mapping[str, Any]
    """For httpx2: the host's name is what TLS asks for and checks the certificate by."""


def read_address(text: str, *, allow_private: bool) -> httpx2.URL:
    """An address as entered by an admin. Raises `AddressRefused` with ENDPOINT_REFUSED if it can't be used."""
    try:
        url = httpx2.URL(text.strip())
    except (httpx2.InvalidURL, TypeError):
        raise _refuse("it is no URL") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise _refuse("it must begin with https:// and name a host")
    if url.scheme != "https" and not allow_private:
        raise _refuse("it must begin with https://")
    if url.userinfo:
        raise _refuse("it must hold no user name or password")
    return url


async def check_public(url: httpx2.URL) -> None:
    """Resolve the host. Raises `AddressRefused`: SSRF_BLOCKED if any of its addresses is private, local or reserved."""
    await _resolve(url, allow_private=False)


async def find_way(url: httpx2.URL, *, allow_private: bool) -> Way:
    """Resolve the host, judge all its addresses, and say where to connect. Raises `AddressRefused` as `check_public`.

    A connection made this way must serve one request only, or this host only: pools tell hosts apart by address.
    """
    found = await _resolve(url, allow_private=allow_private)
    host = url.netloc.decode("ascii")
    return Way(url.copy_with(host=found), {"Host": host}, {"sni_hostname": url.raw_host.decode("ascii").strip("[]")})


async def _resolve(url: httpx2.URL, *, allow_private: bool) -> str:
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        raise AddressRefused(Code.PROV_UNREACHABLE, f"The host name {url.host} does not resolve.") from None
    addresses = [str(address[4][0]) for address in found]
    if not addresses or not (allow_private or all(map(_is_public, addresses))):
        detail = f"{url.host} leads to a private address, so nothing was sent there."
        raise AddressRefused(Code.SSRF_BLOCKED, detail)
    return addresses[0]


def _is_public(text: str) -> bool:
    """Whether an address is on the public internet; one of IPv4 in the guise of IPv6 counts as what it is."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        if any(address in network for network in _TUNNELLED):
            return False
        translated = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _TRANSLATED else None
        address = address.ipv4_mapped or address.sixtofour or translated or address
    return address.is_global and not address.is_multicast


def _refuse(why: str) -> AddressRefused:
    return AddressRefused(Code.ENDPOINT_REFUSED, f"The endpoint is not allowed: {why}.")
