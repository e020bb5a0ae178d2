"""Sets of CSV files through a whole fetch: what they change and prove, and what is refused (A2, A6, C14, C15)."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from homeroom.codes import Code
from homeroom.messages import UploadRef
from homeroom.roster import COLLECTIONS
from provider_gateway.inquiries import answer_inquiry
from provider_gateway.providers._csv_headers import COLUMNS

NIGHT = datetime(2026, 9, 1, 2, 0, tzinfo=UTC)
ROLES = {"role", "orgSourcedIds"}
NEW_IN_1_2 = {
    "userMasterIdentifier", "resourceSourcedIds", "preferredGivenName", "preferredMiddleName", "preferredFamilyName",
    "primaryOrgSourcedId", "pronouns",
}  # fmt: skip

Table = list[dict[str, str]]


def make_district() -> dict[str, Table]:
    """Two schools, three people, two classes."""
    return {
        "orgs": [
            {"sourcedId": "d", "name": "District", "type": "district"},
            {"sourcedId": "s1", "name": "North", "type": "school", "parentSourcedId": "d"},
            {"sourcedId": "s2", "name": "South", "type": "school", "parentSourcedId": "d"},
        ],
        "academicSessions": [
            {"sourcedId": "y", "title": "2026-2027", "type": "schoolYear", "startDate": "2026-08-01",
             "endDate": "2027-08-01", "schoolYear": "2027"},
        ],
        "courses": [{"sourcedId": "c1", "title": "Latin", "orgSourcedId": "d", "schoolYearSourcedId": "y"}],
        "classes": [
            {"sourcedId": f"k{number}", "title": f"Latin {number}", "courseSourcedId": "c1", "classType": "scheduled",
             "schoolSourcedId": f"s{number}", "termSourcedIds": "y", "grades": "09,10"}
            for number in (1, 2)
        ],
        "users": [make_user("u1", role="teacher"), make_user("u2"), make_user("u3", orgSourcedIds="s2,s1")],
        "enrollments": [
            make_enrollment("e1", "u1", "k1", role="teacher", primary="true"),
            make_enrollment("e2", "u2", "k1"),
            make_enrollment("e3", "u3", "k2", schoolSourcedId="s2"),
        ],
    }  # fmt: skip


def make_user(sourced_id: str, **cells: str) -> dict[str, str]:
    """A student, if nothing else is said."""
    return {
        "sourcedId": sourced_id, "enabledUser": "true", "orgSourcedIds": "s1", "role": "student",
        "username": sourced_id, "givenName": "Ada", "familyName": f"Number {sourced_id}",
    } | cells  # fmt: skip


def make_enrollment(sourced_id: str, user: str, class_: str, **cells: str) -> dict[str, str]:
    """A student in a class."""
    return {
        "sourcedId": sourced_id, "userSourcedId": user, "classSourcedId": class_, "schoolSourcedId": "s1",
        "role": "student",
    } | cells  # fmt: skip


def write_table(name: str, rows: Table, *, end: str = "\r\n") -> bytes:
    """A file with all columns of 1.1 (and of 1.2 where a row has them), every cell quoted."""
    columns = [column for column in COLUMNS[name] if column not in NEW_IN_1_2]
    columns += [column for column in dict.fromkeys(key for row in rows for key in row) if column not in columns]
    lines = [columns, *([row.get(column, "") for column in columns] for row in rows)]
    return "".join(",".join(f'"{cell}"' for cell in line) + end for line in lines).encode()


def write_manifest(modes: Mapping[str, str], version: str = "1.1") -> bytes:
    """A manifest."""
    lines = ["propertyName,value", "manifest.version,1.0", f"oneroster.version,{version}"]
    return "\r\n".join([*lines, *(f"file.{name},{mode}" for name, mode in modes.items()), ""]).encode()


def drop_roles(district: dict[str, Table]) -> dict[str, Table]:
    """The same district as 1.2 has it: roles in a file of their own."""
    users, roles = [], []
    for user in district["users"]:
        users.append({key: value for key, value in user.items() if key not in ROLES})
        for number, org in enumerate(user["orgSourcedIds"].split(",")):
            roles.append(
                {"sourcedId": f"r-{user['sourcedId']}-{org}", "userSourcedId": user["sourcedId"], "role": user["role"],
                 "roleType": "secondary" if number else "primary", "orgSourcedId": org}
            )  # fmt: skip
    return district | {"users": users, "roles": roles}


class Inbox:
    """Keeps sets as the inbox does, and gives them to one gateway's jobs."""

    def __init__(self, gateway: Any, folder: Path) -> None:
        self.gateway = gateway
        self.folder = folder
        self.sets: dict[str, Path] = {}
        self.number = 0
        self.zipped = True
        gateway.provider = "oneroster-csv"
        gateway.secrets = {}
        gateway.uploads = self

    async def fetch(self, integration_id: str, upload_id: str, into: Path) -> Path:
        """The set as it was put."""
        assert integration_id == self.gateway.integration_id
        assert into.name == "set"
        return self.sets[upload_id]

    def put(self, files: Mapping[str, bytes], made_at: datetime = NIGHT) -> UploadRef:
        """Receive a set of files."""
        self.number += 1
        upload = UploadRef(id=str(uuid4()), number=self.number, received_at=made_at + timedelta(hours=1))
        path = self.folder / upload.id
        if self.zipped:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in files.items():
                    archive.writestr(zipfile.ZipInfo(name, made_at.timetuple()[:6]), content)
        else:
            path.mkdir()
            for name, content in files.items():
                (path / name).write_bytes(content)
                os.utime(path / name, (made_at.timestamp(),) * 2)
        self.sets[upload.id] = path
        return upload

    def put_tables(
        self, tables: Mapping[str, Table], mode: str = "bulk", *, version: str = "1.1", made_at: datetime = NIGHT,
        modes: Mapping[str, str] | None = None, **files: bytes,
    ) -> UploadRef:  # fmt: skip
        """Receive tables, all of the same mode unless `modes` says otherwise."""
        said = dict.fromkeys(COLLECTIONS, "absent") | dict.fromkeys(tables, mode) | dict(modes or {})
        contents = {f"{name}.csv": write_table(name, rows) for name, rows in tables.items()}
        contents |= {f"{name}.csv": content for name, content in files.items()}
        return self.put({"manifest.csv": write_manifest(said, version), **contents}, made_at)

    async def sync(self, upload: UploadRef, **options: Any) -> Any:
        """Fetch a set and apply it."""
        return await self.gateway.sync(job=self.gateway.job(upload=upload, options=options))

    async def run(self, upload: UploadRef | None, **options: Any) -> Any:
        """Fetch a set without applying it."""
        return await self.gateway.run(self.gateway.job(upload=upload, options=options))

    async def refused(self, upload: UploadRef, **options: Any) -> Code:
        """The code a set is refused with; nothing of it may count."""
        outcome = await self.run(upload, **options)
        assert outcome.failure is not None
        code: Code = outcome.failure.code
        return code


