"""A district that signs in by SAML: a connection in sso, a played identity provider behind it, and browsers."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx2
import pytest
from connecting import make_connection
from fastapi import FastAPI
from lxml import etree
from played_idp import NOW, Element, Encrypting, Idp, Story, make_rsa, write_key
from pydantic import SecretStr
from roster_stand_in import District, PlayedRoster, playing_roster

from homeroom.clock import MovingClock
from homeroom.db import Database
from homeroom.migrate import migrate
from homeroom.secrets import generate_key
from homeroom.testing.postgres import fresh_database
from homeroom.testing.tokens import calling
from sso.app import create
from sso.launch.launching import Launching
from sso.saml.documents import inflate
from sso.settings import Settings

OURS = make_rsa("ours")


TABLES = "session, identity, person, flow, presented, launch, saml_arrival, saml_logout"


@dataclass
class Service:
    """An sso for a whole file of tests, and one browser."""

    client: httpx2.AsyncClient
    app: FastAPI
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

    async def forget(self) -> None:
        """Be as if nobody had come."""
        await self.database.fetch(f"TRUNCATE {TABLES} CASCADE")
        self.roster.pupils.clear()
        self.client.cookies.clear()


@asynccontextmanager
async def running_service(request: pytest.FixtureRequest) -> AsyncIterator[Service]:
    """An sso at `NOW` with a played roster."""
    async with AsyncExitStack() as stack:
        database_url = await stack.enter_async_context(fresh_database(request))
        roster = await stack.enter_async_context(playing_roster())
        await migrate(database_url, schema="sso", package="sso")
        settings = Settings(
            database_url=SecretStr(database_url),
            issuer="http://homeroom.test",
            sso_key=SecretStr(generate_key()[0]),
            database_pool_size=4,
            store_url=roster.url,
            token_url=f"{roster.url}/oauth2/token",
            client_id="sso",
            client_secret=SecretStr("played"),
            people_fresh_seconds=0,
        )
        app = create(settings, MovingClock(NOW))
        client = await stack.enter_async_context(calling(app))
        yield Service(client, app, roster)


@dataclass
class SamlPlace:
    """One connection and whoever plays its identity provider."""

    service: Service
    idp: Idp
    upstream_id: UUID
    district: District

    @property
    def base(self) -> str:
        """Where its addresses are."""
        return f"/sso/saml/{self.upstream_id}"

    async def begin(self, browser: httpx2.AsyncClient, **query: object) -> Element:
        """Click the tile; the AuthnRequest that came out of it."""
        asked = await browser.get(f"/sso/launch/{self.upstream_id}", params={k: str(v) for k, v in query.items()})
        assert asked.status_code == 303, asked.text
        assert asked.headers["Location"].startswith("https://idp.test/sso?SAMLRequest=")
        return read_request(asked.headers["Location"])

    async def post(
        self, browser: httpx2.AsyncClient, document: bytes, relay_state: str | None = None
    ) -> httpx2.Response:
        """Post a response to the assertion consumer."""
        form = {"SAMLResponse": b64encode(document).decode()}
        form |= {} if relay_state is None else {"RelayState": relay_state}
        return await browser.post(f"{self.base}/acs", data=form)

    async def sign_in(self, browser: httpx2.AsyncClient, **said: Any) -> httpx2.Response:
        """The whole way, with a product-less tile; the last page."""
        request = await self.begin(browser)
        posted = await self.post(browser, self.respond(in_response_to=request.get("ID"), **said))
        assert posted.status_code == 303, posted.text
        return await browser.get(posted.headers["Location"])

    def respond(self, *, encrypting: Encrypting | None = None, **said: Any) -> bytes:
        """A genuine response to this connection; nobody asked for it unless `in_response_to` is given."""
        return self.idp.respond(self.story(**said), encrypting=encrypting)

    def story(self, **said: Any) -> Story:
        """What such a response says."""
        return replace(self.idp.story(in_response_to=None), **said)

    async def read_launch(self, page: httpx2.Response) -> dict[str, Any]:
        """The trace behind a page with a support id."""
        support_id = page.text.partition('id="support-id">')[2].partition("<")[0]
        row = await self.service.database.fetchrow("SELECT * FROM launch WHERE support_id = $1", support_id)
        assert row is not None, page.text
        return dict(row)

    async def count(self, table: str) -> int:
        """How many rows a table has."""
        assert table.isidentifier()
        found: int = await self.service.database.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - an identifier
        return found


async def make_place(service: Service, district: District, **config: Any) -> SamlPlace:
    """A connection of a district; `config` is of `make_connection`. Two pupils are on the roster."""
    settings, roster = service.app.state.settings, service.roster
    idp = Idp()
    private_key = config.pop("private_key", None)
    least: dict[str, Any] = {
        "kind": "saml",
        "organization_id": district.organization_id,
        "integration_id": district.integration_id,
        "entity_id": idp.entity_id,
        "sso_url": "https://idp.test/sso",
        "certificates": [idp.certificate],
    }
    upstream_id, _ = await make_connection(service.database, settings, private_key=private_key, **(least | config))
    base = f"http://homeroom.test/sso/saml/{upstream_id}"
    idp.audience, idp.acs_url = f"{base}/metadata", f"{base}/acs"
    if not any(one.integration_id == district.integration_id for one in roster.pupils):
        roster.add(district.integration_id, "user-1", "Ada", "Berg")
        roster.add(district.integration_id, "user-2", "Bo", "Carr")
    return SamlPlace(service, idp, upstream_id, district)


def read_request(url: str) -> Element:
    """The message of a URL of the redirect binding."""
    query = parse_qs(urlsplit(url).query)
    return etree.fromstring(inflate(b64decode((query.get("SAMLRequest") or query["SAMLResponse"])[0])))


def our_key() -> str:
    """The private key a connection gets for encrypted assertions."""
    return write_key(OURS)


@asynccontextmanager
async def browsing(service: Service) -> AsyncIterator[httpx2.AsyncClient]:
    """Another browser."""
    transport = httpx2.ASGITransport(app=service.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://homeroom.test", timeout=30) as client:
        yield client
