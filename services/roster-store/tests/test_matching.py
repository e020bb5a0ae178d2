"""Who is matched with which account: the rule in SQL against the rule written down plainly, and its speed."""

from __future__ import annotations

import os
import random
import time
import uuid

import pytest
from matching_worlds import Small, license_product, without_how
from played_gateway import ROSTER, Gateway, section, student

from homeroom.db import Connection, Database
from homeroom.messages import Applied, Held, ProductMatching, Terms
from roster_store.application import take_number
from roster_store.matching.accounts import AccountFields, Party, put_accounts
from roster_store.matching.addresses import find_fault, normalise
from roster_store.matching.links import AccountName, find_account, link
from roster_store.matching.matcher import rematch
from roster_store.matching.rule import MAKABLE, match
from roster_store.people import JOINED_PROVIDER
from roster_store.steps import add_step

SEED = int(os.environ.get("HOMEROOM_TEST_SEED", random.randrange(10**9)))


@pytest.mark.parametrize("kind", ["listed", "made", "some schools"])
async def test_matching_in_steps_follows_the_rule(database: Database, kind: str) -> None:
    """Whatever happens to people and accounts in whatever order, the store comes to what the rule says of all."""
    worlds, steps = int(os.environ.get("HOMEROOM_TEST_WORLDS", "2")), 12
    for number in range(worlds):
        seed = SEED + number
        world = Small(database, random.Random(seed), make=kind == "made", schools=kind == "some schools")
        await world.begin()
        trail: list[str] = []
        for _ in range(steps):
            accounts, links = await world.read_accounts(), await world.read_links()
            happens = world.choose()
            trail.append(happens.__name__)
            await happens(links)
            if not (now := await world.read_accounts()) and not world.make:
                assert await world.read_unmatched() == {}
                continue
            accounts |= now
            expected = match(await world.read_world(accounts, links))
            found = await world.read_links()
            made = {
                one.key for no, one in found.items()
                if no not in links and not accounts[no].taken_up
            }  # fmt: skip
            told = (seed, trail)
            wanted = {key: why for key, why in expected.unmatched.items() if not world.make or why not in MAKABLE}
            if world.make:
                assert made == expected.unmatched.keys() - wanted.keys(), told
            assert await world.read_unmatched() == wanted, told
            old = {no: one for no, one in found.items() if one.key not in made}
            assert without_how(old) == without_how(expected.links), told


ADDRESSES = {
    "ada@north.example": None,
    " Ada.Ek+home@North.Example\u00a0": None,
    "\u0410\u0414\u0410@north.example": None,
    "test.person@north.example": None,
    "testa@north.example": None,
    "maxx@north.example": None,
    "ada@latest.example": None,
    "": "no_email",
    " \t": "no_email",
    None: "no_email",
    "ada": "placeholder_email",
    "ada@north": "placeholder_email",
    "ada ek@north.example": "placeholder_email",
    "ada@north.example, bo@north.example": "placeholder_email",
    "ada@north.example.": "placeholder_email",
    "a***@north.example": "placeholder_email",
    "xxxx@north.example": "placeholder_email",
    "ada@xxxx.example": "placeholder_email",
    "Masked@north.example": "placeholder_email",
    "NoReply@north.example": "placeholder_email",
    "no-email@north.example": "placeholder_email",
    "n/a@north.example": "placeholder_email",
    "test12@north.example": "placeholder_email",
    "ada@example.com": "placeholder_email",
    "ada@mail.example.org": "placeholder_email",
    "ada@test.com": "placeholder_email",
    "ada@school.invalid": "placeholder_email",
    "a" * 320 + "@north.example": "placeholder_email",
}


async def test_addresses_are_judged_alike_in_python_and_sql(database: Database) -> None:
    """What is no address, hidden or made up matches nobody, and both ways of telling agree."""
    rows = await database.fetch(
        "SELECT given, normal_address(given) AS normal, find_address_fault(normal_address(given)) AS fault"
        " FROM unnest($1::text[]) AS one (given)",
        list(ADDRESSES),
    )
    assert {row["given"]: row["fault"] for row in rows} == ADDRESSES
    assert {given: find_fault(normalise(given)) for given in ADDRESSES} == ADDRESSES
    assert {row["given"]: row["normal"] for row in rows} == {given: normalise(given) for given in ADDRESSES}


