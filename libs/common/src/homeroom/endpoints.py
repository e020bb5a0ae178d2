"""Which addresses of others somebody may enter, decided on the text alone.

A first line only: what a name resolves to is judged again where the connection is made.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from urllib.parse import urlsplit

_PRIVATE_NAMES = ("localhost", "local", "internal", "intranet", "lan", "home", "corp", "home.arpa", "localdomain")
"""Last labels that only mean something inside somebody's network."""

_CARRY_OTHERS = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))
"""IPv6 ranges that stand for an IPv4 address, which could be any."""

_IDEOGRAPHIC_DOT = "\u3002"
"""Separates the labels of a host name as a dot does (UTS 46)."""

_NUMBER = re.compile(r"^(0x[0-9a-f]*|\d+)$")


def object_to(url: str, *, allow_private: bool, allow_query: bool = False) -> str | None:
    """Why this address is refused, as the end of a sentence; None if it is not."""
    try:
        parts = urlsplit(unicodedata.normalize("NFKC", url).replace(_IDEOGRAPHIC_DOT, "."))
        host, _ = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return "it is no URL"
    schemes = ("https", "http") if allow_private else ("https",)
    objections = {
        "it holds spaces, control characters or backslashes": any(_is_out_of_place(character) for character in url),
        "it must begin with https://": parts.scheme not in schemes,
        "it names no host": not host,
        "it holds credentials; they belong in their own fields": "@" in parts.netloc,
        "it has a query or fragment; give the address of the service itself": bool(parts.query and not allow_query)
        or bool(parts.fragment),
    }
    objection = next((text for text, applies in objections.items() if applies), None)
    return objection or (None if allow_private else _object_to_host(host))


def _is_out_of_place(character: str) -> bool:
    return character.isspace() or character == "\\" or unicodedata.category(character) in ("Cc", "Cf")


def _object_to_host(host: str) -> str | None:
    if ":" in host or _NUMBER.match(host.rsplit(".", 1)[-1]):
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return "its host is a number that is no plain IP address"
        carried = getattr(address, "ipv4_mapped", None) or address
        if not carried.is_global or carried.is_multicast or any(carried in network for network in _CARRY_OTHERS):
            return "its host is not on the public internet"
    elif "." not in host or any(host.endswith(f".{name}") for name in _PRIVATE_NAMES):
        return "its host is not on the public internet"
    return None
