"""How many people are matched, told of a run whatever the number of products (C5, D3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from homeroom.codes import Code
from homeroom.messages import Applied, Claimed, Held, ProductMatching
from sync_scheduler.matching import count

ABOUT: dict[str, Any] = {"run_id": "r", "attempt": 1, "integration_id": "i", "at": datetime(2026, 9, 1, tzinfo=UTC)}
READING = ProductMatching(
    product_id="reading", matched_students=90, matched_teachers=9, created=5, unmatched=11, ambiguous=2
)
WRITING = ProductMatching(product_id="writing", matched_students=100, matched_teachers=4, unmatched=6)


@pytest.mark.parametrize(
    ("matching", "counts"),
    [((), (100, 10, 0)), ((READING,), (90, 9, 11)), ((WRITING, READING), (90, 4, 11))],
)
def test_the_worst_matched_product_counts(matching: tuple[ProductMatching, ...], counts: tuple[int, int, int]) -> None:
    """Without products that keep accounts everybody counts as matched; with them the fewest matched, most unmatched."""
    people: dict[str, Any] = {"students": 100, "teachers": 10, "classes": 5}
    applied = Applied(fetch_id="f", apply=1, collections={}, matching=matching, **people, **ABOUT)
    assert count(applied) == counts


@pytest.mark.parametrize("held", [False, True])
async def test_a_run_shows_it(
    client: httpx2.AsyncClient,
    integration: dict[str, Any],
    run_id: str,
    hear: Callable[..., Awaitable[None]],
    held: bool,
) -> None:
    """Applied or held, the run shows each product's numbers, and the contract's by the rule."""
    about = ABOUT | {"run_id": run_id, "integration_id": integration["id"]}
    people: dict[str, Any] = {"students": 100, "teachers": 10, "classes": 5, "matching": (READING, WRITING)}
    end = (
        Held(fetch_id="a", code=Code.GUARD_EMPTY_COLLECTION, detail="x", collections={}, plan="p", **people, **about)
        if held
        else Applied(fetch_id="a", apply=1, collections={}, **people, **about)
    )
    await hear(Claimed(worker="w", fetch_id="a", **about), end)
    run = (await client.get(f"/v1/runs/{run_id}")).json()
    assert (run["matched_students"], run["matched_teachers"], run["unmatched_users"]) == (90, 4, 11)
    assert [one["product_id"] for one in run["matching"]] == ["reading", "writing"]
    assert run["matching"][0] == {
        "product_id": "reading",
        "matched_students": 90,
        "matched_teachers": 9,
        "created": 5,
        "unmatched": 11,
        "ambiguous": 2,
    }
