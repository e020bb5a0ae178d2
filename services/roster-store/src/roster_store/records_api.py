"""`/v1/roster/records`: single records as they are held, made, changed and deleted by hand (C9), and what they were."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel, Field

from homeroom.auth import DEMOGRAPHICS, Caller, require
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.problems import Problem
from homeroom.roster import COLLECTIONS, RECORD_TYPES
from roster_store import records
from roster_store.places import check_text, choose_only, find_owner, find_sights
from roster_store.record_history import RecordHistory, read_history
from roster_store.records import Place
from roster_store.sights import Rosters, Sight
from roster_store.tables import TABLES

BASE: Final = "/v1/roster/records"
router = APIRouter(prefix=BASE, tags=["records"])

Reader = Annotated[Caller, Depends(require("roster.read", products=True))]
Looker = Annotated[Caller, Depends(require("roster.read"))]
Writer = Annotated[Caller, Depends(require("roster.write"))]
Collection = Annotated[
    str, Path(pattern=f"^({'|'.join(COLLECTIONS)})$", description="OneRoster's name of the collection")
]
SourcedId = Annotated[str, Path(min_length=1, max_length=2_000)]
Integration = Annotated[UUID | None, Query(description="whose record; needed where several have such a one")]
Organization = Annotated[UUID | None, Query(description="only its integrations")]
IfMatch = Annotated[
    str | None, Header(description="the ETag the record was read with, or `*` to change it whatever it is by now")
]

_WRITE_EXAMPLE: Final[dict[str, Any]] = {
    "givenName": "Nadia",
    "familyName": "Berg",
    "roles": [{"role": "teacher", "orgSourcedId": "school-1"}],
    "email": "nadia.berg@north.example",
}


class HeldRecord(BaseModel):
    """A record and what is known about it."""

    integration_id: UUID
    collection: str
    sourced_id: str
    origin: Literal["synced", "manual"]
    version: int = Field(description="grows by one with every change; the ETag")
    changed_at: datetime
    restored_by: Literal["next sync"] | None = Field(
        default=None,
        description="`next sync` for a synced record that was edited by hand: it goes back to the provider's values",
    )
    record: dict[str, Any] = Field(description="the record with OneRoster's names; only what the token may see")

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "integration_id": "0193a7a0-5a3e-7000-8000-000000000001",
                    "collection": "users",
                    "sourced_id": "manual-0193a7a0-5a3e-7000-8000-0000000000aa",
                    "origin": "manual",
                    "version": 1,
                    "changed_at": "2026-01-12T08:00:00Z",
                    "restored_by": None,
                    "record": {"sourcedId": "manual-0193a7a0-5a3e-7000-8000-0000000000aa", **_WRITE_EXAMPLE},
                }
            ]
        }
    }


class Deleted(BaseModel):
    """What went along with a record."""

    along: dict[str, int] = Field(
        description="records that went with it, by collection: enrollments of a person or class, demographics",
        examples=[{"enrollments": 3}],
    )


def _make_schemas() -> tuple[dict[str, Any], dict[str, Any]]:
    """OpenAPI of a whole record and of a patch, made from the records themselves."""
    (*_,), components = msgspec.json.schema_components(
        tuple(RECORD_TYPES.values()), ref_template="#/components/schemas/{name}"
    )

    def inline(schema: Any) -> Any:
        if isinstance(schema, dict):
            if "$ref" in schema:
                return inline(components[schema["$ref"].rsplit("/", 1)[1]])
            kept = {name: inline(value) for name, value in schema.items() if name not in ("default", "description")}
            return kept | ({"additionalProperties": False} if "properties" in kept else {})
        return [inline(one) for one in schema] if isinstance(schema, list) else schema

    wholes = []
    for kind in RECORD_TYPES.values():
        schema = inline(components[kind.__name__])
        schema["required"] = [name for name in schema["required"] if name != "sourcedId"]
        wholes.append(schema)
    patch = {"type": "object", "description": "a JSON merge patch (RFC 7396): null takes a value away"}
    return {"anyOf": wholes}, patch


_WHOLE, _PATCH = _make_schemas()


def _body(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request is about."""

    database: Database
    rosters: Rosters
    caller: Caller
    collection: str


