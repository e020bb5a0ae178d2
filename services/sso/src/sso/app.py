"""sso put together: what it opens and what it serves."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from fastapi import FastAPI

from homeroom.auth import TokenSource, Verifier
from homeroom.bus.opening import open_bus
from homeroom.clock import Clock, SystemClock
from homeroom.db import Database
from homeroom.messages import ERASURES, TENANCY, TOPICS
from homeroom.service import Parts, create_app
from sso.api import clients, tokens
from sso.clients import Clients
from sso.connections import parts as connections
from sso.connections.upstreams import SAML_KINDS, Upstreams
from sso.handover import parts as handover
from sso.keys import Keys
from sso.launch import launch_api, pages, traces_api
from sso.launch.erasures import GROUP as ERASURES_GROUP
from sso.launch.erasures import ErasureConsumer
from sso.launch.flows import Browsers, Flows
from sso.launch.identification import Identification
from sso.launch.launching import Launching
from sso.launch.licenses import GROUP as TENANCY_GROUP
from sso.launch.licenses import TenancyConsumer
from sso.launch.people import SCOPE, People
from sso.launch.sessions import Sessions
from sso.launch.traces import Launches
from sso.launch.upkeep import Upkeep, keep_telling
from sso.provider import parts as provider
from sso.provider.first_party import CONSOLE_SECONDS
from sso.provider.signing import ID_TOKEN_SECONDS
from sso.saml import parts as saml
from sso.saml.requests import SamlSignIn
from sso.settings import Settings
from sso.staff import parts as staff
from sso.upstream import callback
from sso.upstream.discovery import Discovery
from sso.upstream.fetching import Fetching
from sso.upstream.oidc import OIDC_KINDS, OidcProtocol

NAME: Final = "sso"
SCHEMA: Final = "sso"
QUICK: Final = {"plan_cache_mode": "force_generic_plan", "jit": "off"}
"""Statements are planned once a connection, not for each launch: they find single rows by their keys."""


def keys_of(settings: Settings, database: Database, clock: Clock) -> Keys:
    """The signing keys as settings want them."""
    return Keys(
        database,
        settings.sealing_keys,
        clock,
        life=timedelta(days=settings.key_days),
        token_life=timedelta(seconds=max(settings.token_seconds, ID_TOKEN_SECONDS, CONSOLE_SECONDS)),
    )


def create(settings: Settings, clock: Clock | None = None) -> FastAPI:
    """The app of sso. It checks the tokens of its admins with its own keys, without asking itself over HTTP."""
    clock = clock or SystemClock()

    async def open_parts(app: FastAPI, parts: Parts) -> None:
        database = await _open_database(parts, settings)
        keys = keys_of(settings, database, clock)
        await keys.refresh()
        registered = Clients(database)
        await registered.declare_all(settings.declared_clients)
        app.state.database = database
        app.state.clock, app.state.clients, app.state.keys = clock, registered, keys
        app.state.verifier = Verifier(settings.issuer, keys.jwks, clock)
        parts.start("key rotation", keys.keep_fresh)
        await _open_launching(app, parts, settings, clock)

    return create_app(
        name=NAME,
        title="Homeroom: sign-in and tokens",
        settings=settings,
        routers=[  # what every launch passes through first: routes are looked through in this order
            callback.router,
            *provider.ROUTERS,
            tokens,
            launch_api.router,
            *saml.ROUTERS,
            *handover.ROUTERS,
            pages.router,
            traces_api.router,
            clients,
            *connections.ROUTERS,
            *staff.ROUTERS,
        ],
        open_parts=open_parts,
    )


async def _open_database(parts: Parts, settings: Settings) -> Database:
    return await parts.open(
        "database",
        Database.open(
            settings.database_url.get_secret_value(),
            schema=SCHEMA,
            size=settings.database_pool_size,
            application=NAME,
            session=QUICK,
            clean=False,
        ),
        ping=Database.ping,
    )


async def _open_launching(app: FastAPI, parts: Parts, settings: Settings, clock: Clock) -> None:
    """Everything a launch passes through, on `app.state`."""
    database: Database = app.state.database
    secure = settings.issuer.startswith("https:")
    asking = await parts.open("store's token", TokenSource.open(settings, [SCOPE]))
    people = await parts.open("people", People.open(database, asking, settings))
    flows = Flows(database)
    app.state.launches = Launches(database, clock)
    app.state.fetching = await parts.open("upstreams", Fetching.open(allow_private=settings.allow_private_endpoints))
    app.state.discovery = Discovery(app.state.fetching, clock)
    app.state.oidc = OidcProtocol(database, flows, app.state.discovery, app.state.fetching, clock, settings.issuer)
    app.state.launching = Launching(
        upstreams=Upstreams(database, settings.sealing_keys, clock),
        flows=flows,
        browsers=Browsers(secure=secure),
        launches=app.state.launches,
        people=people,
        identification=Identification(database, people, clock),
        sessions=Sessions(database, secure=secure),
        protocols={
            **dict.fromkeys(OIDC_KINDS, app.state.oidc),
            **dict.fromkeys(SAML_KINDS, SamlSignIn(flows, clock, settings.issuer)),
        },
        continuations={
            "launch": launch_api.continue_launch,
            "authorize": provider.continue_authorize,
            "link": handover.continue_link,
            "staff": staff.continue_staff,
            "test": connections.continue_test,
        },
    )
    await staff.open_parts(app, settings, clock)
    provider.open_parts(app.state, settings, clock, app.state.staff)
    handover.open_parts(app.state, settings, clock)
    connections.open_parts(app.state, settings, clock)
    await saml.open_parts(app.state, parts, settings, clock)


async def work(settings: Settings, parts: Parts, stop: asyncio.Event) -> None:
    """The worker: what sign-in needs from the bus, gives to it, and does in the background."""
    database = await _open_database(parts, settings)
    bus = await parts.open("bus", open_bus(settings), ping=lambda bus: bus.ping())
    await bus.ensure_topics(TOPICS)
    tenancy = bus.consumer([TENANCY.name], TenancyConsumer(database).handle, group=TENANCY_GROUP)
    erasures = bus.consumer([ERASURES.name], ErasureConsumer(database).handle, group=ERASURES_GROUP)
    parts.start("tenancy", tenancy.run)
    parts.start("erasures", erasures.run)
    parts.start("sign-ins", lambda: keep_telling(database, bus, stop))
    parts.start("upkeep", lambda: Upkeep(database, settings).run(stop))
    clock = SystemClock()
    await provider.start_work(parts, database, keys_of(settings, database, clock), settings, clock)
    await connections.start_work(parts, settings, database, bus, clock)
    await stop.wait()
    await asyncio.gather(tenancy.stop(), erasures.stop())
