"""`/v1/account-links`: a product has somebody connect their account with who they are at school (D4)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import AwareDatetime, BaseModel, Field, StringConstraints

from homeroom.auth import Caller, require
from homeroom.clock import Clock
from homeroom.codes import Code
from homeroom.problems import Problem
from homeroom.service import RequestModel
from sso.handover.link_requests import LinkRequest, LinkRequests, Order, is_fresh, may_return
from sso.handover.unlinking import Unlinking
from sso.launch.launching import Launching
from sso.launch.refusals import Refused
from sso.provider.relying_parties import RelyingParties

router = APIRouter(prefix="/v1/account-links", tags=["account links"])

Writer = Annotated[Caller, Depends(require("accounts.write", products=True))]

ExternalId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$"),
    Field(description="the product's own id of the account, unique within the organization", examples=["u-4711"]),
]
_PLAIN = r"^[^\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]*$"
"""On one line, and without signs that turn the reading direction of what stands beside it."""


class LinkBody(RequestModel):
    """Somebody at the product who wants their account connected."""

    external_id: ExternalId
    label: str = Field(
        default="",
        max_length=60,
        pattern=_PLAIN,
        description="what they know the account by; they are shown it before they agree",
        examples=["Ada B. (grade 5)"],
    )
    organization_id: UUID | None = Field(
        default=None, description="the organization they must be of; any that licenses the product by default"
    )
    connection_id: UUID | None = Field(
        default=None, description="the connection they sign in by; they choose their school by default"
    )
    return_to: str = Field(
        min_length=1,
        max_length=2_000,
        description="where they are sent afterwards, with `link_request_id`, `outcome` and `iss`: exactly one of the "
        "product's destinations, post_logout_redirect_uris or redirect_uris",
        examples=["https://reader.example/settings"],
    )
    auth_time: AwareDatetime = Field(
        description="when the product last had them sign in; at most five minutes ago",
        examples=["2026-09-01T06:00:00Z"],
    )
    other_sign_in: bool = Field(
        default=False, description="whether the account can be signed in to without us; if not, it stays connected"
    )


class LinkAsked(BaseModel):
    """A request, with the address to send the browser to."""

    link_request_id: UUID
    url: str = Field(
        description="good once and for ten minutes, in the first browser that opens it",
        examples=["https://homeroom.example/sso/link/9cJ0…"],
    )
    expires_at: datetime


class LinkState(BaseModel):
    """What became of a request. It is kept for a week."""

    link_request_id: UUID
    outcome: Literal[
        "pending", "linked", "account_linked", "person_linked", "not_rostered", "refused", "cancelled", "expired"
    ] = Field(
        description="`account_linked`: the account belongs to somebody else; `person_linked`: they have another "
        "account of the product; `not_rostered`: no roster the product sees has them; `refused`: sign-in failed, "
        "look it up by support_id; `expired`: nothing happened in time. All but `pending` are final"
    )
    external_id: str = Field(examples=["u-4711"])
    organization_id: UUID | None = Field(description="where they are, once the account is connected")
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    support_id: str | None = Field(description="what to name to our support", examples=["HR-7K3M-92QX"])


class LinkRemoval(RequestModel):
    """An account to be taken apart from whoever connected it."""

    external_id: ExternalId
    organization_id: UUID | None = Field(default=None, description="needed where several have an account of this id")
    other_sign_in: bool | None = Field(
        default=None, description="whether it can be signed in to without us, as of now; by default as told before"
    )


@router.post("", status_code=201)
async def ask_link(request: Request, body: LinkBody, caller: Writer) -> LinkAsked:
    """Begin to connect an account: send the browser to the `url` of the answer.

    There the person signs in to their portal anew, sees both names, and agrees. No session is begun or ended by it.
    """
    product_id, bound = _product(caller), _organization(caller)
    state = request.app.state
    requests: LinkRequests = state.link_requests
    organization_id = await _find_place(request, body, product_id, bound)
    parties: RelyingParties = state.relying_parties
    own = [await parties.find(caller.client_id), await parties.find_of_product(product_id)]
    if not any(may_return(party, body.return_to) for party in own if party and party.product_id == product_id):
        errors = [{"field": "body.return_to", "problem": "it is none of the addresses that are registered"}]
        raise Problem(Code.REQUEST_INVALID, status=422, detail="Not accepted: body.return_to.", errors=errors)
    clock: Clock = state.clock
    if not is_fresh(body.auth_time, clock.now()):
        raise Problem(
            Code.LINK_SIGN_IN_OLD, status=409, detail="The product's own sign-in is not of the last five minutes."
        )
    order = Order(
        product_id,
        organization_id,
        body.connection_id,
        body.external_id,
        body.label,
        body.other_sign_in,
        body.return_to,
        caller.subject,
    )
    kept, token = await requests.ask(order)
    return LinkAsked(
        link_request_id=kept.id, url=f"{state.settings.issuer}/sso/link/{token}", expires_at=kept.expires_at
    )


@router.get("/{link_request_id}")
async def read_link(request: Request, link_request_id: UUID, caller: Writer) -> LinkState:
    """What became of a request: the browser says so as well, but whoever sits there could make that up."""
    requests: LinkRequests = request.app.state.link_requests
    found = await requests.find(link_request_id, _product(caller))
    bound = _organization(caller)
    if found is None or (bound is not None and found.organization_id != bound):
        raise _nothing()
    clock: Clock = request.app.state.clock
    return _show(found, clock.now())


@router.post("/removals", status_code=204)
async def remove_link(request: Request, body: LinkRemoval, caller: Writer) -> None:
    """Take an account apart from whoever connected it; refused while nothing else lets anybody sign in to it."""
    unlinking: Unlinking = request.app.state.unlinking
    product_id, bound = _product(caller), _organization(caller)
    if bound is not None and body.organization_id not in (None, bound):
        raise _nothing()
    try:
        await unlinking.remove(
            product_id,
            body.external_id,
            bound or body.organization_id,
            other_sign_in=body.other_sign_in,
            by=caller.subject,
        )
    except Refused as refused:
        raise Problem(
            refused.code, status=refused.status, detail=refused.code.entry.cause, headers={"Retry-After": "5"}
        ) from None


async def _find_place(request: Request, body: LinkBody, product_id: UUID, bound: UUID | None) -> UUID | None:
    """The organization somebody must be of. Problem NOT_FOUND for one that does not license the product.

    A connection that is named must be one of those that people of such an organization sign in by.
    """
    requests: LinkRequests = request.app.state.link_requests
    launching: Launching = request.app.state.launching
    wanted = body.organization_id or bound
    if bound is not None and wanted != bound:
        raise _nothing()
    if wanted is not None and not await requests.is_licensed(wanted, product_id):
        raise _nothing()
    if body.connection_id is not None:
        door = await launching.identification.find_connection(body.connection_id, product_id)
        if door is None or not door.licensed or wanted not in (None, door.organization_id):
            raise _nothing()
    return wanted


def _product(caller: Caller) -> UUID:
    """The product a caller acts for. Raises `Problem` for tokens of nobody's product."""
    if caller.product_id is None:
        raise Problem(Code.PRODUCT_NEEDED, status=403, detail="The token is not a product's.")
    return _read(caller.product_id)


def _organization(caller: Caller) -> UUID | None:
    return None if caller.organization_id is None else _read(caller.organization_id)


def _read(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise _nothing() from None


def _nothing() -> Problem:
    return Problem(Code.NOT_FOUND, status=404, detail="There is no such thing, or it is not yours to see.")


def _show(found: LinkRequest, now: datetime) -> LinkState:
    return LinkState(
        link_request_id=found.id,
        outcome=found.outcome or ("pending" if now < found.expires_at else "expired"),
        external_id=found.external_id,
        organization_id=found.at_organization if found.outcome == "linked" else None,
        created_at=found.created_at,
        expires_at=found.expires_at,
        ended_at=found.ended_at,
        support_id=found.support_id,
    )
