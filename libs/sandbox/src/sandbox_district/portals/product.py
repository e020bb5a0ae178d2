"""A product of the kind Homeroom signs people in to: its pages, and its own accounts that can be connected."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sandbox_district.portals.openid import name_origin
from sandbox_district.portals.pages import show
from sandbox_district.portals.relying_party import Begun, RelyingParty, Settings, SignedIn, SignInError

MOUNT: Final = "/product"
CALLBACK_PATH: Final = f"{MOUNT}/callback"
START_PATH: Final = f"{MOUNT}/start"
LOGOUT_PATH: Final = f"{MOUNT}/backchannel-logout"
SIGNED_OUT_PATH: Final = f"{MOUNT}/signed-out"
ACCOUNT_PATH: Final = f"{MOUNT}/account"
PLACES: Final = {"reading": "Reading room", "quizzes": "Quizzes"}
MOST_KEPT: Final = 5_000
BEGUN_SECONDS: Final = 600.0
COOKIE: Final = "sandbox-product"
BEGUN_COOKIE: Final = "sandbox-product-begun-"
"""Binds what was begun to its browser: a cookie for each, for two tabs may begin at the same moment."""
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class ProductOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who signs the product's people in from now on.

    Args:
        issuer: an OpenID provider.
        scopes: what is asked of it.
        name: the product's.
    """

    issuer: Text
    client_id: Text
    client_secret: Text
    scopes: tuple[Text, ...] = ("openid", "profile", "email", "roster")
    name: Text = "Sample Product"


@dataclass(slots=True)
class _Visit:
    """What the product knows of a browser."""

    signed_in: SignedIn | None = None
    seconds: float | None = None
    """How long the sign-in took, from the first request here to the last."""
    account: str | None = None
    """The product's own account that is signed in, and since when."""
    account_since: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Pending:
    begun: Begun
    browser: str
    target: str
    since: float


