"""What the staff's sign-in needs, put together."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI

from homeroom.clock import Clock
from homeroom.db import Database
from sso.launch.launching import Launching
from sso.settings import Settings
from sso.staff import sign_in_pages, staff_api, welcome
from sso.staff.invitations import Invitations
from sso.staff.local_sign_in import LocalSignIn
from sso.staff.passwords import Passwords
from sso.staff.sign_in_pages import continue_staff
from sso.staff.staff import Staff
from sso.staff.welcome import Welcome

ROUTERS: Final = (staff_api.router, welcome.router, sign_in_pages.router)

__all__ = ["ROUTERS", "continue_staff", "open_parts"]


async def open_parts(app: FastAPI, settings: Settings, clock: Clock) -> None:
    """Put it on `app.state`, and make the declared admin what the settings say."""
    database: Database = app.state.database
    launching: Launching = app.state.launching
    passwords = Passwords()
    staff = Staff(
        database,
        upstreams=launching.upstreams,
        identification=launching.identification,
        people=launching.people,
        sessions=launching.sessions,
        platform_organizations=settings.platform_organizations,
    )
    app.state.staff = staff
    app.state.welcome = Welcome(staff, Invitations(database), passwords)
    app.state.local_sign_in = LocalSignIn(database, staff.accounts, passwords, clock)
    declared = settings.declared_admin
    if declared is not None:
        await staff.accounts.declare(*declared, bootstrap=True)
    await staff.accounts.release([] if declared is None else [declared[0]])