# ── with applies ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def party(gateway: Gateway, database: Database) -> Party:
    """A product that is licensed for the gateway's organization."""
    party = Party(uuid.uuid4(), uuid.UUID(gateway.organization_id), "ada")
    await license_product(database, party.product, party.organization)
    return party


async def put(database: Database, party: Party, *emails: str | None, **fields: object) -> None:
    """Put accounts e1, e2, … with these addresses."""
    accounts = [
        AccountFields(
            **({
                "external_id": f"e{number}", "email": email, "role": None, "integration_id": None, "sourced_id": None,
                "active": True,
            } | fields)  # type: ignore[arg-type]  # the fields of an account, by name
        )
        for number, email in enumerate(emails, 1)
    ]  # fmt: skip
    await put_accounts(database, party, accounts, matched=True)


async def whose(database: Database, party: Party) -> dict[str | None, str]:
    """Account → person."""
    rows = await database.fetch(
        "SELECT external_id, link.sourced_id FROM account_link AS link JOIN account ON no = account_no"
        " WHERE link.product_id = $1",
        party.product,
    )
    return {row["external_id"]: row["sourced_id"] for row in rows}


async def unmatched(database: Database, party: Party) -> dict[str, str]:
    """Person → reason."""
    rows = await database.fetch("SELECT * FROM unmatched_person WHERE product_id = $1", party.product)
    return {row["sourced_id"]: row["reason"] for row in rows}


def counted(fact: object) -> ProductMatching:
    """What a fact says of the only product."""
    assert isinstance(fact, Applied | Held)
    (found,) = fact.matching
    return found


async def test_applies_match_and_count(gateway: Gateway, database: Database, party: Party) -> None:
    """A run says how many are matched, an unchanged one too, and a changed address keeps the person."""
    fact = await gateway.apply(ROSTER)
    assert fact.matching == ()  # nobody keeps accounts here
    assert await database.fetchval("SELECT count(*) FROM rostered_person") == 0
    await put(database, party, "STUDENT1@north.example", "student2@north.example", "student9@north.example")

    teacher = student(9, role="teacher", email="student9@north.example")
    fact = await gateway.apply({"users": [student(2, email="new@north.example"), teacher]})
    assert await whose(database, party) == {"e1": "user-1", "e2": "user-2", "e3": "user-9"}
    told = ProductMatching(product_id=str(party.product), matched_students=2, matched_teachers=1, unmatched=1)
    assert counted(fact) == told
    assert counted(await gateway.apply({}, served={"users": 4})) == told
    assert await unmatched(database, party) == {"user-3": "unknown"}


async def test_held_runs_count_as_well(gateway: Gateway, database: Database, party: Party) -> None:
    """A run that waits for a person says how people stand until then."""
    await gateway.apply({"users": [student(number) for number in range(1, 41)]})
    await put(database, party, "student1@north.example")

    held = await gateway.sync({}, {"users": [f"user-{number}" for number in range(1, 41)]}, served={"users": 0})
    assert isinstance(held, Held)
    assert (counted(held).matched_students, counted(held).unmatched) == (1, 39)


async def test_an_account_waits_for_whom_it_names(gateway: Gateway, database: Database, party: Party) -> None:
    """Once the person an account names comes, it is theirs, and no candidate for others with its address any more."""
    twins = [student(number, email="twins@north.example") for number in (1, 2)]
    await gateway.apply({"users": twins})
    await put(database, party, "twins@north.example", sourced_id="user-5")
    assert await unmatched(database, party) == {"user-1": "ambiguous", "user-2": "ambiguous"}

    await gateway.apply({"users": [student(5, email=None)]})
    assert await whose(database, party) == {"e1": "user-5"}
    assert await unmatched(database, party) == {"user-1": "shared_email", "user-2": "shared_email"}


