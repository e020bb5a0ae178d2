"""What a picture comes to, found out without changing anything (C11)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from evaluations import look, sanity, sound
from played_gateway import Gateway, campus, enrollment, school, student, together

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Terms
from homeroom.roster import Demographics
from roster_store import evaluation
from roster_store.tables import TABLES


async def test_a_first_picture_is_told_school_by_school(gateway: Gateway, database: Database) -> None:
    """Before anything is held everything would be added, and every school is named with its own numbers."""
    fact, report = await look(gateway, database, together(campus("North", 1), campus("South", 11, students=4)))

    assert {name: part.added for name, part in report.collections.items()} == {
        "orgs": 2, "classes": 2, "users": 7, "enrollments": 7,
    }  # fmt: skip
    assert [(one.sourced_id, one.name, one.collections["users"].added) for one in report.schools] == [
        ("org-South", "South", 4),
        ("org-North", "North", 3),
    ]
    assert report.schools_changed == 2
    assert (fact.configuration, report.configuration, report.purpose) == (0, 0, "evaluation")
    assert fact.collections["users"].added == 7


async def test_only_the_schools_with_the_most_changes_are_named(
    gateway: Gateway, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many schools a district has, the report stays readable, and says how many there are."""
    monkeypatch.setattr(evaluation, "MOST_SCHOOLS", 1)
    _, report = await look(gateway, database, together(campus("North", 1), campus("South", 11, students=4)))

    assert ([one.sourced_id for one in report.schools], report.schools_changed) == (["org-South"], 2)


async def test_what_would_change_is_counted_exactly(gateway: Gateway, database: Database) -> None:
    """Added, changed field by field, removed by reason, and the same for each school."""
    roster = together(campus("North", 1, students=4), campus("South", 11, students=4), campus("East", 21))
    await gateway.apply(roster)
    fact, report = await look(
        gateway,
        database,
        {"orgs": [school("West")], "users": [
            student(1, "Nora"), student(2, "Nora", email="new@north.example"), student(5), student(6, "Ada", "South"),
        ]},
        {"users": ["user-3"]},
        configured={"users": ["user-11", "user-12"]},
        served={"orgs": 4, "users": 10},
    )  # fmt: skip

    people, enrollments = report.collections["users"], report.collections["enrollments"]
    assert (people.added, people.changed, people.removed, people.by_configuration) == (2, 2, 3, 2)
    assert people.removal_reasons == {"absent": 1, "configuration": 2}
    assert people.changed_fields == {"givenName": 2, "email": 1}
    assert enrollments.removal_reasons == {"reference": 3}
    assert report.configuration == fact.configuration == 2
    schools = {one.sourced_id: one.collections["users"] for one in report.schools if "users" in one.collections}
    assert schools["org-North"].model_dump() == {
        "held": 4, "added": 1, "changed": 2, "removed": 1, "by_configuration": 0,
    }  # fmt: skip
    assert schools["org-South"].model_dump() == {
        "held": 4, "added": 1, "changed": 0, "removed": 2, "by_configuration": 2,
    }  # fmt: skip
    assert {one.sourced_id for one in report.schools} == {"org-North", "org-South", "org-West"}
    assert report.schools_changed == 3


async def test_a_moved_person_is_found_under_both_schools(gateway: Gateway, database: Database) -> None:
    """Who changes schools counts where they were and where they will be, and so the file can be narrowed to either."""
    await gateway.apply(together(campus("North", 1), campus("South", 11)))
    await look(gateway, database, {"users": [student(1, "Mila", "South")]}, served={"users": 6})
    row = await database.fetchrow("SELECT schools, fields FROM roster_staging.p2_changes")

    assert row is not None
    assert row["schools"] == ["org-North", "org-South"]
    assert [field[0] for field in row["fields"]] == ["roles"]


async def test_what_was_made_by_hand_is_not_part_of_it(gateway: Gateway, database: Database) -> None:
    """A manual record stays as it is and appears in no number; one that comes back counts as added."""
    await gateway.apply(campus("North", 1))
    await gateway.apply({}, {"users": ["user-3"]})
    await database.fetch("UPDATE users SET origin = 'manual' WHERE sourced_id = 'user-1'")
    _, report = await look(gateway, database, {"users": [student(1, "Nora"), student(3)]}, {"users": ["user-1"]})

    people = report.collections["users"]
    assert (people.added, people.changed, people.removed, people.changed_fields) == (1, 0, 0, {})
    assert await database.fetchval("SELECT count(*) FROM roster_staging.p3_changes") == 1


