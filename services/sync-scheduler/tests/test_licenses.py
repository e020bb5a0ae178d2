"""Licenses: the rule, how they are given, renewed and revoked, and what that does to syncs (D5)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Applied, Claimed
from homeroom.testing.tokens import TestIssuer
from sync_scheduler import licensing
from sync_scheduler.licenses import License, Standing, judge

NOW = datetime(2026, 9, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
DAY = timedelta(days=1)
Client = httpx2.AsyncClient
Hear = Callable[..., Awaitable[None]]


@pytest.mark.parametrize(
    ("given", "required", "active"),
    [
        ([], False, True),
        ([], True, False),
        ([License(NOW)], True, True),
        ([License(NOW + TICK)], True, False),
        ([License(NOW + TICK)], False, True),  # the first one begins tomorrow: until then nothing has changed
        ([License(NOW - DAY, NOW)], False, False),
        ([License(NOW - DAY, NOW + TICK)], False, True),
        ([License(NOW - DAY, None, NOW)], False, False),
        ([License(NOW - DAY, None, NOW + TICK)], False, True),
        ([License(NOW - DAY, None, NOW - 2 * DAY)], False, True),  # revoked before it began: it never was one
        ([License(NOW - DAY, NOW), License(NOW)], False, True),
        ([License(NOW - DAY, NOW), License(NOW + DAY)], False, False),
    ],
)
def test_the_rule(given: list[License], required: bool, active: bool) -> None:
    """A license counts from its first moment until its last; who never had one is free unless all need one."""
    assert judge(given, NOW, required=required) is active


def test_standing() -> None:
    """A license says where it is in its life, and that it was revoked above all."""
    one = License(NOW, NOW + DAY)
    assert [one.stand(NOW + step) for step in (-TICK, timedelta(), DAY - TICK, DAY)] == [
        Standing.UPCOMING,
        Standing.ACTIVE,
        Standing.ACTIVE,
        Standing.EXPIRED,
    ]
    assert License(NOW + DAY, None, NOW).stand(NOW) is Standing.REVOKED


@pytest.fixture
async def product_id(client: Client) -> str:
    """A product."""
    answer = await client.post("/v1/products", json={"name": "Reading"})
    return str(answer.raise_for_status().json()["id"])


@pytest.fixture
def grant(client: Client, organization_id: str, product_id: str) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Licenses the product to the district."""

    async def grant(**fields: Any) -> dict[str, Any]:
        body = {"product_id": product_id, "organization_id": organization_id, **fields}
        found: dict[str, Any] = (await client.post("/v1/licenses", json=body)).raise_for_status().json()
        return found

    return grant


async def _start(client: Client, integration: dict[str, Any]) -> Any:
    answer = await client.post(f"/v1/integrations/{integration['id']}/runs", json={})
    return answer.json().get("code", answer.status_code)


async def test_no_license_no_run(client: Client, integration: dict[str, Any], grant: Any) -> None:
    """Where the license has ended or was revoked no run starts and LICENSE_INACTIVE says why; renewed, one does."""
    past = (datetime.now(UTC) - DAY).isoformat()
    one = await grant(valid_from=(datetime.now(UTC) - 2 * DAY).isoformat(), valid_until=past)
    assert one["state"] == "expired"
    assert await _start(client, integration) == Code.LICENSE_INACTIVE
    renewed = await client.patch(f"/v1/licenses/{one['id']}", json={"valid_until": None})
    assert renewed.json()["state"] == "active"
    assert await _start(client, integration) == 202
    revoked = await client.patch(f"/v1/licenses/{one['id']}", json={"revoked": True})
    assert (revoked.json()["state"], revoked.status_code) == ("revoked", 200)
    refused = await client.patch(f"/v1/licenses/{one['id']}", json={"valid_until": None})
    assert refused.json()["code"] == Code.REQUEST_INVALID


async def test_a_run_ends_though_its_license_did(
    client: Client, integration: dict[str, Any], grant: Any, run_id: str, hear: Hear
) -> None:
    """A run that has begun ends as any other after its license was revoked; only the next one is refused."""
    one = await grant()
    await client.patch(f"/v1/licenses/{one['id']}", json={"revoked": True})
    about: dict[str, Any] = {"run_id": run_id, "integration_id": integration["id"], "at": datetime.now(UTC)}
    await hear(
        Claimed(attempt=1, worker="w", fetch_id="a", **about),
        Applied(attempt=1, fetch_id="a", apply=1, collections={}, students=0, teachers=0, classes=0, **about),
    )
    assert (await client.get(f"/v1/runs/{run_id}")).json()["state"] == "succeeded"
    assert await _start(client, integration) == Code.LICENSE_INACTIVE


