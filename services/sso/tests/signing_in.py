"""A product as the tests play it: a relying party of sso, and somebody's browser that it sends there."""

from __future__ import annotations

import hashlib
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

import httpx2
from connecting import make_connection
from joserfc import jwt
from joserfc.jwk import KeySet
from roster_stand_in import District, PlayedRoster
from starlette.requests import Request

from homeroom.db import Database
from sso.launch.sessions import Beginning, Session

REDIRECT = "https://reader.example/signed-in"
VERIFIER = "a-verifier-of-at-least-forty-three-characters-0815"
PUPIL = "pupil-1"
ALL_SCOPES = "openid profile email roster"


def challenge_of(verifier: str) -> str:
    """PKCE's S256."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


@dataclass
class Product:
    """A relying party, and how it goes about things when all is well; keywords change what it sends."""

    service: Any
    client_id: str
    secret: str
    product_id: UUID

    async def ask(self, browser: Browser, **changes: Any) -> httpx2.Response:
        """Send a browser to the authorization endpoint; None leaves a parameter out."""
        parameters = {
            "client_id": self.client_id,
            "redirect_uri": REDIRECT,
            "response_type": "code",
            "scope": ALL_SCOPES,
            "state": "state-1",
            "nonce": "nonce-1",
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
        } | changes
        kept = {name: value for name, value in parameters.items() if value is not None}
        return await browser.get(f"/oauth2/authorize?{urlencode(kept, doseq=True)}")

    async def get_code(self, browser: Browser, **changes: Any) -> str:
        """A code that must be given."""
        answer = await self.ask(browser, **changes)
        assert answer.status_code == 303, answer.text
        return str(read_answer(answer)["code"])

    async def redeem(self, code: str, *, basic: bool = True, **changes: Any) -> httpx2.Response:
        """Redeem a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT,
            "code_verifier": VERIFIER,
        }
        return await self.post("/oauth2/token", basic=basic, **form | changes)

    async def post(self, path: str, *, basic: bool = True, **form: Any) -> httpx2.Response:
        """Call an endpoint for servers, with the client's secret."""
        auth = (self.client_id, self.secret) if basic else None
        kept = {name: value for name, value in form.items() if value is not None}
        answer: httpx2.Response = await self.service.client.post(path, data=kept, auth=auth)
        return answer

    async def sign_in(self, browser: Browser, **changes: Any) -> dict[str, Any]:
        """Tokens that must be given."""
        answer = await self.redeem(await self.get_code(browser, **changes))
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def read_userinfo(self, access_token: str) -> httpx2.Response:
        """What userinfo answers."""
        headers = {"Authorization": f"Bearer {access_token}"}
        answer: httpx2.Response = await self.service.client.get("/oauth2/userinfo", headers=headers)
        return answer

    async def read_id_token(self, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Header and claims of an ID token whose signature is right."""
        document = (await self.service.client.get("/oauth2/jwks")).json()
        found = jwt.decode(token, KeySet.import_key_set(document), algorithms=["RS256"])
        return dict(found.header), dict(found.claims)


@dataclass
class Browser:
    """Somebody's browser: cookies of its own, and it follows nothing by itself."""

    service: Any
    cookies: dict[str, str] = field(default_factory=dict)
    session: Session | None = None

    async def get(self, path: str, **more: Any) -> httpx2.Response:
        """Go somewhere."""
        return await self.request("GET", path, **more)

    async def request(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """Any request, with this browser's cookies."""
        self.service.client.cookies.clear()
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        answer: httpx2.Response = await self.service.client.request(
            method, path, headers=headers | more.pop("headers", {}), follow_redirects=False, **more
        )
        self.cookies |= {name: value.strip('"') for name, value in answer.cookies.items()}
        self.service.client.cookies.clear()
        return answer


def read_answer(response: httpx2.Response) -> dict[str, str]:
    """What a redirect back to the product says."""
    location = response.headers["location"]
    assert location.startswith(REDIRECT), location
    return dict(parse_qsl(urlsplit(location).query))


async def make_product(service: Any, product_id: UUID, **metadata: Any) -> Product:
    """A client of a product, registered as a relying party over REST."""
    boss = await service.boss()
    name = f"reader-{secrets.token_hex(4)}"
    body = {"id": name, "scopes": ["roster.read"], "product_id": str(product_id)}
    created = await service.client.post("/v1/clients", headers=boss, json=body)
    wanted = {"redirect_uris": [REDIRECT]} | metadata
    put = await service.client.put(f"/v1/relying-parties/{name}", headers=boss, json=wanted)
    assert put.status_code == 200, put.text
    return Product(service, name, created.json()["secret"], product_id)


async def sign_in_pupil(
    service: Any, settings: Any, district: District, roster: PlayedRoster, sourced_id: str = PUPIL, **person: Any
) -> Browser:
    """A browser in which a rostered pupil is signed in, who is in the roster from now on."""
    if not any(pupil.person.sourced_id == sourced_id for pupil in roster.pupils):
        roster.add(district.integration_id, sourced_id, **person)
    database: Database = service.database
    connection_id = await database.fetchval(
        "SELECT id FROM connection WHERE organization_id = $1 LIMIT 1", district.organization_id
    )
    if connection_id is None:
        _, connection_id = await make_connection(database, settings, organization_id=district.organization_id)
    person_id = await database.fetchval(
        "INSERT INTO person (organization_id) VALUES ($1) RETURNING id", district.organization_id
    )
    beginning = Beginning(
        person_id=person_id,
        organization_id=district.organization_id,
        connection_id=connection_id,
        integration_id=district.integration_id,
        sourced_id=sourced_id,
    )
    sessions = service.launching.sessions
    session, token = await sessions.begin(Request({"type": "http", "headers": []}), beginning)
    return Browser(service, {sessions.cookie: token}, session)
