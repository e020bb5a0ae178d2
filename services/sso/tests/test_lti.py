"""LTI 1.3 resource-link launches, and what tools and strangers may get wrong about them."""

import re
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID, uuid4

import httpx2
import pytest
from handing_over import LTI, SITE, Party, Pupil, add_product, make_party, open_browser, read_query, sign_in
from joserfc import jwt
from joserfc.jwk import KeySet
from roster_stand_in import District, PlayedRoster, add_license, make_district

from homeroom.clock import MovingClock
from homeroom.codes import Code
from sso.handover.lti_messages import CLAIM, ROLES
from sso.handover.lti_requests import check_request, read_request
from sso.handover.lti_settings import read_lti
from sso.handover.passes import Pass
from sso.launch.refusals import Refused
from sso.settings import Settings

MEMBER = "http://purl.imsglobal.org/vocab/lis/v2/membership"


@pytest.fixture
async def party(service: Any, district: District) -> Party:
    """The product's client, a tool."""
    return await make_party(service, district.product_id, "lti")


@pytest.fixture
async def pupil(service: Any, settings: Settings, roster: PlayedRoster, district: District) -> Pupil:
    """Somebody who is signed in."""
    return await sign_in(service, settings, roster, district)


async def begin(pupil: Pupil, product_id: object, query: str = "") -> dict[str, str]:
    """Open the tool; what its login initiation is told."""
    answer = await pupil.browser.get(f"/sso/open/{product_id}{query}")
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"].startswith(f"{SITE}/lti/login?from=school&iss=")
    return read_query(answer.headers["location"])


def ask(told: dict[str, str], **changes: str | None) -> dict[str, str]:
    """What a tool asks for then; None leaves a parameter out."""
    asked: dict[str, str | None] = {
        "scope": "openid",
        "response_type": "id_token",
        "response_mode": "form_post",
        "prompt": "none",
        "client_id": told["client_id"],
        "redirect_uri": f"{SITE}/lti/launch",
        "login_hint": told["login_hint"],
        "lti_message_hint": told["lti_message_hint"],
        "nonce": uuid4().hex,
        "state": "tool's own & <secret>",
        **changes,
    }
    return {name: value for name, value in asked.items() if value is not None}


async def authorize(browser: httpx2.AsyncClient, asked: dict[str, str]) -> httpx2.Response:
    """The browser comes with it."""
    return await browser.get("/sso/lti/authorize", params=asked)


def read_form(page: str) -> tuple[str, dict[str, str]]:
    """Where a page's form goes, and its fields."""
    action = re.search(r'<form[^>]* action="([^"]*)"', page)
    assert action is not None, page
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', page)
    return unescape(action[1]), {name: unescape(value) for name, value in fields}


async def read_message(service: Any, message: str) -> dict[str, Any]:
    """A message, checked with the keys everybody can have."""
    keys = KeySet.import_key_set((await service.client.get("/oauth2/jwks")).json())
    token = jwt.decode(message, keys, algorithms=["RS256"])
    assert token.header["kid"]
    return dict(token.claims)


@pytest.mark.usefixtures("party")
async def test_a_tool_is_launched(service: Any, district: District, pupil: Pupil, clock: MovingClock) -> None:
    """A click ends in a page that posts the tool a signed message about who comes, and nothing more is asked (E2)."""
    told = await begin(pupil, district.product_id, "?destination=library")
    assert (told["iss"], told["client_id"]) == ("http://homeroom.test", "tool-1")
    assert (told["lti_deployment_id"], told["target_link_uri"]) == (str(district.organization_id), f"{SITE}/library")
    asked = ask(told)
    page = await authorize(pupil.browser, asked)
    action, fields = read_form(page.text)
    said = await read_message(service, fields["id_token"])

    assert page.status_code == 200
    assert (action, fields["state"]) == (f"{SITE}/lti/launch", asked["state"])
    policy, nonce = page.headers["content-security-policy"], re.search(r'<script nonce="([^"]+)"', page.text)
    assert nonce is not None
    assert f"script-src 'nonce-{nonce[1]}'" in policy
    assert f"form-action 'self' {SITE};" in policy
    now = int(clock.now().timestamp())
    assert (said["iss"], said["aud"], said["nonce"]) == ("http://homeroom.test", "tool-1", asked["nonce"])
    assert (said["iat"], said["exp"]) == (now, now + 300)
    assert (said["given_name"], said["name"]) == ("Ada", "Ada Berg")
    assert "email" not in said
    assert said[f"{CLAIM}message_type"] == "LtiResourceLinkRequest"
    assert said[f"{CLAIM}version"] == "1.3.0"
    assert said[f"{CLAIM}deployment_id"] == str(district.organization_id)
    assert said[f"{CLAIM}target_link_uri"] == f"{SITE}/library"
    assert said[f"{CLAIM}roles"] == list(ROLES["student"])
    assert said[f"{CLAIM}lis"] == {"person_sourcedid": "user-1"}
    assert said[f"{CLAIM}custom"]["destination"] == "library"
    assert all(isinstance(value, str) for value in said[f"{CLAIM}custom"].values())
    assert 0 < len(said[f"{CLAIM}resource_link"]["id"]) <= 255
    assert await service.database.fetchval("SELECT state FROM launch") == "completed"
    assert await service.database.fetchval("SELECT subject FROM participation") == said["sub"]
    assert await service.database.fetchval("SELECT count(*) FROM sign_in") == 1


