"""Rows of Canvas' files: what holds of any roster, and the rules one by one."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roster_store.canvas.guard import find_objection
from roster_store.canvas.messages import MOST_MESSAGES, read_messages, redact
from roster_store.canvas.rows import (
    DELETE,
    Calendar,
    CourseRows,
    EnrollmentRows,
    list_accounts,
    list_sections,
    list_users,
    place_accounts,
)

TODAY = date(2026, 11, 22)
SESSIONS = [
    {"sourced_id": one, "title": one, "start_date": start, "end_date": end, "parent_sourced_id": parent}
    for one, start, end, parent in (
        ("year", date(2026, 8, 1), date(2027, 7, 1), None),
        ("q1", date(2026, 8, 1), date(2026, 11, 1), "year"),
        ("q2", date(2026, 11, 1), date(2027, 2, 1), "year"),
        ("old", date(2025, 8, 1), date(2026, 7, 1), None),
    )
]
CALENDAR = Calendar(SESSIONS, "Europe/Stockholm", TODAY)


def a_class(sourced_id: str = "k1", **fields: Any) -> dict[str, Any]:
    """A class as it is read."""
    known = {"active": True, "title": "5A", "class_code": None, "school_sourced_id": "s1", "term_sourced_ids": ["year"],
             "course_sourced_id": "c1", "course_title": "Maths", "course_code": "MA"}  # fmt: skip
    return {"sourced_id": sourced_id, **known, **fields}


def an_enrollment(**fields: Any) -> dict[str, Any]:
    """An enrollment as it is read."""
    known = {"class_sourced_id": "k1", "user_sourced_id": "u1", "role": "student", "active": True, "begin_date": None,
             "end_date": None, "term_sourced_ids": ["year"], "class_active": True}  # fmt: skip
    return known | fields


def render(made: CourseRows | EnrollmentRows, *records: dict[str, Any]) -> list[list[Any]]:
    """All rows, in whatever batches the records come."""
    return [list(row) for record in records for row in made.render([record])] + [list(row) for row in made.finish()]


# ── what holds of any roster ──────────────────────────────────────────────────────────────────────────────────────

IDS = st.sampled_from(["a", "b", "c", "d", "e"])
ORGS = st.lists(
    st.fixed_dictionaries(
        {
            "sourced_id": IDS,
            "name": st.just("x"),
            "type": st.sampled_from(["district", "school", "department"]),
            "parent_sourced_id": st.none() | IDS,
        }
    ),
    unique_by=lambda org: org["sourced_id"],
)


@given(ORGS)
def test_parents_come_before_children(orgs: list[dict[str, Any]]) -> None:
    """Whatever tree, circle or gap orgs form, every account names a parent that stands before it, and each is there."""
    seen: set[object] = {""}
    rows = list_accounts(orgs)
    for account, parent, _, _ in rows:
        assert parent in seen
        seen.add(account)
    placed = place_accounts(orgs)
    assert set(placed.values()) <= seen
    assert len(rows) == sum(org["type"] != "district" for org in orgs)


CLASSES = st.lists(
    st.builds(
        a_class,
        sourced_id=st.sampled_from(["k1", "k2", "k3", "k4"]),
        active=st.booleans(),
        school_sourced_id=st.sampled_from(["s1", "s2"]),
        course_sourced_id=st.sampled_from(["c1", "c2", None]),
        course_title=st.sampled_from(["Maths", None]),
        term_sourced_ids=st.lists(st.sampled_from(["year", "q1", "q2", "old", "unknown"]), max_size=3),
    ),
    unique_by=lambda record: record["sourced_id"],
)


@given(CLASSES, st.booleans())
def test_every_section_names_a_course_of_the_set(classes: list[dict[str, Any]], shared: bool) -> None:
    """Courses are there once, in either mode, and each class is a section of one of them with a term that is listed."""
    classes.sort(key=lambda record: (record["course_sourced_id"] or "~", record["school_sourced_id"]))
    made = CourseRows(CALENDAR, {"s1": "s1"}, shared=shared)
    courses = render(made, *classes)
    ids = [row[0] for row in courses]
    assert len(ids) == len(set(ids))
    sections = list(list_sections(classes, CALENDAR, shared=shared))
    assert [row[0] for row in sections] == [record["sourced_id"] for record in classes]
    assert {row[1] for row in sections} == set(ids)
    used = {CALENDAR.find_term(record["term_sourced_ids"]).term_id for record in classes}
    listed = {row[0] for row in CALENDAR.list_terms(used)}
    assert {row[4] for row in courses} <= listed | {""}
    living = {row[1] for row, record in zip(sections, classes, strict=True) if record["active"]}
    assert made.active == len(living)


@given(
    st.lists(
        st.builds(
            an_enrollment,
            class_sourced_id=st.sampled_from(["k1", "k2"]),
            user_sourced_id=st.sampled_from(["u1", "u2"]),
            role=st.sampled_from(["student", "teacher", "aide", "proctor"]),
            active=st.booleans(),
            begin_date=st.none() | st.just(date(2026, 8, 1)) | st.just(date(2027, 1, 1)),
            end_date=st.none() | st.just(date(2026, 9, 1)) | st.just(date(2027, 6, 1)),
        )
    )
)
def test_an_enrollment_is_there_once(records: list[dict[str, Any]]) -> None:
    """Canvas gets one row for a person, a section and a role, active if any of the records is, and never deleted."""
    records.sort(key=lambda one: (one["class_sourced_id"], one["user_sourced_id"], one["role"]))
    made = EnrollmentRows(CALENDAR)
    rows = render(made, *records)
    keys = [tuple(row[:3]) for row in rows]
    assert len(keys) == len(set(keys))
    assert {row[3] for row in rows} <= {"active", "inactive", "completed"}
    alone = [row for record in records for row in render(EnrollmentRows(CALENDAR), record)]
    for row in rows:
        own = [one[3] for one in alone if one[:3] == row[:3]]
        assert ("active" in own) == (row[3] == "active")
    assert all(bool(row[4]) == bool(row[5]) for row in rows)


# ── the rules ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, "active"),
        ({"role": "aide"}, "active"),
        ({"active": False}, "inactive"),
        ({"active": False, "end_date": TODAY}, "completed"),
        ({"end_date": TODAY}, "completed"),
        ({"end_date": date(2026, 11, 23)}, "active"),
        ({"begin_date": date(2026, 11, 23)}, "inactive"),
        ({"begin_date": date(2026, 11, 23), "end_date": date(2027, 1, 1)}, "active"),
        ({"term_sourced_ids": ["old"]}, "completed"),
        ({"class_active": False}, "inactive"),
    ],
)
def test_enrollment_statuses(fields: dict[str, Any], status: str) -> None:
    """What was removed is inactive, what is over completed, what has not begun waits."""
    [row] = render(EnrollmentRows(CALENDAR), an_enrollment(**fields))
    assert row[3] == status


def test_days_begin_in_the_district() -> None:
    """A day's begin is a moment of the district's own time zone, summer time included."""
    assert [CALENDAR.stamp(day) for day in (date(2026, 8, 1), date(2027, 1, 1), None)] == [
        "2026-07-31T22:00:00Z",
        "2026-12-31T23:00:00Z",
        "",
    ]


def test_terms_of_classes() -> None:
    """Several terms of one year are that year, with the class's own days; unrelated ones are the first."""
    both = CALENDAR.find_term(["q2", "q1"])
    assert (both.term_id, both.begin, both.end, both.own_dates) == ("year", date(2026, 8, 1), date(2027, 2, 1), True)
    assert CALENDAR.find_term(["q2", "old"]).term_id == "old"
    assert CALENDAR.find_term(["nowhere"]).term_id == ""


