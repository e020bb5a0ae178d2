"""Alerts from runs: judged once by any number of workers, silent where somebody wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from msgspec.structs import replace

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import ConnectionWarning, SubscriptionDisabled
from sync_scheduler.alerting import Alerting
from sync_scheduler.beginnings import Terms

Client = httpx2.AsyncClient


@pytest.fixture
def alerting(database: Database) -> Alerting:
    """The rounds of a worker, made when told."""
    return Alerting(database, Terms(), origin="http://issuer.test")


async def _list_alerts(client: Client, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/v1/alerts", params=query)).raise_for_status().json()["items"]
    return found


async def test_each_change_is_told_once(
    client: Client, alerting: Alerting, database: Database, end_run: Callable[..., Awaitable[str]]
) -> None:
    """Two workers and repeated rounds tell a failure once, its repetition not at all, and the recovery once."""
    other = Alerting(database, Terms(), origin="http://issuer.test")
    for code in (Code.AUTH_INVALID, Code.PROV_TLS, None, None):
        await end_run(code)
        await asyncio.gather(*(one.look() for one in (alerting, other) * 3))
    told = [(one["kind"], one["code"]) for one in await _list_alerts(client)]
    assert told == [("recovered", None), ("failing", "AUTH_INVALID")]


async def test_attempts_and_cancelled_runs_are_not_told(
    client: Client, alerting: Alerting, end_run: Callable[..., Awaitable[str]]
) -> None:
    """An attempt that is followed by another, and a run that a person cancels, are nobody's alert."""
    run_id = await end_run(Code.PROV_5XX, again=True)
    await alerting.look()
    await client.post(f"/v1/runs/{run_id}/cancel")
    await alerting.look()
    assert (await client.get(f"/v1/runs/{run_id}")).json()["state"] == "cancelled"
    assert await _list_alerts(client) == []


async def test_mutes(
    client: Client,
    alerting: Alerting,
    database: Database,
    integration: dict[str, Any],
    end_run: Callable[..., Awaitable[str]],
) -> None:
    """While an integration is muted nothing is told; afterwards what is different is, once."""
    path = f"/v1/integrations/{integration['id']}/mute"
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    muted = (await client.put(path, json={"muted": True, "until": until})).raise_for_status().json()
    assert (muted["muted"], muted["health"]) == (True, "ok")
    await end_run(Code.AUTH_INVALID)
    await alerting.look()
    assert await _list_alerts(client) == []
    await database.fetch("UPDATE watch SET muted_until = now(), look_at = now()")
    await alerting.look()
    await alerting.look()
    assert [one["kind"] for one in await _list_alerts(client)] == ["failing"]
    assert (await client.get(path)).json() | {"since": 0} == muted | {
        "muted": False,
        "until": None,
        "health": "failing",
        "since": 0,
    }
    for body in ({"muted": False, "until": until}, {"muted": True, "until": "2020-01-01T00:00:00Z"}):
        assert (await client.put(path, json=body)).json()["code"] == Code.REQUEST_INVALID


async def test_stale_integrations(
    client: Client, alerting: Alerting, database: Database, integration: dict[str, Any], unknown_id: str
) -> None:
    """Without a success for longer than two slots it is told once, with the license where that is why."""
    await database.fetch(
        "UPDATE integration SET schedule = $2, schedule_since = now() - interval '4 days',"
        " created_at = now() - interval '4 days', updated_at = now() - interval '4 days' WHERE id = $1",
        integration["id"],
        {"kind": "nightly", "at": "02:00"},
    )
    product = (await client.post("/v1/products", json={"name": "Reading"})).json()["id"]
    body = {"product_id": product, "organization_id": integration["organization_id"]}
    given = (await client.post("/v1/licenses", json=body)).raise_for_status().json()
    await client.patch(f"/v1/licenses/{given['id']}", json={"revoked": True})
    await alerting.tidy()  # nobody ever ran it, so nobody said anything of it yet
    await alerting.look()
    await database.fetch("UPDATE watch SET look_at = now()")
    await alerting.look()
    assert [(one["kind"], one["code"]) for one in await _list_alerts(client)] == [("stale", "LICENSE_INACTIVE")]
    assert await _list_alerts(client, integration_id=unknown_id) == []


