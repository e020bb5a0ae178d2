"""The provider's endpoints: those browsers are sent to, and those products' servers call."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel, Field

from homeroom.codes import Code
from homeroom.db import Database
from sso.launch.browser_routes import BrowserRoute
from sso.launch.flows import hash_token
from sso.launch.launch_api import Search, find_school
from sso.launch.refusals import Refused
from sso.launch.sessions import IDLE_SECONDS, Session
from sso.provider.answers import HEADERS
from sso.provider.authorizing import SIGN_IN_PATH, Authorizing
from sso.provider.client_authentication import ClientAuthentication
from sso.provider.grants import Grants
from sso.provider.relying_parties import NO_PRODUCT, RelyingParties, RelyingParty
from sso.provider.requests import MOST_QUERY
from sso.statements import SQL
from sso.token_answers import CROSS_ORIGIN, NO_STORE, TokenError, deny
from sso.tokens import TokenDenied, read_client, read_form

browsers = APIRouter(prefix="/oauth2", route_class=BrowserRoute, include_in_schema=False)
servers = APIRouter(prefix="/oauth2", tags=["sign-in"])

MOST_TOKEN: Final = 8_000
_UNAUTHORIZED: Final = 401


# ── for browsers ──────────────────────────────────────────────────────────────────────────────────────────────────


@browsers.get("/authorize")
async def authorize(request: Request) -> Response:
    """Answer a product that asks who somebody is."""
    authorizing: Authorizing = request.app.state.authorizing
    return await authorizing.authorize(request, request.url.query)


@browsers.post("/authorize")
async def authorize_posted(request: Request) -> Response:
    """The same by POST, as the standard wants it; from another site the session's cookie only comes along with GET."""
    body = await request.body()
    if len(body) > MOST_QUERY:
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "the request is too long", status=400)
    pairs = parse_qsl(body.decode("ascii", "replace"), keep_blank_values=True)
    return RedirectResponse(f"/oauth2/authorize?{urlencode(pairs)}", 303, HEADERS)


@browsers.get("/sign-in")
async def choose_school(
    request: Request,
    resume: Annotated[str, Query(alias="request", max_length=100)],
    connection: UUID | None = None,
    search: Search = "",
) -> Response:
    """Where somebody says which school they are at, while a product's request waits."""
    authorizing: Authorizing = request.app.state.authorizing
    if connection is not None:
        return await authorizing.send(request, resume, connection)
    product_id, organization_id = await authorizing.find_product(resume)
    return await find_school(
        request,
        product_id=None if product_id == NO_PRODUCT else product_id,
        organization_id=organization_id,
        resume_url=f"{SIGN_IN_PATH}?{urlencode({'request': resume})}",
        search=search,
    )


# ── what products' servers are answered ───────────────────────────────────────────────────────────────────────────


class ClaimedOrganization(BaseModel):
    """Whose people somebody is of."""

    id: UUID
    name: str = Field(examples=["North District"])


class ClaimedSchool(BaseModel):
    """An org at which somebody has a role, in the roster's words."""

    sourced_id: str = Field(examples=["school-1"])
    role: str = Field(examples=["student"])
    primary: bool


class ClaimedClass(BaseModel):
    """A class somebody is enrolled in, and as what."""

    sourced_id: str = Field(examples=["class-7a"])
    title: str = Field(examples=["Maths 7a"])
    role: str = Field(examples=["student"])


class ClaimedAccount(BaseModel):
    """The product's own account that is theirs, as matched or connected."""

    id: str
    external_id: str | None = Field(examples=["u-4711"])
    active: bool


class Userinfo(BaseModel):
    """Who signed in, as far as the token's scopes and the district's license go; what is not known is absent."""

    sub: str = Field(description="stable, and the product's own", examples=["wjZQ3v8mJkqM0bqk1v3mB0p4nF2Zq7Ld"])
    organization: ClaimedOrganization
    rostered: bool = Field(description="false for somebody whom no roster knows")
    name: str | None = Field(default=None, examples=["Zoë Berg"])
    given_name: str | None = Field(default=None, examples=["Zoë"])
    family_name: str | None = Field(default=None, examples=["Berg"])
    preferred_username: str | None = None
    email: str | None = Field(default=None, examples=["zoe@school.example"])
    email_verified: bool | None = Field(default=None, description="never true: nobody proved a roster's address")
    sourced_id: str | None = Field(default=None, examples=["pupil-1"])
    integration_id: UUID | None = Field(default=None, description="whose sourcedIds these are")
    roles: list[str] | None = Field(default=None, description="the primary ones first", examples=[["student"]])
    schools: list[ClaimedSchool] | None = None
    classes: list[ClaimedClass] | None = None
    grades: list[str] | None = Field(default=None, examples=[["07"]])
    identifier: str | None = None
    account: ClaimedAccount | None = None


class TokenState(BaseModel):
    """Whether a token is good (RFC 7662 §2.2); of one that is not, nothing else is said."""

    active: bool
    client_id: str | None = Field(default=None, examples=["reader-web"])
    sub: str | None = None
    scope: str | None = Field(default=None, examples=["openid profile roster"])
    exp: int | None = Field(default=None, description="seconds since 1970", examples=[1_795_000_000])
    iss: str | None = Field(default=None, examples=["https://homeroom.example"])
    sid: UUID | None = None


