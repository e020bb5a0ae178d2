"""All of it put together: the portals, their identity providers, the sample product and the control of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from starlette.routing import BaseRoute

from sandbox_district.district import District
from sandbox_district.faults import Faults
from sandbox_district.portals import pages
from sandbox_district.portals.accounts import Directory
from sandbox_district.portals.clever_portal import CleverPortal
from sandbox_district.portals.control import PortalControl
from sandbox_district.portals.district_idp import DistrictIdp
from sandbox_district.portals.launchpad import LaunchPad
from sandbox_district.portals.portal import Portal
from sandbox_district.portals.product import Product
from sandbox_district.portals.register import Register
from sandbox_district.portals.saml_provider import SamlProvider
from sandbox_district.portals.signing import load_signing


class DistrictPortals:
    """What the people of the district sign in with."""

    def __init__(
        self, district: District, faults: Faults, name_district: Callable[[], str], key_file: Path | None = None
    ) -> None:
        signing = partial(load_signing, key_file)
        self.directory, self.register, self.product = Directory(district), Register(), Product()
        launchpad = Portal("launchpad", "Lake Verity LaunchPad", self.directory, self.register)
        clever = Portal("clever-portal", "Lake Verity Clever Portal", self.directory, self.register)
        own = Portal("idp", "Lake Verity ID", self.directory, self.register)
        self.routes: list[BaseRoute] = [
            *pages.ROUTES,
            *launchpad.routes,
            *LaunchPad(launchpad, self.register, faults, signing).routes,
            *SamlProvider(launchpad, self.register, signing).routes,
            *clever.routes,
            *CleverPortal(clever, self.register, faults, signing, name_district).routes,
            *own.routes,
            *DistrictIdp(own, self.register, faults, signing).routes,
            *self.product.routes,
        ]
        self.control = PortalControl(self.directory, self.register, self.product)
