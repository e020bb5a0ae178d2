"""CSV sets cut off, scrambled and enormous: nothing crashes, nobody is lost, everything is counted (C3, C14, C15)."""

from __future__ import annotations

import resource
import shutil
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from homeroom.codes import Code
from homeroom.messages import Options, UploadRef
from provider_gateway.failures import ProviderError
from provider_gateway.providers.contract import Connection, Opening, Proof, Source
from provider_gateway.providers.oneroster_csv import OneRosterCsv
from provider_gateway.readers import Readers
from provider_gateway.scope import Scope

MANIFEST = b"oneroster.version,1.1\r\n" + b"".join(
    b"file.%s,bulk\r\n" % name
    for name in (b"orgs", b"academicSessions", b"courses", b"classes", b"users", b"enrollments")
)
SMALL = {
    "manifest.csv": MANIFEST,
    "orgs.csv": b"sourcedId,name,type\r\ns1,North,school\r\ns2,S\xc3\xbcd,school\r\n",
    "academicSessions.csv": b"sourcedId,title,type,startDate,endDate\ny,Year,schoolYear,2026-08-01,2027-08-01\n",
    "courses.csv": b"sourcedId,title\nc1,Latin\n",
    "classes.csv": b'sourcedId,title,schoolSourcedId,termSourcedIds\nk1,"Latin ""A""",s1,"y"\nk2,Latin B,s2,y\n',
    "users.csv": (
        b'"sourcedId","role","username","givenName","familyName","orgSourcedIds"\r\n'
        b'"u1","student","ada","Ada","One","s1"\r\n"u2","teacher","eve","Eve","Two","s1,s2"\r\n'
    ),
    "enrollments.csv": (
        b"sourcedId,classSourcedId,schoolSourcedId,userSourcedId,role\ne1,k1,s1,u1,student\ne2,k2,s2,u2,teacher\n"
    ),
}
CODES = {Code.ZIP_UNSAFE, Code.CSV_MANIFEST, Code.CSV_HEADER, Code.CSV_ENCODING, Code.CSV_DELTA_GAP}