async def test_holds_are_told_and_reminded_of(
    client: Client, alerting: Alerting, database: Database, end_run: Callable[..., Awaitable[str]]
) -> None:
    """A hold is told when it begins and once more a day before it expires; thrown away, it goes without a word."""
    run_id = await end_run()
    await alerting.look()

    async def hold(lasts: timedelta) -> None:
        now = datetime.now(UTC)
        waiting = {"at": (now - timedelta(days=6)).isoformat(), "expires_at": (now + lasts).isoformat()}
        await database.fetch(
            "UPDATE run SET state = 'held', code = $2, hold = $3, finished_at = now() WHERE id = $1",
            UUID(run_id),
            Code.GUARD_DELETE_HOLD.value,
            waiting,
        )
        await database.fetch("UPDATE watch SET look_at = now()")

    await hold(timedelta(days=5))
    await alerting.look()
    assert await database.fetchval("SELECT look_at < now() + interval '2 hours' FROM watch")
    await hold(timedelta(hours=20))
    for _ in range(3):
        await alerting.look()
        await database.fetch("UPDATE watch SET look_at = now()")
    told = await _list_alerts(client)
    assert [(one["kind"], one["code"]) for one in told] == [
        ("hold_reminder", "GUARD_DELETE_HOLD"),
        ("held", "GUARD_DELETE_HOLD"),
    ]
    await database.fetch("UPDATE run SET state = 'cancelled', code = 'HOLD_EXPIRED', hold = NULL")
    await database.fetch("UPDATE watch SET look_at = now()")
    await alerting.look()
    assert await database.fetchval("SELECT state FROM watch") == "ok"
    assert len(await _list_alerts(client)) == 2


async def test_deleted_integrations_are_not_watched(
    client: Client, alerting: Alerting, integration: dict[str, Any], end_run: Callable[..., Awaitable[str]]
) -> None:
    """After an integration was deleted nothing is told of it."""
    await end_run(Code.AUTH_INVALID)
    await client.delete(f"/v1/integrations/{integration['id']}")
    await alerting.look()
    assert await _list_alerts(client) == []


async def test_targets_without_the_means(client: Client, organization_id: str) -> None:
    """Without a signing key there are no webhooks and without a mail server no e-mails, and a sentence says why."""
    for fields, means in (
        ({"kind": "webhook", "url": "https://hooks.example.org/"}, "HOMEROOM_ALERT_SIGNING_KEY"),
        ({"kind": "email", "address": "ann@example.org"}, "HOMEROOM_SMTP_HOST"),
    ):
        answer = await client.post("/v1/alert-targets", json={"organization_id": organization_id, **fields})
        assert (answer.status_code, answer.json()["code"]) == (422, Code.REQUEST_INVALID)
        assert means in answer.json()["errors"][0]["problem"]


async def test_a_warning_of_a_connection_is_told_once(
    client: Client, hear: Callable[..., Awaitable[None]], organization_id: str
) -> None:
    """That a certificate runs out reaches people as an alert with a next step and a link, however often it is said."""
    said = ConnectionWarning(
        alert_id=str(uuid4()),
        connection_id=str(uuid4()),
        organization_id=organization_id,
        code=Code.CERTIFICATE_EXPIRES,
        at=datetime.now(UTC),
    )
    await hear(said)
    await hear(said, replace(said, connection_id="no id of ours"))
    [alert] = await _list_alerts(client)
    assert (alert["kind"], alert["code"]) == ("connection_warning", "CERTIFICATE_EXPIRES")


async def test_a_disabled_subscription_is_told_once(
    client: Client, hear: Callable[..., Awaitable[None]], organization_id: str
) -> None:
    """That a webhook is told nothing any more reaches people as an alert with a next step, however often it is said."""
    said = SubscriptionDisabled(
        alert_id=str(uuid4()),
        subscription_id=str(uuid4()),
        product_id=str(uuid4()),
        organization_id=organization_id,
        code=Code.SUBSCRIPTION_FAILING,
        at=datetime.now(UTC),
    )
    await hear(said)
    await hear(said, replace(said, alert_id="no id of ours"))
    [alert] = await _list_alerts(client)
    assert (alert["kind"], alert["code"]) == ("subscription_disabled", "SUBSCRIPTION_FAILING")
