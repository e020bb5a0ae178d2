"""Who is this? Answers sso, when somebody comes in from a portal, from the roster alone (E4).

Somebody is found by one field of OneRoster's users in one integration, compared character by character: `007` is not
`7`, and an e-mail address finds nobody. What is told of them is what the product's licenses grant at that moment.
"""

from __future__ import annotations

from typing import Any, Final, Literal
from uuid import UUID

import asyncpg

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.grants import FieldGroup
from homeroom.people import (
    LinkOrder,
    LinkOutcome,
    PersonAccount,
    PersonAnswer,
    PersonClass,
    PersonField,
    PersonQuestion,
    PersonRole,
    RosterPerson,
)
from homeroom.problems import Problem
from homeroom.roster import MAX_TEXT
from roster_store.matching.accounts import Party
from roster_store.matching.links import AccountName, find_account, link_external, unlink_person
from roster_store.sights import EVERYTHING, Rosters, Sight
from roster_store.tables import SQL

MOST_CLASSES: Final = 500
"""Classes of one person that are told."""
_PLATFORM: Final[frozenset[FieldGroup]] = frozenset({"guardians"})
"""What sign-in itself needs to know of people: who they are, not how to write to them."""
_REFUSALS: Final[dict[Code, Literal["unknown", "account_linked", "person_linked"]]] = {
    Code.NOT_FOUND: "unknown",
    Code.ACCOUNT_LINKED: "account_linked",
    Code.PERSON_LINKED: "person_linked",
}
_COLUMNS: Final[dict[PersonField, str]] = {
    "sourcedId": "sourced_id",
    "identifier": "identifier",
    "userMasterIdentifier": "user_master_identifier",
}


def _make_statement(field: PersonField) -> str:
    """The statement that finds who has a value in a field; only the sourcedId is one person's at most."""
    column = f"held.{_COLUMNS[field]}"
    if field == "sourcedId":
        condition, order = f"{column} = $2", column
    else:
        condition, order = f"{column} <> '' AND {column} COLLATE \"C\" = $2", f'{column} COLLATE "C" DESC, active DESC'
    return SQL["find_bearers"].format(formerly=SQL["formerly"], condition=condition, order=order)


_STATEMENTS: Final = {field: _make_statement(field) for field in _COLUMNS}


async def resolve(database: Database, rosters: Rosters, question: PersonQuestion) -> PersonAnswer:
    """Who has a value in a field of an integration's people, as a product sees them, or as the platform does.

    An integration that is not known has nobody. Who waits to come in for the first time, because classes wait for
    their teachers, is no less there (D2): this is how they come in.
    """
    product = None if question.product_id is None else UUID(question.product_id)
    if not question.value or len(question.value) > MAX_TEXT or "\0" in question.value:
        return PersonAnswer(outcome="unknown")
    integration = UUID(question.integration_id)
    rows = await database.fetch(_STATEMENTS[question.field], integration, question.value, product)
    if not rows or rows[0]["sourced_id"] is None:
        return PersonAnswer(outcome="unknown", applied_at=rows[0]["synced_at"] if rows else None)
    synced_at, active = rows[0]["synced_at"], [row for row in rows if row["active"]]
    if len(active) > 1:
        return PersonAnswer(outcome="ambiguous", applied_at=synced_at)
    if not active or not active[0]["enabled_user"]:
        gone = _name(rows[0]["sourced_id"]) if len(rows) == 1 or active else None
        return PersonAnswer(outcome="removed", person=gone, applied_at=synced_at)
    (row,) = active
    person = await _see(database, rosters, row, product)
    return PersonAnswer(outcome="hidden" if person is None else "known", person=person, applied_at=synced_at)


def _name(sourced_id: str) -> RosterPerson:
    """Somebody of whom nothing but the id is told."""
    return RosterPerson(sourced_id=sourced_id, given_name="", family_name="")


def _find_sight(row: asyncpg.Record, product: UUID | None) -> Sight | None:
    where = (row["no"], row["id"], row["organization_id"])
    if product is None:
        return Sight(*where, grants=_PLATFORM)
    if not row["licensed"]:
        return None
    schools = None if row["schools"] is None else tuple(sorted(row["schools"]))
    return Sight(*where, product, schools, EVERYTHING.intersection(row["grants"]))


async def _see(
    database: Database, rosters: Rosters, found: asyncpg.Record, product: UUID | None
) -> RosterPerson | None:
    """Somebody as a product may see them; None if it may not."""
    sight, sourced_id = _find_sight(found, product), found["sourced_id"]
    if sight is None:
        return None
    async with rosters.look(sight) as connection:
        row = await connection.fetchrow(
            SQL["see_arrived"], sourced_id, MOST_CLASSES, found["enrollments"], found["classes"]
        )
    if row is None:
        return None
    account = None if product is None else await find_account(database, product, (sight.integration_no, sourced_id))
    return RosterPerson(
        sourced_id=row["sourced_id"],
        given_name=row["given_name"],
        family_name=row["family_name"],
        preferred_first_name=row["preferred_first_name"],
        roles=tuple(_make_role(role) for role in row["roles"]),
        formerly=tuple(sorted(found["formerly"])),
        classes=tuple(PersonClass(**one) for one in row["classes"]),
        account=None
        if account is None
        else PersonAccount(id=str(account.id), external_id=account.external_id, active=account.active),
        email=row["email"],
        username=row["username"],
        grades=tuple(row["grades"]) if "grades" in sight.grants else None,
        identifier=row["identifier"],
    )


def _make_role(role: dict[str, Any]) -> PersonRole:
    primary = role.get("roleType") == "primary"
    return PersonRole(role=role["role"], org_sourced_id=role["orgSourcedId"], primary=primary)


# ── accounts ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def follow_order(database: Database, rosters: Rosters, order: LinkOrder, by: str) -> LinkOutcome:
    """Tie an account of a product to somebody it may see, or take them apart (D4); what became of it.

    Nobody's link is ever replaced: whoever has another account, or whose account belongs to somebody else, hears that.
    """
    product, integration = UUID(order.product_id), UUID(order.integration_id)
    party = Party(product, UUID(order.organization_id), by)
    rows = await database.fetch(_STATEMENTS["sourcedId"], integration, order.sourced_id, product)
    if not rows or rows[0]["organization_id"] != party.organization or not rows[0]["licensed"]:
        return LinkOutcome(outcome="unknown")
    (row,) = rows
    key, name = (row["no"], order.sourced_id), AccountName(external_id=order.external_id)
    try:
        if order.action == "unlink":
            await unlink_person(database, party, name, key)
            return LinkOutcome(outcome="unlinked")
        if not row["active"] or not row["enabled_user"] or await _see(database, rosters, row, product) is None:
            return LinkOutcome(outcome="unknown")
        await link_external(database, party, order.external_id, key)
    except Problem as refusal:
        if refusal.code not in _REFUSALS:
            raise
        return LinkOutcome(outcome=_REFUSALS[refusal.code])
    return LinkOutcome(outcome="linked")
