"""Incomplete schools: left as they were and named, while the others go on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from played_gateway import Gateway, campus, enrollment, ids, school, section, student, together

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Applied, Bookmark, Held, RecordIssue
from homeroom.roster import Class, Course, Demographics
from roster_store.schools import District, Presence, SchoolFacts, judge_school

BOOKMARK = Bookmark(at=datetime(2026, 9, 1, 6, tzinfo=UTC), canonical=1)
NORTH, SOUTH = campus("North", 1), campus("South", 11)
DISTRICT = together(NORTH, SOUTH)
HAS, HAD, LOST = Presence(before=True, after=True), Presence(before=True), Presence(before=True, lost=3)
NEW, NONE = Presence(after=True), Presence()
TAKEN_AWAY = Presence(before=True, excused=3)


def schools(fact: Applied) -> list[tuple[str | None, Code, str | None]]:
    """The schools a fact names."""
    return [(issue.sourced_id, issue.code, issue.detail) for issue in fact.issues if issue.collection == "orgs"]


async def active(database: Database, table: str) -> set[str]:
    """The active records of a table."""
    rows = await database.fetch(f"SELECT sourced_id FROM {table} WHERE active")  # noqa: S608 - a test's own table name
    return {row["sourced_id"] for row in rows}


@pytest.mark.parametrize(
    ("facts", "district", "detail"),
    [
        ({"students": NEW, "classes": NEW}, District(), None),
        ({"students": NONE, "classes": NONE}, District(), None),
        ({"students": NEW}, District(), "students but no classes"),
        ({"students": NEW}, District(syncs_classes=False), None),
        ({"classes": NEW}, District(), "classes but no students"),
        ({"classes": NEW}, District(syncs_classes=False), None),
        ({"students": LOST, "classes": LOST}, District(), "no students and no classes any more"),
        ({"students": LOST, "classes": HAS}, District(), "no students any more"),
        ({"students": HAS, "classes": LOST}, District(), "no classes any more"),
        ({"students": LOST}, District(syncs_classes=False), "no students any more"),
        ({"students": HAD, "classes": HAD}, District(), None),
        ({"students": TAKEN_AWAY, "classes": TAKEN_AWAY}, District(), None),
        ({"students": TAKEN_AWAY, "classes": HAS}, District(), None),
        ({"students": HAS, "classes": TAKEN_AWAY}, District(), None),
        ({"students": HAS}, District(had_classes=True), None),
        ({"students": HAS}, District(had_classes=False), "students but no classes"),
        ({"students": HAS}, District(had_classes=True, incomplete=frozenset({"s"})), "students but no classes"),
        ({"classes": HAS}, District(), None),
        ({"classes": HAS}, District(incomplete=frozenset({"s"})), "classes but no students"),
        ({"students": HAS, "classes": HAS, "dangling": 20, "enrollments": 30}, District(), None),
        ({"students": HAS, "classes": HAS, "dangling": 21, "enrollments": 210}, District(), None),
        ({"dangling": 21, "enrollments": 209}, District(), "21 of 209 enrollments lead nowhere"),
        ({"refused": "classes refused: 403"}, District(), "classes refused: 403"),
        ({"refused": "x" * 500}, District(), "x" * 120),
    ],
)
def test_what_makes_a_school_incomplete(facts: dict[str, Any], district: District, detail: str | None) -> None:
    """A school is incomplete by the signs of a broken export, not by what options took away or what it always was."""
    verdict = judge_school(SchoolFacts("s", **facts), district)

    assert (verdict and verdict.detail) == detail
    assert verdict is None or verdict.code == Code.SCHOOL_INCOMPLETE


def test_a_missing_school_is_named_as_such() -> None:
    """That the school itself is gone is said before anything else about it."""
    verdict = judge_school(SchoolFacts("s", students=LOST, refused="users refused: 403", missing=True), District())

    assert verdict is not None
    assert verdict.code == Code.GUARD_SCHOOL_MISSING


async def test_first_sync_imports_the_schools_that_are_whole(gateway: Gateway, database: Database) -> None:
    """A school without classes is named and left out of the first sync; the others are imported, all accounted for."""
    fact = await gateway.apply(together(NORTH, campus("South", 11, classes=0)), bookmark=BOOKMARK)

    assert schools(fact) == [("org-South", Code.SCHOOL_INCOMPLETE, "students but no classes")]
    assert await active(database, "users") == {"user-1", "user-2", "user-3"}
    assert await active(database, "orgs") == {"org-North", "org-South"}
    assert (fact.collections["users"].added, fact.collections["users"].filtered) == (3, 3)
    assert fact.students == 3
    assert fact.bookmark is None


async def test_a_recovered_school_is_taken_whole(gateway: Gateway, database: Database) -> None:
    """The next complete run applies all that was left out, and nothing is said of the school any more."""
    await gateway.apply(together(NORTH, campus("South", 11, classes=0)))
    still = await gateway.apply({"users": SOUTH["users"]}, served={"users": 6, "classes": 1})
    fact = await gateway.apply({name: SOUTH[name] for name in ("classes", "users", "enrollments")}, bookmark=BOOKMARK)

    assert [one[0] for one in schools(still)] == ["org-South"]
    assert schools(fact) == []
    assert fact.bookmark == BOOKMARK
    assert {f"user-{number}" for number in (1, 2, 3, 11, 12, 13)} == await active(database, "users")
    assert len(await active(database, "enrollments")) == 6
    assert await database.fetchval("SELECT count(*) FROM incomplete_school") == 0


async def test_a_person_of_two_schools_does_not_make_a_school_whole(gateway: Gateway, database: Database) -> None:
    """Who also goes to a whole school is imported and kept up to date, and the incomplete one stays incomplete."""
    both = student(20, "Ada", "South", "North")
    broken = together(NORTH, campus("South", 11, classes=0), {"users": [both]})
    await gateway.apply(broken)
    assert "user-20" in await active(database, "users")

    changed = student(20, "Adele", "South", "North")
    fact = await gateway.apply({"users": [changed, *campus("South", 11)["users"]]}, served={"classes": 1})

    assert [one[0] for one in schools(fact)] == ["org-South"]
    assert await database.fetchval("SELECT given_name FROM users WHERE sourced_id = 'user-20'") == "Adele"
    assert await active(database, "users") == {"user-1", "user-2", "user-3", "user-20"}


async def test_an_emptied_school_is_left_as_it_was(gateway: Gateway, database: Database) -> None:
    """When all of a school goes at once it all stays, changes of it included; another school's removals go on."""
    await gateway.apply(DISTRICT)
    leaver = {"users": ["user-3"], "enrollments": ["enrollment-3-1"]}
    fact = await gateway.apply(
        {"users": [student(1, "Milena")]},
        together(ids(SOUTH, "classes", "users", "enrollments"), leaver),
        served={"classes": 1, "users": 2, "enrollments": 2},
        bookmark=BOOKMARK,
    )  # fmt: skip

    assert schools(fact) == [("org-South", Code.SCHOOL_INCOMPLETE, "no students and no classes any more")]
    users, enrollments = fact.collections["users"], fact.collections["enrollments"]
    assert (users.removed, users.unconfirmed, users.changed) == (1, 3, 1)
    assert (enrollments.removed, enrollments.unconfirmed) == (1, 3)
    assert fact.collections["classes"].unconfirmed == 1
    assert {"user-11", "user-12", "user-13"} < await active(database, "users")
    assert "user-3" not in await active(database, "users")
    assert fact.bookmark is None