def _ask(request: Request, caller: Caller, collection: str) -> _Asked:
    if collection == "demographics" and DEMOGRAPHICS not in caller.scopes:
        raise Problem(
            Code.SCOPE_MISSING, status=403, detail=f"The token lacks the scope {DEMOGRAPHICS}, needed for demographics."
        )
    return _Asked(request.app.state.database, request.app.state.rosters, caller, collection)


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/{collection}/{sourced_id}")
async def read_record(
    request: Request,
    response: Response,
    collection: Collection,
    sourced_id: SourcedId,
    caller: Reader,
    integration: Integration = None,
    organization: Organization = None,
) -> HeldRecord:
    """A record as it is held, with its version as ETag."""
    asked = _ask(request, caller, collection)
    sights = await find_sights(asked.database, caller, organization, integration)
    sight = await find_owner(asked.rosters, sights, collection, sourced_id)
    return await _show(response, asked, sight, sourced_id)


async def _show(response: Response, asked: _Asked, sight: Sight, sourced_id: str) -> HeldRecord:
    table = TABLES[asked.collection]
    columns = ", ".join(f'held."{field}"' for field in table.fields)
    async with asked.rosters.look(sight) as connection:
        row = await connection.fetchrow(table.sql("see_record", columns=columns), sourced_id)
    if row is None:  # changed again, or no more than its existence may be seen
        raise Problem(Code.NOT_FOUND, status=404, detail=f"There is no such record in {asked.collection}.")
    response.headers["ETag"] = f'"{row["version"]}"'
    edited = row["origin"] == "synced" and row["kind"] == "manual"
    return HeldRecord(
        integration_id=sight.integration_id,
        collection=asked.collection,
        sourced_id=sourced_id,
        origin=row["origin"],
        version=row["version"],
        changed_at=row["changed_at"],
        restored_by="next sync" if edited else None,
        record=msgspec.to_builtins(table.record(row)),
    )


@router.get("/{collection}/{sourced_id}/history")
async def read_record_history(
    request: Request,
    collection: Collection,
    sourced_id: SourcedId,
    caller: Looker,
    integration: Integration = None,
    organization: Organization = None,
) -> RecordHistory:
    """What a record was, when, and why it changed, newest first; also of one that is gone. Not for products."""
    asked = _ask(request, caller, collection)
    check_text(sourced_id)
    sights = await find_sights(asked.database, caller, organization, integration)
    return await read_history(asked.rosters, sights, collection, sourced_id)


# ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────────


@router.post("/{collection}", status_code=201, openapi_extra=_body(_WHOLE, _WRITE_EXAMPLE))
async def create_record(
    request: Request,
    response: Response,
    collection: Collection,
    caller: Writer,
    integration: Integration = None,
    organization: Organization = None,
) -> HeldRecord:
    """Make a record by hand, in one integration: no sync touches it. Without a sourcedId it is given one.

    The fields are those of the canonical records, as events carry them; what they point to must be there. The same
    again, with the same sourcedId, changes nothing.
    """
    asked = _ask(request, caller, collection)
    fields = await _read_body(request)
    sight = choose_only(await find_sights(asked.database, caller, organization, integration))
    sourced_id = fields.get("sourcedId") or records.make_id()
    if not isinstance(sourced_id, str):
        raise Problem(Code.REQUEST_INVALID, status=422, detail="Not accepted: sourcedId.")
    place = Place(sight.integration_id, collection, sourced_id, caller.subject)
    await records.create_record(asked.database, place, {**fields, "sourcedId": sourced_id})
    response.headers["Location"] = f"{BASE}/{collection}/{sourced_id}?integration={sight.integration_id}"
    return await _show(response, asked, sight, sourced_id)