async def test_an_evaluation_changes_nothing(gateway: Gateway, database: Database) -> None:
    """Every table of the store is the same before and after, but for the report, its changes and the fetch itself."""
    # With everything that leaves traces in a sync: an incomplete school, people nobody could confirm, enrollments that
    # lead nowhere, people of Google Classroom.
    google = Gateway(
        gateway.consumer, gateway.bus, organization_id=gateway.organization_id, provider="google-classroom"
    )
    await gateway.apply(together(campus("North", 1), campus("South", 11)))
    await google.apply({"users": [student(1, email="student2@north.example")]})
    before = await read_tables(database)
    fact, _ = await look(
        gateway,
        database,
        {"users": [student(2, "Nora", email="elsewhere@north.example"), student(9)],
         "enrollments": [enrollment(9, 99)]},
        {"users": ["user-11", "user-12", "user-13"]},
        unproved={"users": ["user-3"]},
        served={"users": 5},
    )  # fmt: skip

    assert {issue.code for issue in fact.issues} >= {Code.SCHOOL_INCOMPLETE, Code.REF_MISSING}
    after = await read_tables(database)
    fence = {"newest_run": 2, "newest_attempt": 1}
    assert after["integration"][0] == before["integration"][0] | fence
    assert [name for name in before if name != "integration" and before[name] != after[name]] == []
    assert await database.fetchval(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'roster_staging'::regnamespace AND relkind = 'r'"
        " AND relname NOT LIKE 'p%'"
    ) == 0  # fmt: skip


async def read_tables(database: Database) -> Mapping[str, list[dict[str, Any]]]:
    """All rows of the store's tables, without what an evaluation is meant to write."""
    names = await database.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'roster'::regnamespace AND relkind = 'r'"
        " AND relname NOT IN ('staged_fetch', 'staged_chunk', 'plan_report')"
    )
    tables = {}
    for row in names:
        statement = f"SELECT to_jsonb(one) AS row FROM {row['relname']} AS one ORDER BY one::text"  # noqa: S608 - the catalogue's names
        tables[row["relname"]] = [one["row"] for one in await database.fetch(statement)]
    return tables


async def test_a_sync_goes_on_after_an_evaluation(gateway: Gateway, database: Database) -> None:
    """The next fetch compares with the same basis and is applied as if nobody had looked."""
    await gateway.apply(campus("North", 1))
    await look(gateway, database, {"users": [student(9)]})
    fact = await gateway.apply({"users": [student(9)]})

    assert fact.collections["users"].added == 1
    assert await database.fetchval("SELECT count(*) FROM users WHERE active") == 4


async def test_the_guard_says_what_it_would_hold(gateway: Gateway, database: Database) -> None:
    """An evaluation is never held, but says why the same picture would be."""
    await gateway.apply(campus("North", 1, students=30))
    fact, report = await look(gateway, database, {}, {"users": [f"user-{number}" for number in range(1, 26)]})

    assert {reason.code for reason in report.reasons} == {reason.code for reason in fact.reasons}
    assert Code.GUARD_DELETE_HOLD in {reason.code for reason in report.reasons}
    assert report.collections["users"].removed == 25


async def test_nothing_goes_where_an_integration_only_adds(gateway: Gateway, database: Database) -> None:
    """Removals that are never carried out are in no file, and those who stay are looked at as staying."""
    await gateway.apply(sound())
    _, report = await look(
        gateway,
        database,
        {},
        {"users": ["user-50"]},
        terms=Terms(purpose="evaluation", additions_only=True),
        served={"users": 4},
    )

    assert report.collections["users"].removed == 0
    assert (report.schools, report.configuration) == ([], 0)
    assert await database.fetchval("SELECT count(*) FROM roster_staging.p2_changes") == 0
    assert "classes_without_teachers" not in sanity(report)


