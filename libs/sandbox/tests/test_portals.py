"""Portals and identity providers: what a browser, and an application behind it, see of them."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx2
import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from sandbox_district import District, Sandbox, running_sandbox
from sandbox_district.portals.openid import hash_half

SECRET = "not a secret of anybody"
BACK = "https://product.example/callback"
VERIFIER = "a-verifier-of-sufficient-length-0123456789-abcdef"


@pytest.fixture(name="sandbox")
async def run_sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox(District(students=60)) as sandbox:
        yield sandbox


@pytest.fixture(name="http")
async def open_browser(sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=sandbox.url, timeout=10, trust_env=False) as http:
        yield http


async def register(http: httpx2.AsyncClient, portal: str, **more: Any) -> str:
    """Register an application of this portal; its id."""
    client_id = f"app-{portal}{len(more)}"
    told = {"kind": "openid", "portal": portal, "client_id": client_id, "client_secret": SECRET}
    answer = await http.post("/sandbox/portal-clients", json=told | {"redirect_uris": [BACK]} | more)
    assert answer.status_code == 204, answer.text
    return client_id


async def sign_in(http: httpx2.AsyncClient, portal: str, search: str = "student") -> dict[str, Any]:
    """Sign in at a portal as the first person who is found; who that is."""
    person: dict[str, Any] = (await http.get("/sandbox/people", params={"search": search})).json()[0]
    answer = await http.post(f"/{portal}/sign-in", data={"person": person["key"]})
    assert answer.status_code == 303
    return person


async def fetch_code(http: httpx2.AsyncClient, path: str, client_id: str, **more: str) -> dict[str, str]:
    """What comes back from an authorization endpoint to the application's address."""
    asked = {"response_type": "code", "client_id": client_id, "redirect_uri": BACK, "state": "s", **more}
    answer = await http.get(path, params=asked)
    assert answer.status_code == 303, answer.text
    place = urlsplit(answer.headers["location"])
    assert place._replace(query="").geturl() == BACK
    return dict(parse_qsl(place.query))


async def read_token(http: httpx2.AsyncClient, text: str, jwks_path: str, client_id: str) -> dict[str, Any]:
    """An ID token's claims, once its signature and audience are right."""
    keys = KeySet.import_key_set((await http.get(jwks_path)).json())
    claims: dict[str, Any] = jwt.decode(text, keys, algorithms=["RS256"]).claims
    assert claims["aud"] == client_id
    return claims


async def test_launchpad_says_who_somebody_is(sandbox: Sandbox, http: httpx2.AsyncClient) -> None:
    """The LaunchPad-like provider's ID token and info have ClassLink's claims; its codes are good once."""
    client_id = await register(http, "launchpad")
    asked = await http.get("/launchpad/oauth2/v2/auth", params={"client_id": client_id, "redirect_uri": BACK,
                                                                "response_type": "code"})  # fmt: skip
    assert asked.headers["location"].startswith("/launchpad/sign-in?next=%2Flaunchpad%2Foauth2")
    person = await sign_in(http, "launchpad")
    metadata = (await http.get("/launchpad/.well-known/openid-configuration")).json()
    code = await fetch_code(
        http, urlsplit(metadata["authorization_endpoint"]).path, client_id, nonce="n", scope="openid"
    )
    form = {"client_id": client_id, "client_secret": SECRET, "code": code["code"]}
    told = (await http.post(metadata["token_endpoint"], data=form)).json()
    claims = await read_token(http, told["id_token"], metadata["jwks_uri"], client_id)
    assert (claims["iss"], claims["sub"], claims["nonce"]) == (metadata["issuer"], str(person["user_id"]), "n")
    assert (claims["classLink_sourcedId"], claims["classLink_tenant_id"]) == (person["sourced_id"], 4711)
    assert claims["at_hash"] == hash_half(told["access_token"])
    bearer = {"Authorization": f"Bearer {told['access_token']}"}
    info = (await http.get("/launchpad/v2/my/info", headers=bearer)).json()
    assert (info["UserId"], info["TenantId"], info["SourcedId"]) == (person["user_id"], 4711, person["sourced_id"])
    assert (await http.post(metadata["token_endpoint"], data=form)).json()["error"] == "invalid_grant"
    assert person["sourced_id"] in sandbox.district.active("users")


