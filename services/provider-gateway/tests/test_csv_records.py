"""Rows of CSV become the same canonical records as the rows of REST, whichever of the two ways they take (B6)."""

from __future__ import annotations

import csv
import io
import string
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.codes import Code
from homeroom.messages import Options
from homeroom.roster import COLLECTIONS
from provider_gateway.providers._csv_blocks import Block
from provider_gateway.providers._csv_columns import read_columns
from provider_gateway.providers._csv_headers import COLUMNS, read_header
from provider_gateway.providers._csv_reading import Directions, read_block, set_down_block
from provider_gateway.providers._oneroster_records import read_page
from provider_gateway.providers._oneroster_shapes import PageDecoder
from provider_gateway.providers.contract import Page, make_page
from provider_gateway.scope import Scope

REFS = {
    "parentSourcedId": "parent",
    "schoolYearSourcedId": "schoolYear",
    "orgSourcedId": "org",
    "courseSourcedId": "course",
    "schoolSourcedId": "school",
    "classSourcedId": "class",
    "userSourcedId": "user",
    "primaryOrgSourcedId": "primaryOrg",
}
REF_LISTS = {"termSourcedIds": "terms", "orgSourcedIds": "orgs", "agentSourcedIds": "agents"}
RENAMED = {"preferredGivenName": "preferredFirstName", "preferredFamilyName": "preferredLastName"}
LISTS = {"grades", "subjects", "subjectCodes", "periods"}
SCOPE = Scope(Options(sync_parents=True, sync_demographics=True), date(2026, 9, 1), masked=frozenset())

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
NICE = st.text(string.ascii_letters + string.digits + " -.'\"\\,é小", max_size=12)
IDS = st.text(string.ascii_letters + string.digits + "-_./@", min_size=1, max_size=8)
DATES = st.dates(date(2020, 1, 1), date(2030, 1, 1)).map(date.isoformat)
FLAGS = st.sampled_from(["true", "false", "TRUE", "False", "1", ""])
PARTS = st.lists(st.text(string.ascii_letters + string.digits, min_size=1, max_size=4), max_size=3)
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "status": st.sampled_from(["", "active", "Active"]),
    "dateLastModified": st.sampled_from(["", "2026-08-01T00:00:00.000Z"]),
    "title": NICE.filter(bool) | TEXT.filter(bool),
    "name": NICE.filter(bool),
    "startDate": DATES,
    "endDate": DATES | st.just(""),
    "beginDate": DATES | st.just(""),
    "birthDate": DATES | st.just(""),
    "enabledUser": FLAGS,
    "primary": FLAGS,
    "sex": st.sampled_from(["male", "female", "F", ""]),
    "classType": st.sampled_from(["homeroom", "Scheduled", ""]),
    **dict.fromkeys(
        ["asian", "white", "blackOrAfricanAmerican", "americanIndianOrAlaskaNative", "hispanicOrLatinoEthnicity"], FLAGS
    ),
    **dict.fromkeys(["nativeHawaiianOrOtherPacificIslander", "demographicRaceTwoOrMoreRaces"], FLAGS),
    **dict.fromkeys(REFS, st.just("") | IDS),
    **dict.fromkeys(REF_LISTS, st.lists(IDS, max_size=3)),
    **dict.fromkeys(LISTS, PARTS),
    "userIds": st.lists(st.tuples(st.sampled_from(["SIS", "", "Fed"]), IDS), max_size=2),
}
CELLS |= dict.fromkeys(["schoolSourcedId", "classSourcedId", "userSourcedId"], IDS)
BY_COLLECTION: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "orgs": {"type": st.sampled_from(["school", "district"])},
    "academicSessions": {"type": st.sampled_from(["term", "schoolYear"]), "endDate": DATES},
    "users": {
        "role": st.sampled_from(["student", "teacher", "Site Administrator", "parent"]),
        "orgSourcedIds": st.lists(IDS, min_size=1, max_size=3),
    },
    "enrollments": {"role": st.sampled_from(["student", "teacher"])},
}


def make_rest(row: Mapping[str, Any], metadata: Mapping[str, str]) -> dict[str, Any]:
    """A record as REST has it."""
    found: dict[str, Any] = {"metadata": {key: value for key, value in metadata.items() if value}}
    for column, value in row.items():
        if column in REFS:
            found[REFS[column]] = {"sourcedId": value, "href": "x", "type": "x"} if value else None
        elif column in REF_LISTS:
            found[REF_LISTS[column]] = [{"sourcedId": one} for one in value]
        elif column == "userIds":
            found[column] = [{"type": kind, "identifier": identifier} for kind, identifier in value]
        else:
            found[RENAMED.get(column, column)] = value
    return found


