"""Opaque cursors of lists."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

from homeroom.codes import Code
from homeroom.problems import Problem

NEWEST = 2**63 - 1
"""Where lists begin that go from the newest to the oldest."""
_MARK = "after:"


def to_cursor(position: int) -> str:
    """The cursor of everything after a position."""
    return urlsafe_b64encode(f"{_MARK}{position}".encode()).decode().rstrip("=")


def from_cursor(cursor: str | None, *, start: int) -> int:
    """The position a cursor stands for; `start` without one. Problem CURSOR_INVALID for what is none of ours."""
    if cursor is None:
        return start
    try:
        mark, _, position = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(":")
        if f"{mark}:" == _MARK and position.isdecimal() and len(position) < 19:  # noqa: PLR2004 - fits a bigint
            return int(position)
    except ValueError:
        pass
    raise Problem(Code.CURSOR_INVALID, status=400, detail="The cursor is not one of ours; send it as you got it.")