class OneSet:
    """Uploads of which there is one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def fetch(self, integration_id: str, upload_id: str, into: Path) -> Path:
        """That one."""
        assert (integration_id, upload_id) == ("integration", "upload")
        assert into.name == "set"
        return self.path


@asynccontextmanager
async def opened(path: Path, workspace: Path, readers: Readers | None = None) -> AsyncIterator[Source]:
    """A source that reads a set for the first time."""
    unused: Any = None
    now = datetime.now(UTC)
    opening = Opening(
        integration_id="integration", connection=Connection({}, {}), options=Options(), sis=None, client=unused,
        readers=readers or Readers(0), uploads=OneSet(path), upload=UploadRef(id="upload", number=1, received_at=now),
        mode="full", bookmark=None, began=now, today=date(2026, 9, 1), workspace=workspace, page_size=1_000,
        pages_in_flight=3,
    )  # fmt: skip
    async with OneRosterCsv().open(opening) as source:
        yield source


async def read(path: Path, workspace: Path) -> dict[str, tuple[int, Proof]] | Code:
    """Rows and proof of each collection, or the code the set is refused with."""
    shutil.rmtree(workspace / "set", ignore_errors=True)
    found = {}
    try:
        async with opened(path, workspace) as source:
            for collection in source.collections:
                served = 0
                async for page in source.pages(collection, Scope(Options(), date(2026, 9, 1))):
                    served += page.received
                    taken = len(page.canonical) + len(page.left_out) + len(page.tombstones) + len(page.refused)
                    assert taken == page.received
                found[collection] = (served, source.proof(collection))
            await source.finish({})
    except ProviderError as error:
        return error.code
    return found


@pytest.mark.parametrize("name", SMALL)
async def test_a_file_cut_off_at_any_byte_proves_nobody_gone(tmp_path: Path, name: str) -> None:
    """A cut file of a folder ends with a code or with the doubt that keeps everybody, wherever a row is cut."""
    # One that is cut behind a row, or within its last cell, can't be told from one that ends there; the inbox only
    # hands on files that arrived whole.
    folder, workspace = tmp_path / "folder", tmp_path / "workspace"
    folder.mkdir()
    workspace.mkdir()
    for file, content in SMALL.items():
        (folder / file).write_bytes(content)
    whole = SMALL[name]
    collection = name.removesuffix(".csv")
    commas = whole.partition(b"\n")[0].count(b",")
    for size in range(len(whole)):
        (folder / name).write_bytes(whole[:size])
        found = await read(folder, workspace)
        if isinstance(found, Code):
            assert found in CODES
            continue
        last = whole[:size].rpartition(b"\n")[2]
        if last and last.count(b",") < commas and collection != "manifest":
            assert b"\n" not in whole[:size] or found[collection][1] is Proof.COUNTS, whole[:size]


async def test_a_zip_cut_off_at_any_byte_is_refused(tmp_path: Path) -> None:
    """Every cut of a zip is noticed."""
    path, workspace = tmp_path / "set.zip", tmp_path / "workspace"
    workspace.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in SMALL.items():
            archive.writestr(name, content)
    whole = path.read_bytes()
    assert not isinstance(await read(path, workspace), Code)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert await read(path, workspace) is Code.ZIP_UNSAFE


@given(
    st.sampled_from([name for name in SMALL if name != "manifest.csv"]),
    st.lists(st.sampled_from([b'"', b",", b"\n", b"\r", b"\0", b"\xff", b"u1", b"\xc3", b"active", b"{"]), max_size=12),
    st.integers(0, 200),
)
@example("users.csv", [b'"'], 140)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_scrambled_files_never_crash(tmp_path: Path, name: str, pieces: list[bytes], at: int) -> None:
    """Whatever bytes get into a file, it is read with every row accounted for, or refused with a code."""
    folder, workspace = tmp_path / "folder", tmp_path / "workspace"
    folder.mkdir(exist_ok=True)
    workspace.mkdir(exist_ok=True)
    for file, content in SMALL.items():
        (folder / file).write_bytes(content)
    (folder / name).write_bytes(SMALL[name][:at] + b"".join(pieces) + SMALL[name][at:])
    found = await read(folder, workspace)
    assert not isinstance(found, Code) or found in CODES


# ── a million rows ────────────────────────────────────────────────────────────────────────────────────────────────

ROWS = 1_000_000
DAMAGE = {
    101: b"e%d,k1,s1\n",  # ragged
    103: b'e%d,k1,s1,u1,"student\n',  # a quote that is never closed
    107: b"e%d,k1,s1,u\0,student\n",  # NUL
    109: b"e%d,k1,s1,,student\n",  # no user
    113: b"e%d,k1,s1,u1,wizard\n",  # an unknown role
}
"""Every so many rows one that can't be taken."""


def write_rows() -> Iterator[bytes]:
    """A million enrollments, some of them damaged, in pieces."""
    yield SMALL["enrollments.csv"].partition(b"\n")[0] + b"\n"
    for start in range(0, ROWS, 1_000):
        yield b"".join(
            next((row for every, row in DAMAGE.items() if number % every == 0), b"e%d,k1,s1,u1,student\n") % number
            for number in range(start, start + 1_000)
        )


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_million_rows_are_counted_exactly(tmp_path: Path) -> None:
    """Of a million rows the damaged ones are quarantined, all others come, and memory does not grow with them."""
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in SMALL.items():
            if name != "enrollments.csv":
                archive.writestr(name, content)
        with archive.open("enrollments.csv", "w", force_zip64=True) as file:
            for piece in write_rows():
                file.write(piece)
    damaged = sum(any(number % every == 0 for every in DAMAGE) for number in range(ROWS))
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    peak = 0
    served = good = refused = 0
    async with Readers.open(2) as readers, opened(path, workspace, readers) as source:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async for page in source.pages("enrollments", Scope(Options(), date(2026, 9, 1))):
            served += page.received
            good += len(page.canonical)
            refused += len(page.refused)
            assert all(problem.sourced_id for problem in page.refused)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert source.proof("enrollments") is Proof.WHOLE
    assert (served, good, refused) == (ROWS, ROWS - damaged, damaged)
    assert peak < 60_000 * (1 if sys.platform == "linux" else 1_024)
