"""Puts the scheduler together: what is opened in which role, and closed again."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from fastapi import FastAPI

from homeroom.auth import Verifier
from homeroom.bus import BusError
from homeroom.bus.opening import open_bus
from homeroom.db import Database
from homeroom.messages import ERASURES, SYNC_FACTS, TOPICS
from homeroom.service import Parts, create_app, run_api, run_migrations, run_roles, run_worker
from homeroom.telemetry import get_logger
from homeroom.webhooks import Webhooks
from sync_scheduler import (
    alert_api,
    api,
    audit_api,
    decision_api,
    inquiry_api,
    license_api,
    link_api,
    link_pages,
    product_api,
    refresh_api,
    runs_api,
    schedule_api,
    sftp_api,
)
from sync_scheduler.alert_targets import Targets
from sync_scheduler.alerting import Alerting
from sync_scheduler.credential_links import Links
from sync_scheduler.deliveries import Deliveries
from sync_scheduler.doorbell import Doorbell, first_of
from sync_scheduler.erasures import GROUP as ERASURES_GROUP
from sync_scheduler.erasures import Erasures, Retention
from sync_scheduler.facts import Facts
from sync_scheduler.integrations import Integrations
from sync_scheduler.ledger import AWAY
from sync_scheduler.settings import ApiSettings, SchedulerSettings
from sync_scheduler.ticking import GROUP, Ticking

log = get_logger(__name__)

NAME = "sync-scheduler"
PACKAGE = "sync_scheduler"
SCHEMA = "scheduler"
MEASURE_SECONDS = 15.0


def make_app(settings: ApiSettings, *, verifier: Verifier | None = None) -> FastAPI:
    """The REST face. A verifier that is given takes the place of the one that asks sso for its keys."""

    async def open_parts(app: FastAPI, parts: Parts) -> None:
        database = await _open_database(parts, settings)
        app.state.database = database
        app.state.integrations = Integrations(
            database,
            public_key=settings.gateway_public_key,
            allow_private_endpoints=settings.allow_private_endpoints,
        )
        app.state.targets = Targets(
            database,
            origin=settings.issuer,
            signing_key=settings.alert_signing_key.get_secret_value(),
            mails=bool(settings.smtp_host),
            allow_private=settings.allow_private_endpoints,
        )
        app.state.links = Links(
            database,
            origin=settings.issuer,
            public_key=settings.gateway_public_key,
            allow_private=settings.allow_private_endpoints,
            mails=bool(settings.smtp_host),
            verify_seconds=settings.link_verify_seconds,
        )

    return create_app(
        name=NAME,
        title="Homeroom sync scheduler",
        settings=settings,
        routers=[
            api.router,
            runs_api.router,
            decision_api.router,
            refresh_api.router,
            audit_api.router,
            schedule_api.router,
            inquiry_api.router,
            sftp_api.router,
            product_api.router,
            license_api.router,
            alert_api.router,
            link_api.router,
            link_pages.router,
        ],
        open_parts=open_parts,
        verifier=verifier,
    )


async def work(settings: SchedulerSettings, parts: Parts, stop: asyncio.Event) -> None:
    """The worker: sends jobs, hears facts, looks after runs."""
    database = await _open_database(parts, settings)
    bus = await parts.open("bus", open_bus(settings), ping=lambda bus: bus.ping())
    await bus.ensure_topics(TOPICS)
    doorbell = Doorbell(settings.database_url.get_secret_value())
    ticking = Ticking(
        database,
        bus,
        settings.limits,
        tick_seconds=settings.tick_seconds,
        terms=settings.terms,
        starts=settings.starts,
        keep_slots=timedelta(days=settings.slots_keep_days),
    )
    facts = bus.consumer(
        [SYNC_FACTS.name], Facts(database, settings.limits, origin=settings.issuer).handle, group=GROUP
    )
    erasing = bus.consumer([ERASURES.name], Erasures(database).handle, group=ERASURES_GROUP)
    run_logs, audit_log = timedelta(days=settings.run_log_days), timedelta(days=settings.audit_days)
    retention = Retention(database, run_logs=run_logs, audit_log=audit_log)
    parts.start("facts", facts.run)
    parts.start("erasures", erasing.run)
    parts.start("retention", lambda: retention.run(stop))
    parts.start("doorbell", lambda: doorbell.run(stop))
    rounds = parts.start("ticking", lambda: ticking.run(doorbell, stop))
    parts.start("measuring", lambda: _measure(ticking, stop))
    told = await _start_alerts(settings, database, parts, stop)
    await stop.wait()
    await asyncio.gather(facts.stop(), erasing.stop())
    await rounds
    await told


async def _start_alerts(
    settings: SchedulerSettings, database: Database, parts: Parts, stop: asyncio.Event
) -> asyncio.Task[object]:
    """Judge how integrations fare, and deliver what is to be told; returns the task that ends last."""
    mail = await parts.open("mail", settings.mail.closing())
    webhooks = await parts.open("webhooks", Webhooks.open(allow_private=settings.allow_private_endpoints))
    key = settings.alert_signing_key.get_secret_value()
    deliveries = Deliveries(database, webhooks, mail, signing_key=key)
    alerting = Alerting(database, settings.terms, origin=settings.issuer)
    parts.start("alerting", lambda: alerting.run(stop))
    return parts.start("deliveries", lambda: deliveries.run(stop, tick_seconds=settings.tick_seconds))


async def _measure(ticking: Ticking, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await ticking.measure()
        except (*AWAY, BusError) as error:
            log.warning("measuring.interrupted", error_type=type(error).__name__)
        await first_of(MEASURE_SECONDS, stop.wait())


async def _open_database(parts: Parts, settings: SchedulerSettings) -> Database:
    return await parts.open(
        "database",
        Database.open(
            settings.database_url.get_secret_value(), schema=SCHEMA, size=settings.database_pool_size, application=NAME
        ),
        ping=lambda database: database.ping(),
    )


def _serve() -> None:
    settings = ApiSettings.load()
    run_api(make_app(settings), settings)


def _work() -> None:
    settings = SchedulerSettings.load()
    run_worker(NAME, settings, lambda parts, stop: work(settings, parts, stop))


def main() -> None:
    """`python -m sync_scheduler api|worker|migrate`."""
    run_roles(
        PACKAGE,
        {
            "api": _serve,
            "worker": _work,
            "migrate": lambda: run_migrations(NAME, SchedulerSettings.load(), schema=SCHEMA, package=PACKAGE),
        },
    )
