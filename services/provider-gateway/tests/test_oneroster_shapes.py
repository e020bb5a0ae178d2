"""Decoding OneRoster by shape: what is tolerated, what is quarantined, and why."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.codes import Code
from homeroom.roster import AcademicSession, Class, Demographics, Enrollment, Org, Role, User, encode_record
from provider_gateway.canonical import prepare
from provider_gateway.failures import ProviderError
from provider_gateway.providers._oneroster_records import read_page
from provider_gateway.providers._oneroster_shapes import PageDecoder
from provider_gateway.providers.contract import RawPage

USER: dict[str, Any] = {
    "sourcedId": "u1", "status": "active", "givenName": "Ada", "familyName": "Byron", "role": "student",
    "orgs": [{"href": "x", "sourcedId": "s1", "type": "org"}],
}  # fmt: skip
ENROLLMENT: dict[str, Any] = {
    "sourcedId": "e1", "role": "teacher", "user": {"sourcedId": "u1"}, "class": {"sourcedId": "c1"},
    "school": {"sourcedId": "s1"},
}  # fmt: skip
SESSION = {"sourcedId": "t1", "title": "Fall", "type": "term", "startDate": "2026-08-01", "endDate": "2027-01-01"}
CLASS = {"sourcedId": "c1", "title": "Maths", "school": {"sourcedId": "s1"}}
ORG = {"sourcedId": "s1", "name": "North", "type": "school"}
SAMPLES = {"users": USER, "enrollments": ENROLLMENT, "academicSessions": SESSION, "classes": CLASS, "orgs": ORG}


def read(collection: str, *rows: Any, body: bytes | None = None) -> RawPage:
    decoder = PageDecoder(collection)
    body = json.dumps({collection: rows}).encode() if body is None else body
    decoded = decoder.decode(body)
    page = read_page(collection, decoded, decoder.learned)
    page.suspicious = decoded.odd or b"\\u0000" in body
    return page


def read_one(collection: str, **fields: Any) -> Any:
    page = read(collection, SAMPLES[collection] | fields)
    assert not page.refused, (page.refused[0].code, page.refused[0].field)
    return page.records[0]


def refuse(collection: str, **fields: Any) -> tuple[Code, str | None]:
    page = read(collection, SAMPLES[collection] | fields)
    canonical, _ = prepare(page.records, suspicious=page.suspicious)
    (problem,) = [*page.refused, *canonical.refused]
    return problem.code, problem.field


def test_the_usual_user() -> None:
    """A user of 1.1 becomes one record with one primary role, without anything made up."""
    primary = Role(role="student", org_sourced_id="s1", role_type="primary")
    assert read_one("users") == User(sourced_id="u1", given_name="Ada", family_name="Byron", roles=(primary,))


@pytest.mark.parametrize(
    ("spelling", "meaning"),
    [
        (True, True), ("true", True), ("TRUE", True), ("1", True), (1, True), (False, False), ("False", False),
        (None, None), ("", None),
    ],
)  # fmt: skip
def test_flags(spelling: object, meaning: bool | None) -> None:
    """Flags come as booleans, strings and numbers."""
    assert read_one("enrollments", primary=spelling).primary is meaning
    assert read_one("users", enabledUser=spelling).enabled_user is (meaning is not False)


@pytest.mark.parametrize(
    ("found", "grades"),
    [
        (["11", "05"], ("05", "11")), ("KG,01", ("01", "KG")), (["KG,01"], ("01", "KG")), ("", ()), (None, ()),
        ([], ()),
        (9, ("9",)), ([9, None, " 10 "], ("10", "9")), (["05", "05"], ("05",)),
    ],
)  # fmt: skip
def test_grades(found: object, grades: tuple[str, ...]) -> None:
    """Grades come as lists in any order, as one text, a number, or nothing."""
    assert read_one("users", grades=found).grades == grades


@pytest.mark.parametrize("ref", ["s1", {"sourcedId": "s1"}, {"sourcedId": "s1", "href": 5}, ["s1"]])
def test_references(ref: object) -> None:
    """References come as objects or as plain ids."""
    assert read_one("classes", school=ref).school_sourced_id == "s1"
    assert read_one("users", orgs=[ref] if not isinstance(ref, list) else ref).roles[0].org_sourced_id == "s1"


def test_numbers_for_texts() -> None:
    """Ids and years that come as numbers are texts."""
    assert read_one("users", sourcedId=7).sourced_id == "7"
    assert read_one("academicSessions", schoolYear=2027).school_year == "2027"


DATES = ["2026-08-01T00:00:00.000Z", "2026-08-01T05:00:00+00:00", "2026-08-01 00:00:00", "2026-08-01"]


@pytest.mark.parametrize("found", DATES)
def test_dates(found: str) -> None:
    """A date-time where a date belongs is the date it is written with."""
    assert read_one("academicSessions", startDate=found).start_date.isoformat() == "2026-08-01"


def test_periods_and_terms() -> None:
    """Periods may be a text, terms come in any order and count once."""
    refs = [{"sourcedId": one} for one in ("t2", "t1", "t2")]
    section: Class = read_one("classes", periods="3,1", terms=refs, classType="Scheduled")
    assert (section.periods, section.term_sourced_ids, section.class_type) == (("1", "3"), ("t1", "t2"), "scheduled")


def test_roles_of_1_2() -> None:
    """`roles` counts more than `role` and `orgs`; exactly one of them is primary, whatever they say."""
    roles = [
        {"roleType": "secondary", "role": "teacher", "org": {"sourcedId": "s2"}},
        {"roleType": "primary", "role": "Site Administrator", "org": {"sourcedId": "s9"}, "beginDate": "2026-08-01"},
        {"roleType": "primary", "role": "teacher", "org": {"sourcedId": "s1"}},
    ]
    user: User = read_one("users", roles=roles)
    assert [(role.role, role.org_sourced_id, role.role_type) for role in user.roles] == [
        ("siteAdministrator", "s9", "primary"), ("teacher", "s1", "secondary"), ("teacher", "s2", "secondary"),
    ]  # fmt: skip


def test_roles_of_1_1() -> None:
    """A role at several orgs is one role each, the first of them primary, the others in a fixed order."""
    user: User = read_one("users", role="TEACHER", orgs=[{"sourcedId": one} for one in ("s3", "s2", "s1", "s3")])
    assert [(role.org_sourced_id, role.role_type) for role in user.roles] == [
        ("s3", "primary"), ("s1", "secondary"), ("s2", "secondary"),
    ]  # fmt: skip
    assert read_one("users", role="administrator").roles[0].role == "administrator"


def test_passwords_are_dropped() -> None:
    """Neither a password nor a profile's credentials get into a record."""
    user = read_one("users", password="hunter2", userProfiles=[{"credentials": [{"password": "hunter2"}]}])
    assert b"hunter2" not in encode_record(user)


