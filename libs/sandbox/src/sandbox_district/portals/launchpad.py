"""An OpenID provider with ClassLink's addresses below its issuer, its claims and its `my/info`.

Sources: ClassLink's developer pages "Requesting access", "Obtaining bearer tokens" and "My info".
"""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from typing_extensions import override

from sandbox_district.classlink import TENANT_ID
from sandbox_district.exchanges import answer_with
from sandbox_district.faults import Faults
from sandbox_district.portals.openid import OpenIdFace, complain
from sandbox_district.portals.portal import Portal, PortalSession
from sandbox_district.portals.register import PortalClient, Register
from sandbox_district.portals.signing import LoadSigning
from sandbox_district.replies import Reply, reply_json

MOUNT: Final = "/launchpad"
INFO_PATH: Final = f"{MOUNT}/v2/my/info"
TENANT: Final = "Lake Verity Unified School District"
ROLES: Final = {
    "student": ("Student", 4),
    "teacher": ("Teacher", 3),
    "aide": ("Teacher", 3),
    "administrator": ("Tenant Administrator", 1),
}
"""OneRoster's role → ClassLink's, with its level; everybody else is a parent."""


class LaunchPad(OpenIdFace):
    """ClassLink's part."""

    issuer_path = MOUNT
    authorize_path = f"{MOUNT}/oauth2/v2/auth"
    token_path = f"{MOUNT}/oauth2/v2/token"
    jwks_path = f"{MOUNT}/oauth2/v2/jwks"
    userinfo_path = f"{MOUNT}/v2/my/profileinfo"
    code_seconds = 300
    id_token_seconds = 86_400
    in_metadata = {  # noqa: RUF012 - it is declared in the base class
        "scopes_supported": ["openid", "profile", "email", "oneroster", "full"],
        "claims_supported": ["sub", "name", "classLink_tenant_id", "classLink_sourcedId", "classLink_role"],
    }

    def __init__(self, portal: Portal, register: Register, faults: Faults, signing: LoadSigning) -> None:
        super().__init__(portal, register, faults, signing)
        self.routes.append(Route(INFO_PATH, self._serve_info, methods=["GET"]))

    @override
    def make_claims(self, session: PortalSession, client: PortalClient) -> dict[str, Any]:
        account = session.account
        role, level = ROLES.get(account.role, ("Parent", 5))
        claims: dict[str, Any] = {
            "sub": str(account.user_id),
            "login_hint": account.username,
            "name": account.name,
            "given_name": account.given,
            "family_name": account.family,
            "address": {"locality": TENANT, "region": "California"},
            "classLink_tenant_id": TENANT_ID,
            "classLink_tenant_id_string": str(TENANT_ID),
            "classLink_role": role,
            "classLink_role_level": level,
        }
        if account.email:
            claims |= {"email": account.email, "email_verified": False}
        if account.sourced_id is not None:
            claims |= {
                "classLink_sourcedId": account.sourced_id,
                "classLink_org_sourcedids": ",".join(account.schools),
            }
        return claims

    async def _serve_info(self, request: Request) -> Response:
        access = self.find_access(request)
        faults = self._faults.strike(INFO_PATH)

        def work() -> Reply:
            if access is None:
                return complain(401, "The access token is not known.")
            return reply_json(self._tell_info(access.session))

        return await answer_with(faults, work, complain)

    @staticmethod
    def _tell_info(session: PortalSession) -> dict[str, Any]:
        account = session.account
        role, level = ROLES.get(account.role, ("Parent", 5))
        return {
            "UserId": account.user_id,
            "TenantId": TENANT_ID,
            "StateId": 5,
            "StateName": "California",
            "BuildingId": int(account.schools[0]) if account.schools and account.schools[0].isdecimal() else 0,
            "AuthenticationType": 20,
            "DisplayName": account.name,
            "FirstName": account.given,
            "LastName": account.family,
            "Email": account.email or f"{account.username}@demo.local",
            "LoginId": account.username,
            "Language": 1,
            "Profile": role,
            "ProfileId": level,
            "Tenant": TENANT,
            "Role": role,
            "Role_Level": level,
            "OrgId": account.schools[0] if account.schools else "",
            "SourcedId": account.sourced_id or "",
        }
