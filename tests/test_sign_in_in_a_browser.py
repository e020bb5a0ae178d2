"""Sign-in as people do it: in a real browser, through `make up` with its portals and its product (E1 to E5, D4)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from browser import new_device, photograph, running_browser
from installation import Installation, running_installation
from playwright.async_api import Browser, BrowserContext, Page, expect

SEED_SECONDS = 90
PRODUCT = "Sample Product"
STRANGER = "Quinn Unlisted"

pytestmark = pytest.mark.timeout(300)


@dataclass
class Town:
    """A running installation with the sandbox's portals and product."""

    installation: Installation
    sandbox: str
    students: list[dict[str, Any]]

    def name(self, number: int) -> str:
        """What a student of the district is called."""
        student = self.students[number]
        return f"{student['given']} {student['family']}"

    async def trace(self, support_id: str) -> dict[str, Any]:
        """What an admin is told about a launch."""
        headers = {"Authorization": f"Bearer {self.installation.token}"}
        async with httpx2.AsyncClient(base_url=self.installation.origin, headers=headers, trust_env=False) as client:
            answer = await client.get(f"/v1/launches/{support_id}")
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """`make up` with everything clickable."""
    with running_installation(tmp_path_factory.mktemp("town"), sandbox=True) as running:
        yield running


@pytest.fixture
async def town(installation: Installation) -> Town:
    """The installation once its tiles are there."""
    sandbox = installation.sandbox
    async with httpx2.AsyncClient(base_url=sandbox, trust_env=False, timeout=10) as client:
        found = (await client.get("/sandbox/people", params={"search": "student"})).json()
        students = [person for person in found if person["sourced_id"] and person["classes"]]
        await client.post("/launchpad/sign-in", data={"person": students[0]["key"]})
        async with asyncio.timeout(SEED_SECONDS):
            while "SAML" not in (await client.get("/launchpad", follow_redirects=True)).text:
                await asyncio.sleep(0.5)
    return Town(installation, sandbox, students)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Chromium."""
    async with running_browser() as running:
        yield running


@pytest.fixture
async def device(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A device of a school."""
    async with new_device(browser) as context:
        yield context


async def sign_in_to_portal(page: Page, town: Town, name: str, portal: str = "launchpad") -> None:
    """Be somebody at a portal."""
    await page.goto(f"{town.sandbox}/{portal}/sign-in")
    await choose_person(page, name)
    await expect(page.locator("#who")).to_have_text(name)


async def choose_person(page: Page, name: str) -> None:
    """Find and choose oneself on a portal's sign-in page."""
    await page.get_by_label("Name or user name").fill(name)
    await page.get_by_role("button", name="Search").click()
    await page.get_by_role("button", name=re.compile(re.escape(name))).first.click()


async def find_school(page: Page) -> None:
    """Say which school one is at, and that it has ClassLink."""
    await page.get_by_label("District or school").fill("lake")
    await page.get_by_role("button", name="Search").click()
    await page.locator("ul.doors a").first.wait_for()
    await photograph(page, "choose")
    await page.locator("ul.doors a", has_text="with ClassLink").first.click()


async def click_tile(page: Page, name: str = PRODUCT) -> None:
    """Open a product from the portal's page."""
    await page.get_by_role("link", name=re.compile(f"^.?{re.escape(name)}")).first.click()


async def read_claims(page: Page) -> dict[str, str]:
    """What the product was told."""
    await page.locator("#claims").wait_for()
    rows = page.locator("#claims tbody tr")
    return {await row.locator("th").inner_text(): await row.locator("td").inner_text() for row in await rows.all()}


async def test_a_tile_opens_the_product(town: Town, device: BrowserContext) -> None:
    """One click on the portal's tile and the pupil is in, as themselves, without another question (E2)."""
    page = await device.new_page()
    await sign_in_to_portal(page, town, town.name(0))
    await photograph(page, "portal")
    await click_tile(page)
    await expect(page.locator("#who")).to_have_text(town.name(0))
    claims = await read_claims(page)
    await photograph(page, "product")
    assert page.url.startswith(f"{town.sandbox}/product")
    assert town.students[0]["sourced_id"] in " ".join(claims.values())
    assert "student" in " ".join(claims.values())
    assert "email" not in claims or claims["email"], "no made-up address"


