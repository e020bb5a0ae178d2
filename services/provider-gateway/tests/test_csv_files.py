# ruff: noqa: E501 - the headers stand here as they stand in the specification, each on one line
"""The parts of a CSV set, one by one: archives, manifests, headers, blocks, lines (reliability facts §3.2 C3, C4)."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.codes import Code
from provider_gateway.failures import ProviderError
from provider_gateway.providers._csv_blocks import MAX_LINE, Block, cut_blocks, read_first_line
from provider_gateway.providers._csv_headers import COLUMNS, REQUIRED, read_header
from provider_gateway.providers._csv_lines import split_lines
from provider_gateway.providers._csv_manifest import Part, judge_part, read_manifest
from provider_gateway.providers._csv_package import MAX_ENTRIES, Package, open_package
from provider_gateway.providers._csv_rows import read_user_ids, split_list


def code_of(work: Callable[[], object]) -> Code | None:
    """What a piece of work is refused with."""
    try:
        work()
    except ProviderError as error:
        return error.code
    return None


def read_all(path: Path, name: str, **limits: int) -> bytes:
    """A file of a set."""
    package = open_package(path, **limits)
    with package.open(name) as stream:
        content = b""
        while chunk := stream.read(10_000):
            content += chunk
        return content


# ── archives ──────────────────────────────────────────────────────────────────────────────────────────────────────


def write_zip(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip of these entries, whatever they are."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def make_link() -> zipfile.ZipInfo:
    """An entry that is a symbolic link."""
    info = zipfile.ZipInfo("users.csv")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


UNSAFE: dict[str, list[tuple[str | zipfile.ZipInfo, bytes]]] = {
    "a path out of it": [("../users.csv", b"a")],
    "a path out of it, from Windows": [("..\\users.csv", b"a")],
    "an absolute path": [("/etc/users.csv", b"a")],
    "a drive": [("C:\\users.csv", b"a")],
    "a link": [(make_link(), b"/etc/passwd")],
    "a nested archive": [("users.csv", b"a"), ("more.zip", b"PK")],
    "a packed file": [("users.csv.gz", b"a")],
    "two of a name but for case": [("users.csv", b"a"), ("Users.CSV", b"b")],
    "the same file in two folders": [("a/users.csv", b"a"), ("b/users.csv", b"b")],
    "too many entries": [(f"{number}.txt", b"") for number in range(MAX_ENTRIES + 1)],
}


@pytest.mark.parametrize("case", UNSAFE)
def test_an_archive_that_is_not_safe_is_refused(tmp_path: Path, case: str) -> None:
    """Whatever has no place in a plain zip of files ends with ZIP_UNSAFE before anything is read (C4)."""
    assert code_of(lambda: open_package(write_zip(tmp_path / "set.zip", *UNSAFE[case]))) is Code.ZIP_UNSAFE


def patch(path: Path, signature: bytes, offset: int, value: bytes) -> Path:
    """Change bytes of the first structure with a signature."""
    content = bytearray(path.read_bytes())
    at = content.index(signature) + offset
    content[at : at + len(value)] = value
    path.write_bytes(content)
    return path


CENTRAL = b"PK\x01\x02"
LOCAL = b"PK\x03\x04"
END = b"PK\x05\x06"


@pytest.mark.parametrize(
    ("signature", "offset", "value"),
    [
        (CENTRAL, 8, struct.pack("<H", 1)),  # encrypted
        (CENTRAL, 10, struct.pack("<H", 12)),  # bzip2
        (CENTRAL, 10, struct.pack("<H", 99)),  # nobody's method
        (END, 12, struct.pack("<I", 0xF0000000)),  # a directory of gigabytes
        (END, 8, struct.pack("<HH", 9, 9)),  # more entries than there are: only the directory counts
    ],
)
def test_lies_in_an_archive_do_not_get_far(tmp_path: Path, signature: bytes, offset: int, value: bytes) -> None:
    """An archive that is encrypted, packed in an unusual way or lies about its directory is refused or read rightly."""
    path = patch(write_zip(tmp_path / "set.zip", ("users.csv", b"a" * 100)), signature, offset, value)
    found = code_of(lambda: read_all(path, "users"))
    assert found is Code.ZIP_UNSAFE or read_all(path, "users") == b"a" * 100


def read_slowly(package: Package) -> None:
    """Read a file in small pieces."""
    with package.open("users") as stream:
        while stream.read(10_000):
            pass


def test_a_bomb_is_noticed_while_it_is_read(tmp_path: Path) -> None:
    """A file that unpacks to more than a hundred times its size ends with ZIP_UNSAFE, and is not read to its end."""
    path = write_zip(tmp_path / "set.zip", ("users.csv", bytes(50_000_000)))
    package = open_package(path)
    assert code_of(lambda: read_all(path, "users")) is Code.ZIP_UNSAFE
    assert code_of(lambda: read_slowly(package)) is Code.ZIP_UNSAFE
    assert package.unpacked < 10_000_000


def test_a_bomb_that_lies_about_its_size_is_noticed_too(tmp_path: Path) -> None:
    """Sizes in headers are not believed: what comes out is counted, and checked against the checksum."""
    path = write_zip(tmp_path / "set.zip", ("users.csv", bytes(50_000_000)))
    patch(path, CENTRAL, 24, struct.pack("<I", 1_000))
    assert code_of(lambda: read_all(path, "users")) is Code.ZIP_UNSAFE


def test_the_whole_set_has_a_limit(tmp_path: Path) -> None:
    """All files of a set together may unpack to so much, in a zip and in a folder."""
    noise = zlib.compress(bytes(range(256)) * 100)
    path = write_zip(tmp_path / "set.zip", ("users.csv", noise), method=zipfile.ZIP_STORED)
    assert code_of(lambda: read_all(path, "users", max_bytes=100)) is Code.ZIP_UNSAFE
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "users.csv").write_bytes(noise)
    assert code_of(lambda: read_all(folder, "users", max_bytes=100)) is Code.UPLOAD_TOO_LARGE


@given(st.data())
def test_a_damaged_archive_never_gives_other_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever byte of an archive is changed or cut off, a file comes out whole or ends with ZIP_UNSAFE."""
    path = tmp_path_factory.mktemp("zip") / "set.zip"
    content = b"sourcedId,name\n1,North\n" * 20
    write_zip(path, ("users.csv", content))
    whole = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        whole[at] ^= data.draw(st.integers(1, 255))
    else:
        del whole[at:]
    path.write_bytes(whole)
    try:
        package = open_package(path)
        if "users" in package.members:
            assert read_all(path, "users") == content
    except ProviderError as error:
        assert error.code is Code.ZIP_UNSAFE  # noqa: PT017 - either of two ways is right


