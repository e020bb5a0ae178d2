"""A SAML identity provider over the LaunchPad-like portal's sessions, with attributes as ClassLink offers them.

Source: ClassLink's articles on its SAML console, for what can be sent; the names of attributes are the district's.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sandbox_district.classlink import TENANT_ID
from sandbox_district.portals.accounts import Account
from sandbox_district.portals.launchpad import ROLES, TENANT
from sandbox_district.portals.openid import name_origin
from sandbox_district.portals.pages import show
from sandbox_district.portals.portal import Portal, PortalSession
from sandbox_district.portals.register import Register, SamlService
from sandbox_district.portals.saml_messages import (
    Answer,
    SamlRequest,
    UnreadableRequestError,
    read_request,
    write_logout_redirect,
    write_metadata,
    write_response,
)
from sandbox_district.portals.signing import LoadSigning

MOUNT: Final = "/saml-idp"
SSO_PATH: Final = f"{MOUNT}/sso"
SLO_PATH: Final = f"{MOUNT}/slo"
METADATA_PATH: Final = f"{MOUNT}/metadata"
START_PATH: Final = f"{MOUNT}/start"
"""Where the portal begins by itself: `?sp=ENTITY_ID`, and `RelayState` if there is one."""


class SamlProvider:
    """The identity provider's routes."""

    def __init__(self, portal: Portal, register: Register, signing: LoadSigning) -> None:
        self._portal, self._register, self._load_signing = portal, register, signing
        self.routes = [
            Route(METADATA_PATH, self._tell_metadata, methods=["GET"]),
            Route(SSO_PATH, self._answer, methods=["GET"]),
            Route(START_PATH, self._start, methods=["GET"]),
            Route(SLO_PATH, self._end, methods=["GET"]),
        ]

    async def _tell_metadata(self, request: Request) -> Response:
        origin = name_origin(request)
        document = write_metadata(origin + METADATA_PATH, origin + SSO_PATH, origin + SLO_PATH, self._load_signing())
        return Response(document, media_type="application/samlmetadata+xml")

    async def _answer(self, request: Request) -> Response:
        found = self._read(request, "AuthnRequest")
        if isinstance(found, Response):
            return found
        asked, service = found
        if asked.acs_url not in {None, service.acs_url}:
            return self._portal.complain("The application wants its answer at an address it did not register.")
        session = self._portal.recognise(request)
        if session is None or (asked.force and datetime.now(UTC).timestamp() - session.auth_time > 60):  # noqa: PLR2004 - seconds
            return self._portal.ask(request)
        return await self._post(request, service, session, asked.id)

    async def _start(self, request: Request) -> Response:
        service = self._register.find_service(request.query_params.get("sp", ""))
        if service is None:
            return self._portal.complain("The application is not known.")
        session = self._portal.recognise(request)
        if session is None:
            return self._portal.ask(request)
        return await self._post(request, service, session, None)

    async def _end(self, request: Request) -> Response:
        found = self._read(request, "LogoutRequest")
        if isinstance(found, Response):
            return found
        asked, service = found
        if service.slo_url is None:
            response: Response = RedirectResponse(self._portal.mount, 303)
        else:
            issuer, relay = name_origin(request) + METADATA_PATH, request.query_params.get("RelayState")
            response = RedirectResponse(
                write_logout_redirect(issuer, service.slo_url, asked, relay, self._load_signing()), 303
            )
        self._portal.forget(request, response)
        return response

    def _read(self, request: Request, kind: str) -> tuple[SamlRequest, SamlService] | Response:
        try:
            asked = read_request(request.query_params.get("SAMLRequest", ""))
        except UnreadableRequestError:
            return self._portal.complain("What the application sent along can't be read.")
        service = self._register.find_service(asked.issuer)
        if asked.kind != kind or service is None:
            return self._portal.complain("The application that sent you here is not known.")
        return asked, service

    async def _post(
        self, request: Request, service: SamlService, session: PortalSession, in_response_to: str | None
    ) -> Response:
        account = session.account
        answer = Answer(
            issuer=name_origin(request) + METADATA_PATH,
            audience=service.entity_id or "",
            acs_url=service.acs_url or "",
            name_id=str(account.user_id),
            session_index=f"_{sha256(f'{account.key} {session.auth_time}'.encode()).hexdigest()[:32]}",
            auth_time=datetime.fromtimestamp(session.auth_time, UTC),
            attributes=list_attributes(account),
            in_response_to=in_response_to,
        )
        written = await asyncio.to_thread(write_response, answer, self._load_signing())
        fields = {"SAMLResponse": written}
        if relay := request.query_params.get("RelayState"):
            fields["RelayState"] = relay
        return show("post", theme=self._portal.name, heading=self._portal.heading, url=answer.acs_url, fields=fields)


def list_attributes(account: Account) -> dict[str, str]:
    """What an assertion says of somebody, by the names this district chose."""
    role, _ = ROLES.get(account.role, ("Parent", 5))
    given: dict[str, str | None] = {
        "ID": str(account.user_id),
        "Login id": account.username,
        "OR:userSourcedId": account.sourced_id,
        "OR:userIdentifier": account.identifier,
        "OR:userOrgId": account.schools[0] if account.schools else None,
        "Role": role,
        "Tenant ID": str(TENANT_ID),
        "Tenant Name": TENANT,
        "Given Name": account.given,
        "Family Name": account.family,
        "Full Name": account.name,
        "Email": account.email,
    }
    return {name: value for name, value in given.items() if value}


def start_path(entity_id: str) -> str:
    """What a tile points to that opens an application by SAML without being asked."""
    return f"{START_PATH}?sp={quote(entity_id, safe='')}"