async def test_clever_without_openid(sandbox: Sandbox, http: httpx2.AsyncClient) -> None:
    """Where OpenID is off there is no ID token; `me` and the user have Clever's own ids, as its rosters do."""
    client_id = await register(http, "clever-portal", openid=False)
    person = await sign_in(http, "clever-portal")
    code = (await fetch_code(http, "/clever-portal/oauth/authorize", client_id))["code"]
    body = {"code": code, "grant_type": "authorization_code", "redirect_uri": BACK}
    told = (await http.post("/clever-portal/oauth/tokens", json=body, auth=(client_id, SECRET))).json()
    assert told.keys() == {"access_token", "token_type", "expires_in"}
    bearer = {"Authorization": f"Bearer {told['access_token']}"}
    me = (await http.get("/clever-portal/v3.0/me", headers=bearer)).json()
    assert (me["type"], me["data"]["id"]) == ("user", person["clever_id"])
    assert me["data"]["district"] == sandbox.clever_district_id
    rostered = await http.get(
        f"{sandbox.clever_url}/users/{person['clever_id']}", headers={"Authorization": f"Bearer {sandbox.clever_token}"}
    )
    user = (await http.get(f"/clever-portal/v3.0/users/{person['clever_id']}", headers=bearer)).json()
    assert user["data"]["name"]["first"] == rostered.json()["data"]["name"]["first"] == person["given"]


async def test_clever_with_openid(http: httpx2.AsyncClient) -> None:
    """Where OpenID is on, the ID token's sub is Clever's id, and an e-mail address is never called verified."""
    client_id = await register(http, "clever-portal")
    person = await sign_in(http, "clever-portal", "teacher")
    code = (await fetch_code(http, "/clever-portal/oauth/authorize", client_id))["code"]
    told = (await http.post("/clever-portal/oauth/tokens", json={"code": code}, auth=(client_id, SECRET))).json()
    claims = await read_token(http, told["id_token"], "/clever-portal/oauth/certs", client_id)
    assert (claims["sub"], claims["user_type"], claims["email_verified"]) == (person["clever_id"], "teacher", False)


async def test_tiles_start_as_they_are_told(http: httpx2.AsyncClient) -> None:
    """A tile opens its URL, or sends a code that nobody asked for and no state to the first redirect URI."""
    client_id = await register(http, "clever-portal")
    for tile in (
        {"name": "By URL", "url": "https://product.example/start"},
        {"name": "By code", "starts": "code", "client_id": client_id},
    ):
        assert (await http.post("/sandbox/tiles", json={"portal": "clever-portal", **tile})).status_code == 204
    assert (await http.post("/sandbox/tiles", json={"portal": "clever-portal", "name": "No"})).status_code == 400
    person = await sign_in(http, "clever-portal")
    page = (await http.get("/clever-portal")).text
    assert "By URL" in page
    assert person["given"] in page
    assert (await http.get("/clever-portal/open/0")).headers["location"] == "https://product.example/start"
    place = urlsplit((await http.get("/clever-portal/open/1")).headers["location"])
    assert place.geturl().startswith(BACK)
    assert parse_qs(place.query).keys() == {"code", "response_type"}


async def test_people_sign_in_by_name_and_badge(http: httpx2.AsyncClient) -> None:
    """People are found by name, badges sign in at once, whoever comes next replaces them, and nobody is sent away."""
    first, second = (await http.get("/sandbox/people", params={"search": "student"})).json()[:2]
    found = (await http.get("/launchpad/sign-in", params={"search": f"{first['given']} {first['family']}"})).text
    assert f'value="{first["key"]}"' in found
    await http.post("/launchpad/sign-in", data={"person": first["key"], "next": "//evil.example"})
    assert first["given"] in (await http.get("/launchpad")).text
    assert (await http.get(f"/launchpad/badge/{second['badge']}")).headers["location"] == "/launchpad"
    page = (await http.get("/launchpad")).text
    assert second["family"] in page
    assert (await http.post("/launchpad/sign-in", data={"badge": "BADGE-0"})).status_code == 400
    sent = await http.post("/launchpad/sign-in", data={"person": first["key"], "next": "//evil.example"})
    assert sent.headers["location"] == "/launchpad"
    await http.post("/launchpad/sign-out")
    assert (await http.get("/launchpad")).headers["location"] == "/launchpad/sign-in"


