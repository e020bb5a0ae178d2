"""Which addresses outsiders may have us talk to."""

from __future__ import annotations

import asyncio
import socket

import httpx2
import pytest

from homeroom.codes import Code
from homeroom.egress import AddressRefused, check_public, find_way, read_address


@pytest.mark.parametrize(
    "text", ["", "roster.example", "ftp://x.example", "http://x.example", "https://", "https://u:p@x.example"]
)
def test_addresses_that_are_refused(text: str) -> None:
    """In production an endpoint is https, names a host and holds no password."""
    with pytest.raises(AddressRefused) as caught:
        read_address(text, allow_private=False)
    assert caught.value.code == Code.ENDPOINT_REFUSED


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "[::1]",
        "0.0.0.0",  # noqa: S104 - an address to refuse
        "[::ffff:10.0.0.1]",
        "[2002:0a00:0001::1]",
        "[64:ff9b::10.0.0.1]",
        "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    ],
)
async def test_private_addresses(host: str) -> None:
    """Hosts that lead into private networks are refused."""
    with pytest.raises(AddressRefused) as caught:
        await check_public(httpx2.URL(f"https://{host}/"))
    assert caught.value.code == Code.SSRF_BLOCKED


def _resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    async def answer(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answer)


async def test_one_private_address_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a public and a private address is refused."""
    _resolve_to(monkeypatch, "93.184.215.14", "10.0.0.7")
    with pytest.raises(AddressRefused) as caught:
        await find_way(httpx2.URL("https://hooks.example/"), allow_private=False)
    assert caught.value.code == Code.SSRF_BLOCKED


async def test_the_judged_address_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way leads to the address that was judged, and speaks to the host by its name and port."""
    _resolve_to(monkeypatch, "93.184.215.14")
    way = await find_way(httpx2.URL("https://hooks.example:8443/a?b=c"), allow_private=False)
    assert str(way.url) == "https://93.184.215.14:8443/a?b=c"
    assert way.headers == {"Host": "hooks.example:8443"}
    assert way.extensions == {"sni_hostname": "hooks.example"}


async def test_private_addresses_where_they_are_allowed() -> None:
    """An installation that allows private addresses connects to them."""
    way = await find_way(httpx2.URL("http://127.0.0.1:9/x"), allow_private=True)
    assert str(way.url) == "http://127.0.0.1:9/x"