@pytest.fixture
def inbox(gateway: Any, tmp_path: Path) -> Inbox:
    """An inbox of a gateway that reads CSV."""
    return Inbox(gateway, tmp_path)


def held(inbox: Inbox, collection: str) -> dict[str, Any]:
    """The records the store holds."""
    records = inbox.gateway.store.records[collection]
    return {key: msgspec.json.decode(content) for key, (_, content) in records.items()}


# ── what a set changes ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("zipped", [True, False])
async def test_a_bulk_set_is_the_roster(inbox: Inbox, zipped: bool) -> None:
    """A zip or a folder of bulk files becomes the roster; the same again changes nothing, and what lacks is gone."""
    inbox.zipped = zipped
    district = make_district()
    first = await inbox.sync(inbox.put_tables(district))
    assert {name: report.added for name, report in first.reports.items()} == {
        name: len(rows) for name, rows in district.items()
    }
    assert first.completed.mode == "full"
    assert [role["orgSourcedId"] for role in held(inbox, "users")["u3"]["roles"]] == ["s2", "s1"]
    again = await inbox.sync(inbox.put_tables(district, made_at=NIGHT + timedelta(days=1)))
    assert not again.chunks
    assert again.reports["users"].unchanged == 3
    district["enrollments"].pop()
    third = await inbox.sync(inbox.put_tables(district, made_at=NIGHT + timedelta(days=2)))
    assert third.reports["enrollments"].removed == 1
    assert third.reports["enrollments"].consistent
    assert inbox.gateway.store.ids("enrollments") == {"e1", "e2"}