def test_a_folder_within_a_zip_and_what_macs_add_are_fine(tmp_path: Path) -> None:
    """Files may lie in one folder; resource forks and hidden files are left alone, other files are noted."""
    path = write_zip(
        tmp_path / "set.zip",
        ("export/", b""), ("export/USERS.csv", b"u"), ("__MACOSX/export/._USERS.csv", b"x"), ("export/.DS_Store", b"x"),
        ("export/readme.txt", b"x"),
    )  # fmt: skip
    package = open_package(path)
    assert list(package.members) == ["users"]
    assert package.ignored == ("export/readme.txt",)
    assert read_all(path, "users") == b"u"


def test_links_in_a_folder_are_refused(tmp_path: Path) -> None:
    """A link in an uploaded folder is not followed."""
    (tmp_path / "users.csv").symlink_to("/etc/hostname")
    assert code_of(lambda: open_package(tmp_path)) is Code.ZIP_UNSAFE


def test_a_folder_with_one_zip_is_that_zip(tmp_path: Path) -> None:
    """The inbox hands over a zip in a folder of its own; CSV files beside it leave open which is meant."""
    write_zip(tmp_path / "set.zip", ("users.csv", b"u"))
    assert open_package(tmp_path).zipped
    (tmp_path / "orgs.csv").write_bytes(b"o")
    assert code_of(lambda: open_package(tmp_path)) is Code.CSV_MANIFEST


# ── manifests ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_manifest_may_be_untidy() -> None:
    """Rows in any order and case, quotes, a byte order mark, CRLF and no last line end change nothing."""
    content = '\ufeff"file.users","Bulk"\r\nFILE.ENROLLMENTS,delta\r\nfile.orgs,\r\n"oneroster.version","1.1"\r\npropertyName,value'
    manifest = read_manifest(content.encode())
    assert manifest.minor == 1
    assert manifest.modes == {"users": "bulk", "enrollments": "delta", "orgs": ""}


