"""Alerts on their way: signed, in order, tried again for a day, to those who want to hear of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from homeroom import webhooks
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.testing.receivers import Mailbox, receiving, receiving_mail
from homeroom.testing.tokens import TestIssuer
from homeroom.webhooks import NotDelivered, Webhooks
from sync_scheduler import deliveries
from sync_scheduler.alerting import Alerting
from sync_scheduler.beginnings import Terms
from sync_scheduler.deliveries import Deliveries
from sync_scheduler.mail import Mail, check_address
from sync_scheduler.settings import ApiSettings

Client = httpx2.AsyncClient
KEY = "a key for signing that nobody guesses"


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    """A mail server."""
    async with receiving_mail() as box:
        yield box


@pytest.fixture
async def settings(settings: ApiSettings, mailbox: Mailbox) -> ApiSettings:
    """An installation that signs webhooks, sends mail and allows loopback."""
    return settings.model_copy(
        update={
            "alert_signing_key": SecretStr(KEY),
            "allow_private_endpoints": True,
            "smtp_host": "127.0.0.1",
            "smtp_port": mailbox.port,
            "smtp_from": "homeroom@example.org",
            "smtp_tls": "none",
        }
    )


@pytest.fixture
def alerting(database: Database) -> Alerting:
    """The rounds of a worker, made when told."""
    return Alerting(database, Terms(), origin="http://issuer.test")


@pytest.fixture
async def deliver(database: Database, settings: ApiSettings) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Delivers all that is due now."""
    async with settings.mail.closing() as mail, Webhooks.open(allow_private=True) as sender:
        work = Deliveries(database, sender, mail, signing_key=KEY)

        async def deliver() -> None:
            while await work.send_due():
                await work.finish()

        yield deliver


@pytest.fixture
def add_target(client: Client, organization_id: str) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Adds a target of the district."""

    async def add(**fields: Any) -> dict[str, Any]:
        body = {"organization_id": organization_id, "kind": "webhook", **fields}
        found: dict[str, Any] = (await client.post("/v1/alert-targets", json=body)).raise_for_status().json()
        return found

    return add


async def _list_alerts(client: Client, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/v1/alerts", params=query)).raise_for_status().json()["items"]
    return found


# ── to receivers ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_signed_webhook(
    client: Client,
    alerting: Alerting,
    deliver: Callable[[], Awaitable[None]],
    add_target: Callable[..., Awaitable[dict[str, Any]]],
    end_run: Callable[..., Awaitable[str]],
) -> None:
    """What arrives verifies with the secret that was shown once, says what to do, and is listed as delivered."""
    async with receiving() as receiver:
        target = await add_target(url=receiver.url)
        run_id = await end_run(Code.AUTH_INVALID)
        await alerting.look()
        await deliver()
    [(headers, body)] = receiver.requests
    Webhook(target["secret"]).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(target["secret"]).verify(body + b" ", headers)
    data = json.loads(body)["data"]
    assert (data["code"], data["run_id"]) == ("AUTH_INVALID", run_id)
    [alert] = await _list_alerts(client)
    assert headers["webhook-id"] == alert["id"] == data["alert_id"]
    [delivery] = alert["deliveries"]
    assert (delivery["state"], delivery["tries"], delivery["target_id"]) == ("delivered", 1, target["id"])
    listed = (await client.get("/v1/alert-targets")).json()["items"]
    assert [one["id"] for one in listed] == [target["id"]]
    assert "secret" not in listed[0]


async def test_rotation(
    client: Client,
    deliver: Callable[[], Awaitable[None]],
    add_target: Callable[..., Awaitable[dict[str, Any]]],
    database: Database,
) -> None:
    """For a day after a rotation both secrets verify, then only the new one; none of them is in the database."""
    async with receiving() as receiver:
        target = await add_target(url=receiver.url)
        path = f"/v1/alert-targets/{target['id']}"
        rotated = (await client.post(f"{path}/rotate")).raise_for_status().json()
        await client.post(f"{path}/test")
        await deliver()
        await database.fetch("UPDATE alert_target SET rotated_at = now() - interval '24 hours'")
        sent = (await client.post(f"{path}/test")).raise_for_status().json()
        await deliver()
    for secret in (target["secret"], rotated["secret"]):
        Webhook(secret).verify(receiver.requests[0][1], receiver.requests[0][0])
    Webhook(rotated["secret"]).verify(receiver.requests[1][1], receiver.requests[1][0])
    with pytest.raises(WebhookVerificationError):
        Webhook(target["secret"]).verify(receiver.requests[1][1], receiver.requests[1][0])
    alert = (await client.get(f"/v1/alerts/{sent['alert_id']}")).raise_for_status().json()
    assert (alert["kind"], alert["deliveries"][0]["state"]) == ("test", "delivered")
    kept = await database.fetch("SELECT alert_target::text AS text FROM alert_target")
    assert not any(secret[6:] in row["text"] for row in kept for secret in (target["secret"], rotated["secret"]))


async def test_one_dead_endpoint_delays_nobody(
    client: Client,
    deliver: Callable[[], Awaitable[None]],
    add_target: Callable[..., Awaitable[dict[str, Any]]],
    alerting: Alerting,
    end_run: Callable[..., Awaitable[str]],
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While one endpoint never answers the others get everything in order, and the dead one's next alert waits."""
    monkeypatch.setattr(webhooks, "DELIVERY_SECONDS", 0.3)
    async with receiving(wait=5) as dead, receiving() as one, receiving() as two:
        ids = [(await add_target(url=receiver.url))["id"] for receiver in (dead, one, two)]
        for code in (Code.AUTH_INVALID, None):
            await end_run(code)
            await alerting.look()
        await deliver()
        assert one.kinds == two.kinds == ["integration.failing", "integration.recovered"]
        assert dead.kinds == ["integration.failing"]
        dead.wait = 0
        await database.fetch("UPDATE alert_delivery SET due_at = now() WHERE state = 'pending'")
        await deliver()
    assert dead.kinds == ["integration.failing", "integration.failing", "integration.recovered"]
    assert dead.requests[0][0]["webhook-id"] == dead.requests[1][0]["webhook-id"]
    assert dead.requests[0][1] == dead.requests[1][1]
    tries = [
        [each["tries"] for each in alert["deliveries"] if each["target_id"] == ids[0]]
        for alert in await _list_alerts(client)
    ]
    assert tries == [[1], [2]]


