"""A reader's place in the change feed, as a value and as the opaque text that readers keep."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass, field
from typing import Final

from homeroom.roster import MAX_TEXT

END_OF_APPLY: Final = 2**31 - 1
_SHORT: Final = struct.Struct(">Qi")
_LONG: Final = struct.Struct(">QiQ")
_LARGEST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A place in the feed: everything up to and including this change was read."""

    apply_no: int = 0
    change_no: int = END_OF_APPLY
    """The place in the step; in a step that is read by sourcedIds, the part of it that is being read."""
    after: str = ""
    """The last sourcedId that was read of that part."""
    since: int = field(default=0, compare=False)
    """The newest step when the reader began with nothing, while its place is before that: whatever was forgotten up to
    there, it can't have missed."""

    def __str__(self) -> str:
        """The opaque text that readers keep."""
        if self.after or self.since:
            packed = _LONG.pack(self.apply_no, self.change_no, self.since) + self.after.encode()
        else:
            packed = _SHORT.pack(self.apply_no, self.change_no)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor of a text made by `str`; raises ValueError for any other."""
        try:
            packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            if len(packed) == _SHORT.size:
                cursor = cls(*_SHORT.unpack(packed))
            else:
                apply_no, change_no, since = _LONG.unpack_from(packed)
                cursor = cls(apply_no, change_no, packed[_LONG.size :].decode(), since)
        except (struct.error, ValueError) as error:
            msg = "not a cursor of this feed"
            raise ValueError(msg) from error
        if not cursor._is_sane() or str(cursor) != text:
            msg = "not a cursor of this feed"
            raise ValueError(msg)
        return cursor

    @property
    def step_done(self) -> bool:
        """Whether the step it stands in was read to its end."""
        return self.change_no == END_OF_APPLY

    @property
    def passed(self) -> int:
        """The newest step that was read to its end, as far as the cursor tells."""
        return self.apply_no if self.step_done else self.apply_no - 1

    def _is_sane(self) -> bool:
        within = self.change_no >= 0 and max(self.apply_no, self.since) <= _LARGEST
        return within and len(self.after) <= MAX_TEXT and "\0" not in self.after
