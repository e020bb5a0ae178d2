"""Credential links: a district enters what its provider gave it, once, verified, and nothing is shown back (C12)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from typing import Any
from uuid import UUID

import httpx2
import pytest

from homeroom.bus import Message
from homeroom.codes import Code
from homeroom.connections import CONNECTIONS, UPLOADED
from homeroom.db import Database
from homeroom.messages import Answered, Finding, inquiries_topic, read_inquiry
from homeroom.secrets import SealingKeys
from homeroom.testing.tokens import TestIssuer
from sync_scheduler.credential_links import MOST_TRIES, list_fields
from sync_scheduler.settings import ApiSettings
from sync_scheduler.ticking import Ticking

Client = httpx2.AsyncClient
Hear = Callable[..., Awaitable[None]]
Read = Callable[[str], Awaitable[list[Message]]]
GOOD, BAD = "district-secret-7c1e", "mistyped-secret-55d0"
ENTERED = {
    "endpoint_url": "https://new.example.org/ims/oneroster/v1p1",
    "auth": "oauth1",
    "client_id": "district-key",
    "client_secret": f" {GOOD}\r\n",
    "token_url": "",
    "signature_method": "HMAC-SHA256",
}


@pytest.fixture
def verify_seconds() -> float:
    """How long the page waits for the provider."""
    return 20.0


@pytest.fixture
async def settings(settings: ApiSettings, verify_seconds: float) -> ApiSettings:
    """An installation with a mail server."""
    return settings.model_copy(update={"smtp_host": "mail.example.org", "link_verify_seconds": verify_seconds})


@pytest.fixture
async def worker(ticking: Ticking, read: Read, hear: Hear, sealing_keys: SealingKeys) -> AsyncIterator[None]:
    """A gateway that finds the good secret good and any other bad."""
    seen: set[str] = set()

    async def work() -> None:
        while True:
            await ticking.send_due()
            for message in await read(inquiries_topic("us")):
                inquiry = read_inquiry(message)
                if inquiry.inquiry_id in seen:
                    continue
                seen.add(inquiry.inquiry_id)
                secret = json.loads(sealing_keys.open(inquiry.integration_id, inquiry.sealed_secret))["client_secret"]
                about = {"inquiry_id": inquiry.inquiry_id, "integration_id": inquiry.integration_id}
                masked = Finding(check="masked fields", ok=False, detail="email is <masked>.", code=Code.FIELD_MASKED)
                await hear(
                    Answered(**about, at=datetime.now(UTC), findings=(masked,))
                    if secret == GOOD
                    else Answered(
                        **about, at=datetime.now(UTC), code=Code.AUTH_INVALID, detail="The provider answered 401."
                    )
                )
            await asyncio.sleep(0.02)

    working = asyncio.create_task(work())
    yield
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


@pytest.fixture
def make_link(client: Client, integration: dict[str, Any]) -> Callable[..., Awaitable[str]]:
    """Makes a link and returns its path."""

    async def make(**fields: Any) -> str:
        answer = await client.post(f"/v1/integrations/{integration['id']}/credential-links", json=fields)
        url = str(answer.raise_for_status().json()["url"])
        assert url.startswith("http://issuer.test/connect/")
        return url.removeprefix("http://issuer.test")

    return make


@pytest.fixture
async def anybody(client: Client) -> AsyncIterator[Client]:
    """Somebody without a token."""
    async with httpx2.AsyncClient(transport=client._transport, base_url=client.base_url) as anybody:
        yield anybody


class _Page(HTMLParser):
    """What a page consists of, as far as tests ask."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))

    def find(self, *tags: str) -> list[dict[str, str | None]]:
        """The attributes of all tags of these names."""
        return [attributes for tag, attributes in self.tags if tag in tags]


async def _list_links(client: Client, integration: dict[str, Any], issuer: TestIssuer) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {issuer.token(['integrations.read'])}"}
    answer = await client.get(f"/v1/integrations/{integration['id']}/credential-links", headers=headers)
    found: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
    return found


