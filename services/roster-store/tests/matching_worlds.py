"""Small worlds of people and accounts in a real store, changed at random, and read back as the rule sees them."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.problems import Problem
from roster_store.matching.accounts import AccountFields, Party, delete_account, put_accounts
from roster_store.matching.links import AccountName, link, unlink
from roster_store.matching.matcher import match_applied, rematch
from roster_store.matching.rule import Account, Key, Link, Person, World
from roster_store.people import JOINED_PROVIDER
from roster_store.tables import SQL

EMAILS = ("a@x.de", " A@X.de", "b@x.de", "c@x.de", "d@x.de", "e@x.de", "f@x.de", "g@x.de", "h@x.de", "none@x.de", None)
ROLES = ("student", "student", "teacher", "administrator", "guardian")
NAMES = (("Ada", "Ek"), ("ada ", "EK"), ("Bo", "Ek"))
IDS = ("1", "2", "3", "4", "5")
SCHOOL = "s1"


@dataclass
class Small:
    """An organization with two SIS integrations and Google Classroom, and one product."""

    database: Database
    chance: random.Random
    make: bool = False
    product: uuid.UUID = field(default_factory=uuid.uuid4)
    organization: uuid.UUID = field(default_factory=uuid.uuid4)
    integrations: dict[int, uuid.UUID] = field(default_factory=dict)
    schools: bool = False
    step: int = 0

    @property
    def party(self) -> Party:
        """The product there."""
        return Party(self.product, self.organization, "ada")

    async def begin(self) -> None:
        """Make the organization, the product and its license."""
        for provider in ("oneroster", "clever", JOINED_PROVIDER):
            integration = uuid.uuid4()
            no = await self.database.fetchval(
                "INSERT INTO integration (id, organization_id, provider) VALUES ($1, $2, $3) RETURNING no",
                integration, self.organization, provider,
            )  # fmt: skip
            self.integrations[no] = integration
        await license_product(
            self.database, self.product, self.organization,
            schools=[SCHOOL] if self.schools else None, unmatched="create" if self.make else "list",
        )  # fmt: skip

    # ── what may happen ───────────────────────────────────────────────────────────────────────────────────────────

    async def change_people(self, _links: dict[int, Link]) -> None:
        """Some people come, change, or go, with one apply."""
        no = self.chance.choice(list(self.integrations))
        changed = self.chance.sample(IDS, self.chance.randint(1, 2))

        async def apply(connection: Connection) -> None:
            number = await connection.fetchval("SELECT nextval('apply_no')")
            for sourced_id in changed:
                await self._write_person(connection, (no, sourced_id), number)
            await connection.execute(SQL["join_people"], self.organization, JOINED_PROVIDER)
            await match_applied(connection, no, self.organization, number)

        await self.database.transact(apply)

    async def _write_person(self, connection: Connection, key: Key, number: int) -> None:
        if self.chance.random() < 0.25:
            await connection.execute(
                "UPDATE users SET active = false, change = 'removed', changed_by = $3"
                " WHERE (integration_no, sourced_id) = ($1, $2)",
                *key, number,
            )  # fmt: skip
            return
        given, family = self.chance.choice(NAMES)
        await write_person(
            connection, key, number, email=self.chance.choice(EMAILS), role=self.chance.choice(ROLES),
            name=(given, family),
        )  # fmt: skip
        if self.schools:
            await connection.execute(
                "INSERT INTO belonging (integration_no, collection, sourced_id, schools, ever, changed_by, change_no,"
                " version) VALUES ($1, 'users', $2, $3, $3, $4, 1, 1) ON CONFLICT (integration_no, collection,"
                " sourced_id) DO UPDATE SET schools = excluded.schools, changed_by = excluded.changed_by",
                *key, [self.chance.choice((SCHOOL, SCHOOL, "s2"))], number,
            )  # fmt: skip

    async def change_accounts(self, _links: dict[int, Link]) -> None:
        """The product puts some accounts."""
        await put_accounts(
            self.database,
            self.party,
            [
                AccountFields(
                    external_id=f"e{number}",
                    email=self.chance.choice(EMAILS),
                    role=self.chance.choice((None, None, "student", "teacher", "staff")),
                    integration_id=self.chance.choice((None, *self.integrations.values())),
                    sourced_id=self.chance.choice((None, None, *IDS)),
                    active=True,
                )
                for number in self.chance.sample(range(7), self.chance.randint(1, 2))
            ],
            matched=True,
        )

    async def delete_account(self, links: dict[int, Link]) -> None:
        """The product deletes one of its accounts."""
        row = await self._pick("origin = 'product'")
        if row is not None:
            links.pop(row["no"], None)
            await delete_account(self.database, self.party, row)

    async def link_by_hand(self, links: dict[int, Link]) -> None:
        """Somebody ties an account to a person."""
        row, people = await self._pick("external_id IS NOT NULL"), await self.read_people()
        here = [person for person in people.values() if person.active and person.seen]
        if row is None or not here:
            return
        person = self.chance.choice(here)
        name, key = AccountName(external_id=row["external_id"]), person.joined or person.key
        try:
            await link(self.database, self.party, name, person.key, replace=self.chance.random() < 0.7)
        except Problem as problem:
            assert problem.code in (Code.ACCOUNT_LINKED, Code.PERSON_LINKED)  # noqa: PT017 - both are right answers
            return
        for no, other in list(links.items()):
            if other.key == key:
                del links[no]
        links[row["no"]] = Link(key, "manual")

    async def unlink_by_hand(self, links: dict[int, Link]) -> None:
        """Somebody takes an account and its person apart."""
        row = await self._pick("no IN (SELECT account_no FROM account_link)")
        if row is not None:
            del links[row["no"]]
            await unlink(self.database, self.party, row)

    async def match_again(self, _links: dict[int, Link]) -> None:
        """Everybody is matched again."""

        async def work(connection: Connection) -> None:
            await rematch(connection, self.product, self.organization)

        await self.database.transact(work)

    async def _pick(self, condition: str) -> Any:
        rows = await self.database.fetch(
            f"SELECT * FROM account WHERE product_id = $1 AND deleted_at IS NULL AND {condition} ORDER BY no",  # noqa: S608 - conditions of this file
            self.product,
        )
        return self.chance.choice(rows) if rows else None

    def choose(self) -> Callable[[dict[int, Link]], Coroutine[Any, Any, None]]:
        """What happens next."""
        return self.chance.choice(
            (
                self.change_people, self.change_people, self.change_people, self.change_accounts, self.change_accounts,
                self.delete_account, self.link_by_hand, self.unlink_by_hand, self.match_again,
            )
        )  # fmt: skip

    # ── what there is ─────────────────────────────────────────────────────────────────────────────────────────────

    async def read_people(self) -> dict[Key, Person]:
        """The roster's people, tombstones included."""
        rows = await self.database.fetch(
            "SELECT person.*, sis_integration_no, sis_sourced_id, schools FROM users AS person"
            " LEFT JOIN person_link USING (integration_no, sourced_id)"
            " LEFT JOIN belonging ON belonging.integration_no = person.integration_no"
            " AND belonging.sourced_id = person.sourced_id WHERE person.integration_no = ANY ($1)",
            list(self.integrations),
        )
        return {
            (row["integration_no"], row["sourced_id"]): Person(
                key=(row["integration_no"], row["sourced_id"]),
                name=(row["given_name"], row["family_name"]),
                email=row["email"],
                roles=frozenset(role["role"] for role in row["roles"]),
                active=row["active"],
                seen=any(role["role"] != "guardian" for role in row["roles"])
                and (not self.schools or SCHOOL in row["schools"]),
                joined=None if row["sis_sourced_id"] is None else (row["sis_integration_no"], row["sis_sourced_id"]),
            )
            for row in rows
        }

    async def read_accounts(self) -> dict[int, Account]:
        """The product's accounts that are not deleted."""
        rows = await self.database.fetch(
            "SELECT account.*, integration.no AS integration_no FROM account"
            " LEFT JOIN integration ON integration.id = integration_id WHERE product_id = $1 AND deleted_at IS NULL",
            self.product,
        )
        return {
            row["no"]: Account(
                row["no"], row["email"], row["role"], row["sourced_id"], row["integration_no"],
                row["external_id"] is not None,
            )
            for row in rows
        }  # fmt: skip

    async def read_links(self) -> dict[int, Link]:
        """Whose they are."""
        rows = await self.database.fetch("SELECT * FROM account_link WHERE product_id = $1", self.product)
        return {row["account_no"]: Link((row["integration_no"], row["sourced_id"]), row["how"]) for row in rows}

    async def read_barred(self) -> frozenset[tuple[int, Key]]:
        """What was taken apart."""
        rows = await self.database.fetch("SELECT * FROM barred_link WHERE product_id = $1", self.product)
        return frozenset((row["account_no"], (row["integration_no"], row["sourced_id"])) for row in rows)

    async def read_unmatched(self) -> dict[Key, str]:
        """Who has no account, and why."""
        rows = await self.database.fetch("SELECT * FROM unmatched_person WHERE product_id = $1", self.product)
        return {(row["integration_no"], row["sourced_id"]): row["reason"] for row in rows}

    async def read_world(self, accounts: Mapping[int, Account], links: Mapping[int, Link]) -> World:
        """All of it, with the links and the accounts made here as they were before."""
        now = await self.read_accounts()
        gone = {no: account for no, account in accounts.items() if no in links and not account.taken_up}
        own = {no: account for no, account in now.items() if account.taken_up}
        return World(await self.read_people(), own | gone, dict(links), await self.read_barred())