async def test_the_districts_own_provider_is_strict(http: httpx2.AsyncClient) -> None:
    """It wants a code challenge and its verifier, says who answered, and heeds prompt=none."""
    client_id = await register(http, "idp")
    challenge = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
    proof = {"code_challenge": challenge, "code_challenge_method": "S256", "scope": "openid"}
    assert (await fetch_code(http, "/idp/authorize", client_id))["error"] == "invalid_request"
    assert (await fetch_code(http, "/idp/authorize", client_id, prompt="none", **proof))["error"] == "login_required"
    person = await sign_in(http, "idp")
    for verifier, expected in (("another-verifier", "invalid_grant"), (VERIFIER, None)):
        back = await fetch_code(http, "/idp/authorize", client_id, **proof)
        assert back["iss"] == str(http.base_url).rstrip("/") + "/idp"
        form = {"grant_type": "authorization_code", "code": back["code"], "redirect_uri": BACK}
        form["code_verifier"] = verifier
        told = (await http.post("/idp/token", data=form, auth=(client_id, SECRET))).json()
        assert told.get("error") == expected
    claims = await read_token(http, told["id_token"], "/idp/jwks", client_id)
    assert (claims["sub"], claims["sourcedId"]) == (person["subject"], person["sourced_id"])


async def test_addresses_are_compared_exactly(http: httpx2.AsyncClient) -> None:
    """Nobody is sent to an address that no application registered."""
    client_id = await register(http, "launchpad")
    await sign_in(http, "launchpad")
    for wanted in (BACK + "/", BACK + "?x=1", "https://evil.example/"):
        asked = {"response_type": "code", "client_id": client_id, "redirect_uri": wanted}
        assert (await http.get("/launchpad/oauth2/v2/auth", params=asked)).status_code == 400


async def test_faults_strike_the_providers(http: httpx2.AsyncClient) -> None:
    """The sandbox's faults also strike what an application asks of a provider."""
    fault = {"kind": "server_error", "path": "/launchpad/oauth2/v2/jwks"}
    assert (await http.post("/sandbox/faults", json=[fault])).status_code == 200
    assert (await http.get("/launchpad/oauth2/v2/jwks")).status_code == 500
    await http.delete("/sandbox/faults")
    assert (await http.get("/launchpad/oauth2/v2/jwks")).status_code == 200


async def test_portals_are_described(http: httpx2.AsyncClient) -> None:
    """The sandbox's description names each portal, and they are there."""
    described = (await http.get("/sandbox")).json()["portals"]
    for name in ("launchpad", "clever_portal", "idp"):
        assert (await http.get(described[name]["portal"], follow_redirects=True)).status_code == 200
    assert (await http.get(described["saml_idp"]["metadata_url"])).status_code == 200
    assert (await http.get(described["product"]["url"])).status_code == 200


async def test_pages_are_whole_by_themselves(http: httpx2.AsyncClient) -> None:
    """Pages name their language, label each field they ask for, and fetch nothing but the one style."""
    await sign_in(http, "launchpad")
    for path in ("/launchpad", "/launchpad/sign-in", "/product", "/product/account"):
        page = (await http.get(path)).text
        assert '<html lang="en">' in page
        fields = set(re.findall(r'<input id="(\w+)"', page))
        assert fields == set(re.findall(r'<label for="(\w+)"', page)), path
        assert re.findall(r'(?:src|href)="(?:https?:)?//[^"]*"', page) == []
    assert (await http.get("/portals/style.css")).status_code == 200


async def test_somebody_whom_no_roster_has(sandbox: Sandbox, http: httpx2.AsyncClient) -> None:
    """Portals know somebody who is in no roster, so that a refusal can be seen."""
    person = await sign_in(http, "launchpad", "unlisted")
    assert person["sourced_id"] is None
    assert person["key"] not in sandbox.district.active("users")


def test_everybody_has_ids_of_their_own(sandbox: Sandbox) -> None:
    """No two people share ClassLink's number, a subject or a badge, and the same district has the same ones again."""
    everybody = list(sandbox.portals.directory._read().values())
    for name in ("user_id", "subject", "badge"):
        assert len({getattr(each, name) for each in everybody}) == len(everybody)
    again = Sandbox(District(students=60), sandbox.access).portals.directory
    assert [msgspec.to_builtins(each) for each in everybody] == [
        msgspec.to_builtins(each) for each in again._read().values()
    ]
