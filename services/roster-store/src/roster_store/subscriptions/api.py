"""`/v1/subscriptions`: webhooks and topics of products and organizations (F2)."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from homeroom.auth import Caller, require
from homeroom.codes import Code
from homeroom.problems import Problem
from roster_store.settings import StoreSettings
from roster_store.subscriptions.bodies import (
    RedeliveryBody,
    Subscription,
    SubscriptionBody,
    SubscriptionChanges,
    SubscriptionPage,
    SubscriptionWithSecret,
    TestResult,
    show,
)
from roster_store.subscriptions.registry import Registry, read_owner

TEST_SECONDS: Final = 20.0
"""Longer than a worker takes to hear of a test and to send it."""
TEST_POLL_SECONDS: Final = 0.05

router = APIRouter(prefix="/v1/subscriptions", tags=["subscriptions"])

Subscriber = Annotated[Caller, Depends(require("subscriptions.write", products=True))]


def _get_registry(request: Request) -> Registry:
    settings: StoreSettings = request.app.state.settings
    return Registry(request.app.state.database, settings.sealing_keys, settings.allow_private_endpoints)


UseRegistry = Annotated[Registry, Depends(_get_registry)]


@router.post("", status_code=201)
async def create_subscription(
    body: SubscriptionBody, caller: Subscriber, registry: UseRegistry
) -> SubscriptionWithSecret:
    """Be told of changes from now on, by webhooks or on a topic; the signing secret is shown this once."""
    row, secret = await registry.create(body, caller)
    return SubscriptionWithSecret.model_validate(show(row) | {"secret": secret})


@router.get("")
async def list_subscriptions(
    caller: Subscriber,
    registry: UseRegistry,
    cursor: Annotated[UUID | None, Query(description="`next_cursor` of an earlier answer")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> SubscriptionPage:
    """Subscriptions in the order they were made, with how they fare."""
    rows = await registry.list(read_owner(caller), cursor or UUID(int=0), limit + 1)
    items = [Subscription.model_validate(show(row)) for row in rows[:limit]]
    return SubscriptionPage(items=items, next_cursor=str(items[-1].id) if len(rows) > limit else None)


@router.get("/{subscription_id}")
async def read_subscription(subscription_id: UUID, caller: Subscriber, registry: UseRegistry) -> Subscription:
    """One subscription, with how it fares."""
    return Subscription.model_validate(show(await registry.read(subscription_id, read_owner(caller))))


@router.patch("/{subscription_id}")
async def change_subscription(
    subscription_id: UUID, body: SubscriptionChanges, caller: Subscriber, registry: UseRegistry
) -> Subscription:
    """Change what is told, or where; stop and enable it."""
    return Subscription.model_validate(show(await registry.change(subscription_id, body, caller)))


@router.delete("/{subscription_id}", status_code=204)
async def delete_subscription(subscription_id: UUID, caller: Subscriber, registry: UseRegistry) -> None:
    """End a subscription. A topic stays, with what is on it, until that is too old."""
    await registry.delete(subscription_id, caller)


@router.post("/{subscription_id}/enable")
async def enable_subscription(subscription_id: UUID, caller: Subscriber, registry: UseRegistry) -> Subscription:
    """Enable a subscription that was disabled: it goes on where it stopped, at once."""
    return Subscription.model_validate(show(await registry.enable(subscription_id, caller)))


@router.post("/{subscription_id}/secret-rotations")
async def rotate_subscription_secret(
    subscription_id: UUID, caller: Subscriber, registry: UseRegistry
) -> SubscriptionWithSecret:
    """Get a new signing secret; for 24 hours webhooks carry a signature with the earlier one as well."""
    row, secret = await registry.rotate(subscription_id, caller)
    return SubscriptionWithSecret.model_validate(show(row) | {"secret": secret})


@router.post("/{subscription_id}/redeliveries")
async def redeliver_subscription(
    subscription_id: UUID, body: RedeliveryBody, caller: Subscriber, registry: UseRegistry
) -> Subscription:
    """Be told once more of everything from an earlier place, a moment or the beginning on."""
    return Subscription.model_validate(show(await registry.redeliver(subscription_id, body, caller)))


@router.post("/{subscription_id}/test")
async def send_test_event(subscription_id: UUID, caller: Subscriber, registry: UseRegistry) -> TestResult:
    """Send a `homeroom.test.v1` event now, and say what came back; also while the subscription is disabled."""
    test = await registry.ask_test(subscription_id, caller)
    try:
        async with asyncio.timeout(TEST_SECONDS):
            while (row := await registry.read_test(test)) is None:  # noqa: ASYNC110 - another process ends it
                await asyncio.sleep(TEST_POLL_SECONDS)
    except TimeoutError:
        detail = "No worker has sent the test yet; it is sent as soon as one can."
        raise Problem(Code.UNAVAILABLE, status=503, detail=detail, headers={"Retry-After": "10"}) from None
    return TestResult(
        delivered=row["problem"] is None,
        status=row["status"],
        seconds=None if row["problem"] else row["seconds"],
        problem=row["problem"],
    )
