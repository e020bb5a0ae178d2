"""Subscriptions over REST: who may have which, what is shown, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from licensed import license_product
from played_gateway import ROSTER, Gateway
from standardwebhooks import Webhook

from homeroom import audit
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.testing.tokens import TestIssuer, calling
from roster_store.app import make_app
from roster_store.feed import Cursor
from roster_store.settings import StoreSettings
from roster_store.subscriptions import registry
from roster_store.tables import SQL

ISSUER = TestIssuer()
PATH = "/v1/subscriptions"
HOOK = {"kind": "webhook", "url": "https://reader.example.com/hook?code=1"}


@pytest.fixture
async def client(database: Database, settings: StoreSettings) -> AsyncIterator[httpx2.AsyncClient]:
    """A caller without a token, of a store that allows public addresses only."""
    del database
    strict = settings.model_copy(update={"allow_private_endpoints": False})
    async with calling(make_app(strict, ISSUER.verifier)) as client:
        yield client


@pytest.fixture
async def product_id(database: Database, gateway: Gateway) -> str:
    """A product with a license of the gateway's organization."""
    await gateway.sync(ROSTER)
    return (await license_product(database, gateway.organization_id)).product_id


def as_product(product_id: str, **claims: Any) -> dict[str, str]:
    """The headers of a product."""
    return ISSUER.headers(["subscriptions.write"], product_id=product_id, **claims)


async def add(client: httpx2.AsyncClient, headers: dict[str, str], **fields: Any) -> dict[str, Any]:
    """A new subscription."""
    answer = await client.post(PATH, json=HOOK | fields, headers=headers)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_life(client: httpx2.AsyncClient, database: Database, product_id: str) -> None:
    """A subscription is made, listed, read, changed, disabled, enabled and ended, and the audit log says by whom."""
    headers = as_product(product_id, subject="reader")
    made = await add(client, headers, types=["homeroom.user.added.v1"])
    assert (made["product_id"], made["state"], made["demographics"]) == (product_id, "active", False)
    one = f"{PATH}/{made['id']}"
    changed = await client.patch(one, json={"types": None, "batch": 7, "enabled": False}, headers=headers)
    assert changed.status_code == 200
    listed = (await client.get(PATH, headers=headers)).json()["items"]
    assert [found["id"] for found in listed] == [made["id"]]
    assert (listed[0]["types"], listed[0]["batch"], listed[0]["state"]) == (None, 7, "disabled")
    assert (listed[0]["disabled_code"], listed[0]["url"]) == (None, HOOK["url"])
    assert listed[0]["lag"]["steps"] == 1  # the license, which everything begins with
    assert (await client.post(f"{one}/enable", headers=headers)).json()["state"] == "active"
    assert (await client.delete(one, headers=headers)).status_code == 204
    assert (await client.get(one, headers=headers)).json()["code"] == Code.NOT_FOUND
    entries = await audit.list_entries(database, organization=None, subject=None, before=2**62, limit=10)
    verbs = [entry["action"].removeprefix("subscription.") for entry in reversed(entries) if entry["by"] == "reader"]
    assert verbs == ["create", "change", "enable", "delete"]


async def test_secrets_are_shown_once(client: httpx2.AsyncClient, database: Database, product_id: str) -> None:
    """A secret is answered where it is made and nowhere else, and is nowhere in the database as it is."""
    headers = as_product(product_id)
    made = await add(client, headers)
    rotated = (await client.post(f"{PATH}/{made['id']}/secret-rotations", headers=headers)).json()
    assert rotated["secret"] != made["secret"]
    for secret in (made["secret"], rotated["secret"]):
        assert Webhook(secret)
    shown = (await client.get(f"{PATH}/{made['id']}", headers=headers)).json()
    assert "secret" not in shown
    assert shown["rotated_at"]
    [kept] = await database.fetch("SELECT subscription::text AS text FROM subscription")
    assert not any(secret[6:] in kept["text"] for secret in (made["secret"], rotated["secret"]))


