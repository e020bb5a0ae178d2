"""Keycloak as a school's identity provider, by both protocols: software nobody here wrote (`make test-all`)."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from html import unescape
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx2
import pytest
from connecting import make_connection
from counterparts.keycloak import (
    PASSWORD,
    Keycloak,
    describe_openid_client,
    describe_person,
    describe_saml_client,
    running_keycloak,
)
from roster_stand_in import District, PlayedRoster

from homeroom.clock import SystemClock
from sso.saml.metadata import read_metadata
from sso.settings import Settings

pytestmark = [
    pytest.mark.skipif(os.environ.get("HOMEROOM_TEST_KEYCLOAK") != "1", reason="Keycloak: `make test-all`"),
    pytest.mark.timeout(600),
]
SIGN_OUT = "/realms/school/nobody"
"""An address that makes the browser forget its cookies."""
SECRET = "keycloak-client-secret-0123456789"


@pytest.fixture
def clock() -> SystemClock:
    """Keycloak's answers are of today."""
    return SystemClock()


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    """Of an installation that may speak with this machine."""
    settings.allow_private_endpoints = True
    return settings


@pytest.fixture
async def school() -> AsyncIterator[httpx2.AsyncClient]:
    """A browser at the school's provider; as browsers do, it sends Secure cookies to its own machine."""
    kept: dict[str, str] = {}

    async def send(request: httpx2.Request) -> None:
        if kept:
            request.headers["cookie"] = "; ".join(f"{name}={value}" for name, value in kept.items())

    async def keep(response: httpx2.Response) -> None:
        for header in response.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(header).items():
                kept[name] = morsel.coded_value
        if response.request.url.path == SIGN_OUT:
            kept.clear()

    hooks: dict[str, Any] = {"request": [send], "response": [keep]}
    async with httpx2.AsyncClient(timeout=30, trust_env=False, follow_redirects=False, event_hooks=hooks) as client:
        yield client


async def test_keycloak(
    service: Any, settings: Settings, district: District, roster: PlayedRoster, school: httpx2.AsyncClient
) -> None:
    """Somebody signs in at a real Keycloak by OpenID Connect and by SAML, and is the same person of the roster."""
    roster.add(district.integration_id, "stu-1", "Ada", "Example")
    where = {"organization_id": district.organization_id, "integration_id": district.integration_id}
    openid, _ = await make_connection(
        service.database, settings, kind="oidc", secret=SECRET, person_claim="sourcedId", **where
    )
    saml, _ = await make_connection(service.database, settings, kind="saml", person_attribute="sourcedId", **where)
    base = f"{settings.issuer}/sso/saml/{saml}"
    clients = [
        describe_openid_client("homeroom", SECRET, f"{settings.issuer}/sso/callback/{openid}"),
        describe_saml_client(f"{base}/metadata", f"{base}/acs"),
    ]
    people = [
        describe_person("ada", "stu-1", "Ada", "Example"),
        describe_person("eve", "stu-404", "Eve", "Unrostered"),
    ]
    with running_keycloak(clients, people) as keycloak:
        await _change(service, openid, {"issuer": keycloak.issuer})
        await _change(service, saml, await _read_saml(school, keycloak))

        shown = await _sign_in_by_openid(service, school, openid, "ada")
        assert shown.status_code == 200, await service.database.fetch("SELECT code, steps FROM launch")
        assert "Ada Example" in shown.text
        by_openid = await service.database.fetchval("SELECT person_id FROM session")

        await school.get(keycloak.origin + SIGN_OUT)
        shown = await _sign_in_by_saml(service, school, saml, "ada")
        assert shown.status_code == 200, await service.database.fetch("SELECT code, steps FROM launch")
        assert "Ada Example" in shown.text
        sessions = await service.database.fetch("SELECT person_id FROM session")
        assert [row["person_id"] for row in sessions] == [by_openid], "one session, of the same person"

        await school.get(keycloak.origin + SIGN_OUT)
        refused = await _sign_in_by_openid(service, school, openid, "eve")
        assert refused.status_code == 403
        assert "SIGNIN_NOT_ROSTERED" in refused.text
        assert "Eve" not in refused.text


async def _change(service: Any, upstream: UUID, config: dict[str, Any]) -> None:
    await service.database.fetch("UPDATE upstream SET config = config || $2 WHERE id = $1", upstream, config)
    await service.launching.upstreams.find(upstream, fresh=True)


async def _read_saml(school: httpx2.AsyncClient, keycloak: Keycloak) -> dict[str, Any]:
    """What Keycloak's own metadata says, read as ours reads it."""
    metadata = read_metadata((await school.get(keycloak.saml_metadata)).content)
    return {
        "entity_id": metadata.entity_id,
        "sso_url": metadata.sso_url,
        "certificates": list(metadata.certificates),
    }


async def _sign_in_by_openid(
    service: Any, school: httpx2.AsyncClient, upstream: UUID, username: str
) -> httpx2.Response:
    sent = await service.client.get(f"/sso/launch/{upstream}")
    assert sent.status_code == 303, sent.text
    back = await _enter(school, sent.headers["location"], username)
    return await _follow(service, back.headers["location"])


async def _sign_in_by_saml(service: Any, school: httpx2.AsyncClient, upstream: UUID, username: str) -> httpx2.Response:
    sent = await service.client.get(f"/sso/launch/{upstream}")
    assert sent.status_code == 303, sent.text
    page = await _enter(school, sent.headers["location"], username)
    fields = dict(re.findall(r'name="(SAMLResponse|RelayState)" value="([^"]*)"', page.text, re.IGNORECASE))
    action = re.search(r'action="([^"]+)"', page.text)
    assert action, page.text
    answer: httpx2.Response = await service.client.post(
        urlsplit(unescape(action[1])).path, data={name: unescape(value) for name, value in fields.items()}
    )
    return answer if not answer.is_redirect else await _follow(service, answer.headers["location"])


async def _enter(school: httpx2.AsyncClient, url: str, username: str) -> httpx2.Response:
    """Fill in Keycloak's form; what it answers with."""
    form = await school.get(url)
    while form.is_redirect:
        form = await school.get(str(httpx2.URL(url).join(form.headers["location"])))
    action = re.search(r'<form[^>]*action="([^"]+)"', form.text)
    assert action, form.text[:2000]
    return await school.post(unescape(action[1]), data={"username": username, "password": PASSWORD})


async def _follow(service: Any, url: str) -> httpx2.Response:
    """Go where our pages lead, as long as they are ours."""
    answer: httpx2.Response = await service.client.get(url)
    while answer.is_redirect:
        answer = await service.client.get(answer.headers["location"])
    return answer
