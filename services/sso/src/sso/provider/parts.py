"""The provider put together, for the app and for the worker."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.datastructures import State

from homeroom.clock import Clock
from homeroom.db import Database
from homeroom.service import Parts
from sso.keys import Keys
from sso.launch.launching import Arrived, Launching
from sso.launch.throttle import Throttle
from sso.provider import logout, provider_api, relying_parties_api
from sso.provider.authorizing import Authorizing
from sso.provider.client_authentication import FAILURES, FAILURES_SECONDS, ClientAuthentication
from sso.provider.codes import Codes
from sso.provider.first_party import FirstParty, make_console
from sso.provider.grants import Grants
from sso.provider.hints import Hints
from sso.provider.kept_requests import KeptRequests
from sso.provider.logout_deliveries import LogoutDeliveries
from sso.provider.relying_parties import RelyingParties
from sso.provider.signing import Signing
from sso.settings import Settings

ROUTERS: Final[tuple[APIRouter, ...]] = (
    provider_api.browsers,
    provider_api.servers,
    logout.router,
    relying_parties_api.router,
)


async def continue_authorize(request: Request, arrived: Arrived) -> Response:
    """The continuation of `authorize`: whoever has signed in gets on to the product that asked."""
    authorizing: Authorizing = request.app.state.authorizing
    return await authorizing.resume(request, arrived)


def open_parts(state: State, settings: Settings, clock: Clock, first_party: FirstParty | None = None) -> None:
    """Put on `app.state` what these routes need, once `state.launching` is there.

    Without a `first_party` there is no console to sign in to.
    """
    database: Database = state.database
    launching: Launching = state.launching
    consoles = () if first_party is None else (make_console(settings.issuer),)
    state.relying_parties = RelyingParties(database, clock, consoles)
    state.hints = Hints(database)
    state.signing = Signing(state.keys, settings.issuer, clock)
    state.client_authentication = ClientAuthentication(
        state.clients, state.relying_parties, Throttle(FAILURES, FAILURES_SECONDS, clock)
    )
    state.grants = Grants(
        database,
        launching,
        state.signing,
        state.keys,
        settings.issuer,
        clock,
        settings.token_seconds,
        first_party,
    )
    state.authorizing = Authorizing(
        settings.issuer,
        database,
        state.relying_parties,
        KeptRequests(database),
        Codes(database, state.launches),
        state.hints,
        state.signing,
        launching,
        clock,
        first_party,
    )


async def start_work(parts: Parts, database: Database, keys: Keys, settings: Settings, clock: Clock) -> None:
    """Have the worker tell products of sessions that ended."""
    await keys.refresh()
    parts.start("key rotation", keys.keep_fresh)
    deliveries = await parts.open(
        "logout deliveries",
        LogoutDeliveries.open(
            database,
            RelyingParties(database, clock),
            Signing(keys, settings.issuer, clock),
            allow_private=settings.allow_private_endpoints,
        ),
    )
    parts.start("logout deliveries", deliveries.run)