@router.put("/{collection}/{sourced_id}", openapi_extra=_body(_WHOLE, _WRITE_EXAMPLE))
async def replace_record(
    request: Request,
    response: Response,
    collection: Collection,
    sourced_id: SourcedId,
    caller: Writer,
    integration: Integration = None,
    organization: Organization = None,
    if_match: IfMatch = None,
) -> HeldRecord:
    """Give a record other values, all of them. A synced one goes back to the provider's values at the next sync."""
    asked = _ask(request, caller, collection)
    fields = await _read_body(request)
    sight, place, versions = await _find_place(asked, sourced_id, (organization, integration), if_match)
    blind = DEMOGRAPHICS not in caller.scopes
    await records.replace_record(asked.database, place, fields, versions, blind=blind)
    return await _show(response, asked, sight, sourced_id)


@router.patch("/{collection}/{sourced_id}", openapi_extra=_body(_PATCH, {"familyName": "Berg-Lund", "phone": None}))
async def edit_record(
    request: Request,
    response: Response,
    collection: Collection,
    sourced_id: SourcedId,
    caller: Writer,
    integration: Integration = None,
    organization: Organization = None,
    if_match: IfMatch = None,
) -> HeldRecord:
    """Give some fields of a record other values. A synced one goes back to the provider's values at the next sync."""
    asked = _ask(request, caller, collection)
    patch = await _read_body(request)
    sight, place, versions = await _find_place(asked, sourced_id, (organization, integration), if_match)
    await records.edit_record(asked.database, place, patch, versions)
    return await _show(response, asked, sight, sourced_id)


@router.delete("/{collection}/{sourced_id}")
async def delete_record(
    request: Request,
    collection: Collection,
    sourced_id: SourcedId,
    caller: Writer,
    integration: Integration = None,
    organization: Organization = None,
    if_match: IfMatch = None,
) -> Deleted:
    """Delete a record that was made by hand; the enrollments of a person or class go along.

    Synced records can't be deleted. Orgs, sessions and courses that others need can't either.
    """
    asked = _ask(request, caller, collection)
    _, place, versions = await _find_place(asked, sourced_id, (organization, integration), if_match)
    return Deleted(along=await records.delete_record(asked.database, place, versions))


async def _find_place(
    asked: _Asked, sourced_id: str, narrowed: tuple[UUID | None, UUID | None], if_match: str | None
) -> tuple[Sight, Place, frozenset[int] | None]:
    """Which record is meant, and which versions of it."""
    versions = _read_versions(if_match)
    sights = await find_sights(asked.database, asked.caller, *narrowed)
    sight = await find_owner(asked.rosters, sights, asked.collection, sourced_id)
    place = Place(sight.integration_id, asked.collection, sourced_id, asked.caller.subject)
    return sight, place, versions


def _read_versions(if_match: str | None) -> frozenset[int] | None:
    """The versions an If-Match header names; None for any."""
    if if_match is None:
        raise Problem(Code.VERSION_MISSING, status=428, detail="There is no If-Match header.")
    if if_match.strip() == "*":
        return None
    tags = [tag.strip().strip('"') for tag in if_match[:1_000].split(",")]
    return frozenset(int(tag) for tag in tags if tag.isascii() and tag.isdigit() and len(tag) < 10)  # noqa: PLR2004 - digits of an int


async def _read_body(request: Request) -> dict[str, Any]:
    """The object in a body. Raises `Problem` REQUEST_INVALID."""
    try:
        body = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem(Code.REQUEST_INVALID, status=422, detail="The body is no JSON that can be read.") from None
    if not isinstance(body, dict):
        raise Problem(Code.REQUEST_INVALID, status=422, detail="The body is no JSON object.")
    return body
