"""What is owed to the people of a roster: to know what is held of them, and to be forgotten."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import httpx2
import msgspec
import pytest
from played_gateway import Gateway, RecordingBus, enrollment, school, section, student

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Erased, Evaluated, GuardLimits, Held, RecordIssue, Terms, read_erasure
from homeroom.roster import Demographics
from homeroom.testing.tokens import TestIssuer, calling
from roster_store.app import make_app
from roster_store.privacy.holdings import HOLDINGS, NOBODY
from roster_store.privacy.telling import ErasureTelling
from roster_store.retention import Retention
from roster_store.settings import StoreSettings
from roster_store.sights import Rosters, Sight

ISSUER = TestIssuer()
CHILD = "user-7001"
CANARIES = ["Quillaniva", "Zebrowskyle", "quillaniva@north.example", "parent-of-zebro", "user-7001", "enrollment-7001"]
"""What stands for the child in this roster and for nobody else."""


@pytest.fixture
async def client(database: Database, settings: StoreSettings) -> AsyncIterator[httpx2.AsyncClient]:
    """Whoever looks after privacy for the whole platform."""
    assert database is not None
    async with calling(make_app(settings, ISSUER.verifier), ISSUER.token(["privacy.write"])) as client:
        yield client


def child(given_name: str = "Quillaniva") -> Any:
    """The child."""
    return student(
        7001,
        given_name,
        family_name="Zebrowskyle",
        email="Quillaniva@north.example",
        metadata={"note": "parent-of-Zebro"},
        agent_sourced_ids=("user-8",),
    )


def people() -> dict[str, list[Any]]:
    """A roster with the child, a guardian who names it, and others."""
    return {
        "orgs": [school()],
        "classes": [section(1)],
        "users": [child(), student(8, "Ada", role="guardian", agent_sourced_ids=(CHILD,)), student(2), student(3)],
        "enrollments": [enrollment(7001, 1), enrollment(2, 1)],
        "demographics": [Demographics(sourced_id=CHILD, birth_date=date(2014, 5, 6), sex="female")],
    }


async def fill(gateway: Gateway, database: Database) -> None:
    """Have the child wherever a person can be."""
    await gateway.apply(people())
    issue = RecordIssue(collection="users", sourced_id=CHILD, code=Code.FIELD_TOO_LONG)
    await gateway.apply({"users": [child("Quillaniva-Maud")]}, issues=(issue,))
    evaluated = await gateway.sync({"users": [child()]}, terms=Terms(purpose="evaluation"))
    assert isinstance(evaluated, Evaluated)
    limits = Terms(guard=GuardLimits(remove_least=0, remove_share=0.0, small=0))
    held = await gateway.sync({}, {"users": ["user-2", CHILD]}, served={"users": 4}, terms=limits, issues=(issue,))
    assert isinstance(held, Held), held
    no = await database.fetchval("SELECT no FROM integration WHERE id = $1", uuid.UUID(gateway.integration_id))
    product = uuid.uuid4()
    await database.fetch(
        "INSERT INTO activation (product_id, integration_no, collection, sourced_id, apply_no, at)"
        " VALUES ($1, $2, 'users', $3, 1, now())",
        product,
        no,
        CHILD,
    )
    account = await database.fetchval(
        "INSERT INTO account (product_id, organization_id, external_id, email, origin)"
        " VALUES ($1, $2, 'x-Zebrowskyle', 'QUILLANIVA@north.example', 'product') RETURNING no",
        product,
        uuid.UUID(gateway.organization_id),
    )
    await database.fetch(
        "INSERT INTO link_event (account_no, product_id, integration_no, sourced_id, event, how)"
        " VALUES ($1, $2, $3, $4, 'linked', 'email')",
        account,
        product,
        no,
        CHILD,
    )
    messages = gateway.messages({"users": [child("Quillaniva-Late")]})
    await gateway.consumer.handle(messages[:-1])  # a fetch on its way


async def erase(client: httpx2.AsyncClient, gateway: Gateway, **body: Any) -> httpx2.Response:
    """Ask for the child's erasure."""
    asked = {
        "integration_id": gateway.integration_id,
        "sourced_id": CHILD,
        "reason": "asked-by-person",
        "confirm": True,
    }
    return await client.post("/v1/privacy/erasures", json=asked | body)


