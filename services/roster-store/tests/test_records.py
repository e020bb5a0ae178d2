"""Records made and edited by hand, beside syncs (C9)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx2
import pytest
from played_gateway import Gateway, enrollment, school, section, student

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Applied, Bookmark
from homeroom.roster import Demographics, Record, encode_record, fingerprint
from homeroom.testing.tokens import TestIssuer, calling
from roster_store.app import make_app
from roster_store.feed import Cursor, FeedEvent, read_page
from roster_store.settings import StoreSettings
from roster_store.sights import Rosters
from roster_store.tables import TABLES

ISSUER = TestIssuer()
PATH = "/v1/roster/records"
DISTRICT: dict[str, list[Any]] = {
    "orgs": [school()],
    "classes": [section(1), section(2)],
    "users": [student(1), student(2)],
    "enrollments": [enrollment(1, 1), enrollment(2, 1), enrollment(1, 2)],
}
TEACHER = {"givenName": "Nadia", "familyName": "Berg", "roles": [{"role": "teacher", "orgSourcedId": "org-North"}]}


@pytest.fixture
async def client(gateway: Gateway, settings: StoreSettings) -> AsyncIterator[httpx2.AsyncClient]:
    """Somebody who may change the roster of the gateway's organization."""
    headers = ISSUER.headers(
        ["roster.read", "roster.write", "demographics.read"], organization_id=gateway.organization_id
    )
    async with calling(make_app(settings, ISSUER.verifier)) as client:
        client.headers.update(headers)
        yield client


async def read_held(database: Database) -> dict[str, dict[str, int]]:
    """What the gateway is told is held: fingerprints by collection and sourcedId."""
    return {
        collection: {
            row["sourced_id"]: row["fingerprint"]
            for row in await database.fetch(
                f"SELECT sourced_id, fingerprint FROM {table.name} WHERE active AND origin = 'synced'"  # noqa: S608 - a name of our own
            )
        }
        for collection, table in TABLES.items()
    }


async def sync_whole(
    database: Database, gateway: Gateway, district: Mapping[str, Sequence[Record]], **messages: Any
) -> Applied:
    """A full sync as the gateway makes one: it sends what differs from what it is told is held."""
    held = await read_held(database)
    upserts, removals = {}, {}
    for collection, records in district.items():
        marks = {one.sourced_id: fingerprint(encode_record(one)) for one in records}
        upserts[collection] = [one for one in records if held[collection].get(one.sourced_id) != marks[one.sourced_id]]
        removals[collection] = [one for one in held[collection] if one not in marks]
    served = {collection: len(records) for collection, records in district.items()}
    removals = {collection: ids for collection, ids in removals.items() if ids}
    return await gateway.apply(upserts, removals, served=served, **messages)


async def read_events(database: Database, rosters: Rosters) -> list[FeedEvent]:
    """The whole feed of the platform."""
    page = await read_page(database, rosters, Cursor(), 1_000)
    assert not page.more
    return page.events


async def read_actives(database: Database, collection: str) -> set[str]:
    """The sourcedIds of a collection's active records."""
    rows = await database.fetch(f"SELECT sourced_id FROM {TABLES[collection].name} WHERE active")  # noqa: S608 - a name of our own
    return {row["sourced_id"] for row in rows}


