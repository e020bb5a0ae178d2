"""What Clever's objects become: every table of words, and everything that may be missing, odd or wrong."""

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest

from homeroom.codes import Code
from homeroom.messages import Options
from homeroom.roster import Demographics, User
from provider_gateway.failures import RecordProblem, StartOver
from provider_gateway.providers import _clever_words as words
from provider_gateway.providers._clever_events import Event, is_partial, list_former, moves_links
from provider_gateway.providers._clever_pages import glimpse_users, read_list, read_sections, read_users
from provider_gateway.providers._clever_records import (
    READERS,
    Links,
    View,
    pick_demographics,
    read_class,
    read_demographics,
    read_roster,
    read_user,
)
from provider_gateway.providers.clever import find_halt, tell_district
from provider_gateway.scope import Scope

VIEW = View("d1", parents=False, demographics=False)
PARENTS = View("d1", parents=True, demographics=False)
SCOPE = Scope(Options(sync_parents=True, sync_demographics=True), date(2026, 1, 15))
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


def make_user(view: View = VIEW, notes: list[RecordProblem] | None = None, **fields: Any) -> User:
    found = {"id": "u1", "name": {"first": "Ada", "last": "Quill"}, **fields}
    return read_user(found, view, [] if notes is None else notes)


def make_marks(notes: list[RecordProblem] | None = None, **marks: Any) -> Demographics | None:
    return read_demographics({"id": "u1", **marks}, [] if notes is None else notes)


def make_body(*objects: Any) -> bytes:
    return json.dumps({"data": [{"data": one, "uri": "/x"} for one in objects], "links": []}).encode()


def tell(problems: list[RecordProblem]) -> list[tuple[Code, str | None, str | None]]:
    return [(one.code, one.field, one.sourced_id) for one in problems]


@pytest.mark.parametrize(
    ("grade", "code"),
    [
        ("Kindergarten", "KG"), ("PreKindergarten", "PK"), ("TransitionalKindergarten", "TK"), ("InfantToddler", "IT"),
        ("Preschool", "PR"), ("1", "01"), ("9", "09"), ("13", "13"), ("07", "07"), ("PostGraduate", "PS"),
        ("Ungraded", "UG"), ("Other", "Other"),
    ],
)  # fmt: skip
def test_grades_become_ceds_codes(grade: str, code: str) -> None:
    """Each of Clever's grades is its CEDS code, of students and of sections."""
    assert make_user(roles={"student": {"school": "s1", "grade": grade}}).grades == (code,)
    assert read_class({"id": "c1", "name": "Art", "school": "s1", "grade": grade}, VIEW, []).grades == (code,)


def test_an_unknown_grade_is_noted_and_kept() -> None:
    """A grade nobody knows is no grade: it is told as BAD_ENUM and stays in the metadata."""
    notes: list[RecordProblem] = []
    user = make_user(notes=notes, roles={"student": {"school": "s1", "grade": "Wizard"}})
    assert user.grades == ()
    assert user.metadata == {"student": {"grade": "Wizard"}}
    assert tell(notes) == [(Code.BAD_ENUM, "grade", "u1")]


@pytest.mark.parametrize(
    ("relationship", "kind", "role"),
    [
        ("Parent", "Parent/Guardian", "parent"), ("Parent", "Emergency", "parent"), ("Grandparent", "", "relative"),
        ("Grandparent", "Parent/Guardian", "guardian"), ("Aunt/Uncle", "Family", "relative"),
        ("Sibling", "Secondary", "relative"), ("Other", "Parent/Guardian", "guardian"), ("Other", "Other", "relative"),
        ("Self", "Primary", "guardian"), ("", "Parent/Guardian", "guardian"), ("", "", "relative"),
    ],
)  # fmt: skip
def test_contacts_are_parents_guardians_or_relatives(relationship: str, kind: str, role: str) -> None:
    """A contact is what the relationship says, and a guardian where only the type says so."""
    relation = {"student": "u9", "relationship": relationship, "type": kind}
    view = View("d1", parents=True, demographics=False, links=Links(schools={"u9": ("s2",)}))
    user = make_user(view, roles={"contact": {"student_relationships": [relation]}})
    assert [(one.role, one.org_sourced_id, one.role_type) for one in user.roles] == [(role, "s2", "primary")]
    assert user.agent_sourced_ids == ("u9",)