DENIED: Final[dict[int | str, dict[str, Any]]] = {status: {"model": TokenError} for status in (400, 401, 429)}
UNAUTHORIZED: Final[dict[int | str, dict[str, Any]]] = {status: {"model": TokenError} for status in (401, 503)}
_TOKEN_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["token"],
                    "properties": {
                        "token": {"type": "string", "description": "an access or a refresh token"},
                        "client_id": {"type": "string", "description": "unless sent with HTTP Basic"},
                        "client_secret": {"type": "string", "description": "unless sent with HTTP Basic"},
                    },
                }
            }
        },
    }
}


# ── for products' servers ─────────────────────────────────────────────────────────────────────────────────────────


@servers.get("/userinfo", response_model=Userinfo, responses=UNAUTHORIZED)
@servers.post("/userinfo", include_in_schema=False)
async def show_userinfo(request: Request) -> JSONResponse:
    """What the product may know of whoever signed in, as it stands now (OIDC Core §5.3); the token as Bearer."""
    grants: Grants = request.app.state.grants
    found = await _find_access_token(request)
    if found is None:
        return _refuse_bearer()
    party, session, row = found
    try:
        claims = await grants.find_claims(party, session, row["scopes"])
    except TokenDenied as denied:
        return deny(denied) if denied.code is Code.SIGNIN_STORE_AWAY else _refuse_bearer()
    return JSONResponse(claims, headers=NO_STORE)


@servers.options("/userinfo", include_in_schema=False)
async def allow_userinfo() -> Response:
    """Let the scripts of public clients show their token here from any page; no cookie counts."""
    allowed = {"Access-Control-Allow-Methods": "GET, POST", "Access-Control-Allow-Headers": "Authorization"}
    return Response(status_code=204, headers={**CROSS_ORIGIN, **allowed, "Access-Control-Max-Age": "600"})


@servers.post("/revoke", responses=DENIED, openapi_extra=_TOKEN_FORM)
async def revoke_token(request: Request) -> Response:
    """Make a token worthless (RFC 7009); a refresh token takes all along that came of the same sign-in."""
    database: Database = request.app.state.database
    try:
        party, token = await _read_call(request)
    except TokenDenied as denied:
        return deny(denied)
    await database.fetch(SQL["revoke_token"], hash_token(token), party.client_id)
    return Response(status_code=200, headers=NO_STORE)


@servers.post("/introspect", response_model=TokenState, responses=DENIED, openapi_extra=_TOKEN_FORM)
async def introspect_token(request: Request) -> JSONResponse:
    """Whether a token of the caller's own is good (RFC 7662); of others' it says that it is not."""
    database: Database = request.app.state.database
    try:
        party, token = await _read_call(request)
    except TokenDenied as denied:
        return deny(denied)
    answer: dict[str, Any] = {"active": False}
    for kind in ("access", "refresh"):
        row = await database.fetchrow(SQL["find_token"], hash_token(token), kind, IDLE_SECONDS)
        if row is not None and row["client_id"] == party.client_id and row["used_at"] is None:
            answer = {
                "active": True,
                "client_id": party.client_id,
                "sub": row["subject"],
                "scope": " ".join(row["scopes"]),
                "exp": int(row["ends_at"].timestamp()),
                "iss": request.app.state.settings.issuer,
                "sid": str(row["sid"]),
            }
    return JSONResponse(answer, headers=NO_STORE)


async def _read_call(request: Request) -> tuple[RelyingParty, str]:
    """Which client calls about which token. Raises `TokenDenied`."""
    authentication: ClientAuthentication = request.app.state.client_authentication
    body = (await request.body()).decode("ascii", "replace")
    fields = read_form(parse_qsl(body, keep_blank_values=True))
    client_id, secret = read_client(fields, request.headers.get("authorization"))
    address = request.client.host if request.client else ""
    party = await authentication.find_party(client_id, secret, address)
    token = fields.get("token", "")
    if not 0 < len(token) <= MOST_TOKEN:
        raise TokenDenied(Code.REQUEST_INVALID, "The parameter token is missing, or too long.")
    return party, token


async def _find_access_token(request: Request) -> tuple[RelyingParty, Session, Any] | None:
    """What the request's bearer token stands for, if it is one for userinfo and still good."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > MOST_TOKEN:
        return None
    database: Database = request.app.state.database
    row = await database.fetchrow(SQL["find_token"], hash_token(token), "access", IDLE_SECONDS)
    if row is None:
        return None
    parties: RelyingParties = request.app.state.relying_parties
    party = await parties.find(row["client_id"])
    if party is None or party.first_party:
        return None
    return party, Session(**{name: row[name] for name in Session.__slots__}), row


def _refuse_bearer() -> JSONResponse:
    """RFC 6750 §3.1, with our code beside the standard's word."""
    code = Code.TOKEN_INVALID
    body = {
        "error": "invalid_token",
        "error_description": "The access token is not valid here, or not any more.",
        "code": code,
        "next_step": code.entry.next_step,
    }
    headers = {**NO_STORE, "WWW-Authenticate": 'Bearer error="invalid_token"'}
    return JSONResponse(body, _UNAUTHORIZED, headers)
