"""Relying parties over REST: what the platform's admins write down about products' clients that sign people in."""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field, StringConstraints, model_validator

from homeroom import audit
from homeroom.auth import ADMIN, Caller, require
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.egress import AddressRefused, read_address
from homeroom.problems import Problem
from homeroom.service import RequestModel
from sso.clients import CLIENT_ID
from sso.handover.lti_settings import Address, LtiSettings
from sso.provider.relying_parties import LaunchMode, RelyingParties
from sso.statements import SQL

router = APIRouter(prefix="/v1/relying-parties", tags=["relying parties"])

MOST_ADDRESSES: Final = 20
MOST_DESTINATIONS: Final = 50

ClientId = Annotated[str, Path(pattern=CLIENT_ID, examples=["reader-web"])]
DestinationName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
Addresses = Annotated[list[Address], Field(max_length=MOST_ADDRESSES)]


async def _check_platform(caller: Annotated[Caller, Depends(require(ADMIN))]) -> Caller:
    if caller.organization_id is not None:
        detail = "Relying parties are looked after by tokens that are bound to no organization."
        raise Problem(Code.SCOPE_MISSING, status=403, detail=detail)
    return caller


PlatformAdmin = Annotated[Caller, Depends(_check_platform)]


class RelyingPartyWrite(RequestModel):
    """How a product's client signs people in; what is left out is as the defaults say."""

    launches: bool = Field(default=True, description="whether tiles open the product through this client")
    launch_mode: LaunchMode = Field(
        default="oidc",
        description="how: `oidc` sends people to initiate_login_uri, `ticket` to launch_uri, `lti` by LTI 1.3",
    )
    redirect_uris: Addresses = Field(
        default_factory=list,
        description="where codes may be sent; compared character by character",
        examples=[["https://reader.example/signed-in"]],
    )
    post_logout_redirect_uris: Addresses = Field(
        default_factory=list,
        description="where people may be sent after signing out",
        examples=[["https://reader.example/"]],
    )
    initiate_login_uri: Address | None = Field(
        default=None,
        description="where the product begins a sign-in (gets `iss`, `login_hint`, `target_link_uri`)",
        examples=["https://reader.example/sign-in"],
    )
    launch_uri: Address | None = Field(
        default=None, description="where tickets are sent", examples=["https://reader.example/launch"]
    )
    backchannel_logout_uri: Annotated[str, StringConstraints(min_length=1, max_length=2_000)] | None = Field(
        default=None,
        description="where logout tokens are posted when a session ends",
        examples=["https://reader.example/signed-out"],
    )
    destinations: dict[DestinationName, Address] = Field(
        default_factory=dict,
        max_length=MOST_DESTINATIONS,
        description="name → target_link_uri: places in the product that a tile can open",
        examples=[{"library": "https://reader.example/library"}],
    )
    refresh_tokens: bool = Field(default=False, description="whether it is given any; they end with the session")
    public: bool = Field(
        default=False, description="an app or a page that can keep no secret: PKCE alone proves that it asked"
    )
    lti: LtiSettings | None = Field(default=None, description="what LTI 1.3 needs")

    @model_validator(mode="after")
    def _check(self) -> Self:
        """What must be there together, and what makes exact comparison a promise."""
        if self.launch_mode == "ticket" and self.launch_uri is None:
            msg = "launch_mode ticket needs a launch_uri"
            raise ValueError(msg)
        if self.launch_mode == "lti" and self.lti is None:
            msg = "launch_mode lti needs lti"
            raise ValueError(msg)
        for address in (*self.redirect_uris, *self.post_logout_redirect_uris):
            if "*" in address:
                msg = "an address with a wildcard would match itself only"
                raise ValueError(msg)
        if len(set(self.redirect_uris)) < len(self.redirect_uris):
            msg = "an address stands twice among redirect_uris"
            raise ValueError(msg)
        return self


class RelyingPartyRead(BaseModel):
    """A relying party as it stands."""

    client_id: str = Field(examples=["reader-web"])
    product_id: UUID
    launches: bool
    launch_mode: LaunchMode
    redirect_uris: list[str]
    post_logout_redirect_uris: list[str]
    initiate_login_uri: str | None
    launch_uri: str | None
    backchannel_logout_uri: str | None
    destinations: dict[str, str]
    refresh_tokens: bool
    public: bool
    lti: dict[str, Any] | None
    updated_at: datetime


class RelyingPartyPage(BaseModel):
    """Some relying parties, in order of their clients' ids."""

    relying_parties: list[RelyingPartyRead]
    cursor: str | None = Field(description="send it to get those that follow; null at the end")