def test_contacts_are_at_the_schools_of_their_students() -> None:
    """A contact of students in two schools is at both, of a student nobody knows at the district."""
    relations = [{"student": student, "relationship": "Parent"} for student in ("u2", "u3", "u4")]
    links = Links(schools={"u2": ("s1",), "u3": ("s2", "s1")})
    user = make_user(
        View("d1", parents=True, demographics=False, links=links),
        roles={"contact": {"student_relationships": relations, "phone": "555", "phone_type": "Cell"}},
    )
    assert {one.org_sourced_id for one in user.roles} == {"s1", "s2", "d1"}
    assert sum(one.role_type == "primary" for one in user.roles) == 1
    assert user.phone == "555"
    assert user.agent_sourced_ids == ("u2", "u3", "u4")


def test_a_person_with_several_roles_is_one_user() -> None:
    """Teacher and staff and district administrator at once is one person, the teacher first, each role once (P17)."""
    user = make_user(
        roles={
            "district_admin": {"title": "Head"},
            "staff": {"schools": ["s2", "s1"], "staff_id": "P7", "credentials": {"district_username": "other"}},
            "teacher": {
                "school": "s2", "schools": ["s1", "s2"], "sis_id": "T1", "teacher_number": "9", "state_id": "X",
                "credentials": {"district_username": "ada"}, "legacy_id": "old",
            },
        }
    )  # fmt: skip
    assert [(one.role, one.org_sourced_id, one.role_type) for one in user.roles] == [
        ("teacher", "s2", "primary"),
        ("districtAdministrator", "d1", "secondary"),
        ("administrator", "s1", "secondary"),
        ("teacher", "s1", "secondary"),
        ("administrator", "s2", "secondary"),
    ]
    assert (user.identifier, user.username) == ("T1", "ada")
    assert [(one.type, one.identifier) for one in user.user_ids] == [
        ("clever", "u1"), ("legacy_id", "old"), ("staff_id", "P7"), ("state_id", "X"), ("teacher_number", "9"),
    ]  # fmt: skip
    assert user.metadata == {"district_admin": {"title": "Head"}}


def test_without_parents_nobody_is_a_contact() -> None:
    """Where parents are not wanted, the role and the links of a contact are not there."""
    relation = {"student": "u2", "relationship": "Parent"}
    user = make_user(roles={"staff": {"schools": ["s1"]}, "contact": {"student_relationships": [relation]}})
    assert [one.role for one in user.roles] == ["administrator"]
    assert user.agent_sourced_ids == ()
    assert user.metadata is None
    with pytest.raises(RecordProblem, match="FIELD_MISSING"):
        make_user(roles={"contact": {}})


def test_demographics_never_stay_with_the_user() -> None:
    """What is demographics is not in the user's metadata, wherever it comes from; anything else is (B5, B6)."""
    student = dict.fromkeys(words.DEMOGRAPHIC_FIELDS, "x") | {"school": "s1", "ext": {"bus": 4}, "title": ""}
    user = make_user(roles={"student": student}, lms_status={"synced_in_lms": True}, last_modified="2026-01-01")
    assert user.metadata == {"student": {"ext": {"bus": 4}}, "lms_status": {"synced_in_lms": True}}


def test_names_and_addresses_are_taken_as_they_are() -> None:
    """A contact's whole name may be the last one, an e-mail may be no address or blank, all of it may be missing."""
    user = make_user(PARENTS, name={"last": "Ada Quill"}, email="none@", roles={"contact": {}})
    assert (user.given_name, user.family_name, user.email) == ("", "Ada Quill", "none@")
    assert [(one.role, one.org_sourced_id) for one in user.roles] == [("guardian", "d1")]
    assert make_user(email="  ", name={}, roles={"teacher": {}}).email is None
    preferred = {"school": "s1", "preferred_name": {"first": "Addie", "middle": "", "last": "Q"}}
    student = make_user(roles={"student": preferred})
    assert (student.preferred_first_name, student.preferred_middle_name, student.preferred_last_name) == (
        "Addie", None, "Q",
    )  # fmt: skip


def test_credentials_are_never_kept() -> None:
    """Of credentials the user name is taken and nothing else."""
    user = make_user(
        roles={"student": {"school": "s1", "credentials": {"district_username": "ada", "district_password": "duck"}}}
    )
    assert user.username == "ada"
    assert "duck" not in str(user)


