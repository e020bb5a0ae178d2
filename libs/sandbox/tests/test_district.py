"""The district itself: the same every time, whole, and of the shape real districts have."""

import re
import unicodedata
from collections import Counter, defaultdict
from datetime import date

import pytest

from sandbox_district import COLLECTIONS, District, Record
from sandbox_district.curriculum import DISTRICT_ID
from sandbox_district.records import is_active

REFERENCES = {
    "academicSession": "academicSessions",
    "class": "classes",
    "course": "courses",
    "org": "orgs",
    "user": "users",
}


@pytest.fixture(scope="module", name="district")
def found_district() -> District:
    return District()


def dangling_references(district: District) -> list[tuple[str, str, str]]:
    """Every reference from an active record to one that is not there."""
    truth = district.truth()
    return [
        (collection, key, reference["sourcedId"])
        for collection in COLLECTIONS
        for key, record in district.active(collection).items()
        for value in record.values()
        for reference in (value if isinstance(value, list) else [value])
        if isinstance(reference, dict) and reference.get("type") in REFERENCES
        if reference["sourcedId"] not in truth[REFERENCES[reference["type"]]]
    ]


def teachers_by_class(district: District) -> dict[str, list[Record]]:
    teaching = defaultdict(list)
    for enrollment in district.active("enrollments").values():
        if enrollment["role"] == "teacher":
            teaching[enrollment["class"]["sourcedId"]].append(enrollment)
    return teaching


def test_same_seed_makes_the_same_district() -> None:
    """The same seed makes the same records and the same days, and another seed makes others."""
    one, same, other = District(7, 200), District(7, 200), District(8, 200)
    assert one.collections == same.collections
    assert one.advance_day() == same.advance_day()
    assert one.collections == same.collections
    assert one.collections["users"] != other.collections["users"]


@pytest.mark.parametrize("students", [0, 1, 40])
def test_small_districts_live_too(students: int) -> None:
    """A district of any size can be founded and gets through its days."""
    district = District(students=students)
    for _ in range(15):
        district.advance_day()
    assert not dangling_references(district)


def test_references_hold_from_day_to_day(district: District) -> None:
    """No active record ever refers to one that is not there."""
    assert not dangling_references(district)
    living = District(3, 300)
    for _ in range(12):
        living.advance_day()
        assert not dangling_references(living)


def test_size(district: District) -> None:
    """By default there are 1,200 students in five schools of one district, with some forty courses."""
    roles = Counter(user["role"] for user in district.active("users").values())
    kinds = Counter(org["type"] for org in district.active("orgs").values())
    assert roles["student"] == len(district.active("demographics")) == 1200
    assert {"teacher", "administrator", "aide", "parent", "guardian"} < set(roles)
    assert kinds == {"district": 1, "school": 5}
    assert 40 <= len(district.active("courses")) <= 50
    assert {s["type"] for s in district.active("academicSessions").values()} == {
        "schoolYear",
        "semester",
        "term",
        "gradingPeriod",
    }


def test_every_class_has_one_primary_teacher(district: District) -> None:
    """Each class has exactly one primary teacher, and some have one or two co-teachers."""
    teaching = teachers_by_class(district)
    assert set(teaching) == set(district.active("classes"))
    assert all(sum(teacher["primary"] for teacher in teachers) == 1 for teachers in teaching.values())
    assert set(Counter(map(len, teaching.values()))) == {1, 2, 3}


def test_some_students_are_in_two_schools(district: District) -> None:
    """Some students belong to two schools and have classes in both."""
    schools = defaultdict(set)
    for enrollment in district.active("enrollments").values():
        schools[enrollment["user"]["sourcedId"]].add(enrollment["school"]["sourcedId"])
    shared = [
        user for user in district.active("users").values() if user["role"] == "student" and len(user["orgs"]) == 2
    ]
    assert len(shared) == 12
    for user in shared:
        assert schools[user["sourcedId"]] == {org["sourcedId"] for org in user["orgs"]}


def test_agents_are_linked_both_ways(district: District) -> None:
    """Who is somebody's agent has them as agent too, and students' agents are parents or guardians."""
    users = district.active("users")
    links = {(key, agent["sourcedId"]) for key, user in users.items() for agent in user["agents"]}
    assert links == {(other, one) for one, other in links}
    kinds = {users[other]["role"] for one, other in links if users[one]["role"] == "student"}
    assert kinds == {"parent", "guardian"}


def test_names_come_in_many_scripts(district: District) -> None:
    """Names come in many scripts, composed and decomposed, with apostrophes and hyphens, short and very long."""
    names = [f"{user['givenName']} {user['familyName']}" for user in district.active("users").values()]
    letters = "".join(names)
    for script in ("CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "CJK", "HANGUL"):
        assert any(unicodedata.name(letter, "").startswith(script) for letter in letters), script
    assert {"'", "\N{RIGHT SINGLE QUOTATION MARK}", "-", "\N{COMBINING ACUTE ACCENT}"} < set(letters)
    assert max(map(len, names)) > 100


def test_addresses_reach_nobody(district: District) -> None:
    """All e-mail addresses are under .example, and telephone numbers of the range that is kept for fiction."""
    for user in district.active("users").values():
        assert not user.get("email") or user["email"].lower().endswith(".example")
        assert all("-555-01" in user[field] for field in ("phone", "sms") if user.get(field))


def test_ids_are_unique_only_in_their_collection(district: District) -> None:
    """Some sourcedIds stand for a school and for a course, and one needs care in a URL."""
    assert set(district.active("orgs")) & set(district.active("courses"))
    assert any(not re.fullmatch(r"[\w.-]+", key, re.ASCII) for key in district.active("users"))


def test_there_is_always_a_current_term() -> None:
    """On every date of the year there is a school year, a semester and a term that is under way."""
    for month in range(1, 13):
        district = District(students=0, first_day=date(2027, month, 15))
        running = [
            session["type"]
            for session in district.active("academicSessions").values()
            if session["startDate"] <= district.today.isoformat() < session["endDate"]
        ]
        assert sorted(running) == ["gradingPeriod", "schoolYear", "semester", "term"]


def test_some_enrollments_are_not_for_today(district: District) -> None:
    """Some active enrollments of students are over, some have not begun, and most are for today or a term."""
    today = district.today.isoformat()
    enrollments = [e for e in district.active("enrollments").values() if e["role"] == "student"]
    assert any(enrollment["endDate"] <= today for enrollment in enrollments)
    assert sum(enrollment["beginDate"] > today for enrollment in enrollments) > 10


def test_demographics_use_every_known_key(district: District) -> None:
    """Meal, support and language marks come under each key providers are known to use (B5)."""
    keys = {key for record in district.active("demographics").values() for key in record["metadata"]}
    assert {"frl", "frl_status", "frl-status", "iep", "iep-status", "sped", "CL.sped"} < keys
    assert {"ell", "ell_status", "ell-status", "emergentBilingual", "CL.lep"} < keys


def test_records_are_active_and_dated(district: District) -> None:
    """At the beginning every record is active and was last modified before now."""
    now = district.read_clock().isoformat()
    for collection in COLLECTIONS:
        for record in district.collections[collection].values():
            assert is_active(record)
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["dateLastModified"])
            assert record["dateLastModified"] < now


def test_district_has_its_id() -> None:
    """The district's organization is the parent of every school."""
    orgs = District(students=0).active("orgs")
    assert {org["parent"]["sourcedId"] for org in orgs.values() if org["type"] == "school"} == {DISTRICT_ID}