def test_unknown_fields_are_kept() -> None:
    """What OneRoster does not know is kept in metadata, beside what the provider put there."""
    assert read_one("users", favourite="blue", metadata={"year": 1}).metadata == {"favourite": "blue", "year": 1}
    assert read_one("users", metadata=None).metadata is None
    assert read_one("users", metadata=[]).metadata is None


def test_unknown_fields_are_learned() -> None:
    """Unknown fields are the same whether their page was the first to have them or not."""
    decoder = PageDecoder("users")
    body = json.dumps({"users": [USER | {"x": {"y": 1}}, USER | {"sourcedId": "u2"}]}).encode()
    pages = [read_page("users", decoder.decode(body), decoder.learned) for _ in range(2)]
    assert decoder.decode(body).odd is False
    assert pages[0].records == pages[1].records
    assert pages[0].records[0].metadata == {"x": {"y": 1}}
    assert pages[0].records[1].metadata is None


@pytest.mark.parametrize("status", ["tobedeleted", "ToBeDeleted", "inactive"])
def test_tombstones(status: str) -> None:
    """A record that says it is gone is a tombstone, even if nothing else of it is left."""
    page = read("users", {"sourcedId": "u1", "status": status}, USER | {"sourcedId": "u2", "status": None})
    assert (page.tombstones, [record.sourced_id for record in page.records]) == (["u1"], ["u2"])