async def make(client: httpx2.AsyncClient, collection: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Make a record by hand."""
    answer = await client.post(f"{PATH}/{collection}", json=fields)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_manual_records_outlive_syncs(client: httpx2.AsyncClient, database: Database, gateway: Gateway) -> None:
    """What was made by hand is there after three full syncs as it was made, and what was edited is the SIS's again."""
    await sync_whole(database, gateway, DISTRICT)
    teacher = await make(client, "users", TEACHER)
    made = await make(client, "classes", {"title": "Chess", "schoolSourcedId": "org-North"})
    await make(
        client,
        "enrollments",
        {"userSourcedId": teacher["sourced_id"], "classSourcedId": made["sourced_id"], "role": "teacher"},
    )
    edited = await client.patch(
        f"{PATH}/users/user-1", json={"familyName": "Other", "email": None}, headers={"If-Match": '"1"'}
    )
    assert (edited.status_code, edited.json()["restored_by"]) == (200, "next sync")
    assert (edited.json()["origin"], edited.json()["version"]) == ("synced", 2)
    assert (edited.json()["record"]["familyName"], "email" in edited.json()["record"]) == ("Other", False)

    for _ in range(3):
        fact = await sync_whole(database, gateway, DISTRICT)
        assert {name: part.removed for name, part in fact.collections.items() if part.removed} == {}
    answer = await client.get(f"{PATH}/users/user-1")
    assert (answer.json()["record"]["familyName"], answer.json()["restored_by"]) == ("Ek", None)
    kept = await client.get(f"{PATH}/users/{teacher['sourced_id']}")
    assert kept.json() == teacher
    assert (kept.json()["origin"], kept.headers["etag"]) == ("manual", '"1"')
    assert len(await read_actives(database, "enrollments")) == 4


async def test_changes_by_hand_are_told(
    client: httpx2.AsyncClient, database: Database, gateway: Gateway, rosters: Rosters
) -> None:
    """Each change by hand is a step of the feed, in its place among syncs, and the totals are right."""
    await sync_whole(database, gateway, DISTRICT)
    before = len(await read_events(database, rosters))
    teacher = await make(client, "users", {**TEACHER, "sourcedId": "t-1"})
    again = await client.post(f"{PATH}/users", json={**TEACHER, "sourcedId": "t-1"})
    assert (again.status_code, again.json()) == (201, teacher), "the same again changes nothing"
    await make(client, "enrollments", {"userSourcedId": "t-1", "classSourcedId": "class-1", "role": "teacher"})
    totals = await database.fetchrow("SELECT students, teachers, classes FROM integration")
    gone = await client.delete(f"{PATH}/users/t-1", headers={"If-Match": "*"})
    assert (gone.status_code, gone.json()) == (200, {"along": {"enrollments": 1}})

    told = [found.event for found in (await read_events(database, rosters))]
    kinds = [event.type for event in told if event.subject.startswith(("users/t-1", "enrollments/manual"))]
    assert kinds == ["homeroom.enrollment.removed.v1", "homeroom.user.removed.v1"]
    assert len(told) > before
    assert totals is not None
    assert tuple(totals.values()) == (2, 1, 2)
    assert await database.fetchval("SELECT teachers FROM integration") == 0


async def test_a_manual_record_stands_before_a_synced_one(
    client: httpx2.AsyncClient, database: Database, gateway: Gateway
) -> None:
    """A sync that brings the id of a manual record leaves it, says so, counts right, and brings it once it is gone."""
    await sync_whole(database, gateway, {**DISTRICT, "users": [student(1)], "enrollments": [enrollment(1, 1)]})
    await make(client, "users", {**TEACHER, "sourcedId": "user-2"})
    bookmark = Bookmark(at=(await sync_whole(database, gateway, {"orgs": [school()]})).at, canonical=1, increments=True)
    fact = await sync_whole(database, gateway, DISTRICT, bookmark=bookmark)

    assert [(one.code, one.sourced_id) for one in fact.issues] == [(Code.MANUAL_KEPT, "user-2")]
    report = fact.collections["users"]
    assert (report.served, report.added, report.filtered, report.unchanged) == (2, 0, 1, 1)
    assert fact.bookmark is not None
    assert not fact.bookmark.increments, "once the manual one is gone, changes alone would not bring the synced one"
    assert (await client.get(f"{PATH}/users/user-2")).json()["record"]["givenName"] == "Nadia"

    assert (await client.delete(f"{PATH}/users/user-2", headers={"If-Match": "*"})).status_code == 200
    fact = await sync_whole(database, gateway, DISTRICT, bookmark=bookmark)
    assert (fact.collections["users"].added, fact.collections["enrollments"].added, fact.issues) == (1, 1, ())
    assert (await client.get(f"{PATH}/users/user-2")).json()["origin"] == "synced"
    assert fact.bookmark is not None
    assert fact.bookmark.increments


async def test_followers_go_and_come_back(
    client: httpx2.AsyncClient, database: Database, gateway: Gateway, rosters: Rosters
) -> None:
    """A manual enrollment or demographics go with their class or person and come back with them; deleted ones not."""
    await sync_whole(database, gateway, DISTRICT)
    extra = {"userSourcedId": "user-2", "classSourcedId": "class-2", "role": "student"}
    stays = (await make(client, "enrollments", extra))["sourced_id"]
    deleted = (await make(client, "enrollments", extra))["sourced_id"]
    await client.delete(f"{PATH}/enrollments/{deleted}", headers={"If-Match": '"1"'})
    await make(client, "demographics", {"sourcedId": "user-2", "frlStatus": "Reduced"})
    fewer = {**DISTRICT, "users": [student(1)], "enrollments": [enrollment(1, 1), enrollment(1, 2)]}
    fact = await sync_whole(database, gateway, fewer)
    assert (fact.collections["enrollments"].removed, fact.collections["demographics"].removed) == (2, 1)
    assert stays not in await read_actives(database, "enrollments")
    assert await read_actives(database, "demographics") == set()

    await sync_whole(database, gateway, DISTRICT)
    assert await read_actives(database, "enrollments") == {
        "enrollment-1-1",
        "enrollment-2-1",
        "enrollment-1-2",
        stays,
    }
    assert await read_actives(database, "demographics") == {"user-2"}
    told = [found.event for found in await read_events(database, rosters)]
    places = [f"{event.type.split('.')[1]} {event.subject}" for event in told if event.subject]
    assert places.index("user users/user-2") < places.index(f"enrollment enrollments/{stays}")


async def test_manual_records_may_come_first(client: httpx2.AsyncClient, database: Database, gateway: Gateway) -> None:
    """Records made before anything was ever applied are no obstacle to the first sync, not even with the same ids."""
    gateway.basis = 0
    await gateway.consumer.handle(gateway.messages({"orgs": [school()]})[:1])  # begun, and then never heard of
    await make(client, "orgs", {"sourcedId": "org-North", "name": "By hand", "type": "school"})
    fact = await sync_whole(database, gateway, DISTRICT)

    assert fact.collections["orgs"].filtered == 1
    assert (await client.get(f"{PATH}/orgs/org-North")).json()["record"]["name"] == "By hand"
    assert len(await read_actives(database, "users")) == 2


REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("users", "unknown field", {**TEACHER, "shoeSize": 3}, "shoeSize"),
    ("users", "password", {**TEACHER, "password": "x"}, "password"),
    ("users", "unknown field of a role", {**TEACHER, "roles": [{**TEACHER["roles"][0], "x": 1}]}, "roles.0.x"),  # type: ignore[dict-item,index]  # of TEACHER's own shape
    ("users", "no role", {**TEACHER, "roles": []}, "roles"),
    ("users", "no such role", {**TEACHER, "roles": [{"role": "wizard", "orgSourcedId": "org-North"}]}, "roles.0.role"),
    ("users", "too long", {**TEACHER, "givenName": "x" * 2_001}, "givenName"),
    ("users", "NUL", {**TEACHER, "metadata": {"a": ["x\0"]}}, "metadata"),
    ("users", "wrong type", {**TEACHER, "givenName": 3}, "givenName"),
    ("users", "an id for no path", {**TEACHER, "sourcedId": "a/b"}, "sourcedId"),
    ("classes", "no title", {"title": "", "schoolSourcedId": "org-North"}, "title"),
    ("enrollments", "ends first", {"userSourcedId": "user-1", "classSourcedId": "class-1", "role": "student",
                                   "beginDate": "2026-02-01", "endDate": "2026-01-01"}, "endDate"),
    ("orgs", "no such type", {"name": "X", "type": "castle"}, "type"),
]  # fmt: skip