async def test_both_versions_are_the_same_roster(inbox: Inbox) -> None:
    """A 1.2 set, with roles in a file of their own, gives the same records as a 1.1 set, byte by byte."""
    await inbox.sync(inbox.put_tables(make_district()))
    later = await inbox.sync(
        inbox.put_tables(drop_roles(make_district()), version="1.2", made_at=NIGHT + timedelta(days=1))
    )
    assert not later.chunks
    assert later.reports["users"].unchanged == 3
    assert later.completed.mode == "full"


async def test_a_role_that_can_not_be_read_keeps_its_person(inbox: Inbox) -> None:
    """People whose role is damaged, unknown or lacking are quarantined, and keep what they were."""
    await inbox.sync(inbox.put_tables(make_district()))
    district = drop_roles(make_district())
    header, _, unknown, *others, damaged = write_table("roles", district.pop("roles")).splitlines(keepends=True)
    unknown = unknown.replace(b'"student"', b'"wizard"')
    damaged = damaged.replace(b'"r-u3-s1",""', b'"r-u3-s1",""x')
    content = b"".join([header, unknown, *others, damaged])
    modes = {"roles": "bulk"}
    upload = inbox.put_tables(district, version="1.2", made_at=NIGHT + timedelta(1), modes=modes, roles=content)
    users = (await inbox.sync(upload)).reports["users"]
    assert (users.served, users.quarantined, users.removed) == (3, 3, 0)
    assert inbox.gateway.store.ids("users") == {"u1", "u2", "u3"}


async def test_changes_build_on_what_was_before(inbox: Inbox) -> None:
    """Delta files change what they name: rows are added or changed, tombstones remove, all others stay."""
    await inbox.sync(inbox.put_tables(make_district()))
    stamp = {"status": "active", "dateLastModified": "2026-09-02T00:00:00.000Z"}
    changes = {
        "users": [make_user("u2", givenName="Eve", **stamp), make_user("u4", **stamp)],
        "enrollments": [make_enrollment("e3", "u3", "k2", **stamp | {"status": "tobedeleted"})],
    }
    outcome = await inbox.sync(inbox.put_tables(changes, "delta", made_at=NIGHT + timedelta(days=1)))
    assert outcome.completed.mode == "delta"
    assert not outcome.reports["users"].whole
    assert (outcome.reports["users"].added, outcome.reports["users"].changed) == (1, 1)
    assert inbox.gateway.store.ids("users") == {"u1", "u2", "u3", "u4"}
    assert inbox.gateway.store.ids("enrollments") == {"e1", "e2"}
    assert held(inbox, "users")["u2"]["givenName"] == "Eve"


async def test_a_set_may_be_mixed(inbox: Inbox) -> None:
    """Bulk and delta files in one set each do what they are for, and files that are absent change nothing."""
    await inbox.sync(inbox.put_tables(make_district()))
    district = make_district()
    mixed = {
        "enrollments": district["enrollments"][:2],
        "users": [make_user("u4", status="active", dateLastModified="2026-09-02T00:00:00.000Z")],
    }
    outcome = await inbox.sync(
        inbox.put_tables(mixed, modes={"users": "delta", "enrollments": "bulk"}, made_at=NIGHT + timedelta(days=1))
    )
    assert outcome.completed.mode == "delta"
    assert outcome.reports["enrollments"].removed == 1
    assert inbox.gateway.store.ids("users") == {"u1", "u2", "u3", "u4"}
    assert inbox.gateway.store.ids("classes") == {"k1", "k2"}
    assert "classes" not in outcome.reports


