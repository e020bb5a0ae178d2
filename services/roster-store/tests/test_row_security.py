"""Nobody sees a roster but through a sight: row-level security, views, and what they leave out (F3)."""

from __future__ import annotations

import ast
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import pytest
from licensed import license_product
from msgspec.structs import replace
from played_gateway import ROSTER, Gateway, RecordingBus, campus, student, together

import roster_store
from homeroom.auth import Caller, include
from homeroom.db import Database
from homeroom.grants import FIELD_GROUPS, GROUP_FIELDS
from homeroom.migrate import migrate
from homeroom.roster import Demographics, Role
from roster_store.changes import ChangeConsumer
from roster_store.sights import READER, WORK, Rosters, Sight, list_product_sights, list_sights
from roster_store.tables import SQL, TABLES

COMMON = {"migration", "relay", "staged_chunk", "product", "audit_chain"}
"""Tables that belong to no tenant: what they hold is nobody's or everybody's."""
FURTHER_VIEWS = ("history", "steps", "search_text")
"""Beside the collections: the first two show nothing to products, the third what they may find records by."""
INWARD = {
    **dict.fromkeys(
        (
            "application",
            "history",
            "picture",
            "plan",
            "people",
            "references",
            "restore",
            "takeover",
            "missing",
            "applies",
        ),
        "the sync path: it makes the roster",
    ),
    **dict.fromkeys(("collisions", "prospect", "sanity", "plan_changes"), "what a sync would do, for its own district"),
    **dict.fromkeys(("guard_facts", "school_counts", "protection", "holding", "plan_hash"), "what the guard judges by"),
    **dict.fromkeys(("records", "privacy.erasure"), "write for a district's own people: products are refused"),
    "privacy.person": "what is held about one person, for the district's own people",
    "matching.matcher": "compares addresses inside; what it finds is told as ids the product may see",
    "search": "makes the texts that are found through a view",
    "retention": "forgets what is old",
    "downloads": "what a plan changes, for the district's own people: products are refused",
    "belongings": "works out what views show",
    "fingerprints": "between gateway and store, with a scope products can't have",
    "identities": "between sso and store, likewise; what is told of whom it finds comes through views",
}
"""Modules that read tables of the roster, and why they may."""


async def test_every_table_of_a_tenant_is_guarded(database: Database) -> None:
    """Row-level security is on and forced for every table that names an integration, organization or product."""
    rows = await database.fetch(
        """
        SELECT class.relname AS name, class.relrowsecurity AND class.relforcerowsecurity AS guarded,
               EXISTS (SELECT FROM pg_policy WHERE polrelid = class.oid) AS opened,
               EXISTS (SELECT FROM pg_attribute WHERE attrelid = class.oid AND NOT attisdropped
                       AND attname IN ('integration_no', 'integration_id', 'organization_id', 'product_id')) AS tenants
        FROM pg_class AS class
        WHERE class.relnamespace = 'roster'::regnamespace AND class.relkind IN ('r', 'p')
        """
    )
    assert len(rows) > 30
    rows = [
        row for row in rows if not row["name"].endswith("_fields")
    ]  # what tables are made from; nobody writes to them
    wrong = [row["name"] for row in rows if row["tenants"] and not (row["guarded"] and row["opened"])]
    assert wrong == []
    unguarded = {row["name"] for row in rows if not row["guarded"]}
    assert unguarded <= COMMON


async def test_readers_reach_nothing_but_the_views(database: Database) -> None:
    """The role that serves rosters has a right to the views and to no other relation of the store."""
    rows = await database.fetch(
        """
        SELECT class.relnamespace::regnamespace::text AS schema, class.relname AS name,
               has_table_privilege('homeroom_reader', class.oid, 'SELECT') AS reads,
               has_table_privilege('homeroom_reader', class.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') AS writes
        FROM pg_class AS class
        WHERE class.relkind IN ('r', 'p', 'v', 'm') AND class.relnamespace::regnamespace::text LIKE 'roster%'
        """
    )
    reached = {f"{row['schema']}.{row['name']}" for row in rows if row["reads"]}
    assert reached == {f"roster_served.{name}" for name in [*(table.name for table in TABLES.values()), *FURTHER_VIEWS]}
    assert not any(row["writes"] for row in rows)
    roles = await database.fetch(
        "SELECT rolname FROM pg_roles WHERE rolname IN ('homeroom_served', 'homeroom_reader') "
        "AND (rolbypassrls OR rolsuper OR rolcanlogin)"
    )
    assert roles == []


