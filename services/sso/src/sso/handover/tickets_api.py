"""`POST /sso/tickets/redeem`: a product's server exchanges a launch ticket for who came in."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from homeroom.clock import Clock
from homeroom.codes import Code
from homeroom.problems import Problem
from homeroom.telemetry import get_logger
from sso.clients import Client
from sso.handover.tickets import Tickets
from sso.launch.refusals import Refused
from sso.launch.throttle import Throttle
from sso.provider.client_authentication import ClientAuthentication
from sso.tokens import TokenDenied, read_client, read_form

log = get_logger(__name__)

router = APIRouter(prefix="/sso/tickets", tags=["sign-in"])

FAILURES = 30
FAILURE_SECONDS = 300.0
"""How many wrong tickets a client may show, and in what time that is forgotten."""
MOST_FIELDS = 20
DENIED = {Code.CLIENT_INVALID: 401, Code.SIGNIN_THROTTLED: 429}


class TicketOrganization(BaseModel):
    """The district somebody comes from."""

    id: UUID
    name: str = Field(examples=["North District"])


class TicketRedeemed(BaseModel):
    """Who came in. Beside these, the claims of `/oauth2/userinfo`, as far as the product's licenses grant them."""

    model_config = ConfigDict(extra="allow")

    iss: str = Field(description="this Homeroom", examples=["https://homeroom.example"])
    aud: str = Field(description="the client the ticket was for", examples=["reader"])
    sub: str = Field(
        description="the person, for this product and for good", examples=["Vv9jY1yS0n1wVb7m2bEwS0pQb1kq3d8A"]
    )
    sid: UUID = Field(description="the session; a back-channel logout names it when it ends")
    auth_time: datetime = Field(description="when they signed in")
    organization: TicketOrganization
    rostered: bool = Field(description="false where the district lets in people its roster does not have")
    destination: str | None = Field(description="the name of the destination that was opened", examples=["library"])
    target_link_uri: str | None = Field(description="the registered address of that")
    support_id: str = Field(description="what to name to our support", examples=["HR-7K3M-92QX"])


_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["ticket"],
                    "properties": {
                        "ticket": {"type": "string", "description": "as it came to launch_uri"},
                        "client_id": {"type": "string", "description": "unless sent with HTTP Basic"},
                        "client_secret": {"type": "string", "description": "unless sent with HTTP Basic"},
                    },
                }
            }
        },
    }
}


def make_throttle(clock: Clock) -> Throttle:
    """What bounds guessing here; `app.state.ticket_throttle`."""
    return Throttle(FAILURES, FAILURE_SECONDS, clock)


@router.post("/redeem", openapi_extra=_FORM)
async def redeem_ticket(request: Request, response: Response) -> TicketRedeemed:
    """Exchange a launch ticket for who came in: once, within a minute, by the client it is for.

    The client shows its id and secret as at `/oauth2/token`, as form fields or with HTTP Basic.
    """
    fields = await _read_form(request)
    client = await _authenticate(request, fields)
    tickets: Tickets = request.app.state.tickets
    try:
        redeemed = await tickets.redeem(fields["ticket"], client.id)
    except Problem as problem:
        if problem.code is Code.TICKET_INVALID:
            _count(request, client)
        raise
    response.headers["Cache-Control"] = "no-store"
    return TicketRedeemed(
        **redeemed.claims,
        iss=request.app.state.settings.issuer,
        aud=client.id,
        sid=redeemed.sid,
        auth_time=redeemed.auth_time,
        destination=redeemed.destination,
        target_link_uri=redeemed.target_link_uri,
        support_id=redeemed.support_id,
    )


async def _read_form(request: Request) -> dict[str, str]:
    """The fields of the form. Raises `Problem` REQUEST_INVALID."""
    try:
        text = (await request.body()).decode("ascii")
        fields = read_form(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError:
        raise Problem(Code.REQUEST_INVALID, status=400, detail="The body is no form.") from None
    except TokenDenied as denied:
        raise Problem(denied.code, status=400, detail=denied.detail) from None
    if not fields.get("ticket"):
        raise Problem(Code.REQUEST_INVALID, status=400, detail="The field ticket is missing.")
    return fields


async def _authenticate(request: Request, fields: dict[str, str]) -> Client:
    authentication: ClientAuthentication = request.app.state.client_authentication
    address = request.client.host if request.client else ""
    try:
        client_id, secret = read_client(fields, request.headers.get("authorization"))
        return await authentication.check(client_id, secret, address)
    except TokenDenied as denied:
        status = DENIED.get(denied.code, 400)
        headers = {401: {"WWW-Authenticate": 'Basic realm="homeroom"'}, 429: {"Retry-After": "60"}}.get(status, {})
        raise Problem(denied.code, status=status, detail=denied.detail, headers=headers) from None


def _count(request: Request, client: Client) -> None:
    """Count a wrong ticket, and slow down whoever shows many.

    Good tickets are taken all the same: anybody can have a product's server show wrong ones, by opening its
    `launch_uri` with made-up texts, and must not keep a school out by that. 256 random bits are guessed at no speed.
    """
    throttle: Throttle = request.app.state.ticket_throttle
    log.info("a ticket was refused", client_id=client.id)
    try:
        throttle.check(client.id)
    except Refused as refused:
        detail = "The client showed many wrong tickets. Good ones are still taken."
        raise Problem(refused.code, status=429, detail=detail, headers={"Retry-After": "60"}) from None
    throttle.fail(client.id)