async def find(client: httpx2.AsyncClient, *texts: str) -> set[tuple[str, str]]:
    """Where a search finds any of these texts."""
    answer = await client.post("/v1/privacy/searches", json={"texts": list(texts)})
    assert answer.status_code == 200, answer.text
    assert answer.json()["skipped"] == []
    return {(place["table"], place["column"]) for place in answer.json()["found"]}


async def test_erased_means_found_nowhere(
    client: httpx2.AsyncClient, gateway: Gateway, database: Database, settings: StoreSettings
) -> None:
    """After an erasure only blank records with the ids are left, for products; after retention, nothing (X10)."""
    await fill(gateway, database)
    before = await find(client, *CANARIES)
    answer = await erase(client, gateway)
    at_once = await find(client, *CANARIES[:4])
    told = ErasureTelling(database, bus := RecordingBus())  # type: ignore[arg-type]  # publish is all that is used
    assert await told.tell_next()
    assert not await told.tell_next()
    ids = await find(client, *CANARIES)
    await Retention(database, settings.model_copy(update={"erased_days": 0})).forget()
    state = (await client.get(f"/v1/privacy/erasures/{answer.json()['id']}")).json()

    tables = {table.split("_", 1)[-1] if table[:1] in "fp" and table[1:2].isdigit() else table for table, _ in before}
    assert {"users", "enrollments", "history", "hold", "staged_fetch", "account", "activation", "changes"} <= tables
    assert answer.status_code == 202, answer.text
    assert at_once == set()
    assert ids <= {("users", "sourced_id"), ("enrollments", "sourced_id"), ("enrollments", "user_sourced_id")} | {
        ("demographics", "sourced_id"),
        ("activation", "sourced_id"),
        ("apply", "detail"),
        ("belonging", "sourced_id"),
    }
    assert await find(client, *CANARIES) == set()
    assert [service["state"] for service in state["services"]] == ["done", "told", "told", "told"]
    erased = read_erasure(bus.published[0])  # type: ignore[arg-type]  # it has the value, as a message has
    assert isinstance(erased, Erased)
    assert set(erased.sourced_ids) == {CHILD, "enrollment-7001-1"}
    assert b"hold-ended" in bus.published[1].value


async def test_the_rest_of_the_roster_stays(
    client: httpx2.AsyncClient, gateway: Gateway, database: Database, rosters: Rosters
) -> None:
    """Others keep their records, and lose only the mention; products see the removal with ids alone."""
    await gateway.apply(people())
    await erase(client, gateway)
    rows = await database.fetch(
        "SELECT sourced_id, active, change, agent_sourced_ids, given_name FROM users ORDER BY 1"
    )
    step = await database.fetchrow("SELECT integration_no, kind, segments, counts FROM apply ORDER BY no DESC LIMIT 1")
    assert step is not None
    where = (uuid.UUID(gateway.integration_id), uuid.UUID(gateway.organization_id))
    sight = Sight(step["integration_no"], *where, product_id=uuid.uuid4(), grants=frozenset())

    assert [(row["sourced_id"], row["active"], row["change"]) for row in rows] == [
        ("user-2", True, "added"),
        ("user-3", True, "added"),
        (CHILD, False, "removed"),
        ("user-8", True, "updated"),
    ]
    assert rows[3]["agent_sourced_ids"] == []
    assert rows[3]["given_name"] == "Ada"
    async with rosters.look(sight) as connection:
        removed = await connection.fetch(
            "SELECT sourced_id, change, given_name FROM roster_served.users WHERE NOT active"
        )
        others = await connection.fetch(
            "SELECT change, user_sourced_id FROM roster_served.enrollments WHERE NOT active"
        )

    assert [tuple(row) for row in removed] == [(CHILD, "removed", "")]
    assert [tuple(row) for row in others] == [("removed", CHILD)]
    assert step["kind"] == "erasure"
    assert [segment[0] for segment in step["segments"][:4]] == ["users", "demographics", "enrollments", "users"]
    assert step["counts"]["users"] == {"added": 0, "changed": 1, "removed": 1}


