"""Puts the store together: what is opened, in which role, and closed again."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI

from homeroom.auth import Verifier
from homeroom.bus.opening import open_bus
from homeroom.db import Database
from homeroom.messages import ROSTER_CHANGES, ROSTER_COMMANDS, TOPICS
from homeroom.service import Parts, create_app, run_api, run_migrations, run_roles, run_worker
from roster_store import changes_api, fingerprints, oneroster, people_api, plans_api
from roster_store.changes import GROUP, MAX_BATCH, ChangeConsumer
from roster_store.commands import GROUP as COMMANDS
from roster_store.commands import CommandConsumer
from roster_store.completion import Delays
from roster_store.relay import Relay
from roster_store.retention import Retention
from roster_store.settings import StoreSettings

NAME = "roster-store"
SCHEMA = "roster"


async def _open_database(parts: Parts, settings: StoreSettings) -> Database:
    return await parts.open(
        "database",
        Database.open(
            settings.database_url.get_secret_value(),
            schema=SCHEMA,
            size=settings.database_pool_size,
            application=NAME,
        ),
        ping=lambda database: database.ping(),
    )


def make_app(settings: StoreSettings, verifier: Verifier | None = None) -> FastAPI:
    """The REST face: fingerprints, the change feed, OneRoster."""

    async def open_parts(app: FastAPI, parts: Parts) -> None:
        app.state.database = await _open_database(parts, settings)

    return create_app(
        name=NAME,
        title="Homeroom roster store",
        settings=settings,
        routers=[fingerprints.router, changes_api.router, oneroster.router, people_api.router, plans_api.router],
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
    parts.start("changes", consumer.run)
    parts.start("commands", commands.run)
    parts.start("relay", lambda: Relay(database, bus).run(stop))
    parts.start("retention", lambda: Retention(database, settings).run(stop))
    await stop.wait()
    await asyncio.gather(consumer.stop(), commands.stop())


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
    run_migrations(NAME, StoreSettings.load(), schema=SCHEMA, package="roster_store")
