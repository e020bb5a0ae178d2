"""What is known of the systems behind OneRoster providers, as data (A4): how they want to be asked, and how gently.

Whatever a system does to the shape of answers needs no entry: shapes are told by what comes. A system without an entry
is asked the usual way, and ways that it refuses are left for others (`signing`, `paging`), so an entry only saves
requests that would be refused, or spares a server that asked to be spared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from provider_gateway.signing import TokenStyle


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """How one system is asked; None means as the installation is set."""

    token: TokenStyle = field(default_factory=TokenStyle)
    page_size: int | None = None
    """Records asked for in one page."""
    pages_in_flight: int | None = None
    """Pages of one collection asked for at once, at most."""
    requests_in_flight: int | None = None
    """Requests of one run at once, at most, over all collections."""


USUAL: Final = Quirks()
CLASSLINK: Final = Quirks(page_size=10_000)
"""ClassLink advises whole collections with a limit of 10,000, which is also its maximum."""

_BY_SIS: Final = {
    # Token endpoint is central (accounts.powerschool.com), which is a matter of the address.
    "powerschool": USUAL,
    # grant_type and scope stand in the query, beside the appName that the address has already;
    # serial in school hours, which we can't tell from here, and large pages.
    "infinitecampus": Quirks(
        token=TokenStyle(in_query=True), page_size=10_000, pages_in_flight=1, requests_in_flight=1
    ),
    # Asks to be spared in school hours, as Infinite Campus does.
    "aeries": Quirks(pages_in_flight=1, requests_in_flight=1),
    # Wants the credentials in the form.
    "synergy": Quirks(token=TokenStyle(form="body")),
    # Nothing out of the ordinary is known of these.
    "ellucian": USUAL,
    "eschoolplus": USUAL,
    "illuminateeducation": USUAL,
    "illuminate": USUAL,
    "unit4": USUAL,
    "skyward": USUAL,
}
_NOT_PART_OF_A_NAME = re.compile(r"[^a-z0-9]+")


def find_quirks(sis: str | None) -> Quirks:
    """The quirks of a system by its label (`homeroom.connections.KNOWN_SIS`), however it is spelled.

    >>> find_quirks(" infinite  campus").token.in_query
    True
    >>> find_quirks("a system of our own") == find_quirks(None) == Quirks()
    True
    """
    return _BY_SIS.get(_NOT_PART_OF_A_NAME.sub("", (sis or "").lower()), USUAL)
