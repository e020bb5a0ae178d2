"""What an admin's options do to a sync, as rules with their boundary days (B2, B5, C3, C4)."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.codes import Code
from homeroom.messages import Options
from homeroom.roster import Class, Demographics, Enrollment, Record, Role, User
from provider_gateway.scope import Scope, is_current, stages, wanted_collections

TODAY = date(2026, 11, 22)
NORTH, SOUTH, DISTRICT = "north", "south", "district"


def ref(sourced_id: str) -> dict[str, str]:
    return {"sourcedId": sourced_id, "type": "org"}


def row(sourced_id: str, **fields: Any) -> dict[str, Any]:
    return {"sourcedId": sourced_id, "status": "active", "dateLastModified": "2026-01-01T00:00:00Z"} | fields


def enroll(user: str, section: str, school: str | None = NORTH, **fields: Any) -> dict[str, Any]:
    head = row(f"{user}@{section}", user=ref(user), role="student", **{"class": ref(section)})
    return head | ({"school": ref(school)} if school else {}) | fields


@pytest.fixture
def town(gateway: Any, provider: Any, user: Any) -> Any:
    """Two schools of a district, a class in each and one of last year, and people in one or both of them."""
    provider.collections["orgs"] = [
        row(DISTRICT, name="District", type="district"),
        row(NORTH, name="North", type="school", parent=ref(DISTRICT)),
        row(SOUTH, name="South", type="school", parent=ref(DISTRICT)),
    ]
    provider.collections["academicSessions"] = [
        row("past", title="Past", type="term", startDate="2026-08-01", endDate="2026-11-22", schoolYear="2027"),
        row("now", title="Now", type="term", startDate="2026-11-22", endDate="2027-06-30", schoolYear="2027"),
        row("next", title="Next", type="semester", startDate="2026-11-23", endDate="2027-06-30", schoolYear="2027"),
    ]
    provider.collections["classes"] = [
        row("maths", title="Maths", school=ref(NORTH), terms=[ref("now")]),
        row("art", title="Art", school=ref(SOUTH), terms=[ref("past"), ref("now")]),
        row("old", title="Old", school=ref(NORTH), terms=[ref("past")]),
        row("new", title="New", school=ref(NORTH), terms=[ref("next")]),
        row("free", title="Free", school=ref(NORTH), terms=[]),
        row("lost", title="Lost", school=ref(NORTH), terms=[ref("never heard of")]),
    ]
    provider.collections["users"] = [
        user("-north", orgs=[ref(NORTH), ref(DISTRICT)]),
        user("-south", orgs=[ref(SOUTH), ref(DISTRICT)]),
        user("-both", orgs=[ref(NORTH), ref(SOUTH)]),
        user("-teacher", role="teacher", orgs=[ref(NORTH)]),
        user("-office", role="administrator", orgs=[ref(DISTRICT)]),
        user("-parent", role="parent", orgs=[ref(NORTH)], agents=[ref("u-north")]),
    ]
    provider.collections["users"][0]["agents"] = [ref("u-parent")]
    provider.collections["enrollments"] = [
        enroll("u-north", "maths"),
        enroll("u-both", "art", SOUTH),
        enroll("u-south", "art", SOUTH),
    ]
    provider.collections["demographics"] = [row("u-north"), row("u-south")]
    return gateway


async def sync(town: Any, **options: Any) -> dict[str, set[str]]:
    outcome = await town.run(town.job(options=options, today=TODAY))
    assert outcome.failure is None, outcome.failure
    town.store.apply(outcome.changes)
    for report in outcome.reports.values():
        parts = (report.added, report.changed, report.unchanged, report.filtered, report.quarantined)
        assert report.served == sum(parts)
    return {collection: town.store.ids(collection) for collection in town.store.records}


async def test_defaults(town: Any) -> None:
    """By default all people but parents are synced, with all their classes, and no demographics."""
    held = await sync(town)
    assert held["users"] == {"u-north", "u-south", "u-both", "u-teacher", "u-office"}
    assert held["classes"] == {"maths", "art", "old", "new", "free", "lost"}
    assert held["demographics"] == set()


async def test_classes_off(town: Any, provider: Any) -> None:
    """Sync Classroom Data off: people and sessions come; courses, classes and enrollments are not even asked for."""
    held = await sync(town, sync_classes=False)
    assert held["users"]
    assert held["academicSessions"]
    assert not held["classes"] | held["enrollments"]
    assert not any(path.endswith(("/courses", "/classes", "/enrollments")) for path, _ in provider.queries)


async def test_parents(town: Any) -> None:
    """Sync Parent Data on: parents come, tied to their students in both directions; off: neither they nor the ties."""
    held = await sync(town, sync_parents=True)
    assert "u-parent" in held["users"]
    records = town.store.records["users"]
    assert b'"agentSourcedIds":["u-parent"]' in records["u-north"][1]
    assert b'"agentSourcedIds":["u-north"]' in records["u-parent"][1]
    held = await sync(town)
    assert "u-parent" not in held["users"]
    assert b"agentSourcedIds" not in records["u-north"][1]


async def test_demographics(town: Any, provider: Any) -> None:
    """Demographics are asked for only where they are switched on, and leave when they are switched off."""
    await sync(town)
    assert not any(path.endswith("/demographics") for path, _ in provider.queries)
    assert (await sync(town, sync_demographics=True))["demographics"] == {"u-north", "u-south"}
    assert (await sync(town))["demographics"] == set()


# ── Respect Enrolment Date ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("begin", "end", "enrolled"),
    [
        (None, None, True),
        ("2026-11-22", None, True),
        ("2026-11-23", None, False),
        (None, "2026-11-22", False),
        (None, "2026-11-23", True),
        ("2026-11-21", "2026-11-22", False),
        ("2026-11-22", "2026-11-23", True),
    ],
)
async def test_enrollment_dates(town: Any, provider: Any, begin: str | None, end: str | None, enrolled: bool) -> None:
    """A student is enrolled today from the first day of an enrollment to the day before its end; open ends count."""
    provider.collections["enrollments"][0] |= {"beginDate": begin, "endDate": end}
    held = await sync(town, respect_enrollment_dates=True)
    assert ("u-north" in held["users"]) is enrolled
    assert ("u-north@maths" in held["enrollments"]) is enrolled


async def test_one_current_enrollment_is_enough(town: Any, provider: Any) -> None:
    """Who left one class and is in another today stays, with the current enrollment only."""
    provider.collections["enrollments"] += [enroll("u-north", "free", endDate="2026-10-01")]
    held = await sync(town, respect_enrollment_dates=True)
    assert "u-north" in held["users"]
    assert {one for one in held["enrollments"] if one.startswith("u-north")} == {"u-north@maths"}


async def test_people_who_do_not_learn(town: Any, provider: Any) -> None:
    """Enrollment dates are about students: teachers and staff without any class stay."""
    provider.collections["enrollments"] = []
    held = await sync(town, respect_enrollment_dates=True)
    assert held["users"] == {"u-teacher", "u-office"}


async def test_dates_of_roles(town: Any, provider: Any) -> None:
    """A role counts from its first day to the day before its end; without a current one a person is left out."""
    roles = [
        {"role": "teacher", "roleType": "primary", "org": ref(NORTH), "endDate": "2026-11-22"},
        {"role": "aide", "roleType": "secondary", "org": ref(SOUTH), "beginDate": "2026-11-22"},
    ]
    provider.collections["users"][3] |= {"roles": roles}
    provider.collections["users"][4] |= {"roles": [roles[0]]}
    held = await sync(town, respect_enrollment_dates=True)
    assert "u-office" not in held["users"]
    assert b'"roles":[{"role":"aide","orgSourcedId":"south","roleType":"primary"' in town.store.records["users"][
        "u-teacher"
    ][1].replace(b'"beginDate":"2026-11-22",', b"")


async def test_dates_without_class_data(town: Any, provider: Any) -> None:
    """With class data off, enrollments still decide who is enrolled today, and none of them is kept."""
    provider.collections["enrollments"][0] |= {"endDate": "2026-11-01"}
    held = await sync(town, respect_enrollment_dates=True, sync_classes=False)
    assert held["users"] == {"u-south", "u-both", "u-teacher", "u-office"}
    assert not held["classes"] | held["enrollments"]


async def test_a_day_goes_by(town: Any, provider: Any) -> None:
    """Whose enrollment ends leaves on that very day, with their demographics, though the provider changed nothing."""
    provider.collections["enrollments"][0] |= {"endDate": "2026-11-23"}
    options = {"respect_enrollment_dates": True, "sync_demographics": True}
    assert "u-north" in (await sync(town, **options))["users"]
    outcome = await town.run(town.job(options=options, today=date(2026, 11, 23)))
    town.store.apply(outcome.changes)
    assert "u-north" not in town.store.ids("users")
    assert town.store.ids("demographics") == {"u-south"}
    assert {chunk.removal_reason for chunk in outcome.chunks if chunk.removed_keys} == {"configuration"}


# ── Respect Academic Sessions ─────────────────────────────────────────────────────────────────────────────────────


async def test_sessions(town: Any) -> None:
    """Only classes of a session that holds today are synced: its first day counts, its end date does not any more."""
    held = await sync(town, respect_academic_sessions=True)
    assert held["classes"] == {"maths", "art", "free", "lost"}
    assert held["academicSessions"] == {"past", "now", "next"}


async def test_enrollments_follow_their_class(town: Any, provider: Any) -> None:
    """Enrollments of classes that are left out are left out, too; their people stay."""
    provider.collections["enrollments"] += [enroll("u-teacher", "old", role="teacher"), enroll("u-north", "new")]
    held = await sync(town, respect_academic_sessions=True)
    assert held["enrollments"] == {"u-north@maths", "u-both@art", "u-south@art"}
    assert {"u-teacher", "u-north"} <= held["users"]


async def test_sessions_and_dates(town: Any, provider: Any) -> None:
    """With both rules on, an enrollment in a class of a past term does not make anybody enrolled today."""
    provider.collections["enrollments"] = [enroll("u-north", "old"), enroll("u-south", "art", SOUTH)]
    held = await sync(town, respect_academic_sessions=True, respect_enrollment_dates=True)
    assert "u-north" not in held["users"]
    assert "u-south" in held["users"]


# ── Exclude Schools ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_excluded_school(town: Any, provider: Any) -> None:
    """People and classes that belong only to an excluded school are left out, also if the district lists them."""
    provider.collections["enrollments"] += [enroll("u-teacher", "art", school=None, role="teacher")]
    held = await sync(town, excluded_schools=(SOUTH,), sync_demographics=True)
    assert held["users"] == {"u-north", "u-both", "u-teacher", "u-office"}
    assert held["classes"] == {"maths", "old", "new", "free", "lost"}
    assert held["enrollments"] == {"u-north@maths"}
    assert held["demographics"] == {"u-north"}
    assert held["orgs"] == {DISTRICT, NORTH, SOUTH}


async def test_a_person_in_two_schools(town: Any) -> None:
    """A person in an excluded and an included school stays, without the role at the excluded one."""
    await sync(town, excluded_schools=(NORTH,))
    record = town.store.records["users"]["u-both"][1]
    assert b'"roles":[{"role":"student","orgSourcedId":"south","roleType":"primary"}]' in record


async def test_excluding_and_including_again(town: Any) -> None:
    """Excluding a school removes its people by configuration; including it brings the same people back."""
    before = await sync(town)
    assert "u-south" not in (await sync(town, excluded_schools=(SOUTH,)))["users"]
    assert await sync(town) == before


# ── rules that need the whole picture ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "option", [{"respect_enrollment_dates": True}, {"respect_academic_sessions": True}, {"excluded_schools": ("x",)}]
)
async def test_increments_are_not_enough(town: Any, option: dict[str, Any]) -> None:
    """With a rule that looks at other records or at the date, everything is compared, and the run says why."""
    await town.sync(options=option)
    bookmark = town.bookmark
    assert not bookmark.increments
    job = town.job(options=option, mode="delta", bookmark=msgspec.structs.replace(bookmark, increments=True))
    outcome = await town.run(job)
    assert (outcome.completed.mode, outcome.completed.mode_code) == ("full", Code.DELTA_NOT_ENOUGH)


@given(st.builds(Options))
def test_stages_cover_what_is_wanted(options: Options) -> None:
    """Whatever the options, every wanted collection is read exactly once."""
    read = [collection for stage in stages(options) for collection in stage]
    assert set(wanted_collections(options)) <= set(read)
    assert len(read) == len(set(read))


dates = st.one_of(st.none(), st.dates(date(2026, 11, 19), date(2026, 11, 25)))


@given(dates, dates, st.dates(date(2026, 11, 18), date(2026, 11, 26)))
def test_spans(begin: date | None, end: date | None, today: date) -> None:
    """Of any span of dates exactly the days from its begin to the day before its end are current."""
    days = {day for n in range(17, 30) if (day := date(2026, 11, n)) and (not begin or day >= begin)}
    assert is_current(begin, end, today) == (today in {day for day in days if not end or day < end})


def test_ties_fit_records() -> None:
    """Ties hold 32 bytes for each enrollment and one for each user, and nothing where no rule needs them."""
    tied = Scope(Options(respect_enrollment_dates=True), TODAY)
    student = (Role(role="student", org_sourced_id="s"),)
    users: list[Record] = [
        User(sourced_id="a", given_name="A", family_name="B", roles=student),
        User(sourced_id="b", given_name="A", family_name="B", roles=(*student, Role(role="aide", org_sourced_id="s"))),
    ]
    enrollments: list[Record] = [
        Enrollment(sourced_id="e", user_sourced_id="a", class_sourced_id="c", role="student") for _ in range(3)
    ]
    assert tied.tie("users", users) == b"\x01\x00"
    assert len(tied.tie("enrollments", enrollments)) == 3 * 32
    assert tied.tie("classes", [Class(sourced_id="c", title="C", school_sourced_id="s")]) == b""
    assert tied.tie("demographics", [Demographics(sourced_id="a")]) == b""
    assert Scope(Options(), TODAY).tie("users", users) == b""
