"""A roster as OneRoster CSV: what is in a set, what changed since one, and who may have it."""

from __future__ import annotations

import asyncio
import csv
import io
import zipfile
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from licensed import license_product
from played_gateway import ROSTER, Gateway, campus, student, together

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.roster import Demographics, Role, UserId
from homeroom.testing.tokens import TestIssuer, calling
from roster_store import archives
from roster_store.app import make_app
from roster_store.archives import Entry, write_archive
from roster_store.csv_export.cells import name_role, write_list, write_user_ids
from roster_store.csv_export.layouts import Version, gather_extras, list_files, list_manifest, make_layout
from roster_store.feed import Cursor
from roster_store.settings import StoreSettings

PATH = "/v1/exports/oneroster.zip"
ISSUER = TestIssuer()
Table = list[dict[str, str]]


@pytest.fixture
async def client(settings: StoreSettings, database: Database) -> AsyncIterator[httpx2.AsyncClient]:
    """A caller without a token."""
    assert database is not None
    async with calling(make_app(settings, ISSUER.verifier)) as client:
        yield client


def unpack(content: bytes) -> dict[str, Table]:
    """The files of a set, and that they are all there is."""
    found: dict[str, Table] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        for name in archive.namelist():
            assert "/" not in name
            lines = archive.read(name).decode()
            assert lines.count("\r\n") == lines.count("\n") == lines.count("\r")
            found[name.removesuffix(".csv")] = list(csv.DictReader(io.StringIO(lines, newline="")))
    modes = {row["propertyName"]: row["value"] for row in found.pop("manifest")}
    said = {name.removeprefix("file.") for name, mode in modes.items() if mode in ("bulk", "delta")}
    assert said == set(found), "the manifest names exactly the files that are there"
    return found


async def export(client: httpx2.AsyncClient, headers: Mapping[str, str], **params: Any) -> dict[str, Table]:
    """A set as somebody gets it."""
    answer = await client.get(PATH, params=params, headers=headers)
    assert answer.status_code == 200, answer.text
    return unpack(answer.content) | {"cursor": answer.headers["Homeroom-Cursor"]}


async def refused(client: httpx2.AsyncClient, headers: Mapping[str, str], **params: Any) -> tuple[int, str]:
    """How somebody is refused."""
    answer = await client.get(PATH, params=params, headers=headers)
    return answer.status_code, answer.json()["code"]


def reader(gateway: Gateway, **token: Any) -> dict[str, str]:
    """Somebody who may read the rosters of an organization."""
    return ISSUER.headers(["roster.read"], organization_id=gateway.organization_id, **token)


@pytest.mark.parametrize("version", ["1.1", "1.2"])
async def test_a_set_is_the_roster(client: httpx2.AsyncClient, gateway: Gateway, version: Version) -> None:
    """A bulk set holds every active record with blank status and date; what was removed and what is empty is absent."""
    odd = student(4, "=cmd()", username="o'neil, p", user_ids=(UserId(type="SIS", identifier="9"),), pronouns="they")
    await gateway.apply(together(ROSTER, {"users": [odd]}))
    await gateway.apply({}, {"enrollments": ["enrollment-3-1"]})
    found = await export(client, reader(gateway), version=version)

    assert set(found) - {"cursor"} == {"orgs", "classes", "users", "enrollments"} | ({"roles"} & set(found))
    assert ("roles" in found) == (version == "1.2")
    people = {row["sourcedId"]: row for row in found["users"]}
    assert people["user-4"]["givenName"] == "=cmd()"
    assert (people["user-4"]["userIds"], people["user-4"]["username"]) == ("{SIS:9}", "o'neil, p")
    assert people["user-1"]["metadata.house"] == "blue"
    assert {row["sourcedId"] for row in found["enrollments"]} == {"enrollment-1-1", "enrollment-2-1"}
    assert {(row["status"], row["dateLastModified"]) for rows in (found["users"], found["orgs"]) for row in rows} == {
        ("", "")
    }
    if version == "1.2":
        [role] = [row for row in found["roles"] if row["userSourcedId"] == "user-4"]
        assert (role["role"], role["roleType"], role["orgSourcedId"]) == ("student", "primary", "org-North")
        assert people["user-4"]["primaryOrgSourcedId"] == "org-North"
    else:
        assert (people["user-4"]["role"], people["user-4"]["orgSourcedIds"]) == ("student", "org-North")


