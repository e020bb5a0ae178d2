"""The guard: may this plan be applied, or must a person look first? Pure; nothing is written before it has judged.

First rule (C14, C15): a collection that was not empty and arrives empty is never applied. Everybody who ever lost
a school to an empty file would have been saved by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from homeroom.codes import Code


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """What would happen to one collection."""

    served: int
    """Records the provider served, good or not."""
    holds_any: bool
    """Whether the store holds active synced records of it now."""
    wanted: bool = True
    """Whether the integration's options ask for it at all."""
    whole: bool = True
    """Whether all of it was read; where only changes were, nothing served means nothing changed."""
    added: int = 0
    changed: int = 0
    removed: int = 0
    quarantined: int = 0
    """Staged records that are not applied because they point nowhere."""
    unconfirmed: int = 0
    """Records that stay although the fetch would remove them, because their school is incomplete."""

    @property
    def changes(self) -> int:
        """How many records would change."""
        return self.added + self.changed + self.removed


@dataclass(frozen=True, slots=True)
class Verdict:
    """Apply (no code), or hold with the code and a sentence for an admin."""

    code: Code | None = None
    sentence: str = ""


def judge(plan: Mapping[str, CollectionPlan]) -> Verdict:
    """Judge a plan as a whole: one empty collection holds everything back."""
    empty = [
        collection
        for collection, part in plan.items()
        if part.wanted and part.whole and part.holds_any and part.served == 0
    ]
    if empty:
        return Verdict(
            Code.GUARD_EMPTY_COLLECTION,
            f"The provider served no {' and no '.join(empty)} where there were some before; nothing was changed.",
        )
    return Verdict()
