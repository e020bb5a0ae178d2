"""Whether a set may be sent to Canvas without somebody looking at it first (pure; C14, D6)."""

from __future__ import annotations

from collections.abc import Mapping

WATCHED = ("courses", "sections", "users", "enrollments")
"""Files in which fewer rows mean that somebody loses something."""


def find_objection(
    counts: Mapping[str, int],
    before: Mapping[str, int] | None,
    threshold: int,
    confirmed: Mapping[str, int] | None = None,
) -> str | None:
    """Why a set is not sent, as a sentence; None if it may be.

    Args:
        counts: active rows by file.
        before: those of the last set that Canvas took; None if it took none.
        threshold: by how many percent a file may shrink.
        confirmed: what somebody has looked at and wants sent: as little is fine, even less is not.

    >>> find_objection({"users": 80}, {"users": 100}, 10)
    'users.csv would shrink from 100 to 80.'
    >>> find_objection({"users": 80}, {"users": 100}, 10, {"users": 80}) is None
    True
    """
    if confirmed is None and not counts.get("users"):
        return "There is nobody in it."
    for name in WATCHED:
        known = (before or {}).get(name, 0)
        if confirmed is not None:
            known = min(known, confirmed.get(name, 0))
        now = counts.get(name, 0)
        if (known - now) * 100 > threshold * known:
            return f"{name}.csv would shrink from {known:,} to {now:,}."
    return None