async def test_views_leave_out_what_the_groups_say(database: Database) -> None:
    """The fields a view shows only with a grant are exactly those `homeroom.grants` names for it."""
    for collection, table in TABLES.items():
        text = await database.fetchval("SELECT pg_get_viewdef(('roster_served.' || $1)::regclass, true)", table.name)
        found: dict[str, set[str]] = {}
        for case, column in re.findall(r"CASE\s+WHEN (.*?)\s+END AS (\w+)", text, re.DOTALL):
            for group in set(re.findall(r"homeroom\.(\w+)'", case)) & set(FIELD_GROUPS):
                found.setdefault(group, set()).add(column)
        if "username" in found.get("contacts", set()):
            found["contacts"].remove("username")  # an address in place of a user name needs both
        wanted = {group: set(fields[collection]) for group, fields in GROUP_FIELDS.items() if collection in fields}
        assert found == wanted, collection


async def test_unset_sight_shows_nothing(database: Database, gateway: Gateway, rosters: Rosters) -> None:
    """Whoever forgets to say what they look at sees no record at all."""
    await gateway.apply(ROSTER)
    async with rosters._database.connection() as connection:
        for table in TABLES.values():
            assert await connection.fetchval(f"SELECT count(*) FROM roster_served.{table.name}") == 0  # noqa: S608 - a view's name
    [sight] = await list_sights(database, Caller("x", include(["roster.read"])))
    async with rosters.look(sight) as connection:
        assert await connection.fetchval("SELECT count(*) FROM roster_served.users") == 3
    async with rosters._database.connection() as connection:  # what was said ended with its transaction
        assert await connection.fetchval("SELECT count(*) FROM roster_served.users") == 0


@pytest.mark.parametrize(
    "attack",
    [
        "SELECT * FROM roster.users",
        "SELECT * FROM roster.integration",
        "UPDATE roster_served.users SET given_name = 'x'",
        "RESET ROLE; SELECT * FROM roster.users",
        "SET LOCAL homeroom.access = 'work'; SELECT * FROM roster.users",
        "SET LOCAL ROLE homeroom_served; SELECT * FROM roster.users",
        "SELECT * FROM roster_staging.pg_class",
    ],
)
async def test_raw_attacks_find_nothing(plain_store: PlainStore, attack: str) -> None:
    """SQL that reaches a reader's connection sees no table and no other integration, whatever it tries."""
    async with plain_store.rosters.look(plain_store.sights[0]) as connection:
        try:
            for statement in attack.split("; "):
                rows = await connection.fetch(statement)
        except asyncpg.InsufficientPrivilegeError:
            return
        except (asyncpg.UndefinedTableError, asyncpg.ObjectNotInPrerequisiteStateError):
            return
    others = [row for row in rows if row["integration_no"] != plain_store.sights[0].integration_no]
    assert others == []
    assert "SET LOCAL ROLE homeroom_served" in attack or rows == []


class PlainStore:
    """A store whose database user is no superuser, as in production, with two districts in it."""

    def __init__(self, work: Database, rosters: Rosters, sights: list[Sight], url: str) -> None:
        self.work, self.rosters, self.sights, self.url = work, rosters, sights, url


