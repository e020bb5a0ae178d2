"""sso over HTTP: tokens, keys, what a standard client looks up, and the clients an admin looks after."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from homeroom.auth import ADMIN, Caller, require
from homeroom.codes import Code
from homeroom.problems import Problem
from homeroom.service import RequestModel
from homeroom.telemetry import TOKENS, get_logger
from sso.clients import CLIENT_ID, KNOWN_SCOPES, PRODUCTS_MAY, Client, Clients, may_create
from sso.keys import Keys
from sso.provider.client_authentication import ClientAuthentication
from sso.provider.discovery import describe
from sso.provider.grants import Grants
from sso.token_answers import CROSS_ORIGIN, NO_STORE, TokenError, deny
from sso.tokens import CODE_GRANT, GRANT, GRANTS, TokenDenied, TokenRequest, narrow, read_request, sign

log = get_logger(__name__)

tokens = APIRouter(tags=["tokens"])
clients = APIRouter(prefix="/v1/clients", tags=["clients"])

Admin = Annotated[Caller, Depends(require(ADMIN))]
MAX_OVERLAP_HOURS = 30 * 24
ClientId = Annotated[str, Path(pattern=CLIENT_ID)]
PUBLIC = {"Cache-Control": "public, max-age=300", **CROSS_ORIGIN}


# ── tokens ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Token(BaseModel):
    """An access token (RFC 6749 §5.1)."""

    access_token: str
    token_type: str
    expires_in: int = Field(description="seconds")
    scope: str = Field(description="the scopes of this token, with spaces between")
    id_token: str | None = Field(default=None, description="who signed in; for codes and refresh tokens")
    refresh_token: str | None = Field(default=None, description="where the client is given any; good once")


_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        "grant_type": {"type": "string", "enum": list(GRANTS)},
                        "scope": {"type": "string", "description": "fewer scopes than the client may have"},
                        "client_id": {"type": "string", "description": "unless sent with HTTP Basic"},
                        "client_secret": {"type": "string", "description": "unless sent with HTTP Basic"},
                        "code": {"type": "string", "description": "with authorization_code"},
                        "redirect_uri": {"type": "string", "description": "the one the code was sent to"},
                        "code_verifier": {"type": "string", "description": "PKCE's, with authorization_code"},
                        "refresh_token": {"type": "string", "description": "with refresh_token"},
                    },
                }
            }
        },
    }
}


@tokens.post(
    "/oauth2/token",
    response_model=Token,
    responses={status: {"model": TokenError} for status in (400, 401, 429, 503)},
    openapi_extra=_FORM,
)
async def issue_token(request: Request) -> JSONResponse:
    """Give a client tokens: for its own id and secret, for the code of somebody who signed in, or to go on with that.

    A client shows its secret as form fields or with HTTP Basic. Codes want PKCE's verifier besides; a public client
    shows that and its client_id.
    """
    try:
        # Read by hand: a form parser keeps only one of two values, and the standard refuses a repeated parameter.
        form = parse_qsl((await request.body()).decode("ascii", "replace"), keep_blank_values=True)
        asked = read_request(form, request.headers.get("authorization"))
        answer = await _answer(request, asked)
    except TokenDenied as denied:
        TOKENS.labels("refused").inc()
        log.info("no token given", code=denied.code)
        return deny(denied)
    TOKENS.labels("issued").inc()
    return JSONResponse(answer, headers=NO_STORE)


async def _answer(request: Request, asked: TokenRequest) -> dict[str, Any]:
    """The tokens asked for. Raises `TokenDenied`."""
    state = request.app.state
    authentication: ClientAuthentication = state.client_authentication
    address = request.client.host if request.client else ""
    if asked.grant == GRANT:
        client = await authentication.check(asked.client_id, asked.client_secret, address)
        scopes = narrow(client.scopes, asked.scopes)
        keys, settings = state.keys, state.settings
        return sign(
            client, scopes, keys.signing, issuer=settings.issuer, clock=state.clock, seconds=settings.token_seconds
        )
    party = await authentication.find_party(asked.client_id, asked.client_secret, address)
    grants: Grants = state.grants
    return await (grants.redeem(party, asked) if asked.grant == CODE_GRANT else grants.refresh(party, asked))


@tokens.get("/oauth2/jwks")
async def get_keys(request: Request) -> JSONResponse:
    """The public keys tokens are checked with (RFC 7517); ask again for a key you do not know."""
    keys: Keys = request.app.state.keys
    return JSONResponse(dict(await keys.jwks()), headers=PUBLIC)


@tokens.get("/.well-known/openid-configuration")
@tokens.get("/.well-known/oauth-authorization-server", include_in_schema=False)
async def describe_server(request: Request) -> JSONResponse:
    """What a standard client needs to know (OpenID Connect Discovery 1.0, RFC 8414)."""
    return JSONResponse(describe(request.app.state.settings.issuer), headers=PUBLIC)


# ── clients ───────────────────────────────────────────────────────────────────────────────────────────────────────


class ClientCreate(RequestModel):
    """A client to be."""

    id: str | None = Field(default=None, pattern=CLIENT_ID, description="made up if it is not given")
    scopes: list[str] = Field(min_length=1, max_length=20)
    organization_id: UUID | None = Field(
        default=None, description="the one organization its tokens may see; all of them if it is not given"
    )
    product_id: UUID | None = Field(
        default=None, description="the product it belongs to: its tokens see what that is licensed for, and no more"
    )


class ClientRead(BaseModel):
    """A client, without its secret."""

    id: str
    scopes: list[str]
    organization_id: UUID | None
    product_id: UUID | None
    created_at: datetime
    last_used_at: datetime | None = Field(description="to the minute")
    disabled_at: datetime | None
    overlap_until: datetime | None = Field(description="until when the secret before the newest one holds, too")


class ClientCreated(ClientRead):
    """A client with its new secret."""

    secret: str = Field(description="shown this once")


class SecretExchange(RequestModel):
    """How a secret is exchanged."""

    overlap_hours: float = Field(
        default=24,
        ge=0,
        le=MAX_OVERLAP_HOURS,
        allow_inf_nan=False,
        strict=True,
        description="how long the secret in use holds beside the new one; 0 ends it at once",
    )


class ClientPage(BaseModel):
    """Some clients, in order of their ids."""

    clients: list[ClientRead]
    cursor: str | None = Field(description="send it to get those that follow; null at the end")


@clients.post("", status_code=201)
async def create_client(request: Request, wanted: ClientCreate, caller: Admin) -> ClientCreated:
    """Register a client. Its secret is in the answer and nowhere else."""
    if unknown := set(wanted.scopes) - KNOWN_SCOPES:
        errors = [{"field": "body.scopes", "problem": f"there are these scopes: {' '.join(sorted(KNOWN_SCOPES))}"}]
        raise Problem(Code.REQUEST_INVALID, status=422, detail=f"{len(unknown)} unknown scopes.", errors=errors)
    if wanted.product_id is not None and not set(wanted.scopes) <= PRODUCTS_MAY:
        detail = f"A product's client may be given these scopes only: {' '.join(sorted(PRODUCTS_MAY))}"
        raise Problem(Code.SCOPE_REFUSED, status=403, detail=detail)
    if not may_create(caller, wanted.scopes, wanted.organization_id, wanted.product_id):
        raise _above()
    registered: Clients = request.app.state.clients
    created = await registered.create(
        wanted.id, wanted.scopes, wanted.organization_id, wanted.product_id, by=caller.subject
    )
    if created is None:
        raise Problem(Code.CLIENT_EXISTS, status=409, detail=f"The id {wanted.id} is taken.")
    client, secret = created
    log.info(
        "client created",
        client_id=client.id,
        by=caller.client_id,
        scopes=sorted(client.scopes),
        product_id=None if client.product_id is None else str(client.product_id),
    )
    return ClientCreated(**_show(client), secret=secret)


@clients.get("")
async def list_clients(
    request: Request,
    caller: Admin,
    product_id: Annotated[UUID | None, Query(description="only this product's")] = None,
    cursor: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> ClientPage:
    """Clients in order of their ids, disabled ones as well."""
    registered: Clients = request.app.state.clients
    found = await registered.list(
        after=_read_cursor(cursor), organization_id=caller.organization_id, limit=limit + 1, product_id=product_id
    )
    more = len(found) > limit
    return ClientPage(
        clients=[ClientRead(**_show(client)) for client in found[:limit]],
        cursor=urlsafe_b64encode(found[limit - 1].id.encode()).decode() if more else None,
    )


@clients.post("/{client_id}/secrets", status_code=201)
async def exchange_secret(
    request: Request, client_id: ClientId, caller: Admin, wanted: SecretExchange | None = None
) -> ClientCreated:
    """Give a client a new secret, shown this once; the one in use holds for a while, so that nothing stands still.

    Two secrets hold at most. Asked for again while nobody has used the new one, it is replaced by another new one.
    """
    registered: Clients = request.app.state.clients
    hours = (wanted or SecretExchange()).overlap_hours
    changed = await registered.exchange_secret(caller, client_id, timedelta(hours=hours))
    match changed:
        case "unknown":
            raise Problem(Code.NOT_FOUND, status=404, detail="No client that may have tokens has this id.")
        case "refused":
            raise _above()
        case "declared":
            raise Problem(Code.CLIENT_DECLARED, status=409, detail=f"The client {client_id} is declared.")
    client, secret = changed
    log.info("client secret exchanged", client_id=client.id, by=caller.client_id, overlap_hours=hours)
    return ClientCreated(**_show(client), secret=secret)


@clients.delete("/{client_id}", status_code=204)
async def disable_client(request: Request, client_id: ClientId, caller: Admin) -> None:
    """Let a client have no more tokens. Tokens it has stay valid until they run out; its id is not used again."""
    registered: Clients = request.app.state.clients
    if not await registered.disable(caller, client_id):
        raise Problem(Code.NOT_FOUND, status=404, detail="No client has this id.")
    log.info("client disabled", client_id=client_id, by=caller.client_id)


def _show(client: Client) -> dict[str, Any]:
    return {
        "id": client.id,
        "scopes": sorted(client.scopes),
        "organization_id": client.organization_id,
        "created_at": client.created_at,
        "last_used_at": client.last_used_at,
        "disabled_at": client.disabled_at,
        "product_id": client.product_id,
        "overlap_until": client.overlap_until,
    }


def _above() -> Problem:
    detail = "A client may not be given more than its creator may do or see, and a product's only by the platform."
    return Problem(Code.SCOPE_REFUSED, status=403, detail=detail)


def _read_cursor(cursor: str) -> str:
    try:
        after = urlsafe_b64decode(cursor).decode("ascii")
    except ValueError:
        after = "\0"
    if after and not re.fullmatch(CLIENT_ID, after):
        raise Problem(Code.CURSOR_INVALID, status=400, detail="The cursor can't be read.")
    return after