async def test_changes_of_an_incomplete_school_wait(gateway: Gateway, database: Database) -> None:
    """People, classes, enrollments, courses and demographics of an incomplete school keep their values."""
    await gateway.apply(together(DISTRICT, {"courses": [Course(sourced_id="c-S", title="Art")]}))
    changes: dict[str, Any] = {
        "courses": [Course(sourced_id="c-S", title="Music", org_sourced_id="org-South")],
        "classes": [section(11, "South", "Physics"), section(1, "North", "Physics")],
        "users": [student(11, "Milena", "South"), student(1, "Milena", "North")],
        "enrollments": [enrollment(11, 11, "South", primary=True), enrollment(12, 11, primary=True)],
        "demographics": [
            Demographics(sourced_id="user-11", sex="female"),
            Demographics(sourced_id="user-12", sex="female"),
            Demographics(sourced_id="user-2", sex="female"),
        ],
    }
    fact = await gateway.apply(changes, refused_schools={"org-South": "users refused: 403"})

    assert schools(fact) == [("org-South", Code.SCHOOL_INCOMPLETE, "users refused: 403")]
    assert {name: report.filtered for name, report in fact.collections.items()} == {
        "courses": 1, "classes": 1, "users": 1, "enrollments": 2, "demographics": 2,
    }  # fmt: skip
    assert {name: report.changed + report.added for name, report in fact.collections.items()} == {
        "courses": 0, "classes": 1, "users": 1, "enrollments": 0, "demographics": 1,
    }  # fmt: skip
    assert await active(database, "demographics") == {"user-2"}
    assert await database.fetchval("SELECT title FROM classes WHERE sourced_id = 'class-11'") == "Maths"


