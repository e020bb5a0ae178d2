"""A running sso with a played roster and a played provider, for the tests of a whole file, and browsers that visit it.

Each test makes connections of its own, so that tests do not meet.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx2
import pytest
from connecting import make_connection
from fastapi import FastAPI
from played_provider import PlayedProvider, playing_provider
from pydantic import SecretStr
from roster_stand_in import District, PlayedRoster, make_district, playing_roster

from homeroom.clock import MovingClock
from homeroom.db import Database
from homeroom.migrate import migrate
from homeroom.secrets import generate_key
from homeroom.testing.postgres import fresh_database
from homeroom.testing.tokens import calling
from sso.app import create
from sso.connections.upstreams import Kind
from sso.launch.flows import hash_token
from sso.launch.launching import Launching
from sso.settings import Settings

ORIGIN = "http://homeroom.test"


@dataclass
class Browser:
    """A browser with cookies of its own, which follows redirects only within sso."""

    client: httpx2.AsyncClient
    keeps_cookies: bool = True

    async def get(self, url: str, **more: Any) -> httpx2.Response:
        """Go somewhere in sso and stay there, or be sent out (a redirect to elsewhere)."""
        for _ in range(5):
            answer = await self.client.get(url, **more)
            if not self.keeps_cookies:
                self.client.cookies.clear()
            url = answer.headers.get("location", "")
            if not answer.has_redirect_location or not url.startswith("/"):
                return answer
        raise AssertionError("round in circles within sso")

    async def begin(self, upstream_id: UUID, **parameters: str) -> str:
        """Begin at a tile; the authorization URL."""
        answer = await self.get(f"/sso/launch/{upstream_id}", params=parameters)
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    async def is_signed_in(self) -> bool:
        """Whether there is a session."""
        return "signed in as" in (await self.client.get("/sso/session")).text


@dataclass
class Place:
    """Everything a sign-in needs."""

    settings: Settings
    clock: MovingClock
    roster: PlayedRoster
    provider: PlayedProvider
    app: FastAPI
    stack: AsyncExitStack = field(repr=False)

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

    def make_honest(self) -> None:
        """Have the provider be as it was in the beginning."""
        kept = {"url": self.provider.url, "asked": self.provider.asked}
        vars(self.provider).update(vars(PlayedProvider(self.clock)) | kept)

    async def connect(self, kind: Kind = "oidc", *, district: District | None = None, **more: Any) -> Door:
        """A district with a connection to the played provider, as its kind would be; `more` goes into it."""
        district = district or await make_district(self.database)
        issuer = self.provider.issuer
        pinned: dict[str, Any] = {"issuer": issuer}
        if kind in {"classlink", "clever"}:
            pinned["info_url"] = f"{issuer}/info"
            more = {"tenant": "d-1"} | more
        if not more.get("openid", True):
            pinned |= {"authorization_endpoint": f"{issuer}/authorize", "token_endpoint": f"{issuer}/token"}
        upstream_id, connection_id = await make_connection(
            self.database,
            self.settings,
            kind=kind,
            organization_id=district.organization_id,
            integration_id=district.integration_id,
            **(pinned | more),
        )
        return Door(self, district, upstream_id, connection_id)

    async def open_browser(self, *, keeps_cookies: bool = True) -> Browser:
        """Another browser."""
        client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=self.app), base_url=ORIGIN, timeout=30, follow_redirects=False
        )
        return Browser(await self.stack.enter_async_context(client), keeps_cookies)

    async def find_reason(self, page: httpx2.Response) -> str:
        """Why nobody came in, as the trace says that the page's support id leads to."""
        found = re.search(r'<code id="support-id">(HR-[0-9A-Z-]+)</code>', page.text)
        assert found, page.text
        row = await self.database.fetchrow("SELECT * FROM launch WHERE support_id = $1", found[1])
        assert row is not None
        assert row["state"] == "refused"
        assert row["code"] in page.text
        return f"{row['code']}: {row['steps'][-1]['why']}"

    async def refuses(self, page: httpx2.Response, browser: Browser, code: str, why: str) -> None:
        """Check that nobody came in: a page of its own with this code, a trace, no session, nothing echoed."""
        assert 400 <= page.status_code < 500 or code == "SIGNIN_UPSTREAM_AWAY", page.status_code
        assert page.headers["content-type"].startswith("text/html")
        assert await self.find_reason(page) == f"{code}: {why}"
        assert not await browser.is_signed_in()
        assert "<script" not in page.text
        for name, [value] in parse_qs(urlsplit(str(page.url)).query).items():
            assert value not in page.text or len(value) < 4, name


@dataclass
class Door:
    """A connection of a district."""

    place: Place
    district: District
    upstream_id: UUID
    connection_id: UUID

    def add(self, sourced_id: str, given: str = "Ada", **more: Any) -> None:
        """Have somebody in the district's roster."""
        self.place.roster.add(self.district.integration_id, sourced_id, given, **more)

    async def approve(self, browser: Browser, subject: str = "u-1", **claims: Any) -> str:
        """Begin, and sign in at the provider; where the browser is sent back to."""
        return self.place.provider.approve(await browser.begin(self.upstream_id), subject, **claims)

    async def sign_in(self, browser: Browser, subject: str = "u-1", **claims: Any) -> httpx2.Response:
        """Sign in from beginning to end; the page that is shown."""
        return await browser.get(await self.approve(browser, subject, **claims))

    async def count_identities(self) -> int:
        """How many people of the portal are known."""
        found: int = await self.place.database.fetchval(
            "SELECT count(*) FROM identity WHERE connection_id = $1", self.connection_id
        )
        return found

    async def age_flow(self, url: str) -> None:
        """Have the flow of an authorization URL be over."""
        [state] = parse_qs(urlsplit(url).query)["state"]
        await self.place.database.fetch("UPDATE flow SET expires_at = now() WHERE state_hash = $1", hash_token(state))


@asynccontextmanager
async def running_place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """All of it, until the block ends."""
    async with AsyncExitStack() as stack:
        database_url = await stack.enter_async_context(fresh_database(request))
        roster = await stack.enter_async_context(playing_roster())
        clock = MovingClock(datetime.now(UTC).replace(microsecond=0))
        provider = await stack.enter_async_context(playing_provider(clock))
        await migrate(database_url, schema="sso", package="sso")
        settings = Settings(
            database_url=SecretStr(database_url),
            issuer=ORIGIN,
            sso_key=SecretStr(generate_key()[0]),
            database_pool_size=4,
            store_url=roster.url,
            token_url=f"{roster.url}/oauth2/token",
            client_id="sso",
            client_secret=SecretStr("played"),
            people_fresh_seconds=0,
            allow_private_endpoints=True,
        )
        app = create(settings, clock)
        await stack.enter_async_context(calling(app))
        yield Place(settings, clock, roster, provider, app, stack)
