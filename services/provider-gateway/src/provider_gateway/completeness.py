"""Does the picture of a collection prove itself? (pure; architecture §2, "When is somebody gone?")"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["nobody is missing", "absent are gone", "gone unless found", "ask for each", "all stay"]

_PLAIN_ID = re.compile(r"[^/\\%?#\x00-\x20]+")


@dataclass(frozen=True, slots=True)
class Picture:
    """What a whole fetch of one collection showed."""

    distinct: int
    """Different sourcedIds that came."""
    first_stated: int | None
    """The count on the first page."""
    last_stated: int | None
    """The count on the last page that stated one."""
    unseen: int
    """Known records that did not come."""
    whole: bool = False
    """Whether the source vouches for it: a whole file, a stable cursor, an unchanged revision."""

    @property
    def consistent(self) -> bool:
        """Whether the source, or the provider's counts before and after, say that nothing was skipped."""
        if self.whole:
            return True
        return self.first_stated is not None and self.first_stated == self.last_stated == self.distinct

    @property
    def shifted(self) -> bool:
        """Whether the collection changed while it was read, by its own counts."""
        return self.first_stated != self.last_stated


def judge(picture: Picture, ask_at_most: int) -> Verdict:
    """What may be concluded about known records that did not come.

    Counts alone can deceive: a record deleted before the place that is being read, and another one added behind it,
    leave every count as it was and let one record slip through. So where few are missing, each is asked for all the
    same, and those that are found stay (I5).
    """
    if not picture.unseen:
        return "nobody is missing"
    if picture.consistent:
        return "gone unless found" if picture.unseen <= ask_at_most and not picture.whole else "absent are gone"
    return "ask for each" if picture.unseen <= ask_at_most else "all stay"


def can_be_asked_for(sourced_id: str) -> bool:
    """Whether a record can be asked for by this id so that a 404 means it; servers lose their way over slashes."""
    return bool(_PLAIN_ID.fullmatch(sourced_id)) and sourced_id not in {".", ".."}