async def test_a_refused_school_keeps_what_seems_gone(gateway: Gateway, database: Database) -> None:
    """Of a school whose data were refused nobody is removed; the withheld removals leave no bookmark."""
    await gateway.apply(DISTRICT)
    fact = await gateway.apply(
        {}, {"users": ["user-11", "user-1"], "enrollments": ["enrollment-11-11", "enrollment-1-1"]},
        refused_schools={"org-South": "enrollments refused: 403"}, bookmark=BOOKMARK,
    )  # fmt: skip

    assert (fact.collections["users"].removed, fact.collections["users"].unconfirmed) == (1, 1)
    assert "enrollment-11-11" in await active(database, "enrollments")
    assert fact.bookmark is None


async def test_a_missing_school_stays_with_its_people(gateway: Gateway, database: Database) -> None:
    """A school that is not served any more, with all that belongs to it, stays and is named."""
    await gateway.apply(DISTRICT)
    fact = await gateway.apply({}, ids(SOUTH, "orgs", "classes", "users", "enrollments"), served={"orgs": 1})

    assert schools(fact) == [("org-South", Code.GUARD_SCHOOL_MISSING, "the school is not served any more")]
    assert fact.apply is None
    assert fact.collections["orgs"].unconfirmed == 1
    assert "org-South" in await active(database, "orgs")
    assert len(await active(database, "users")) == 6


async def test_a_school_without_anybody_may_go(gateway: Gateway, database: Database) -> None:
    """An org that nobody and nothing belongs to is removed like any other record."""
    await gateway.apply(together(NORTH, {"orgs": [school("Closed")]}))
    fact = await gateway.apply({}, {"orgs": ["org-Closed"]})

    assert schools(fact) == []
    assert await active(database, "orgs") == {"org-North"}


async def test_removals_by_configuration_are_never_withheld(gateway: Gateway, database: Database) -> None:
    """A school the admin excludes goes, down to the last record, without a word about it."""
    await gateway.apply(DISTRICT)
    fact = await gateway.apply({}, configured=ids(SOUTH, "classes", "users", "enrollments"), bookmark=BOOKMARK)

    assert schools(fact) == []
    assert fact.bookmark == BOOKMARK
    assert await active(database, "users") == {"user-1", "user-2", "user-3"}
    assert await active(database, "enrollments") == {"enrollment-1-1", "enrollment-2-1", "enrollment-3-1"}


async def test_configuration_goes_on_at_an_incomplete_school(gateway: Gateway, database: Database) -> None:
    """At a school that is left as it was, what the options take away goes all the same."""
    await gateway.apply(DISTRICT)
    fact = await gateway.apply(
        {}, {"users": ["user-11"]}, configured={"users": ["user-12"]}, refused_schools={"org-South": "refused"}
    )

    assert (fact.collections["users"].removed, fact.collections["users"].unconfirmed) == (1, 1)
    assert "user-11" in await active(database, "users")
    assert "user-12" not in await active(database, "users")


async def test_students_left_out_by_the_options_leave_their_school_whole(gateway: Gateway, database: Database) -> None:
    """When nobody of a school is enrolled today, its classes go on being updated, that day and after."""
    await gateway.apply(DISTRICT)
    fact = await gateway.apply({}, configured=ids(SOUTH, "users", "enrollments"), served={"classes": 2})
    later = await gateway.apply({"classes": [section(11, "South", "Physics")]})

    assert schools(fact) == schools(later) == []
    assert await database.fetchval("SELECT title FROM classes WHERE sourced_id = 'class-11'") == "Physics"


async def test_a_storm_of_dangling_enrollments_sinks_one_school(gateway: Gateway, database: Database) -> None:
    """A school most of whose enrollments lead nowhere is left as it was; the other's are taken."""
    storm = [enrollment(number, 11, "South") for number in range(100, 130)]
    fact = await gateway.apply(together(DISTRICT, {"enrollments": storm}), chunk_records=50)

    assert schools(fact) == [("org-South", Code.SCHOOL_INCOMPLETE, "30 of 33 enrollments lead nowhere")]
    report = fact.collections["enrollments"]
    assert (report.added, report.filtered, report.quarantined) == (3, 33, 0)
    assert len(fact.issues) == 1, "what waits with its school is not named one by one"
    assert await active(database, "users") == {"user-1", "user-2", "user-3"}


