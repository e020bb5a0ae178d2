"""Who calls sso's admin routes, and what they may see."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Query

from homeroom.auth import Caller, require
from homeroom.codes import Code
from homeroom.problems import Problem

NOBODY: Final = UUID(int=0)
FIRST: Final = UUID(int=0)
_MARK: Final = "after:"

Reader = Annotated[Caller, Depends(require("connections.read"))]
Writer = Annotated[Caller, Depends(require("connections.write"))]
Cursor = Annotated[
    str | None, Query(max_length=200, description="from an earlier answer; none starts at the beginning")
]
Limit = Annotated[int, Query(ge=1, le=500)]


def _refuse_bound(caller: Caller) -> Caller:
    if caller.organization_id is not None:
        detail = "Portal applications are looked after with a token that is not bound to an organization."
        raise Problem(Code.SCOPE_MISSING, status=403, detail=detail)
    return caller


async def _check_platform_reader(caller: Reader) -> Caller:
    return _refuse_bound(caller)


async def _check_platform_writer(caller: Writer) -> Caller:
    return _refuse_bound(caller)


PlatformReader = Annotated[Caller, Depends(_check_platform_reader)]
PlatformWriter = Annotated[Caller, Depends(_check_platform_writer)]


def seen_by(caller: Caller) -> UUID | None:
    """The one organization a caller may see; None for all."""
    if caller.product_id is not None:
        return NOBODY
    if caller.organization_id is None:
        return None
    try:
        return UUID(caller.organization_id)
    except ValueError:
        return NOBODY


def to_cursor(last: UUID) -> str:
    """The opaque cursor of everything after an id."""
    return urlsafe_b64encode(f"{_MARK}{last}".encode()).decode().rstrip("=")


def from_cursor(cursor: str | None) -> UUID:
    """The id a cursor stands for; the first without one. Problem CURSOR_INVALID for what is none of ours."""
    if cursor is None:
        return FIRST
    try:
        mark, _, last = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(":")
        if f"{mark}:" == _MARK:
            return UUID(last)
    except ValueError:
        pass
    raise Problem(Code.CURSOR_INVALID, status=400, detail="The cursor is not one of ours; send it as you got it.")