def test_courses_of_classes() -> None:
    """A class of its own takes its title and dates; shared ones take the course's, kept apart by school and term."""
    made = CourseRows(CALENDAR, {"s1": "s1"}, shared=False)
    [one, two] = render(made, a_class(class_code="5A-1"), a_class("k2", term_sourced_ids=["q1", "q2"], active=False))
    assert one == ["k1", "5A-1", "5A", "s1", "year", "active", DELETE, DELETE]
    assert (two[5], two[6]) == ("completed", "2026-07-31T22:00:00Z")

    shared = CourseRows(CALENDAR, {}, shared=True)
    rows = render(
        shared, a_class("k1", active=False), a_class("k2"), a_class("k3", term_sourced_ids=["q2"]),
        a_class("k4", school_sourced_id="s2"),
    )  # fmt: skip
    assert [(row[1], row[2], row[5]) for row in rows] == [("MA", "Maths", "active")] * 3
    assert len({row[0] for row in rows}) == 3


def test_people() -> None:
    """Who may not sign in or left is suspended; guardians observe; the name shown is the preferred one."""
    known = {"email": None, "login": "x", "preferred_first_name": None, "preferred_last_name": None,
             "given_name": "Mila", "family_name": "Ek", "enabled_user": True, "active": True}  # fmt: skip
    people = [
        known | {"sourced_id": "1", "roles": [{"role": "student", "orgSourcedId": "s"}], "preferred_first_name": "Mi"},
        known | {"sourced_id": "2", "roles": [{"role": "parent", "orgSourcedId": "s"}], "enabled_user": False},
        known | {"sourced_id": "3", "roles": [{"role": "counselor", "orgSourcedId": "s"}], "active": False},
    ]
    assert [(row[4], row[6], row[7]) for row in list_users(people)] == [
        ("Mi Ek", "student", "active"),
        ("Mila Ek", "observer", "suspended"),
        ("Mila Ek", "staff", "suspended"),
    ]


