"""What is odd about a roster as it would be (C11)."""

from __future__ import annotations

from datetime import date
from typing import Any

from evaluations import PAST, look, placed, sanity, sound, teacher, teaching
from played_gateway import Gateway, enrollment, school, section, student, together

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import RecordIssue
from homeroom.roster import Class
from roster_store.sanity import CHECKS


async def test_a_sound_roster_has_nothing_odd(gateway: Gateway, database: Database) -> None:
    """No check finds anything where there is nothing to find."""
    _, report = await look(gateway, database, sound())

    assert sanity(report) == {}


ODDITIES: list[tuple[str, dict[str, list[Any]], tuple[int, int | None, list[str]]]] = [
    ("students_without_classes", {"users": [student(9)]}, (1, 4, ["user-9"])),
    ("teachers_without_classes", {"users": [teacher(51)]}, (1, 2, ["user-51"])),
    ("classes_without_students", {"classes": [section(9)], "enrollments": [teaching(50, 9)]}, (1, 2, ["class-9"])),
    ("classes_without_teachers", {"classes": [section(9)], "enrollments": [enrollment(1, 9)]}, (1, 2, ["class-9"])),
    ("classes_at_unknown_schools", {"classes": [section(9, "Atlantis")]}, (1, 2, ["class-9"])),
    (
        "classes_whose_terms_ended",
        {"academicSessions": [PAST], "classes": [
            Class(sourced_id="class-9", title="Old", school_sourced_id="org-North", term_sourced_ids=("t0",)),
        ]},
        (1, 2, ["class-9"]),
    ),
    ("people_at_unknown_orgs", {"users": [student(9, "Mila", "North", "Atlantis")]}, (1, 6, ["user-9"])),
    ("people_without_school", {"users": [student(9, "Mila", "Atlantis")]}, (1, 6, ["user-9"])),
    ("duplicate_emails", {"users": [student(9, email="STUDENT1@north.example ")]}, (2, 6, ["user-1", "user-9"])),
    (
        "duplicate_usernames",
        {"users": [student(8, username="mila"), student(9, username="Mila")]},
        (2, 2, ["user-8", "user-9"]),
    ),
    (
        "duplicate_identifiers",
        {"users": [student(8, identifier="7"), student(9, identifier="7"), student(7, identifier="8")]},
        (2, 3, ["user-8", "user-9"]),
    ),
    ("students_without_email", {"users": [student(9, email=None)]}, (1, 4, ["user-9"])),
    ("staff_without_email", {"users": [teacher(51, email=" ")]}, (1, 2, ["user-51"])),
    ("students_without_grade", {"users": [student(9, grades=())]}, (1, 4, ["user-9"])),
    ("guardians_without_students", {"users": [student(61, role="parent", grades=())]}, (1, 2, ["user-61"])),
    ("enrollments_outside_terms", {"enrollments": [placed("late", begin=date(2999, 1, 1))]}, (1, 5, ["late"])),
    ("enrollments_outside_terms", {"enrollments": [placed("early", end=date(2020, 8, 1))]}, (1, 5, ["early"])),
    ("schools_without_classes", {"orgs": [school("West")]}, (1, 2, ["org-West"])),
    ("schools_without_students", {"orgs": [school("West")]}, (1, 2, ["org-West"])),
    ("enrollments_leading_nowhere", {"enrollments": [enrollment(1, 99)]}, (1, 5, ["enrollment-1-99"])),
    (
        "incomplete_schools",
        {"orgs": [school("West")], "users": [student(9, "Mila", "West")]},
        (1, 2, ["org-West"]),
    ),
]  # fmt: skip


async def test_every_oddity_is_found(gateway: Gateway, database: Database) -> None:
    """Each check counts what it is for, says of how many, and names ids, never people."""
    for check, extra, found in ODDITIES:
        district = Gateway(gateway.consumer, gateway.bus)
        _, report = await look(district, database, together(sound(), extra))
        sentence = next((finding.sentence for finding in report.sanity if finding.check == check), "")

        assert (check, sanity(report).get(check)) == (check, found)
        assert sentence.startswith(f"{found[0]} of {found[1]} ")
        assert "Mila" not in report.model_dump_json()


def test_every_check_is_tried() -> None:
    """There is no check without a case above that finds something."""
    elsewhere = {"no_current_session"}

    assert {check.name for check in CHECKS} - {check for check, _, _ in ODDITIES} == elsewhere


async def test_a_roster_of_the_past_is_found(gateway: Gateway, database: Database) -> None:
    """Where no session is current, all of them are named."""
    _, report = await look(gateway, database, {"academicSessions": [PAST]})

    assert sanity(report) == {"no_current_session": (1, 1, ["t0"])}


async def test_checks_follow_what_would_be(gateway: Gateway, database: Database) -> None:
    """The roster is looked at as it would be: who goes or went is not there any more, whom nobody touches is."""
    await gateway.apply(together(sound(), {"users": [student(70, email=None)]}))
    await gateway.apply({}, {"users": ["user-70"]}, served={"users": 5})
    _, report = await look(
        gateway,
        database,
        {"users": [student(1, email=None)]},
        {"enrollments": ["enrollment-50-1"], "users": ["user-60"]},
        served={"enrollments": 3, "users": 4},
    )

    assert sanity(report) == {
        "teachers_without_classes": (1, 1, ["user-50"]),
        "classes_without_teachers": (1, 1, ["class-1"]),
        "students_without_email": (1, 3, ["user-1"]),
    }


async def test_checks_that_make_no_sense_are_left_out(gateway: Gateway, database: Database) -> None:
    """Where no classes, orgs or sessions are shared, nobody is found without them."""
    _, report = await look(gateway, database, {"users": [student(1), teacher(2)]})

    assert sanity(report) == {}


async def test_masked_fields_are_named(gateway: Gateway, database: Database) -> None:
    """What the gateway noticed about masked fields stands in the report, by the names of the fields (C13)."""
    issue = RecordIssue(collection="users", sourced_id=None, code=Code.FIELD_MASKED, field="email")
    _, report = await look(gateway, database, sound(), issues=(issue,))

    (finding,) = report.sanity
    assert (finding.check, finding.count, finding.of) == ("masked_fields", 1, None)
    assert finding.sentence == "Masked or the same for everybody, and so taken for absent: email."


async def test_only_some_are_named(gateway: Gateway, database: Database) -> None:
    """However many there are, a finding names twenty."""
    people = [student(number, grades=()) for number in range(100, 150)]
    _, report = await look(gateway, database, together(sound(), {"users": people}))

    count, _, examples = sanity(report)["students_without_grade"]
    assert (count, len(examples)) == (50, 20)
