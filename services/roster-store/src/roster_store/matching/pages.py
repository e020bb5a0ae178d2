"""Where a page of a list goes on: after a number, or after a person."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Self

import msgspec

from homeroom.codes import Code
from homeroom.problems import Problem


class _Place(msgspec.Struct, frozen=True, array_like=True):
    """A place in a list."""

    def render(self) -> str:
        """The opaque text callers keep."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")

    @classmethod
    def read(cls, text: str | None) -> Self:
        """The place a page ended at; the beginning for None. Raises `Problem` CURSOR_INVALID."""
        if text is None:
            return cls()
        try:
            body = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            return msgspec.json.decode(body, type=cls)
        except (binascii.Error, ValueError) as error:
            raise Problem(Code.CURSOR_INVALID, status=400, detail="The cursor can't be read.") from error


class AfterNumber(_Place, frozen=True, array_like=True):
    """After a number."""

    number: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0


class AfterPerson(_Place, frozen=True, array_like=True):
    """After a person; integrations follow one another."""

    integration_no: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    sourced_id: Annotated[str, msgspec.Meta(pattern=r"\A[^\0]*\Z")] = ""
