"""`/v1/matching`: which account is whose, who has none and why, and what people say about it by hand (D3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Self
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field, model_validator

from homeroom import audit
from homeroom.auth import Caller
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.problems import Problem
from homeroom.service import RequestModel
from roster_store.matching import links
from roster_store.matching.accounts import Party
from roster_store.matching.accounts_api import After, ExternalId, Limit, SourcedId
from roster_store.matching.links import AccountName
from roster_store.matching.matcher import count_product, rematch
from roster_store.matching.pages import AfterPerson
from roster_store.matching.parties import Organization, Product, Reader, Writer, find_account, find_party
from roster_store.matching.rule import How, Reason
from roster_store.sights import Rosters, Sight, list_product_sights, list_sights
from roster_store.tables import SQL

router = APIRouter(prefix="/v1/matching", tags=["matching"])


class Candidate(BaseModel):
    """An account that may be somebody's."""

    account_id: UUID
    external_id: str | None


class UnmatchedPerson(BaseModel):
    """Somebody without an account."""

    integration: UUID
    sourced_id: str = Field(examples=["user-2041"])
    given_name: str | None = Field(description="null if the caller does not see the person any more")
    family_name: str | None
    roles: list[str] = Field(examples=[["student"]])
    reason: Reason = Field(
        description="`no_email`: the roster has no address; `placeholder_email`: what it has is masked, made up or no "
        "address; `unknown`: no account has the address; `shared_email`: several people have it; `ambiguous`: several "
        "accounts may be theirs, or one may be several people's; `role_conflict`: the account is of another kind; "
        "`account_taken`: the account with the address belongs to somebody else; `unlinked`: taken apart by hand"
    )
    since: datetime
    candidates: list[Candidate] = Field(description="accounts that may be theirs, ten at most")


class UnmatchedPage(BaseModel):
    """Some of the people without an account."""

    items: list[UnmatchedPerson]
    cursor: str | None = Field(description="for the next page; null on an empty one")
    more: bool


class Link(BaseModel):
    """An account, and whose it is."""

    account_id: UUID
    external_id: str | None = Field(description="null while the product has not taken up the account made for them")
    integration: UUID
    sourced_id: str
    active: bool = Field(description="false for somebody who left the roster, or what the caller sees of it")
    how: How
    since: datetime
    by: str | None = Field(description="who tied them by hand")


class LinkPage(BaseModel):
    """Some links."""

    items: list[Link]
    cursor: str | None = Field(description="for the next page; null on an empty one")
    more: bool


class LinkBody(RequestModel):
    """An account, named by either id, and the person whose it is."""

    account_id: UUID | None = None
    external_id: ExternalId | None = None
    integration: UUID
    sourced_id: SourcedId
    replace: bool = Field(default=False, description="end the links that the account or the person has")

    @model_validator(mode="after")
    def _name_one(self) -> Self:
        if (self.account_id is None) == (self.external_id is None):
            msg = "name the account by account_id or by external_id"
            raise ValueError(msg)
        return self


class Linked(BaseModel):
    """The account that was tied."""

    account_id: UUID


class Standing(BaseModel):
    """How the people of an integration stand with the product's accounts."""

    integration: UUID
    matched_students: int
    matched_teachers: int
    created: int = Field(description="of the matched ones, those an account was made for")
    unmatched: int = Field(description="students and teachers without an account")
    ambiguous: int = Field(description="of these, who might be several accounts, or share an address")
    reasons: dict[Reason, int] = Field(description="everybody without an account, staff and guardians too, by reason")


class Summary(BaseModel):
    """How an organization and a product stand with each other."""

    accounts: int
    linked: int
    waiting: int = Field(description="of the accounts, those that were made here and not taken up yet")
    integrations: list[Standing]


@router.get("/unmatched")
async def list_unmatched(
    request: Request,
    caller: Reader,
    organization: Organization = None,
    product_id: Product = None,
    reason: Annotated[Reason | None, Query(description="only with this reason")] = None,
    cursor: After = None,
    limit: Limit = 500,
) -> UnmatchedPage:
    """People without an account, and why: the list to work through."""
    party = await find_party(request, caller, organization, product_id)
    after, sights = AfterPerson.read(cursor), await _list_sights(request, caller, party)
    rows = await _database(request).fetch(
        SQL["list_unmatched"], party.product, list(sights), reason, after.integration_no, after.sourced_id, limit + 1
    )
    page = rows[:limit]
    people = await _look_at(request, sights, page)
    return UnmatchedPage(
        items=[_show_unmatched(row, people.get((row["integration_no"], row["sourced_id"]))) for row in page],
        cursor=_end(page),
        more=len(rows) > limit,
    )


@router.get("/links")
async def list_links(
    request: Request,
    caller: Reader,
    organization: Organization = None,
    product_id: Product = None,
    cursor: After = None,
    limit: Limit = 500,
) -> LinkPage:
    """Whose each account is, also of people who left the roster: they keep it in case they come back."""
    party = await find_party(request, caller, organization, product_id)
    after, sights = AfterPerson.read(cursor), await _list_sights(request, caller, party)
    rows = await _database(request).fetch(
        SQL["list_account_links"], party.product, list(sights), after.integration_no, after.sourced_id, limit + 1
    )
    page = rows[:limit]
    people = await _look_at(request, sights, page)
    return LinkPage(
        items=[
            Link(
                account_id=row["account_id"],
                external_id=row["external_id"],
                integration=row["integration_id"],
                sourced_id=row["sourced_id"],
                active=(row["integration_no"], row["sourced_id"]) in people,
                how=row["how"],
                since=row["since"],
                by=row["by"],
            )
            for row in page
        ],
        cursor=_end(page),
        more=len(rows) > limit,
    )


