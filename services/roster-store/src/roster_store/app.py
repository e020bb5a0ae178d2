"""Puts the store together: what is opened, in which role, and closed again."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI

from homeroom.auth import Verifier
from homeroom.bus import Bus
from homeroom.bus.opening import open_bus
from homeroom.db import Database
from homeroom.messages import ROSTER_CHANGES, ROSTER_COMMANDS, SIGN_INS, TENANCY, TOPICS
from homeroom.service import Parts, create_app, run_api, run_migrations, run_roles, run_worker
from homeroom.settings import Settings
from homeroom.webhooks import Webhooks
from roster_store import (
    activation_api,
    changes_api,
    fingerprints,
    identities_api,
    oneroster,
    people_api,
    plans_api,
    records_api,
    roster_api,
)
from roster_store.access import GROUP as TENANCY_GROUP
from roster_store.access import LicenseKeeper, TenancyConsumer
from roster_store.canvas import api as canvas_api
from roster_store.canvas.client import Canvas
from roster_store.canvas.pushing import Pusher
from roster_store.changes import GROUP, MAX_BATCH, ChangeConsumer
from roster_store.commands import GROUP as COMMANDS
from roster_store.commands import CommandConsumer
from roster_store.completion import Delays
from roster_store.csv_export import api as csv_export_api
from roster_store.matching import accounts_api, matching_api
from roster_store.news import News
from roster_store.privacy import api as privacy_api
from roster_store.privacy.telling import ErasureTelling
from roster_store.relay import Relay
from roster_store.retention import Retention
from roster_store.search import SearchIndex
from roster_store.settings import StoreSettings
from roster_store.sights import SCHEMA, WORK, Rosters
from roster_store.sign_ins import GROUP as SIGN_INS_GROUP
from roster_store.sign_ins import SignInConsumer
from roster_store.subscriptions import api as subscriptions_api
from roster_store.subscriptions.deliveries import Deliveries
from roster_store.subscriptions.outlets import Outlets
from roster_store.subscriptions.signing import reseal_secrets

NAME = "roster-store"


async def _open_database(parts: Parts, settings: StoreSettings) -> Database:
    return await parts.open(
        "database",
        Database.open(
            settings.database_url.get_secret_value(),
            schema=SCHEMA,
            size=settings.database_pool_size,
            application=NAME,
            session=WORK,
        ),
        ping=lambda database: database.ping(),
    )


def make_app(settings: StoreSettings, verifier: Verifier | None = None) -> FastAPI:
    """The REST face: fingerprints, the change feed, OneRoster."""

    async def open_parts(app: FastAPI, parts: Parts) -> None:
        app.state.surveys = oneroster.Surveys()
        app.state.database = await _open_database(parts, settings)
        app.state.rosters = await parts.open(
            "rosters", Rosters.open(settings, application=NAME), ping=lambda rosters: rosters.ping()
        )
        app.state.news = News(app.state.database)
        parts.start("news", lambda: app.state.news.listen(parts.stop))

    return create_app(
        name=NAME,
        title="Homeroom roster store",
        settings=settings,
        routers=[
            fingerprints.router,
            identities_api.router,
            changes_api.router,
            activation_api.router,
            oneroster.router,
            people_api.router,
            plans_api.router,
            roster_api.router,
            records_api.router,
            privacy_api.router,
            privacy_api.audit_router,
            subscriptions_api.router,
            csv_export_api.router,
            canvas_api.router,
            accounts_api.router,
            matching_api.router,
        ],
        open_parts=open_parts,
        verifier=verifier,
    )


async def work(settings: StoreSettings, parts: Parts, stop: asyncio.Event) -> None:
    """The worker: stage and apply what the gateway sends, relay what changed."""
    database = await _open_database(parts, settings)
    bus = await parts.open("bus", open_bus(settings), ping=lambda bus: bus.ping())
    await bus.ensure_topics(TOPICS)
    delays = Delays(hold_days=settings.hold_days, missing_hours=settings.missing_hours)
    consumer = bus.consumer(
        [ROSTER_CHANGES.name], ChangeConsumer(database, bus, delays).handle, group=GROUP, max_batch=MAX_BATCH
    )
    commands = bus.consumer([ROSTER_COMMANDS.name], CommandConsumer(database, bus, delays).handle, group=COMMANDS)
    news = asyncio.Event()
    tenancy = bus.consumer([TENANCY.name], TenancyConsumer(database, news).handle, group=TENANCY_GROUP)
    sign_ins = bus.consumer([SIGN_INS.name], SignInConsumer(database).handle, group=SIGN_INS_GROUP)
    parts.start("sign-ins", sign_ins.run)
    parts.start("tenancy", tenancy.run)
    parts.start("licenses", lambda: LicenseKeeper(database, news).run(stop))
    parts.start("changes", consumer.run)
    parts.start("commands", commands.run)
    rosters = await parts.open("rosters", Rosters.open(settings, application=NAME), ping=lambda rosters: rosters.ping())
    parts.start("relay", lambda: Relay(database, rosters, bus).run(stop))
    told = await _start_deliveries(settings, database, rosters, bus, parts, stop)
    canvas = await parts.open("canvas", Canvas.open(allow_private=settings.allow_private_endpoints))
    parts.start("canvas", lambda: Pusher(database, rosters, canvas, settings.sealing_keys).run(stop))
    parts.start("erasures", lambda: ErasureTelling(database, bus).run(stop))
    parts.start("search", lambda: SearchIndex(database).run(stop))
    parts.start("retention", lambda: Retention(database, settings).run(stop))
    await stop.wait()
    await asyncio.gather(consumer.stop(), commands.stop(), tenancy.stop(), sign_ins.stop())
    await told


async def _start_deliveries(
    settings: StoreSettings, database: Database, rosters: Rosters, bus: Bus, parts: Parts, stop: asyncio.Event
) -> asyncio.Task[object]:
    """Tell subscriptions what changed; returns the task, which finishes what is under way once it is to stop."""
    webhooks = await parts.open("webhooks", Webhooks.open(allow_private=settings.allow_private_endpoints))
    await reseal_secrets(database, settings.sealing_keys)
    deliveries = Deliveries(database, rosters, Outlets(webhooks, bus, settings.sealing_keys))
    return parts.start("subscriptions", lambda: deliveries.run(stop))


def main() -> None:
    """`python -m roster_store api|worker|migrate`."""
    run_roles("roster_store", {"api": _run_api, "worker": _run_worker, "migrate": _run_migrations})


def _run_api() -> None:
    settings = StoreSettings.load()
    run_api(make_app(settings), settings)


def _run_worker() -> None:
    settings = StoreSettings.load()
    run_worker(NAME, settings, lambda parts, stop: work(settings, parts, stop))


def _run_migrations() -> None:
    run_migrations(NAME, Settings.load(), schema=SCHEMA, package="roster_store")