async def test_a_set_since_another_holds_what_changed(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """With the cursor of a set, the next one says what was added, changed and removed, and nothing when nothing was."""
    await gateway.apply(ROSTER)
    first = await export(client, reader(gateway), version="1.1")
    nothing = await export(client, reader(gateway), version="1.1", since=first["cursor"])
    assert set(nothing) == {"cursor"}

    await gateway.apply({"users": [student(1, "Mia")]}, {"enrollments": ["enrollment-3-1"]})
    for version in ("1.1", "1.2"):
        second = await export(client, reader(gateway), version=version, since=nothing["cursor"])
        assert [(row["sourcedId"], row["status"]) for row in second["enrollments"]] == [
            ("enrollment-3-1", "tobedeleted")
        ]
        assert second["enrollments"][0]["dateLastModified"].endswith("Z")
        assert "orgs" not in second
        if version == "1.1":
            assert [(row["sourcedId"], row["givenName"], row["status"]) for row in second["users"]] == [
                ("user-1", "Mia", "active")
            ]
        else:  # only all of their roles say what people are
            assert {row["status"] for row in (*second["users"], *second["roles"])} == {""}
            assert len(second["users"]) == 3


async def test_cursors_that_miss_something_are_refused(
    client: httpx2.AsyncClient, gateway: Gateway, database: Database
) -> None:
    """A cursor from before what was forgotten, or ahead of everything, or made up, never gives a set with gaps."""
    await gateway.apply(ROSTER)
    old = (await export(client, reader(gateway)))["cursor"]
    await gateway.apply({"users": [student(1, "Mia")]})
    new = (await export(client, reader(gateway)))["cursor"]
    await database.fetch("INSERT INTO feed_horizon SELECT no, 2 FROM integration")
    assert await refused(client, reader(gateway), since=old) == (410, Code.CURSOR_EXPIRED)
    assert set(await export(client, reader(gateway), since=new)) == {"cursor"}
    assert await refused(client, reader(gateway), since=str(Cursor(10**6))) == (400, Code.CURSOR_INVALID)
    assert await refused(client, reader(gateway), since="nonsense") == (400, Code.CURSOR_INVALID)


async def test_one_roster_at_a_time(client: httpx2.AsyncClient, gateway: Gateway, neighbour: Gateway) -> None:
    """Who sees several rosters must say which; nobody gets one that is not theirs."""
    neighbour.organization_id = gateway.organization_id
    await gateway.apply(ROSTER)
    await neighbour.apply(campus("South", 70))
    answer = await client.get(PATH, headers=reader(gateway))
    assert (answer.status_code, answer.json()["code"]) == (422, Code.REQUEST_INVALID)
    assert set(answer.json()["integrations"]) == {gateway.integration_id, neighbour.integration_id}

    found = await export(client, reader(gateway), integration=neighbour.integration_id)
    assert [row["name"] for row in found["orgs"]] == ["South"]
    stranger = ISSUER.headers(["roster.read"], organization_id="00000000-0000-0000-0000-000000000001")
    assert await refused(client, stranger, integration=gateway.integration_id) == (404, Code.NOT_FOUND)


async def test_a_product_gets_what_it_is_licensed_for(
    client: httpx2.AsyncClient, gateway: Gateway, database: Database
) -> None:
    """Schools and fields of a license bound a product's set; demographics need their scope besides."""
    told = Demographics(sourced_id="user-1", birth_date=date(2015, 4, 1), frl_status="Reduced", iep_status=True)
    await gateway.apply(together(ROSTER, campus("South", 70), {"demographics": [told]}))
    granted = await license_product(database, gateway.organization_id, schools=("org-North",), grants=("demographics",))
    scopes = ["roster.read", "demographics.read"]
    found = await export(client, ISSUER.headers(scopes, product_id=granted.product_id), version="1.1")

    assert [row["name"] for row in found["orgs"]] == ["North"]
    assert {row["sourcedId"] for row in found["users"]} == {"user-1", "user-2", "user-3"}
    assert {(row["email"], row["grades"]) for row in found["users"]} == {("", "")}
    assert not any(header.startswith("metadata.") for header in found["users"][0])
    [flags] = found["demographics"]
    assert (flags["metadata.frl_status"], flags["metadata.iep_status"], flags["birthDate"]) == (
        "Reduced", "true", "2015-04-01",
    )  # fmt: skip
    without = await export(client, ISSUER.headers(["roster.read"], product_id=granted.product_id), version="1.1")
    assert "demographics" not in without


async def test_changed_terms_need_a_whole_set(client: httpx2.AsyncClient, gateway: Gateway, database: Database) -> None:
    """Once other schools or fields are licensed, changes since an earlier set do not tell everything."""
    await gateway.apply(ROSTER)
    granted = await license_product(database, gateway.organization_id)
    as_product = ISSUER.headers(["roster.read"], product_id=granted.product_id)
    before = (await export(client, as_product))["cursor"]
    await license_product(database, gateway.organization_id, id=granted.id, product_id=granted.product_id, grants=())
    assert await refused(client, as_product, since=before) == (410, Code.CURSOR_EXPIRED)
    after = (await export(client, as_product))["cursor"]
    assert set(await export(client, as_product, since=after)) == {"cursor"}


async def test_exports_leave_room_for_others(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Beyond so many archives at once callers are asked to come back, and a refusal gives no place away."""
    await gateway.apply(ROSTER)
    with archives.take_place(), archives.take_place():
        answer = await client.get(PATH, headers=reader(gateway))
        assert (answer.status_code, answer.json()["code"]) == (503, Code.BUSY)
        assert int(answer.headers["Retry-After"]) > 0
    assert await refused(client, reader(gateway), since=str(Cursor(10**6))) == (400, Code.CURSOR_INVALID)
    answers = await asyncio.gather(*(client.get(PATH, headers=reader(gateway)) for _ in range(2)))
    assert {answer.status_code for answer in answers} == {200}


# ── layouts and cells ─────────────────────────────────────────────────────────────────────────────────────────────

HEADERS = {
    ("1.1", "users"): "sourcedId,status,dateLastModified,enabledUser,orgSourcedIds,role,username,userIds,givenName,"
    "familyName,middleName,identifier,email,sms,phone,agentSourcedIds,grades,password",
    ("1.2", "users"): "sourcedId,status,dateLastModified,enabledUser,username,userIds,givenName,familyName,middleName,"
    "identifier,email,sms,phone,agentSourcedIds,grades,password,userMasterIdentifier,preferredGivenName,"
    "preferredMiddleName,preferredFamilyName,primaryOrgSourcedId,pronouns",
    ("1.2", "roles"): "sourcedId,status,dateLastModified,userSourcedId,roleType,role,beginDate,endDate,orgSourcedId,"
    "userProfileSourcedId",
    ("1.1", "classes"): "sourcedId,status,dateLastModified,title,grades,courseSourcedId,classCode,classType,location,"
    "schoolSourcedId,termSourcedIds,subjects,subjectCodes,periods",
    ("1.1", "courses"): "sourcedId,status,dateLastModified,schoolYearSourcedId,title,courseCode,grades,orgSourcedId,"
    "subjects,subjectCodes",
    ("1.1", "orgs"): "sourcedId,status,dateLastModified,name,type,identifier,parentSourcedId",
    ("1.1", "academicSessions"): "sourcedId,status,dateLastModified,title,type,startDate,endDate,parentSourcedId,"
    "schoolYear",
    ("1.2", "enrollments"): "sourcedId,status,dateLastModified,classSourcedId,schoolSourcedId,userSourcedId,role,"
    "primary,beginDate,endDate",
    ("1.1", "demographics"): "sourcedId,status,dateLastModified,birthDate,sex,americanIndianOrAlaskaNative,asian,"
    "blackOrAfricanAmerican,nativeHawaiianOrOtherPacificIslander,white,demographicRaceTwoOrMoreRaces,"
    "hispanicOrLatinoEthnicity,countryOfBirthCode,stateOfBirthAbbreviation,cityOfBirth,publicSchoolResidenceStatus",
}


@pytest.mark.parametrize(("version", "name"), HEADERS)
def test_headers_are_those_of_the_specification(version: Version, name: str) -> None:
    """Every file begins with the specification's columns in its order, and metadata come last."""
    layout = make_layout(name, version, "bulk", [] if name == "roles" else gather_extras(["b", "a"]))
    further = () if name == "roles" else ("metadata.b", "metadata.a")
    assert layout.header == (*HEADERS[version, name].split(","), *further)


def test_a_manifest_names_every_file() -> None:
    """All 13 names of 1.1 and all 21 of 1.2 are in the manifest, absent where there is no file."""
    assert (len(list_files("1.1")), len(list_files("1.2"))) == (13, 21)
    rows = dict(list_manifest("1.2", {"orgs": "bulk"}))  # type: ignore[arg-type]  # rows of two texts
    assert (rows["oneroster.version"], rows["file.orgs"], rows["file.userProfiles"]) == ("1.2", "bulk", "absent")


def test_roles_of_a_version() -> None:
    """1.1 gets one role and its own words; 1.2 every role, and administrators told apart by where they are."""
    roles = (
        Role(role="administrator", org_sourced_id="d", role_type="primary"),
        Role(role="administrator", org_sourced_id="s"),
        Role(role="counselor", org_sourced_id="s", begin_date=date(2026, 8, 1)),
    )
    record = {"sourced_id": "u", "roles": [{"role": one.role, "roleType": one.role_type,
              "orgSourcedId": one.org_sourced_id} for one in roles]}  # fmt: skip
    rows = list(make_layout("roles", "1.2", "bulk", schools=["s"]).render([record]))
    assert [(row[4], row[5], row[8]) for row in rows] == [
        ("primary", "districtAdministrator", "d"),
        ("secondary", "siteAdministrator", "s"),
        ("secondary", "counselor", "s"),
    ]
    assert len({row[0] for row in rows}) == 3
    assert name_role("u", record["roles"][0]) == rows[0][0]  # type: ignore[index]  # a list of dicts


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1), max_size=4))
def test_lists_can_be_read_again(parts: list[str]) -> None:
    """Whatever is in the parts of a list, a CSV reader takes the cell apart into the same parts."""
    cell = write_list(parts)
    assert (next(csv.reader([cell]), []) if cell else []) == parts


def test_ids_that_can_not_be_written_are_left_out() -> None:
    """An id that would be taken apart wrongly is not written at all."""
    ids = [{"type": "a:b", "identifier": "1"}, {"type": "c", "identifier": "}"}, {"type": "d", "identifier": "x:y,z"}]
    assert write_user_ids(ids) == "{d:x:y,z}"


async def test_an_archive_is_written_as_it_is_read() -> None:
    """A hundred thousand rows leave in pieces, so that nobody ever holds the whole file."""
    rows = [[f"id-{number:07}", "x" * 40] for number in range(1_000)]

    async def batches() -> AsyncIterator[list[list[str]]]:
        for _ in range(100):
            yield rows

    async def entries() -> AsyncIterator[Entry]:
        yield Entry("users.csv", ("a", "b"), batches(), list, large=True)

    pieces = [piece async for piece in write_archive(entries(), datetime(2026, 11, 22, tzinfo=UTC))]
    assert len(pieces) > 3
    assert max(map(len, pieces)) < 200_000
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.read("users.csv").count(b"\r\n") == 100_001
