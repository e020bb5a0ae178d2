"""References: no enrollment is active whose person, class or school is not; reused ids are noticed."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from played_gateway import ROSTER, Gateway, enrollment, school, section, student

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Applied, Bookmark
from homeroom.roster import Demographics, Enrollment

DANGLING = """
SELECT count(*) FROM enrollments AS held WHERE held.active AND NOT (
    EXISTS (SELECT FROM users
            WHERE (integration_no, sourced_id) = (held.integration_no, held.user_sourced_id) AND active)
    AND EXISTS (SELECT FROM classes
                WHERE (integration_no, sourced_id) = (held.integration_no, held.class_sourced_id) AND active))
"""


def missing(fact: Applied) -> list[tuple[str | None, str | None]]:
    """The enrollments a fact names, and what they lack."""
    return [
        (issue.sourced_id, issue.field)
        for issue in fact.issues
        if issue.code == Code.REF_MISSING and issue.collection == "enrollments"
    ]


async def active(database: Database) -> set[str]:
    """The active enrollments."""
    return {row["sourced_id"] for row in await database.fetch("SELECT sourced_id FROM enrollments WHERE active")}


@pytest.mark.parametrize(
    ("dangling", "field"),
    [
        (enrollment(9, 1), "user"),
        (enrollment(1, 9), "class"),
        (enrollment(9, 9), "user"),
        (enrollment(1, 1, "Nowhere"), "school"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
async def test_an_enrollment_that_leads_nowhere_is_quarantined(
    gateway: Gateway, database: Database, dangling: Enrollment, field: str, *, first: bool
) -> None:
    """An enrollment without its person, class or school is not stored but counted and named; the others are taken."""
    roster = {**ROSTER, "enrollments": ROSTER["enrollments"][1:]}
    extra = {"enrollments": [dangling, enrollment(2, 1, primary=True)]}
    if first:
        fact = await gateway.apply({**roster, "enrollments": [*extra["enrollments"], enrollment(3, 1)]})
    else:
        await gateway.apply(roster)
        fact = await gateway.apply(extra)

    report = fact.collections["enrollments"]
    assert report.quarantined == 1
    assert report.added + report.changed == (2 if first else 1)
    assert missing(fact) == [(dangling.sourced_id, field)]
    assert await active(database) == {"enrollment-2-1", "enrollment-3-1"}


async def test_a_quarantined_enrollment_comes_back_by_itself(gateway: Gateway, database: Database) -> None:
    """As the store does not hold it, it is sent again with the next full fetch, and taken once its person is there."""
    await gateway.apply({**ROSTER, "enrollments": [*ROSTER["enrollments"], enrollment(9, 1)]})
    still = await gateway.apply({"enrollments": [enrollment(9, 1)]}, served={"users": 3})
    fact = await gateway.apply({"users": [student(9)], "enrollments": [enrollment(9, 1)]})

    assert still.apply is None
    assert missing(still) == [("enrollment-9-1", "user")]
    assert fact.collections["enrollments"].added == 1
    assert missing(fact) == []
    assert "enrollment-9-1" in await active(database)


async def test_no_increments_while_somebody_waits(gateway: Gateway) -> None:
    """Changes alone might never bring a quarantined enrollment again, so everything is read until then."""
    bookmark = Bookmark(at=datetime(2026, 9, 1, 6, tzinfo=UTC), canonical=1, increments=True)
    waiting = await gateway.apply({**ROSTER, "enrollments": [enrollment(9, 1)]}, bookmark=bookmark)
    assert waiting.bookmark is not None
    assert not waiting.bookmark.increments
    settled = await gateway.apply({"users": [student(9)], "enrollments": [enrollment(9, 1)]}, bookmark=bookmark)
    assert settled.bookmark == bookmark


async def test_a_known_enrollment_keeps_its_last_good_value(gateway: Gateway, database: Database) -> None:
    """A known enrollment that is changed to lead nowhere stays what it was."""
    await gateway.apply(ROSTER)
    fact = await gateway.apply({"enrollments": [enrollment(1, 1, "Nowhere")]})

    assert fact.collections["enrollments"].quarantined == 1
    row = await database.fetchrow(
        "SELECT version, school_sourced_id FROM enrollments WHERE sourced_id = 'enrollment-1-1'"
    )
    assert row is not None
    assert (row["version"], row["school_sourced_id"]) == (1, None)


async def test_enrollments_go_with_their_person_and_class(gateway: Gateway, database: Database) -> None:
    """When a person or class goes, the enrollments that are left go in the same apply and are counted."""
    await gateway.apply({**ROSTER, "classes": [section(1), section(2)], "enrollments": [
        *ROSTER["enrollments"], enrollment(1, 2), enrollment(2, 2)]})  # fmt: skip
    fact = await gateway.apply({}, {"users": ["user-3"], "classes": ["class-2"]}, served={"classes": 1})

    assert fact.collections["enrollments"].removed == 3
    assert await active(database) == {"enrollment-1-1", "enrollment-2-1"}
    assert await database.fetchval(DANGLING) == 0


async def test_an_enrollment_that_moves_away_in_time_stays(gateway: Gateway, database: Database) -> None:
    """An enrollment that points elsewhere in the same fetch does not go with the class it left."""
    await gateway.apply({**ROSTER, "classes": [section(1), section(2)]})
    moved = Enrollment(
        sourced_id="enrollment-1-1", user_sourced_id="user-1", class_sourced_id="class-2", role="student"
    )
    await gateway.apply({"enrollments": [moved]}, {"classes": ["class-1"]}, served={"classes": 1, "enrollments": 3})

    assert await active(database) == {"enrollment-1-1"}
    assert await database.fetchval(DANGLING) == 0


async def test_an_enrollment_of_a_person_who_goes_is_quarantined(gateway: Gateway, database: Database) -> None:
    """A new enrollment of somebody who leaves in the same fetch is not taken."""
    await gateway.apply({**ROSTER, "classes": [section(1), section(2)]})
    fact = await gateway.apply({"enrollments": [enrollment(3, 2)]}, {"users": ["user-3"]})

    assert missing(fact) == [("enrollment-3-2", "user")]
    assert await database.fetchval(DANGLING) == 0


async def test_enrollments_made_by_hand_go_only_with_their_person(gateway: Gateway, database: Database) -> None:
    """A manual enrollment is not named when the provider sends its id for nobody, and goes when its person does."""
    await gateway.apply(ROSTER)
    await database.fetch("UPDATE enrollments SET origin = 'manual' WHERE sourced_id = 'enrollment-3-1'")
    fact = await gateway.apply({"enrollments": [enrollment(3, 1, "Nowhere")]}, {"users": ["user-3"]})

    assert missing(fact) == []
    report = fact.collections["enrollments"]
    assert (report.filtered, report.quarantined, report.removed) == (1, 0, 1)
    assert "enrollment-3-1" not in await active(database)
    await gateway.apply({"users": [student(3)]})
    assert "enrollment-3-1" in await active(database), "it comes back with them"


async def test_a_provider_without_orgs_misses_no_school(gateway: Gateway, database: Database) -> None:
    """Where a provider never shared any org, an enrollment may name a school."""
    roster = {name: records for name, records in ROSTER.items() if name != "orgs"}
    fact = await gateway.apply({**roster, "enrollments": [enrollment(1, 1, "North")]})

    assert fact.issues == ()
    assert await active(database) == {"enrollment-1-1"}


async def test_classes_and_roles_at_unknown_schools_are_kept_with_a_note(gateway: Gateway, database: Database) -> None:
    """A class or role that names an unknown org is stored; one note for each kind says how many there are."""
    fact = await gateway.apply(
        {**ROSTER, "classes": [section(1), section(2, "Lost")], "users": [*ROSTER["users"], student(4, "Mila", "Lost")]}
    )

    assert [(issue.collection, issue.code, issue.field, issue.detail) for issue in fact.issues] == [
        ("classes", Code.REF_MISSING, "school", "1 classes name a school that is not there"),
        ("users", Code.REF_MISSING, "roles", "1 roles name an org that is not there"),
    ]
    assert await database.fetchval("SELECT count(*) FROM users WHERE active") == 4
    assert {report.quarantined for report in fact.collections.values()} == {0}


async def test_many_dangling_enrollments_are_counted_but_not_all_named(gateway: Gateway) -> None:
    """However many there are, the count is exact and the list short; nobody's school is to blame without one."""
    lost = [enrollment(number, 9) for number in range(100, 400)]
    fact = await gateway.apply({**ROSTER, "enrollments": [*ROSTER["enrollments"], *lost]}, chunk_records=200)

    assert fact.collections["enrollments"].quarantined == 300
    assert len(missing(fact)) == 200
    assert fact.collections["enrollments"].added == 3


