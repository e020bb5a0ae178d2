"""What a picture comes to, school by school."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from played_gateway import Gateway, campus, enrollment, school, section, student, together

from homeroom.db import Database
from homeroom.roster import Course
from roster_store.picture import open_picture
from roster_store.school_counts import SchoolCounts, count_by_school


async def count(
    gateway: Gateway, database: Database, *args: Any, first: bool = False, **kwargs: Any
) -> Mapping[str, Mapping[str, SchoolCounts]]:
    """Stage a fetch and count what it comes to, without ending it."""
    await gateway.consumer.handle(gateway.messages(*args, **kwargs)[:-1])
    async with database.transaction() as connection:
        fetch_no = await connection.fetchval("SELECT max(no) FROM staged_fetch")
        picture = await open_picture(connection, 1, fetch_no, first=first, duplicates=False)
        return await count_by_school(connection, picture)


async def test_a_first_picture_only_adds(gateway: Gateway, database: Database) -> None:
    """Before anything is held, every school's records are counted as added, in each collection."""
    course = Course(sourced_id="course-1", title="Maths", org_sourced_id="org-North")
    found = await count(
        gateway,
        database,
        together(campus("North", 1), campus("South", 11, students=4), {"courses": [course]}),
        first=True,
    )

    assert found["org-North"] == {
        "orgs": SchoolCounts(added=1),
        "courses": SchoolCounts(added=1),
        "classes": SchoolCounts(added=1),
        "users": SchoolCounts(added=3),
        "enrollments": SchoolCounts(added=3),
    }
    assert found["org-South"]["users"] == SchoolCounts(added=4)


async def test_changes_and_removals_are_counted_where_they_belong(gateway: Gateway, database: Database) -> None:
    """People count at each of their schools, once each; enrollments at their class's school where they name none."""
    both = student(20, "Ada", "South", "North", "North")
    roster = together(
        campus("North", 1),
        campus("South", 11),
        {"users": [both], "enrollments": [enrollment(20, 1), enrollment(20, 11)]},
    )
    await gateway.apply(roster)
    found = await count(
        gateway,
        database,
        {
            "orgs": [school("West")],
            "classes": [section(1, "North", "Art"), section(30, "West")],
            "users": [student(1, "Mila", "South"), student(2, "Mila", "North"), student(31, "Ida", "West")],
            "enrollments": [enrollment(31, 30)],
        },
        {"users": ["user-20"], "enrollments": ["enrollment-20-1", "enrollment-20-11"]},
        configured={"users": ["user-3"], "classes": ["class-11"]},
    )

    assert found["org-North"]["users"] == SchoolCounts(held=4, changed=1, removed=2, configured=1)
    assert found["org-South"]["users"] == SchoolCounts(held=4, changed=1, removed=1)
    assert found["org-North"]["classes"] == SchoolCounts(held=1, changed=1)
    assert found["org-South"]["classes"] == SchoolCounts(held=1, removed=1, configured=1)
    assert found["org-North"]["enrollments"] == SchoolCounts(held=4, removed=1, following=1)
    assert found["org-South"]["enrollments"] == SchoolCounts(held=4, removed=1, following=1)
    assert {name: one.added for name, one in found["org-West"].items()} == {
        "orgs": 1,
        "classes": 1,
        "users": 1,
        "enrollments": 1,
    }


async def test_manual_records_and_those_gone_before_do_not_count(gateway: Gateway, database: Database) -> None:
    """What a sync can't change is neither held nor changed nor removed by it; a returning record is added."""
    await gateway.apply(campus("North", 1, students=5))
    await database.fetch("UPDATE users SET origin = 'manual' WHERE sourced_id IN ('user-1', 'user-2')")
    await gateway.apply({}, {"users": ["user-3"]})
    found = await count(
        gateway,
        database,
        {"users": [student(1, "Eva", "North"), student(3, "Mila", "North")]},
        {"users": ["user-2", "user-4"]},
    )

    assert found["org-North"]["users"] == SchoolCounts(held=2, added=1, removed=1)
