"""What sign-in does while something it leans on is away, slow or endless: through the app, to the page people see."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import pytest_asyncio
from connecting import make_connection
from fastapi import FastAPI
from roster_stand_in import make_district
from upstream_place import Browser, Door, Place, running_place

from homeroom.codes import Code
from homeroom.testing.tokens import calling
from sso.app import create
from sso.clients import Declaration

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOBODY_LISTENS = "127.0.0.1:9"
LAUNCHED = "https://reader.example/launched"
SECRET = "product-secret-0123456789-0123456789"
ENOUGH = 2.0
"""Seconds within which a page must be there, with deadlines as short as `hurrying` makes them."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="whole")
async def _run(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with running_place(request) as place:
        yield place


@pytest.fixture
def place(whole: Place) -> Iterator[Place]:
    """The place, where all is well again after every test."""
    yield whole
    whole.make_honest()
    whole.roster.away = False


@contextmanager
def hurrying(app: FastAPI, seconds: float = 0.3) -> Iterator[None]:
    """Have the deadline for upstreams' servers be short."""
    fetching, before = app.state.fetching, app.state.fetching.seconds
    object.__setattr__(fetching, "seconds", seconds)
    try:
        yield
    finally:
        object.__setattr__(fetching, "seconds", before)


async def add_product(place: Place, door: Door) -> dict[str, str]:
    """Have the district's product be opened with tickets; its credentials."""
    name, product_id = f"reader-{door.connection_id.hex[:8]}", door.district.product_id
    await place.app.state.clients.declare_all([Declaration(name, SECRET, ["roster.read"], product_id=product_id)])
    await place.database.fetch(
        "INSERT INTO relying_party (client_id, product_id, launch_mode, launch_uri) VALUES ($1, $2, 'ticket', $3)",
        name,
        product_id,
        LAUNCHED,
    )
    return {"client_id": name, "client_secret": SECRET}


async def become_admin(place: Place, client: httpx2.AsyncClient) -> dict[str, str]:
    """Headers of an admin of the platform."""
    await place.app.state.clients.declare_all([Declaration("boss", SECRET, ["admin"])])
    form = {"grant_type": "client_credentials", "client_id": "boss", "client_secret": SECRET}
    answer = await client.post("/oauth2/token", data=form)
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def test_launches_complete_while_the_bus_is_down(place: Place) -> None:
    """An sso whose Kafka does not answer is ready and opens products; who came in is written down, to be told later."""
    door = await place.connect()
    door.add("s-1")
    credentials = await add_product(place, door)
    app = create(place.settings.model_copy(update={"kafka": NOBODY_LISTENS}), place.clock)
    began = time.monotonic()
    async with calling(app) as client:
        assert (await client.get("/readyz")).status_code == 200
        browser = Browser(client)
        url = await browser.begin(door.upstream_id, product=str(door.district.product_id))
        opened = await browser.get(place.provider.approve(url, sourcedId="s-1"))
        assert opened.headers["location"].startswith(f"{LAUNCHED}?ticket=")
        [ticket] = parse_qs(urlsplit(opened.headers["location"]).query)["ticket"]
        redeemed = await client.post("/sso/tickets/redeem", data=credentials | {"ticket": ticket})
    assert redeemed.status_code == 200
    assert time.monotonic() - began < ENOUGH
    launch = await place.database.fetchrow("SELECT * FROM launch WHERE connection_id = $1", door.connection_id)
    assert launch is not None
    assert (launch["state"], launch["sourced_id"]) == ("completed", "s-1")
    told = await place.database.fetch(
        "SELECT sourced_id FROM sign_in WHERE integration_id = $1", door.district.integration_id
    )
    assert [row["sourced_id"] for row in told] == ["s-1"]


async def test_known_people_come_in_while_the_store_is_down(place: Place) -> None:
    """Answers of the last hours let known people in, by old sessions and new ones; later a page says why not."""
    door = await place.connect()
    door.add("s-1")
    known = await place.open_browser()
    assert (await door.sign_in(known, sourcedId="s-1")).status_code == 200
    place.roster.away = True
    for browser in (known, await place.open_browser()):
        page = await door.sign_in(browser, sourcedId="s-1")
        assert (page.status_code, "signed in as Ada" in page.text) == (200, True)
        assert await browser.is_signed_in()
    ties = await door.count_identities()

    stranger = await place.open_browser()
    refused = await door.sign_in(stranger, "u-2", sourcedId="s-2")
    await _is_store_away(place, refused, stranger)
    await place.database.fetch(
        "UPDATE person_answer SET asked_at = asked_at - make_interval(secs => $1)",
        place.settings.people_cache_seconds,
    )
    late = await place.open_browser()
    await _is_store_away(place, await door.sign_in(late, sourcedId="s-1"), late)
    assert await door.count_identities() == ties
    place.roster.away = False
    assert (await door.sign_in(late, sourcedId="s-1")).status_code == 200


async def _is_store_away(place: Place, page: httpx2.Response, browser: Browser) -> None:
    assert page.status_code == 503
    assert await place.find_reason(page) == f"{Code.SIGNIN_STORE_AWAY}: the store does not answer"
    place.roster.away = False
    assert not await browser.is_signed_in()
    place.roster.away = True


@pytest.mark.parametrize("manner", ["slow", "drip", "flood"])
@pytest.mark.parametrize("path", ["/token", "/userinfo"])
async def test_attack_45_a_portal_that_never_comes_to_an_end(place: Place, path: str, manner: Any) -> None:
    """A server that hangs, or whose answer has no end, costs a page's time at most, and nobody else any."""
    slow, quick = await place.connect(), await place.connect()
    quick.add("s-1")
    browser, other = await place.open_browser(), await place.open_browser()
    back, ready = await slow.approve(browser), await quick.approve(other, sourcedId="s-1")
    place.provider.behave = {path: manner}
    with hurrying(place.app):
        began = time.monotonic()
        page = await browser.get(back)
        assert time.monotonic() - began < ENOUGH
    assert page.status_code == 503
    assert (await place.find_reason(page)).startswith("SIGNIN_UPSTREAM_AWAY: ")
    assert not await browser.is_signed_in()
    place.provider.behave = {}
    assert (await other.get(ready)).status_code == 200


@pytest.mark.parametrize("manner", ["slow", "drip", "flood"])
async def test_attack_45_metadata_that_never_comes_to_an_end(place: Place, manner: Any) -> None:
    """Whoever enters or tests a SAML connection is told in time and in words, and people sign in by it meanwhile."""
    district = await make_district(place.database)
    url = f"{place.provider.url}/metadata"
    body = {
        "kind": "saml",
        "name": f"ADFS {district.organization_id}",
        "organization_id": str(district.organization_id),
        "integration_id": str(district.integration_id),
        "saml": {"metadata_url": url},
    }
    upstream_id, _ = await make_connection(
        place.database, place.settings, kind="saml", organization_id=district.organization_id, metadata_url=url
    )
    client = (await place.open_browser()).client
    headers = await become_admin(place, client)
    place.provider.behave = {"/metadata": manner}
    with hurrying(place.app):
        began = time.monotonic()
        made, tested, launched = await asyncio.gather(
            client.post("/v1/connections", json=body, headers=headers),
            client.post(f"/v1/connections/{upstream_id}/test", headers=headers),
            client.get(f"/sso/launch/{upstream_id}"),
        )
        assert time.monotonic() - began < ENOUGH
    assert (made.status_code, made.json()["code"]) == (422, Code.METADATA_REFUSED)
    assert [one["check"] for one in tested.json()["checks"] if one["ok"] is False] == ["metadata"]
    assert launched.status_code == 303
    assert await place.database.fetchval("SELECT count(*) FROM connection WHERE name = $1", body["name"]) == 0
