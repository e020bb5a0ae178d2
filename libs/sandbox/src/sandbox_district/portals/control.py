"""The control routes of the portals: which applications and tiles there are, and what the sample product is told."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.request import urlopen

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox_district.classlink import TENANT_ID
from sandbox_district.portals import clever_portal, district_idp, launchpad, product, saml_provider
from sandbox_district.portals.accounts import NEWCOMER, Directory
from sandbox_district.portals.product import Product, ProductOrder
from sandbox_district.portals.register import PortalClient, Register, SamlService, Tile
from sandbox_district.portals.saml_messages import read_service_metadata

FETCH_SECONDS: Final = 10
MOST_LISTED: Final = 20
MOST_BYTES: Final = 1_000_000
ORDERS: Final = {
    "POST /sandbox/portal-clients": 'registers an application: {"kind": "openid", "portal": "launchpad", "client_id": '
    '"…", "client_secret": "…", "redirect_uris": ["…"]}, or {"kind": "saml", "metadata_url": "…"}',
    "POST /sandbox/tiles": 'puts a tile on a portal: {"portal": "launchpad", "name": "…", "url": "…"}, or "starts": '
    '"code" with a client_id',
    "POST /sandbox/product": 'tells the sample product who signs its people in: {"issuer": "…", "client_id": "…", '
    '"client_secret": "…"}',
    "GET /sandbox/people?search=…": "made-up people who can sign in, their ids at the portals and their classes",
}


class PortalControl:
    """The routes under /sandbox that are about portals."""

    def __init__(self, directory: Directory, register: Register, sample: Product) -> None:
        self._directory, self._register, self._sample = directory, register, sample
        self.routes = [
            Route("/sandbox/portal-clients", self._register_client, methods=["POST"]),
            Route("/sandbox/tiles", self._put_tile, methods=["POST"]),
            Route("/sandbox/product", self._tell_product, methods=["POST"]),
            Route("/sandbox/people", self._list_people, methods=["GET"]),
        ]

    async def _register_client(self, request: Request) -> Response:
        try:
            client = msgspec.json.decode(await request.body(), type=PortalClient | SamlService)
            if isinstance(client, PortalClient):
                self._register.put_client(client)
            else:
                self._register.put_service(await _complete(client))
        except (msgspec.MsgspecError, OSError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return Response(status_code=204)

    async def _put_tile(self, request: Request) -> Response:
        try:
            self._register.put_tile(msgspec.json.decode(await request.body(), type=Tile))
        except (msgspec.MsgspecError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return Response(status_code=204)

    async def _tell_product(self, request: Request) -> Response:
        try:
            self._sample.obey(msgspec.json.decode(await request.body(), type=ProductOrder))
        except msgspec.MsgspecError as error:
            return JSONResponse({"error": str(error)}, 400)
        return Response(status_code=204)

    async def _list_people(self, request: Request) -> Response:
        found = self._directory.search(request.query_params.get("search", ""), most=MOST_LISTED)
        return JSONResponse(
            [msgspec.to_builtins(each) | {"classes": self._directory.list_classes(each)} for each in found]
        )


async def _complete(service: SamlService) -> SamlService:
    """A service with what its metadata says filled in. Raises OSError or ValueError."""
    if service.metadata_url is None:
        return service
    if not service.metadata_url.startswith(("https://", "http://")):
        msg = "the metadata's address is none of the web"
        raise ValueError(msg)

    def fetch(url: str) -> bytes:
        with urlopen(url, timeout=FETCH_SECONDS) as answer:  # noqa: S310 - the scheme was looked at
            content: bytes = answer.read(MOST_BYTES)
        return content

    entity_id, acs_url, slo_url = read_service_metadata(await asyncio.to_thread(fetch, service.metadata_url))
    return msgspec.structs.replace(
        service,
        entity_id=service.entity_id or entity_id,
        acs_url=service.acs_url or acs_url,
        slo_url=service.slo_url or slo_url,
    )


def describe_portals(origin: str, clever_district: str) -> dict[str, Any]:
    """The addresses of portals, identity providers and the sample product."""
    return {
        "launchpad": {
            "portal": origin + launchpad.MOUNT,
            "issuer": origin + launchpad.MOUNT,
            "info_url": origin + launchpad.INFO_PATH,
            "tenant": str(TENANT_ID),
        },
        "clever_portal": {
            "portal": origin + clever_portal.MOUNT,
            "issuer": origin + clever_portal.MOUNT,
            "authorization_endpoint": origin + clever_portal.CleverPortal.authorize_path,
            "token_endpoint": origin + clever_portal.CleverPortal.token_path,
            "userinfo_endpoint": origin + clever_portal.CleverPortal.userinfo_path,
            "info_url": origin + clever_portal.ME_PATH,
            "tenant": clever_district,
        },
        "idp": {"portal": origin + district_idp.MOUNT, "issuer": origin + district_idp.MOUNT},
        "saml_idp": {
            "metadata_url": origin + saml_provider.METADATA_PATH,
            "start": f"{origin}{saml_provider.START_PATH}?sp=ENTITY_ID",
            "attributes": [*sorted(saml_provider.list_attributes(NEWCOMER)), "OR:userSourcedId"],
        },
        "product": product.describe(origin),
    }