async def test_what_was_left_out_is_made_up_for(
    client: Client, organization_id: str, grant: Any, database: Database, wanted: Callable[..., dict[str, Any]]
) -> None:
    """A renewal wakes exactly the integrations whose slots were left out without a license."""
    one = await grant(
        valid_from=(datetime.now(UTC) - 2 * DAY).isoformat(), valid_until=(datetime.now(UTC) - DAY).isoformat()
    )
    ids = []
    for owed in (0, 3):
        body = wanted(organization_id, schedule={"kind": "nightly", "at": "02:00"})
        ids.append((await client.post("/v1/integrations", json=body)).raise_for_status().json()["id"])
        await database.fetch(
            "UPDATE integration SET slots_owed = $2, slots_owed_code = $3 WHERE id = $1",
            ids[-1],
            owed,
            Code.LICENSE_INACTIVE.value if owed else None,
        )
    await client.patch(f"/v1/licenses/{one['id']}", json={"valid_until": None})
    due = await database.fetch("SELECT id FROM integration WHERE next_slot_at <= now()")
    assert [str(row["id"]) for row in due] == [ids[1]]


async def test_a_license_that_begins_later_wakes_at_its_beginning(
    integration: dict[str, Any], grant: Any, database: Database
) -> None:
    """The beginning of a license is followed once, by whichever worker comes to it."""
    await grant(valid_from=(datetime.now(UTC) - 2 * DAY).isoformat(), valid_until=(datetime.now(UTC) - DAY).isoformat())
    later = await grant(valid_from=(datetime.now(UTC) + DAY).isoformat())
    assert later["state"] == "upcoming"

    async def follow() -> int:
        return await database.transact(lambda one: licensing.begin_due(one, 10, required=False))

    await database.fetch(
        "UPDATE integration SET schedule = $2, next_slot_at = now() + interval '1 day', slots_owed = 1,"
        " slots_owed_code = $3 WHERE id = $1",
        integration["id"],
        {"kind": "nightly", "at": "02:00"},
        Code.LICENSE_INACTIVE.value,
    )
    assert await follow() == 0
    await database.fetch("UPDATE license SET valid_from = now() WHERE id = $1", later["id"])
    assert [await follow(), await follow()] == [1, 0]
    assert await database.fetchval("SELECT count(*) FROM integration WHERE next_slot_at <= now()") == 1


async def test_who_may_license(
    client: Client, organization_id: str, product_id: str, grant: Any, issuer: TestIssuer
) -> None:
    """Nobody licenses themselves: giving takes a token bound to no organization; each sees its own licenses only."""
    await grant()
    bound = {"Authorization": f"Bearer {issuer.token(['admin'], organization_id=organization_id)}"}
    body = {"product_id": product_id, "organization_id": organization_id}
    refused = await client.post("/v1/licenses", json=body, headers=bound)
    assert (refused.status_code, refused.json()["code"]) == (403, Code.SCOPE_MISSING)
    other = {"Authorization": f"Bearer {issuer.token(['integrations.read'], organization_id='0' * 32)}"}
    for path in ("/v1/licenses", "/v1/products"):
        seen = [len((await client.get(path, headers=headers)).json()["items"]) for headers in (bound, other)]
        assert seen == [1, 0], path
    assert (await client.post("/v1/licenses", json=body, headers=other)).status_code == 403


@pytest.mark.parametrize(
    "fields",
    [
        {"valid_from": "2026-09-02T00:00:00Z", "valid_until": "2026-09-02T00:00:00Z"},
        {"valid_until": "2020-01-01T00:00:00Z"},
        {"valid_from": "2026-09-02T00:00:00"},
        {"valid_until": "9999-12-31T23:59:59-12:00"},
        {"valid_till": None},
    ],
)
async def test_licenses_that_are_none(
    client: Client, organization_id: str, product_id: str, fields: dict[str, Any]
) -> None:
    """A license that ends before it begins, or at no moment there is, is refused."""
    body = {"product_id": product_id, "organization_id": organization_id, **fields}
    answer = await client.post("/v1/licenses", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, Code.REQUEST_INVALID)


async def test_licenses_of_nobody(client: Client, organization_id: str, product_id: str, unknown_id: str) -> None:
    """Unknown products, organizations and licenses are not found."""
    for body in (
        {"product_id": unknown_id, "organization_id": organization_id},
        {"product_id": product_id, "organization_id": unknown_id},
    ):
        assert (await client.post("/v1/licenses", json=body)).status_code == 404
    assert (await client.patch(f"/v1/licenses/{unknown_id}", json={"revoked": True})).status_code == 404