async def test_new_people_may_come_after_their_enrollments(gateway: Gateway) -> None:
    """The order within a fetch is of no matter: what is staged is there."""
    fact = await gateway.apply({name: ROSTER[name] for name in reversed(ROSTER)})

    assert fact.collections["enrollments"].added == 3


SOMEBODY = student(1, "Zoe", family_name="Quist", email="zoe@north.example")


@pytest.mark.parametrize(
    ("before", "after", "suspected"),
    [
        ({}, {}, True),
        ({"identifier": "17"}, {"identifier": "18"}, True),
        ({"identifier": "17"}, {}, True),
        ({"identifier": "17"}, {"identifier": "17"}, False),
        ({"username": "Ek1"}, {"username": "ek1"}, False),
        ({}, {"email": "Student1@North.example"}, False),
        ({}, {"family_name": "Ek"}, False),
        ({}, {"given_name": "mila"}, False),
    ],
)
async def test_an_id_given_to_somebody_else_is_noticed(
    gateway: Gateway, database: Database, before: dict[str, str], after: dict[str, str], *, suspected: bool
) -> None:
    """Only when name and every id both sides know differ is a changed person taken for another, and stored anyway."""
    await gateway.apply({**ROSTER, "users": [student(1, **before), student(2), student(3)]})
    fields = {"given_name": "Zoe", "family_name": "Quist", "email": "zoe@north.example"} | after
    name = fields.pop("given_name")
    fact = await gateway.apply({"users": [student(1, name, **fields)]})

    expected = [("users", "user-1", Code.ID_REUSE_SUSPECTED)] if suspected else []
    assert [(issue.collection, issue.sourced_id, issue.code) for issue in fact.issues] == expected
    assert fact.collections["users"].changed == 1
    assert await database.fetchval("SELECT given_name FROM users WHERE sourced_id = 'user-1'") == name


@pytest.mark.parametrize(
    ("told", "suspected"),
    [
        (None, False),
        (Demographics(sourced_id="user-1", birth_date=date(2015, 2, 3), sex="female"), False),
        (Demographics(sourced_id="user-1", birth_date=date(2019, 9, 9)), True),
    ],
)
async def test_the_same_day_of_birth_is_the_same_person(
    gateway: Gateway, told: Demographics | None, *, suspected: bool
) -> None:
    """Where demographics are held, somebody with an unchanged day of birth is not taken for another."""
    held = Demographics(sourced_id="user-1", birth_date=date(2015, 2, 3))
    await gateway.apply({**ROSTER, "demographics": [held]})
    fact = await gateway.apply({"users": [SOMEBODY]} | ({"demographics": [told]} if told else {}))

    assert [issue.code for issue in fact.issues] == [Code.ID_REUSE_SUSPECTED] * suspected


async def test_a_school_may_come_with_its_enrollments(gateway: Gateway) -> None:
    """A named school that is served in the same fetch is there."""
    await gateway.apply(ROSTER)
    fact = await gateway.apply({"orgs": [school("South")], "enrollments": [enrollment(1, 1, "South")]})

    assert fact.collections["enrollments"].changed == 1
