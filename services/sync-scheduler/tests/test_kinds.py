"""Integrations of every kind of provider: their connections, their secrets, their edits."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from homeroom.connections import CONNECTIONS
from homeroom.db import Database
from homeroom.secrets import SealingKeys
from sync_scheduler import credentials

Wanted = Callable[..., dict[str, Any]]

KEY_FILE = json.dumps({"type": "service_account", "client_email": "sync@project.test", "private_key": "PEM"})
DIRECT = {"endpoint_url": "https://roster.example.org", "client_id": "key", "client_secret": "s3"}
PROXY = {"auth": "proxy", "application_id": "a%2Fb%3D", "partner_key": "pk"}
CLEVER = {"district_id": "d" * 24, "district_token": "t0ken"}
CLEVER_BOTH = CLEVER | {"client_id": "app", "client_secret": "s3"}
GOOGLE = {"domain": "example.org", "admin_email": "it@example.org", "service_account_key": KEY_FILE}


async def _create(
    client: httpx2.AsyncClient, body: dict[str, Any], provider: str, connection: object
) -> httpx2.Response:
    return await client.post("/v1/integrations", json=body | {"provider": provider, "connection": connection})


async def _secrets(database: Database, keys: SealingKeys, integration: dict[str, Any]) -> dict[str, str]:
    sealed = await database.fetchval("SELECT sealed_secret FROM integration WHERE id = $1", integration["id"])
    opened: dict[str, str] = json.loads(keys.open(integration["id"], sealed))
    return opened


@pytest.mark.parametrize(
    ("provider", "connection", "secrets"),
    [
        ("classlink", DIRECT, {"client_secret": "s3"}),
        ("classlink", PROXY, {"partner_key": "pk"}),
        ("clever", CLEVER, {"district_token": "t0ken"}),
        ("clever", CLEVER_BOTH, {"district_token": "t0ken", "client_secret": "s3"}),
        ("google-classroom", GOOGLE, {"service_account_key": KEY_FILE}),
        ("oneroster-csv", {}, {}),
        ("oneroster-csv", None, {}),
        ("oneroster", DIRECT | {"auth": "oauth1"}, {"client_secret": "s3"}),
    ],
)
async def test_every_kind(
    client: httpx2.AsyncClient,
    database: Database,
    sealing_keys: SealingKeys,
    organization_id: str,
    wanted: Wanted,
    provider: str,
    connection: dict[str, Any] | None,
    secrets: dict[str, str],
) -> None:
    """Every kind of provider is connected by its own fields; its secrets are sealed together and not shown."""
    answer = await _create(client, wanted(organization_id), provider, connection)
    created = answer.json()

    assert answer.status_code == 201
    entered = connection or {}
    assert created["connection"].items() >= {name: entered[name] for name in entered.keys() - secrets.keys()}.items()
    assert not created["connection"].keys() & secrets.keys()
    assert await _secrets(database, sealing_keys, created) == secrets


async def test_csv_without_connection(client: httpx2.AsyncClient, organization_id: str, wanted: Wanted) -> None:
    """Where files are uploaded there is nothing to connect, and the field can be left out."""
    body = wanted(organization_id, provider="oneroster-csv")
    del body["connection"]

    assert (await client.post("/v1/integrations", json=body)).status_code == 201


@pytest.mark.parametrize(
    ("provider", "connection", "fields"),
    [
        ("clever", DIRECT, {"district_id", "endpoint_url"}),
        ("classlink", CLEVER, {"district_id", "district_token"}),
        ("oneroster", PROXY, {"endpoint_url", "auth", "client_id", "client_secret", "application_id", "partner_key"}),
        ("oneroster", {**DIRECT, "auth": "oauth1", "client_secret": 5}, {"client_secret"}),
        ("oneroster-csv", DIRECT, {"endpoint_url", "client_id", "client_secret"}),
        ("google-classroom", GOOGLE | {"service_account_key": "not json"}, {"service_account_key"}),
        ("google-classroom", GOOGLE | {"service_account_key": "{}"}, {"service_account_key"}),
        ("classlink", DIRECT | {"auth": "proxy"}, {"application_id"}),
        ("clever", {"district_id": "d"}, {"district_token"}),
        ("clever", {}, {"district_id"}),
        ("clever", "text", {""}),
    ],
)
async def test_wrong_for_the_kind(
    client: httpx2.AsyncClient,
    organization_id: str,
    wanted: Wanted,
    provider: str,
    connection: object,
    fields: set[str],
) -> None:
    """A connection that does not fit its provider is refused, naming each field that is wrong or missing."""
    answer = await _create(client, wanted(organization_id), provider, connection)

    assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")
    named = {error["field"] for error in answer.json()["errors"]}
    assert named == {f"body.connection.{field}".rstrip(".") for field in fields}


@pytest.mark.parametrize(
    ("provider", "connection"),
    [
        ("classlink", DIRECT | {"endpoint_url": "https://10.0.0.1"}),
        ("classlink", PROXY | {"proxy_url": "http://proxy.example.org"}),
        ("classlink", DIRECT | {"auth": "oauth2", "token_url": "https://localhost/token"}),
        ("clever", CLEVER | {"base_url": "https://169.254.169.254/v3.0"}),
        ("clever", CLEVER | {"token_url": "https://user:x@clever.com"}),
        ("google-classroom", GOOGLE | {"base_url": "https://metadata.internal"}),
        ("google-classroom", GOOGLE | {"token_url": "ftp://oauth2.googleapis.com"}),
    ],
)
async def test_every_address_is_checked(
    client: httpx2.AsyncClient, organization_id: str, wanted: Wanted, provider: str, connection: dict[str, Any]
) -> None:
    """Every address of every kind must be public and https, also those that have a default."""
    answer = await _create(client, wanted(organization_id), provider, connection)

    assert (answer.status_code, answer.json()["code"]) == (422, "ENDPOINT_REFUSED")


async def _edit(client: httpx2.AsyncClient, created: dict[str, Any], connection: dict[str, Any]) -> httpx2.Response:
    return await client.patch(f"/v1/integrations/{created['id']}", json={"connection": connection})


async def test_two_secrets_go_together(
    client: httpx2.AsyncClient, database: Database, sealing_keys: SealingKeys, organization_id: str, wanted: Wanted
) -> None:
    """Of two secrets none can be changed alone, for the other one can't be read back; null gives one up."""
    created = (await _create(client, wanted(organization_id), "clever", CLEVER_BOTH)).json()
    alone = await _edit(client, created, {"client_secret": "new"})
    kept = await _secrets(database, sealing_keys, created)
    both = await _edit(client, created, {"client_secret": "new", "district_token": "new t0ken"})
    after_both = await _secrets(database, sealing_keys, created)
    given_up = await _edit(client, created, {"client_secret": "newer", "district_token": None})

    assert (alone.status_code, alone.json()["errors"][0]["field"]) == (422, "body.connection.district_token")
    assert credentials.TOGETHER in alone.json()["errors"][0]["problem"]
    assert kept == {"district_token": "t0ken", "client_secret": "s3"}
    assert (both.status_code, after_both) == (200, {"district_token": "new t0ken", "client_secret": "new"})
    assert given_up.status_code == 200
    assert await _secrets(database, sealing_keys, created) == {"client_secret": "newer"}


