"""Handover put together: what opens products for whoever is signed in here, and connects their accounts."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import State

from homeroom.clock import Clock
from homeroom.db import Database
from sso.handover import account_pages, link_pages, links_api, lti_launches, tickets_api
from sso.handover.link_pages import Linking, continue_link
from sso.handover.link_requests import LinkRequests
from sso.handover.lti_launches import LtiLaunches
from sso.handover.opening import Handover
from sso.handover.passes import Passes
from sso.handover.tickets import Tickets
from sso.handover.unlinking import Unlinking
from sso.launch.launching import Launching
from sso.provider.relying_parties import RelyingParties
from sso.settings import Settings

__all__ = ["ROUTERS", "continue_link", "open_parts"]

ROUTERS: Final = (tickets_api.router, lti_launches.router, link_pages.router, links_api.router, account_pages.router)


def open_parts(state: State, settings: Settings, clock: Clock) -> None:
    """Put on `app.state` what these routes need, beside what launches have put there."""
    database: Database = state.database
    launching: Launching = state.launching
    parties: RelyingParties = state.relying_parties
    passes, requests = Passes(database), LinkRequests(database)
    state.handover = Handover(settings.issuer, parties, state.hints, passes, launching.launches)
    state.tickets = Tickets(database, passes, parties, launching)
    state.ticket_throttle = tickets_api.make_throttle(clock)
    state.lti_launches = LtiLaunches(settings.issuer, database, clock, state.keys, passes, parties, launching)
    state.link_requests = requests
    state.linking = Linking(settings.issuer, clock, requests, launching)
    state.unlinking = Unlinking(database, launching.people)
