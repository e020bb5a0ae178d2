"""Integrations over REST: create, read, edit, reset, delete."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from homeroom.connections import CONNECTIONS
from homeroom.db import Database
from homeroom.messages import Options
from homeroom.secrets import SealingKeys
from homeroom.testing.tokens import TestIssuer, calling
from sync_scheduler.app import make_app
from sync_scheduler.integration_bodies import OptionsBody, read_options
from sync_scheduler.settings import ApiSettings

Wanted = Callable[..., dict[str, Any]]

OAUTH2 = {"auth": "oauth2", "token_url": "https://sis.example.org/token"}


async def test_create_and_read(client: httpx2.AsyncClient, integration: dict[str, Any]) -> None:
    """An integration comes back with its defaults and without its secret."""
    assert (await client.get(f"/v1/integrations/{integration['id']}")).json() == integration
    assert (await client.get("/v1/integrations")).json()["items"] == [integration]
    assert integration["connection"] == {
        "endpoint_url": "https://sis.example.org/ims/oneroster/v1p1",
        "auth": "oauth1",
        "client_id": "homeroom",
        "signature_method": "HMAC-SHA256",
    }
    assert integration["options"] == {
        "sync_classes": True,
        "respect_enrollment_dates": False,
        "respect_academic_sessions": False,
        "sync_parents": False,
        "sync_demographics": False,
        "excluded_schools": [],
    }
    assert (integration["region"], integration["state"], integration["needs_sync"]) == ("us", "active", True)
    assert integration["schedule"] == {"kind": "manual"}


def test_options_are_those_of_jobs() -> None:
    """What an admin may choose is what a job can carry, with the same defaults."""
    assert read_options(OptionsBody().model_dump(mode="json")) == Options()
    assert tuple(OptionsBody.model_fields) == Options.__struct_fields__


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"provider": "canvas"}, "body.provider"),
        ({"sis": ""}, "body.sis"),
        ({"name": ""}, "body.name"),
        ({"name": "a\nb"}, "body.name"),
        ({"region": "mars"}, "body.region"),
        ({"organization_id": "x"}, "body.organization_id"),
        ({"surprise": 1}, "body.surprise"),
        ({"schedule": {"kind": "monthly"}}, "body.schedule"),
        ({"options": {"sync_everything": True}}, "body.options.sync_everything"),
        ({"options": {"sync_parents": "yes"}}, "body.options.sync_parents"),
        ({"options": {"excluded_schools": ["s1", "s2", "s1"]}}, "body.options.excluded_schools"),
        ({"options": {"excluded_schools": [""]}}, "body.options.excluded_schools.0"),
        ({"options": {"excluded_schools": [str(n) for n in range(2001)]}}, "body.options.excluded_schools"),
    ],
)
async def test_wrong_fields(
    client: httpx2.AsyncClient, organization_id: str, wanted: Wanted, change: dict[str, Any], field: str
) -> None:
    """Unknown and wrong fields are refused by name, and nothing is created."""
    answer = await client.post("/v1/integrations", json=wanted(organization_id) | change)

    assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert (await client.get("/v1/integrations")).json()["items"] == []


async def test_what_is_offered_is_said(client: httpx2.AsyncClient, organization_id: str, wanted: Wanted) -> None:
    """Who asks for a provider that is not offered is told which ones are."""
    answer = await client.post("/v1/integrations", json=wanted(organization_id, provider="canvas"))

    problem = answer.json()["errors"][0]["problem"]
    assert all(kind in problem for kind in CONNECTIONS)


async def test_all_options(client: httpx2.AsyncClient, organization_id: str, wanted: Wanted) -> None:
    """Every option of the contract is offered and comes back as it was chosen (C3, C4)."""
    chosen = {
        "sync_classes": False,
        "respect_enrollment_dates": True,
        "respect_academic_sessions": True,
        "sync_parents": True,
        "sync_demographics": True,
        "excluded_schools": [str(number) for number in range(2000)],
    }
    created = await client.post("/v1/integrations", json=wanted(organization_id, options=chosen))

    assert (created.status_code, created.json()["options"]) == (201, chosen)


@pytest.mark.parametrize(
    ("region", "zone"),
    [
        ("us", "America/Chicago"),
        ("au", "Australia/Perth"),
        ("uk", "Europe/London"),
        ("nz", "Pacific/Auckland"),
    ],
)
async def test_time_zones(
    client: httpx2.AsyncClient, organization_id: str, wanted: Wanted, region: str, zone: str
) -> None:
    """Where no time zone is said the region's counts; another can be chosen and given up again."""
    created = (await client.post("/v1/integrations", json=wanted(organization_id, region=region))).json()
    path = f"/v1/integrations/{created['id']}"
    chosen = (await client.patch(path, json={"time_zone": "America/New_York"})).json()
    renamed = (await client.patch(path, json={"name": "Another"})).json()
    given_up = (await client.patch(path, json={"time_zone": None})).json()

    zones = [answer["time_zone"] for answer in (created, chosen, renamed, given_up)]
    assert zones == [zone, "America/New_York", "America/New_York", zone]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"auth": "basic"}, "body.connection.auth"),
        ({"auth": "oauth2"}, "body.connection.token_url"),
        ({"signature_method": "MD5"}, "body.connection.signature_method"),
        ({"client_secret": ""}, "body.connection.client_secret"),
        ({"client_secret": None}, "body.connection.client_secret"),
        ({"client_id": "a\0"}, "body.connection.client_id"),
        ({"endpoint": "x"}, "body.connection.endpoint"),
    ],
)
async def test_wrong_connections(
    client: httpx2.AsyncClient, organization_id: str, wanted: Wanted, change: dict[str, Any], field: str
) -> None:
    """A connection with unknown, wrong or missing fields is refused by name."""
    body = wanted(organization_id)
    body["connection"] |= change
    answer = await client.post("/v1/integrations", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize("change", [{"endpoint_url": "http://127.0.0.1/"}, OAUTH2 | {"token_url": "https://10.0.0.1/"}])
async def test_refused_endpoints(
    client: httpx2.AsyncClient, organization_id: str, wanted: Wanted, change: dict[str, Any]
) -> None:
    """A private or plain address is refused with ENDPOINT_REFUSED, as endpoint and as token URL."""
    body = wanted(organization_id)
    body["connection"] |= change
    answer = await client.post("/v1/integrations", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "ENDPOINT_REFUSED")


async def test_private_endpoints_on_purpose(
    settings: ApiSettings, issuer: TestIssuer, organization_id: str, wanted: Wanted
) -> None:
    """Where private endpoints are allowed, a provider may be on loopback."""
    body = wanted(organization_id)
    body["connection"]["endpoint_url"] = "http://127.0.0.1:8123"
    app = make_app(settings.model_copy(update={"allow_private_endpoints": True}), verifier=issuer.verifier)
    async with calling(app, issuer.token(["admin"])) as client:
        answer = await client.post("/v1/integrations", json=body)

    assert answer.status_code == 201


async def test_unknown_organization(client: httpx2.AsyncClient, wanted: Wanted, unknown_id: str) -> None:
    """An integration of an unknown organization is NOT_FOUND."""
    answer = await client.post("/v1/integrations", json=wanted(unknown_id))

    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


async def _settle(database: Database, integration: dict[str, Any]) -> None:
    """Make an integration look as after a successful sync."""
    await database.fetch(
        "UPDATE integration SET needs_sync = false, last_full_at = now(), last_success_at = now() WHERE id = $1",
        integration["id"],
    )


@pytest.mark.parametrize(
    ("change", "needs_sync"),
    [
        ({"name": "Another"}, False),
        ({"sis": "PowerSchool"}, False),
        ({"sis": None}, True),
        ({"time_zone": "America/Chicago"}, False),
        ({"time_zone": "America/Denver"}, True),
        ({"options": {"sync_parents": False}}, False),
        ({"options": {"sync_parents": True}}, True),
        ({"connection": {"signature_method": "HMAC-SHA1"}}, True),
        ({"connection": {"client_secret": "another"}}, True),
    ],
)
async def test_edit(
    client: httpx2.AsyncClient,
    database: Database,
    integration: dict[str, Any],
    change: dict[str, Any],
    needs_sync: bool,
) -> None:
    """An edit changes what was sent alone, and asks for a sync where it may come to another roster (C7)."""
    await _settle(database, integration)
    answer = await client.patch(f"/v1/integrations/{integration['id']}", json=change)

    assert answer.status_code == 200
    edited = answer.json()
    assert edited["needs_sync"] is needs_sync
    for field, value in change.items():
        if isinstance(value, dict):
            shown = {name: part for name, part in value.items() if name != "client_secret"}
            assert edited[field] == integration[field] | shown
        else:
            assert edited[field] == value
    same = integration.keys() - change.keys() - {"needs_sync", "updated_at", "last_full_at", "last_success_at"}
    assert {name: edited[name] for name in same} == {name: integration[name] for name in same}


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint_url": "https://elsewhere.example.org"},
        {"client_id": "another"},
        OAUTH2,
        {"token_url": "https://elsewhere.example.org/token"},
    ],
)
async def test_secret_again(
    client: httpx2.AsyncClient, database: Database, integration: dict[str, Any], change: dict[str, Any]
) -> None:
    """Another endpoint, client or auth method is refused without the secret, and taken with it."""
    path = f"/v1/integrations/{integration['id']}"
    refused = await client.patch(path, json={"connection": change})

    assert (refused.status_code, refused.json()["code"]) == (422, "SECRET_REQUIRED")
    assert (await client.get(path)).json() == integration
    before = await database.fetchval("SELECT sealed_secret FROM integration")
    taken = await client.patch(path, json={"connection": change | {"client_secret": "new"}})
    assert taken.json()["connection"] == integration["connection"] | change
    assert await database.fetchval("SELECT sealed_secret FROM integration") != before