async def test_failures_are_shown_and_end(
    client: Client,
    deliver: Callable[[], Awaitable[None]],
    add_target: Callable[..., Awaitable[dict[str, Any]]],
    database: Database,
) -> None:
    """A redirection is not followed, an error is tried again for a day, and what is gone is given up, all visibly."""
    async with receiving(status=307) as other, receiving(status=302) as moved, receiving(status=410) as gone:
        moved.extra = f"Location: {other.url}\r\n".encode()
        for receiver in (moved, gone):
            target = await add_target(url=receiver.url)
            await client.post(f"/v1/alert-targets/{target['id']}/test")
        await deliver()
        found = {one["problem"]: one["state"] for alert in await _list_alerts(client) for one in alert["deliveries"]}
        assert found == {
            "The endpoint answered 302; redirections are not followed.": "pending",
            "The endpoint answered 410.": "given_up",
        }
        await database.fetch("UPDATE alert SET at = now() - interval '1 day'")
        await database.fetch("UPDATE alert_delivery SET due_at = now() WHERE state = 'pending'")
        await deliver()
    assert other.requests == []
    states = {one["state"] for alert in await _list_alerts(client) for one in alert["deliveries"]}
    assert states == {"given_up"}


async def test_a_lost_worker_is_followed_by_another(
    client: Client,
    deliver: Callable[[], Awaitable[None]],
    add_target: Callable[..., Awaitable[dict[str, Any]]],
    database: Database,
) -> None:
    """What a worker took and never finished is delivered by another one once its time is over, and not before."""
    async with receiving() as receiver:
        target = await add_target(url=receiver.url)
        await client.post(f"/v1/alert-targets/{target['id']}/test")
        mails = False
        taken = await database.fetch(deliveries.SQL["deliveries_due"], 10, timedelta(seconds=90), mails)
        assert len(taken) == 1
        await deliver()
        assert receiver.requests == []
        await database.fetch("UPDATE alert_delivery SET due_at = now()")
        await deliver()
    assert len(receiver.requests) == 1


async def test_mail(
    deliver: Callable[[], Awaitable[None]],
    add_target: Callable[..., Awaitable[dict[str, Any]]],
    alerting: Alerting,
    end_run: Callable[..., Awaitable[str]],
    mailbox: Mailbox,
) -> None:
    """An alert comes by e-mail as plain text with what happened and what to do."""
    await add_target(kind="email", address="ann@example.org")
    await end_run(Code.AUTH_INVALID)
    await alerting.look()
    await deliver()
    [(to, raw)] = mailbox.mails
    mail = message_from_bytes(raw, policy=default)
    assert (to, mail["To"], mail["From"]) == ("ann@example.org", "ann@example.org", "homeroom@example.org")
    assert (mail["Subject"], mail.get_content_type()) == ("[Homeroom] Springfield: Syncs fail", "text/plain")
    assert Code.AUTH_INVALID.entry.next_step in " ".join(mail.get_content().split())