@pytest.fixture
async def plain_store(database_url: str) -> AsyncIterator[PlainStore]:
    """A store with two districts, owned by a role that is nothing but a database's owner."""
    owner = f"owner_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(database_url)
    for role in ("homeroom_served", "homeroom_reader"):
        if not await admin.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role):
            await admin.execute(f"CREATE ROLE {role} NOLOGIN")
    await admin.execute(f"CREATE ROLE {owner} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE PASSWORD 'plain'")
    await admin.execute(f"GRANT homeroom_served, homeroom_reader TO {owner} WITH INHERIT FALSE, SET TRUE")
    await admin.execute(f'ALTER DATABASE "{urlsplit(database_url).path[1:]}" OWNER TO {owner}')
    parts = urlsplit(database_url)
    host = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"{owner}:plain@{host}"))
    try:
        await migrate(url, schema="roster", package="roster_store")
        async with (
            Database.open(url, schema="roster", size=6, session=WORK) as work,
            Database.open(url, schema="roster", size=4, session=READER) as reading,
        ):
            bus = RecordingBus()
            for name, first in (("North", 1), ("South", 11)):
                gateway = Gateway(ChangeConsumer(work, bus), bus)  # type: ignore[arg-type]  # publish is all it uses
                await gateway.apply(campus(name, first))
                await gateway.apply(
                    {"users": [student(first, "Lova", name)]}, {"enrollments": [f"enrollment-{first}-{first}"]}
                )
            sights = await list_sights(work, Caller("x", include(["admin"])))
            yield PlainStore(work, Rosters(reading), sights, url)
    finally:
        await admin.execute(f"REASSIGN OWNED BY {owner} TO CURRENT_USER")
        await admin.execute(f"DROP OWNED BY {owner}")
        await admin.execute(f"DROP ROLE {owner}")
        await admin.close()


async def test_owner_must_say_that_it_works(plain_store: PlainStore) -> None:
    """A store whose user is no superuser syncs as ever; a connection of it that says nothing sees nothing."""
    assert await plain_store.work.fetchval("SELECT count(*) FROM users WHERE active") == 6
    assert await plain_store.work.fetchval("SELECT count(*) FROM history") > 0
    async with Database.open(plain_store.url, schema="roster", size=1) as forgetful:
        for name in ("users", "integration", "history", "apply", "license", "access"):
            assert await forgetful.fetchval(f"SELECT count(*) FROM {name}") == 0  # noqa: S608 - a table's name
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await forgetful.fetchval("INSERT INTO product (id, name) VALUES (gen_random_uuid(), 'x')")


async def test_interleaved_readers_never_mix(plain_store: PlainStore) -> None:
    """Readers of two districts who take turns on the same connections each see their own people only."""
    for number in range(200):
        sight = plain_store.sights[number % 2]
        async with plain_store.rosters.look(sight) as connection:
            rows = await connection.fetch("SELECT DISTINCT integration_no FROM roster_served.users")
        assert [row["integration_no"] for row in rows] == [sight.integration_no]


GUARDED = together(
    campus("North", 1),
    campus("South", 11),
    {
        "users": [
            student(
                1, agent_sourced_ids=("user-90",), phone="555-0100", username="mila@north.example", pronouns="they"
            ),
            replace(
                student(90, "Ada"), roles=(Role(role="guardian", org_sourced_id="org-North", role_type="primary"),)
            ),
        ],
        "demographics": [Demographics(sourced_id="user-1", frl_status="free", iep_status=True)],
    },
)


async def see(database: Database, rosters: Rosters, product_id: str, view: str) -> dict[str, Any]:
    """What a product sees of a view, by sourcedId."""
    found: dict[str, Any] = {}
    for sight in await list_product_sights(database, UUID(product_id)):
        async with rosters.look(sight) as connection:
            for row in await connection.fetch(f"SELECT * FROM roster_served.{view} WHERE active"):  # noqa: S608 - a view's name
                found[row["sourced_id"]] = row
    return found


@pytest.fixture
async def guarded(gateway: Gateway) -> Gateway:
    """A district with two schools, a guardian and demographics."""
    roster = together(GUARDED)
    roster["users"] = [
        one
        for place, one in enumerate(roster["users"])
        if one.sourced_id not in {later.sourced_id for later in roster["users"][place + 1 :]}
    ]
    await gateway.apply(roster)
    return gateway


