"""What sso opens and serves for connections."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.datastructures import State

from homeroom.bus import Bus
from homeroom.clock import Clock
from homeroom.db import Database
from homeroom.service import Parts
from sso import audit_api
from sso.audit_retention import keep_forgetting
from sso.connections import api, application_api, identities_api, trying_api
from sso.connections.applications import Applications
from sso.connections.checks import SelfTest
from sso.connections.refreshing import MetadataRefresh
from sso.connections.registry import Connections
from sso.connections.saml_configs import SamlConfigs
from sso.connections.sealing import reseal
from sso.connections.telling import Telling
from sso.connections.trials import Trials
from sso.connections.trying_api import continue_test
from sso.settings import Settings
from sso.upstream.fetching import Fetching

__all__ = ["ROUTERS", "continue_test", "open_parts", "start_work"]

ROUTERS: Final[tuple[APIRouter, ...]] = (
    api.router,
    trying_api.router,
    trying_api.browser_router,
    identities_api.router,
    application_api.router,
    audit_api.router,
)


def open_parts(state: State, settings: Settings, clock: Clock) -> None:
    """The use cases, on `app.state`; `database`, `fetching` and `launching` are there."""
    allow_private = settings.allow_private_endpoints
    public_key = settings.sealing_keys.public_key
    configs = SamlConfigs(state.fetching, clock, allow_private=allow_private)
    people = state.launching.people
    state.connections = Connections(state.database, configs, public_key=public_key, allow_private=allow_private)
    state.applications = Applications(state.database, public_key=public_key, allow_private=allow_private)
    state.self_test = SelfTest(state.database, state.fetching, configs, people, clock, settings.issuer)
    state.trials = Trials(state.database, state.launching)


async def start_work(parts: Parts, settings: Settings, database: Database, bus: Bus, clock: Clock) -> None:
    """The worker's part: secrets sealed anew, metadata read again, warnings told, the audit kept for its time."""
    allow_private = settings.allow_private_endpoints
    fetching = await parts.open("metadata's readers", Fetching.open(allow_private=allow_private))
    await reseal(database, settings.sealing_keys)
    refresh = MetadataRefresh(database, SamlConfigs(fetching, clock, allow_private=allow_private))
    parts.start("metadata", refresh.run)
    parts.start("warnings of connections", Telling(database, bus, clock).run)
    parts.start("audit's end", lambda: keep_forgetting(database, settings.audit_days))
