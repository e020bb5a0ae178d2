"""A portal without a protocol, and browsers that sign in as staff: for tests of what comes after the portal's proof."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from joserfc import jwt
from pydantic import SecretStr
from roster_stand_in import PlayedRoster, playing_roster

from homeroom.auth import AUDIENCE, TOKEN_TYPE
from homeroom.clock import MovingClock
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.migrate import migrate
from homeroom.secrets import generate_key, hash_password
from homeroom.testing.postgres import fresh_database
from homeroom.testing.tokens import calling
from sso.app import create
from sso.connections.upstreams import Upstream
from sso.keys import ALGORITHM, Keys
from sso.launch.arrivals import Arrival
from sso.launch.browser_routes import BrowserRoute
from sso.launch.flows import Flow, Flows, Intent, make_token
from sso.launch.launching import Launching
from sso.launch.refusals import Refused
from sso.launch.traces import Trace
from sso.settings import Settings

ISSUER = "http://homeroom.test"
PASSWORD = "correct horse battery staple"


@cache
def hash_once(password: str = PASSWORD) -> str:
    """A password's hash, made once: it takes a while on purpose."""
    return hash_password(password)


router = APIRouter(route_class=BrowserRoute)


@router.get("/played/{upstream_id}")
async def come_back(
    request: Request, upstream_id: UUID, state: str, subject: str, tenant: str | None = None, key: str | None = None
) -> Response:
    """What a protocol's callback does once all is checked."""
    launching: Launching = request.app.state.launching
    upstream = await launching.upstreams.find(upstream_id)
    assert upstream is not None
    flow = await launching.flows.take(state, launching.browsers.recognise_all(request), upstream_id)
    if flow is None:
        raise Refused(Code.SIGNIN_FLOW_LOST, "no such flow")
    trace = launching.resume(request, flow, upstream)
    arrival = Arrival(upstream, subject, tenant, key, shown_as="Portal Name")
    return await launching.receive(request, flow.intent, arrival, trace)


class PlayedPortal:
    """Keeps a flow and sends the browser to an address that says nothing but its state."""

    def __init__(self, flows: Flows) -> None:
        self.flows = flows

    async def start(self, upstream: Upstream, intent: Intent, trace: Trace, browser: str) -> str:
        """Begin a flow."""
        state = make_token()
        await self.flows.begin(state, browser, upstream, Flow(trace.id, trace.support_id, upstream.id, intent), trace)
        return f"https://portal.test/{upstream.id}?state={state}"


@dataclass
class Person:
    """Somebody in front of a browser of their own."""

    browser: httpx2.AsyncClient

    async def get(self, path: str) -> httpx2.Response:
        """Open a page."""
        return await self.browser.get(path)

    async def type_password(
        self, username: str = "admin", password: str = PASSWORD, *, path: str = "/sso/staff/local", **more: str
    ) -> httpx2.Response:
        """Fill in the form of a page."""
        page = await self.get(path)
        found = re.search(r'name="csrf" value="([^"]+)"', page.text)
        csrf = {"csrf": found[1]} if found else {}
        return await self.browser.post(path, data={**csrf, "username": username, "password": password, **more})

    async def come_by(
        self, path: str, connection_id: UUID, subject: str, *, key: str | None = None, tenant: str | None = None
    ) -> httpx2.Response:
        """Choose a connection on a page, and come back from its portal as somebody."""
        sent = await self.get(f"{path}{'&' if '?' in path else '?'}connection={connection_id}")
        assert sent.status_code == 303, sent.text
        there = urlsplit(sent.headers["location"])
        said: dict[str, Any] = {"state": parse_qs(there.query)["state"][0], "subject": subject}
        said |= {} if key is None else {"key": key}
        said |= {} if tenant is None else {"tenant": tenant}
        return await self.browser.get(f"/played{there.path}", params=said)

    def session(self) -> str | None:
        """The session's cookie."""
        found: str | None = self.browser.cookies.get("homeroom-session")
        return found


@asynccontextmanager
async def opened_browser(app: FastAPI) -> AsyncIterator[Person]:
    """Somebody with a browser that has been nowhere yet."""
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app), base_url="http://homeroom.test", timeout=30
    ) as browser:
        yield Person(browser)


@dataclass
class Staffed:
    """sso over HTTP, with local accounts, a declared admin and a portal that vouches for whomever a test says."""

    client: httpx2.AsyncClient
    app: FastAPI
    clock: MovingClock
    settings: Settings
    roster: PlayedRoster

    @property
    def database(self) -> Database:
        """Its database."""
        found: Database = self.app.state.database
        return found

    @property
    def launching(self) -> Launching:
        """What launches pass through."""
        found: Launching = self.app.state.launching
        return found

    async def boss(self) -> dict[str, str]:
        """Headers of an admin of the platform."""
        return await self.headers()

    async def headers(self, **claims: Any) -> dict[str, str]:
        """Headers of somebody with the scope admin and further claims, signed by sso itself."""
        keys: Keys = self.app.state.keys
        now = int(self.clock.now().timestamp())
        said = {"iss": ISSUER, "sub": "boss", "aud": AUDIENCE, "iat": now, "exp": now + 600, "scope": "admin"} | claims
        header = {"alg": ALGORITHM, "kid": keys.signing.id}
        return {"Authorization": f"Bearer {jwt.encode(header, said, keys.signing.private, default_type=TOKEN_TYPE)}"}


async def make_settings(database_url: str, roster: PlayedRoster) -> Settings:
    """Settings of such an sso, whose schema is up to date."""
    await migrate(database_url, schema="sso", package="sso")
    return Settings(
        database_url=SecretStr(database_url),
        issuer=ISSUER,
        sso_key=SecretStr(generate_key()[0]),
        database_pool_size=4,
        store_url=roster.url,
        token_url=f"{roster.url}/oauth2/token",
        client_id="sso",
        client_secret=SecretStr("played"),
        people_fresh_seconds=0,
        people_cache_seconds=0,
        local_accounts=True,
        local_admin=SecretStr(f"admin:{hash_once()}"),
    )


@asynccontextmanager
async def running_staff(request: pytest.FixtureRequest) -> AsyncIterator[Staffed]:
    """A running sso whose OpenID providers are played, with a database and a roster-store of its own."""
    clock = MovingClock(datetime(2026, 9, 1, 6, tzinfo=UTC))
    async with fresh_database(request) as url, playing_roster() as roster:
        settings = await make_settings(url, roster)
        app = create(settings, clock)
        async with calling(app) as client:
            launching: Launching = app.state.launching
            launching.protocols = {"oidc": PlayedPortal(launching.flows)}
            app.include_router(router)
            yield Staffed(client, app, clock, settings, roster)
