"""Plans over HTTP: the report, and every change as a file."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx2
import pytest
from played_gateway import Gateway, campus, enrollment, school, section, student, together

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Evaluated, Fact, GuardLimits, Held, Terms
from homeroom.testing.tokens import TestIssuer, calling
from roster_store import downloads
from roster_store.app import make_app
from roster_store.downloads import COLUMNS, Filters, Source, open_download
from roster_store.plans import forget_old
from roster_store.settings import StoreSettings

ISSUER = TestIssuer()
EVALUATION = Terms(purpose="evaluation")
NASTY = {
    "given_name": "=cmd|'/C calc'!A0",
    "family_name": 'O"Brien, "Kid"',
    "preferred_first_name": "two\r\nlines",
    "preferred_last_name": "\uff1d1+1",
    "middle_name": "Zo\u00eb \u674e\u2028\u202e",
    "username": "a;=1",
}


@pytest.fixture
async def client(database: Database, settings: StoreSettings) -> AsyncIterator[httpx2.AsyncClient]:
    """A caller without a token."""
    assert database is not None
    async with calling(make_app(settings, ISSUER.verifier)) as client:
        yield client


def reader(organization_id: str | None = None) -> dict[str, str]:
    """The headers of somebody who may read rosters."""
    return ISSUER.headers(["roster.read"], organization_id=organization_id)


async def download(client: httpx2.AsyncClient, fact: Fact | str, **query: str) -> list[dict[str, str]]:
    """The lines of a run's file, as a spreadsheet reads them."""
    run_id = fact if isinstance(fact, str) else fact.run_id
    answer = await client.get(f"/v1/plans/{run_id}/changes.csv", params=query, headers=reader())
    assert answer.status_code == 200, answer.text
    assert answer.content.startswith(b"\xef\xbb\xbfcollection,change,")
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))


def shorten(lines: list[dict[str, str]], *columns: str) -> list[tuple[str, ...]]:
    """Some columns of lines."""
    return [tuple(line[column] for column in columns) for line in lines]


@pytest.fixture
async def evaluated(gateway: Gateway) -> Evaluated:
    """An evaluation with a bit of everything."""
    await gateway.apply(together(campus("North", 1), campus("South", 11)))
    fact = await gateway.sync(
        {"orgs": [school("West")], "users": [student(1, "Nora", email=None), student(9, "Ada", "South")]},
        {"users": ["user-3"]},
        configured={"users": ["user-13"]},
        served={"users": 8},
        terms=EVALUATION,
    )
    assert isinstance(fact, Evaluated)
    return fact


async def test_a_report_is_served(client: httpx2.AsyncClient, gateway: Gateway, evaluated: Evaluated) -> None:
    """Whoever may read the roster gets the report with the hash an approval would name."""
    body = (await client.get(f"/v1/plans/{evaluated.run_id}", headers=reader(gateway.organization_id))).json()

    assert (body["run_id"], body["integration_id"]) == (evaluated.run_id, gateway.integration_id)
    assert (body["plan"], body["purpose"], body["configuration"]) == (evaluated.plan, "evaluation", 1)
    assert body["collections"]["users"]["changed_fields"] == {"email": 1, "givenName": 1}
    assert [one["sourced_id"] for one in body["schools"]] == ["org-North", "org-South", "org-West"]


async def test_every_change_is_in_the_file(client: httpx2.AsyncClient, evaluated: Evaluated) -> None:
    """A line for each record that comes or goes and for each field that changes, readable without the ids."""
    lines = await download(client, evaluated)

    assert tuple(lines[0]) == COLUMNS
    columns = ("collection", "change", "reason", "sourced_id", "schools", "title", "role", "field", "before", "after")
    names = ("given_name", "family_name", "held")
    assert shorten(lines, *columns) == [
        ("orgs", "added", "", "org-West", "org-West", "West", "school", "", "", ""),
        ("users", "changed", "", "user-1", "org-North", "", "student", "givenName", "Mila", "Nora"),
        ("users", "changed", "", "user-1", "org-North", "", "student", "email", "student1@north.example", ""),
        ("users", "added", "", "user-9", "org-South", "", "student", "", "", ""),
        ("users", "removed", "configuration", "user-13", "org-South", "", "student", "", "", ""),
        ("users", "removed", "absent", "user-3", "org-North", "", "student", "", "", ""),
        ("enrollments", "removed", "reference", "enrollment-13-11", "org-South", "Maths", "student", "", "", ""),
        ("enrollments", "removed", "reference", "enrollment-3-1", "org-North", "Maths", "student", "", "", ""),
    ]
    assert set(shorten(lines[1:], *names)) == {("Nora", "Ek", "false"), ("Ada", "Ek", "false"), ("Mila", "Ek", "false")}