@pytest.mark.parametrize(
    ("collection", "fields", "problem"),
    [
        ("users", {"sourcedId": None}, (Code.RECORD_NO_ID, None)),
        ("users", {"sourcedId": ""}, (Code.RECORD_NO_ID, None)),
        ("users", {"role": "wizard"}, (Code.BAD_ENUM, "role")),
        ("users", {"role": None}, (Code.FIELD_MISSING, "role")),
        ("users", {"orgs": None}, (Code.FIELD_MISSING, "orgs")),
        ("users", {"givenName": None}, (Code.FIELD_MISSING, "givenName")),
        ("users", {"enabledUser": "perhaps"}, (Code.BAD_ENUM, "enabledUser")),
        ("users", {"email": {"a": 1}}, (Code.RECORD_INVALID, "email")),
        ("users", {"status": "asleep"}, (Code.BAD_ENUM, "status")),
        ("users", {"familyName": "x" * 2001}, (Code.FIELD_TOO_LONG, "familyName")),
        ("users", {"familyName": "a\0b"}, (Code.BAD_TEXT, "familyName")),
        ("users", {"familyName": "a\ud800b"}, (Code.BAD_TEXT, "familyName")),
        ("users", {"metadata": {"deep": ["a\0b"]}}, (Code.BAD_TEXT, "metadata")),
        ("users", {"metadata": {str(n): "x" * 1000 for n in range(600)}}, (Code.FIELD_TOO_LONG, None)),
        ("enrollments", {"user": None}, (Code.FIELD_MISSING, "user")),
        ("enrollments", {"class": {"sourcedId": ""}}, (Code.FIELD_MISSING, "class")),
        ("enrollments", {"beginDate": "2026-02-31"}, (Code.BAD_DATE, "beginDate")),
        ("academicSessions", {"startDate": "0000-00-00"}, (Code.BAD_DATE, "startDate")),
        ("academicSessions", {"endDate": "10000-01-01"}, (Code.BAD_DATE, "endDate")),
        ("academicSessions", {"endDate": None}, (Code.FIELD_MISSING, "endDate")),
        ("academicSessions", {"type": "decade"}, (Code.BAD_ENUM, "type")),
        ("classes", {"school": None}, (Code.FIELD_MISSING, "school")),
        ("classes", {"classType": "nap"}, (Code.BAD_ENUM, "classType")),
        ("orgs", {"type": "castle"}, (Code.BAD_ENUM, "type")),
        ("orgs", {"name": None}, (Code.FIELD_MISSING, "name")),
    ],
    ids=lambda value: str(value)[:40],
)
def test_quarantine(collection: str, fields: dict[str, Any], problem: tuple[Code, str | None]) -> None:
    """A record that can't be taken is refused with a code and the field."""
    assert refuse(collection, **fields) == problem


def test_one_odd_record_costs_nobody_else() -> None:
    """The neighbours of a record that is not even an object are read as ever."""
    page = read("users", USER, "u2 is not an object", USER | {"sourcedId": "u3"})
    assert [record.sourced_id for record in page.records] == ["u1", "u3"]
    assert [problem.code for problem in page.refused] == [Code.RECORD_INVALID]
    assert page.received == 3


def test_demographics() -> None:
    """Flags as strings, a sex in any spelling and a birth date make a record."""
    page = read(
        "demographics", {"sourcedId": "u1", "sex": "F", "asian": "TRUE", "white": "", "birthDate": "2015-02-03"}
    )
    record = page.records[0]
    assert isinstance(record, Demographics)
    assert (record.sex, record.asian, record.white) == ("female", True, None)


WRAPPERS = {
    "usual": b'{"users":[%s]}', "bare": b"[%s]", "other key": b'{"people":[%s]}', "BOM": b'\xef\xbb\xbf{"users":[%s]}',
    "with counts": b'{"totalCount":1,"users":[%s],"offset":0}',
    "with a warning": b'{"imsx_codeMajor":"success","imsx_severity":"warning","users":[%s]}',
    "with a status": b'{"statusInfoSet":[{"imsx_codeMajor":"success"}],"users":[%s]}',
}  # fmt: skip


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_wrappers(wrapper: bytes) -> None:
    """The list of records is found whatever stands around it."""
    page = read("users", body=wrapper % json.dumps(USER).encode())
    assert [record.sourced_id for record in page.records] == ["u1"]