async def test_tombstones_in_a_bulk_file(inbox: Inbox) -> None:
    """Rows of a bulk file that say they are gone are gone, and the file is still everything there is."""
    await inbox.sync(inbox.put_tables(make_district()))
    district = make_district()
    for row in district["users"]:
        row |= {"status": "active", "dateLastModified": "2026-09-01T00:00:00.000Z"}
    district["users"][0]["status"] = "tobedeleted"
    district["users"].pop()
    outcome = await inbox.sync(inbox.put_tables(district, made_at=NIGHT + timedelta(days=1)))
    assert outcome.completed.mode == "full"
    assert outcome.reports["users"].removed == 2
    assert inbox.gateway.store.ids("users") == {"u2"}


async def test_a_manifest_alone_changes_nothing(inbox: Inbox) -> None:
    """A set of nothing but a manifest says that there are no changes."""
    await inbox.sync(inbox.put_tables(make_district()))
    outcome = await inbox.sync(inbox.put_tables({}, made_at=NIGHT + timedelta(days=1)))
    assert outcome.completed.mode == "delta"
    assert outcome.reports == {}
    assert not outcome.chunks


async def test_a_file_the_manifest_calls_absent_is_read_but_proves_nothing(inbox: Inbox) -> None:
    """What was shipped is read although the manifest denies it; whoever is not in it stays."""
    await inbox.sync(inbox.put_tables(make_district()))
    district = make_district()
    district["users"] = [make_user("u4")]
    outcome = await inbox.sync(inbox.put_tables(district, modes={"users": "absent"}, made_at=NIGHT + timedelta(days=1)))
    assert outcome.reports["users"].added == 1
    assert outcome.reports["users"].removed == 0
    assert inbox.gateway.store.ids("users") == {"u1", "u2", "u3", "u4"}


async def test_a_header_without_rows_that_is_called_absent_is_absent(inbox: Inbox) -> None:
    """ClassLink ships demographics.csv with a header only and calls it absent: nothing is concluded from it."""
    upload = inbox.put_tables(make_district(), demographics=write_table("demographics", []))
    outcome = await inbox.sync(upload, sync_demographics=True)
    assert "demographics" not in outcome.reports


async def test_demographics_and_their_keys(inbox: Inbox) -> None:
    """Demographics bring lunch, education plan and language learner status from their metadata columns (B5)."""
    district = make_district()
    district["demographics"] = [
        {"sourcedId": "u2", "birthDate": "2012-02-29", "sex": "female", "metadata.frl": "Reduced",
         "metadata.sped": "true", "metadata.CL.lep": "false"},
    ]  # fmt: skip
    await inbox.sync(inbox.put_tables(district), sync_demographics=True)
    found = held(inbox, "demographics")["u2"]
    assert (found["frlStatus"], found["iepStatus"], found["ellStatus"]) == ("Reduced", True, False)


async def test_files_that_hold_no_roster_are_left_alone(inbox: Inbox) -> None:
    """Gradebook files, profiles with passwords and strange files are not even looked at."""
    upload = inbox.put_tables(
        make_district(), modes={"results": "bulk"}, results=b"\xff\xfe broken", userprofiles=b'"', mine=b"\0"
    )
    outcome = await inbox.sync(upload)
    assert set(outcome.reports) == set(COLLECTIONS) - {"demographics"}


async def test_an_empty_file_arrives_empty(inbox: Inbox) -> None:
    """A bulk file with a header only is an empty collection, which the guard holds back (C8)."""
    await inbox.sync(inbox.put_tables(make_district()))
    outcome = await inbox.run(inbox.put_tables(make_district() | {"users": []}, made_at=NIGHT + timedelta(days=1)))
    report = outcome.reports["users"]
    assert (report.served, report.whole, report.wanted) == (0, True, True)