async def test_a_file_can_be_narrowed(client: httpx2.AsyncClient, evaluated: Evaluated) -> None:
    """Only the lines of one collection, kind of change or school, or of all three."""
    for query, found in (
        ({"collection": "orgs"}, ["org-West"]),
        ({"change": "removed", "collection": "users"}, ["user-13", "user-3"]),
        ({"school": "org-South"}, ["user-9", "user-13", "enrollment-13-11"]),
        ({"school": "org-South", "change": "added"}, ["user-9"]),
        ({"school": "nowhere"}, []),
    ):
        assert [line["sourced_id"] for line in await download(client, evaluated, **query)] == found


async def test_a_plan_stays_as_it_was_made(client: httpx2.AsyncClient, gateway: Gateway, evaluated: Evaluated) -> None:
    """The roster goes on; what was evaluated still reads as it did."""
    before = await download(client, evaluated)
    await gateway.apply({"users": [student(1, "Nora", email=None), student(9, "Ada", "South")]}, served={"users": 8})

    assert await download(client, evaluated) == before


async def test_nasty_text_arrives_as_text(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Quotes, commas, line breaks and every script survive the file; what a spreadsheet would run does not run."""
    await gateway.apply(campus("North", 1, students=1))
    fact = await gateway.sync({"users": [student(1, **{"name": NASTY["given_name"]} | {
        field: value for field, value in NASTY.items() if field != "given_name"
    })]}, terms=EVALUATION)  # fmt: skip
    lines = {line["field"]: line for line in await download(client, fact)}

    assert {field: line["after"] for field, line in lines.items()} == {
        "givenName": "'=cmd|'/C calc'!A0",
        "familyName": 'O"Brien, "Kid"',
        "preferredFirstName": "two\r\nlines",
        "preferredLastName": "'\uff1d1+1",
        "middleName": "Zo\u00eb \u674e\u2028\u202e",
        "username": "a;'=1",
    }
    assert {line["given_name"] for line in lines.values()} == {"'=cmd|'/C calc'!A0"}


async def test_lists_and_what_is_nested_can_be_read(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Words of a list are separated by commas, what is nested is JSON, yes and no are true and false."""
    await gateway.apply({"users": [student(1)]})
    changed = student(1, grades=("05", "06"), metadata={"house": "red"}, enabled_user=False)
    lines = await download(client, await gateway.sync({"users": [changed]}, terms=EVALUATION))

    assert shorten(lines, "field", "before", "after") == [
        ("metadata", '{"house":"blue"}', '{"house":"red"}'),
        ("enabledUser", "true", "false"),
        ("grades", "05", "05, 06"),
    ]


async def test_what_was_held_is_marked(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Of a run whose removals wait, exactly these say so; of a plan held as a whole, every line does."""
    strict = Terms(guard=GuardLimits(remove_least=1, small=2))
    await gateway.apply(campus("North", 1, students=6))
    removals = await gateway.sync(
        {"users": [student(9)]}, {"users": ["user-2", "user-3"]}, served={"users": 5}, terms=strict
    )
    everything = await gateway.sync({}, {}, served={"users": 0, "classes": 1}, terms=strict)

    assert isinstance(removals, Held)
    assert not removals.everything
    assert shorten(await download(client, removals), "change", "sourced_id", "held") == [
        ("added", "user-9", "false"),
        ("removed", "user-2", "true"),
        ("removed", "user-3", "true"),
        ("removed", "enrollment-2-1", "true"),
        ("removed", "enrollment-3-1", "true"),
    ]
    body = (await client.get(f"/v1/plans/{removals.run_id}", headers=reader())).json()
    assert (body["plan"], body["collections"]["users"]["held"]) == (removals.plan, 2)
    assert body["reasons"][0]["code"] == Code.GUARD_DELETE_HOLD
    assert isinstance(everything, Held)
    assert everything.everything
    assert (await client.get(f"/v1/plans/{everything.run_id}", headers=reader())).status_code == 200


async def test_an_applied_run_tells_what_it_did(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """What a run added, changed and removed, exactly, also after later runs changed the same records again."""
    await gateway.apply(together(campus("North", 1), campus("South", 11)))
    fact = await gateway.apply(
        {"users": [student(1, "Nora"), student(9)], "classes": [section(5)], "enrollments": [enrollment(9, 5)]},
        {"users": ["user-3"]},
        served={"users": 7, "classes": 3, "enrollments": 7},
    )
    first = await download(client, fact)
    await gateway.apply({"users": [student(1, "Nina"), student(3)]}, {"users": ["user-9"]}, served={"users": 7})

    expected = [
        ("classes", "added", "class-5", "org-North", "", "", ""),
        ("users", "changed", "user-1", "org-North", "givenName", "Mila", "Nora"),
        ("users", "removed", "user-3", "org-North", "", "", ""),
        ("users", "added", "user-9", "org-North", "", "", ""),
        ("enrollments", "removed", "enrollment-3-1", "org-North", "", "", ""),
        ("enrollments", "added", "enrollment-9-5", "org-North", "", "", ""),
    ]
    columns = ("collection", "change", "sourced_id", "schools", "field", "before", "after")
    assert shorten(first, *columns) == expected
    assert shorten(await download(client, fact), *columns) == expected
    assert shorten(first, "given_name", "title")[-1] == ("Mila", "Maths")
    narrow = await download(client, fact, collection="users", change="changed", school="org-North")
    assert shorten(narrow, "sourced_id") == [("user-1",)]


async def test_a_run_without_changes_has_an_empty_file(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Nothing changed: a file with its header, not an error."""
    await gateway.apply(campus("North", 1))
    fact = await gateway.apply({}, served={"users": 3})

    assert fact.apply is None
    assert await download(client, fact) == []


async def test_forgotten_history_is_gone(client: httpx2.AsyncClient, gateway: Gateway, database: Database) -> None:
    """A run whose history is not kept any more says so instead of telling half of it."""
    fact = await gateway.apply(campus("North", 1))
    no = await database.fetchval("SELECT no FROM integration")
    await database.fetch("INSERT INTO history_horizon VALUES ($1, $2)", no, fact.apply)
    answer = await client.get(f"/v1/plans/{fact.run_id}/changes.csv", headers=reader())

    assert (answer.status_code, answer.json()["code"]) == (410, Code.PLAN_GONE)


async def test_old_plans_are_forgotten(client: httpx2.AsyncClient, evaluated: Evaluated, database: Database) -> None:
    """After their days report and file are gone, with a word to say so, and no table is left."""
    assert await forget_old(database, timedelta(days=7)) == 0
    await database.fetch("UPDATE plan_report SET made_at = made_at - interval '8 days'")

    assert await forget_old(database, timedelta(days=7)) == 1
    assert await forget_old(database, timedelta(days=7)) == 0
    for path in ("", "/changes.csv"):
        answer = await client.get(f"/v1/plans/{evaluated.run_id}{path}", headers=reader())
        assert (answer.status_code, answer.json()["code"]) == (410, Code.PLAN_GONE)
    assert await database.fetchval(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'roster_staging'::regnamespace AND relkind = 'r'"
    ) == 0  # fmt: skip


async def test_a_held_plan_is_not_forgotten(gateway: Gateway, database: Database) -> None:
    """Whoever decides about a plan can look at it until it is decided."""
    await gateway.apply(campus("North", 1))
    fact = await gateway.sync({}, {}, served={"users": 0})
    assert isinstance(fact, Held)
    await database.fetch("UPDATE plan_report SET made_at = made_at - interval '8 days'")

    assert await forget_old(database, timedelta(days=7)) == 0
    await database.fetch("UPDATE hold SET state = 'expired'")
    assert await forget_old(database, timedelta(days=7)) == 1


async def test_an_applied_run_outlives_its_report(
    client: httpx2.AsyncClient, gateway: Gateway, database: Database
) -> None:
    """When the report of a partly held run is forgotten, its file tells what was applied."""
    await gateway.apply(campus("North", 1, students=6))
    fact = await gateway.sync(
        {"users": [student(9)]},
        {"users": ["user-2", "user-3"]},
        served={"users": 5},
        terms=Terms(guard=GuardLimits(remove_least=1, small=2)),
    )
    await database.fetch("UPDATE hold SET state = 'discarded'")
    await forget_old(database, timedelta(0))

    assert shorten(await download(client, fact), "change", "sourced_id") == [("added", "user-9")]


async def test_plans_of_others_do_not_exist(client: httpx2.AsyncClient, gateway: Gateway, evaluated: Evaluated) -> None:
    """Each path: no token, the wrong scope, another organization, an unknown run, a text that is no id."""
    applied = str(uuid.UUID(int=1))
    stranger = reader("00000000-0000-4000-8000-000000000000")
    paths = (evaluated.run_id, f"{evaluated.run_id}/changes.csv", f"{applied}/changes.csv")
    for path in paths:
        nobody = await client.get(f"/v1/plans/{path}")
        wrong = await client.get(f"/v1/plans/{path}", headers=ISSUER.headers(["integrations.read"]))
        other = await client.get(f"/v1/plans/{path}", headers=stranger)
        own = await client.get(f"/v1/plans/{path}", headers=reader(gateway.organization_id))
        assert [one.status_code for one in (nobody, wrong, other, own)] == [401, 403, 404, 200]
        assert other.json()["code"] == Code.NOT_FOUND
    for path in (str(uuid.uuid4()), f"{uuid.uuid4()}/changes.csv", applied):
        assert (await client.get(f"/v1/plans/{path}", headers=reader())).status_code == 404
    assert (await client.get("/v1/plans/x", headers=reader())).status_code == 422


async def test_a_wrong_question_gets_a_reason(client: httpx2.AsyncClient, evaluated: Evaluated) -> None:
    """What can't be asked for is refused with a code."""
    for query in ({"collection": "people"}, {"change": "updated"}, {"school": "a\0b"}, {"school": "x" * 2_001}):
        answer = await client.get(f"/v1/plans/{evaluated.run_id}/changes.csv", params=query, headers=reader())
        assert (answer.status_code, answer.json()["code"]) == (422, Code.REQUEST_INVALID)


async def test_files_are_streamed(gateway: Gateway, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file comes in parts of a batch each, read one after the other: what is in memory is a batch, not the file."""
    monkeypatch.setattr(downloads, "BATCH", 10)
    await gateway.apply({"orgs": [school()]})
    await gateway.sync({"users": [student(number) for number in range(95)]}, terms=EVALUATION, chunk_records=50)
    fetch_no = await database.fetchval("SELECT max(fetch_no) FROM plan_report")
    file = await open_download(database, Source(plan=fetch_no), Filters(), "changes.csv")
    sizes = [part.count(b"\r\n") async for part in file.body_iterator]  # type: ignore[union-attr]  # bytes, as made
    await file.close()

    assert sizes == [1, *[10] * 9, 5]


async def test_only_some_download_at_once(
    client: httpx2.AsyncClient, evaluated: Evaluated, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Downloads leave connections to others: one too many is told to come back, and may once another has ended."""
    monkeypatch.setattr(downloads, "MOST_DOWNLOADS", 1)
    fetch_no = await database.fetchval("SELECT max(fetch_no) FROM plan_report")
    file = await open_download(database, Source(plan=fetch_no), Filters(), "changes.csv")
    busy = await client.get(f"/v1/plans/{evaluated.run_id}/changes.csv", headers=reader())
    await file.close()

    assert (busy.status_code, busy.json()["code"], busy.headers["retry-after"]) == (503, Code.BUSY, "10")
    assert len(await download(client, evaluated)) == 8
    assert len(await download(client, evaluated)) == 8