ERRORS = [
    b"", b"null", b'"users"', b"{}", b'{"users":null}', b'{"error":"no"}', b'{"users":[],"imsx_codeMajor":"failure"}',
    b'{"statusInfoSet":[{"imsx_codeMajor":"failure"}]}', b'{"imsx_codeMajor":"failure","imsx_severity":"error"}',
    b"<!doctype html>", b'{"a":[],"b":[]}', b"[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("body", ERRORS, ids=lambda body: repr(body)[:30])
def test_no_list_is_no_empty_list(body: bytes) -> None:
    """An answer without a list of records is an error, never an empty collection."""
    with pytest.raises(ProviderError) as caught:
        read("users", body=body)
    assert caught.value.code == Code.PROV_BAD_PAYLOAD


def test_cut_off_anywhere() -> None:
    """A page that is cut off at any byte is refused."""
    body = json.dumps({"users": [USER | {"familyName": "Müller"}]}, ensure_ascii=False).encode()
    for length in range(len(body)):
        with pytest.raises(ProviderError):
            read("users", body=body[:length])


def test_bytes_that_are_no_text() -> None:
    """A record with bytes that are no UTF-8 is quarantined, its neighbours are not."""
    body = json.dumps({"users": [USER, USER | {"sourcedId": "u2", "familyName": "@"}]}).encode().replace(b"@", b"\xff")
    page = read("users", body=body)
    canonical, _ = prepare(page.records, suspicious=page.suspicious)
    assert [canonical.sourced_id(number) for number in range(len(canonical))] == ["u1"]
    assert [problem.code for problem in canonical.refused] == [Code.BAD_TEXT]


def test_numbers_nobody_can_mean() -> None:
    """NaN and numbers of thousands of digits harm no more than the field they stand in."""
    body = b'{"users":[%s]}' % json.dumps(USER | {"x": 0, "y": 1}).encode().replace(
        b'"x": 0', b'"x": ' + b"9" * 5000
    ).replace(b'"y": 1', b'"y": NaN')
    page = read("users", body=body)
    canonical, _ = prepare(page.records, suspicious=page.suspicious)
    assert len(canonical) + len(canonical.refused) == 1


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@given(
    st.fixed_dictionaries(
        {"sourcedId": texts, "role": st.sampled_from(["student", "Teacher", "aide"])},
        optional={
            "primary": st.sampled_from([True, False, "true", "FALSE", None, ""]),
            "beginDate": st.dates().map(str),
            "metadata": st.none() | st.dictionaries(texts, texts | st.integers(0, 9) | st.none(), max_size=3),
            "status": st.sampled_from(["active", None]),
        },
    )
)
def test_both_ways_agree(fields: dict[str, Any]) -> None:
    """A record read among odd ones has the same canonical bytes as one read by itself."""
    usual = read("enrollments", ENROLLMENT | fields)
    among = read("enrollments", "odd", ENROLLMENT | fields)
    assert [encode_record(record) for record in usual.records] == [encode_record(record) for record in among.records]
    assert len(usual.records) == 1
    assert isinstance(usual.records[0], Enrollment)


def test_single_records() -> None:
    """An answer to a question by id is read whatever its wrapper, and an error in its guise is refused."""
    decoder = PageDecoder("orgs")
    for body in ({"org": ORG}, {"orgs": [ORG]}, ORG, {"orgs": ORG}):
        page = read_page("orgs", decoder.decode_single(json.dumps(body).encode()), decoder.learned)
        assert isinstance(page.records[0], Org)
    for text in (b'{"imsx_codeMajor":"failure"}', b'{"orgs":[]}', b'{"error":"x"}'):
        with pytest.raises(ProviderError):
            decoder.decode_single(text)


def test_sessions() -> None:
    """Types in any spelling are OneRoster's."""
    session: AcademicSession = read_one("academicSessions", type="Grading Period")
    assert session.type == "gradingPeriod"