async def write_person(
    connection: Connection,
    key: Key,
    number: int,
    *,
    email: str | None,
    role: str = "student",
    name: tuple[str, str] = ("Ada", "Ek"),
) -> None:
    """Put somebody into the roster as an apply would."""
    await connection.execute(
        "INSERT INTO users (integration_no, sourced_id, changed_by, change_no, version, change, active, key,"
        " fingerprint, given_name, family_name, roles, enabled_user, email, user_ids, agent_sourced_ids, grades)"
        " VALUES ($1, $2, $3, 1, 1, 'added', true, gen_random_uuid(), 1, $4, $5, $6, true, $7, '[]', '{}', '{}')"
        " ON CONFLICT (integration_no, sourced_id) DO UPDATE SET active = true, changed_by = excluded.changed_by,"
        " given_name = excluded.given_name, family_name = excluded.family_name, roles = excluded.roles,"
        " email = excluded.email",
        *key, number, *name, [{"role": role, "roleType": "primary", "orgSourcedId": SCHOOL}], email,
    )  # fmt: skip


async def license_product(
    database: Database,
    product: uuid.UUID,
    organization: uuid.UUID,
    *,
    schools: list[str] | None = None,
    grants: list[str] | None = None,
    teacher_started: bool = False,
    unmatched: str = "list",
) -> None:
    """Let a product see an organization."""
    await database.fetch(
        "INSERT INTO product (id, name, unmatched) VALUES ($1, 'Reader', $2)"
        " ON CONFLICT (id) DO UPDATE SET unmatched = excluded.unmatched",
        product, unmatched,
    )  # fmt: skip
    await database.fetch(
        "INSERT INTO access (product_id, organization_id, live, schools, grants, teacher_started, until, look_at)"
        " VALUES ($1, $2, true, $3, $4, $5, 'infinity', 'infinity')"
        " ON CONFLICT (product_id, organization_id) DO UPDATE SET live = true, until = 'infinity',"
        " schools = excluded.schools, grants = excluded.grants, teacher_started = excluded.teacher_started",
        product, organization, schools, grants or [], teacher_started,
    )  # fmt: skip


def without_how(links: Mapping[int, Link]) -> dict[int, Key]:
    """Whose accounts are, however that was found out."""
    return {no: replace(one).key for no, one in links.items()}