@router.get("")
async def list_relying_parties(
    request: Request,
    caller: PlatformAdmin,
    product_id: Annotated[UUID | None, Query(description="only this product's")] = None,
    cursor: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> RelyingPartyPage:
    """Products' clients that sign people in."""
    del caller
    database: Database = request.app.state.database
    rows = await database.fetch(SQL["list_relying_parties"], _read_cursor(cursor), product_id, limit + 1)
    shown = [_show(row) for row in rows[:limit]]
    more = urlsafe_b64encode(shown[-1].client_id.encode()).decode() if len(rows) > limit else None
    return RelyingPartyPage(relying_parties=shown, cursor=more)


@router.get("/{client_id}")
async def read_relying_party(request: Request, client_id: ClientId, caller: PlatformAdmin) -> RelyingPartyRead:
    """How a product's client signs people in."""
    del caller
    database: Database = request.app.state.database
    row = await database.fetchrow(SQL["read_relying_party"], client_id)
    if row is None:
        raise _missing()
    return _show(row)


@router.put("/{client_id}")
async def put_relying_party(
    request: Request, client_id: ClientId, wanted: RelyingPartyWrite, caller: PlatformAdmin
) -> RelyingPartyRead:
    """Say how a product's client signs people in, all of it at once. Other copies of sso heed it within seconds."""
    if problems := list(_find_problems(wanted, allow_private=request.app.state.settings.allow_private_endpoints)):
        errors = [{"field": f"body.{field}", "problem": problem} for field, problem in problems]
        raise Problem(Code.REQUEST_INVALID, status=422, detail="An address can't be used.", errors=errors)
    database, parties = request.app.state.database, request.app.state.relying_parties
    try:
        row = await database.transact(partial(_put, client_id=client_id, wanted=wanted, by=caller.subject))
    except asyncpg.UniqueViolationError:
        detail = "Another client of this product is opened by tiles."
        raise Problem(Code.LAUNCH_CLIENT_EXISTS, status=409, detail=detail) from None
    parties.forget()
    return _show(row)


@router.delete("/{client_id}", status_code=204)
async def delete_relying_party(request: Request, client_id: ClientId, caller: PlatformAdmin) -> None:
    """Let a client sign nobody in any more. Its tokens are worth nothing from now on; the client itself stays."""
    database: Database = request.app.state.database
    parties: RelyingParties = request.app.state.relying_parties
    if not await database.transact(partial(_delete, client_id=client_id, by=caller.subject)):
        raise _missing()
    parties.forget()


def _find_problems(wanted: RelyingPartyWrite, *, allow_private: bool) -> Iterator[tuple[str, str]]:
    """Addresses that this installation does not allow: plain http, and for our own calls what egress refuses."""
    single = {name: getattr(wanted, name) for name in ("initiate_login_uri", "launch_uri")}
    lists: dict[str, list[str]] = {name: [address] for name, address in single.items() if address is not None}
    lists |= {"redirect_uris": wanted.redirect_uris, "post_logout_redirect_uris": wanted.post_logout_redirect_uris}
    lists["destinations"] = list(wanted.destinations.values())
    for name, addresses in lists.items():
        if not allow_private and any(urlsplit(address).scheme != "https" for address in addresses):
            yield name, "it must begin with https://"
    if wanted.backchannel_logout_uri is not None:
        try:
            url = read_address(wanted.backchannel_logout_uri, allow_private=allow_private)
        except AddressRefused as refused:
            yield "backchannel_logout_uri", refused.detail
        else:
            if url.fragment or not re.fullmatch(r"[!-~]+", wanted.backchannel_logout_uri):
                yield "backchannel_logout_uri", "it must hold no fragment and no spaces"


async def _put(connection: Connection, client_id: str, wanted: RelyingPartyWrite, by: str) -> asyncpg.Record:
    client = await connection.fetchrow(SQL["lock_fitting_client"], client_id)
    if client is None:
        raise Problem(Code.NOT_FOUND, status=404, detail="No client has this id.")
    if not client["fits"]:
        detail = "The client is disabled, belongs to no product, or is bound to one organization."
        raise Problem(Code.CLIENT_UNFIT, status=409, detail=detail)
    row = await connection.fetchrow(
        SQL["put_relying_party"],
        client_id,
        client["product_id"],
        wanted.launches,
        wanted.launch_mode,
        wanted.redirect_uris,
        wanted.post_logout_redirect_uris,
        wanted.initiate_login_uri,
        wanted.launch_uri,
        wanted.backchannel_logout_uri,
        wanted.destinations,
        wanted.refresh_tokens,
        wanted.public,
        None if wanted.lti is None else wanted.lti.model_dump(mode="json"),
    )
    assert row is not None  # noqa: S101 - an upsert returns what it wrote
    await audit.note(
        connection,
        by=by,
        action="relying-party.put",
        organization=None,
        product=client["product_id"],
        subject=f"relying-party:{client_id}",
        detail={
            "launches": wanted.launches,
            "launch_mode": wanted.launch_mode,
            "public": wanted.public,
            "refresh_tokens": wanted.refresh_tokens,
            "redirect_uris": len(wanted.redirect_uris),
        },
    )
    return row


async def _delete(connection: Connection, client_id: str, by: str) -> bool:
    product_id: UUID | None = await connection.fetchval(SQL["delete_relying_party"], client_id)
    if product_id is None:
        return False
    await audit.note(
        connection,
        by=by,
        action="relying-party.delete",
        organization=None,
        product=product_id,
        subject=f"relying-party:{client_id}",
    )
    return True


def _show(row: asyncpg.Record) -> RelyingPartyRead:
    return RelyingPartyRead(**dict(row))


def _missing() -> Problem:
    return Problem(Code.NOT_FOUND, status=404, detail="No client with this id signs people in.")


def _read_cursor(cursor: str) -> str:
    try:
        after = urlsafe_b64decode(cursor).decode("ascii")
    except (binascii.Error, ValueError):
        after = "\0"
    if after and not re.fullmatch(CLIENT_ID, after):
        raise Problem(Code.CURSOR_INVALID, status=400, detail="The cursor can't be read.")
    return after
