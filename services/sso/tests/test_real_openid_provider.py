"""A provider that nobody here wrote: npm's `oidc-provider`, which is certified, with its own forms to sign in."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urljoin, urlsplit

import httpx2
import pytest
import pytest_asyncio
from counterparts.npm import node_modules, running_script
from upstream_place import Browser, Door, Place, running_place

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Where the provider is."""
    with running_script("oidc_provider.mjs", node_modules("oidc-provider")) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """An sso."""
    async with running_place(request) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(place: Place, origin: str) -> Door:
    """A connection to the provider, which knows us as its client."""
    door = await place.connect(issuer=origin)
    door.add("s-1", "Ada")
    door.add("s-2", "Bo")
    async with httpx2.AsyncClient(trust_env=False) as client:
        known = {"redirect_uri": f"http://homeroom.test/sso/callback/{door.upstream_id}"}
        await client.post(f"{origin}/control/client", json=known)
    return door


async def walk(portal: httpx2.AsyncClient, url: str, login: str) -> str:
    """Go through the provider's forms as a person would; where it sends the browser back to, at our origin."""
    for _ in range(10):
        answer = await portal.get(url)
        while not answer.has_redirect_location:
            assert answer.status_code == 200, answer.text
            action = re.search(r'<form[^>]* action="([^"]+)"', answer.text)
            assert action, answer.text
            fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', answer.text))
            if 'name="login"' in answer.text:
                fields |= {"login": login, "password": "made-up"}
            answer = await portal.post(urljoin(str(answer.url), html.unescape(action[1])), data=fields)
        url = urljoin(str(answer.url), answer.headers["location"])
        if urlsplit(url).netloc == "homeroom.test":
            return url
    raise AssertionError("the provider sends nobody back")


async def sign_in(door: Door, browser: Browser, portal: httpx2.AsyncClient, login: str) -> str:
    """Sign in from the tile to the page that is shown."""
    page = await browser.get(await walk(portal, await browser.begin(door.upstream_id), login))
    assert page.status_code == 200, page.text
    return page.text


async def test_people_sign_in_at_a_certified_provider(place: Place, door: Door, origin: str) -> None:
    """With its own forms, PKCE required, `iss` in answers and claims in userinfo, the right person comes in."""
    metadata = await place.app.state.fetching.get_json(f"{origin}/.well-known/openid-configuration")
    assert metadata["authorization_response_iss_parameter_supported"] is True
    browser = await place.open_browser()
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as portal:
        assert "signed in as Ada Berg" in await sign_in(door, browser, portal, "u-1")
        assert "signed in as Ada Berg" in await sign_in(door, browser, portal, "nobody-is-asked-again")
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as portal:
        assert "signed in as Bo Berg" in await sign_in(door, browser, portal, "u-2")


async def test_its_new_keys_are_found(place: Place, door: Door, origin: str) -> None:
    """When the provider begins to sign with a new key, nobody is turned away."""
    browser = await place.open_browser()
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as portal:
        await sign_in(door, browser, portal, "u-1")
        before = await place.app.state.discovery.keys(await place.launching.upstreams.find(door.upstream_id))
        await portal.post(f"{origin}/control/rotate")
        assert "signed in as Ada Berg" in await sign_in(door, browser, portal, "u-1")
        after = await place.app.state.discovery.keys(await place.launching.upstreams.find(door.upstream_id))
    assert len(after) == len(before) + 1


async def test_a_code_of_it_counts_once(place: Place, door: Door) -> None:
    """A code it gave is exchanged by whoever began, and by nobody who has merely seen it."""
    browser, thief = await place.open_browser(), await place.open_browser()
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as portal:
        back = await walk(portal, await browser.begin(door.upstream_id), "u-1")
    page = await thief.get(back.replace("code=", "code=x"))
    assert "SIGNIN_FLOW_LOST" in page.text
    assert (await browser.get(back)).status_code == 200
    assert not await thief.is_signed_in()