# ── damage ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_damaged_row_keeps_its_record(inbox: Inbox) -> None:
    """A ragged row is quarantined with its id; its record keeps its last good value, everybody else is synced."""
    await inbox.sync(inbox.put_tables(make_district()))
    lines = write_table("users", make_district()["users"]).splitlines(keepends=True)
    lines[1] = b'"u1","","","oops"\r\n'
    del lines[3]
    outcome = await inbox.sync(inbox.put_tables(make_district(), made_at=NIGHT + timedelta(1), users=b"".join(lines)))
    report = outcome.reports["users"]
    assert (report.served, report.quarantined, report.unchanged, report.removed) == (2, 1, 1, 1)
    assert [(issue.code, issue.sourced_id) for issue in outcome.completed.issues] == [(Code.CSV_ROW, "u1")]
    assert inbox.gateway.store.ids("users") == {"u1", "u2"}


@pytest.mark.parametrize("row", [b'"\r\n', b'"u1\r\n', b'"","","","true"\r\n', b'"\0","","","true"\r\n'])
async def test_a_row_nobody_knows_proves_nobody_gone(inbox: Inbox, row: bytes) -> None:
    """Where a damaged row does not tell whose it was, whoever is missing may be in it, and stays."""
    await inbox.sync(inbox.put_tables(make_district()))
    lines = write_table("users", make_district()["users"]).splitlines(keepends=True)
    lines[1:3] = [row]
    outcome = await inbox.sync(inbox.put_tables(make_district(), made_at=NIGHT + timedelta(1), users=b"".join(lines)))
    report = outcome.reports["users"]
    assert (report.served, report.quarantined, report.removed, report.unconfirmed) == (2, 1, 0, 2)
    assert inbox.gateway.store.ids("users") == {"u1", "u2", "u3"}


async def test_a_quote_that_swallows_the_rest_costs_one_row(inbox: Inbox) -> None:
    """An unclosed quote ends with its line."""
    content = write_table("users", make_district()["users"]).replace(b'"u1","",', b'"u1",",', 1)
    outcome = await inbox.sync(inbox.put_tables(make_district(), users=content))
    assert (outcome.reports["users"].added, outcome.reports["users"].quarantined) == (2, 1)


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
async def test_another_encoding_is_refused(inbox: Inbox, encoding: str) -> None:
    """A file that is not UTF-8 ends the run; what it says is never guessed at (C3)."""
    district = make_district()
    district["users"][0]["givenName"] = "Zoë"
    content = write_table("users", district["users"]).decode().encode(encoding)
    assert await inbox.refused(inbox.put_tables(district, users=content)) is Code.CSV_ENCODING


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda files: files.pop("manifest.csv"), Code.CSV_MANIFEST),
        (lambda files: files.pop("users.csv"), Code.CSV_MANIFEST),
        (lambda files: files.update({"users.csv": b""}), Code.CSV_HEADER),
        (lambda files: files.update({"users.csv": b"sourcedId,status\nu1,active\n"}), Code.CSV_HEADER),
        (lambda files: files.update({"nested.zip": b"PK"}), Code.ZIP_UNSAFE),
        (lambda files: files.update({"../orgs.csv": b""}), Code.ZIP_UNSAFE),
        (lambda files: files.update({"USERS.CSV": b"a"}), Code.ZIP_UNSAFE),
        (lambda files: files.update({"manifest.csv": write_manifest({}, "1.0")}), Code.CSV_MANIFEST),
    ],
)
async def test_a_set_that_can_not_be_read_changes_nothing(
    inbox: Inbox, change: Callable[[dict[str, bytes]], object], code: Code
) -> None:
    """Each kind of broken set ends with its code, before anything is published (C3, C4, C7)."""
    files = {f"{name}.csv": write_table(name, rows) for name, rows in make_district().items()}
    files["manifest.csv"] = write_manifest(dict.fromkeys(make_district(), "bulk"))
    change(files)
    outcome = await inbox.run(inbox.put(files))
    assert outcome.failure is not None
    assert outcome.failure.code is code
    assert not outcome.chunks


