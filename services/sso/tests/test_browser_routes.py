"""Whatever goes wrong where browsers come in ends in a page for people, and what they send is never our own fault."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import uuid4

import pytest
from connecting import make_connection
from roster_stand_in import District
from signing_in import Browser, make_product

from sso.settings import Settings

HOSTILE = ("a%00b", "%ED%A0%80", "9" * 400, "%E2%80%AE%EF%BF%BF")
"""As they stand in an address: NUL, half a character, many digits, and what turns a text around."""


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("of Okonjuvala"), 500), (ConnectionRefusedError("of Okonjuvala"), 503)]
)
async def test_the_unforeseen_ends_in_a_page(
    service: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    """An error that nobody thought of is told with a support id and nothing else, and the launch's trace says so."""

    async def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(service.launching.upstreams, "find", fail)
    page = await service.client.get(f"/sso/launch/{uuid4()}")
    assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert "SIGNIN_FAILED" in page.text
    assert "Okonjuvala" not in page.text
    support_id = re.search(r"HR-[0-9A-Z]{4}-[0-9A-Z]{4}", page.text)
    assert support_id is not None
    row = await service.database.fetchrow("SELECT * FROM launch WHERE support_id = $1", support_id[0])
    assert (row["state"], row["code"]) == ("refused", "SIGNIN_FAILED")
    assert row["steps"][-1]["why"] == type(error).__name__


def vary(path: str, parameters: dict[str, str]) -> Iterator[str]:
    """Addresses with one hostile value each."""
    for name in parameters:
        for value in HOSTILE:
            others = urlencode({other: sent for other, sent in parameters.items() if other != name})
            yield f"{path}?{others}&{name}={value}"


async def test_what_browsers_send_is_never_our_fault(service: Any, settings: Settings, district: District) -> None:
    """No value that hurts, in any parameter of an address browsers come to, ends in an error of the server."""
    upstream_id, _ = await make_connection(service.database, settings, organization_id=district.organization_id)
    saml_id, _ = await make_connection(
        service.database, settings, kind="saml", organization_id=district.organization_id
    )
    product = await make_product(service, district.product_id)
    browser = Browser(service)
    waiting = parse_qs(urlsplit((await product.ask(browser)).headers["location"]).query)["request"][0]
    request = {"client_id": product.client_id, "redirect_uri": "https://reader.example/signed-in"}
    lti = {"response_type": "id_token", "response_mode": "form_post", "prompt": "none", "scope": "openid"}
    said = dict.fromkeys(("state", "nonce", "scope", "prompt", "max_age", "login_hint", "id_token_hint"), "openid")
    problems = []
    for path, parameters in (
        (f"/sso/launch/{upstream_id}", {"product": str(district.product_id), "destination": "library"}),
        (f"/sso/open/{district.product_id}", {"destination": "library"}),
        (f"/sso/callback/{upstream_id}", {"state": "a", "code": "b", "iss": "c"}),
        (f"/sso/callback/{upstream_id}", {"state": "a", "error": "b", "error_description": "c"}),
        (f"/sso/saml/{saml_id}/landed", {"token": "a" * 40}),
        (f"/sso/saml/{saml_id}/slo", {"SAMLRequest": "a", "RelayState": "b", "SigAlg": "c", "Signature": "d"}),
        ("/oauth2/sign-in", {"request": waiting, "search": "north"}),
        ("/oauth2/authorize", request | said | {"response_type": "code", "connection": "a"}),
        (
            "/oauth2/logout",
            {"client_id": "reader", "id_token_hint": "a", "post_logout_redirect_uri": "b", "state": "c"},
        ),
        ("/sso/staff", {"search": "north", "next": "/console", "request": "a" * 40, "connection": str(uuid4())}),
        ("/sso/link/made-up", {"search": "north", "connection": str(uuid4())}),
        (
            "/sso/lti/authorize",
            lti | request | {"login_hint": "a", "lti_message_hint": "b", "nonce": "c", "state": "d"},
        ),
    ):
        for address in vary(path, parameters):
            answer = await browser.get(address)
            if answer.status_code == 500 or "SIGNIN_FAILED" in answer.text:  # the provider may well be away
                problems.append(f"{address[:200]}: {answer.status_code}")
    assert problems == []


async def test_what_servers_send_is_never_our_fault(service: Any, district: District) -> None:
    """No value that hurts, in any field of a form products' servers post, ends in an error of the server."""
    product = await make_product(service, district.product_id)
    client = {"client_id": product.client_id, "client_secret": product.secret}
    code = {"code": "a", "redirect_uri": "b", "code_verifier": "c"}
    problems = []
    for path, fields in (
        ("/oauth2/token", client | code | {"grant_type": "authorization_code"}),
        ("/oauth2/token", client | {"grant_type": "refresh_token", "refresh_token": "a"}),
        ("/oauth2/revoke", client | {"token": "a", "token_type_hint": "b"}),
        ("/oauth2/introspect", client | {"token": "a"}),
        ("/sso/tickets/redeem", client | {"ticket": "a"}),
    ):
        for form in (address.partition("?")[2] for address in vary(path, fields)):
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = await service.client.post(path, content=form, headers=headers)
            if answer.status_code >= 500:
                problems.append(f"{path} {form[:200]}: {answer.status_code}")
    assert problems == []
