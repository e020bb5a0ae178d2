"""How many people of a run are matched: one number for all products that keep accounts, however many do. Pure (C5, D3).

The store says for each product how the people of the integration stand with its accounts. Sums over products would
count people several times, and who is unmatched in any of them does not follow from sums. So the run shows how it is
with the worst matched product: as many are matched as the product with the fewest has, and as many unmatched as the
product with the most. Where no product keeps accounts, everybody in the roster counts as matched.
"""

from __future__ import annotations

from typing import NamedTuple

from homeroom.messages import Applied, Held


class Counts(NamedTuple):
    """The contract's numbers of a run."""

    students: int
    """matched_students"""
    teachers: int
    """matched_teachers"""
    unmatched: int
    """unmatched_users"""


def count(fact: Applied | Held) -> Counts:
    """The numbers of what the store reports."""
    if not fact.matching:
        return Counts(fact.students, fact.teachers, 0)
    return Counts(
        min(one.matched_students for one in fact.matching),
        min(one.matched_teachers for one in fact.matching),
        max(one.unmatched for one in fact.matching),
    )