@pytest.mark.usefixtures("worker")
async def test_entered_verified_saved_told(
    make_link: Callable[..., Awaitable[str]],
    anybody: Client,
    integration: dict[str, Any],
    database: Database,
    sealing_keys: SealingKeys,
    issuer: TestIssuer,
) -> None:
    """What verifies is saved as by an edit, the link is used up, and who asked for it is told, once."""
    path = await make_link(notify="ann@example.org")
    failed = await anybody.post(path, data=ENTERED | {"client_secret": BAD})
    assert (failed.status_code, Code.AUTH_INVALID.entry.title in failed.text) == (422, True)
    kept = await database.fetchrow("SELECT * FROM integration WHERE id = $1", UUID(integration["id"]))
    assert kept is not None
    assert (kept["connection"], kept["edition"]) == (integration["connection"], 1)
    done = await anybody.post(path, data=ENTERED)
    assert (done.status_code, "work and were saved" in done.text) == (200, True)
    assert "email is &lt;masked&gt;." in done.text
    saved = await database.fetchrow("SELECT * FROM integration WHERE id = $1", UUID(integration["id"]))
    assert saved is not None
    assert saved["connection"]["endpoint_url"] == ENTERED["endpoint_url"]
    assert (saved["edition"], saved["needs_sync"], saved["secret_names"]) == (2, True, ["client_secret"])
    opened = json.loads(sealing_keys.open(integration["id"], saved["sealed_secret"]))
    assert opened == {"client_secret": GOOD}
    again = await anybody.post(path, data=ENTERED)
    assert again.status_code == (await anybody.get(path)).status_code == 404
    [link] = await _list_links(anybody, integration, issuer)
    assert (link["state"], link["outcome"], link["outcome_code"], link["tries"]) == ("used", "verified", None, 2)
    told = await database.fetch("SELECT kind, address FROM alert JOIN alert_delivery ON alert = id")
    assert [(row["kind"], row["address"]) for row in told] == [("credentials_entered", "ann@example.org")]
    actions = await database.fetch("SELECT action FROM audit_entry WHERE action LIKE 'credential_link.%'")
    assert [row["action"] for row in actions] == ["credential_link.create", "credential_link.use"]


