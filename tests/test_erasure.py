"""An erased child is found nowhere: all services on one real database with the bus in it, searched from end to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
from played_gateway import Gateway, RecordingBus, enrollment, school, section, student
from pydantic import SecretStr

from homeroom.bus import Message, Outgoing
from homeroom.bus.postgres import PostgresBus
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import (
    ERASURES,
    ROSTER_CHANGES,
    ROSTER_EVENTS,
    SYNC_FACTS,
    TOPICS,
    Claimed,
    RecordIssue,
    Terms,
    to_facts,
)
from homeroom.migrate import migrate
from homeroom.secrets import generate_key
from homeroom.testing.tokens import TestIssuer, calling
from roster_store.app import make_app as make_store
from roster_store.changes import ChangeConsumer
from roster_store.privacy.telling import ErasureTelling
from roster_store.relay import Relay
from roster_store.retention import Retention
from roster_store.settings import StoreSettings
from roster_store.sights import WORK, Rosters
from sync_scheduler.app import make_app as make_scheduler
from sync_scheduler.erasures import Erasures
from sync_scheduler.facts import Facts
from sync_scheduler.settings import ApiSettings

CHILD = "sis-vexilla-90417"
CANARIES = [CHILD, "Wrenfeather", "Okonjuvala", "wrenfeather@north.example", "enrollment-vexilla"]


@dataclass
class Services:
    """What takes part."""

    bus: PostgresBus
    store: Database
    scheduler: Database
    consumer: ChangeConsumer
    settings: StoreSettings
    rosters: Rosters
    stores: httpx2.AsyncClient
    schedulers: httpx2.AsyncClient
    limits: Any

    async def drain(self, topic: str, handle: Any, group: str) -> None:
        """Have a handler take all messages of a topic."""
        consumer = self.bus.consumer([topic], handle, group=group)
        reading = asyncio.create_task(consumer.run())
        async with asyncio.timeout(20):
            while await self.bus.lag(group, [topic]):
                await asyncio.sleep(0.02)
            await consumer.stop()
            await reading

    async def find(self) -> set[str]:
        """The places in which the child is found."""
        answer = await self.stores.post("/v1/privacy/searches", json={"texts": CANARIES})
        found = answer.raise_for_status().json()
        assert {"bus", "roster", "roster_staging", "scheduler", "sso"} <= set(found["schemas"])
        return {f"{place['schema_name']}.{place['table']}.{place['column']}" for place in found["found"]}


@asynccontextmanager
async def running_services(url: str, issuer: TestIssuer) -> AsyncIterator[Services]:
    """All of them in this process."""
    for schema, package in (("roster", "roster_store"), ("scheduler", "sync_scheduler"), ("sso", "sso")):
        await migrate(url, schema=schema, package=package)
    own = {"database_url": SecretStr(url), "issuer": issuer.issuer}
    settings = StoreSettings.model_validate(own | {"store_key": generate_key()[0], "erased_days": 0})
    scheduling = ApiSettings.model_validate(own | {"gateway_public_key": generate_key()[1]})
    async with AsyncExitStack() as opened:
        bus = await opened.enter_async_context(PostgresBus.open(url))
        await bus.ensure_topics(TOPICS)
        store = await opened.enter_async_context(Database.open(url, schema="roster", session=WORK))
        yield Services(
            bus=bus,
            store=store,
            scheduler=await opened.enter_async_context(Database.open(url, schema="scheduler")),
            consumer=ChangeConsumer(store, bus),
            settings=settings,
            rosters=await opened.enter_async_context(Rosters.open(settings, application="test")),
            stores=await opened.enter_async_context(
                calling(make_store(settings, issuer.verifier), issuer.token(["admin"]))
            ),
            schedulers=await opened.enter_async_context(
                calling(make_scheduler(scheduling, verifier=issuer.verifier), issuer.token(["admin"]))
            ),
            limits=scheduling.limits,
        )


def child(name: str) -> Any:
    """The child, under a name."""
    person = student(1, name, family_name="Okonjuvala", email="Wrenfeather@north.example")
    return type(person)(**{field: getattr(person, field) for field in person.__struct_fields__} | {"sourced_id": CHILD})


def attendance() -> Any:
    """The child's enrollment."""
    one = enrollment(1, 1)
    own = {"sourced_id": "enrollment-vexilla", "user_sourced_id": CHILD}
    return type(one)(**{field: getattr(one, field) for field in one.__struct_fields__} | own)