@pytest.mark.parametrize(("version", "minor"), [("1.1", 1), ("1.2", 2), ("1.2.1", 2), ("v1.1", 1)])
def test_versions_that_are_read(version: str, minor: int) -> None:
    """OneRoster 1.1 and 1.2, also with a correction's number, are read."""
    assert read_manifest(f"oneroster.version,{version}".encode()).minor == minor


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", Code.CSV_MANIFEST),
        (b"propertyName,value\noneroster.version,1.0\n", Code.CSV_MANIFEST),
        (b"oneroster.version,2.0", Code.CSV_MANIFEST),
        (b"oneroster.version,1.1\nfile.users,sometimes", Code.CSV_MANIFEST),
        (b'oneroster.version,"1.1', Code.CSV_MANIFEST),
        (b"x" * 200_000, Code.CSV_MANIFEST),
        ("oneroster.version,1.1".encode("utf-16"), Code.CSV_ENCODING),
        (b"oneroster.version,1.1\nsource.systemName,Sch\xfcle", Code.CSV_ENCODING),
    ],
)
def test_manifests_that_are_not_read(content: bytes, code: Code) -> None:
    """A manifest that is empty, of another version, with unknown words, broken or of another encoding is refused."""
    assert code_of(lambda: read_manifest(content)) is code


@given(st.binary(max_size=200))
def test_no_manifest_crashes(content: bytes) -> None:
    """Any bytes are a manifest or are refused with a code."""
    assert code_of(lambda: read_manifest(content)) in {None, Code.CSV_MANIFEST, Code.CSV_ENCODING}


@pytest.mark.parametrize(
    ("mode", "rows", "dated", "part"),
    [
        ("bulk", True, False, Part.BULK),
        ("bulk", True, True, Part.BULK),
        ("bulk", False, False, Part.BULK),
        ("", True, False, Part.BULK),
        ("delta", True, True, Part.DELTA),
        ("delta", True, False, Part.BULK),
        ("delta", False, False, Part.DELTA),
        ("absent", True, False, Part.LEFTOVER),
        ("absent", True, True, Part.LEFTOVER),
        ("absent", False, False, None),
    ],
)
def test_data_win_over_the_manifest(mode: str, rows: bool, dated: bool, part: Part | None) -> None:
    """What a file is shows in its rows where the manifest contradicts it, and in doubt it proves nobody gone."""
    assert judge_part(mode, rows=rows, dated=dated) is part


# ── headers ───────────────────────────────────────────────────────────────────────────────────────────────────────

EXACT = {
    "academicSessions": "sourcedId,status,dateLastModified,title,type,startDate,endDate,parentSourcedId,schoolYear",
    "orgs": "sourcedId,status,dateLastModified,name,type,identifier,parentSourcedId",
    "courses": "sourcedId,status,dateLastModified,schoolYearSourcedId,title,courseCode,grades,orgSourcedId,subjects,subjectCodes",
    "classes": "sourcedId,status,dateLastModified,title,grades,courseSourcedId,classCode,classType,location,schoolSourcedId,termSourcedIds,subjects,subjectCodes,periods",
    "enrollments": "sourcedId,status,dateLastModified,classSourcedId,schoolSourcedId,userSourcedId,role,primary,beginDate,endDate",
    "demographics": "sourcedId,status,dateLastModified,birthDate,sex,americanIndianOrAlaskaNative,asian,blackOrAfricanAmerican,nativeHawaiianOrOtherPacificIslander,white,demographicRaceTwoOrMoreRaces,hispanicOrLatinoEthnicity,countryOfBirthCode,stateOfBirthAbbreviation,cityOfBirth,publicSchoolResidenceStatus",
    "roles": "sourcedId,status,dateLastModified,userSourcedId,roleType,role,beginDate,endDate,orgSourcedId,userProfileSourcedId",
}
USERS = {
    "1.1": "sourcedId,status,dateLastModified,enabledUser,orgSourcedIds,role,username,userIds,givenName,familyName,middleName,identifier,email,sms,phone,agentSourcedIds,grades,password",
    "1.2": "sourcedId,status,dateLastModified,enabledUser,username,userIds,givenName,familyName,middleName,identifier,email,sms,phone,agentSourcedIds,grades,password,userMasterIdentifier,resourceSourcedIds,preferredGivenName,preferredMiddleName,preferredFamilyName,primaryOrgSourcedId,pronouns",
    "1.2.1": "sourcedId,status,dateLastModified,enabledUser,username,userIds,givenName,familyName,middleName,identifier,email,sms,phone,agentSourcedIds,grades,password,userMasterIdentifier,preferredGivenName,preferredMiddleName,preferredFamilyName,primaryOrgSourcedId,pronouns",
}
ALL_HEADERS = [*EXACT.items(), *(("users", header) for header in USERS.values())]
UNREAD = {"password", "resourceSourcedIds", "userProfileSourcedId"}


