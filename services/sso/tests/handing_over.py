"""What tests of the handover share: a product's client, somebody who is signed in, and browsers."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import httpx2
from connecting import make_connection
from fastapi import APIRouter, Request, Response
from roster_stand_in import District, PlayedRoster

from homeroom.codes import Code
from sso.clients import Clients
from sso.connections.upstreams import Upstream
from sso.launch.arrivals import Arrival
from sso.launch.browser_routes import BrowserRoute
from sso.launch.flows import Flow, Intent
from sso.launch.launching import Launching
from sso.launch.refusals import Refused
from sso.launch.sessions import Beginning, Session
from sso.launch.traces import Trace
from sso.settings import Settings
from sso.statements import SQL

SITE = "https://reader.example"
LTI = {
    "login_uri": f"{SITE}/lti/login?from=school",
    "redirect_uris": [f"{SITE}/lti/launch"],
    "target_link_uri": f"{SITE}/home",
    "client_id": "tool-1",
}


@dataclass(frozen=True)
class Party:
    """A product's client."""

    id: str
    secret: str

    @property
    def auth(self) -> tuple[str, str]:
        """For HTTP Basic."""
        return self.id, self.secret


async def make_party(service: Any, product_id: UUID, mode: str = "ticket", **columns: Any) -> Party:
    """A product's client as relying party, which launches go to."""
    made = await Clients(service.database).create(None, ["accounts.write", "roster.read"], None, product_id, by="tests")
    assert made is not None
    said: dict[str, Any] = {
        "launch_mode": mode,
        "redirect_uris": [f"{SITE}/callback"],
        "post_logout_redirect_uris": [f"{SITE}/bye"],
        "initiate_login_uri": f"{SITE}/login",
        "launch_uri": f"{SITE}/launch?v=1",
        "destinations": {"library": f"{SITE}/library", "settings": f"{SITE}/settings"},
        "lti": LTI,
        **columns,
    }
    names = ", ".join(said)
    places = ", ".join(f"${number}" for number in range(3, len(said) + 3))
    query = f"INSERT INTO relying_party (client_id, product_id, {names}) VALUES ($1, $2, {places})"  # noqa: S608 - our own names
    await service.database.fetch(query, made[0].id, product_id, *said.values())
    return Party(made[0].id, made[1])


async def add_product(service: Any) -> UUID:
    """Another product."""
    product_id = uuid4()
    await service.database.fetch("INSERT INTO product (id, name) VALUES ($1, 'Writer')", product_id)
    return product_id


@dataclass(frozen=True)
class Pupil:
    """Somebody who is signed in in a browser."""

    session: Session
    person_id: UUID
    connection_id: UUID
    browser: httpx2.AsyncClient


def open_browser(service: Any) -> httpx2.AsyncClient:
    """Another browser, with cookies of its own."""
    transport = httpx2.ASGITransport(app=service.app)
    return httpx2.AsyncClient(transport=transport, base_url="http://homeroom.test")


async def sign_in(
    service: Any, settings: Settings, roster: PlayedRoster, district: District, sourced_id: str = "user-1", **more: Any
) -> Pupil:
    """Have somebody signed in, as if they had come by a portal."""
    if not any(one.person.sourced_id == sourced_id for one in roster.pupils):
        roster.add(district.integration_id, sourced_id, **more)
    _, connection_id = await make_connection(service.database, settings, organization_id=district.organization_id)
    person_id = await service.database.fetchval(SQL["make_person"], district.organization_id)
    await service.database.fetch(SQL["name_person"], district.integration_id, sourced_id, person_id)
    beginning = Beginning(
        person_id=person_id,
        organization_id=district.organization_id,
        connection_id=connection_id,
        integration_id=district.integration_id,
        sourced_id=sourced_id,
    )
    sessions = service.launching.sessions
    session, token = await sessions.begin(Request({"type": "http", "headers": []}), beginning)
    browser = open_browser(service)
    browser.cookies.set(sessions.cookie, token)
    return Pupil(session, person_id, connection_id, browser)


def read_query(url: str) -> dict[str, str]:
    """The parameters of an address, each of them there once."""
    found = parse_qs(urlsplit(url).query, strict_parsing=True)
    assert all(len(values) == 1 for values in found.values())
    return {name: values[0] for name, values in found.items()}


class PlayedPortal:
    """A protocol that keeps flows as others do, and lets the test say who comes back from the portal."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self.intents: list[Intent] = []
        self._coming: dict[str, Any] = {}
        router = APIRouter(route_class=BrowserRoute)
        router.add_api_route("/played/{upstream_id}", self._come_back)
        service.app.include_router(router)
        service.launching.protocols = {"oidc": self}

    async def start(self, upstream: Upstream, intent: Intent, trace: Trace, browser: str) -> str:
        """Keep the flow and name a URL."""
        state = uuid4().hex
        self.intents.append(intent)
        flow = Flow(trace.id, trace.support_id, upstream.id, intent)
        await self._service.launching.flows.begin(state, browser, upstream, flow, trace)
        return f"https://idp.test/played/{upstream.id}?state={state}"

    async def send_back(self, browser: httpx2.AsyncClient, sent: httpx2.Response, **coming: Any) -> httpx2.Response:
        """Have somebody sign in at the portal to which `sent` leads; `coming` are fields of `Arrival`."""
        assert sent.status_code == 303, sent.text
        self._coming = {"subject": "portal-1", "person_key": "user-1", **coming}
        return await browser.get(sent.headers["location"].removeprefix("https://idp.test"))

    async def _come_back(self, request: Request, upstream_id: UUID, state: str) -> Response:
        launching: Launching = self._service.launching
        flow = await launching.flows.take(state, launching.browsers.recognise_all(request), upstream_id)
        if flow is None:
            raise Refused(Code.SIGNIN_FLOW_LOST)
        upstream = await launching.upstreams.find(upstream_id)
        assert upstream is not None
        arrival = Arrival(upstream, **self._coming)
        return await launching.receive(request, flow.intent, arrival, launching.resume(request, flow, upstream))