@pytest.mark.parametrize(
    ("field", "value", "attribute", "expected"),
    [
        ("dob", "2014-03-09", "birth_date", date(2014, 3, 9)),
        ("dob", "03/09/2014", "birth_date", date(2014, 3, 9)),
        ("gender", "M", "sex", "male"),
        ("gender", "F", "sex", "female"),
        ("gender", "X", "sex", "other"),
        ("race", "Caucasian", "white", True),
        ("race", "Asian", "asian", True),
        ("race", "Black or African American", "black_or_african_american", True),
        ("race", "American Indian", "american_indian_or_alaska_native", True),
        ("race", "Hawaiian or Other Pacific Islander", "native_hawaiian_or_other_pacific_islander", True),
        ("race", "Two or More Races", "demographic_race_two_or_more_races", True),
        ("hispanic_ethnicity", "Y", "hispanic_or_latino_ethnicity", True),
        ("hispanic_ethnicity", "N", "hispanic_or_latino_ethnicity", False),
        ("ell_status", "Y", "ell_status", True),
        ("iep_status", "N", "iep_status", False),
        ("frl_status", "Reduced", "frl_status", "Reduced"),
        ("frl_status", "x" * 255, "frl_status", "x" * 255),
    ],
)
def test_marks_become_demographics(field: str, value: str, attribute: str, expected: object) -> None:
    """Each of Clever's marks is OneRoster's, without a word."""
    notes: list[RecordProblem] = []
    found = make_marks(notes, **{field: value})
    assert found is not None
    assert getattr(found, attribute) == expected
    assert notes == []


@pytest.mark.parametrize(
    ("field", "value", "attribute", "code"),
    [
        ("dob", "2014-02-31", "birth_date", Code.BAD_DATE),
        ("dob", "0000-00-00", "birth_date", Code.BAD_DATE),
        ("gender", "Male", "sex", Code.BAD_ENUM),
        ("race", "Martian", "white", Code.BAD_ENUM),
        ("hispanic_ethnicity", "yes", "hispanic_or_latino_ethnicity", Code.BAD_ENUM),
        ("ell_status", "true", "ell_status", Code.BAD_ENUM),
        ("iep_status", "Active", "iep_status", Code.BAD_ENUM),
        ("iep_status", {"a": 1}, "iep_status", Code.BAD_ENUM),
        ("frl_status", "x" * 256, "frl_status", Code.FIELD_TOO_LONG),
    ],
)
def test_other_marks_are_noted_and_left_out(field: str, value: object, attribute: str, code: Code) -> None:
    """Any other value is told with its code and field, without the value, and is not taken (B5)."""
    notes: list[RecordProblem] = []
    found = make_marks(notes, **{"section_504_status": "Y", field: value})
    assert found is not None
    assert getattr(found, attribute) is None
    assert tell(notes) == [(code, field, "u1")]
    assert found.metadata is not None
    assert found.metadata["section_504_status"] == "Y"


def test_marks_that_are_not_shared_make_no_record() -> None:
    """Blank marks are absent ones, and where all are, there are no demographics; an unknown race is kept as such."""
    assert make_marks(dob="", gender="", race="", frl_status=None) is None
    unknown = make_marks(race="Unknown")
    assert unknown is not None
    assert unknown.metadata == {"race": "Unknown"}
    assert pick_demographics({"id": "u1", "roles": {"teacher": {}}}) is None


def test_people_of_a_section_become_enrollments() -> None:
    """The first teacher is primary and no other, also one missing in the list; each person counts once a role (B3)."""
    section = {
        "id": "c1", "school": "s1", "students": ["u3", "u2", "u3", ""], "teacher": "t2", "teachers": ["t1", "u2", "t1"],
    }  # fmt: skip
    found = read_roster(section).enrollments()
    assert [(one.sourced_id, one.role, one.primary, one.school_sourced_id) for one in found] == [
        ("c1_t1_teacher", "teacher", False, "s1"),
        ("c1_t2_teacher", "teacher", True, "s1"),
        ("c1_u2_teacher", "teacher", False, "s1"),
        ("c1_u2_student", "student", None, "s1"),
        ("c1_u3_student", "student", None, "s1"),
    ]
    assert read_roster({"id": "c1"}).enrollments() == []
    assert read_roster({"id": "c1", "students": None, "teacher": ""}).enrollments() == []


