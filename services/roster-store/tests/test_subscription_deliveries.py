"""Events on their way to subscriptions: whole, in order, signed, tried again, and never at another's cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any
from uuid import UUID

import httpx2
import pytest
from licensed import announce, license_product
from msgspec import structs
from played_gateway import ROSTER, Gateway, student
from standardwebhooks import Webhook, WebhookVerificationError
from subscribed import Post, Topics, events_of, ids_of

from homeroom import webhooks
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.events import LICENSE_ENDED, LICENSE_STARTED
from homeroom.messages import SYNC_FACTS, OrganizationState
from homeroom.secrets import SealingKeys, generate_key
from homeroom.testing.receivers import Receiver, receiving
from homeroom.testing.tokens import TestIssuer, calling
from homeroom.webhooks import Webhooks
from roster_store.app import make_app
from roster_store.feed import Cursor
from roster_store.settings import StoreSettings
from roster_store.sights import Rosters
from roster_store.subscriptions import deliveries
from roster_store.subscriptions.bodies import RedeliveryBody, SubscriptionChanges
from roster_store.subscriptions.deliveries import Deliveries
from roster_store.subscriptions.outlets import Outlets
from roster_store.subscriptions.registry import Registry
from roster_store.subscriptions.signing import open_secrets, reseal_secrets
from roster_store.tables import SQL


@pytest.fixture
async def post(database: Database, rosters: Rosters, settings: StoreSettings) -> AsyncIterator[Post]:
    """A worker on this machine."""
    keys, topics = settings.sealing_keys, Topics()
    async with Webhooks.open(allow_private=True) as sender:
        outlets = Outlets(sender, topics, keys)  # type: ignore[arg-type]  # all of the bus that is used
        registry = Registry(database, keys, allow_private=True)
        yield Post(database, registry, Deliveries(database, rosters, outlets), topics)


@pytest.fixture
async def district(gateway: Gateway, database: Database) -> dict[str, Any]:
    """Whose subscription it is."""
    await announce(database, OrganizationState(id=gateway.organization_id, name="Ekeby"))
    return {"organization_id": gateway.organization_id}


async def test_whole_in_order_and_signed(post: Post, gateway: Gateway, district: dict[str, Any]) -> None:
    """A new subscription gets all there is in batches that verify, then what changes, each event once."""
    await gateway.sync(ROSTER)
    async with receiving() as receiver:
        subscription, secret = await post.subscribe(url=receiver.url, batch=4, **district)
        await post.deliver()
        first = len(receiver.requests)
        await gateway.sync({"users": [student(1, "Milena")]})
        await post.deliver()
    for headers, body in receiver.requests:
        Webhook(secret).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(receiver.requests[0][1] + b" ", receiver.requests[0][0])
    events = events_of(receiver)
    assert [event["type"].split(".")[1] for event in events[:9]] == [
        "org", "class", *["user"] * 3, *["enrollment"] * 3, "sync",
    ]  # fmt: skip
    assert len({event["id"] for event in events}) == len(events)
    assert [event["subject"] for event in events[9:10]] == ["users/user-1"]
    assert events[9]["data"]["record"]["givenName"] == "Milena"
    assert first == 3
    assert len(set(ids_of(receiver))) == len(receiver.requests)
    row = await post.look(subscription)
    assert (row["delivered"], row["steps"], row["failures"]) == (len(events), 0, 0)
    body = json.loads(receiver.requests[-1][1])
    assert body["type"] == "homeroom.events.v1"
    assert body["data"]["cursor"] <= row["cursor"]
    assert body["timestamp"] == events[-1]["time"]


async def test_types_and_what_is_far(
    post: Post, gateway: Gateway, neighbour: Gateway, district: dict[str, Any]
) -> None:
    """Only the types that were asked for come, and steps that concern others are passed by without a look."""
    async with receiving() as receiver:
        types = ["homeroom.org.added.v1"]
        await gateway.sync(ROSTER)
        subscription, _ = await post.subscribe(url=receiver.url, types=types, **district)
        await post.deliver()
        await neighbour.sync(ROSTER)
        newest = await post.database.fetchval(SQL["find_feed_end"])
        assert await post.deliveries.begin_due() == 0
        row = await post.look(subscription)
    assert [event["type"] for event in events_of(receiver)] == types
    assert (row["cursor"], row["position"]) == (str(Cursor(newest)), newest)


async def test_a_batch_that_was_refused_comes_again(
    post: Post, gateway: Gateway, district: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was refused, or was done without an answer in time, comes again with its id, before anything newer."""
    monkeypatch.setattr(webhooks, "DELIVERY_SECONDS", 0.2)
    await gateway.sync(ROSTER)
    async with receiving(status=503, extra=b"Retry-After: 40\r\n") as receiver:
        subscription, _ = await post.subscribe(url=receiver.url, **district)
        await post.deliver()
        row = await post.look(subscription)
        assert (row["failures"], row["last_status"], row["delivered"]) == (1, 503, 0)
        assert timedelta(seconds=35) < row["due_at"] - row["last_try_at"] < timedelta(seconds=45)
        await gateway.sync({"users": [student(4)]})
        await post.deliver()
        assert len(receiver.requests) == 1
        receiver.wait, receiver.status = 0.4, 204
        await post.hurry()
        await post.deliver()
        assert (await post.look(subscription))["last_problem"] == "Nothing was answered within 0.2 seconds."
        receiver.wait = 0
        await post.hurry()
        await post.deliver()
    assert len(set(ids_of(receiver)[:3])) == 1
    assert len({body for _, body in receiver.requests[:3]}) == 1
    assert [event["subject"] for event in events_of(receiver)][-2] == "users/user-4"
    row = await post.look(subscription)
    assert (row["failures"], row["failing_since"], row["last_problem"], row["steps"]) == (0, None, None, 0)