async def begin(services: Services) -> Gateway:
    """An integration with a run of the scheduler's, whose fetch names the child everywhere it can."""
    organization = (await services.schedulers.post("/v1/organizations", json={"name": "North"})).json()["id"]
    connection = {"endpoint_url": "https://sis.north.example", "auth": "oauth1", "client_id": "c", "client_secret": "s"}
    body = {"organization_id": organization, "name": "North", "provider": "oneroster", "region": "us"}
    made = await services.schedulers.post("/v1/integrations", json=body | {"connection": connection})
    integration = made.raise_for_status().json()["id"]
    return Gateway(services.consumer, RecordingBus(), integration, organization)


async def sync(services: Services, gateway: Gateway, *args: Any, **more: Any) -> None:
    """One run, begun by the scheduler and ended by what the store says of it."""
    path = f"/v1/integrations/{gateway.integration_id}/runs"
    evaluate = {"evaluate": True} if more.get("terms", Terms()).purpose == "evaluation" else {}
    run = (await services.schedulers.post(path, json=evaluate)).raise_for_status().json()["run_id"]
    claimed = Claimed(
        run_id=run, attempt=1, integration_id=gateway.integration_id, at=datetime.now(UTC), worker="w", fetch_id="f"
    )
    gateway.basis = await services.store.fetchval("SELECT coalesce(max(last_apply), 0) FROM integration")
    sent = gateway.messages(*args, **more)
    played = str(UUID(int=gateway.run_number)).encode()  # what the played gateway calls the run
    out = [Outgoing(one.topic, one.key, one.value.replace(played, run.encode())) for one in sent]
    await services.bus.publish(to_facts(claimed), *out)
    await services.drain(ROSTER_CHANGES.name, services.consumer.handle, "roster-store")
    await services.drain(SYNC_FACTS.name, Facts(services.scheduler, services.limits).handle, "sync-scheduler")


async def test_nothing_of_an_erased_child_is_left(database_url: str) -> None:
    """After an erasure no schema holds anything of the child but messages, and nothing once those run out (X10)."""
    async with running_services(database_url, TestIssuer()) as services:
        gateway = await begin(services)
        issue = RecordIssue(collection="users", sourced_id=CHILD, code=Code.FIELD_TOO_LONG)
        roster = {"orgs": [school()], "classes": [section(1)], "users": [child("Wrenfeather"), student(2)]}
        await sync(services, gateway, roster | {"enrollments": [attendance()]}, issues=(issue,))
        await sync(services, gateway, {"users": [child("Wrenfeather-Sol")]}, issues=(issue,))
        await sync(services, gateway, {"users": [child("Wrenfeather-Ray")]}, terms=Terms(purpose="evaluation"))
        relay = Relay(services.store, services.rosters, services.bus)
        while await relay.relay_page():
            continue
        before = await services.find()

        asked = {"integration_id": gateway.integration_id, "sourced_id": CHILD, "reason": "order", "confirm": True}
        assert (await services.stores.post("/v1/privacy/erasures", json=asked)).status_code == 202
        assert await ErasureTelling(services.store, services.bus).tell_next()
        while await relay.relay_page():
            continue
        await services.drain(ERASURES.name, Erasures(services.scheduler).handle, "sync-scheduler-erasures")
        await sync(services, gateway, roster | {"enrollments": [attendance()]}, issues=(issue,))
        await Retention(services.store, services.settings).forget()
        while await relay.relay_page():
            continue
        after = await services.find()
        await services.drain(ROSTER_EVENTS.name, _let_go, "products")
        days = timedelta(days=max(topic.retention_seconds for topic in TOPICS) / 86_400 + 1)
        await services.store.fetch("UPDATE bus.messages SET sent_at = sent_at - $1::interval", days)
        await services.bus.sweep()
        at_last = await services.find()

    assert {"roster.users.given_name", "roster.history.before", "scheduler.run.issues", "bus.messages.value"} <= before
    assert any(place.startswith("roster_staging.p") for place in before)
    assert after - {"bus.messages.value", "bus.messages.headers"} == set()
    assert at_last == set()


async def _let_go(messages: Sequence[Message]) -> None:
    """A product that has heard."""
    del messages