class Product:
    """The product's routes, and who is signed in to it."""

    def __init__(self) -> None:
        self.name = "Sample Product"
        self._party: RelyingParty | None = None
        self._visits: OrderedDict[str, _Visit] = OrderedDict()
        self._pending: OrderedDict[str, _Pending] = OrderedDict()
        self.routes = [
            Route(MOUNT, self._show, methods=["GET"]),
            Route(f"{MOUNT}/at/{{place}}", self._show, methods=["GET"]),
            Route(f"{MOUNT}/claims", self._tell_claims, methods=["GET"]),
            Route(f"{MOUNT}/sign-in", self._sign_in, methods=["GET"]),
            Route(START_PATH, self._start, methods=["GET", "POST"]),
            Route(CALLBACK_PATH, self._finish, methods=["GET"]),
            Route(f"{MOUNT}/sign-out", self._sign_out, methods=["POST"]),
            Route(SIGNED_OUT_PATH, self._show_signed_out, methods=["GET"]),
            Route(LOGOUT_PATH, self._hear_logout, methods=["POST"]),
            Route(ACCOUNT_PATH, self._show_account, methods=["GET"]),
            Route(ACCOUNT_PATH, self._use_account, methods=["POST"]),
            Route(f"{ACCOUNT_PATH}/connect", self._connect, methods=["POST"]),
        ]

    def obey(self, order: ProductOrder) -> None:
        """Have people signed in by another provider from now on; whoever is signed in is so no more."""
        self.name = order.name
        self._party = RelyingParty(Settings(order.issuer, order.client_id, order.client_secret, order.scopes))
        self._visits.clear()
        self._pending.clear()

    # ── signing in ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _sign_in(self, request: Request) -> Response:
        """The button on the product's own page."""
        return await self._begin(request, None, MOUNT, {})

    async def _start(self, request: Request) -> Response:
        """Third-party-initiated login (OpenID Connect Core §4): a portal's tile was clicked, by way of the provider."""
        form = await request.form() if request.method == "POST" else request.query_params
        asked = {name: value for name, value in form.items() if isinstance(value, str)}
        if self._party is None or asked.get("iss") != self._party.settings.issuer:
            return self._complain("Somebody else than our provider wanted to sign you in.")
        target = asked.get("target_link_uri", "")
        inside = target.startswith(name_origin(request) + MOUNT)
        return await self._begin(request, asked.get("login_hint"), target if inside else MOUNT, {})

    async def _begin(self, request: Request, hint: str | None, target: str, extra: dict[str, str]) -> Response:
        if self._party is None:
            return self._complain("This product was not told who signs its people in: POST /sandbox/product.", 503)
        redirect_uri = name_origin(request) + CALLBACK_PATH
        since = time.monotonic()
        try:
            begun = await asyncio.to_thread(self._party.begin, redirect_uri, hint, extra)
        except SignInError as failed:
            return self._complain(str(failed), 502)
        browser = secrets.token_urlsafe(24)
        self._pending[begun.state] = _Pending(begun, browser, target, since)
        _shorten(self._pending)
        return self._mark(RedirectResponse(begun.url, 303), browser, BEGUN_COOKIE + begun.state[:12])

    async def _finish(self, request: Request) -> Response:
        state = request.query_params.get("state", "")
        pending = self._pending.pop(state, None)
        browser = request.cookies.get(BEGUN_COOKIE + state[:12], "")
        if pending is None or pending.browser != browser or time.monotonic() - pending.since > BEGUN_SECONDS:
            return self._complain("This sign-in was not begun here, or not in this browser.")
        party = self._party
        assert party is not None  # noqa: S101 - what is pending was begun by one
        try:
            signed_in = await asyncio.to_thread(party.finish, pending.begun, request.url.query)
        except SignInError as failed:
            return self._complain(str(failed), 403)
        before = self._visits.pop(request.cookies.get(COOKIE, ""), None)
        visit = _Visit(signed_in, time.monotonic() - pending.since)
        if before is not None and before.account is not None:
            visit.account, visit.account_since = before.account, before.account_since
        browser = secrets.token_urlsafe(24)  # another one than before they were signed in
        self._keep(browser, visit)
        response = self._mark(RedirectResponse(pending.target, 303), browser)
        response.delete_cookie(BEGUN_COOKIE + state[:12], path="/", httponly=True, samesite="lax")
        return response

    # ── signing out ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _sign_out(self, request: Request) -> Response:
        visit = self._visits.pop(request.cookies.get(COOKIE, ""), None)
        back = name_origin(request) + SIGNED_OUT_PATH
        url = None
        if visit is not None and visit.signed_in is not None and self._party is not None:
            try:
                url = await asyncio.to_thread(self._party.end, visit.signed_in, back)
            except SignInError:
                url = None
        response = RedirectResponse(url or SIGNED_OUT_PATH, 303)
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")
        return response

    async def _hear_logout(self, request: Request) -> Response:
        """The provider says that somebody's session ended (OpenID Connect Back-Channel Logout 1.0)."""
        token = (await request.form()).get("logout_token")
        if self._party is None or not isinstance(token, str):
            return JSONResponse({"error": "invalid_request"}, 400)
        try:
            sid, subject = await asyncio.to_thread(self._party.read_logout, token)
        except SignInError as failed:
            return JSONResponse({"error": "invalid_request", "error_description": str(failed)}, 400)
        for visit in self._visits.values():
            there = visit.signed_in
            if there is not None and (there.sid == sid if sid else there.claims.get("sub") == subject):
                visit.signed_in, visit.note = None, "You were signed out by your school."
        return Response(status_code=200, headers={"Cache-Control": "no-store"})

    # ── the product's own accounts ───────────────────────────────────────────────────────────────────────────────

    async def _use_account(self, request: Request) -> Response:
        name = (await request.form()).get("account")
        if not isinstance(name, str) or not 0 < len(name.strip()) <= 60:  # noqa: PLR2004 - as long as fits the page
            return RedirectResponse(ACCOUNT_PATH, 303)
        browser = request.cookies.get(COOKIE) or secrets.token_urlsafe(24)
        visit = self._visits.get(browser) or _Visit()
        visit.account, visit.account_since, visit.note = name.strip(), time.time(), ""
        self._keep(browser, visit)
        return self._mark(RedirectResponse(ACCOUNT_PATH, 303), browser)

    async def _connect(self, request: Request) -> Response:
        visit = self._find(request)
        if self._party is None or visit is None or visit.account is None:
            return RedirectResponse(ACCOUNT_PATH, 303)
        back = name_origin(request) + ACCOUNT_PATH
        answer = await asyncio.to_thread(self._party.ask_link, visit.account, visit.account, visit.account_since, back)
        if answer.url is None:
            visit.note = f"Connecting did not begin: {answer.said.get('detail', 'no answer')}"
            return RedirectResponse(ACCOUNT_PATH, 303)
        return RedirectResponse(answer.url, 303)

    async def _show_account(self, request: Request) -> Response:
        visit = self._find(request)
        request_id = request.query_params.get("link_request_id")
        outcome = None
        if visit is not None and request_id is not None and self._party is not None:
            outcome = await asyncio.to_thread(self._party.read_link, request_id)
        return self._page("product_account", visit or _Visit(), outcome=outcome)

    # ── pages ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _show(self, request: Request) -> Response:
        visit = self._find(request) or _Visit()
        place = PLACES.get(request.path_params.get("place", ""))
        claims = [] if visit.signed_in is None else [(name, _word(value)) for name, value in _sort(visit.signed_in)]
        return self._page("product", visit, place=place, claims=claims)

    async def _show_signed_out(self, request: Request) -> Response:
        return self._page("product", self._find(request) or _Visit(note="You are signed out."), place=None, claims=[])

    async def _tell_claims(self, request: Request) -> Response:
        """Who is signed in in this browser, for programs."""
        visit = self._find(request)
        if visit is None or visit.signed_in is None:
            return JSONResponse({"signed_in": False}, 401)
        return JSONResponse({"signed_in": True, "product": self.name, "claims": visit.signed_in.claims})

    def _page(self, template: str, visit: _Visit, **values: Any) -> Response:
        claims = {} if visit.signed_in is None else visit.signed_in.claims
        who = claims.get("name") or ("somebody without a name" if claims else None)
        return show(template, theme="product", heading=self.name, mount=MOUNT, visit=visit, who=who, **values)

    def _complain(self, problem: str, status: int = 400) -> Response:
        return show("problem", status, theme="product", heading=self.name, mount=MOUNT, problem=problem)

    def _find(self, request: Request) -> _Visit | None:
        return self._visits.get(request.cookies.get(COOKIE, ""))

    def _keep(self, browser: str, visit: _Visit) -> None:
        self._visits[browser] = visit
        _shorten(self._visits)

    @staticmethod
    def _mark(response: Response, browser: str, cookie: str = COOKIE) -> Response:
        response.set_cookie(cookie, browser, path="/", httponly=True, samesite="lax")
        return response