async def test_nobody_sees_anothers(client: httpx2.AsyncClient, gateway: Gateway, product_id: str) -> None:
    """Another product, another organization and a product's own organization find nothing, on every route."""
    made = await add(client, as_product(product_id))
    district = ISSUER.headers(["subscriptions.write"], organization_id=gateway.organization_id)
    own = await add(client, district)
    assert (own["product_id"], own["organization_id"]) == (None, gateway.organization_id)
    strangers = [
        as_product(str(uuid4())),
        as_product(product_id, organization_id=str(uuid4())),
        as_product("x"),
        district,
    ]
    for headers in strangers:
        seen = [found["id"] for found in (await client.get(PATH, headers=headers)).json()["items"]]
        assert seen == ([own["id"]] if headers is district else [])
        one = f"{PATH}/{made['id']}"
        for method, path, body in (
            ("GET", one, None),
            ("PATCH", one, {"batch": 1}),
            ("DELETE", one, None),
            ("POST", f"{one}/enable", None),
            ("POST", f"{one}/test", None),
            ("POST", f"{one}/secret-rotations", None),
            ("POST", f"{one}/redeliveries", {"start": "beginning"}),
        ):
            answer = await client.request(method, path, json=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (404, Code.NOT_FOUND), (method, path)
    platform = ISSUER.headers(["admin"])
    seen = [found["id"] for found in (await client.get(PATH, headers=platform)).json()["items"]]
    assert seen == [made["id"], own["id"]]
    first = (await client.get(PATH, params={"limit": 1}, headers=platform)).json()
    rest = await client.get(PATH, params={"cursor": first["next_cursor"]}, headers=platform)
    assert [found["id"] for found in rest.json()["items"]] == [own["id"]]


async def test_demographics_take_their_scope(client: httpx2.AsyncClient, product_id: str) -> None:
    """A token that may not read demographics makes no subscription that is told of them."""
    scopes = ["subscriptions.write", "demographics.read"]
    made = await add(client, ISSUER.headers(scopes, product_id=product_id))
    assert made["demographics"] is True
    assert (await add(client, as_product(product_id)))["demographics"] is False


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"url": "http://reader.example.com/"}, Code.ENDPOINT_REFUSED),
        ({"url": "https://127.0.0.1/"}, Code.ENDPOINT_REFUSED),
        ({"url": "https://[::ffff:10.0.0.1]/"}, Code.ENDPOINT_REFUSED),
        ({"url": "https://user:word@reader.example.com/"}, Code.ENDPOINT_REFUSED),
        ({"url": None}, Code.REQUEST_INVALID),
        ({"kind": "kafka"}, Code.REQUEST_INVALID),
        ({"kind": "pigeon"}, Code.REQUEST_INVALID),
        ({"types": ["homeroom.user.adopted.v1"]}, Code.REQUEST_INVALID),
        ({"types": []}, Code.REQUEST_INVALID),
        ({"schools": ["a\0"]}, Code.REQUEST_INVALID),
        ({"batch": 501}, Code.REQUEST_INVALID),
        ({"start": "yesterday"}, Code.REQUEST_INVALID),
        ({"product_id": str(UUID(int=7))}, Code.REQUEST_INVALID),
        ({"organization_id": str(UUID(int=7))}, Code.REQUEST_INVALID),
        ({"integration_id": str(UUID(int=7))}, Code.REQUEST_INVALID),
        ({"secret": "mine"}, Code.REQUEST_INVALID),
    ],
)
async def test_what_is_refused(client: httpx2.AsyncClient, product_id: str, fields: dict[str, Any], code: Code) -> None:
    """Private addresses, kinds that don't fit, unknown types and what is not the caller's are refused with a reason."""
    answer = await client.post(PATH, json=HOOK | fields, headers=as_product(product_id))
    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_whose_it_is(client: httpx2.AsyncClient, gateway: Gateway, product_id: str) -> None:
    """The platform says for whom it subscribes, and an organization speaks for itself alone."""
    platform = ISSUER.headers(["admin"])
    district = ISSUER.headers(["admin"], organization_id=gateway.organization_id)
    topic = {"kind": "kafka", "url": None}
    for headers, fields in (
        (platform, {}),
        (platform, {"product_id": str(uuid4())}),
        (district, {"product_id": product_id}),
        (district, topic),
    ):
        answer = await client.post(PATH, json=HOOK | fields, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, Code.REQUEST_INVALID), fields
    mine = {"product_id": product_id, "integration_id": gateway.integration_id}
    assert (await add(client, platform, **mine, **topic))["topic"] == f"product-events.{product_id}"
    again = await client.post(PATH, json=HOOK | mine | topic, headers=platform)
    assert (again.status_code, again.json()["code"]) == (409, Code.SUBSCRIPTION_EXISTS)


async def test_there_is_a_most(client: httpx2.AsyncClient, product_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A product has so many subscriptions and no more."""
    monkeypatch.setattr(registry, "MOST", 2)
    for _ in range(2):
        await add(client, as_product(product_id))
    answer = await client.post(PATH, json=HOOK, headers=as_product(product_id))
    assert (answer.status_code, answer.json()["code"]) == (409, Code.SUBSCRIPTION_LIMIT)


async def test_back_in_the_feed(
    client: httpx2.AsyncClient, database: Database, gateway: Gateway, product_id: str
) -> None:
    """The cursor goes back to a cursor, a moment or the beginning, never ahead, and only to what is a place."""
    headers = as_product(product_id)
    made = await add(client, headers, start="now")
    end = Cursor(await database.fetchval(SQL["find_feed_end"]))
    assert made["cursor"] == str(end)
    assert made["lag"] == {"steps": 0, "seconds": 0.0}
    path = f"{PATH}/{made['id']}/redeliveries"
    at = await database.fetchval("SELECT applied_at FROM apply WHERE no = $1", gateway.basis)
    back = Cursor(gateway.basis - 1, 7)
    for body, cursor in (
        ({"since": at.isoformat()}, Cursor(gateway.basis - 1)),
        ({"cursor": str(back)}, back),
        ({"start": "beginning"}, Cursor()),
    ):
        answer = await client.post(path, json=body, headers=headers)
        assert answer.json()["cursor"] == str(cursor), body
    other = await add(client, headers, start="now")
    for changes, cursor in (({"types": ["homeroom.org.added.v1"]}, end), ({"schools": ["org-North"]}, Cursor())):
        answer = await client.patch(f"{PATH}/{other['id']}", json=changes, headers=headers)
        assert answer.json()["cursor"] == str(cursor)
    for body, status, code in (
        ({"cursor": str(end)}, 422, Code.REQUEST_INVALID),
        ({"cursor": "AAAA"}, 400, Code.CURSOR_INVALID),
        ({}, 422, Code.REQUEST_INVALID),
        ({"start": "beginning", "since": at.isoformat()}, 422, Code.REQUEST_INVALID),
        ({"since": "2026-09-01T00:00:00"}, 422, Code.REQUEST_INVALID),
    ):
        answer = await client.post(path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code), body
