"""A portal: who is signed in there in which browser, its sign-in page and its page of tiles."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sandbox_district.portals.accounts import Account, Directory
from sandbox_district.portals.pages import show
from sandbox_district.portals.register import PortalName, Register, Tile

MOST_KEPT: Final = 20_000
"""Sessions, codes and tokens that are kept of each kind; the oldest go first."""


@dataclass(frozen=True, slots=True)
class PortalSession:
    """Somebody signed in at a portal: as they were then, even if the district has lost them since."""

    account: Account
    auth_time: int


class Portal:
    """One portal's pages. `make_code` gives the address of a tile that starts with a code."""

    def __init__(self, name: PortalName, heading: str, directory: Directory, register: Register) -> None:
        self.name = name
        self.heading = heading
        self.mount = f"/{name}"
        self.make_code: Callable[[Tile, PortalSession], str] | None = None
        self._directory, self._register = directory, register
        self._cookie = f"sandbox-{name}"
        self._sessions: OrderedDict[str, PortalSession] = OrderedDict()
        self.routes = [
            Route(self.mount, self._show, methods=["GET"]),
            Route(f"{self.mount}/sign-in", self._show_sign_in, methods=["GET"]),
            Route(f"{self.mount}/sign-in", self._sign_in, methods=["POST"]),
            Route(f"{self.mount}/badge/{{code}}", self._use_badge, methods=["GET"]),
            Route(f"{self.mount}/sign-out", self._sign_out, methods=["POST"]),
            Route(f"{self.mount}/open/{{number:int}}", self._open, methods=["GET"]),
        ]

    def recognise(self, request: Request) -> PortalSession | None:
        """The session of a browser."""
        return self._sessions.get(request.cookies.get(self._cookie, ""))

    def ask(self, request: Request) -> Response:
        """Send a browser to the sign-in page, and from there back to the present address."""
        here = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
        return RedirectResponse(f"{self.mount}/sign-in?next={quote(here, safe='')}", 303)

    def forget(self, request: Request, response: Response) -> None:
        """End the session of a browser."""
        self._sessions.pop(request.cookies.get(self._cookie, ""), None)
        response.delete_cookie(self._cookie, path="/", httponly=True, samesite="lax")

    def complain(self, problem: str, status: int = 400) -> Response:
        """A page that says what is wrong, for what can't be told to an application."""
        return show("problem", status, theme=self.name, heading=self.heading, mount=self.mount, problem=problem)

    async def _show(self, request: Request) -> Response:
        session = self.recognise(request)
        if session is None:
            return RedirectResponse(f"{self.mount}/sign-in", 303)
        return show(
            "portal",
            theme=self.name,
            heading=self.heading,
            mount=self.mount,
            account=session.account,
            tiles=self._register.list_tiles(self.name),
        )

    async def _show_sign_in(self, request: Request) -> Response:
        return self._ask_who(request.query_params.get("next", ""), request.query_params.get("search", ""))

    def _ask_who(self, following: str, search: str = "", problem: str = "", status: int = 200) -> Response:
        return show(
            "sign_in",
            status,
            theme=self.name,
            heading=self.heading,
            mount=self.mount,
            next=following,
            search=search,
            problem=problem,
            people=self._directory.search(search),
        )

    async def _sign_in(self, request: Request) -> Response:
        form = await request.form()
        given = {name: value for name, value in form.items() if isinstance(value, str)}
        following = given.get("next", "")
        if badge := given.get("badge"):
            account = self._directory.find_badge(badge)
        else:
            account = self._directory.find(given.get("person", ""))
        if account is None:
            return self._ask_who(following, problem="Nobody is known by that. Try again.", status=400)
        return self._begin(request, account, following)

    async def _use_badge(self, request: Request) -> Response:
        account = self._directory.find_badge(request.path_params["code"])
        if account is None:
            return self._ask_who("", problem="This badge is nobody's.", status=400)
        return self._begin(request, account, request.query_params.get("next", ""))

    def _begin(self, request: Request, account: Account, following: str) -> Response:
        self._sessions.pop(request.cookies.get(self._cookie, ""), None)
        token = secrets.token_urlsafe(24)
        self._sessions[token] = PortalSession(account, int(time.time()))
        shorten(self._sessions)
        inside = following.startswith("/") and not following.startswith(("//", "/\\"))
        response = RedirectResponse(following if inside else self.mount, 303)
        response.set_cookie(self._cookie, token, path="/", httponly=True, samesite="lax")
        return response

    async def _sign_out(self, request: Request) -> Response:
        response = RedirectResponse(f"{self.mount}/sign-in", 303)
        self.forget(request, response)
        return response

    async def _open(self, request: Request) -> Response:
        session = self.recognise(request)
        if session is None:
            return self.ask(request)
        tiles = self._register.list_tiles(self.name)
        number = request.path_params["number"]
        if number >= len(tiles):
            return self.complain("There is no such tile.", 404)
        tile = tiles[number]
        if tile.starts == "url":
            return RedirectResponse(tile.url or self.mount, 303)
        if self.make_code is None:
            return self.complain("This portal has no tiles that start with a code.")
        return RedirectResponse(self.make_code(tile, session), 303)


def shorten(kept: OrderedDict[str, object] | OrderedDict[str, PortalSession]) -> None:
    """Forget the oldest of more than are kept."""
    while len(kept) > MOST_KEPT:
        kept.popitem(last=False)