async def test_who_is_left_out_with_a_school_is_enrolled_nowhere(gateway: Gateway, database: Database) -> None:
    """Somebody new who waits with their school can't be enrolled at another one yet; that is said of the enrollment."""
    guest = enrollment(11, 1, "North")
    fact = await gateway.apply(together(NORTH, campus("South", 11, classes=0), {"enrollments": [guest]}))

    assert fact.collections["enrollments"].quarantined == 1
    assert [(issue.sourced_id, issue.field) for issue in fact.issues if issue.code == Code.REF_MISSING] == [
        (guest.sourced_id, "user")
    ]
    assert await active(database, "enrollments") == {"enrollment-1-1", "enrollment-2-1", "enrollment-3-1"}


async def test_untouched_schools_are_not_judged(gateway: Gateway) -> None:
    """A change at one school does not bring up another that was taken without classes when none were synced."""
    await gateway.apply({name: DISTRICT[name] for name in ("orgs", "users")}, unwanted="classes")
    fact = await gateway.apply(
        {"classes": [section(1)], "users": [student(1, "Milena")]}, served={"classes": 1, "users": 6}
    )

    assert schools(fact) == []


async def test_without_classes_only_students_count(gateway: Gateway, database: Database) -> None:
    """Where classes are not synced a school needs none; losing all its students still keeps it as it was."""
    await gateway.apply({name: DISTRICT[name] for name in ("orgs", "users")})
    fact = await gateway.apply({}, ids(SOUTH, "users"), served={"users": 3})

    assert schools(fact) == [("org-South", Code.SCHOOL_INCOMPLETE, "no students any more")]
    assert len(await active(database, "users")) == 6


async def test_changes_alone_follow_the_same_rules(gateway: Gateway, database: Database) -> None:
    """With increments, too, a school that would be emptied by tombstones stays, and the next fetch starts afresh."""
    await gateway.apply(DISTRICT)
    fact = await gateway.apply(
        {}, ids(SOUTH, "users"), reason="tombstone", whole=False, mode="delta", bookmark=BOOKMARK
    )

    assert schools(fact) == [("org-South", Code.SCHOOL_INCOMPLETE, "no students any more")]
    assert (fact.mode, fact.bookmark) == ("delta", None)
    assert len(await active(database, "users")) == 6


async def test_an_empty_collection_holds_before_schools_are_judged(gateway: Gateway) -> None:
    """When nobody at all is served the whole run is held, not school by school."""
    await gateway.apply(DISTRICT)
    fact = await gateway.sync({}, ids(DISTRICT, "users"), served={"users": 0})

    assert isinstance(fact, Held)
    assert fact.code == Code.GUARD_EMPTY_COLLECTION


async def test_people_made_by_hand_are_not_counted_in_or_out(gateway: Gateway, database: Database) -> None:
    """A person made by hand is neither dropped nor removed with an incomplete school."""
    await gateway.apply(DISTRICT)
    await database.fetch("UPDATE users SET origin = 'manual' WHERE sourced_id = 'user-11'")
    before = await database.fetchrow("SELECT * FROM users WHERE sourced_id = 'user-11'")
    fact = await gateway.apply({}, ids(SOUTH, "users", "classes"), served={"users": 3, "classes": 1})

    assert schools(fact) == [("org-South", Code.SCHOOL_INCOMPLETE, "no classes any more")]
    assert await database.fetchrow("SELECT * FROM users WHERE sourced_id = 'user-11'") == before


async def test_schools_are_named_before_everything_else(gateway: Gateway) -> None:
    """However many issues the gateway reports, the schools are not cut off."""
    noise = tuple(
        RecordIssue(collection="users", sourced_id=f"user-{number}", code=Code.BAD_DATE) for number in range(500)
    )
    fact = await gateway.apply(together(NORTH, campus("South", 11, classes=0)), issues=noise)

    assert fact.issues[0].sourced_id == "org-South"
    assert len(fact.issues) == 500


async def test_a_class_that_moves_to_a_whole_school_is_taken(gateway: Gateway, database: Database) -> None:
    """A class and its enrollments that now belong to another school don't wait for the one they left."""
    await gateway.apply(together(DISTRICT, {"classes": [section(12, "South")]}))
    moved = Class(sourced_id="class-12", title="Maths", school_sourced_id="org-North", term_sourced_ids=("t1",))
    fact = await gateway.apply(
        {"classes": [moved], "enrollments": [enrollment(1, 12, "North")]}, refused_schools={"org-South": "refused"}
    )

    assert fact.collections["classes"].changed == 1
    assert "enrollment-1-12" in await active(database, "enrollments")