@pytest.mark.usefixtures("worker")
async def test_nothing_is_left_of_what_failed(
    make_link: Callable[..., Awaitable[str]],
    anybody: Client,
    database: Database,
    canary: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither pages, tables nor logs hold a secret that was typed or saved, or the token."""
    caplog.set_level(logging.DEBUG)
    path = await make_link()
    pages = [await anybody.get(path), await anybody.post(path, data=ENTERED | {"client_secret": BAD})]
    assert ENTERED["endpoint_url"] in pages[1].text
    assert "sis.example.org" not in pages[0].text  # nor is what was saved before shown
    tables = ("integration", "inquiry", "credential_link", "alert", "audit_entry", "alert_delivery")
    statements = [f"SELECT {table}::text FROM {table}" for table in tables]  # noqa: S608 - tables of ours
    kept = [row[0] for statement in statements for row in await database.fetch(statement)]
    token = path.rpartition("/")[2]
    told = (
        [page.text for page in pages]
        + kept
        + [record.getMessage() for record in caplog.records if "http" not in record.name]
    )
    for secret in (BAD, canary, token):
        assert not any(secret in text for text in told)
    assert await database.fetchval("SELECT count(*) FROM inquiry WHERE sealed_secret IS NOT NULL") == 0


@pytest.mark.usefixtures("worker")
async def test_two_at_once(make_link: Callable[..., Awaitable[str]], anybody: Client, database: Database) -> None:
    """Of two who submit at once one is saved, and the other is told that the link is used."""
    path = await make_link()
    answers = await asyncio.gather(
        *(anybody.post(path, data=ENTERED | {"client_id": name}) for name in ("first", "second"))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 404]
    assert await database.fetchval("SELECT edition FROM integration") == 2
    won = "first" if answers[0].status_code == 200 else "second"
    assert await database.fetchval("SELECT connection ->> 'client_id' FROM integration") == won


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE credential_link SET expires_at = now()",
        "UPDATE credential_link SET used_at = now()",
        "UPDATE credential_link SET revoked_at = now()",
        "UPDATE credential_link SET tries = 10",
        "UPDATE integration SET state = 'deleted'",
    ],
)
async def test_links_that_can_not_be_used(
    make_link: Callable[..., Awaitable[str]], anybody: Client, database: Database, spoil: str
) -> None:
    """Late, used, revoked, locked and unknown links are all answered with the same page."""
    path = await make_link()
    await database.fetch(spoil)
    unknown = await anybody.get(f"/connect/{'x' * 43}")
    for answer in (await anybody.get(path), await anybody.post(path, data=ENTERED), await anybody.get("/connect/ü%00")):
        assert (answer.status_code, answer.text) == (404, unknown.text)
    assert Code.LINK_INVALID.entry.title in unescape(unknown.text)
    assert await database.fetchval("SELECT count(*) FROM inquiry") == 0


async def test_revoked_by_who_made_it(
    make_link: Callable[..., Awaitable[str]],
    client: Client,
    integration: dict[str, Any],
    issuer: TestIssuer,
    unknown_id: str,
) -> None:
    """A link can be taken back by its organization only."""
    path = await make_link()
    [link] = await _list_links(client, integration, issuer)
    stranger = {"Authorization": f"Bearer {issuer.token(['admin'], organization_id=unknown_id)}"}
    assert (await client.delete(f"/v1/credential-links/{link['id']}", headers=stranger)).status_code == 404
    assert (await client.get(path)).status_code == 200
    assert (await client.delete(f"/v1/credential-links/{link['id']}")).status_code == 204
    assert (await client.get(path)).status_code == 404
    assert [one["state"] for one in await _list_links(client, integration, issuer)] == ["revoked"]


@pytest.mark.usefixtures("worker")
async def test_too_many_tries(
    make_link: Callable[..., Awaitable[str]],
    anybody: Client,
    database: Database,
    integration: dict[str, Any],
    issuer: TestIssuer,
) -> None:
    """After ten verifications the link is locked, also for the right secret; slips of the pen don't count."""
    path = await make_link()
    for _ in range(3):
        assert (await anybody.post(path, data={})).status_code == 422
    await database.fetch("UPDATE credential_link SET tries = $1", MOST_TRIES - 1)
    last = await anybody.post(path, data=ENTERED | {"client_secret": BAD})
    assert (last.status_code, "<form" in last.text) == (422, False)
    assert (await anybody.post(path, data=ENTERED)).status_code == 404
    assert [one["state"] for one in await _list_links(anybody, integration, issuer)] == ["locked"]


@pytest.mark.parametrize("verify_seconds", [0.1])
async def test_a_provider_that_does_not_answer(
    make_link: Callable[..., Awaitable[str]], anybody: Client, database: Database
) -> None:
    """Without an answer in time nothing is saved, and the page says to try again."""
    path = await make_link()
    answer = await anybody.post(path, data=ENTERED)
    assert (answer.status_code, Code.ANSWER_PENDING.entry.title in answer.text) == (422, True)
    assert await database.fetchval("SELECT edition FROM integration") == 1


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"endpoint_url": ""}, "endpoint_url"),
        ({"endpoint_url": "http://169.254.169.254/latest"}, "endpoint_url"),
        ({"endpoint_url": "https://localhost/"}, "endpoint_url"),
        ({"auth": "oauth2"}, "token_url"),
        ({"auth": "basic"}, "auth"),
        ({"client_id": "a\nb"}, "client_id"),
        ({"client_secret": " "}, "client_secret"),
    ],
)
async def test_slips_of_the_pen(
    make_link: Callable[..., Awaitable[str]], anybody: Client, database: Database, wrong: dict[str, str], field: str
) -> None:
    """What is missing or wrong is listed first, leads to its field, and is never sent anywhere."""
    page = await anybody.post(await make_link(), data=ENTERED | wrong)
    parsed = _Page(page.text)
    assert page.status_code == 422
    assert [link["href"] for link in parsed.find("a")] == [f"#{field}"]
    [marked] = [one for one in parsed.find("input", "select") if one.get("aria-invalid")]
    assert (marked["id"], f"{field}-problem" in str(marked["aria-describedby"])) == (field, True)
    assert page.text.index('role="alert"') < page.text.index("<form")
    assert "<title>Error: " in page.text
    assert await database.fetchval("SELECT count(*) FROM inquiry") == 0


@pytest.mark.parametrize("kind", sorted(CONNECTIONS.keys() - UPLOADED))
def test_what_is_asked_for(kind: str) -> None:
    """A district is asked for every secret and every field without a value of its own, and for no service's address."""
    model = CONNECTIONS[kind]
    asked = list_fields(model)
    assert set(model.secret_fields()) <= set(asked)
    assert {name for name, field in model.model_fields.items() if field.is_required()} <= set(asked)
    assert not {"base_url", "proxy_url"} & set(asked)


