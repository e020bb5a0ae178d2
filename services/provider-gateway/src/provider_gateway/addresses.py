"""Which addresses a provider may live at: https, on the public internet, unless the installation allows others."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import httpx2

from homeroom.codes import Code
from provider_gateway.failures import ProviderError

_RESOLVE_SECONDS = 5.0


def read_address(text: str, *, allow_private: bool) -> httpx2.URL:
    """An address as entered by an admin; ENDPOINT_REFUSED if it can't be one of a provider."""
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
    """Resolve the host; SSRF_BLOCKED if any of its addresses is private, local or reserved."""
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        async with asyncio.timeout(_RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        raise ProviderError(Code.PROV_UNREACHABLE, f"The host name {url.host} does not resolve.") from None
    if not found or not all(_is_public(address[4][0]) for address in found):
        detail = f"{url.host} leads to a private address, so nothing was sent there."
        raise ProviderError(Code.SSRF_BLOCKED, detail)


def _is_public(text: str | int) -> bool:
    """Whether an address is on the public internet; one of IPv4 in the guise of IPv6 counts as what it is."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or address
    return address.is_global and not address.is_multicast


def _refuse(why: str) -> ProviderError:
    return ProviderError(Code.ENDPOINT_REFUSED, f"The endpoint is not allowed: {why}.")