@pytest.mark.parametrize(("collection", "header"), ALL_HEADERS)
def test_every_header_of_the_specification_is_read(collection: str, header: str) -> None:
    """Each column of 1.1, 1.2 and 1.2.1 is found where it stands, and none becomes metadata; passwords are not read."""
    layout = read_header(collection, f"{header}\r\n".encode())
    names = header.split(",")
    assert dict(layout.columns) == {name: at for at, name in enumerate(names) if name not in UNREAD}
    assert layout.metadata == ()
    assert layout.width == len(names)


@pytest.mark.parametrize(("collection", "header"), ALL_HEADERS)
def test_headers_may_be_untidy(collection: str, header: str) -> None:
    """Another order, another case, blanks, quotes and a byte order mark change nothing; metadata may stand anywhere."""
    names = header.split(",")
    untidy = [f'" {name.upper()} "' for name in reversed(names)]
    line = "\ufeff" + ",".join([untidy[0], "metadata.SDS_x", *untidy[1:], "ext_y", ""])
    layout = read_header(collection, line.encode())
    found = dict(layout.columns)
    assert found.keys() == set(names) - UNREAD
    assert all(untidy[at - (at > 0)] == f'" {name.upper()} "' for name, at in found.items())
    assert layout.metadata == (("SDS_x", 1), ("ext_y", len(names) + 1))


@pytest.mark.parametrize(("collection", "header"), [*EXACT.items(), ("users", USERS["1.1"])])
def test_a_missing_column_is_named(collection: str, header: str) -> None:
    """Without a column that must have values a file is refused, and the column is named."""
    for name in REQUIRED[collection]:
        others = [column for column in header.split(",") if column != name]
        with pytest.raises(ProviderError, match=f"{collection}.csv.*{name}") as caught:
            read_header(collection, ",".join(others).encode())
        assert caught.value.code is Code.CSV_HEADER


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", Code.CSV_HEADER),
        (b"\n", Code.CSV_HEADER),
        (b"sourcedId,name,type,NAME", Code.CSV_HEADER),
        (b"sourcedId;name;type", Code.CSV_HEADER),
        (b'sourcedId,"name,type', Code.CSV_HEADER),
        (b"1,North,school", Code.CSV_HEADER),
        (b"x" * 70_000, Code.CSV_HEADER),
        ("sourcedId,name,type".encode("utf-16"), Code.CSV_ENCODING),
        ("sourcedId,name,type".encode("utf-16-le"), Code.CSV_ENCODING),
        ("sourcedId,name,type,größe".encode("cp1252"), Code.CSV_ENCODING),
    ],
)
def test_headers_that_are_not_read(line: bytes, code: Code) -> None:
    """A header that is missing, doubled, not separated by commas or of another encoding is refused, not guessed at."""
    assert code_of(lambda: read_header("orgs", line)) is code


@pytest.mark.parametrize(
    ("collection", "synonym", "name"),
    [
        ("users", "orgSourcedId", "orgSourcedIds"),
        ("users", "userId", "userIds"),
        ("courses", "schoolYearId", "schoolYearSourcedId"),
        ("demographics", "birthdate", "birthDate"),
        ("classes", "termSourcedId", "termSourcedIds"),
    ],
)
def test_names_of_older_versions_are_understood(collection: str, synonym: str, name: str) -> None:
    """A column of OneRoster 1.0 counts as what it became, unless that is there too: then it is metadata."""
    header = {**EXACT, "users": USERS["1.1"]}[collection].split(",")
    old = [synonym if column == name else column for column in header]
    assert read_header(collection, ",".join(old).encode()).find(name) == header.index(name)
    if synonym.lower() != name.lower():
        both = read_header(collection, ",".join([*header, synonym]).encode())
        assert both.find(name) == header.index(name)
        assert both.metadata == ((synonym, len(header)),)


# ── blocks and lines ──────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line), max_size=30), st.integers(1, 64))
def test_blocks_are_the_file(lines: list[bytes], size: int) -> None:
    """Cut into blocks of whole lines, a file is still itself but for its first line, whatever the size of the reads."""
    content = b"\n".join(lines)
    first = read_first_line(io.BytesIO(content))
    blocks = list(cut_blocks(io.BytesIO(content), size, skip_first=True))
    assert first + b"".join(block.body for block in blocks) == content
    assert all(block.body.endswith(b"\n") != block.open_end for block in blocks)
    assert not any(block.open_end for block in blocks[:-1])


