"""An OAuth 2 server with Clever's addresses below its portal, which speaks OpenID Connect where that is switched on.

Sources: Clever's developer pages "Identity API" and "OIDC implementation".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from typing_extensions import override

from sandbox_district.exchanges import answer_with
from sandbox_district.faults import Faults
from sandbox_district.portals.openid import Access, OpenIdFace, complain
from sandbox_district.portals.portal import Portal, PortalSession
from sandbox_district.portals.register import PortalClient, Register, Tile
from sandbox_district.portals.signing import LoadSigning
from sandbox_district.replies import Reply, reply_json

MOUNT: Final = "/clever-portal"
ME_PATH: Final = f"{MOUNT}/v3.0/me"
USERS_PATH: Final = f"{MOUNT}/v3.0/users"
KINDS: Final = {"student": "student", "teacher": "teacher", "administrator": "district_admin", "aide": "staff"}
"""OneRoster's role → Clever's; everybody else is a contact."""


class CleverPortal(OpenIdFace):
    """Clever's part."""

    issuer_path = MOUNT
    authorize_path = f"{MOUNT}/oauth/authorize"
    token_path = f"{MOUNT}/oauth/tokens"
    jwks_path = f"{MOUNT}/oauth/certs"
    userinfo_path = f"{MOUNT}/userinfo"
    code_seconds = 60
    id_token_seconds = 3600

    def __init__(
        self,
        portal: Portal,
        register: Register,
        faults: Faults,
        signing: LoadSigning,
        name_district: Callable[[], str],
    ) -> None:
        super().__init__(portal, register, faults, signing)
        self._name_district = name_district
        self.routes += [
            Route(f"{MOUNT}/oauth/instant-login", self._log_in_instantly, methods=["GET"]),
            Route(ME_PATH, self._serve_me, methods=["GET"]),
            Route(f"{USERS_PATH}/{{id}}", self._serve_user, methods=["GET"]),
        ]

    @override
    def speaks_openid(self, client: PortalClient | None) -> bool:
        """Metadata is there once any application has it switched on."""
        if client is not None:
            return client.openid
        return any(each.openid for each in self._register.list_clients(self.portal.name))

    @override
    def make_claims(self, session: PortalSession, client: PortalClient) -> dict[str, Any]:
        account = session.account
        claims = {
            "sub": account.clever_id,
            "user_id": account.clever_id[::-1],
            "user_type": KINDS.get(account.role, "contact"),
            "district": self._name_district(),
            "given_name": account.given,
            "family_name": account.family,
            "name": account.name,
        }
        return claims | ({"email": account.email, "email_verified": False} if account.email else {})

    async def _log_in_instantly(self, request: Request) -> Response:
        """What bookmarks and districts' pages lead to: signed in, the first redirect URI gets a code without state."""
        session = self.portal.recognise(request)
        client = self._register.find_client(self.portal.name, request.query_params.get("client_id", ""))
        if client is None:
            return self.portal.complain("The application is not known.")
        if session is None:
            return self.portal.ask(request)
        tile = Tile(portal=self.portal.name, name="Instant Login", starts="code", client_id=client.client_id)
        return RedirectResponse(self._make_code_of_tile(tile, session), 303)

    async def _serve_me(self, request: Request) -> Response:
        def tell(access: Access) -> Reply:
            clever_id = access.session.account.clever_id
            data = {"id": clever_id, "district": self._name_district(), "type": "user", "authorized_by": "district"}
            links = [
                {"rel": "self", "uri": "/me"},
                {"rel": "canonical", "uri": f"/v3.0/users/{clever_id}"},
                {"rel": "district", "uri": f"/v3.0/districts/{data['district']}"},
            ]
            return reply_json({"type": "user", "data": data, "links": links})

        return await self._serve(request, ME_PATH, tell)

    async def _serve_user(self, request: Request) -> Response:
        def tell(access: Access) -> Reply:
            account = access.session.account
            if request.path_params["id"] != account.clever_id:
                return complain(404, "Resource not found")
            role = KINDS.get(account.role, "contact")
            known = {"sis_id": account.sourced_id} if account.sourced_id else {}
            data = {
                "id": account.clever_id,
                "district": self._name_district(),
                "name": {"first": account.given, "last": account.family},
                "roles": {role: known},
                **({"email": account.email} if account.email else {}),
            }
            return reply_json({"data": data, "links": [{"rel": "self", "uri": f"/v3.0/users/{account.clever_id}"}]})

        return await self._serve(request, USERS_PATH, tell)

    async def _serve(self, request: Request, path: str, tell: Callable[[Access], Reply]) -> Response:
        access = self.find_access(request)
        faults = self._faults.strike(path, single=path == USERS_PATH)
        work = (lambda: complain(401, "Unauthorized")) if access is None else (lambda: tell(access))
        return await answer_with(faults, work, complain)