async def test_a_file_that_is_promised_is_waited_for(inbox: Inbox) -> None:
    """A folder without a file its manifest names is a set that is not complete yet."""
    inbox.zipped = False
    upload = inbox.put_tables(make_district(), modes={"demographics": "bulk"})
    assert await inbox.refused(upload) is Code.SFTP_INCOMPLETE_SET


async def test_no_set_was_received(inbox: Inbox) -> None:
    """Without a set there is nothing to read."""
    assert (await inbox.run(None)).failure.code is Code.UPLOAD_MISSING


# ── whose turn it is ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_older_set_is_refused(inbox: Inbox) -> None:
    """A set that was made before the one that was applied is refused, however late it comes (C9)."""
    await inbox.sync(inbox.put_tables(make_district(), made_at=NIGHT))
    older = inbox.put_tables(make_district(), made_at=NIGHT - timedelta(days=1))
    assert await inbox.refused(older) is Code.CSV_STALE
    an_hour = inbox.put_tables(make_district(), made_at=NIGHT - timedelta(hours=1))
    assert (await inbox.run(an_hour)).failure is None  # clocks change


async def test_sets_can_not_creep_back(inbox: Inbox) -> None:
    """What is forgiven in age is forgiven once, not again with every set."""
    await inbox.sync(inbox.put_tables(make_district(), made_at=NIGHT))
    await inbox.sync(inbox.put_tables(make_district(), made_at=NIGHT - timedelta(minutes=90)))
    assert await inbox.refused(inbox.put_tables(make_district(), made_at=NIGHT - timedelta(hours=3))) is Code.CSV_STALE


async def test_yesterdays_set_again_changes_nothing(inbox: Inbox) -> None:
    """The same set uploaded again is read again and found to hold nothing new; also when only its number is new."""
    first = inbox.put_tables(make_district())
    await inbox.sync(first)
    second = inbox.put_tables(make_district())
    for upload in (first, second, first, second):
        outcome = await inbox.sync(upload)
        assert not outcome.chunks
        assert outcome.reports["users"].unchanged == 3


async def test_an_earlier_number_is_older(inbox: Inbox) -> None:
    """A set that was received before the one that was applied is older, whatever times its files carry."""
    first = inbox.put_tables(make_district())
    district = make_district()
    district["users"].pop()
    second = inbox.put_tables(district)
    await inbox.sync(second)
    assert await inbox.refused(first) is Code.CSV_STALE


async def test_a_reset_takes_any_bulk_set(inbox: Inbox) -> None:
    """A reset or an edit forgets what was applied: then an older bulk set will do (C7)."""
    await inbox.sync(inbox.put_tables(make_district()))
    inbox.gateway.bookmark = None
    assert (await inbox.run(inbox.put_tables(make_district(), made_at=NIGHT - timedelta(days=9)))).failure is None


STAMPED = {"users": [make_user("u4", status="active", dateLastModified="2026-09-02T00:00:00.000Z")]}


async def test_changes_without_what_they_build_on_are_refused(inbox: Inbox) -> None:
    """A delta that comes first, after a reset or after one that was missed asks for a bulk set (C7)."""
    assert await inbox.refused(inbox.put_tables(STAMPED, "delta")) is Code.CSV_MANIFEST
    partly = inbox.put_tables(make_district() | STAMPED, "delta")
    assert await inbox.refused(partly) is Code.CSV_DELTA_GAP
    await inbox.sync(inbox.put_tables(make_district()))
    missed = inbox.put_tables(STAMPED, "delta", made_at=NIGHT + timedelta(days=1))
    late = inbox.put_tables(STAMPED, "delta", made_at=NIGHT + timedelta(days=2))
    assert await inbox.refused(late) is Code.CSV_DELTA_GAP
    await inbox.sync(missed)
    await inbox.sync(late)
    await inbox.sync(late)  # twice is no harm
    bulk = inbox.put_tables(make_district(), made_at=NIGHT + timedelta(days=5))
    inbox.number += 3
    later = inbox.put_tables(make_district(), made_at=NIGHT + timedelta(days=6))
    await inbox.sync(bulk)
    await inbox.sync(later)  # a bulk set needs nothing before it


