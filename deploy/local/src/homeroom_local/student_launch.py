"""One student launched, as a browser would do it: a tile is clicked, and what the product was told is looked at."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urljoin

import httpx2

from homeroom_local.sign_in_setup import PRODUCT

MOST_REDIRECTS: Final = 20

Json = dict[str, Any]


class LaunchError(Exception):
    """The launch did not end at the product as the right person; the text says where it stopped or what differed."""


async def launch_student(district: httpx2.AsyncClient, described: Mapping[str, Any], organization: str) -> Json:
    """Sign a student in at the LaunchPad-like portal, click the product's tile, and compare what comes of it.

    Args:
        district: a client of the sandbox.
        described: the portals, as the sandbox describes them.
        organization: the one whose roster the student is in.
    """
    person = await _pick_student(district)
    portal, product = described["launchpad"]["portal"], described["product"]
    async with httpx2.AsyncClient(
        timeout=30, trust_env=False, follow_redirects=True, max_redirects=MOST_REDIRECTS
    ) as browser:
        page = await browser.post(f"{portal}/sign-in", data={"person": person["key"]})
        tile = _find_tile(page)
        began = time.monotonic()
        arrived = await browser.get(tile)
        seconds = round(time.monotonic() - began, 3)
        if arrived.is_error or str(arrived.url) != product["url"]:
            raise LaunchError(_describe(arrived))
        told: Json = (await browser.get(product["claims_url"])).json()
    claims = told.get("claims", {})
    _compare(claims, person, organization)
    return {
        "product": told["product"],
        "organization": claims["organization"]["name"],
        "name": claims["name"],
        "sub": claims["sub"],
        "roles": claims["roles"],
        "sourced_id": claims["sourced_id"],
        "classes": len(claims["classes"]),
        "seconds": seconds,
    }


async def _pick_student(district: httpx2.AsyncClient) -> Json:
    """A student with classes."""
    found: list[Json] = (await district.get("/sandbox/people", params={"search": "student"})).json()
    person = next((each for each in found if each["sourced_id"] and each["classes"]), None)
    if person is None:
        msg = "the sandbox has no student with classes"
        raise LaunchError(msg)
    return person


def _find_tile(page: httpx2.Response) -> str:
    """Where the product's tile leads."""
    found = re.search(rf'<a href="([^"]+)">(?:(?!</a>).)*<strong>{re.escape(PRODUCT)}</strong>', page.text, re.DOTALL)
    if found is None:
        msg = "the product's tile is not on the portal's page"
        raise LaunchError(msg)
    leads: str = urljoin(str(page.url), found[1])
    return leads


def _describe(arrived: httpx2.Response) -> str:
    """Where a launch stopped, with the support id if there is one."""
    title = re.search(r"<h1>(.*?)</h1>", arrived.text, re.DOTALL)
    support = re.search(r'id="support-id">([^<]+)<', arrived.text)
    where = f"{arrived.url.path} with {arrived.status_code}"
    said = f" ({title[1].strip()})" if title else ""
    return f"the launch ended at {where}{said}{f', support id {support[1]}' if support else ''}"


def _compare(claims: Mapping[str, Any], person: Mapping[str, Any], organization: str) -> None:
    """What the product was told is the district's truth of this very student."""
    told = {
        "sourced_id": claims.get("sourced_id"),
        "name": claims.get("name"),
        "roles": claims.get("roles"),
        "organization": claims.get("organization", {}).get("id"),
        "classes": sorted(each["sourced_id"] for each in claims.get("classes", ())),
    }
    truth = {
        "sourced_id": person["sourced_id"],
        "name": f"{person['given']} {person['family']}",
        "roles": [person["role"]],
        "organization": organization,
        "classes": sorted(person["classes"]),
    }
    if wrong := [name for name in truth if told[name] != truth[name]]:
        msg = f"the product was told another {', '.join(wrong)} than the district has"
        raise LaunchError(msg)
    if not claims.get("sub"):
        msg = "the product was told no subject"
        raise LaunchError(msg)