@pytest.mark.usefixtures("party")
async def test_a_tool_may_post(service: Any, district: District, pupil: Pupil) -> None:
    """A tool that posts its request is answered as well, though a posted form brings no session's cookie along."""
    asked = ask(await begin(pupil, district.product_id))
    async with open_browser(service) as without_cookie:
        answer = await without_cookie.post("/sso/lti/authorize", data={**asked, "extra": "x"})
    location = urlsplit(answer.headers["location"])

    assert (answer.status_code, location.path, location.netloc) == (303, "/sso/lti/authorize", "")
    assert dict(parse_qsl(location.query)) == asked
    assert (await pupil.browser.get(answer.headers["location"])).status_code == 200


async def refuse(service: Any, browser: httpx2.AsyncClient, asked: dict[str, str], code: str) -> None:
    """Nobody gets in; the page shows a code, a support id and nothing of the request."""
    page = await authorize(browser, asked)
    assert 400 <= page.status_code < 500, page.text
    assert code in page.text
    assert "HR-" in page.text
    assert "id_token" not in page.text
    assert await service.database.fetchval("SELECT count(*) FROM sign_in") == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"scope": "openid email"},
        {"response_type": "code"},
        {"response_mode": "query"},
        {"prompt": None},
        {"nonce": None},
        {"client_id": "tool-2"},
        {"redirect_uri": f"{SITE}/lti/launch/"},
        {"redirect_uri": "https://evil.example/lti/launch"},
        {"lti_deployment_id": "4b99cee5-f788-4c9b-a2e0-2d312aab4596"},
        {"target_link_uri": "https://evil.example/"},
        {"state": "x" * 5_000},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_attack_69_requests_that_do_not_fit(changes: dict[str, str | None]) -> None:
    """Another tool, deployment or address, or a request of another kind, is refused before anything is signed."""
    told = {"client_id": "tool-1", "login_hint": "one", "lti_message_hint": "two"}
    tool, begun = (
        read_lti(LTI),
        Pass("reader", UUID(int=1), UUID(int=2), UUID(int=3), "HR-1", "oidc", None, None, "d-1"),
    )
    with pytest.raises(Refused) as caught:
        check_request(
            read_request([*ask(told, **changes).items()]), begun, tool, deployment_id="d-1", target=f"{SITE}/home"
        )

    assert caught.value.code is Code.SIGNIN_REQUEST_INVALID
    check_request(read_request([*ask(told).items()]), begun, tool, deployment_id="d-1", target=f"{SITE}/home")


@pytest.mark.usefixtures("party")
async def test_attack_69_only_the_browser_of_the_launch(
    service: Any, settings: Settings, roster: PlayedRoster, district: District, pupil: Pupil
) -> None:
    """Without the session's cookie, with another pupil's, or with hints of two launches nobody gets in."""
    first, second = await begin(pupil, district.product_id), await begin(pupil, district.product_id)
    other = await sign_in(service, settings, roster, district, "user-2", given="Ben")
    async with open_browser(service) as nobody:
        await refuse(service, nobody, ask(first), "SIGNIN_SESSION_OVER")
    await refuse(service, other.browser, ask(first), "SIGNIN_SESSION_OVER")
    await refuse(service, pupil.browser, ask(first, login_hint=second["login_hint"]), "SIGNIN_FLOW_LOST")
    await refuse(service, pupil.browser, ask(first, lti_message_hint="made-up"), "SIGNIN_FLOW_LOST")

    assert (await authorize(pupil.browser, ask(first))).status_code == 200  # which all of them left as it was


