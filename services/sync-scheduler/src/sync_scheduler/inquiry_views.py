"""What callers get to see of answers: a verification's report, the schools of the exclusion dialog (C4, C11)."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec
from pydantic import BaseModel

from homeroom.codes import Code
from homeroom.messages import Finding as Found
from homeroom.messages import School as Named


class Finding(BaseModel):
    """One thing that was looked at."""

    check: str
    ok: bool
    code: Code | None
    detail: str
    count: int | None
    next_step: str | None


class Report(BaseModel):
    """What a verification came to."""

    ok: bool
    code: Code | None
    detail: str | None
    next_step: str | None
    findings: list[Finding]
    checked_at: datetime


class School(BaseModel):
    """A school as the provider names it, and whether the integration leaves it out."""

    sourced_id: str
    name: str
    identifier: str | None
    excluded: bool


class Schools(BaseModel):
    """All schools the provider has."""

    schools: list[School]
    as_of: datetime


class Pending(BaseModel):
    """The provider has not answered yet; the answer will be where `Location` says."""

    inquiry_id: UUID
    state: Literal["pending"] = "pending"


class Inquiry(BaseModel):
    """A question and what came of it."""

    inquiry_id: UUID
    integration_id: UUID
    kind: Literal["verify", "schools"]
    state: Literal["pending", "answered", "failed"]
    asked_at: datetime
    answered_at: datetime | None
    code: Code | None
    message: str | None
    detail: str | None
    next_step: str | None
    answer: Report | Schools | None


def show_report(row: asyncpg.Record) -> Report:
    """An answered inquiry of kind `verify`."""
    answer = row["answer"] or {}
    code = Code(row["code"]) if row["code"] else None
    found = msgspec.convert(answer.get("findings", []), list[Found])
    return Report(
        ok=code is None,
        code=code,
        detail=row["detail"],
        next_step=code.entry.next_step if code else None,
        findings=[
            Finding(
                check=one.check,
                ok=one.ok,
                code=one.code,
                detail=one.detail,
                count=one.count,
                next_step=one.code.entry.next_step if one.code else None,
            )
            for one in found
        ],
        checked_at=row["answered_at"],
    )


def show_schools(row: asyncpg.Record) -> Schools:
    """An answered inquiry of kind `schools`, in the light of the integration's options of now."""
    excluded = set(row["options"].get("excluded_schools", ()))
    found = msgspec.convert((row["answer"] or {}).get("schools", []), list[Named])
    return Schools(
        schools=[
            School(
                sourced_id=one.sourced_id,
                name=one.name,
                identifier=one.identifier,
                excluded=one.sourced_id in excluded,
            )
            for one in found
        ],
        as_of=row["answered_at"],
    )


def show_inquiry(row: asyncpg.Record) -> Inquiry:
    """An inquiry, answered or not."""
    code = Code(row["code"]) if row["code"] else None
    answered = row["answered_at"] is not None
    answer: Report | Schools | None = None
    if answered and row["kind"] == "verify":
        answer = show_report(row)
    elif answered and code is None:
        answer = show_schools(row)
    done: Literal["answered", "failed"] = "answered" if answer is not None else "failed"
    return Inquiry(
        inquiry_id=row["id"],
        integration_id=row["integration"],
        kind=row["kind"],
        state=done if answered else "pending",
        asked_at=row["asked_at"],
        answered_at=row["answered_at"],
        code=code,
        message=code.entry.title if code else None,
        detail=row["detail"],
        next_step=code.entry.next_step if code else None,
        answer=answer,
    )
