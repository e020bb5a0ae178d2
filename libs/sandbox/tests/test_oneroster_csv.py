"""The CSV sets: headers, modes and cells as the bindings have them, and the oddities that were asked for."""

import csv
import io
import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import httpx2
import pytest

from sandbox_district import District, running_sandbox
from sandbox_district.csv_layout import FILES, HEADERS
from sandbox_district.oneroster_csv import Oddities, write_set

VERSIONS = ("1.1", "1.2")


@pytest.fixture(name="district")
def found_district() -> District:
    return District(students=60)


def read_set(path: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of each file of a folder or zip."""
    if path.is_dir():
        texts = {file.name: file.read_bytes() for file in path.iterdir()}
    else:
        with ZipFile(path) as archive:
            texts = {name: archive.read(name) for name in archive.namelist()}
    return {
        name.rpartition("/")[2].removesuffix(".csv"): list(csv.DictReader(io.StringIO(text.decode("utf-8-sig"))))
        for name, text in texts.items()
    }


def read_manifest(rows: list[dict[str, str]]) -> dict[str, str]:
    return {row["propertyName"]: row["value"] for row in rows}


def read_header(path: Path) -> str:
    return path.read_bytes().decode().split("\r\n")[0]


def alive(rows: list[dict[str, str]]) -> set[str]:
    return {row["sourcedId"] for row in rows}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["set", "set.zip"])
def test_bulk(district: District, tmp_path: Path, version: Any, name: str) -> None:
    """A bulk set has every active record, blank status and date, and a manifest that names every file."""
    district.advance_day()
    files = read_set(write_set(district, tmp_path / name, version=version))
    for collection, records in district.truth().items():
        assert alive(files[collection]) == records
        assert {(row["status"], row["dateLastModified"]) for row in files[collection]} == {("", "")}
    manifest = read_manifest(files.pop("manifest"))
    assert manifest["oneroster.version"] == version
    said = {key.removeprefix("file."): value for key, value in manifest.items() if key.startswith("file.")}
    assert set(said) == set(FILES[version])
    assert len(said) == {"1.1": 13, "1.2": 21}[version]
    assert {name for name, value in said.items() if value == "bulk"} == set(files)
    assert set(said.values()) == {"bulk", "absent"}


@pytest.mark.parametrize("version", VERSIONS)
def test_headers(district: District, tmp_path: Path, version: Any) -> None:
    """The columns are the specification's, in its order, and whatever else there is follows as metadata."""
    folder = write_set(district, tmp_path / "set", version=version)
    for name, header in HEADERS[version].items():
        columns = read_header(folder / f"{name}.csv").split(",")
        assert tuple(columns[: len(header)]) == header
        assert all(column.startswith("metadata.") for column in columns[len(header) :])
    marks = read_header(folder / "demographics.csv")
    assert "publicSchoolResidenceStatus,metadata.CL.lep" in marks
    assert "metadata.frl-status" in marks


def test_cells(district: District, tmp_path: Path) -> None:
    """Lists, identifiers, flags, references and metadata are written as the binding and exporters have them."""
    files = read_set(write_set(district, tmp_path / "set"))
    students = {row["sourcedId"]: row for row in files["users"]}
    for key, user in district.active("users").items():
        row = students[key]
        assert row["orgSourcedIds"].split(",") == [org["sourcedId"] for org in user["orgs"]]
        assert row["enabledUser"] == str(user["enabledUser"]).lower()
        assert row["userIds"] == ",".join(f"{{{one['type']}:{one['identifier']}}}" for one in user["userIds"])
        assert row["agentSourcedIds"] == ",".join(agent["sourcedId"] for agent in user["agents"])
        if user["role"] == "student":
            assert json.loads(row["metadata.vendor"]) == user["metadata"]["vendor"]
            assert row["metadata.vendor.lunchCode"] == user["metadata"]["vendor.lunchCode"]
    (section, *_) = files["classes"]
    assert section["termSourcedIds"]
    assert section["metadata.vendor.capacity"] == "26"


@pytest.mark.parametrize("version", VERSIONS)
def test_no_password_is_ever_written(district: District, tmp_path: Path, version: Any) -> None:
    """The district has passwords, and no file has one."""
    assert any(user.get("password") for user in district.active("users").values())
    folder = write_set(district, tmp_path / "set", version=version, oddities=Oddities(filled=True))
    assert all(b"picture-of-a-duck" not in file.read_bytes() for file in folder.iterdir())
    assert {row["password"] for row in read_set(folder)["users"]} == {""}


def test_roles_are_a_file_of_their_own(district: District, tmp_path: Path) -> None:
    """In 1.2 every org of a user is a row of roles, one of them primary, and users have neither role nor orgs."""
    files = read_set(write_set(district, tmp_path / "set", version="1.2"))
    assert not {"role", "orgSourcedIds"} & set(files["users"][0])
    for key, user in district.active("users").items():
        rows = [row for row in files["roles"] if row["userSourcedId"] == key]
        assert [row["orgSourcedId"] for row in rows] == [org["sourcedId"] for org in user["orgs"]]
        assert [row["roleType"] for row in rows].count("primary") == 1
    assert len(alive(files["roles"])) == len(files["roles"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("since", [0, 1, 2])
def test_deltas_lead_from_day_to_day(tmp_path: Path, version: Any, since: int) -> None:
    """A delta on top of an earlier day's set makes today's; each of its rows says whether it is there, since when."""
    district = District(students=60)
    held: dict[str, set[str]] = {}
    for day in range(4):
        if day == since:
            bulk = read_set(write_set(district, tmp_path / "bulk", version=version))
            held = {name: alive(bulk[name]) for name in HEADERS[version]}
        if day < 3:
            district.advance_day()
    files = read_set(write_set(district, tmp_path / "delta", version=version, kind="delta", since_day=since))
    today = read_set(write_set(district, tmp_path / "today", version=version))
    for name in HEADERS[version]:
        for row in files[name]:
            assert row["status"] in {"active", "tobedeleted"}
            assert row["dateLastModified"].endswith("Z")
            (held[name].add if row["status"] == "active" else held[name].discard)(row["sourcedId"])
        assert held[name] == alive(today[name])
    assert len(files["users"]) < len(today["users"])
    assert any(row["status"] == "tobedeleted" for row in files["users"])


def test_deltas_tell_of_roles_that_ended(tmp_path: Path) -> None:
    """A user who leaves one of two orgs has that role deleted in a 1.2 delta, and the other active."""
    district = District(students=20)
    key, user = next((key, user) for key, user in district.active("users").items() if len(user["orgs"]) == 2)
    stays, leaves = user["orgs"]
    district.change(lambda: district.amend("users", key, orgs=[stays]))
    files = read_set(write_set(district, tmp_path / "delta", version="1.2", kind="delta"))
    assert {(row["orgSourcedId"], row["status"]) for row in files["roles"]} == {
        (stays["sourcedId"], "active"),
        (leaves["sourcedId"], "tobedeleted"),
    }


def test_mixed_sets(tmp_path: Path) -> None:
    """Some files may be deltas and the others whole; the manifest says which, and roles go with users."""
    district = District(students=20)
    district.advance_day()
    target = write_set(district, tmp_path / "set.zip", version="1.2", kind={"users": "delta", "enrollments": "delta"})
    files = read_set(target)
    manifest = read_manifest(files["manifest"])
    assert [manifest[f"file.{name}"] for name in ("users", "roles", "enrollments", "orgs")] == ["delta"] * 3 + ["bulk"]
    assert {row["status"] for row in files["users"]} >= {"active"}
    assert alive(files["classes"]) == set(district.active("classes"))


def test_same_bytes(tmp_path: Path) -> None:
    """The same district makes the same bytes."""
    one, two = [write_set(District(students=20), tmp_path / f"{name}.zip") for name in "ab"]
    assert one.read_bytes() == two.read_bytes()


def test_oddities(district: District, tmp_path: Path) -> None:
    """A BOM, line ends, quotes, letter cases, a folder and columns in the middle come as asked, with the same rows."""
    plain = read_set(write_set(district, tmp_path / "plain"))["orgs"]
    odd = Oddities(
        bom=True, line_ends="mixed", no_last_line_end=True, quote_all=True, header_case="upper", file_case="lower",
        folder="export", metadata_inside=True, filled=True, header_only=frozenset({"courses"}),
        left_out=frozenset({"demographics"}), manifest={"users": "delta", "orgs": "absent"},
    )  # fmt: skip
    with ZipFile(write_set(district, tmp_path / "odd.zip", oddities=odd)) as archive:
        names = archive.namelist()
        orgs = archive.read("export/orgs.csv")
        courses = archive.read("export/courses.csv")
        manifest = archive.read("export/manifest.csv").decode("utf-8-sig")
    assert "export/academicsessions.csv" in names
    assert "export/demographics.csv" not in names
    assert orgs.startswith(b'\xef\xbb\xbf"SOURCEDID","STATUS","DATELASTMODIFIED","METADATA.VENDOR.REGION","NAME"')
    assert b"\r\n" in orgs
    assert b"\n" in orgs.replace(b"\r\n", b"")
    assert not orgs.endswith(b"\n")
    assert courses.count(b"\n") == 0
    assert '"file.users","delta"' in manifest
    assert '"file.orgs","absent"' in manifest
    assert '"file.demographics","bulk"' in manifest
    rows = list(csv.DictReader(io.StringIO(orgs.decode("utf-8-sig"))))
    assert {row["SOURCEDID"] for row in rows} == alive(plain)
    assert {row["STATUS"] for row in rows} == {"active"}


async def test_set_over_http() -> None:
    """The sandbox gives sets over HTTP, bulk and delta, and says no to nonsense."""
    async with running_sandbox(District(students=20)) as sandbox, httpx2.AsyncClient(base_url=sandbox.url) as http:
        answer = await http.get("/sandbox/csv", params={"version": "1.2"})
        assert answer.headers["content-type"] == "application/zip"
        with ZipFile(io.BytesIO(answer.content)) as archive:
            assert "roles.csv" in archive.namelist()
        sandbox.district.advance_day()
        answer = await http.get("/sandbox/csv", params={"kind": "delta", "since_day": 0})
        with ZipFile(io.BytesIO(answer.content)) as archive:
            assert b"tobedeleted" in archive.read("users.csv")
        for nonsense in ({"version": "2.0"}, {"kind": "most"}, {"since": 1}):
            assert (await http.get("/sandbox/csv", params=nonsense)).status_code == 400
