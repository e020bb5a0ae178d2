"""The REST face of an audit log: who did what, and whether it is as it was written."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from homeroom.audit import Mark, list_entries, verify
from homeroom.auth import Caller, identify, require
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.problems import Problem
from homeroom.service import RequestModel

NEWEST = 2**63 - 1
_CURSOR = "before:"

Subject = Annotated[
    str | None,
    Query(
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="only what was done to this one, as `run:…` or `integration:…`",
    ),
]


Anyone = Annotated[Caller, Depends(identify)]
"""The caller, whose scope the router checks."""


class AuditEntry(BaseModel):
    """Something that somebody did."""

    number: int = Field(description="its place in the log: 1, 2, 3, … over all organizations", examples=[1207])
    at: datetime = Field(examples=["2026-11-18T09:30:00Z"])
    by: str = Field(description="the subject of the token it was done with", examples=["console:ada"])
    action: str = Field(description="what was done, as `thing.verb`", examples=["integration.pause"])
    subject: str = Field(
        description="what it was done to, as `thing:id`", examples=["integration:0190f3a1-7d2e-7c11-9b54-2f6c1e8d0a37"]
    )
    organization_id: UUID | None
    product_id: UUID | None = Field(description="the product whose token it was done with, or that it concerns")
    detail: dict[str, Any]
    hash: str = Field(
        description="SHA-256 over this entry and the hash of the one before, in hexadecimal",
        examples=["5c6ffbdd40d9556b73a21e63c3e0e904be1d6bca0e8c5f5d3b3a7a3b6f6f6a11"],
    )


class AuditPage(BaseModel):
    """Some of the log, newest first, and the cursor of what follows."""

    items: list[AuditEntry]
    cursor: str | None
    more: bool


class AuditMark(RequestModel):
    """An entry as it was told before."""

    number: int = Field(ge=1, lt=NEWEST, examples=[1207])
    hash: str = Field(
        pattern="^[0-9a-f]{64}$", examples=["5c6ffbdd40d9556b73a21e63c3e0e904be1d6bca0e8c5f5d3b3a7a3b6f6f6a11"]
    )


class VerificationBody(RequestModel):
    """What the log is to be compared with."""

    known: AuditMark | None = Field(
        default=None,
        description="an entry that was noted down outside, such as `newest` of an earlier verification: proof that "
        "not even somebody who may write to the database has replaced what stood before it",
    )


class Verification(BaseModel):
    """What walking the whole log came to."""

    ok: bool
    entries: int = Field(description="entries that were looked at", examples=[1207])
    first_broken: int | None = Field(
        description="the number of the first entry that is missing or is not as it was written", examples=[None]
    )
    forgotten: int = Field(description="entries up to this number are not kept any more", examples=[0])
    newest: AuditMark | None = Field(description="the end of the log, to be kept outside; null while it is empty")


def make_router(prefix: str, scope: str) -> APIRouter:
    """`GET <prefix>/audit` and `POST <prefix>/audit/verifications` of a service, for tokens with that scope."""
    router = APIRouter(prefix=prefix, tags=["audit"], dependencies=[Depends(require(scope))])

    async def list_audit(
        request: Request,
        caller: Anyone,
        organization_id: UUID | None = None,
        subject: Subject = None,
        cursor: Annotated[str | None, Query(description="from an earlier answer; none starts at the newest")] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> AuditPage:
        """Who did what, newest first: every action of a person or a product, with the one it was done to.

        A token of an organization sees what concerns that one.
        """
        seen = _bound_to(caller)
        if organization_id is not None and seen not in (None, organization_id):
            raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no organization {organization_id}.")
        database: Database = request.app.state.database
        rows = await list_entries(
            database, organization=seen or organization_id, subject=subject, before=_parse(cursor), limit=limit + 1
        )
        more = len(rows) > limit
        rows = rows[:limit]
        return AuditPage(items=[_show(row) for row in rows], cursor=_render(rows[-1]) if more else None, more=more)

    async def verify_audit(request: Request, caller: Anyone, body: VerificationBody | None = None) -> Verification:
        """Walk the whole log and say whether it is as it was written; for tokens that are bound to no organization."""
        if caller.organization_id is not None:
            detail = "The log is one for all organizations; it is verified with a token that is bound to none."
            raise Problem(Code.SCOPE_MISSING, status=403, detail=detail)
        known = None if body is None or body.known is None else Mark(body.known.number, body.known.hash)
        verdict = await verify(request.app.state.database, known=known)
        newest = verdict.newest
        return Verification(
            ok=verdict.first_broken is None,
            entries=verdict.entries,
            first_broken=verdict.first_broken,
            forgotten=verdict.forgotten,
            newest=AuditMark(number=newest.number, hash=newest.hash) if newest.number else None,
        )

    router.add_api_route("/audit", list_audit, methods=["GET"])
    router.add_api_route("/audit/verifications", verify_audit, methods=["POST"])
    return router


def _bound_to(caller: Caller) -> UUID | None:
    """The one organization a caller may see; None for all."""
    if caller.organization_id is None:
        return None
    try:
        return UUID(caller.organization_id)
    except ValueError:
        return UUID(int=0)  # which is nobody's


def _show(row: asyncpg.Record) -> AuditEntry:
    same = {name: row[name] for name in ("number", "at", "by", "action", "subject", "detail")}
    return AuditEntry(
        **same, organization_id=row["organization"], product_id=row["product"], hash=bytes(row["hash"]).hex()
    )


def _render(row: asyncpg.Record) -> str:
    return urlsafe_b64encode(f"{_CURSOR}{row['number']}".encode()).decode().rstrip("=")


def _parse(cursor: str | None) -> int:
    if cursor is None:
        return NEWEST
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError):
        text = ""
    number = text.removeprefix(_CURSOR)
    if not text.startswith(_CURSOR) or not number.isdecimal() or len(number) > 18:  # noqa: PLR2004 - fits a bigint
        raise Problem(Code.CURSOR_INVALID, status=400, detail="The cursor is not one of ours; send it as you got it.")
    return int(number)