def test_sections_become_classes() -> None:
    """A section is a class with its term, course, period and subject; a homeroom by its subject; the rest is kept."""
    section = {
        "id": "c1", "name": "Algebra", "school": "s1", "course": "k1", "term_id": "t1", "section_number": "ALG-2",
        "period": "3", "subject": "homeroom/advisory", "sis_id": "77", "ext": {}, "students": ["u1"], "grade": "",
    }  # fmt: skip
    found = read_class(section, VIEW, [])
    assert found.class_type == "homeroom"
    assert (found.class_code, found.course_sourced_id, found.term_sourced_ids) == ("ALG-2", "k1", ("t1",))
    assert (found.periods, found.subjects, found.grades) == (("3",), ("homeroom/advisory",), ())
    assert found.metadata == {"sis_id": "77"}
    assert read_class(section | {"subject": "math"}, VIEW, []).class_type == "scheduled"


@pytest.mark.parametrize(
    ("kind", "found", "code", "field"),
    [
        ("terms", {"id": "t1", "name": "Fall", "end_date": "2026-01-01"}, Code.FIELD_MISSING, "start_date"),
        ("terms", {"id": "t1", "name": "F", "start_date": "2026-01-01"}, Code.FIELD_MISSING, "end_date"),
        ("terms", {"id": "t1", "name": "F", "start_date": "soon", "end_date": ""}, Code.BAD_DATE, "start_date"),
        ("schools", {"id": "s1", "name": ""}, Code.FIELD_MISSING, "name"),
        ("sections", {"id": "c1", "name": "Art"}, Code.FIELD_MISSING, "school"),
        ("sections", {"id": "c1", "school": "s1"}, Code.FIELD_MISSING, "name"),
        ("courses", {"id": "k1", "name": "", "number": ""}, Code.FIELD_MISSING, "name"),
        ("courses", {"id": "k1", "name": ["x"]}, Code.RECORD_INVALID, "name"),
        ("courses", {"name": "x"}, Code.RECORD_NO_ID, None),
    ],
)  # fmt: skip
def test_what_a_record_can_not_do_without(kind: str, found: Any, code: Code, field: str | None) -> None:
    """A record that lacks what it needs is set aside with code, field and id; nothing is made up for it."""
    page = read_list(kind, make_body(found), VIEW, SCOPE)
    assert tell(list(page.refused)) == [(code, field, found.get("id"))]
    assert page.received == 1


def test_schools_terms_and_courses() -> None:
    """Schools are below their district, by their NCES id or school number; courses may have a number only."""
    school = READERS["schools"]({"id": "s1", "name": "North", "school_number": "12", "phone": "1"}, VIEW, [])
    assert (school.identifier, school.parent_sourced_id, school.metadata) == ("12", "d1", {"phone": "1"})  # type: ignore[attr-defined]  # an Org
    course = READERS["courses"]({"id": "k1", "number": "M1"}, VIEW, [])
    assert (course.title, course.course_code, course.org_sourced_id) == ("M1", "M1", "d1")  # type: ignore[attr-defined]  # a Course
    district = {"id": "d1", "name": "Lake", "nces_id": "06", "last_sync": "2026", "state": "running", "sis_type": "x"}
    assert READERS["districts"](district, VIEW, []).metadata == {"sis_type": "x"}


def test_a_damaged_record_spoils_no_other() -> None:
    """Halves of surrogate pairs, NUL and rows that are no objects are set aside one by one."""
    good = {"id": "u1", "name": {"first": "Ada", "last": "Q"}, "roles": {"student": {"school": "s1"}}}
    bad = [
        good | {"id": "u2", "email": "a\0b"},
        good | {"id": "u3", "email": "\ud800"},
        good | {"id": "u4", "roles": 5},
    ]
    body = make_body(good, *bad, [])
    read = read_users(body, PARENTS, SCOPE, ())
    assert len(read.page.canonical) == 1
    assert sorted((one.sourced_id or "", one.code) for one in read.page.refused) == [
        ("", Code.RECORD_INVALID), ("u2", Code.BAD_TEXT), ("u3", Code.BAD_TEXT), ("u4", Code.FIELD_MISSING),
    ]  # fmt: skip
    assert [one for one, _ in glimpse_users(body)][:2] == ["u1", "u2"]


def test_people_that_can_not_be_read_are_not_taken_for_absent() -> None:
    """A section whose lists are damaged is told, and its people are not said to be complete."""
    found = read_sections(make_body({"id": "c1", "name": "A", "school": "s", "students": [{}]}), VIEW, SCOPE)
    assert not found.complete
    assert [one.code for one in found.page.notes] == [Code.RECORD_INVALID]
    assert len(found.page.canonical) == 1


