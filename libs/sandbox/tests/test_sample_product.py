"""The sample product signs people in with a certified library, at the district's own provider; and SAML beside it."""

from __future__ import annotations

import re
import time
import zlib
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from lxml import etree
from signxml.verifier import XMLVerifier

from sandbox_district import District, Sandbox, running_sandbox
from sandbox_district.portals.signing import load_signing

SECRET = "not a secret of anybody"
ACS = "https://sso.example/acs"
PLACES = {
    "saml": "urn:oasis:names:tc:SAML:2.0:assertion",
    "samlp": "urn:oasis:names:tc:SAML:2.0:protocol",
    "md": "urn:oasis:names:tc:SAML:2.0:metadata",
    "ds": "http://www.w3.org/2000/09/xmldsig#",
}


@pytest.fixture(name="sandbox")
async def run_sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox(District(students=40)) as sandbox:
        yield sandbox


@pytest.fixture(name="http")
async def open_browser(sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=sandbox.url, timeout=10, trust_env=False, follow_redirects=True) as http:
        yield http


async def introduce(http: httpx2.AsyncClient) -> dict[str, Any]:
    """Make the district's provider and the product known to each other; the product's addresses."""
    described: dict[str, Any] = (await http.get("/sandbox")).json()["portals"]
    product: dict[str, Any] = described["product"]
    issuer = described["idp"]["issuer"]
    known = {"client_id": "sample", "client_secret": SECRET}
    client = {"kind": "openid", "portal": "idp", **known, "redirect_uris": [product["redirect_uri"]]}
    client |= {"post_logout_redirect_uris": product["post_logout_redirect_uris"]}
    assert (await http.post("/sandbox/portal-clients", json=client)).status_code == 204
    assert (await http.post("/sandbox/product", json={"issuer": issuer, **known})).status_code == 204
    return product


async def sign_in(http: httpx2.AsyncClient, portal: str, search: str) -> dict[str, Any]:
    """Sign in at a portal as the first person who is found; who that is."""
    person: dict[str, Any] = (await http.get("/sandbox/people", params={"search": search})).json()[0]
    await http.post(f"/{portal}/sign-in", data={"person": person["key"]})
    return person


async def test_a_tile_opens_the_product(http: httpx2.AsyncClient) -> None:
    """Third-party-initiated login ends at the wanted page of the product, which shows who came in."""
    product = await introduce(http)
    person = await sign_in(http, "idp", "student")
    asked = {"iss": str(http.base_url.join("/idp")), "target_link_uri": product["destinations"]["reading"]}
    page = await http.get(product["initiate_login_uri"], params=asked)
    assert str(page.url) == product["destinations"]["reading"]
    assert f"Welcome, {person['given']}" in page.text
    told = (await http.get(product["claims_url"])).json()
    assert (told["claims"]["sub"], told["claims"]["sourcedId"]) == (person["subject"], person["sourced_id"])


async def test_only_its_provider_may_begin_and_only_here(sandbox: Sandbox, http: httpx2.AsyncClient) -> None:
    """A stranger's start is refused, a page elsewhere is not gone to, and another browser's answer signs nobody in."""
    product = await introduce(http)
    await sign_in(http, "idp", "student")
    assert (await http.get(product["initiate_login_uri"], params={"iss": "https://evil.example"})).status_code == 400
    asked = {"iss": str(http.base_url.join("/idp")), "target_link_uri": "https://evil.example/"}
    assert str((await http.get(product["initiate_login_uri"], params=asked)).url) == product["url"]
    begun = await http.get("/product/sign-in", follow_redirects=False)
    back = await http.get(begun.headers["location"], follow_redirects=False)
    async with httpx2.AsyncClient(base_url=sandbox.url, timeout=10, trust_env=False) as other:
        assert (await other.get(back.headers["location"])).status_code == 400
        assert (await other.get(product["claims_url"])).status_code == 401


async def test_signing_out_ends_both_sessions(http: httpx2.AsyncClient) -> None:
    """The product's button also ends the provider's session, and comes back to say so."""
    product = await introduce(http)
    await sign_in(http, "idp", "teacher")
    assert "Welcome" in (await http.get("/product/sign-in")).text
    assert "You are signed out." in (await http.post("/product/sign-out")).text
    assert (await http.get(product["claims_url"])).status_code == 401
    assert (await http.get("/idp")).url.path == "/idp/sign-in"


