"""`/v1/accounts`: the accounts a product has, so that the roster's people are matched with them (D3)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field, StringConstraints, model_validator

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.service import RequestModel
from roster_store.matching import accounts
from roster_store.matching.accounts import MAX_ACCOUNTS, AccountFields
from roster_store.matching.addresses import MAX_CHARACTERS
from roster_store.matching.links import list_events
from roster_store.matching.pages import AfterNumber
from roster_store.matching.parties import Organization, Product, Reader, Writer, find_account, find_party
from roster_store.matching.rule import How, Role
from roster_store.tables import SQL

router = APIRouter(prefix="/v1/accounts", tags=["accounts"])

_EXAMPLE = "0190f3a1-7d2e-4c11-9b54-2f6c1e8d0a37"
_TEXT = r"^[^\x00-\x1f\x7f]+$"

ExternalId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255, pattern=_TEXT),
    Field(description="the product's own id of the account, unique within the organization", examples=["u-4711"]),
]
SourcedId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255, pattern=_TEXT),
    Field(description="the person's sourcedId in the roster", examples=["user-2041"]),
]


class AccountBody(RequestModel):
    """An account as the product has it now; what is left out is empty."""

    external_id: ExternalId
    email: Annotated[
        str | None,
        Field(
            max_length=MAX_CHARACTERS,
            pattern=r"^[^\x00]*$",
            description="matched without regard to case; masked and made-up addresses are kept, and match nobody",
            examples=["ada@north.example"],
        ),
    ] = None
    role: Annotated[
        Literal["student", "teacher", "staff", "guardian"] | None,
        Field(description="an account of one kind is never matched with a person of another; teachers are staff"),
    ] = None
    sourced_id: SourcedId | None = None
    integration: Annotated[
        UUID | None, Field(description="the integration the sourced_id is from, where several may have it")
    ] = None
    active: Annotated[bool, Field(description="whether it can be used; it is matched either way")] = True

    @model_validator(mode="after")
    def _name_person(self) -> Self:
        if self.integration is not None and self.sourced_id is None:
            msg = "integration needs a sourced_id"
            raise ValueError(msg)
        return self


class AccountsBody(RequestModel):
    """Accounts of a product in one organization."""

    accounts: Annotated[list[AccountBody], Field(min_length=1, max_length=MAX_ACCOUNTS)]
    match: Annotated[
        bool,
        Field(
            description="whether to match people with them now; false for all but the last part of a large upload, "
            "which POST /v1/matching/runs may then end"
        ),
    ] = True


class PutAccount(BaseModel):
    """What became of one account of the request."""

    id: UUID | None = Field(description="ours; null if it was refused", examples=[_EXAMPLE])
    result: accounts.Result
    code: Code | None = Field(None, description="why it was refused: ACCOUNT_DOUBLE")


class PutAccounts(BaseModel):
    """What became of the accounts of a request, in its order."""

    created: int
    updated: int
    unchanged: int
    refused: int
    accounts: list[PutAccount]


class AccountLink(BaseModel):
    """Whose an account is."""

    integration: UUID
    sourced_id: str
    how: How = Field(
        description="`manual`: by hand; `sourced_id`: the product named them; `email`: by their address; "
        "`created`: the account was made for them"
    )
    since: datetime


class Account(BaseModel):
    """An account of a product."""

    id: UUID = Field(examples=[_EXAMPLE])
    product_id: UUID
    organization_id: UUID
    external_id: str | None = Field(description="null for one that was made here and not taken up yet")
    email: str | None
    role: Role | None
    integration: UUID | None
    sourced_id: str | None = Field(description="whom the product says it belongs to; `link` says whose it is")
    active: bool
    origin: Literal["product", "roster"]
    created_at: datetime
    updated_at: datetime
    link: AccountLink | None


class AccountPage(BaseModel):
    """Some accounts in the order in which they came."""

    items: list[Account]
    cursor: str | None = Field(description="for the next page; null on an empty one")
    more: bool


class AccountName(RequestModel):
    """The product's id of an account that was made here."""

    external_id: ExternalId


class LinkEvent(BaseModel):
    """Something that became of an account's link."""

    at: datetime
    event: Literal["linked", "unlinked"]
    how: Literal["manual", "sourced_id", "email", "created", "moved", "joined", "replaced", "deleted"] = Field(
        description="`moved`: its person is gone and it went to the same person under another sourcedId, or to whom "
        "the product named; `joined`: its person is somebody of the SIS; `replaced`: another account took its place"
    )
    by: str | None = Field(description="who did it by hand")
    integration: UUID
    sourced_id: str