async def test_who_comes_back_has_their_account_again(gateway: Gateway, database: Database, party: Party) -> None:
    """A person who leaves keeps the account: nobody else gets it by the address, and they come back to it."""
    await gateway.apply({"users": [student(1, "Ada"), student(2)]})
    await put(database, party, "student1@north.example")
    await gateway.apply({}, {"users": ["user-1"]})
    assert await unmatched(database, party) == {"user-2": "unknown"}

    recycled = student(7, "Bo", email="student1@north.example")
    await gateway.apply({"users": [recycled]})
    assert await whose(database, party) == {"e1": "user-1"}
    assert (await unmatched(database, party))["user-7"] == "account_taken"
    await gateway.apply({"users": [student(1, "Ada")]}, {"users": ["user-7"]})
    assert await whose(database, party) == {"e1": "user-1"}
    assert await unmatched(database, party) == {"user-2": "unknown"}


async def test_a_person_under_another_id_takes_the_account_along(
    gateway: Gateway, database: Database, party: Party
) -> None:
    """Re-keyed with the same name and address, once the old record is gone; a link by hand stays where it is."""
    await gateway.apply({"users": [student(1, "Ada"), student(2, "Bo")]})
    await put(database, party, "student1@north.example", "student2@north.example")
    person = (await database.fetchval("SELECT no FROM integration"), "user-2")
    await link(database, party, AccountName(external_id="e2"), person, replace=False)

    again = [student(11, "ada ", email="Student1@north.example"), student(12, "Bo", email="student2@north.example")]
    await gateway.apply({"users": again})
    assert await unmatched(database, party) == {"user-11": "shared_email", "user-12": "shared_email"}
    await gateway.apply({}, {"users": ["user-1", "user-2"]})
    assert await whose(database, party) == {"e1": "user-11", "e2": "user-2"}
    assert await unmatched(database, party) == {"user-12": "account_taken"}
    events = await database.fetch("SELECT sourced_id, event, how FROM link_event WHERE how = 'moved' ORDER BY no")
    assert [tuple(row) for row in events] == [("user-1", "unlinked", "moved")]


async def test_a_takeover_keeps_the_accounts(gateway: Gateway, database: Database, party: Party) -> None:
    """People who change hands to a new integration keep their accounts, however their addresses change with it."""
    await gateway.apply({"users": [student(1), student(2)]})
    await put(database, party, "student1@north.example", "other@north.example")
    successor = Gateway(
        gateway.consumer, gateway.bus, organization_id=gateway.organization_id,
        terms=Terms(takes_over=gateway.integration_id),
    )  # fmt: skip
    fact = await successor.apply(
        {"users": [student(1, email="x@north.example"), student(2, email="other@north.example")]}
    )

    assert await whose(database, party) == {"e1": "user-1", "e2": "user-2"}
    assert (counted(fact).matched_students, counted(fact).unmatched) == (2, 0)
    assert await database.fetchval("SELECT count(DISTINCT integration_no) FROM account_link") == 1


async def test_one_human_in_two_systems_has_one_account(gateway: Gateway, database: Database, party: Party) -> None:
    """A person of Google Classroom stands as who they are in the SIS, and takes an account along there."""
    google = Gateway(gateway.consumer, gateway.bus, organization_id=gateway.organization_id, provider=JOINED_PROVIDER)
    await google.apply({"users": [student(101, email="ada@north.example")]})
    await put(database, party, "ada@north.example")
    assert await whose(database, party) == {"e1": "user-101"}

    await gateway.apply({"users": [student(1, email="ada@north.example")]})
    assert await whose(database, party) == {"e1": "user-1"}
    assert await unmatched(database, party) == {}
    fact = await google.apply({}, served={"users": 1})
    assert (counted(fact).matched_students, counted(fact).unmatched) == (1, 0)
    no = await database.fetchval("SELECT no FROM integration WHERE id = $1::uuid", google.integration_id)
    found = await find_account(database, party.product, (no, "user-101"))
    assert found is not None
    assert found.external_id == "e1"


