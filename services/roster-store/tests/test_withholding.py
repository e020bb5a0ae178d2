"""What is kept back is consistent in itself, whatever is kept back of whatever roster."""

from __future__ import annotations

import random

import pytest
from played_gateway import Gateway, enrollment, school, section, student

from homeroom.db import Database
from homeroom.messages import CollectionReport
from roster_store.guard import Verdict
from roster_store.holding import part, withhold
from roster_store.picture import GONE, Picture, open_picture
from roster_store.plan import Plan, make_plan
from roster_store.references import release_enrollments

SCHOOLS = ("North", "South", "West")
LEFT = "SELECT user_sourced_id, class_sourced_id FROM enrollments WHERE sourced_id <> ALL ($1::text[])"


async def read(database: Database, picture: Picture, table: str) -> dict[str, set[str]]:
    """What stands in a table of removals, by collection."""
    found: dict[str, set[str]] = {}
    for row in await database.fetch(f"SELECT collection, sourced_id FROM {table}"):  # noqa: S608 - our own tables
        assert row["sourced_id"] not in found.setdefault(row["collection"], set()), "each goes once"
        found[row["collection"]].add(row["sourced_id"])
    assert picture.fetch_no
    return found


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_kept_back_hangs_together(gateway: Gateway, database: Database, seed: int) -> None:
    """No verdict removes what it keeps back, and no enrollment stays of people or classes that go (I8)."""
    dice = random.Random(seed)
    classes = [section(number, dice.choice(SCHOOLS)) for number in range(12)]
    users = [student(number, "Mila", *dice.sample(SCHOOLS, dice.choice((1, 1, 2)))) for number in range(60)]
    pairs = {(dice.randrange(60), dice.randrange(12)) for _ in range(200)}
    enrollments = [enrollment(*pair, dice.choice((None, *SCHOOLS))) for pair in sorted(pairs)]
    roster = {
        "orgs": [school(name) for name in SCHOOLS],
        "classes": classes,
        "users": users,
        "enrollments": enrollments,
    }
    await gateway.apply(roster, chunk_records=500)
    going = {
        name: [record.sourced_id for record in dice.sample(roster[name], count)]
        for name, count in {"orgs": 1, "classes": 4, "users": 20, "enrollments": 40}.items()
    }
    await gateway.consumer.handle(gateway.messages({}, going)[:-1])
    reports = {name: CollectionReport() for name in roster}
    verdict = dice.choice(
        (
            Verdict(schools=frozenset(dice.sample([f"org-{name}" for name in SCHOOLS], 2))),
            Verdict(collections=frozenset(dice.sample(["users", "classes", "enrollments"], dice.choice((1, 2))))),
            Verdict(schools=frozenset({"org-North"}), collections=frozenset({"users"})),
            Verdict(removals=True),
        )
    )
    async with database.pool.acquire(timeout=5) as connection, connection.transaction():
        fetch_no = await connection.fetchval("SELECT max(no) FROM staged_fetch")
        picture = await open_picture(connection, 1, fetch_no, first=False, duplicates=False)
        plan = await release_enrollments(connection, await make_plan(connection, picture, reports))
        kept = await withhold(connection, plan, verdict)
        await part(connection, picture)

    goes, waits = await read(database, picture, picture.name(GONE)), await read(database, picture, picture.waiting)
    check_counts(plan, kept, goes, waits)
    staying = await database.fetch(LEFT, sorted(goes.get("enrollments", set())))
    assert not {row["user_sourced_id"] for row in staying} & goes.get("users", set())
    assert not {row["class_sourced_id"] for row in staying} & goes.get("classes", set())


def check_counts(plan: Plan, kept: Plan, goes: dict[str, set[str]], waits: dict[str, set[str]]) -> None:
    """What goes and what waits is together what would have gone, and is counted as that."""
    for name, before in plan.collections.items():
        after = kept.collections[name]
        assert (after.removed, after.held) == (len(goes.get(name, ())), len(waits.get(name, ()))), name
        assert after.removed + after.held == before.removed
        assert not goes.get(name, set()) & waits.get(name, set())
