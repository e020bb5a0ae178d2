"""What the store exports as OneRoster CSV, the gateway reads back as the same roster (F1, A4)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from msgspec.structs import replace
from played_gateway import Gateway, RecordingBus
from pydantic import SecretStr

from homeroom.db import Database
from homeroom.messages import Options, UploadRef
from homeroom.migrate import migrate
from homeroom.roster import (
    AcademicSession,
    Class,
    Course,
    Demographics,
    Enrollment,
    Org,
    Record,
    Role,
    User,
    UserId,
    encode_record,
)
from homeroom.secrets import generate_key
from homeroom.testing.tokens import TestIssuer, calling
from provider_gateway.providers.contract import Connection, Opening, Source
from provider_gateway.providers.oneroster_csv import OneRosterCsv
from provider_gateway.readers import Readers
from provider_gateway.scope import Scope
from roster_store.app import make_app
from roster_store.changes import ChangeConsumer
from roster_store.settings import StoreSettings
from roster_store.sights import WORK

ISSUER = TestIssuer()
OPTIONS = Options(sync_parents=True, sync_demographics=True)
TODAY = date(2026, 9, 1)
ALIKE: dict[str, list[Record]] = {
    "orgs": [
        Org(sourced_id="d", name='Ekeby "Unified"', type="district", identifier="nces-1"),
        Org(sourced_id="s1", name="North, Upper", type="school", parent_sourced_id="d", metadata={"phase": "K-8"}),
    ],
    "academicSessions": [
        AcademicSession(
            sourced_id="t1", title="Autumn", type="semester", start_date=date(2026, 8, 20), end_date=date(2027, 1, 15),
            school_year="2027",
        ),
    ],
    "courses": [
        Course(
            sourced_id="c1", title="Änglar & algebra", course_code="MA1", school_year_sourced_id="t1",
            org_sourced_id="d", grades=("05", "06"), subjects=("Math, applied", 'The "new" one'),
            subject_codes=("02",),
        ),
        Course(sourced_id="c2", title="=SUM(A1:A9)"),
    ],
    "classes": [
        Class(
            sourced_id="k1", title="5A", school_sourced_id="s1", class_code="5A-1", class_type="scheduled",
            location="Room 4", course_sourced_id="c1", term_sourced_ids=("t1",), grades=("05",),
            subjects=("Math, applied",), subject_codes=("02",), periods=("1", "3"), metadata={"Room": "Ö4", "x": "1"},
        ),
    ],
    "users": [
        User(
            sourced_id="u1", given_name="Mila", family_name="Ek", username="mila", middle_name="J",
            identifier="17", email="mila@north.example", sms="+46701", phone="018", grades=("05",),
            roles=(Role(role="student", org_sourced_id="s1", role_type="primary"),), enabled_user=False,
            user_ids=(UserId(type="SIS", identifier="0017"), UserId(type="state", identifier="a,b")),
            agent_sourced_ids=("u3",), metadata={"house": 'the "blue", one'},
        ),
        User(
            sourced_id="u2", given_name="", family_name="Ö", username="o",
            roles=(Role(role="teacher", org_sourced_id="s1", role_type="primary"),
                   Role(role="teacher", org_sourced_id="d")),
        ),
        User(
            sourced_id="u3", given_name="Pia", family_name="Ek", agent_sourced_ids=("u1",),
            roles=(Role(role="parent", org_sourced_id="s1", role_type="primary"),),
        ),
    ],
    "enrollments": [
        Enrollment(
            sourced_id="e1", user_sourced_id="u1", class_sourced_id="k1", school_sourced_id="s1", role="student",
            begin_date=date(2026, 8, 20), end_date=date(2027, 1, 15),
        ),
        Enrollment(
            sourced_id="e2", user_sourced_id="u2", class_sourced_id="k1", school_sourced_id="s1", role="teacher",
            primary=True,
        ),
        Enrollment(sourced_id="e3", user_sourced_id="u2", class_sourced_id="k1", school_sourced_id="s1", role="aide"),
    ],
    "demographics": [
        Demographics(
            sourced_id="u1", birth_date=date(2015, 4, 1), sex="female", white=True, asian=False,
            hispanic_or_latino_ethnicity=True, country_of_birth_code="SE", frl_status="Reduced", iep_status=True,
            ell_status=False, metadata={"frl_status": "Reduced", "iep_status": "true", "ell_status": "false"},
        ),
    ],
}  # fmt: skip
"""What both versions have words for."""
NEWER: dict[str, list[Record]] = {
    "users": [
        User(
            sourced_id="u4", given_name="Al", family_name="By", username="al", preferred_first_name="Ally",
            preferred_middle_name="Q", preferred_last_name="Bye", pronouns="they/them", user_master_identifier="m-4",
            roles=(Role(role="teacher", org_sourced_id="s1", role_type="primary", begin_date=date(2026, 8, 1)),
                   Role(role="siteAdministrator", org_sourced_id="d", end_date=date(2027, 6, 1))),
        ),
    ],
    "demographics": [Demographics(sourced_id="u4", sex="unspecified")],
}  # fmt: skip
"""What only 1.2 can say."""


class OneSet:
    """Uploads of which there is one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def fetch(self, integration_id: str, upload_id: str, into: Path) -> Path:
        """That one."""
        del integration_id, upload_id, into
        return self.path