async def test_a_logout_token_signs_out(sandbox: Sandbox, http: httpx2.AsyncClient) -> None:
    """A genuine logout token ends the session of whom it names; one with a nonce, or changed, does not."""
    product = await introduce(http)
    person = await sign_in(http, "idp", "student")
    await http.get("/product/sign-in")
    events: dict[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}
    token = {"iss": f"{sandbox.url}/idp", "aud": "sample", "iat": int(time.time()), "jti": "1", "events": events}
    token |= {"sub": person["subject"]}
    genuine = load_signing(None).sign_token(token)
    changed = genuine[:-8] + "AAAAAAAA"
    for text, status in ((load_signing(None).sign_token(token | {"nonce": "n"}), 400), (changed, 400), (genuine, 200)):
        assert (await http.get(product["claims_url"])).status_code == 200
        answer = await http.post(product["backchannel_logout_uri"], data={"logout_token": text})
        assert answer.status_code == status
    assert (await http.get(product["claims_url"])).status_code == 401


async def test_connecting_an_account_needs_one(http: httpx2.AsyncClient) -> None:
    """Only who is signed in with an account of the product can connect it, and is told if that did not begin."""
    await introduce(http)
    assert "Connect account" not in (await http.post("/product/account/connect")).text
    assert "Connect account" in (await http.post("/product/account", data={"account": "ada"})).text
    assert "Connecting did not begin" in (await http.post("/product/account/connect")).text


# ── SAML ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_form(page: str) -> dict[str, str]:
    """The fields of a page that posts itself."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))


async def check_answer(http: httpx2.AsyncClient, page: str) -> Any:
    """The assertion of an answer that is posted, once its signature is right by the published certificate."""
    assert f'action="{ACS}"' in page
    metadata = etree.fromstring((await http.get("/saml-idp/metadata")).content)
    [certificate] = metadata.xpath("//ds:X509Certificate/text()", namespaces=PLACES)
    response = etree.fromstring(b64decode(read_form(page)["SAMLResponse"]))
    assert response.get("Destination") == ACS
    [assertion] = response.findall("saml:Assertion", PLACES)
    verified: Any = XMLVerifier().verify(etree.tostring(assertion), x509_cert=certificate)
    return response, verified.signed_xml


async def test_saml_answers_what_is_asked(http: httpx2.AsyncClient) -> None:
    """An AuthnRequest of a registered service is answered with a signed assertion for it; any other is not."""
    service = {
        "kind": "saml",
        "entity_id": "https://sso.example/sp",
        "acs_url": ACS,
        "slo_url": "https://sso.example/slo",
    }
    assert (await http.post("/sandbox/portal-clients", json=service)).status_code == 204
    person = await sign_in(http, "launchpad", "student")
    page = await http.get("/saml-idp/sso", params={"SAMLRequest": pack("AuthnRequest"), "RelayState": "r"})
    assert read_form(page.text)["RelayState"] == "r"
    response, assertion = await check_answer(http, page.text)
    assert response.get("InResponseTo") == "_1"
    told = {
        found.get("Name"): found.findtext("saml:AttributeValue", None, PLACES)
        for found in assertion.iterfind(".//saml:Attribute", PLACES)
    }
    assert (told["OR:userSourcedId"], told["Tenant ID"]) == (person["sourced_id"], "4711")
    assert assertion.findtext(".//saml:Audience", None, PLACES) == "https://sso.example/sp"
    for request in (pack("AuthnRequest", acs="https://evil.example/"), pack("AuthnRequest", issuer="other"), "%%%"):
        assert (await http.get("/saml-idp/sso", params={"SAMLRequest": request})).status_code == 400


async def test_saml_begins_by_itself_and_ends(http: httpx2.AsyncClient) -> None:
    """The portal can begin without a request; a LogoutRequest ends its session and is answered, signed."""
    service = {"kind": "saml", "entity_id": "sp", "acs_url": ACS, "slo_url": "https://sso.example/slo"}
    await http.post("/sandbox/portal-clients", json=service)
    await sign_in(http, "launchpad", "student")
    response, _ = await check_answer(http, (await http.get("/saml-idp/start", params={"sp": "sp"})).text)
    assert "InResponseTo" not in response.attrib
    logout = pack("LogoutRequest", issuer="sp")
    sent = await http.get("/saml-idp/slo", params={"SAMLRequest": logout, "RelayState": "r"}, follow_redirects=False)
    answer = parse_qs(urlsplit(sent.headers["location"]).query)
    assert answer.keys() == {"SAMLResponse", "RelayState", "SigAlg", "Signature"}
    assert (await http.get("/launchpad")).url.path == "/launchpad/sign-in"


def pack(kind: str, issuer: str = "https://sso.example/sp", acs: str = ACS) -> str:
    """A request as the redirect binding carries it."""
    place = f' AssertionConsumerServiceURL="{acs}"' if kind == "AuthnRequest" else ""
    text = (
        f'<samlp:{kind} xmlns:samlp="{PLACES["samlp"]}" xmlns:saml="{PLACES["saml"]}" ID="_1" Version="2.0" '
        f'IssueInstant="2026-09-01T06:00:00Z"{place}><saml:Issuer>{issuer}</saml:Issuer></samlp:{kind}>'
    )
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b64encode(packer.compress(text.encode()) + packer.flush()).decode()