@pytest.mark.parametrize("group", FIELD_GROUPS)
async def test_each_group_shows_its_fields_alone(
    database: Database, rosters: Rosters, guarded: Gateway, group: str
) -> None:
    """A product that is granted one group of fields sees those, and none of the others (B2, B4, B5, B6)."""
    granted = await license_product(database, guarded.organization_id, grants=(group,))
    users = await see(database, rosters, granted.product_id, "users")
    mila = users["user-1"]
    assert (mila["grades"] == ["05"]) is (group == "grades")
    assert mila["username"] is None  # an address, which needs identifiers and contacts
    assert (mila["email"] is not None) is (mila["phone"] is not None) is (group == "contacts")
    assert (mila["agent_sourced_ids"] == ["user-90"]) is ("user-90" in users) is (group == "guardians")
    assert (mila["pronouns"] is not None) is (group == "demographics")
    assert (mila["metadata"] is not None) is (group == "metadata")
    assert bool(await see(database, rosters, granted.product_id, "demographics")) is (group == "demographics")


async def test_demographics_need_their_scope_as_well(database: Database, guarded: Gateway) -> None:
    """A token without the scope of demographics has a sight without them, whoever holds it."""
    for scopes, seen in ((["roster.read"], False), (["roster.read", "demographics.read"], True)):
        [sight] = await list_sights(database, Caller("x", include(scopes), guarded.organization_id))
        assert ("demographics" in sight.grants) is seen


async def test_license_of_one_school(database: Database, rosters: Rosters, guarded: Gateway) -> None:
    """A license for some schools shows their classes and people and nobody else's."""
    granted = await license_product(database, guarded.organization_id, schools=("org-South",), grants=FIELD_GROUPS)
    product = granted.product_id
    assert set(await see(database, rosters, product, "orgs")) == {"org-South"}
    assert set(await see(database, rosters, product, "classes")) == {"class-11"}
    assert set(await see(database, rosters, product, "users")) == {"user-11", "user-12", "user-13"}
    assert set(await see(database, rosters, product, "enrollments")) == {f"enrollment-{n}-11" for n in (11, 12, 13)}
    assert await see(database, rosters, product, "demographics") == {}
    await guarded.apply({"classes": [replace(GUARDED["classes"][0], school_sourced_id="org-South")]})
    assert "user-1" in await see(database, rosters, product, "users")
    assert "user-90" in await see(database, rosters, product, "users")  # whose student she is
    assert set(await see(database, rosters, product, "demographics")) == {"user-1"}
    roles = (await see(database, rosters, product, "users"))["user-1"]["roles"]
    assert [role["orgSourcedId"] for role in roles] == ["org-South"]


def test_only_the_sync_path_reads_tables_of_the_roster() -> None:
    """Every statement that reads a table of the roster, not a view, belongs to modules that serve nobody outside."""
    names = "|".join([table.name for table in TABLES.values()] + [r"\{table\}"])
    reads = re.compile(rf"\b(?:FROM|JOIN|UPDATE|INTO)\s+(?:ONLY\s+)?(?:roster\.)?(?:{names})(?!\w)", re.IGNORECASE)
    direct = {name for name, text in SQL.items() if reads.search(text)}
    assert len(direct) > 20
    source = Path(roster_store.__file__).parent
    found: dict[str, set[str]] = {}
    for path in source.rglob("*.py"):
        module = ".".join(path.relative_to(source).with_suffix("").parts)
        named = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Subscript(value=ast.Name(id="SQL"), slice=ast.Constant(value=name)):
                    named.add(name)
                case ast.Call(func=ast.Attribute(attr="sql"), args=[ast.Constant(value=name), *_]):
                    named.add(name)
                case ast.Constant(value=str() as text) if reads.search(text):
                    named.add(text)
        named = {name for name in named if name in direct or name not in SQL}
        if named and module not in INWARD:
            found[module] = named
    assert found == {}