class Endless:
    """A file with one row, then a line of a gigabyte, then another row."""

    def __init__(self, size: int) -> None:
        self.parts = [b"h\n1,a\n2,", *([b"x" * 1_000_000] * (size // 1_000_000)), b"\n3,c\n"]

    def read(self, size: int) -> bytes:
        """The next bytes."""
        part = self.parts.pop(0) if self.parts else b""
        if len(part) > size:
            self.parts.insert(0, part[size:])
        return part[:size]


def test_a_line_of_a_gigabyte_is_one_damaged_row() -> None:
    """A cell beyond all size is never held: only its beginning is looked at, and the next row is read."""
    largest = 0
    found = []
    for block in cut_blocks(Endless(1_000_000_000), skip_first=True):
        largest = max(largest, len(block.body))
        found.append((block.endless, block.body[:4]))
    assert found == [(False, b"1,a\n"), (True, b"2,xx"), (False, b"3,c\n")]
    assert largest <= MAX_LINE


@pytest.mark.parametrize(
    ("line", "sourced_id"),
    [
        ("2,b", "2"),
        ("2,b,c,d", "2"),
        ('2,"b,c', "2"),
        ('2,"b"x,c', "2"),
        ('"2,b,c', None),
        ("2", None),
        ("2,b\rc,d", "2"),
        ("2," + "x" * 70_000 + ",c", "2"),
    ],
)
def test_a_damaged_row_harms_no_other(line: str, sourced_id: str | None) -> None:
    """A ragged row, a quote that is never closed and a cell beyond all size are one refused row, named if possible."""
    found = split_lines(f"1,a,b\n{line}\n3,c,d\n", 3, 0)
    assert found.rows == [["1", "a", "b"], ["3", "c", "d"]]
    assert [(one.code, one.sourced_id) for one in found.refused] == [(Code.CSV_ROW, sourced_id)]


def test_a_zero_byte_spoils_its_row_only() -> None:
    """A row with NUL is refused as text that can't be stored."""
    found = split_lines("1,a\n2,\0\n\0,c\n", 2, 0)
    assert found.rows == [["1", "a"]]
    assert [(one.code, one.sourced_id) for one in found.refused] == [(Code.BAD_TEXT, "2"), (Code.BAD_TEXT, None)]


def test_lines_that_are_no_rows() -> None:
    """Blank lines, lines of commas and commas at the end of every row are nothing; line ends may be mixed."""
    found = split_lines('1,a,,\r\n\n,,\n"",""\r\n2,"b ""x"""\n   \n\x1a', 2, 0)
    assert found.rows == [["1", "a"], ["2", 'b "x"']]
    assert found.refused == []


@given(st.text(max_size=80), st.integers(1, 4))
def test_every_line_is_accounted_for(text: str, width: int) -> None:
    """Whatever a text holds, each of its lines is a row, a refused row or blank, and nothing crashes."""
    found = split_lines(text, width, 0)
    lines = text.replace("\r\n", "\n").split("\n")
    blank = sum(not line.strip(", \t\r\x1a") or line == ",".join(['""'] * width) for line in lines)
    assert len(lines) - blank >= found.received >= sum(line.strip(', "\t\r\x1a') != "" for line in lines)
    assert all(len(row) == width for row in found.rows)


@pytest.mark.parametrize(
    ("cell", "parts"),
    [("a,b", ["a", "b"]), (" a , b ", ["a", "b"]), ('"a, b",c', ["a, b", "c"]), ('5" disk', ['5" disk'])],
)
def test_lists(cell: str, parts: list[str]) -> None:
    """A list is split at commas; a part may be in quotes of its own."""
    assert split_list(cell) == parts


@pytest.mark.parametrize(
    ("cell", "ids"),
    [
        ("{SIS:1}", [("SIS", "1")]),
        ("{SIS:1},{Fed:a:b}", [("SIS", "1"), ("Fed", "a:b")]),
        ("SIS:1", [("SIS", "1")]),
        ("12", [("", "12")]),
        ("{}", [("", "")]),
    ],
)
def test_user_ids(cell: str, ids: list[tuple[str, str]]) -> None:
    """Identifiers are {type:identifier}; without braces or type they are taken for what they can be."""
    assert [(one.type, one.identifier) for one in read_user_ids(cell)] == ids


def test_all_columns_are_those_of_the_specification() -> None:
    """The columns that are known are exactly those of the specification's headers."""
    named: dict[str, set[str]] = {"users": set()} | {
        collection: set(header.split(",")) for collection, header in EXACT.items()
    }
    for header in USERS.values():
        named["users"] |= set(header.split(","))
    assert {collection: set(columns) for collection, columns in COLUMNS.items()} == named


def test_blocks_carry_their_kind() -> None:
    """A block is plain unless it says otherwise."""
    assert Block(b"x") == Block(b"x", endless=False, open_end=False)
