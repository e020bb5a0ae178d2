"""Homeroom's own console as a client: its people sign in here, and get access tokens for Homeroom's REST.

The provider treats it as any client (PKCE, exact redirect URIs, codes) but for two things, which `sso.staff` decides:
how its people sign in, and what they may do.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Protocol
from uuid import UUID

from fastapi import Request, Response

from sso.launch.sessions import Session
from sso.launch.traces import Trace
from sso.provider.relying_parties import NO_PRODUCT, RelyingParty

CONSOLE: Final = "homeroom-console"
CONSOLE_SECONDS: Final = 600
"""How long its access tokens are valid: they can't be taken back, so they are renewed often."""


def make_console(issuer: str) -> RelyingParty:
    """The console as a client: it lives on our own origin, keeps no secret, and renews its short tokens."""
    return RelyingParty(
        client_id=CONSOLE,
        product_id=NO_PRODUCT,
        launches=False,
        launch_mode="oidc",
        redirect_uris=(f"{issuer}/console/signed-in",),
        post_logout_redirect_uris=(f"{issuer}/console/",),
        initiate_login_uri=None,
        launch_uri=None,
        backchannel_logout_uri=None,
        destinations={},
        refresh_tokens=True,
        public=True,
        lti=None,
    )


class StaffGrant(Protocol):
    """What somebody may do with Homeroom itself."""

    @property
    def subject(self) -> str:
        """Who it is, in tokens and audit logs: an id of ours, no name."""

    @property
    def scopes(self) -> Collection[str]:
        """Scopes of Homeroom's REST."""

    @property
    def organization_id(self) -> UUID | None:
        """The one organization they may see; None is all of them."""

    @property
    def product_id(self) -> UUID | None:
        """The one product they look after; None for none."""

    @property
    def teacher(self) -> tuple[UUID, str] | None:
        """Of a teacher: the integration, and what its roster calls them; None for others."""


class FirstParty(Protocol):
    """Who signs in to Homeroom itself, and what they may."""

    async def find_scopes(
        self, session: Session, organization_id: UUID | None = None, product_id: UUID | None = None
    ) -> StaffGrant:
        """What the person of a session may do, in what is named. Raises `Refused` SIGNIN_ROLE_MISSING if nothing."""

    async def sign_in(self, request: Request, resume: str, trace: Trace, *, fresh: bool) -> Response:
        """Let somebody sign in; `Authorizing.resume` with `resume` goes on when they have."""