async def test_disabled_and_enabled(post: Post, gateway: Gateway, district: dict[str, Any]) -> None:
    """An endpoint that is gone, or has failed for five days, is asked no more until it is enabled; nothing is lost."""
    await gateway.sync(ROSTER)
    async with receiving(status=410) as receiver:
        subscription, _ = await post.subscribe(url=receiver.url, **district)
        await post.deliver()
        row = await post.look(subscription)
        assert (row["state"], row["disabled_code"], len(receiver.requests)) == ("disabled", Code.SUBSCRIPTION_GONE, 1)
        for _ in range(2):
            await post.deliveries.alert_disabled()
        [told] = [json.loads(message.value) for message in post.topics.published if message.topic == SYNC_FACTS.name]
        assert (told["subscriptionId"], told["code"]) == (str(row["id"]), Code.SUBSCRIPTION_GONE)
        receiver.status = 500
        await post.registry.enable(subscription, post.platform)
        await post.deliver()
        assert (await post.look(subscription))["state"] == "active"
        await post.database.fetch("UPDATE subscription SET failing_since = now() - interval '5 days'")
        await post.hurry()
        await post.deliver()
        row = await post.look(subscription)
        assert (row["state"], row["disabled_code"]) == ("disabled", Code.SUBSCRIPTION_FAILING)
        await gateway.sync({"users": [student(4)]})
        await post.hurry()
        await post.deliver()
        assert len(receiver.requests) == 3
        receiver.status = 200
        await post.registry.enable(subscription, post.platform)
        await post.deliver()
    assert len({event["id"] for event in events_of(receiver)}) == 9 + 2
    assert (await post.look(subscription))["steps"] == 0


async def test_one_worker_at_a_time_and_another_after_it(
    post: Post, gateway: Gateway, district: dict[str, Any]
) -> None:
    """What a worker has taken nobody else touches, until its lease is over; then it counts for nothing any more."""
    await gateway.sync(ROSTER)
    async with receiving() as receiver:
        subscription, _ = await post.subscribe(url=receiver.url, **district)
        sluggish = False
        [taken] = await post.database.fetch(SQL["claim_subscriptions"], 10, sluggish, deliveries.LEASE)
        await post.deliver()
        assert receiver.requests == []
        await post.hurry()
        await post.deliver()
        assert len(receiver.requests) == 1
        await post.deliveries._work(taken)
    assert len(receiver.requests) == 1
    assert (await post.look(subscription))["delivered"] == 9


async def test_terms_that_change_meanwhile(post: Post, gateway: Gateway, district: dict[str, Any]) -> None:
    """What was on its way to the old address does not count: the new one gets it all."""
    await gateway.sync(ROSTER)
    async with receiving(wait=0.3) as old, receiving() as new:
        subscription, _ = await post.subscribe(url=old.url, **district)
        await post.deliveries.begin_due()
        while not old.requests:
            await asyncio.sleep(0.01)
        await post.registry.change(subscription, SubscriptionChanges(url=new.url), post.platform)
        await post.deliver()
    assert len(events_of(new)) == 9
    assert (await post.look(subscription))["delivered"] == 9