async def test_accounts_are_made_where_the_product_wants_it(gateway: Gateway, database: Database, party: Party) -> None:
    """For whom nobody's account may be one is made, and the product's own takes its place once it is there."""
    await license_product(database, party.product, party.organization, unmatched="create")
    twins = [student(number, email="twins@north.example") for number in (3, 4)]
    fact = await gateway.apply({"users": [student(1), student(2, email=None), *twins]})
    assert (counted(fact).created, counted(fact).matched_students, counted(fact).unmatched) == (4, 4, 0)

    await put(database, party, "student1@north.example")
    assert (await whose(database, party))["e1"] == "user-1"
    rows = await database.fetch("SELECT origin, deleted_at IS NULL AS here FROM account ORDER BY no")
    assert sum(row["here"] for row in rows if row["origin"] == "roster") == 3
    await put(database, party, None, "twins@north.example")
    assert await unmatched(database, party) == {}


async def test_only_whom_the_license_shows_is_matched(gateway: Gateway, database: Database, party: Party) -> None:
    """People of other schools, guardians without their grant, and students who did not come in yet are nobody here."""
    await gateway.apply({
        "users": [student(1), student(2, role="guardian"), student(3, role="teacher")], "classes": [section(1)],
    })  # fmt: skip
    await license_product(database, party.product, party.organization, teacher_started=True)
    await put(database, party, "student1@north.example", "student2@north.example", "student3@north.example")
    assert await whose(database, party) == {"e3": "user-3"}
    assert await unmatched(database, party) == {}

    no = await database.fetchval("SELECT no FROM integration")
    await database.fetch(
        "INSERT INTO activation (product_id, integration_no, collection, sourced_id, apply_no, at)"
        " VALUES ($1, $2, 'users', 'user-1', 1, now())", party.product, no,
    )  # fmt: skip

    async def come_in(connection: Connection) -> None:
        number = await take_number(connection)
        await add_step(connection, number, "signed-in", no, product_id=party.product, detail={"user": "user-1"})

    await database.transact(come_in)
    assert await whose(database, party) == {"e1": "user-1", "e3": "user-3"}
    await license_product(database, party.product, party.organization, grants=["guardians"])
    await database.transact(lambda connection: rematch(connection, party.product, party.organization))
    assert await whose(database, party) == {"e1": "user-1", "e2": "user-2", "e3": "user-3"}
    await database.fetch("UPDATE access SET live = false")
    await put(database, party, "student1@north.example", "student7@north.example")
    assert await unmatched(database, party) == {}


async def test_thousands_are_matched_in_no_time(database: Database) -> None:
    """2,000 accounts are matched with 2,000 people in a second or two, addresses that all share cost no more."""
    world = Small(database, random.Random(1))
    await world.begin()
    no = next(iter(world.integrations))
    await database.fetch(
        "INSERT INTO users (integration_no, sourced_id, changed_by, change_no, version, change, active, key,"
        " fingerprint, given_name, family_name, roles, enabled_user, email, user_ids, agent_sourced_ids, grades)"
        " SELECT $1, 'p' || n, 1, n, 1, 'added', true, gen_random_uuid(), 1, 'A', 'B', '[{\"role\": \"student\"}]',"
        " true, CASE WHEN n > 1000 THEN 'a' || n ELSE 'office' END || '@x.de', '[]', '{}', '{}'"
        " FROM generate_series(1, 2000) AS n", no,
    )  # fmt: skip
    began = time.perf_counter()
    emails = [f"A{number}@X.de" if number > 1000 else "office@x.de" for number in range(1, 2001)]
    await put(database, world.party, *emails)
    taken = time.perf_counter() - began
    assert len(await world.read_links()) == 1000
    assert set((await world.read_unmatched()).values()) == {"ambiguous"}
    assert taken < 6, f"{taken:.1f} s"
