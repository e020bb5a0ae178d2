"""Addresses of products that browsers are sent to: as they were registered, character by character."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlencode, urlsplit, urlunsplit

_SANE: Final = re.compile(r"[!-~]+")
"""Visible ASCII: what browsers trim, fold or read as something else is not in it."""
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def check_address(text: str) -> str:
    """An address that may be registered: absolute, https, no credentials, no fragment. Raises ValueError.

    Plain http is for this machine only (RFC 8252 §7.3).
    """
    if not _SANE.fullmatch(text) or "\\" in text:
        raise ValueError("it holds spaces or signs that no address has")
    parts = urlsplit(text)  # raises ValueError itself for what it can't take apart
    if not parts.hostname or parts.port == 0:
        raise ValueError("it must name a host")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError("it must begin with https://")
    if "@" in parts.netloc:
        raise ValueError("it must hold no user name or password")
    if "#" in text:
        raise ValueError("it must hold no fragment")
    return text


def add_query(address: str, **parameters: str | None) -> str:
    """A registered address with further parameters; those it has stay, and None adds nothing."""
    parts = urlsplit(address)
    added = urlencode({name: value for name, value in parameters.items() if value is not None})
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, added))), fragment=""))