def make_cell(column: str, value: Any) -> str:
    """The same as a cell."""
    if column == "userIds":
        return ",".join(f"{{{kind}:{identifier}}}" for kind, identifier in value)
    return ",".join(value) if isinstance(value, list) else str(value)


def read_rest(collection: str, records: list[dict[str, Any]]) -> Page:
    """What REST makes of records."""
    decoder = PageDecoder(collection)
    decoded = decoder.decode(msgspec.json.encode({collection: records}))
    return make_page(collection, read_page(collection, decoded, decoder.learned), SCOPE)


def write_csv(
    header: list[str], rows: list[list[str]], *, quoted: bool = False, end: str = "\n"
) -> tuple[bytes, Block]:
    """A file as its first line and one block."""
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL, lineterminator=end).writerows(
        [header, *rows]
    )
    first, _, body = file.getvalue().encode().partition(b"\n")
    return first, Block(body)


@pytest.mark.parametrize("collection", COLLECTIONS)
@given(data=st.data(), quoted=st.booleans(), end=st.sampled_from(["\n", "\r\n"]))
def test_a_row_is_the_record_rest_would_give(collection: str, data: st.DataObject, quoted: bool, end: str) -> None:
    """Whatever a record holds, its CSV row and its REST object become the same canonical bytes, notes and refusals."""
    columns = [name for name in COLUMNS[collection] if name not in {"password", "resourceSourcedIds"}]
    strategies = {name: CELLS.get(name, NICE) for name in columns} | BY_COLLECTION.get(collection, {})
    rows = []
    for number in range(data.draw(st.integers(1, 3))):
        row = {name: data.draw(strategies[name], label=name) for name in columns}
        rows.append(row | {"sourcedId": f"{number}-{data.draw(IDS)}"})
    further = [{"frl": data.draw(NICE), "b": data.draw(NICE)} for _ in rows]
    header = [*columns, "metadata.frl", "b"]
    cells = [
        [*(make_cell(name, row[name]) for name in columns), more["frl"], more["b"]]
        for row, more in zip(rows, further, strict=True)
    ]
    first, block = write_csv(header, cells, quoted=quoted, end=end)
    found = read_block(Directions(read_header(collection, first)), block, SCOPE)
    wanted = read_rest(collection, [make_rest(row, more) for row, more in zip(rows, further, strict=True)])
    assert found.page.canonical.body == wanted.canonical.body
    assert found.page.canonical.keys == wanted.canonical.keys
    assert found.page.canonical.fingerprints.tolist() == wanted.canonical.fingerprints.tolist()
    assert [str(one) for one in found.page.notes] == [str(one) for one in wanted.notes]
    assert [(one.code, one.sourced_id) for one in found.page.refused] == [
        (one.code, one.sourced_id) for one in wanted.refused
    ]


PLAIN = {
    "users": [["u1", "", "", "true", "s1", "student", "ada", "{SIS:1}", "Ada", "Łucja", "", "7", "a@x.example"]],
    "classes": [
        ["k1", "active", "", "Latin", "04,05", "c1", "L-1", "scheduled", "R 1", "s1", "t1,t2", "Latin", "", "1"]
    ],
    "enrollments": [["e1", "", "", "k1", "s1", "u1", "student", "false", "2026-09-01", "2027-06-01"]],
}
HEADS = {
    "users": "sourcedId,status,dateLastModified,enabledUser,orgSourcedIds,role,username,userIds,givenName,familyName,"
    "middleName,identifier,email",
    "classes": ",".join(COLUMNS["classes"]),
    "enrollments": ",".join(COLUMNS["enrollments"]),
}


@pytest.mark.parametrize("collection", PLAIN)
@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_plain_rows_take_the_fast_way(collection: str, quoted: bool, end: str) -> None:
    """The files of most districts are read column by column, quoted or not; else large ones would take too long."""
    first, block = write_csv(HEADS[collection].split(","), PLAIN[collection], quoted=quoted, end=end)
    page = read_columns(read_header(collection, first), block, SCOPE)
    assert page is not None
    assert page.received == len(page.canonical) == 1


OUT_OF_THE_ORDINARY = {
    "a tombstone": ("status", "tobedeleted"),
    "an unknown status": ("status", "perhaps"),
    "no id": ("sourcedId", ""),
    "an unknown role": ("role", "wizard"),
    "a broken date": ("beginDate", "2026-02-31"),
    "an end before its begin": ("endDate", "2026-08-01"),
    "a missing class": ("classSourcedId", ""),
    "a text beyond all size": ("schoolSourcedId", "x" * 3_000),
    "a broken flag": ("primary", "perhaps"),
}