async def test_bad_records_are_refused_with_their_fields(
    client: httpx2.AsyncClient, database: Database, gateway: Gateway
) -> None:
    """Whatever a provider's record would be refused for is refused here too, by field, without its value."""
    await sync_whole(database, gateway, DISTRICT)
    for collection, why, fields, wrong in REFUSED:
        answer = await client.post(f"{PATH}/{collection}", json=fields)
        assert (answer.status_code, answer.json()["code"]) == (422, Code.REQUEST_INVALID), why
        assert [one["field"] for one in answer.json()["errors"]] == [wrong], (why, answer.text)
    for body in (b"[1]", b"{", b"\xff", b'{"a":' * 5_000):
        assert (await client.post(f"{PATH}/users", content=body)).status_code == 422
    answer = await client.post(
        f"{PATH}/enrollments", json={"userSourcedId": "nobody", "classSourcedId": "class-1", "role": "student"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, Code.REF_MISSING)
    assert "nobody" not in answer.text


async def test_whose_version_and_which_record(client: httpx2.AsyncClient, database: Database, gateway: Gateway) -> None:
    """A change names the version it is meant for; what can't be deleted or made says why."""
    await sync_whole(database, gateway, {**DISTRICT, "demographics": [Demographics(sourced_id="user-1", sex="other")]})
    made = await make(client, "orgs", {"name": "Annex", "type": "school", "sourcedId": "annex"})
    await make(client, "classes", {"title": "Chess", "schoolSourcedId": "annex"})

    async def send(method: str, path: str, match: str | None = '"1"', **body: Any) -> tuple[int, str]:
        headers = {} if match is None else {"If-Match": match}
        answer = await client.request(method, f"{PATH}/{path}", headers=headers, **body)
        return answer.status_code, answer.json().get("code", "")

    assert made["version"] == 1
    assert await send("PATCH", "orgs/annex", None, json={"name": "B"}) == (428, Code.VERSION_MISSING)
    assert await send("PATCH", "orgs/annex", '"7"', json={"name": "B"}) == (412, Code.VERSION_CHANGED)
    assert await send("PUT", "orgs/annex", json={"name": "B", "type": "school"}) == (200, "")
    assert await send("PUT", "orgs/annex", json={"name": "B", "type": "school"}) == (200, ""), "the same again"
    assert await send("DELETE", "orgs/annex", '"2"') == (409, Code.RECORD_IN_USE)
    assert await send("DELETE", "users/user-1") == (409, Code.RECORD_SYNCED)
    assert await send("DELETE", "users/nobody") == (404, Code.NOT_FOUND)
    assert await send("POST", "users", json={**TEACHER, "sourcedId": "user-1"}) == (409, Code.RECORD_EXISTS)
    assert await send("PATCH", "orgs/annex", "*", json={"sourcedId": "other"}) == (422, Code.REQUEST_INVALID)
    other = ISSUER.headers(["roster.read", "roster.write"], organization_id=gateway.organization_id)
    assert (await client.get(f"{PATH}/demographics/user-1", headers=other)).json()["code"] == Code.SCOPE_MISSING
    product = ISSUER.headers(["roster.read"], product_id="00000000-0000-4000-8000-000000000001")
    assert (await client.post(f"{PATH}/users", json=TEACHER, headers=product)).status_code == 403


async def test_several_integrations_must_be_told_apart(
    client: httpx2.AsyncClient, database: Database, gateway: Gateway, neighbour: Gateway
) -> None:
    """Where it is not clear whose record is meant, nothing is guessed."""
    neighbour.organization_id = gateway.organization_id
    await sync_whole(database, gateway, DISTRICT)
    await neighbour.apply({"orgs": [school()], "users": [student(1, "Else")]})
    answer = await client.post(f"{PATH}/users", json=TEACHER)
    assert (answer.status_code, answer.json()["code"]) == (409, Code.INTEGRATION_AMBIGUOUS)
    assert sorted(answer.json()["integrations"]) == sorted([gateway.integration_id, neighbour.integration_id])
    assert (await client.get(f"{PATH}/users/user-1")).status_code == 409
    only = await client.get(f"{PATH}/users/user-1", params={"integration": neighbour.integration_id})
    assert only.json()["record"]["givenName"] == "Else"
    assert (await client.get(f"{PATH}/users/user-2")).json()["integration_id"] == gateway.integration_id


async def test_history_of_a_record(client: httpx2.AsyncClient, database: Database, gateway: Gateway) -> None:
    """Every state of a record is told with what changed, when, by which run or whom, and why."""
    await sync_whole(database, gateway, DISTRICT)
    await client.patch(f"{PATH}/users/user-1", json={"familyName": "Other"}, headers={"If-Match": "*"})
    await sync_whole(database, gateway, {**DISTRICT, "users": [student(1, "Nora"), student(2)]})
    await sync_whole(database, gateway, {**DISTRICT, "users": [student(2)], "enrollments": [enrollment(2, 1)]})
    answer = await client.get(f"{PATH}/users/user-1/history")

    assert answer.status_code == 200
    states = answer.json()["states"]
    assert [(one["version"], one["change"], one["why"]) for one in states] == [
        (4, "removed", "synced"),
        (3, "updated", "synced"),
        (2, "updated", "edited by hand"),
        (1, "added", "synced"),
    ]
    assert states[2]["changes"] == [{"field": "familyName", "before": "Ek", "after": "Other"}]
    assert {one["field"] for one in states[1]["changes"]} == {"givenName", "familyName"}
    assert states[2]["by"]
    assert (states[2]["run_id"], answer.json()["complete"]) == (None, True)
    assert all(one["run_id"] for one in states if one["why"] == "synced")
    assert all(one["at"] for one in states)
    assert (await client.get(f"{PATH}/users/nobody/history")).status_code == 404
    product = ISSUER.headers(["roster.read"], product_id="00000000-0000-4000-8000-000000000001")
    refused = await client.get(f"{PATH}/users/user-1/history", headers=product)
    assert refused.json()["code"] == Code.PRODUCT_REFUSED