@pytest.mark.parametrize(
    ("district", "halted"),
    [
        ({"state": "running"}, False), ({"state": "success"}, False), ({"state": ""}, False), ({}, False),
        ({"state": "paused"}, True), ({"state": "error"}, True), ({"state": "pending"}, True),
        ({"state": "running", "pause_start": "2026-01-01T00:00:00Z", "pause_end": "2026-02-01T00:00:00Z"}, True),
        ({"state": "running", "pause_start": "2025-01-01T00:00:00Z", "pause_end": "2025-02-01T00:00:00Z"}, False),
        ({"state": "running", "pause_start": "2026-01-01", "pause_end": "2026-01-16"}, True),
        ({"state": "running", "pause_start": "2026-01-01", "pause_end": ""}, False),
        ({"state": "running", "pause_start": "soon", "pause_end": "later"}, False),
    ],
)  # fmt: skip
def test_a_district_that_is_halted_is_told_from_one_that_is_not(district: Any, *, halted: bool) -> None:
    """Paused, in error, pending, or within a pause: nothing may be concluded from such a district's data."""
    assert (find_halt(district, NOON) is not None) == halted


def test_a_verification_tells_of_the_districts_sync() -> None:
    """State, last sync and SIS are told in one line."""
    (finding,) = tell_district({"state": "running", "last_sync": "2026-01-14T05:00:00Z", "sis_type": "powerschool"})
    assert finding.ok
    assert "state running, last sync 2026-01-14T05:00:00Z, SIS powerschool" in finding.detail


def test_who_left_a_section_is_told_by_the_old_values() -> None:
    """Former students and teachers are those of the old values; a deleted section's are its own."""
    found = {"id": "c1", "students": ["u1"], "teacher": "t1"}
    changed = Event("e", "sections", "updated", found, {"students": ["u1", "u2"], "teacher": "t2", "name": "Old"})
    assert list_former(changed) == {"c1_u1_student", "c1_u2_student", "c1_t2_teacher"}
    assert list_former(Event("e", "sections", "deleted", found, None)) == {"c1_u1_student", "c1_t1_teacher"}
    assert list_former(Event("e", "sections", "created", found, None)) == set()


@pytest.mark.parametrize(
    "event",
    [
        Event("e", "sections", "updated", {"id": "c1", "students": []}, None),
        Event("e", "sections", "deleted", {"id": "c1"}, None),
        Event("e", "sections", "deleted", {"id": "c1", "students": [{}]}, None),
    ],
)
def test_an_event_that_does_not_tell_who_left_is_not_guessed_at(event: Event) -> None:
    """Without old values, or without the lists of a deleted section, everything is compared instead."""
    with pytest.raises(StartOver) as raised:
        list_former(event)
    assert (raised.value.code, raised.value.whole) == (Code.DELTA_DRIFT, True)


STUDENT = {"id": "u1", "roles": {"student": {"school": "s1", "grade": "1"}}}


@pytest.mark.parametrize(
    ("event", "moves"),
    [
        (Event("e", "users", "updated", STUDENT, {"email": "x"}), False),
        (Event("e", "users", "updated", STUDENT, {"roles": {"student": {"school": "s1", "grade": "2"}}}), False),
        (Event("e", "users", "updated", STUDENT, {"roles": {"student": {"school": "s2"}}}), True),
        (Event("e", "users", "updated", STUDENT, {"roles": {"teacher": {}}}), True),
        (Event("e", "users", "updated", STUDENT, {"roles.student.school": "s2"}), True),
        (Event("e", "users", "updated", STUDENT, None), True),
        (Event("e", "users", "created", STUDENT, None), True),
        (Event("e", "users", "deleted", STUDENT, None), True),
        (Event("e", "users", "updated", {"id": "u1"}, {}), True),
        (Event("e", "users", "updated", {"id": "u1", "roles": {"contact": {}}}, {"email": "x"}), True),
        (Event("e", "users", "created", {"id": "u1", "roles": {"teacher": {}}}, None), False),
        (Event("e", "users", "updated", {"id": "u1", "roles": {"staff": {}}}, {"roles": {"contact": {}}}), True),
    ],
)
def test_changes_of_links_are_told_from_others(event: Event, *, moves: bool) -> None:
    """Whatever may change the links between students and contacts, or contacts' schools, is known for it."""
    assert moves_links(event) == moves


def test_partial_objects_are_told_from_whole_ones() -> None:
    """An object without what all of its kind have is partial."""
    assert is_partial("users", {"id": "u1"})
    assert not is_partial("users", STUDENT)
    assert is_partial("sections", {"id": "c1", "name": "x"})
    assert not is_partial("courses", {"id": "k1"})