async def test_the_last_secret_stays(client: httpx2.AsyncClient, organization_id: str, wanted: Wanted) -> None:
    """A secret without which there is no way in can't be given up."""
    created = (await _create(client, wanted(organization_id), "clever", CLEVER)).json()
    answer = await _edit(client, created, {"district_token": None})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "body.connection.district_token")


async def test_another_way_in(
    client: httpx2.AsyncClient, database: Database, sealing_keys: SealingKeys, organization_id: str, wanted: Wanted
) -> None:
    """From the own server to the proxy: its fields and key are needed, and the old secret is gone."""
    created = (await _create(client, wanted(organization_id), "classlink", DIRECT)).json()
    for change, code in (
        ({"auth": "proxy"}, "REQUEST_INVALID"),
        ({"auth": "proxy", "application_id": "a"}, "SECRET_REQUIRED"),
        ({"auth": "proxy", "application_id": "a", "client_secret": "s"}, "REQUEST_INVALID"),
        ({"proxy_url": "https://elsewhere.example.org"}, "SECRET_REQUIRED"),
    ):
        refused = await _edit(client, created, change)
        assert (refused.status_code, refused.json()["code"]) == (422, code)
    taken = await _edit(client, created, PROXY | {"endpoint_url": None, "client_id": None})

    assert taken.status_code == 200
    assert taken.json()["connection"].keys().isdisjoint({"endpoint_url", "client_id"})
    assert await _secrets(database, sealing_keys, created) == {"partner_key": "pk"}