async def test_mail_that_is_refused(mailbox: Mailbox) -> None:
    """A mailbox that does not exist is given up at once, a server that is busy is not; neither repeats the address."""
    mail = Mail("127.0.0.1", mailbox.port, "homeroom@example.org", tls="none")
    for refusal, for_good in ((b"550 no ann@example.org\r\n", True), (b"451 later\r\n", False)):
        mailbox.refuse = refusal
        with pytest.raises(NotDelivered) as caught:
            await mail.send("ann@example.org", "s", "t", message_id="1", now=datetime.now(UTC))
        assert (caught.value.for_good, "ann" in caught.value.why) == (for_good, False)
    with pytest.raises(NotDelivered, match="No mail server"):
        await Mail("", 25, "a@b.example").send("ann@example.org", "s", "t", message_id="1", now=datetime.now(UTC))


@pytest.mark.parametrize(
    "text", ["ann", "a@b", "ann@example.org\nBcc: all@example.org", "a b@example.org", "<a@b.org>"]
)
def test_addresses_that_are_none(text: str) -> None:
    """What is no plain e-mail address never becomes a header."""
    with pytest.raises(ValueError, match="no e-mail address"):
        check_address(text)


# ── targets ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_who_hears_what(
    client: Client,
    alerting: Alerting,
    deliver: Callable[[], Awaitable[None]],
    add_target: Callable[..., Awaitable[dict[str, Any]]],
    end_run: Callable[..., Awaitable[str]],
    integration: dict[str, Any],
    wanted: Callable[..., dict[str, Any]],
) -> None:
    """Targets of all, of the organization and of the integration hear of it; others, and deleted ones, don't."""
    other = (await client.post("/v1/organizations", json={"name": "Shelbyville"})).json()["id"]
    another = (await client.post("/v1/integrations", json=wanted(integration["organization_id"]))).json()["id"]
    async with receiving() as receiver:
        for fields in (
            {"organization_id": None},
            {},
            {"integration_id": integration["id"]},
            {"integration_id": another},
            {"organization_id": other},
        ):
            target = await add_target(url=f"{receiver.url}/{len(fields)}", **fields)
        gone = await add_target(url=receiver.url)
        assert (await client.delete(f"/v1/alert-targets/{gone['id']}")).status_code == 204
        await end_run(Code.AUTH_INVALID)
        await alerting.look()
        await deliver()
    assert len(receiver.requests) == 3
    assert (await client.delete(f"/v1/alert-targets/{gone['id']}")).status_code == 404
    assert target["organization_id"] == other


async def test_targets_that_are_none(client: Client, organization_id: str, unknown_id: str, issuer: TestIssuer) -> None:
    """What is neither a webhook nor an e-mail target, or is somebody else's, is refused; so is one for all from one."""
    hook = {"organization_id": organization_id, "kind": "webhook", "url": "https://hooks.example.org/a"}
    for wrong in (
        {"url": None},
        {"address": "ann@example.org"},
        {"kind": "email"},
        {"kind": "email", "url": None, "address": "ann@example.org\nBcc: b@c.org"},
        {"organization_id": unknown_id},
        {"organization_id": None, "integration_id": unknown_id},
    ):
        answer = await client.post("/v1/alert-targets", json={**hook, **wrong})
        assert (answer.status_code, answer.json()["code"]) == (422, Code.REQUEST_INVALID), wrong
    wrong_address = await client.post("/v1/alert-targets", json={**hook, "url": "https://u:p@hooks.example.org/"})
    assert wrong_address.json()["code"] == Code.ENDPOINT_REFUSED
    bound = {"Authorization": f"Bearer {issuer.token(['admin'], organization_id=organization_id)}"}
    for_all = await client.post("/v1/alert-targets", json={**hook, "organization_id": None}, headers=bound)
    assert for_all.json()["code"] == Code.SCOPE_MISSING
    stranger = {"Authorization": f"Bearer {issuer.token(['admin'], organization_id=unknown_id)}"}
    mine = (await client.post("/v1/alert-targets", json=hook, headers=bound)).raise_for_status().json()["id"]
    assert (await client.get("/v1/alert-targets", headers=stranger)).json()["items"] == []
    for call in (f"{mine}/rotate", f"{mine}/test"):
        assert (await client.post(f"/v1/alert-targets/{call}", headers=stranger)).status_code == 404
    assert (await client.delete(f"/v1/alert-targets/{mine}", headers=stranger)).status_code == 404
    assert (await client.get("/v1/alerts", headers=stranger)).json()["items"] == []