async def test_kept_out_until_the_block_is_lifted(
    client: httpx2.AsyncClient, gateway: Gateway, database: Database
) -> None:
    """Syncs leave the person out, in every collection and in others' records, and say so, until they are let in."""
    await gateway.apply(people())
    erasure = (await erase(client, gateway)).json()
    again = (await erase(client, gateway)).json()
    gateway.basis = await database.fetchval("SELECT last_apply FROM integration")
    renamed = student(8, "Eve", role="guardian", agent_sourced_ids=("user-2", CHILD, "user-3"))
    sent = {**people(), "users": [child(), renamed]}
    first = await gateway.apply(sent)
    out = await database.fetchval("SELECT count(*) FROM users WHERE active AND sourced_id = $1", CHILD)
    agents = await database.fetchval("SELECT agent_sourced_ids FROM users WHERE sourced_id = 'user-8'")
    lifted = await client.delete(f"/v1/privacy/erasures/{erasure['id']}/block")
    second = await gateway.apply(people())
    rows = await database.fetch("SELECT active FROM users WHERE sourced_id = $1", CHILD)

    assert again["id"] == erasure["id"]
    assert [issue.code for issue in first.issues] == [Code.PERSON_ERASED]
    assert first.issues[0].sourced_id is None
    assert out == 0
    assert agents == ["user-2", "user-3"]
    assert lifted.status_code == 204
    assert [row["active"] for row in rows] == [True]
    assert second.collections["enrollments"].added == 1
    assert [issue.code for issue in second.issues] == []


async def test_export_has_everything(client: httpx2.AsyncClient, gateway: Gateway, database: Database) -> None:
    """The export has rows from every table in which a search finds the person, and says where else something may be."""
    await fill(gateway, database)
    found = {table for table, _ in await find(client, *CANARIES)}
    body = {"integration_id": gateway.integration_id, "sourced_id": CHILD}
    document = (await client.post("/v1/privacy/exports", json=body)).json()
    again = (await client.post("/v1/privacy/exports", json=body)).json()
    titles = {part["table"] for part in document["held"]}
    rows = {part["table"]: part["rows"] for part in again["held"]}

    assert {name for name in found if not (name[:1] in "fp" and name[1:2].isdigit())} <= titles
    assert {"staged users", "plan changes", "missing"} & titles >= {"staged users", "plan changes"}
    assert {row["sourced_id"] for row in rows["users"]} == {CHILD, "user-8"}
    assert [set(row) for row in rows["users"] if row["sourced_id"] == "user-8"] == [{"sourced_id", "agent_sourced_ids"}]
    assert [row["action"] for row in rows["audit_entry"]] == ["person.export", "person.export"]
    assert any("provider-gateway" in place["where"] for place in document["elsewhere"])