async def test_people_like_others_are_told(gateway: Gateway, neighbour: Gateway, database: Database) -> None:
    """Who has the address, username or number of somebody of the organization's other rosters, or made by hand."""
    other = Gateway(gateway.consumer, gateway.bus, organization_id=gateway.organization_id)
    google = Gateway(
        gateway.consumer, gateway.bus, organization_id=gateway.organization_id, provider="google-classroom"
    )
    everybody = {"users": [student(1, username="mila", identifier="77")]}
    await other.apply(everybody)
    await google.apply(everybody)
    await neighbour.apply(everybody)
    await gateway.apply({"users": [student(7, email="hand@north.example"), student(8, email="stays@north.example")]})
    await database.fetch("UPDATE users SET origin = 'manual' WHERE sourced_id = 'user-7'")
    await other.apply({"users": [student(8, email="stays@north.example")]})
    _, report = await look(gateway, database, {"users": [
        student(21, email=" STUDENT1@north.example", username="MILA", identifier="77"),
        student(22, email="hand@north.example"), student(23, email="free@north.example"),
    ]})  # fmt: skip

    found = {(one.field, one.where): (one.people, [
        (example.sourced_id, example.other_sourced_id, str(example.other_integration_id), example.by_hand)
        for example in one.examples
    ]) for one in report.collisions}  # fmt: skip
    others = ("user-21", "user-1", other.integration_id, False)
    assert found == {
        ("email", "elsewhere"): (2, [others, ("user-22", "user-7", gateway.integration_id, True)]),
        ("email", "within"): (1, [("user-22", "user-7", "None", False)]),
        ("username", "elsewhere"): (1, [others]),
        ("identifier", "elsewhere"): (1, [others]),
    }


async def test_people_of_google_classroom_collide_with_nobody(gateway: Gateway, database: Database) -> None:
    """They are meant to have the addresses of the SIS's people."""
    google = Gateway(
        gateway.consumer, gateway.bus, organization_id=gateway.organization_id, provider="google-classroom"
    )
    await gateway.apply({"users": [student(1)]})
    _, report = await look(google, database, {"users": [student(1), student(2, email="student1@north.example")]})

    assert report.collisions == []


async def test_two_who_come_with_one_address_are_told(gateway: Gateway, database: Database) -> None:
    """Two people of the picture with the same address are each named with the other."""
    _, report = await look(gateway, database, {"users": [student(1), student(2, email="Student1@north.example")]})

    (collision,) = report.collisions
    assert (collision.field, collision.where, collision.people) == ("email", "within", 2)
    assert {(one.sourced_id, one.other_sourced_id) for one in collision.examples} == {
        ("user-1", "user-2"),
        ("user-2", "user-1"),
    }


async def test_what_would_be_taken_over_is_counted(gateway: Gateway, database: Database) -> None:
    """Records of a deleted integration that become this one's are told, and stay whose they are."""
    await gateway.apply(campus("North", 1))
    new = Gateway(gateway.consumer, gateway.bus, organization_id=gateway.organization_id)
    before = await read_tables(database)
    terms = Terms(purpose="evaluation", takes_over=gateway.integration_id)
    _, report = await look(new, database, together(campus("North", 1), {"users": [student(9)]}), terms=terms)

    assert report.takeover is not None
    assert report.takeover.integration_id == uuid.UUID(gateway.integration_id)
    assert report.takeover.records == {"orgs": 1, "classes": 1, "users": 3, "enrollments": 3}
    assert report.collections["users"].added == 1
    rows = await database.fetch("SELECT change, reason, count(*) FROM roster_staging.p2_changes GROUP BY 1, 2")
    assert {(row["change"], row["reason"], row["count"]) for row in rows} == {
        ("added", None, 1),
        ("changed", "taken over", 8),
    }
    after = await read_tables(database)
    assert [name for name in TABLES if before[TABLES[name].name] != after[TABLES[name].name]] == []


async def test_demographics_are_named_by_their_person(gateway: Gateway, database: Database) -> None:
    """What changes about demographics can be read: it has the name and school of whose it is."""
    await look(
        gateway, database, together(sound(), {"demographics": [Demographics(sourced_id="user-1", sex="female")]})
    )
    row = await database.fetchrow(
        "SELECT given_name, family_name, schools FROM roster_staging.p1_changes WHERE collection = 'demographics'"
    )

    assert row is not None
    assert tuple(row) == ("Mila", "Ek", ["org-North"])
