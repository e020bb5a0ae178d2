"""A launch over all services and both buses: who clicks a tile joins the class that was started (E1, E2, E5, D2)."""

from __future__ import annotations

import base64
import hashlib
import secrets
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx2
from installation import Installation, SyncedDistrict, synced_district
from joserfc import jwt
from joserfc.jwk import KeySet
from products import Product, license_to, registered_product

from homeroom_local.sign_in_setup import SandboxAdmin

CALLBACK = "http://127.0.0.1:9/callback"
"""The product's; nobody listens there, for the test is the product."""
START = "http://127.0.0.1:9/start"
STARTED, JOINED = "homeroom.license.started.v1", "homeroom.enrollment.activated.v1"


async def connect(stack: AsyncExitStack, installation: Installation, district: SyncedDistrict, product: Product) -> str:
    """Connect the district's portal, and set the product's client up to sign people in; the tile's address."""
    portal = await stack.enter_async_context(
        httpx2.AsyncClient(base_url=district.sandbox.url, timeout=20, trust_env=False)
    )
    described = (await portal.get("/sandbox")).json()
    admin = SandboxAdmin(district.client, portal, installation.origin, described)
    integration = await district.client.call("GET", f"/v1/integrations/{district.integration_id}")
    door = await admin.connect_classlink(integration["organization_id"], district.integration_id, product.id)
    await admin.introduce_door("classlink", door)
    party = {"redirect_uris": [CALLBACK], "initiate_login_uri": START}
    await district.client.call("PUT", f"/v1/relying-parties/{product.client_id}", json=party)
    found = (await district.client.call("GET", door.path))["portal"]
    return str(found["launch_url"])


async def launch(installation: Installation, district: SyncedDistrict, product: Product, tile: str, who: str) -> Any:
    """Click a tile as somebody, and be the product that is opened: the claims of its ID token, checked."""
    async with httpx2.AsyncClient(timeout=20, trust_env=False) as browser:
        await browser.post(f"{district.sandbox.url}/launchpad/sign-in", data={"person": who})
        sent = await follow(browser, tile, START)
        verifier, nonce = secrets.token_urlsafe(40), secrets.token_urlsafe(12)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": product.client_id,
            "redirect_uri": CALLBACK,
            "scope": "openid profile roster",
            "state": "opaque",
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "login_hint": sent["login_hint"],
        }
        answer = await follow(browser, f"{installation.origin}/oauth2/authorize?{urlencode(asked)}", CALLBACK)
        assert (answer["state"], answer["iss"]) == ("opaque", installation.origin)
        form = {"grant_type": "authorization_code", "code": answer["code"], "redirect_uri": CALLBACK}
        tokens = await browser.post(
            f"{installation.origin}/oauth2/token",
            data=form | {"code_verifier": verifier},
            auth=(product.client_id, product.client_secret),
        )
        assert tokens.status_code == 200, tokens.text
        keys = KeySet.import_key_set((await browser.get(f"{installation.origin}/oauth2/jwks")).json())
        claims = jwt.decode(tokens.json()["id_token"], keys, algorithms=["RS256"]).claims
        assert (claims["aud"], claims["nonce"]) == (product.client_id, nonce)
        return claims


async def follow(browser: httpx2.AsyncClient, url: str, until: str) -> dict[str, str]:
    """Go where a browser is sent until it is sent to an address; its parameters."""
    for _ in range(12):
        answer = await browser.get(url)
        assert answer.is_redirect, f"{urlsplit(url).path}: {answer.status_code} {answer.text[-1500:]}"
        url = urljoin(url, answer.headers["location"])
        if url.startswith(until):
            return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    raise AssertionError(f"went round and round: {url}")


async def test_a_first_sign_in_joins_the_class_that_was_started(installation: Installation) -> None:
    """A student's first launch tells the product, by its feed, that they are in their class; nobody else does."""
    async with (
        AsyncExitStack() as stack,
        synced_district(installation, students=60) as district,
        registered_product(installation, district, "Starter", classes="teacher-started") as product,
    ):
        assert (await district.sync())["state"] == "succeeded"
        await license_to(district, product)
        await product.follow_until(STARTED)
        teaching, studying = pick_class(district)
        tile = await connect(stack, installation, district, product)

        body = {"teacher_sourced_id": teaching["user"]["sourcedId"]}
        await product.client.call("POST", f"/v1/roster/classes/{teaching['class']['sourcedId']}/start", json=body)
        await product.follow_until("homeroom.class.activated.v1")
        assert f"enrollments/{studying['sourcedId']}" not in product.copy.subjects()

        student = studying["user"]["sourcedId"]
        claims = await launch(installation, district, product, tile, student)
        assert (claims["sourced_id"], claims["roles"]) == (student, ["student"])
        assert [one["sourced_id"] for one in claims["classes"]] == [teaching["class"]["sourcedId"]]
        told = await product.follow_until(JOINED)
        joined = {event["subject"] for event in told if event["type"] == JOINED}
        assert joined == {f"enrollments/{studying['sourcedId']}"}
        students = {record["sourcedId"] for record in product.copy.of("users")} & {
            user["sourcedId"]
            for user in district.sandbox.district.active("users").values()
            if user["role"] == "student"
        }
        assert students == {student}

        again = await launch(installation, district, product, tile, student)
        assert again["sub"] == claims["sub"]


def pick_class(district: SyncedDistrict) -> tuple[dict[str, Any], dict[str, Any]]:
    """A class's first teacher and one of its students, as enrollments."""
    enrollments = sorted(district.sandbox.district.active("enrollments").values(), key=lambda one: one["sourcedId"])
    teaching = next(one for one in enrollments if one["role"] == "teacher")
    users = district.sandbox.district.active("users")
    studying = next(
        one
        for one in enrollments
        if one["role"] == "student"
        and one["class"]["sourcedId"] == teaching["class"]["sourcedId"]
        and users[one["user"]["sourcedId"]]["enabledUser"]
    )
    return teaching, studying
