"""What a browser has begun at an upstream: kept here, found by `state`, bound to that browser, used once.

A browser may have any number of flows at once (two tabs), and one that is not finished within ten minutes is none.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from fastapi import Request, Response

from homeroom.db import Database
from sso.connections.upstreams import Upstream
from sso.launch.traces import Purpose, Trace
from sso.statements import SQL

FLOW_SECONDS: Final = 600
MOST_RESTARTS: Final = 4
"""How often a portal's code without state may have us begin anew before we say that it goes round in circles.

Pupils click a slow tile again and again; a portal that never gives `state` back goes round this often in a second.
"""
BROWSER_DAYS: Final = 30
MOST_TABS: Final = 10
"""Of a browser's first tabs, how many may begin before it has its cookie."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What somebody wants who is sent to an upstream."""

    purpose: Purpose
    product_id: UUID | None = None
    destination: str | None = None
    """The name of one of the product's destinations."""
    connection_id: UUID | None = None
    """The connection that was chosen; None where the tenant in the answer tells."""
    resume: str | None = None
    """What the purpose goes on with afterwards: an id of its own, never a URL."""
    fresh: bool = False
    """Whether a session at the portal is not enough: they must sign in anew, where the portal can ask for that."""
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow that was begun, as it is found again."""

    launch_id: UUID
    support_id: str
    upstream_id: UUID
    intent: Intent
    nonce: str = field(repr=False, default="")
    code_verifier: str = field(repr=False, default="")
    began_at: datetime | None = None
    """When it was begun; None until it was."""


def hash_token(token: str) -> bytes:
    """What is stored of a random token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def make_token() -> str:
    """256 random bits, as text for URLs and cookies."""
    return secrets.token_urlsafe(32)


class Browsers:
    """Tells browsers apart by a random cookie that is worth nothing but to find one's own flows again."""

    def __init__(self, *, secure: bool) -> None:
        self.secure = secure
        self.cookie = "__Host-homeroom-browser" if secure else "homeroom-browser"

    def recognise(self, request: Request) -> str | None:
        """The browser's cookie, if it has a sane one."""
        found = request.cookies.get(self.cookie, "")
        return found if 20 <= len(found) <= 100 else None  # noqa: PLR2004 - about as long as those we give

    def recognise_all(self, request: Request) -> tuple[str, ...]:
        """The cookies of a browser that flows may be bound to: its own, and those of tabs that came first together."""
        found = [value for name, value in request.cookies.items() if name.startswith(f"{self.cookie}-")]
        own = request.cookies.get(self.cookie, "")
        return tuple(one for one in (own, *found[:MOST_TABS]) if 20 <= len(one) <= 100)  # noqa: PLR2004 - as above

    def greet(self, response: Response, token: str) -> None:
        """Give a browser that had none its cookie, twice: another tab may come at the same moment and be given another.

        The one under a name of its own is what finds this tab's flow then; it is gone with the flow's time.
        """
        self.mark(response, token)
        self._set(response, f"{self.cookie}-{token[:8]}", token, FLOW_SECONDS)

    def mark(self, response: Response, token: str) -> None:
        """Give the browser its cookie.

        SAML's answers are posted from the portal's site, and only a cookie with SameSite=None comes along with them.
        That wants https; over plain http (a laptop) all ports of one host are the same site, so Lax does.
        """
        self._set(response, self.cookie, token, BROWSER_DAYS * 86_400)

    def _set(self, response: Response, name: str, token: str, seconds: int) -> None:
        response.set_cookie(
            name,
            token,
            max_age=seconds,
            path="/",
            secure=self.secure,
            httponly=True,
            samesite="none" if self.secure else "lax",
        )


class Flows:
    """The flows under way, in the database, so that any copy of sso finds them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self,
        state: str,
        browser: str,
        upstream: Upstream,
        flow: Flow,
        trace: Trace,
    ) -> None:
        """Keep what was begun under the hash of `state` (for SAML: of the AuthnRequest's id), and its trace."""
        intent = flow.intent
        await self._database.fetch(
            SQL["begin_flow"],
            hash_token(state),
            hash_token(browser),
            flow.launch_id,
            flow.support_id,
            upstream.id,
            intent.connection_id,
            intent.purpose,
            intent.product_id,
            intent.destination,
            intent.resume,
            flow.nonce or None,
            flow.code_verifier or None,
            intent.restarts,
            FLOW_SECONDS,
            trace.take(),
            intent.fresh,
        )

    async def take(self, state: str, browsers: Sequence[str], upstream_id: UUID) -> Flow | None:
        """The flow with this state, which this browser began at this upstream; nobody finds it a second time.

        One that belongs to another browser or upstream stays where it is: whoever presents it learns nothing and
        breaks nothing.
        """
        if not browsers:
            return None
        row = await self._database.fetchrow(
            SQL["take_flow"], hash_token(state), [hash_token(browser) for browser in browsers], upstream_id
        )
        return None if row is None else _read_flow(row)

    async def take_presented(
        self, state: str, browsers: Sequence[str], upstream_id: UUID, kind: str, value: str, seconds: float
    ) -> tuple[bool, Flow | None]:
        """What `present` and then, for what was never presented before, `take` say, in one step.

        What is presented counts as that even if no flow is found. Of what was presented before, a flow stays where it
        is.
        """
        if not browsers:
            return await self.present(kind, value, seconds), None
        row = await self._database.fetchrow(
            SQL["take_presented_flow"],
            hash_token(state),
            [hash_token(browser) for browser in browsers],
            upstream_id,
            _hash_presented(kind, value),
            seconds,
        )
        if row is None:
            return False, None
        return True, None if row["launch_id"] is None else _read_flow(row)

    async def present(self, kind: str, value: str, seconds: float) -> bool:
        """Note that a code or assertion was presented; False if it was before (atomic, on any copy of sso).

        Args:
            kind: keeps codes and assertions of different upstreams apart.
            value: the code, or the assertion's id.
            seconds: how long it must be remembered.
        """
        return await self._database.fetchval(SQL["present"], _hash_presented(kind, value), seconds) is not None


def _hash_presented(kind: str, value: str) -> bytes:
    return hash_token(f"{kind}\n{value}")


def _read_flow(row: asyncpg.Record) -> Flow:
    return Flow(
        launch_id=row["launch_id"],
        support_id=row["support_id"],
        upstream_id=row["upstream_id"],
        intent=Intent(
            purpose=row["purpose"],
            product_id=row["product_id"],
            destination=row["destination"],
            connection_id=row["connection_id"],
            resume=row["resume"],
            fresh=row["fresh"],
            restarts=row["restarts"],
        ),
        nonce=row["nonce"] or "",
        code_verifier=row["code_verifier"] or "",
        began_at=row["began_at"],
    )
