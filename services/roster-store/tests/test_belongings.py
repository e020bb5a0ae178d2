"""Which schools records belong to, kept up step by step (F3)."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest
from msgspec.structs import replace
from played_gateway import Gateway, school, section, student

from homeroom.db import Database
from homeroom.roster import Class, Demographics, Enrollment, Role, User
from roster_store.belongings import SEGMENT, ensure_kept
from roster_store.tables import TABLES

SCHOOLS = ("North", "South", "East")
GUARDIANS = {"guardian", "parent", "relative"}


def work_out(roster: dict[str, dict[str, Any]]) -> dict[tuple[str, str], set[str]]:
    """The schools of every record, by the rule in plain words of another language."""
    classes: dict[str, Class] = roster["classes"]
    people: dict[str, User] = roster["users"]
    found: dict[tuple[str, str], set[str]] = {
        ("classes", one.sourced_id): {one.school_sourced_id} for one in classes.values()
    }
    attending: dict[str, set[str]] = defaultdict(set)
    for one in roster["enrollments"].values():
        taken = classes.get(one.class_sourced_id)
        found["enrollments", one.sourced_id] = {taken.school_sourced_id} if taken else set()
        if taken:
            attending[one.user_sourced_id].add(taken.school_sourced_id)
    schools = {one.sourced_id for one in roster["orgs"].values() if one.type == "school"}
    for person in people.values():
        own = {role.org_sourced_id for role in person.roles if role.role not in GUARDIANS} & schools
        found["users", person.sourced_id] = own | attending[person.sourced_id]
    alone = {name: set(found["users", name]) for name in people}
    for guardian in people.values():
        if not any(role.role in GUARDIANS for role in guardian.roles):
            continue
        for other in people.values():
            tied = other.sourced_id in guardian.agent_sourced_ids or guardian.sourced_id in other.agent_sourced_ids
            if tied and any(role.role == "student" for role in other.roles):
                found["users", guardian.sourced_id] |= alone[other.sourced_id]
    for name in roster["demographics"]:
        found["demographics", name] = found.get(("users", name), set())
    return found


def shake(chance: random.Random, roster: dict[str, dict[str, Any]]) -> None:
    """Change a few things of a roster."""
    for _ in range(chance.randint(1, 5)):
        kind = chance.choice(("class", "move-class", "person", "enroll", "leave", "drop-class", "guardian", "facts"))
        number = chance.randint(1, 8)
        if kind in ("class", "move-class"):
            roster["classes"][f"class-{number}"] = section(number, chance.choice(SCHOOLS))
        elif kind == "drop-class":
            roster["classes"].pop(f"class-{number}", None)
        elif kind == "person":
            roster["users"][f"user-{number}"] = student(
                number,
                "Mila",
                *chance.sample(SCHOOLS, chance.randint(1, 2)),
                agent_sourced_ids=tuple(
                    f"user-{other}" for other in chance.sample(range(101, 104), chance.randint(0, 2))
                ),
            )
        elif kind == "guardian":
            number = chance.randint(101, 103)
            roster["users"][f"user-{number}"] = replace(
                student(number, "Ada"),
                roles=(Role(role="guardian", org_sourced_id="org-North", role_type="primary"),),
                agent_sourced_ids=tuple(f"user-{other}" for other in chance.sample(range(1, 9), chance.randint(0, 2))),
            )
        elif kind == "enroll":
            name = f"enrollment-{chance.randint(1, 12)}"
            roster["enrollments"][name] = Enrollment(
                sourced_id=name,
                user_sourced_id=f"user-{number}",
                class_sourced_id=f"class-{chance.randint(1, 8)}",
                role="student",
            )
        elif kind == "leave":
            roster["enrollments"].pop(f"enrollment-{chance.randint(1, 12)}", None)
        else:
            roster["demographics"][f"user-{number}"] = Demographics(sourced_id=f"user-{number}", sex="female")
    # What can't stand alone goes along, as providers serve it.
    for name, one in list(roster["enrollments"].items()):
        if one.class_sourced_id not in roster["classes"] or one.user_sourced_id not in roster["users"]:
            del roster["enrollments"][name]


async def read_held(database: Database) -> dict[str, dict[str, Any]]:
    """What the store holds, by collection and sourcedId."""
    return {
        name: {
            row["sourced_id"]: table.record(row)
            for row in await database.fetch(f"SELECT * FROM {table.name} WHERE active")  # noqa: S608 - a table's name
        }
        for name, table in TABLES.items()
    }


@pytest.mark.parametrize("seed", range(3))
async def test_belonging_follows_every_step(database: Database, gateway: Gateway, seed: int) -> None:
    """After each of many syncs every record belongs to exactly the schools the rule says, whatever moved."""
    chance = random.Random(seed)
    roster: dict[str, dict[str, Any]] = defaultdict(dict)
    roster["orgs"] = {f"org-{name}": school(name) for name in SCHOOLS}
    for round_number in range(25):
        shake(chance, roster)
        held = await read_held(database)
        news = {name: [one for key, one in some.items() if held[name].get(key) != one] for name, some in roster.items()}
        gone = {name: sorted(held[name].keys() - roster[name].keys()) for name in held}
        await gateway.apply(
            {name: some for name, some in news.items() if some},
            {name: some for name, some in gone.items() if some},
            reason="confirmed",
        )
        if round_number == 4:
            await ensure_kept(database, await database.fetchval("SELECT no FROM integration"))
        if round_number < 4:
            continue
        held = await read_held(database)  # incomplete schools are left as they are, so not all was taken over
        rows = await database.fetch("SELECT * FROM belonging")
        known = {
            (row["collection"], row["sourced_id"]): set(row["schools"])
            for row in rows
            if row["sourced_id"] in held[row["collection"]]
        }
        assert known == work_out(held), f"seed {seed}, round {round_number}"
        assert all(set(row["schools"]) <= set(row["ever"]) for row in rows)
        places = [(row["changed_by"], row["change_no"]) for row in rows]
        assert len(places) == len(set(places))
    assert len(known) > 10  # something was compared


async def test_keeping_begins_once(database: Database, gateway: Gateway) -> None:
    """Asking for it a second time changes nothing."""
    await gateway.apply({"orgs": [school()], "classes": [section(1)]})
    integration_no = await database.fetchval("SELECT no FROM integration")
    await ensure_kept(database, integration_no)
    await ensure_kept(database, integration_no)
    assert await database.fetchval("SELECT count(*) FROM apply WHERE kind = 'schools'") == 1


async def test_who_names_somebody_that_moved_changed(database: Database, gateway: Gateway) -> None:
    """A student whose guardian arrives later has a place in that step: their guardian is shown from then on."""
    guardian = replace(
        student(90, "Ada"), roles=(Role(role="guardian", org_sourced_id="org-North", role_type="primary"),)
    )
    await gateway.apply({"orgs": [school()], "users": [student(1, agent_sourced_ids=("user-90",)), student(2)]})
    await ensure_kept(database, await database.fetchval("SELECT no FROM integration"))
    applied = await gateway.apply({"users": [guardian]})
    places = await database.fetch("SELECT sourced_id, change_no FROM belonging WHERE changed_by = $1", applied.apply)
    assert {row["sourced_id"] for row in places} == {"user-90", "user-1"}
    assert len({row["change_no"] for row in places}) == 2
    segments = await database.fetchval("SELECT segments FROM apply WHERE no = $1", applied.apply)
    assert segments[-1][0] == SEGMENT
    assert segments[-1][2] - segments[-1][1] == 1
