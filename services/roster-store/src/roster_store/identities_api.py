"""`POST /v1/people/resolve` and `/v1/people/link`: what sso asks when somebody comes in (E4, D4). On no origin."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from homeroom.auth import RESOLVE_PEOPLE, Caller, require
from homeroom.codes import Code
from homeroom.people import LinkOrder, LinkOutcome, PersonAnswer, PersonField, PersonQuestion
from homeroom.problems import Problem
from homeroom.roster import MAX_TEXT
from homeroom.service import RequestModel
from roster_store.identities import follow_order, resolve

_TEXT: Final = r"^[^\x00]+$"
SourcedId = Annotated[str, Field(min_length=1, max_length=MAX_TEXT, pattern=_TEXT, examples=["user-17"])]


async def _check_sso(caller: Annotated[Caller, Depends(require(RESOLVE_PEOPLE))]) -> Caller:
    """People of every organization are found here, so whoever is bound to one finds none, whatever its token says."""
    if caller.organization_id is not None:
        detail = "People are resolved with a token that is not bound to an organization."
        raise Problem(Code.SCOPE_MISSING, status=403, detail=detail)
    return caller


router = APIRouter(prefix="/v1/people", tags=["identities"])
SignIn = Annotated[Caller, Depends(_check_sso)]


class Question(RequestModel):
    """Who has this value in this field, in the roster of one integration?"""

    integration_id: UUID
    field: PersonField = "sourcedId"
    value: str = Field(max_length=10_000, description="compared character by character", examples=["user-17"])
    product_id: UUID | None = Field(default=None, description="as which product sees them; none as the platform does")


class Order(RequestModel):
    """Tie an account of a product to somebody, or take them apart."""

    action: Literal["link", "unlink"]
    product_id: UUID
    organization_id: UUID
    integration_id: UUID
    sourced_id: SourcedId
    external_id: str = Field(
        min_length=1, max_length=MAX_TEXT, pattern=_TEXT, description="the product's own id of it", examples=["u-4711"]
    )


def _describe(kind: type[msgspec.Struct], description: str, example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI of an answer, made from what both sides read and write."""
    _, components = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")

    def inline(schema: Any) -> Any:
        if isinstance(schema, dict):
            if "$ref" in schema:
                return inline(components[schema["$ref"].rsplit("/", 1)[1]])
            return {name: inline(value) for name, value in schema.items() if name != "default"}
        return [inline(one) for one in schema] if isinstance(schema, list) else schema

    content = {"application/json": {"schema": inline(components[kind.__name__]), "example": example}}
    return {200: {"description": description, "content": content}}


_ANSWERS: Final = _describe(
    PersonAnswer,
    "Who it is, or why nobody is told: never an error of the request.",
    {
        "outcome": "known",
        "person": {
            "sourced_id": "user-17",
            "given_name": "Nadia",
            "family_name": "Berg",
            "roles": [{"role": "student", "org_sourced_id": "school-1", "primary": True}],
            "classes": [{"sourced_id": "class-3", "title": "Maths 5", "role": "student"}],
        },
        "applied_at": "2026-09-01T03:12:00Z",
    },
)
_OUTCOMES: Final = _describe(LinkOutcome, "What became of it.", {"outcome": "linked"})


@router.post("/resolve", response_class=Response, responses=_ANSWERS)
async def resolve_person(request: Request, caller: SignIn, body: Question) -> Response:
    """Say who somebody is who came in by a portal; only sso may ask."""
    del caller
    question = PersonQuestion(
        integration_id=str(body.integration_id),
        field=body.field,
        value=body.value,
        product_id=None if body.product_id is None else str(body.product_id),
    )
    return _answer(await resolve(request.app.state.database, request.app.state.rosters, question))


@router.post("/link", response_class=Response, responses=_OUTCOMES)
async def link_signed_in(request: Request, caller: SignIn, body: Order) -> Response:
    """Tie an account to whoever signed in on both sides, or take them apart again; only sso may ask."""
    order = LinkOrder(
        action=body.action,
        product_id=str(body.product_id),
        organization_id=str(body.organization_id),
        integration_id=str(body.integration_id),
        sourced_id=body.sourced_id,
        external_id=body.external_id,
    )
    return _answer(await follow_order(request.app.state.database, request.app.state.rosters, order, caller.subject))


def _answer(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json", headers={"Cache-Control": "no-store"})