@pytest.mark.parametrize(
    ("counts", "before", "confirmed", "fine"),
    [
        ({"users": 1}, None, None, True),
        ({"users": 0, "courses": 3}, None, None, False),
        ({"users": 90}, {"users": 100}, None, True),
        ({"users": 89}, {"users": 100}, None, False),
        ({"users": 100, "enrollments": 1}, {"users": 100, "enrollments": 900}, None, False),
        ({"users": 50}, {"users": 100}, {"users": 50}, True),
        ({"users": 40}, {"users": 100}, {"users": 50}, False),
        ({"users": 0}, {"users": 100}, {"users": 0}, True),
    ],
)
def test_guard(
    counts: dict[str, int], before: dict[str, int] | None, confirmed: dict[str, int] | None, fine: bool
) -> None:
    """A set that is empty or much smaller is not sent; what was confirmed is, but not even less."""
    assert (find_objection(counts, before, 10, confirmed) is None) == fine


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        (
            "user Mila Ek has already claimed mila7's requested login information, skipping",
            "user … has already claimed … requested login information, skipping",
        ),
        ("Will Long was skipped for user will.long@north.example", "Will … was skipped for user …"),
        ("No user_id given for a user", "No user_id given for a user"),
    ],
)
def test_messages_hold_nobody(message: str, kept: str) -> None:
    """Of Canvas' messages only words of its own stay."""
    assert redact(message) == kept


@given(st.lists(st.lists(st.text() | st.integers(), max_size=3) | st.text(), max_size=5))
def test_no_message_is_too_odd(entries: list[Any]) -> None:
    """Whatever Canvas sends as messages is read, or passed over."""
    assert len(read_messages(entries, entries)) <= MOST_MESSAGES
    said = read_messages([], [["users.csv", "Improper status on row 12"]] * 500)
    assert (len(said), said[0].file, said[0].row) == (MOST_MESSAGES, "users.csv", 12)