async def test_a_gap_is_not_hidden_by_a_set_without_changes(inbox: Inbox) -> None:
    """A manifest alone, or a set that lacks files, builds on the set before it just as changes do."""
    await inbox.sync(inbox.put_tables(make_district()))
    inbox.put_tables(STAMPED, "delta", made_at=NIGHT + timedelta(days=1))
    nothing = inbox.put_tables({}, made_at=NIGHT + timedelta(days=2))
    assert await inbox.refused(nothing) is Code.CSV_DELTA_GAP


async def test_delta_rows_without_marks_are_bulk(inbox: Inbox) -> None:
    """A file that is called delta and marks no row with status or date is a bulk file (§2.5)."""
    upload = inbox.put_tables(make_district(), "delta")
    outcome = await inbox.sync(upload)
    assert outcome.completed.mode == "full"
    assert outcome.reports["users"].consistent


async def test_the_first_set_has_to_be_whole(inbox: Inbox) -> None:
    """Without users or orgs there is no roster; the run says which files are lacking."""
    district = make_district()
    del district["users"], district["orgs"]
    outcome = await inbox.run(inbox.put_tables(district))
    assert outcome.failure.code is Code.CSV_MANIFEST
    assert "orgs.csv, users.csv" in outcome.failure.detail


async def test_a_district_without_classes_needs_no_classes(inbox: Inbox) -> None:
    """What is switched off need not be uploaded."""
    district = {name: rows for name, rows in make_district().items() if name in {"orgs", "users", "academicSessions"}}
    assert (await inbox.run(inbox.put_tables(district), sync_classes=False)).failure is None


@pytest.mark.parametrize(
    "options", [{"respect_enrollment_dates": True}, {"respect_academic_sessions": True}, {"excluded_schools": ["s2"]}]
)
async def test_options_that_look_at_everything_need_bulk(inbox: Inbox, options: dict[str, Any]) -> None:
    """Options that are decided over the whole roster refuse changes and take bulk sets."""
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    await inbox.sync(inbox.put_tables(make_district()), **options)
    changes = inbox.put_tables(STAMPED, "delta", made_at=NIGHT + timedelta(days=1))
    assert await inbox.refused(changes, **options) is Code.OPTIONS_NEED_BULK


@pytest.mark.parametrize("lacking", ["users", "roles"])
async def test_people_of_1_2_come_whole(inbox: Inbox, lacking: str) -> None:
    """Of OneRoster 1.2 users and roles are read together, and both have to be bulk: half a person is nobody."""
    await inbox.sync(inbox.put_tables(drop_roles(make_district()), version="1.2"))
    district = drop_roles(make_district())
    stamped = {
        key: [row | {"status": "active", "dateLastModified": "x"} for row in rows] for key, rows in district.items()
    }
    upload = inbox.put_tables(
        district | {lacking: stamped[lacking]},
        modes={lacking: "delta"},
        version="1.2",
        made_at=NIGHT + timedelta(days=1),
    )
    assert await inbox.refused(upload) is Code.CSV_DELTA_GAP


async def test_users_without_roles_are_no_users(inbox: Inbox) -> None:
    """users.csv of 1.2 without roles.csv is refused by its header."""
    district = drop_roles(make_district())
    del district["roles"]
    header, *rows = write_table("users", district["users"]).splitlines(keepends=True)
    header = header.replace(b'"orgSourcedIds"', b'"x"').replace(b'"role"', b'"y"')
    upload = inbox.put_tables(district, version="1.2", users=header + b"".join(rows))
    assert await inbox.refused(upload) is Code.CSV_HEADER


