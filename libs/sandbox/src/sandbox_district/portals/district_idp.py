"""The district's own identity provider: plain OpenID Connect, with code challenges for everybody and single logout."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from typing_extensions import override

from sandbox_district.faults import Faults
from sandbox_district.portals.openid import OpenIdFace
from sandbox_district.portals.portal import Portal, PortalSession
from sandbox_district.portals.register import PortalClient, Register
from sandbox_district.portals.signing import LoadSigning

MOUNT: Final = "/idp"


class DistrictIdp(OpenIdFace):
    """What no portal has."""

    issuer_path = MOUNT
    authorize_path = f"{MOUNT}/authorize"
    token_path = f"{MOUNT}/token"
    jwks_path = f"{MOUNT}/jwks"
    userinfo_path = f"{MOUNT}/userinfo"
    code_seconds = 60
    id_token_seconds = 600
    pkce = True
    in_metadata = {  # noqa: RUF012 - it is declared in the base class
        "scopes_supported": ["openid", "profile", "email"],
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": ["none", "login"],
        "authorization_response_iss_parameter_supported": True,
        "end_session_endpoint": f"{MOUNT}/end-session",
    }

    def __init__(self, portal: Portal, register: Register, faults: Faults, signing: LoadSigning) -> None:
        super().__init__(portal, register, faults, signing)
        self.routes.append(Route(f"{MOUNT}/end-session", self._end_session, methods=["GET"]))

    @override
    def make_claims(self, session: PortalSession, client: PortalClient) -> dict[str, Any]:
        account = session.account
        claims: dict[str, Any] = {
            "sub": account.subject,
            "name": account.name,
            "given_name": account.given,
            "family_name": account.family,
            "preferred_username": account.username,
        }
        if account.email:
            claims |= {"email": account.email, "email_verified": True}
        if account.sourced_id is not None:
            claims["sourcedId"] = account.sourced_id
        return claims

    async def _end_session(self, request: Request) -> Response:
        asked = request.query_params
        wanted = asked.get("post_logout_redirect_uri", "")
        allowed = any(
            wanted in each.post_logout_redirect_uris for each in self._register.list_clients(self.portal.name)
        )
        state = f"?{urlencode({'state': asked['state']})}" if "state" in asked else ""
        response = RedirectResponse(wanted + state if wanted and allowed else f"{MOUNT}/sign-in", 303)
        self.portal.forget(request, response)
        return response