@asynccontextmanager
async def opened(path: Path, workspace: Path) -> AsyncIterator[Source]:
    """A set as the gateway reads it."""
    unused: Any = None
    now = datetime.now(UTC)
    opening = Opening(
        integration_id="integration", connection=Connection({}, {}), options=OPTIONS, sis=None, client=unused,
        readers=Readers(0), uploads=OneSet(path), upload=UploadRef(id="upload", number=1, received_at=now),
        mode="full", bookmark=None, began=now, today=TODAY, workspace=workspace, page_size=1_000, pages_in_flight=3,
    )  # fmt: skip
    async with OneRosterCsv().open(opening) as source:
        yield source


def put_down(folder: Path, content: bytes) -> Path:
    """A set as a file in a folder of its own."""
    folder.mkdir()
    path = folder / "set.zip"
    path.write_bytes(content)
    return path


async def read_onto(held: dict[str, dict[str, bytes]], content: bytes, folder: Path) -> None:
    """Read a set onto what is held, as the gateway and the store together would: by key, whole files or changes."""
    path = put_down(folder, content)
    async with opened(path, folder) as source:
        for collection in source.collections:
            found, gone = {}, set()
            async for page in source.pages(collection, Scope(OPTIONS, TODAY, masked=False)):
                assert not page.refused
                assert not page.left_out
                gone.update(page.tombstones)
                ids = page.canonical.list_ids()
                found.update({one: page.canonical.encoded(number) for number, one in enumerate(ids)})
            whole = source.proof(collection).name == "WHOLE"
            kept = {} if whole else held[collection]
            held[collection] = {one: body for one, body in (kept | found).items() if one not in gone}


def encoded(roster: Mapping[str, list[Record]]) -> dict[str, dict[str, bytes]]:
    """Canonical bytes by collection and sourcedId."""
    return {name: {record.sourced_id: encode_record(record) for record in records} for name, records in roster.items()}


@pytest.mark.parametrize("version", ["1.1", "1.2"])
async def test_what_is_exported_can_be_read_again(database_url: str, version: str, tmp_path: Path) -> None:
    """A bulk set and the changes after it become the very records they were made of, byte by byte."""
    roster = {name: [*records, *(NEWER.get(name, []) if version == "1.2" else [])] for name, records in ALIKE.items()}
    await migrate(database_url, schema="roster", package="roster_store")
    settings = StoreSettings(
        database_url=SecretStr(database_url), issuer=ISSUER.issuer, store_key=SecretStr(generate_key()[0])
    )
    held: dict[str, dict[str, bytes]] = {name: {} for name in roster}
    async with (
        Database.open(database_url, schema="roster", session=WORK) as database,
        calling(make_app(settings, ISSUER.verifier), ISSUER.token(["roster.read", "demographics.read"])) as client,
    ):
        bus = RecordingBus()
        gateway = Gateway(ChangeConsumer(database, bus), bus)  # type: ignore[arg-type]  # publish is all it uses
        await gateway.apply(roster)
        first = await export(client, version=version)
        await read_onto(held, first.content, tmp_path / "first")
        assert held == encoded(roster)

        changed = replace(roster["users"][1], given_name="Ada", grades=("07",))  # type: ignore[call-arg]  # a user
        moved = replace(roster["classes"][0], title="5B")  # type: ignore[call-arg]  # a class
        await gateway.apply({"users": [changed], "classes": [moved]}, {"enrollments": ["e3"], "demographics": ["u1"]})
        then = await export(client, version=version, since=first.headers["Homeroom-Cursor"])
        await read_onto(held, then.content, tmp_path / "then")
        roster["users"][1], roster["classes"] = changed, [moved]
        roster["enrollments"].pop()
        roster["demographics"].pop(0)
        assert held == encoded(roster)


async def export(client: httpx2.AsyncClient, **params: str) -> httpx2.Response:
    """An archive as a caller gets it."""
    answer = await client.get("/v1/exports/oneroster.zip", params=params)
    assert answer.status_code == 200, msgspec.json.decode(answer.content)
    return answer