async def test_every_portal_knows_the_same_person(town: Town, browser: Browser) -> None:
    """Whether by ClassLink, Clever, OpenID Connect or SAML: the same person, the same subject at the product (E1)."""
    subjects = set()
    for portal in ("launchpad", "clever-portal", "idp"):
        async with new_device(browser) as device:
            page = await device.new_page()
            await sign_in_to_portal(page, town, town.name(1), portal)
            tiles = await page.locator("ul.tiles a strong").all_inner_texts()
            for tile in tiles:
                await page.goto(f"{town.sandbox}/{portal}")
                await page.locator("ul.tiles a", has_text=tile).first.click()
                await expect(page.locator("#who")).to_have_text(town.name(1))
                subjects.add((await read_claims(page))["sub"])
    assert len(subjects) in {1, 2}, "one for the roster by OneRoster, and one for Clever's where that is another"


async def test_sign_in_from_the_product(town: Town, device: BrowserContext) -> None:
    """Whoever begins at the product finds their school, signs in there, and is back (E3)."""
    page = await device.new_page()
    await page.goto(f"{town.sandbox}/product")
    await page.get_by_role("link", name="Sign in").click()
    await find_school(page)
    await choose_person(page, town.name(2))
    await expect(page.locator("#who")).to_have_text(town.name(2))


async def test_two_tabs_at_once(town: Town, device: BrowserContext) -> None:
    """Two tabs that begin at the same time both end at the product (authlib's and others' trouble)."""
    first, second = await device.new_page(), await device.new_page()
    await sign_in_to_portal(first, town, town.name(3))
    await second.goto(f"{town.sandbox}/launchpad")
    await asyncio.gather(click_tile(first), click_tile(second))
    for page in (first, second):
        await expect(page.locator("#who")).to_have_text(town.name(3))


async def test_the_second_pupil_on_a_shared_device(town: Town, device: BrowserContext) -> None:
    """The next pupil's launch replaces the first one's session, here and at the product."""
    page = await device.new_page()
    await sign_in_to_portal(page, town, town.name(4))
    await click_tile(page)
    await expect(page.locator("#who")).to_have_text(town.name(4))
    first = (await read_claims(page))["sub"]
    await page.goto(f"{town.sandbox}/launchpad")
    await page.get_by_role("button", name="Sign out").click()
    await sign_in_to_portal(page, town, town.name(5))
    await click_tile(page)
    await expect(page.locator("#who")).to_have_text(town.name(5))
    assert (await read_claims(page))["sub"] != first
    await page.goto(f"{town.installation.origin}/sso/session")
    await expect(page.get_by_role("heading", level=1)).to_contain_text(town.name(5))
    await photograph(page, "session")


async def test_connecting_an_account(town: Town, device: BrowserContext) -> None:
    """From the product's settings an account is connected with who signs in anew at the portal (D4)."""
    page = await device.new_page()
    await page.goto(f"{town.sandbox}/product/account")
    await page.get_by_label("Account name").fill("reader-7")
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("button", name="Connect account").click()
    await find_school(page)
    await choose_person(page, town.name(6))
    await photograph(page, "connect")
    await page.get_by_role("button", name=re.compile("Connect", re.IGNORECASE)).click()
    await expect(page.locator("#outcome")).to_have_text("linked")


async def test_signing_out(town: Town, device: BrowserContext) -> None:
    """Signing out at the product ends the session at Homeroom as well."""
    page = await device.new_page()
    await sign_in_to_portal(page, town, town.name(7))
    await click_tile(page)
    await expect(page.locator("#who")).to_have_text(town.name(7))
    await page.get_by_role("button", name="Sign out").click()
    await page.goto(f"{town.installation.origin}/sso/session")
    await expect(page.get_by_role("heading", level=1)).to_contain_text("signed out")


async def test_a_refused_launch(town: Town, device: BrowserContext) -> None:
    """Whoever is on no roster sees a page in plain words, and an admin finds the reason by its support id (E4)."""
    page = await device.new_page()
    await sign_in_to_portal(page, town, STRANGER)
    await click_tile(page)
    await page.locator("#support-id").wait_for()
    await photograph(page, "refused")
    shown = await page.inner_text("main")
    assert "SIGNIN_NOT_ROSTERED" in shown
    assert "Quinn" not in shown
    trace = await town.trace(await page.inner_text("#support-id"))
    assert trace["reason"]["code"] == "SIGNIN_NOT_ROSTERED"
    assert "Quinn" not in str(trace)
    await page.goto(f"{town.installation.origin}/sso/session")
    await expect(page.get_by_role("heading", level=1)).to_contain_text("signed out")