async def test_edits_without_secrets(
    client: httpx2.AsyncClient, database: Database, sealing_keys: SealingKeys, organization_id: str, wanted: Wanted
) -> None:
    """What binds no secret is changed without one, and saying what is there already changes nothing."""
    google = (await _create(client, wanted(organization_id), "google-classroom", GOOGLE)).json()
    same = await _edit(client, google, {"domain": GOOGLE["domain"]})
    other = await _edit(client, google, {"admin_email": "head@example.org"})
    direct = (await _create(client, wanted(organization_id), "classlink", DIRECT)).json()
    signed = await _edit(client, direct, {"signature_method": "HMAC-SHA1"})

    assert (same.status_code, same.json()["connection"]) == (200, google["connection"])
    assert (other.status_code, other.json()["code"]) == (422, "SECRET_REQUIRED")
    assert (signed.status_code, signed.json()["connection"]["signature_method"]) == (200, "HMAC-SHA1")
    assert await _secrets(database, sealing_keys, direct) == {"client_secret": "s3"}


async def test_a_kind_that_got_a_field(
    client: httpx2.AsyncClient, database: Database, organization_id: str, wanted: Wanted
) -> None:
    """A connection from before its kind had a field with a default is edited without its secrets all the same."""
    created = (await _create(client, wanted(organization_id), "clever", CLEVER)).json()
    await database.fetch("UPDATE integration SET connection = connection - 'token_url' - 'base_url'")

    assert (await _edit(client, created, {"district_id": CLEVER["district_id"]})).status_code == 200
    assert (await _edit(client, created, {"base_url": "https://api.example.org/v3.0"})).json()["code"] == (
        "SECRET_REQUIRED"
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"surprise": 1}, "surprise"),
        ({"auth": "basic"}, "auth"),
        ({"client_id": None}, "client_id"),
        ({"client_id": ["x"]}, "client_id"),
        ({"client_secret": ""}, "client_secret"),
        ({"client_secret": {"x": "y"}}, "client_secret"),
    ],
)
async def test_wrong_edits(
    client: httpx2.AsyncClient, integration: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    """A connection is checked as a whole after an edit, and what is wrong is named."""
    answer = await _edit(client, integration, change)

    assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")
    assert [error["field"] for error in answer.json()["errors"]] == [f"body.connection.{field}"]
    assert (await client.get(f"/v1/integrations/{integration['id']}")).json() == integration


@pytest.mark.parametrize("way", ["create", "edit"])
async def test_no_schools_no_exclusion(
    client: httpx2.AsyncClient, organization_id: str, wanted: Wanted, way: str
) -> None:
    """Google Classroom knows no schools, so excluding one is refused with the reason."""
    body = wanted(organization_id) | {"provider": "google-classroom", "connection": GOOGLE}
    options = {"options": {"excluded_schools": ["s1"]}}
    if way == "create":
        answer = await client.post("/v1/integrations", json=body | options)
    else:
        created = (await client.post("/v1/integrations", json=body)).json()
        answer = await client.patch(f"/v1/integrations/{created['id']}", json=options)

    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "body.options.excluded_schools"
    assert "no schools" in error["problem"]


@pytest.mark.parametrize(
    ("provider", "shown"),
    [
        ("classlink", {name: DIRECT[name] for name in ("endpoint_url", "client_id")}),
        ("classlink", {"auth": "proxy", "application_id": "a"}),
        ("clever", {"district_id": "d"}),
        ("clever", {"district_id": "d", "client_id": "c"}),
        ("google-classroom", {"domain": "example.org", "admin_email": "it@example.org"}),
        ("oneroster", {"endpoint_url": "https://x.example.org", "auth": "oauth1", "client_id": "c"}),
        ("oneroster-csv", {}),
    ],
)
def test_what_stands_in_for_sealed_secrets(provider: str, shown: dict[str, Any]) -> None:
    """A connection whose secrets stay sealed is checked all the same, whatever its kind asks of a secret."""
    held = CONNECTIONS[provider].secret_fields()
    before = credentials.check_kind(provider, shown | dict.fromkeys(held, KEY_FILE)).shown()
    entered = credentials.change(provider, before, held, {})

    assert (entered.shown, entered.secrets) == (before, None)


async def test_openapi_shows_the_connections(client: httpx2.AsyncClient) -> None:
    """The OpenAPI document lists the connection of every kind."""
    document = (await client.get("/openapi/sync-scheduler.json")).json()
    shown = document["components"]["schemas"]["IntegrationBody"]["properties"]["connection"]["anyOf"]

    named = {part.get("$ref", "").rpartition("/")[2] for part in shown}
    assert named >= {model.__name__ for model in CONNECTIONS.values()}