@pytest.mark.parametrize("case", OUT_OF_THE_ORDINARY)
def test_the_fast_way_leaves_what_it_can_not_judge(case: str) -> None:
    """A block with a row that has to be refused, or told of, is read record by record, and nobody else suffers."""
    column, cell = OUT_OF_THE_ORDINARY[case]
    header = HEADS["enrollments"].split(",")
    odd = ["e2", *PLAIN["enrollments"][0][1:]]
    odd[header.index(column)] = cell
    first, block = write_csv(header, [*PLAIN["enrollments"], odd])
    layout = read_header("enrollments", first)
    assert read_columns(layout, block, SCOPE) is None
    page, _ = read_block(Directions(layout), block, SCOPE)
    assert page.received == 2
    assert page.canonical.sourced_id(0) == "e1"
    assert len(page.canonical) + len(page.tombstones) + len(page.refused) == 2


def test_people_without_a_choice_of_parents_are_read_record_by_record() -> None:
    """Without parents a block with guardians is left to the rules that leave them out (C3)."""
    row = list(PLAIN["users"][0])
    row[5] = "guardian"
    first, block = write_csv(HEADS["users"].split(","), [*PLAIN["users"], ["u2", *row[1:]]])
    layout = read_header("users", first)
    scope = Scope(Options(), date(2026, 9, 1), masked=frozenset())
    assert read_columns(layout, block, SCOPE) is not None
    assert read_columns(layout, block, scope) is None
    page, _ = read_block(Directions(layout), block, scope)
    assert list(page.left_out) == ["u2"]


@pytest.mark.parametrize("name", ['",', '","', "\\", 'a "b" c', "a,b", "tab\there", "\x7f", "é", "\u2028"])
def test_texts_that_json_escapes(name: str) -> None:
    """Quotes, commas, backslashes and control characters in a name come out as they are."""
    row = list(PLAIN["users"][0])
    row[8] = name
    first, block = write_csv(HEADS["users"].split(","), [row, ["u2", *row[1:]]])
    page = read_columns(read_header("users", first), block, SCOPE)
    assert page is not None
    assert [msgspec.json.decode(page.canonical.encoded(number))["givenName"] for number in (0, 1)] == [name, name]


@pytest.mark.parametrize("mask", ["XXXX", "a***@x.example", "[redacted]", "••••"])
def test_masked_people_are_read_record_by_record(mask: str) -> None:
    """A mask in a file is no value, as in an answer (C13)."""
    row = [*PLAIN["users"][0][:-1], mask]
    first, block = write_csv(HEADS["users"].split(","), [row])
    layout = read_header("users", first)
    assert read_columns(layout, block, SCOPE) is None
    page, _ = read_block(Directions(layout), block, SCOPE)
    assert page.masked_values == {"email": 1}


def test_records_that_were_set_down_are_the_same(tmp_path: Path) -> None:
    """What a reading process leaves in a file is read back as it was, also when the file is used again for less."""
    header = HEADS["enrollments"].split(",")
    rows = [[f"e{number}", *PLAIN["enrollments"][0][1:]] for number in range(20)]
    for some in (rows, rows[:3], []):
        first, block = write_csv(header, some)
        directions = Directions(read_header("enrollments", first))
        wanted = read_block(directions, block, SCOPE).page.canonical
        found = set_down_block(directions, block, SCOPE, tmp_path / "slot").page.canonical
        assert len(found) == len(wanted)
        assert found.keys == wanted.keys
        for start in range(len(wanted)):
            for end in range(start + 1, len(wanted) + 1):
                assert found.run(start, end) == wanted.run(start, end)
        if some:
            assert found.sourced_id(len(found) - 1) == some[-1][0]


@pytest.mark.parametrize("column", ["sourcedId", None])
def test_an_enrollment_without_id_gets_a_stable_one(column: str | None) -> None:
    """Enrollments without a sourcedId are named by class, user and role, as ClassLink's import does, and told of."""
    header = HEADS["enrollments"].split(",")
    row = ["", *PLAIN["enrollments"][0][1:]]
    first, block = write_csv(header[column is None :], [row[column is None :]])
    page, doubtful = read_block(Directions(read_header("enrollments", first)), block, SCOPE)
    assert page.canonical.sourced_id(0) == "k1_u1_student"
    assert [(note.code, note.field) for note in page.notes] == [(Code.RECORD_NO_ID, "sourcedId")]
    assert not doubtful
