"""Facts without what they say of a person: issues that name their records are taken out."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import msgspec

from homeroom.messages import Fact

F = TypeVar("F", bound=Fact)


def clean_fact(fact: F, names: Collection[str]) -> F:
    """The fact without the issues that are about these sourcedIds; its counts stay."""
    issues = getattr(fact, "issues", ())
    kept = tuple(issue for issue in issues if issue.sourced_id not in names)
    return fact if len(kept) == len(issues) else msgspec.structs.replace(fact, issues=kept)