# ── damage at every byte ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_truncated_zip_removes_nobody(inbox: Inbox) -> None:
    """Cut off at any byte, a zip ends with a code and changes nothing."""
    await inbox.sync(inbox.put_tables(make_district()))
    upload = inbox.put_tables(make_district(), made_at=NIGHT + timedelta(days=1))
    path = inbox.sets[upload.id]
    whole = path.read_bytes()
    for size in (*range(0, len(whole), 97), len(whole) - 1):
        path.write_bytes(whole[:size])
        outcome = await inbox.run(upload)
        assert outcome.failure is not None
        assert outcome.failure.code is Code.ZIP_UNSAFE
        assert not outcome.chunks


@pytest.mark.parametrize("name", ["users", "enrollments", "orgs", "manifest"])
@pytest.mark.parametrize("quoted", [True, False])
async def test_a_truncated_file_removes_nobody(inbox: Inbox, name: str, quoted: bool) -> None:
    """Cut off anywhere but after a last cell, a file of a folder removes nobody (test_csv_damage does every byte)."""
    inbox.zipped = False
    tables = {table: write_table(table, rows) for table, rows in make_district().items()}
    if not quoted:
        tables = {table: content.replace(b'"', b"") for table, content in tables.items()}
        tables["users"] = write_table("users", make_district()["users"])  # lists need their quotes
        tables["classes"] = write_table("classes", make_district()["classes"])
    files = {"manifest.csv": write_manifest(dict.fromkeys(tables, "bulk"))}
    files |= {f"{table}.csv": content for table, content in tables.items()}
    await inbox.sync(inbox.put(files))
    upload = inbox.put(files, NIGHT + timedelta(days=1))
    path = inbox.sets[upload.id] / f"{name}.csv"
    whole = path.read_bytes()
    width = whole.partition(b"\n")[0].count(b",")
    for size in range(0, len(whole), 29):
        path.write_bytes(whole[:size])
        os.utime(path, ((NIGHT + timedelta(days=1)).timestamp(),) * 2)
        outcome = await inbox.run(upload)
        if outcome.failure is not None:
            assert outcome.failure.code in {Code.CSV_MANIFEST, Code.CSV_HEADER, Code.CSV_ENCODING}
            continue
        last = whole[:size].rpartition(b"\n")[2]
        ends_like_a_file = not last or last.count(b",") >= width
        header_only = outcome.reports[name].served == 0 if name in outcome.reports else False
        removed = {key: report.removed for key, report in outcome.reports.items() if report.removed}
        assert ends_like_a_file or header_only or not removed


# ── verification ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_verification_tells_what_is_in_the_set(inbox: Inbox) -> None:
    """A verification lists files, their modes and counts of what else there was, and changes nothing (C11)."""
    from homeroom.messages import Inquiry

    upload = inbox.put_tables(make_district(), notes=b"x")
    job = inbox.gateway.job(upload=upload)
    inquiry = Inquiry(
        inquiry_id="1", kind="verify", integration_id=job.integration_id, organization_id=job.organization_id,
        provider=job.provider, connection={}, sealed_secret=job.sealed_secret, options=job.options,
        deadline=datetime.now(UTC) + timedelta(seconds=30), today=job.today, upload=upload,
    )  # fmt: skip
    answer = await answer_inquiry(inbox.gateway.workshop(None), inquiry)
    assert answer.code is None
    details = {finding.check: finding.detail for finding in answer.findings}
    assert details["files"].startswith("OneRoster 1.1: orgs (bulk)")
    assert "other files" in details
    schools = await answer_inquiry(inbox.gateway.workshop(None), msgspec.structs.replace(inquiry, kind="schools"))
    assert [school.name for school in schools.schools] == ["North", "South"]
