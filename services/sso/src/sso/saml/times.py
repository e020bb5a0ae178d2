"""Times as SAML writes them: xs:dateTime in UTC (SAML core §1.3.3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_TIME: Final = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(\.\d{1,12})?(Z|[+-]\d{2}:\d{2})?", re.ASCII)


def read_time(text: str) -> datetime | None:
    """The moment a text names; None if it names none. Parts of a second beyond the sixth digit are dropped.

    A time without a zone is UTC, as the standard has it.
    """
    match = _TIME.fullmatch(text.strip(" \t\r\n"))
    if match is None:
        return None
    seconds, fraction, zone = match.groups()
    try:
        read = datetime.fromisoformat(
            f"{seconds}{(fraction or '.0')[:7].ljust(7, '0')}{(zone or 'Z').replace('Z', '+00:00')}"
        )
        return read.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def write_time(moment: datetime) -> str:
    """A moment as SAML writes it, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
