"""An OpenID provider over a portal's sessions: what the ClassLink-like, the Clever-like and the plain one share.

Sources: OpenID Connect Core 1.0 §3.1, Discovery 1.0 §3; RFC 6749 §4.1; RFC 7636; RFC 9207.
"""

from __future__ import annotations

import json
import secrets
import time
from abc import ABC, abstractmethod
from base64 import urlsafe_b64encode
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sandbox_district.access import read_basic
from sandbox_district.exchanges import answer_with, read_bearer
from sandbox_district.faults import Faults
from sandbox_district.portals.portal import MOST_KEPT, Portal, PortalSession
from sandbox_district.portals.register import PortalClient, Register, Tile
from sandbox_district.portals.signing import LoadSigning
from sandbox_district.replies import Reply, reply_json

TOKEN_SECONDS: Final = 86_400
FRESH_SECONDS: Final = 5
"""With `prompt=login`: how new a sign-in is that happened just for it."""


@dataclass(frozen=True, slots=True)
class _Grant:
    """What a code stands for."""

    client: PortalClient
    session: PortalSession
    redirect_uri: str
    asked: bool
    """Whether an application asked for it, rather than a tile."""
    nonce: str | None
    scopes: frozenset[str]
    challenge: str | None
    ends_at: float


@dataclass(frozen=True, slots=True)
class Access:
    """Whom an access token is about."""

    client: PortalClient
    session: PortalSession
    scopes: frozenset[str]