@pytest.mark.usefixtures("party")
async def test_attack_69_a_nonce_and_a_launch_count_once(service: Any, district: District, pupil: Pupil) -> None:
    """A nonce of an earlier message, and a launch that was answered, are refused."""
    first, second = await begin(pupil, district.product_id), await begin(pupil, district.product_id)
    asked = ask(first)
    assert (await authorize(pupil.browser, asked)).status_code == 200
    await service.database.fetch("DELETE FROM sign_in")

    await refuse(service, pupil.browser, asked, "SIGNIN_FLOW_LOST")
    await refuse(service, pupil.browser, ask(second, nonce=asked["nonce"]), "SIGNIN_REPLAYED")


@pytest.mark.usefixtures("party")
async def test_attack_69_what_is_not_registered_is_refused(service: Any, district: District, pupil: Pupil) -> None:
    """A redirect_uri that is not the tool's, and a foreign deployment, end in our page and lead nowhere."""
    told = await begin(pupil, district.product_id)
    await refuse(service, pupil.browser, ask(told, redirect_uri="https://evil.example/x"), "SIGNIN_REQUEST_INVALID")
    told = await begin(pupil, district.product_id)
    await refuse(service, pupil.browser, ask(told, lti_deployment_id=str(uuid4())), "SIGNIN_REQUEST_INVALID")
    twice = await pupil.browser.get("/sso/lti/authorize?nonce=a&nonce=b")
    assert (twice.status_code, "SIGNIN_REQUEST_INVALID" in twice.text) == (400, True)


async def test_each_district_is_a_deployment(
    service: Any, settings: Settings, roster: PlayedRoster, district: District
) -> None:
    """Districts have their own deployment ids, which a tool may have named itself; roles come from the roster."""
    south = await make_district(service.database, "South", product_id=district.product_id, licensed=False)
    await add_license(service.database, south.organization_id, district.product_id)
    deployments = {str(south.organization_id): "dep-south"}
    await make_party(service, district.product_id, "lti", lti={**LTI, "deployments": deployments})
    found = {}
    for place, role in ((district, "teacher"), (south, "aide")):
        somebody = await sign_in(service, settings, roster, place, f"user-{role}", role=role)
        page = await authorize(somebody.browser, ask(await begin(somebody, district.product_id)))
        said = await read_message(service, read_form(page.text)[1]["id_token"])
        found[role] = (said[f"{CLAIM}deployment_id"], said[f"{CLAIM}roles"])

    assert found["teacher"][0] == str(district.organization_id)
    assert f"{MEMBER}#Instructor" in found["teacher"][1]
    assert found["aide"][0] == "dep-south"
    assert f"{MEMBER}#Instructor" not in found["aide"][1]


async def test_a_tool_can_not_be_another_client(service: Any, district: District, pupil: Pupil) -> None:
    """A tool that calls itself like another product's client gets no message: it would be an ID token there."""
    other = await make_party(service, await add_product(service), "oidc")
    await make_party(service, district.product_id, "lti", lti={**LTI, "client_id": other.id})
    await refuse(service, pupil.browser, ask(await begin(pupil, district.product_id)), "SIGNIN_PRODUCT_OFF")


@pytest.mark.parametrize(
    "address",
    [
        "http://reader.example/x",
        "javascript:alert(1)",
        "https://",
        "//reader.example/x",
        "https://ok.example@evil.example/",
        "https://reader.example/#part",
        "https://reader.example/a b",
        "https://reader.example\\evil.example/",
        "https://reader.exämple/",
        "https://reader.example:99999/",
        "https:reader.example",
    ],
)
def test_attack_70_addresses_that_can_not_be_registered(address: str) -> None:
    """What browsers may read in two ways, or what is not https, is not registered as an address of a tool."""
    for name, value in (("target_link_uri", address), ("login_uri", address), ("redirect_uris", [address])):
        with pytest.raises(ValueError, match=name):
            read_lti({**LTI, name: value})

    assert read_lti({**LTI, "login_uri": "http://127.0.0.1:8123/login"}).login_uri