async def test_once_more(post: Post, gateway: Gateway, district: dict[str, Any]) -> None:
    """What is asked for again comes again, under another id so that nobody takes it for a repeat."""
    await gateway.sync(ROSTER)
    async with receiving() as receiver:
        subscription, _ = await post.subscribe(url=receiver.url, **district)
        await post.deliver()
        await post.registry.redeliver(subscription, RedeliveryBody(start="beginning"), post.platform)
        await post.deliver()
    first, second = events_of(receiver)[:9], events_of(receiver)[9:]
    assert first == second
    assert len(set(ids_of(receiver))) == 2


async def test_two_secrets_for_a_day(post: Post, gateway: Gateway, district: dict[str, Any]) -> None:
    """For a day after a rotation both secrets verify, then only the new one."""
    async with receiving() as receiver:
        subscription, old = await post.subscribe(url=receiver.url, **district)
        _, new = await post.registry.rotate(subscription, post.platform)
        await gateway.sync(ROSTER)
        await post.deliver()
        await post.database.fetch("UPDATE subscription SET rotated_at = now() - interval '24 hours'")
        await gateway.sync({"users": [student(4)]})
        await post.deliver()
    first, second = receiver.requests
    for secret in (old, new):
        Webhook(secret).verify(first[1], first[0])
    Webhook(new).verify(second[1], second[0])
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(second[1], second[0])


async def test_a_key_that_is_not_there(post: Post, gateway: Gateway, district: dict[str, Any]) -> None:
    """Where the key of the secrets was lost nothing is sent unsigned; a new secret puts it right."""
    await gateway.sync(ROSTER)
    async with receiving() as receiver:
        subscription, _ = await post.subscribe(url=receiver.url, **district)
        sealed = Registry(post.database, SealingKeys(generate_key()[0]), allow_private=True)
        await sealed.rotate(subscription, post.platform)
        await post.deliver()
        assert receiver.requests == []
        assert "give it a new one" in (await post.look(subscription))["last_problem"]
        await post.registry.rotate(subscription, post.platform)
        await post.database.fetch("UPDATE subscription SET rotated_at = now() - interval '1 day'")
        await post.hurry()
        await post.deliver()
    assert len(receiver.requests) == 1


async def test_a_key_that_is_exchanged(
    post: Post, gateway: Gateway, district: dict[str, Any], settings: StoreSettings
) -> None:
    """A worker that holds both keys seals every secret to the new one, and then the old one is not needed any more."""
    await gateway.sync(ROSTER)
    new = generate_key()[0]
    subscription, first = await post.subscribe(url="https://reader.example.com/", **district)
    _, second = await post.registry.rotate(subscription, post.platform)
    both = SealingKeys(f"{new},{settings.store_key.get_secret_value()}")
    assert [await reseal_secrets(post.database, both) for _ in range(2)] == [1, 0]
    row = await post.look(subscription)
    assert open_secrets(SealingKeys(new), row, row["now"]) == [second, first]


async def test_what_a_product_is_told(post: Post, gateway: Gateway) -> None:
    """A product is told of its license before all else, and of its end, whatever types it asked for; then nothing."""
    await gateway.sync(ROSTER)
    granted = await license_product(post.database, gateway.organization_id)
    async with receiving() as receiver:
        types = ["homeroom.user.added.v1"]
        subscription, _ = await post.subscribe(url=receiver.url, product_id=granted.product_id, types=types)
        await post.deliver()
        told = [event["type"].removeprefix("homeroom.") for event in events_of(receiver)]
        assert told == ["license.started.v1", *["user.added.v1"] * 3]
        ended = structs.replace(granted, revoked_at=datetime.now(UTC))
        await announce(post.database, ended)
        await gateway.sync({"users": [student(4)]})
        await post.deliver()
    assert [event["type"] for event in events_of(receiver)[4:]] == [LICENSE_ENDED]
    assert (await post.look(subscription))["steps"] == 0


async def test_a_cursor_that_is_too_old(post: Post, gateway: Gateway, district: dict[str, Any]) -> None:
    """Where removals are forgotten a product begins anew, and an organization's subscription waits for somebody."""
    await gateway.sync(ROSTER)
    granted = await license_product(post.database, gateway.organization_id)
    async with receiving() as product, receiving() as organization:
        one, _ = await post.subscribe(url=product.url, product_id=granted.product_id)
        other, _ = await post.subscribe(url=organization.url, **district)
        await post.deliver()
        heard = len(events_of(product))
        await gateway.sync({}, {"enrollments": ["enrollment-2-1"], "users": ["user-2"]})
        newest = await post.database.fetchval(SQL["find_feed_end"])
        await post.database.fetch("INSERT INTO feed_horizon SELECT no, $1 FROM integration", newest)
        await post.deliver()
    assert [event["type"] for event in events_of(product)[heard : heard + 1]] == [LICENSE_STARTED]
    assert (await post.look(one))["steps"] == 0
    row = await post.look(other)
    assert (row["state"], row["disabled_code"]) == ("disabled", Code.CURSOR_EXPIRED)