async def test_odd_erasures(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """Nobody is erased by mistake: what is not confirmed, not known or not readable is refused."""
    await gateway.apply(people())
    odd: list[tuple[dict[str, Any], str]] = [
        ({"confirm": False}, "CONFIRMATION_REQUIRED"),
        ({"sourced_id": "user-none"}, "NOT_FOUND"),
        ({"integration_id": str(uuid.uuid4())}, "NOT_FOUND"),
        ({"sourced_id": "a\0b"}, "REQUEST_INVALID"),
        ({"reason": "Quillaniva asked"}, "REQUEST_INVALID"),
    ]

    assert [(await erase(client, gateway, **changed)).json()["code"] for changed, _ in odd] == [code for _, code in odd]


async def test_only_your_own(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """A token of another organization finds nobody, one of a product is refused, and only the platform searches."""
    await gateway.apply(people())
    erasure = (await erase(client, gateway)).json()["id"]
    foreign = ISSUER.headers(["privacy.write"], organization_id=str(uuid.uuid4()))
    own = ISSUER.headers(["privacy.write"], organization_id=gateway.organization_id)
    body = {"integration_id": gateway.integration_id, "sourced_id": CHILD}

    export = await client.post("/v1/privacy/exports", json=body, headers=foreign)
    read = [await client.get(f"/v1/privacy/erasures/{erasure}", headers=headers) for headers in (own, foreign)]
    lift = await client.delete(f"/v1/privacy/erasures/{erasure}/block", headers=foreign)
    search = await client.post("/v1/privacy/searches", json={"texts": [CHILD]}, headers=own)
    unscoped = await client.post("/v1/privacy/exports", json=body, headers=ISSUER.headers(["roster.read"]))

    assert [answer.status_code for answer in (export, *read, lift)] == [404, 200, 404, 404]
    assert [answer.json()["code"] for answer in (search, unscoped)] == ["SCOPE_MISSING", "SCOPE_MISSING"]


async def test_every_table_is_accounted_for(database: Database) -> None:
    """Each table of the roster is listed as one about people, or as one without, whose columns tell of none."""
    tables = {
        row["relname"]
        for row in await database.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'roster'::regnamespace AND relkind = 'r'"
        )
    }
    listed = {holding.table for holding in HOLDINGS}

    assert listed.isdisjoint(NOBODY)
    assert tables - listed - NOBODY.keys() == set()
    assert (listed | NOBODY.keys()) - tables == set()
    rows = await database.fetch(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'roster'"
        " AND column_name ~ 'user|person|name$|email|phone|sourced_id'"
    )
    odd = {(row["table_name"], row["column_name"]) for row in rows if row["table_name"] in NOBODY}
    assert {one for one in odd if not one[0].endswith("_fields")} <= {
        *(("orgs", name) for name in ("name", "sourced_id", "parent_sourced_id")),
        *(("academic_sessions", name) for name in ("sourced_id", "parent_sourced_id")),
        *(("courses", name) for name in ("sourced_id", "org_sourced_id", "school_year_sourced_id")),
        *(("classes", name) for name in ("sourced_id", "school_sourced_id", "course_sourced_id", "term_sourced_ids")),
        ("incomplete_school", "sourced_id"),
        *((name, "name") for name in ("organization", "product", "relay", "migration")),
    }


async def test_old_removals_go(gateway: Gateway, database: Database, settings: StoreSettings) -> None:
    """Removed records go when they are older than the setting, and cursors from before are known to be too old."""
    await gateway.apply(people())
    old = await gateway.apply({}, {"users": [CHILD], "enrollments": ["enrollment-7001-1"], "demographics": [CHILD]})
    young = await gateway.apply({}, {"users": ["user-3"]})
    await database.fetch("UPDATE apply SET applied_at = now() - interval '40 days' WHERE no <= $1", old.apply)
    retention = Retention(database, settings.model_copy(update={"tombstone_days": 39.0}))
    forgotten = await retention.forget()
    left = await database.fetch("SELECT sourced_id FROM users WHERE NOT active")
    horizon = await database.fetchval("SELECT apply_no FROM feed_horizon")

    assert forgotten["tombstones"] == 3
    assert [row["sourced_id"] for row in left] == ["user-3"]
    assert old.apply == horizon < young.apply
    assert (await retention.forget())["tombstones"] == 0


async def test_the_audit_of_the_store(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    """What was done to people's data is written down without naming them, for their organization and no other."""
    await gateway.apply(people())
    await client.post("/v1/privacy/exports", json={"integration_id": gateway.integration_id, "sourced_id": CHILD})
    await erase(client, gateway)
    await find(client, CHILD)
    own = ISSUER.headers(["privacy.write"], organization_id=gateway.organization_id)
    every = (await client.get("/v1/privacy/audit")).json()["items"]
    seen = (await client.get("/v1/privacy/audit", headers=own)).json()["items"]
    verified = (await client.post("/v1/privacy/audit/verifications")).json()

    assert [entry["action"] for entry in every] == ["data.search", "person.erase", "person.export"]
    assert [entry["action"] for entry in seen] == ["person.erase", "person.export"]
    assert not any(CHILD in msgspec.json.encode(entry).decode() for entry in every)
    assert (verified["ok"], verified["entries"], verified["newest"]["number"]) == (True, 3, 3)