class LinkEventPage(BaseModel):
    """What became of an account's link, oldest first."""

    items: list[LinkEvent]
    cursor: str | None
    more: bool


Limit = Annotated[int, Query(ge=1, le=5_000)]
After = Annotated[str | None, Query(max_length=200, description="from an earlier answer; none starts at the beginning")]


@router.put("")
async def put_accounts(
    request: Request, body: AccountsBody, caller: Writer, organization: Organization = None, product_id: Product = None
) -> PutAccounts:
    """Put accounts of a product, and match people with them.

    Accounts that are not named stay as they are. The same request twice changes nothing the second time.
    """
    party = await find_party(request, caller, organization, product_id)
    found = await accounts.put_accounts(_database(request), party, [*map(_read, body.accounts)], matched=body.match)
    counts = dict.fromkeys(("created", "updated", "unchanged", "refused"), 0)
    for one in found:
        counts[one.result] += 1
    return PutAccounts(
        **counts,
        accounts=[
            PutAccount(id=one.id, result=one.result, code=None if one.id else Code.ACCOUNT_DOUBLE) for one in found
        ],
    )


@router.get("")
async def list_accounts(
    request: Request,
    caller: Writer,
    organization: Organization = None,
    product_id: Product = None,
    linked: Annotated[bool | None, Query(description="only those that belong to somebody, or to nobody")] = None,
    origin: Annotated[
        Literal["product", "roster"] | None, Query(description="`roster`: those that were made for people")
    ] = None,
    cursor: After = None,
    limit: Limit = 500,
) -> AccountPage:
    """A product's accounts."""
    party = await find_party(request, caller, organization, product_id)
    after = AfterNumber.read(cursor)
    rows = await _database(request).fetch(
        SQL["list_accounts"], party.product, party.organization, after.number, linked, origin, limit + 1
    )
    page = rows[:limit]
    return AccountPage(
        items=[*map(_show, page)],
        cursor=AfterNumber(page[-1]["no"]).render() if page else None,
        more=len(rows) > limit,
    )


@router.get("/{account_id}")
async def read_account(request: Request, account_id: UUID, caller: Writer) -> Account:
    """One account."""
    _, row = await find_account(request, caller, account_id)
    return _show(row)


@router.patch("/{account_id}")
async def name_account(request: Request, account_id: UUID, body: AccountName, caller: Writer) -> Account:
    """Give an account the product's own id: so a product takes up an account that was made for a person."""
    party, row = await find_account(request, caller, account_id)
    await accounts.name_account(_database(request), party, row, body.external_id)
    return _show((await find_account(request, caller, account_id))[1])


@router.delete("/{account_id}", status_code=204)
async def delete_account(request: Request, account_id: UUID, caller: Writer) -> None:
    """Delete an account; its person is unmatched then, unless another account is theirs."""
    party, row = await find_account(request, caller, account_id)
    await accounts.delete_account(_database(request), party, row)


@router.get("/{account_id}/history")
async def list_account_history(
    request: Request, account_id: UUID, caller: Reader, cursor: After = None, limit: Limit = 100
) -> LinkEventPage:
    """Whose an account was and is, since when, how that was found out, and who did it by hand."""
    _, row = await find_account(request, caller, account_id)
    rows = await list_events(_database(request), row["no"], AfterNumber.read(cursor).number, limit + 1)
    page = rows[:limit]
    return LinkEventPage(
        items=[LinkEvent(integration=event["integration_id"], **_pick(event, LinkEvent)) for event in page],
        cursor=AfterNumber(page[-1]["no"]).render() if page else None,
        more=len(rows) > limit,
    )


def _read(body: AccountBody) -> AccountFields:
    return AccountFields(body.external_id, body.email, body.role, body.integration, body.sourced_id, body.active)


def _show(row: asyncpg.Record) -> Account:
    link = None
    if row["how"] is not None:
        link = AccountLink(
            integration=row["linked_integration_id"],
            sourced_id=row["linked_sourced_id"],
            how=row["how"],
            since=row["linked_since"],
        )
    return Account(integration=row["integration_id"], link=link, **_pick(row, Account))


def _pick(row: asyncpg.Record, model: type[BaseModel]) -> dict[str, Any]:
    """What of a row is called the same in an answer."""
    return {name: row[name] for name in model.model_fields if name not in ("integration", "link")}


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database