def describe(origin: str) -> dict[str, Any]:
    """What the product's provider has to know of it."""
    return {
        "url": origin + MOUNT,
        "claims_url": f"{origin}{MOUNT}/claims",
        "redirect_uri": origin + CALLBACK_PATH,
        "initiate_login_uri": origin + START_PATH,
        "backchannel_logout_uri": origin + LOGOUT_PATH,
        "post_logout_redirect_uris": [origin + SIGNED_OUT_PATH, origin + ACCOUNT_PATH],
        "destinations": {name: f"{origin}{MOUNT}/at/{name}" for name in PLACES},
    }


_FIRST: Final = ("name", "sub", "organization", "roles", "sourced_id", "schools", "classes", "email")


def _sort(signed_in: SignedIn) -> list[tuple[str, Any]]:
    order = {name: at for at, name in enumerate(_FIRST)}
    return sorted(signed_in.claims.items(), key=lambda found: (order.get(found[0], len(order)), found[0]))


def _word(value: Any) -> str:
    """A claim as the table shows it."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return " · ".join(_word(part) for part in value.values())
    if isinstance(value, list):
        return "\n".join(_word(each) for each in value)
    return json.dumps(value)


def _shorten(kept: OrderedDict[str, Any]) -> None:
    while len(kept) > MOST_KEPT:
        kept.popitem(last=False)