async def test_edited_connections_are_checked(client: httpx2.AsyncClient, integration: dict[str, Any]) -> None:
    """An edit can't lead to an address or a combination that creating would refuse."""
    path = f"/v1/integrations/{integration['id']}"
    private = {"endpoint_url": "https://10.0.0.1", "client_secret": "s"}
    answers = [
        (await client.patch(path, json=body)).json()
        for body in (
            {"connection": private},
            {"connection": {"auth": "oauth2", "client_secret": "s"}},
            {"provider": "clever"},
            {"options": {"sync_classes": "no"}},
        )
    ]

    assert [answer["code"] for answer in answers] == ["ENDPOINT_REFUSED", *["REQUEST_INVALID"] * 3]
    assert answers[1]["errors"][0]["field"] == "body.connection.token_url"


async def test_token_url_can_go(client: httpx2.AsyncClient, organization_id: str, wanted: Wanted) -> None:
    """Going back from oauth2 to oauth1 can take the token URL away."""
    body = wanted(organization_id)
    body["connection"] |= OAUTH2
    created = (await client.post("/v1/integrations", json=body)).json()
    change = {"auth": "oauth1", "token_url": None, "client_secret": "s"}
    edited = (await client.patch(f"/v1/integrations/{created['id']}", json={"connection": change})).json()

    assert created["connection"]["token_url"] == OAUTH2["token_url"]
    assert "token_url" not in edited["connection"]


