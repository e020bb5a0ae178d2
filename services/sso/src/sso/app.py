"""sso put together: what it opens and what it serves."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from fastapi import FastAPI

from homeroom.auth import Verifier
from homeroom.clock import Clock, SystemClock
from homeroom.db import Database
from homeroom.service import Parts, create_app
from sso.api import clients, tokens
from sso.clients import Clients
from sso.keys import Keys
from sso.settings import Settings

NAME: Final = "sso"
SCHEMA: Final = "sso"


def keys_of(settings: Settings, database: Database, clock: Clock) -> Keys:
    """The signing keys as settings want them."""
    return Keys(
        database,
        settings.sealing_keys,
        clock,
        life=timedelta(days=settings.key_days),
        token_life=timedelta(seconds=settings.token_seconds),
    )


def create(settings: Settings, clock: Clock | None = None) -> FastAPI:
    """The app of sso. It checks the tokens of its admins with its own keys, without asking itself over HTTP."""
    clock = clock or SystemClock()

    async def open_parts(app: FastAPI, parts: Parts) -> None:
        database = await parts.open(
            "database",
            Database.open(
                settings.database_url.get_secret_value(),
                schema=SCHEMA,
                size=settings.database_pool_size,
                application=NAME,
            ),
            ping=Database.ping,
        )
        keys = keys_of(settings, database, clock)
        await keys.refresh()
        registered = Clients(database)
        await registered.declare_all(settings.declared_clients)
        app.state.clock, app.state.clients, app.state.keys = clock, registered, keys
        app.state.verifier = Verifier(settings.issuer, keys.jwks, clock)
        parts.start("key rotation", keys.keep_fresh)

    return create_app(
        name=NAME, title="Homeroom: tokens", settings=settings, routers=[tokens, clients], open_parts=open_parts
    )