async def test_a_topic_of_its_own(post: Post, gateway: Gateway) -> None:
    """A product's topic is made when it is first needed, and has every event as CloudEvents, keyed by integration."""
    await gateway.sync(ROSTER)
    product = UUID((await license_product(post.database, gateway.organization_id)).product_id)
    await post.subscribe(kind="kafka", product_id=product, batch=4)
    await post.deliver()
    assert {topic.name for topic in post.topics.made} == {f"product-events.{product}"}
    assert {(one.topic, one.key) for one in post.topics.published} == {
        (f"product-events.{product}", gateway.integration_id)
    }


# ── a worker at work ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def working(post: Post) -> AsyncIterator[None]:
    """The worker runs beside the test."""
    stop = asyncio.Event()
    task = asyncio.create_task(post.deliveries.run(stop))
    yield
    stop.set()
    await asyncio.wait_for(task, 15)


@pytest.mark.usefixtures("working")
async def test_a_test_answers_what_came_back(
    post: Post, database: Database, district: dict[str, Any], settings: StoreSettings
) -> None:
    """The test button says what the endpoint answered, also of a subscription that is disabled; it moves no cursor."""
    issuer = TestIssuer()
    headers = issuer.headers(["admin"])
    del database
    async with receiving() as receiver, calling(make_app(settings, issuer.verifier)) as client:
        subscription, secret = await post.subscribe(url=receiver.url, **district)
        await post.registry.change(subscription, SubscriptionChanges(enabled=False), post.platform)
        path = f"/v1/subscriptions/{subscription}/test"
        answered: httpx2.Response = await client.post(path, headers=headers)
        assert (answered.json()["delivered"], answered.json()["status"]) == (True, 204)
        receiver.status = 500
        refused = (await client.post(path, headers=headers)).json()
    assert refused == {"delivered": False, "status": 500, "seconds": None, "problem": "The endpoint answered 500."}
    Webhook(secret).verify(receiver.requests[0][1], receiver.requests[0][0])
    [event] = events_of(receiver)[:1]
    assert (event["type"], event["data"]) == ("homeroom.test.v1", {"subscription_id": str(subscription)})
    row = await post.look(subscription)
    assert (row["cursor"], row["failures"]) == (str(Cursor()), 0)


ENDPOINTS = 50


async def _time_rounds(gateway: Gateway, healthy: list[Receiver], first: int) -> list[float]:
    """Apply something a few times, and measure how long it takes until each healthy endpoint has it."""
    loop = asyncio.get_running_loop()
    took: list[float] = []
    for number in range(first, first + 3):
        began = {id(one): len(one.requests) for one in healthy}
        at = loop.time()
        await gateway.sync({"users": [student(number)]})
        at = max(at, loop.time())
        waiting = list(healthy)
        async with asyncio.timeout(20):
            while waiting:
                await asyncio.sleep(0.002)
                now = loop.time()
                took += [now - at for one in waiting if len(one.requests) > began[id(one)]]
                waiting = [one for one in waiting if len(one.requests) == began[id(one)]]
    return took


@pytest.mark.usefixtures("working")
async def test_a_dead_and_a_hanging_endpoint_delay_nobody(
    post: Post, gateway: Gateway, district: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one of fifty endpoints dead and one hanging, the others hear of a change as soon as with all well."""
    monkeypatch.setattr("roster_store.subscriptions.registry.MOST", ENDPOINTS)
    monkeypatch.setattr(webhooks, "DELIVERY_SECONDS", 3.0)
    await gateway.sync(ROSTER)
    async with AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(receiving()) for _ in range(ENDPOINTS)]
        for receiver in receivers:
            await post.subscribe(url=receiver.url, start="now", **district)
        dead, hanging, healthy = receivers[0], receivers[1], receivers[2:]
        all_well = await _time_rounds(gateway, healthy, 10)
        dead.status, hanging.wait = 500, 60
        with_trouble = await _time_rounds(gateway, healthy, 20)
        assert len(hanging.requests) == 4
        assert len(dead.requests) == 4
    figures = f"{median(all_well):.3f} s → {median(with_trouble):.3f} s, at most {max(with_trouble):.3f} s"
    assert median(with_trouble) < 2 * median(all_well) + 0.1, figures
    assert max(with_trouble) < 5, figures