async def test_reset(client: httpx2.AsyncClient, database: Database, integration: dict[str, Any]) -> None:
    """A confirmed reset forgets the last sync date and asks for a sync; an unconfirmed one does nothing (C6)."""
    await _settle(database, integration)
    path = f"/v1/integrations/{integration['id']}/reset"
    for body in ({}, {"confirm": False}):
        answer = await client.post(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "CONFIRMATION_REQUIRED")
    assert await database.fetchval("SELECT last_full_at FROM integration") is not None
    done = (await client.post(path, json={"confirm": True})).json()

    assert (done["last_full_at"], done["needs_sync"]) == (None, True)
    assert done["last_success_at"] is not None


async def test_reset_during_a_run(client: httpx2.AsyncClient, integration: dict[str, Any], run_id: str) -> None:
    """A reset while a run is under way is refused, naming the run."""
    answer = await client.post(f"/v1/integrations/{integration['id']}/reset", json={"confirm": True})

    assert (answer.status_code, answer.json()["code"], answer.json()["run_id"]) == (409, "SYNC_IN_PROGRESS", run_id)


async def test_delete(client: httpx2.AsyncClient, integration: dict[str, Any], run_id: str) -> None:
    """A deleted integration stays readable, its run is cancelled, and nothing more can be done with it (C8)."""
    path = f"/v1/integrations/{integration['id']}"
    for _ in range(2):
        assert (await client.delete(path)).status_code == 204

    assert (await client.get(path)).json()["state"] == "deleted"
    assert (await client.get(f"/v1/runs/{run_id}")).json()["state"] == "cancelled"
    for answer in (
        await client.post(f"{path}/runs", json={}),
        await client.patch(path, json={"name": "x"}),
        await client.post(f"{path}/reset", json={"confirm": True}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "INTEGRATION_DELETED")


async def test_secrets_stay_secret(
    client: httpx2.AsyncClient,
    database: Database,
    organization_id: str,
    wanted: Wanted,
    sealing_keys: SealingKeys,
    canary: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A secret is in no answer, no log and no table in plain text, and only the gateway's key opens it."""
    caplog.set_level("DEBUG")
    body = wanted(organization_id)
    answers = [await client.post("/v1/integrations", json=body)]
    integration_id = answers[0].json()["id"]
    path = f"/v1/integrations/{integration_id}"
    wrong = body | {"connection": body["connection"] | {"auth": canary, "more": canary}}
    answers += [
        await client.post("/v1/integrations", json=wrong),
        await client.post("/v1/integrations", content=f'{{"connection": "{canary}'),
        await client.post("/v1/integrations", json=body | {"connection": canary}),
        await client.post("/v1/integrations", json=body | {"connection": {"client_secret": [canary]}}),
        await client.patch(path, json={"connection": {"client_secret": canary * 1000}}),
        await client.patch(path, json={"connection": {"client_secret": canary, "endpoint_url": "http://10.0.0.1"}}),
        await client.get(path),
        await client.get("/v1/integrations"),
        await client.post(f"{path}/runs", json={}),
    ]

    assert [answer.status_code for answer in answers] == [201, *[422] * 6, 200, 200, 202]
    assert canary not in "".join(answer.text + str(answer.headers) for answer in answers)
    row = await database.fetchrow("SELECT * FROM integration")
    assert row is not None
    assert canary not in str(dict(row))
    assert json.loads(sealing_keys.open(integration_id, row["sealed_secret"])) == {"client_secret": canary}
    printed = capfd.readouterr()
    assert canary not in caplog.text + printed.out + printed.err
