"""Ids of our own: UUIDs of version 7, which sort by the time they were made (RFC 9562 §5.7)."""

from __future__ import annotations

import secrets
import time
import uuid


def new_id() -> uuid.UUID:
    """A new id: 48 bits of milliseconds, then 74 bits of chance.

    Ids of one millisecond come in no particular order; whoever needs an order needs a sequence.
    """
    value = (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return uuid.UUID(int=value)