async def test_the_page_is_for_everybody(make_link: Callable[..., Awaitable[str]], anybody: Client) -> None:
    """Every field has its label, the page its language, and nothing from elsewhere is loaded or let in."""
    answer = await anybody.get(await make_link(note="Ask Ann <ann@example.org>"))
    page = _Page(answer.text)
    labelled = {one["for"] for one in page.find("label")}
    assert {one["id"] for one in page.find("input", "select", "textarea")} == labelled
    assert page.find("html") == [{"lang": "en"}]
    assert [one["type"] for one in page.find("input") if one["name"] == "client_secret"] == ["password"]
    assert not page.find("script", "img", "iframe")
    assert not any("style" in attributes for _, attributes in page.tags)
    assert "Ask Ann &lt;ann@example.org&gt;" in answer.text
    assert answer.headers["content-security-policy"] == (
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    assert (answer.headers["referrer-policy"], answer.headers["cache-control"]) == ("no-referrer", "no-store")
    style = await anybody.get("/connect/style.css")
    assert style.headers["content-type"].startswith("text/css")


@pytest.mark.usefixtures("worker")
async def test_hostile_names(client: Client, organization_id: str, wanted: Callable[..., dict[str, Any]]) -> None:
    """Names of organizations and integrations, and what was typed, can't become part of a page."""
    evil = '"><img src=x onerror=alert(1)>'
    made = (await client.post("/v1/integrations", json=wanted(organization_id, name=evil))).raise_for_status().json()
    link = (await client.post(f"/v1/integrations/{made['id']}/credential-links", json={"note": evil})).json()
    path = link["url"].removeprefix("http://issuer.test")
    pages = [
        await client.get(path),
        await client.post(path, data=ENTERED | {"client_id": evil, "client_secret": BAD}),
        await client.post(path, data=ENTERED | {"auth": evil}),
        await client.post(path, data=ENTERED | {"client_id": evil}),
    ]
    assert [page.status_code for page in pages] == [200, 422, 422, 200]
    assert not any(_Page(page.text).find("img") for page in pages)


async def test_links_that_are_none(
    client: Client, integration: dict[str, Any], fed: dict[str, Any], unknown_id: str
) -> None:
    """Links for nobody, for integrations fed by files, for no time or for ever are refused."""
    path = f"/v1/integrations/{integration['id']}/credential-links"
    for body in ({"expires_in_hours": 0}, {"expires_in_hours": 337}, {"notify": "ann"}, {"token": "x"}):
        assert (await client.post(path, json=body)).json()["code"] == Code.REQUEST_INVALID, body
    unfit = await client.post(f"/v1/integrations/{fed['id']}/credential-links")
    assert (unfit.status_code, unfit.json()["code"]) == (409, Code.PROVIDER_UNFIT)
    assert (await client.post(f"/v1/integrations/{unknown_id}/credential-links")).status_code == 404
    made = (await client.post(path)).raise_for_status().json()
    lasts = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=71) < lasts <= timedelta(hours=72)


async def test_bodies_that_are_no_forms(make_link: Callable[..., Awaitable[str]], anybody: Client) -> None:
    """What is no form is answered with the form and what is missing, and much too much is refused."""
    path = await make_link()
    for body in (b"\xff\xfe", b"&".join(b"a=1" for _ in range(100)), b"{}"):
        assert (await anybody.post(path, content=body)).status_code == 422
    assert (await anybody.post(path, content=b"a=" + b"x" * 2_000_000)).status_code == 413


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("provider", ["oneroster", "classlink", "clever", "google-classroom"])
async def test_nobody_else_ever_has_the_secret(
    client: Client, anybody: Client, organization_id: str, provider: str, wanted: Callable[..., dict[str, Any]]
) -> None:
    """An integration without credentials neither runs nor answers, says why, and lives from the link on (C12)."""
    body = wanted(organization_id, provider=provider) | {"connection": None}
    created = (await client.post("/v1/integrations", json=body)).raise_for_status().json()
    assert (created["connection"], created["credentials_missing"]) == ({}, True)
    path = f"/v1/integrations/{created['id']}"
    for asked in (
        await client.post(f"{path}/runs", json={}),
        await client.post(f"{path}/verify"),
        await client.get(f"{path}/schools"),
    ):
        assert (asked.status_code, asked.json()["code"]) == (409, "CREDENTIALS_MISSING")
    if provider != "oneroster":
        return
    link = (await client.post(f"{path}/credential-links", json={})).raise_for_status().json()["url"]
    done = await anybody.post(link.removeprefix("http://issuer.test"), data=ENTERED)
    assert done.status_code == 200, done.text
    assert not (await client.get(path)).json()["credentials_missing"]
    assert (await client.post(f"{path}/runs", json={})).status_code == 202


async def test_credentials_are_left_out_on_purpose_only(
    client: Client, organization_id: str, wanted: Callable[..., dict[str, Any]]
) -> None:
    """Leaving the connection out is a mistake; null says that the district will enter it, and an admin still can."""
    body = wanted(organization_id)
    connection = body.pop("connection")
    assert (await client.post("/v1/integrations", json=body)).status_code == 422
    created = (await client.post("/v1/integrations", json=body | {"connection": None})).raise_for_status().json()
    path = f"/v1/integrations/{created['id']}"
    edited = (await client.patch(path, json={"connection": connection})).raise_for_status().json()
    assert not edited["credentials_missing"]
    assert (await client.post(f"{path}/runs", json={})).status_code == 202