@router.put("/links")
async def link_account(
    request: Request, body: LinkBody, caller: Writer, organization: Organization = None, product_id: Product = None
) -> Linked:
    """Tie an account to a person by hand; no matching undoes it. Done twice, it is the same."""
    party = await find_party(request, caller, organization, product_id)
    sights = await list_sights(
        _database(request), caller, organization=party.organization, integration=body.integration
    )
    seen = {sight.integration_no: sight for sight in await _narrow(request, party, sights)}
    found = await _find_people(request, seen, [(no, [body.sourced_id]) for no in seen])
    if not found:
        raise Problem(Code.NOT_FOUND, status=404, detail="There is no such person, or they left the roster.")
    name = AccountName(body.account_id, body.external_id)
    account_id = await links.link(_database(request), party, name, next(iter(found)), replace=body.replace)
    return Linked(account_id=account_id)


@router.delete("/links/{account_id}", status_code=204)
async def unlink_account(request: Request, account_id: UUID, caller: Writer) -> None:
    """Take an account and its person apart; they are not matched again by themselves."""
    party, row = await find_account(request, caller, account_id)
    await links.unlink(_database(request), party, row)


@router.post("/runs")
async def match_again(
    request: Request, caller: Writer, organization: Organization = None, product_id: Product = None
) -> Summary:
    """Match everybody of the organization with the product's accounts now."""
    party = await find_party(request, caller, organization, product_id)
    await _database(request).transact(partial(_rematch, party=party))
    return await _sum_up(request, caller, party)


@router.get("/summary")
async def read_summary(
    request: Request, caller: Reader, organization: Organization = None, product_id: Product = None
) -> Summary:
    """How many people have an account, and how many not, integration by integration."""
    return await _sum_up(request, caller, await find_party(request, caller, organization, product_id))


async def _rematch(connection: Connection, party: Party) -> None:
    await rematch(connection, party.product, party.organization)
    await audit.note(
        connection,
        by=party.by,
        action="matching.run",
        organization=party.organization,
        product=party.product,
        subject=f"product:{party.product}",
    )


async def _sum_up(request: Request, caller: Caller, party: Party) -> Summary:
    sights = await _list_sights(request, caller, party)
    async with _database(request).connection() as connection:
        counts = await connection.fetchrow(SQL["count_accounts"], party.product, party.organization)
        assert counts is not None  # noqa: S101 - an aggregate always gives a row
        standings = [await _stand(connection, party, sight) for sight in sights.values()]
    return Summary(accounts=counts["accounts"], linked=counts["linked"], waiting=counts["made"], integrations=standings)


async def _stand(connection: Connection, party: Party, sight: Sight) -> Standing:
    counted = await count_product(connection, party.product, party.organization, sight.integration_no)
    reasons = await connection.fetch(SQL["count_reasons"], party.product, sight.integration_no)
    return Standing(
        integration=sight.integration_id,
        matched_students=counted.matched_students,
        matched_teachers=counted.matched_teachers,
        created=counted.created,
        unmatched=counted.unmatched,
        ambiguous=counted.ambiguous,
        reasons={row["reason"]: row["count"] for row in reasons},
    )


async def _list_sights(request: Request, caller: Caller, party: Party) -> Mapping[int, Sight]:
    """What the caller sees of the organization, by integration."""
    sights = await list_sights(_database(request), caller, organization=party.organization)
    return {sight.integration_no: sight for sight in sights}


async def _narrow(request: Request, party: Party, sights: Sequence[Sight]) -> Sequence[Sight]:
    """What the caller and the product both see: nobody is tied to an account of a product that may not know them."""
    if all(sight.product_id is not None for sight in sights):
        return sights
    product = await list_product_sights(_database(request), party.product, organization=party.organization)
    wanted = {sight.integration_no for sight in sights}
    return [sight for sight in product if sight.integration_no in wanted]


async def _look_at(
    request: Request, sights: Mapping[int, Sight], page: Iterable[asyncpg.Record]
) -> dict[tuple[int, str], asyncpg.Record]:
    """The people of a page, as far as the caller sees them and they are active."""
    wanted: dict[int, list[str]] = {}
    for row in page:
        wanted.setdefault(row["integration_no"], []).append(row["sourced_id"])
    return await _find_people(request, sights, wanted.items())


async def _find_people(
    request: Request, sights: Mapping[int, Sight], wanted: Iterable[tuple[int, list[str]]]
) -> dict[tuple[int, str], asyncpg.Record]:
    rosters: Rosters = request.app.state.rosters
    found = {}
    for no, sourced_ids in wanted:
        async with rosters.look(sights[no]) as connection:
            for row in await connection.fetch(SQL["see_people"], no, sourced_ids):
                found[(no, row["sourced_id"])] = row
    return found


def _show_unmatched(row: asyncpg.Record, person: asyncpg.Record | None) -> UnmatchedPerson:
    return UnmatchedPerson(
        integration=row["integration_id"],
        sourced_id=row["sourced_id"],
        given_name=person["given_name"] if person else None,
        family_name=person["family_name"] if person else None,
        roles=sorted({role["role"] for role in person["roles"]}) if person else [],
        reason=row["reason"],
        since=row["since"],
        candidates=[Candidate(**one) for one in row["candidates"]],
    )


def _end(page: Sequence[asyncpg.Record]) -> str | None:
    return AfterPerson(page[-1]["integration_no"], page[-1]["sourced_id"]).render() if page else None


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database
