"""SAML put together, for the app."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.datastructures import State

from homeroom.clock import Clock
from homeroom.service import Parts
from sso.launch.launching import Launching
from sso.saml import saml_api
from sso.saml.arriving import Landings
from sso.saml.checking import Checking
from sso.saml.logout import SamlLogout
from sso.saml.saml_api import Saml
from sso.settings import Settings

ROUTERS: Final[tuple[APIRouter, ...]] = (saml_api.router,)


async def open_parts(state: State, parts: Parts, settings: Settings, clock: Clock) -> None:
    """`state.saml`, once `state.launching` is there."""
    launching: Launching = state.launching
    database, issuer = state.database, settings.issuer
    logout = SamlLogout(database, launching.upstreams, launching.sessions, launching.flows, clock, issuer)
    checking = await parts.open("saml", Checking.open())
    state.saml = Saml(checking, Landings(database), logout, database, clock, issuer)