class OpenIdFace(ABC):
    """The routes of one provider. Subclasses say what is special about it."""

    issuer_path: ClassVar[str]
    authorize_path: ClassVar[str]
    token_path: ClassVar[str]
    jwks_path: ClassVar[str]
    userinfo_path: ClassVar[str]
    code_seconds: ClassVar[int]
    id_token_seconds: ClassVar[int]
    pkce: ClassVar[bool] = False
    """Whether code challenges are demanded; those that are sent are always checked."""
    in_metadata: ClassVar[dict[str, Any]] = {}

    def __init__(self, portal: Portal, register: Register, faults: Faults, signing: LoadSigning) -> None:
        self.portal = portal
        self.portal.make_code = self._make_code_of_tile
        self._register, self._faults, self._load_signing = register, faults, signing
        self._codes: OrderedDict[str, _Grant] = OrderedDict()
        self._tokens: OrderedDict[str, Access] = OrderedDict()
        self.routes = [
            Route(f"{self.issuer_path}/.well-known/openid-configuration", self._serve_metadata, methods=["GET"]),
            Route(self.authorize_path, self._authorize, methods=["GET"]),
            Route(self.token_path, self._serve_tokens, methods=["POST"]),
            Route(self.jwks_path, self._serve_keys, methods=["GET"]),
            Route(self.userinfo_path, self._serve_userinfo, methods=["GET", "POST"]),
        ]

    # ── what is special ──────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def make_claims(self, session: PortalSession, client: PortalClient) -> dict[str, Any]:
        """Whom the ID token and userinfo are about; `sub` included."""

    def speaks_openid(self, client: PortalClient | None) -> bool:
        """Whether an application gets ID tokens; None asks for the metadata that is nobody's."""
        return client is None or client.openid

    # ── the browser's part ───────────────────────────────────────────────────────────────────────────────────────

    async def _authorize(self, request: Request) -> Response:
        asked = request.query_params
        client = self._register.find_client(self.portal.name, asked.get("client_id", ""))
        if client is None:
            return self.portal.complain("The application that sent you here is not known.")
        redirect_uri = asked.get("redirect_uri", "")
        if redirect_uri not in client.redirect_uris:
            return self.portal.complain("The application wants you back at an address it did not register.")
        if problem := self._find_problem(request):
            return self._send_back(request, redirect_uri, error=problem)
        session = self.portal.recognise(request)
        if session is None or self._is_too_old(request, session):
            if asked.get("prompt") == "none":
                return self._send_back(request, redirect_uri, error="login_required")
            return self.portal.ask(request)
        grant = _Grant(
            client,
            session,
            redirect_uri,
            asked=True,
            nonce=asked.get("nonce"),
            scopes=frozenset(asked.get("scope", "").split()),
            challenge=asked.get("code_challenge"),
            ends_at=time.monotonic() + self.code_seconds,
        )
        return self._send_back(request, redirect_uri, code=self._keep(grant))

    def _find_problem(self, request: Request) -> str | None:
        asked = request.query_params
        if asked.get("response_type") != "code":
            return "unsupported_response_type"
        method = asked.get("code_challenge_method", "plain")
        if ("code_challenge" in asked or self.pkce) and (method != "S256" or not asked.get("code_challenge")):
            return "invalid_request"
        return None

    def _is_too_old(self, request: Request, session: PortalSession) -> bool:
        age, wanted = time.time() - session.auth_time, request.query_params.get("max_age", "")
        if "login" in request.query_params.get("prompt", "").split() and age > FRESH_SECONDS:
            return True
        return wanted.isdecimal() and age > max(int(wanted), FRESH_SECONDS)

    def _send_back(self, request: Request, redirect_uri: str, **answer: str) -> Response:
        if state := request.query_params.get("state"):
            answer["state"] = state
        if self.in_metadata.get("authorization_response_iss_parameter_supported"):
            answer["iss"] = name_origin(request) + self.issuer_path
        return RedirectResponse(f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(answer)}", 303)

    def _make_code_of_tile(self, tile: Tile, session: PortalSession) -> str:
        """The address a tile opens: the first redirect URI with a code that nobody asked for."""
        client = self._register.find_client(self.portal.name, tile.client_id or "")
        assert client is not None  # noqa: S101 - tiles are taken for known clients only
        grant = _Grant(
            client,
            session,
            client.redirect_uris[0],
            asked=False,
            nonce=None,
            scopes=frozenset({"openid", "profile"}),
            challenge=None,
            ends_at=time.monotonic() + self.code_seconds,
        )
        return f"{grant.redirect_uri}?{urlencode({'code': self._keep(grant), 'response_type': 'code'})}"

    def _keep(self, grant: _Grant) -> str:
        code = secrets.token_urlsafe(24)
        self._codes[code] = grant
        while len(self._codes) > MOST_KEPT:
            self._codes.popitem(last=False)
        return code

    # ── the application's part ───────────────────────────────────────────────────────────────────────────────────

    async def _serve_tokens(self, request: Request) -> Response:
        body = await request.body()
        is_json = "json" in request.headers.get("content-type", "")
        form = _read_json(body) if is_json else {name: found[0] for name, found in parse_qs(body.decode()).items()}
        faults = self._faults.strike(self.token_path)
        return await answer_with(faults, lambda: self._exchange(request, form), complain)

    def _exchange(self, request: Request, form: dict[str, str]) -> Reply:
        client = self._find_caller(request, form)
        if client is None:
            return reply_json({"error": "invalid_client"}, 401, {"www-authenticate": "Basic"})
        if form.get("grant_type", "authorization_code") != "authorization_code":
            return reply_json({"error": "unsupported_grant_type"}, 400)
        grant = self._codes.pop(form.get("code", ""), None)
        if grant is None or grant.client != client or grant.ends_at < time.monotonic():
            return _refuse_code("The code is not known, was used, or is too old.")
        if form.get("redirect_uri", grant.redirect_uri) != grant.redirect_uri:
            return _refuse_code("The code was sent to another address.")
        if not _proves(form.get("code_verifier"), grant.challenge):
            return _refuse_code("The code verifier is not that of the challenge.")
        token = secrets.token_urlsafe(32)
        self._tokens[token] = Access(client, grant.session, grant.scopes)
        while len(self._tokens) > MOST_KEPT:
            self._tokens.popitem(last=False)
        answer: dict[str, Any] = {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS}
        if self.speaks_openid(client) and ("openid" in grant.scopes or not grant.scopes):
            answer["id_token"] = self._make_id_token(request, grant, token)
        return reply_json(answer, headers={"cache-control": "no-store"})

    def _find_caller(self, request: Request, form: dict[str, str]) -> PortalClient | None:
        named = read_basic(request.headers.get("authorization", "")) or {
            (form.get("client_id", ""), form.get("client_secret", ""))
        }
        for client_id, secret in named:
            client = self._register.find_client(self.portal.name, client_id)
            if client is not None and compare_digest(client.client_secret.encode(), secret.encode()):
                return client
        return None

    def _make_id_token(self, request: Request, grant: _Grant, token: str) -> str:
        now = int(time.time())
        claims = self.make_claims(grant.session, grant.client) | {
            "iss": name_origin(request) + self.issuer_path,
            "aud": grant.client.client_id,
            "iat": now,
            "exp": now + self.id_token_seconds,
            "auth_time": grant.session.auth_time,
            "at_hash": hash_half(token),
        }
        if grant.nonce is not None:
            claims["nonce"] = grant.nonce
        return self._load_signing().sign_token(claims)

    def find_access(self, request: Request) -> Access | None:
        """Whom a request's bearer token is about."""
        return self._tokens.get(read_bearer(request))

    async def _serve_userinfo(self, request: Request) -> Response:
        access = self.find_access(request)
        faults = self._faults.strike(self.userinfo_path)

        def work() -> Reply:
            if access is None or not self.speaks_openid(access.client):
                return complain(401, "The access token is not known.")
            return reply_json(self.make_claims(access.session, access.client))

        return await answer_with(faults, work, complain)

    async def _serve_keys(self, _request: Request) -> Response:
        faults = self._faults.strike(self.jwks_path)
        return await answer_with(faults, lambda: reply_json(self._load_signing().describe()), complain)

    async def _serve_metadata(self, request: Request) -> Response:
        faults = self._faults.strike(f"{self.issuer_path}/.well-known/openid-configuration")
        return await answer_with(faults, lambda: self._tell_metadata(name_origin(request)), complain)

    def _tell_metadata(self, origin: str) -> Reply:
        if not self.speaks_openid(None):
            return complain(404, "OpenID Connect is not switched on.")
        return reply_json(
            {
                "issuer": origin + self.issuer_path,
                "authorization_endpoint": origin + self.authorize_path,
                "token_endpoint": origin + self.token_path,
                "jwks_uri": origin + self.jwks_path,
                "userinfo_endpoint": origin + self.userinfo_path,
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                **{name: _place(value, origin) for name, value in self.in_metadata.items()},
            }
        )


def name_origin(request: Request) -> str:
    """The origin a request was sent to."""
    return str(request.base_url).rstrip("/")


def hash_half(token: str) -> str:
    """`at_hash` of an access token (OpenID Connect Core §3.1.3.6)."""
    return urlsafe_b64encode(sha256(token.encode()).digest()[:16]).rstrip(b"=").decode()


def _place(value: Any, origin: str) -> Any:
    """An address in metadata that was written without its origin."""
    return origin + value if isinstance(value, str) and value.startswith("/") else value


def _proves(verifier: str | None, challenge: str | None) -> bool:
    if challenge is None:
        return True
    hashed = urlsafe_b64encode(sha256((verifier or "").encode()).digest()).rstrip(b"=").decode()
    return compare_digest(hashed, challenge)


def _read_json(body: bytes) -> dict[str, str]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return {name: value for name, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def _refuse_code(why: str) -> Reply:
    return reply_json({"error": "invalid_grant", "error_description": why}, 400)


def complain(status: int, message: str) -> Reply:
    """An error, as OAuth has them."""
    return reply_json({"error": "invalid_token" if status == 401 else "error", "error_description": message}, status)  # noqa: PLR2004 - HTTP's own
