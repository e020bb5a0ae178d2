"""Opens two districts in one installation: all services in this process, on one real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import httpx2
from fastapi import FastAPI
from played_gateway import Gateway, RecordingBus, as_message
from pydantic import SecretStr

import provider_gateway.app
import roster_store.app
import sso.app
import sync_scheduler.app
from authorization.additions import (
    add_account,
    add_canvas_target,
    add_client,
    add_erasure,
    add_integration,
    add_link,
    add_settled_integration,
    add_subscription,
    add_target,
)
from authorization.bodies import make_roster, make_set
from authorization.districts import GATEWAY, SCHEDULER, SSO, STORE, District, Neighbourhood
from authorization.rules import Kind
from homeroom.db import Database
from homeroom.grants import FIELD_GROUPS
from homeroom.messages import TENANCY, Terms
from homeroom.migrate import migrate
from homeroom.roster import (
    record_key,
)
from homeroom.secrets import generate_key
from homeroom.testing.tokens import TestIssuer
from provider_gateway.settings import GatewaySettings
from roster_store import search
from roster_store.access import TenancyConsumer, settle_licenses
from roster_store.changes import ChangeConsumer
from roster_store.settings import StoreSettings
from roster_store.sights import WORK
from roster_store.subscriptions import registry
from sso.settings import Settings as SsoSettings
from sync_scheduler.facts import Facts
from sync_scheduler.settings import ApiSettings
from sync_scheduler.ticking import Ticking


@asynccontextmanager
async def opened_neighbourhood(database_url: str, folder: Path) -> AsyncIterator[Neighbourhood]:
    """Two districts that were synced, each with a product that is licensed to it."""
    for schema, package in (("scheduler", "sync_scheduler"), ("roster", "roster_store"), ("sso", "sso")):
        await migrate(database_url, schema=schema, package=package)
    issuer = TestIssuer()
    async with AsyncExitStack() as stack:
        stack.enter_context(patch.object(registry, "MOST", 1_000))  # each call gets a subscription of its own
        apps = _make_apps(issuer, database_url, folder)
        clients = {name: await stack.enter_async_context(_calling(app)) for name, app in apps.items()}
        apps[SSO].state.verifier = issuer.verifier  # sso trusts its own keys only
        store = await stack.enter_async_context(
            Database.open(database_url, schema="roster", size=2, application="test", session=WORK)
        )
        scheduler = apps[SCHEDULER].state
        place = Neighbourhood(
            issuer,
            apps,
            clients,
            District(f"alder{uuid4().hex[:8]}"),
            District(f"birch{uuid4().hex[:8]}"),
            store,
            Facts(scheduler.database, scheduler.settings.limits),
        )
        for number, district in enumerate((place.ours, place.theirs)):
            await _found(place, district)
            await _announce(place)
            await _fill(place, district, number)
        working = asyncio.create_task(_answer_tests(store))
        try:
            yield place
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


async def _answer_tests(store: Database) -> None:
    """What a worker does about tests of webhooks and of Canvases, without a network."""
    while True:
        await store.fetch("UPDATE subscription_test SET ended_at = now(), status = 204, seconds = 0.1")
        await store.fetch(
            "UPDATE canvas_target SET test_due = false, test_answered = test_asked, test_detail = 'Yes.' WHERE test_due"
        )
        await asyncio.sleep(0.02)


@asynccontextmanager
async def _calling(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app, raise_app_exceptions=False), base_url="http://homeroom.test"
        ) as client,
    ):
        yield client


def _make_apps(issuer: TestIssuer, database_url: str, folder: Path) -> dict[str, FastAPI]:
    """The four services; nobody waits for workers, for there are none."""
    private, public = generate_key()
    common: dict[str, Any] = {
        "database_url": SecretStr(database_url),
        "issuer": issuer.issuer,
        "allow_private_endpoints": True,
        "database_pool_size": 4,
    }
    scheduler = ApiSettings(
        gateway_public_key=public,
        inquiry_wait_seconds=0,
        refresh_wait_seconds=0,
        link_verify_seconds=0,
        refresh_class_seconds=0,
        alert_signing_key=SecretStr("made-up signing key of thirty-two letters"),
        **common,
    )
    gateway = GatewaySettings(uploads_url=str(folder / "uploads"), **common)
    return {
        SCHEDULER: sync_scheduler.app.make_app(scheduler, verifier=issuer.verifier),
        GATEWAY: provider_gateway.app.build(gateway, issuer.verifier),
        STORE: roster_store.app.make_app(StoreSettings(store_key=SecretStr(private), **common), issuer.verifier),
        SSO: sso.app.create(SsoSettings(sso_key=SecretStr(private), **common)),
    }


async def _found(place: Neighbourhood, district: District) -> None:
    """What the scheduler and sso hold of a district."""
    mark = district.mark
    organization = await place.ask(SCHEDULER, "POST", "/v1/organizations", {"name": f"District {mark}"})
    district.keep(organization_id=organization["id"])
    for name, classes in (("starter", "teacher-started"), ("product", "automatic")):
        body = {"name": f"{name.title()} {mark}", "classes": classes}
        product = await place.ask(SCHEDULER, "POST", "/v1/products", body)
        terms = {"product_id": product["id"], "organization_id": organization["id"], "grants": list(FIELD_GROUPS)}
        made = await place.ask(SCHEDULER, "POST", "/v1/licenses", terms)
        district.keep(**{f"{name}_id": product["id"]}, license_id=made["id"])
    district.keep(**await add_integration(place, district))
    district.keep(
        csv_integration_id=(await add_integration(place, district, provider="oneroster-csv"))["integration_id"]
    )
    path = f"/v1/integrations/{district.ids['integration_id']}"
    inquiry = await place.ask(SCHEDULER, "POST", f"{path}/verify")
    district.keep(inquiry_id=inquiry["inquiry_id"])
    for _ in range(2):  # the second one for lists to have a second page
        district.keep(run_id=(await place.ask(SCHEDULER, "POST", f"{path}/runs", {}))["run_id"])
        await place.ask(SCHEDULER, "POST", f"/v1/runs/{district.ids['run_id']}/cancel")
    synced = (await add_settled_integration(place, district))["integration_id"]
    deleted = (await add_integration(place, district))["integration_id"]
    await place.ask(SCHEDULER, "DELETE", f"/v1/integrations/{deleted}")
    district.keep(settled_integration_id=synced, deleted_integration_id=deleted)
    refresh = await place.ask(SCHEDULER, "POST", f"/v1/classes/class-{mark}/refresh", {"integration_id": synced})
    district.keep(refresh_run_id=refresh["run_id"])
    district.keep(**await add_target(place, district))
    test = await place.ask(SCHEDULER, "POST", f"/v1/alert-targets/{district.ids['target_id']}/test")
    district.keep(alert_id=test["alert_id"])
    district.keep(**await add_link(place, district))
    district.keep(**await add_client(place, district))


async def _announce(place: Neighbourhood) -> None:
    """Let the others hear what the scheduler has to tell."""
    bus = RecordingBus()
    scheduler = place.apps[SCHEDULER].state
    ticking = Ticking(scheduler.database, bus, scheduler.settings.limits, tick_seconds=1)  # type: ignore[arg-type]  # publish is all it uses here
    while await ticking.send_due():
        pass
    told = [as_message(sent, place) for place, sent in enumerate(bus.published) if sent.topic == TENANCY.name]
    assert place.store is not None
    await TenancyConsumer(place.store, asyncio.Event()).handle(told)
    await settle_licenses(place.store)
    await place.apps[GATEWAY].state.desk.directory.take(told)


async def _fill(place: Neighbourhood, district: District, number: int) -> None:
    """What the gateway and the store hold of a district."""
    upload = await place.ask(
        GATEWAY, "POST", f"/v1/integrations/{district.ids['csv_integration_id']}/uploads", content=make_set()
    )
    district.keep(set_id=upload["upload_id"])
    bus = RecordingBus()
    assert place.store is not None
    gateway = Gateway(
        ChangeConsumer(place.store, bus),  # type: ignore[arg-type]  # publish is all it uses
        bus,
        integration_id=district.ids["integration_id"],
        organization_id=district.ids["organization_id"],
        run_number=(number + 1) << 40,  # runs of one district have ids that no other's have
    )
    await _sync(gateway, district)
    await settle_licenses(place.store)
    await search.catch_up(place.store)
    await _add_to_store(place, district)


async def _add_to_store(place: Neighbourhood, district: District) -> None:
    """What a district and its product have put into the store themselves."""
    kinds: tuple[Kind, ...] = ("organization", "product")
    for kind in kinds:
        made = await add_subscription(place, district, kind) | await add_canvas_target(place, district, kind)
        district.keep(**{f"{kind}_{name}": value for name, value in made.items()})
    own = {name: district.ids[f"organization_{name}"] for name in ("subscription_id", "target", "push")}
    district.keep(**own)
    district.keep(**await add_account(place, district, sourced_id=district.ids["student_id"]))
    district.keep(**await add_erasure(place, district))


async def _sync(gateway: Gateway, district: District) -> None:
    """Bring the district's roster into the store: applied, and then an evaluation of a change."""
    roster = make_roster(district.mark)
    applied = await gateway.apply(roster)
    gone = roster["users"][-1].sourced_id
    evaluated = await gateway.sync({}, {"users": [gone]}, served={"users": 3}, terms=Terms(purpose="evaluation"))
    district.keep(applied_run=applied.run_id, plan_run=evaluated.run_id)
    district.ids |= {
        "school_id": f"school-{district.mark}",
        "class_id": f"class-{district.mark}",
        "course_id": f"course-{district.mark}",
        "term_id": f"term-{district.mark}",
        "student_id": f"student-{district.mark}",
        "teacher_id": f"teacher-{district.mark}",
    }
    district.keep(student_key=record_key(f"student-{district.mark}").hex())
