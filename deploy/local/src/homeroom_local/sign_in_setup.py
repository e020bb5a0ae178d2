"""Sign-in between the sandbox's portals and its sample product, set up over REST as an admin would do it.

`homeroom up` does it once: what was made is kept in the data folder, and the sandbox, which forgets, is told again at
each start. `homeroom demo` does a part of it and has one student launched.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import httpx2
import msgspec

from homeroom_local.client import ApiError, HomeroomClient
from homeroom_local.secrets_file import write_private
from homeroom_local.stack import Stack

KNOWN_SECONDS: Final = 20.0
"""How long it may take until every service has heard of something that was just made."""
UNHEARD: Final = frozenset({404, 422})
"""How a service answers what names something it has not heard of."""
PORTAL_CLIENT: Final = "homeroom"
PRODUCT: Final = "Sample Product"
PRODUCT_SCOPES: Final = ("roster.read", "accounts.write")
GRANTS: Final = ("grades", "identifiers", "contacts")

Json = dict[str, Any]
T = TypeVar("T")
DoorName = Literal["classlink", "clever", "idp", "saml"]


class SetupError(Exception):
    """Sign-in could not be set up; the text says where it stopped."""


class Door(msgspec.Struct, frozen=True):
    """A way in that was made.

    Args:
        path: where the API has it; its answer has the addresses for the portal.
        secret: what the portal knows us by; empty for SAML.
    """

    path: str
    secret: str = ""


class SignIn(msgspec.Struct, frozen=True):
    """What was made at Homeroom; with it the sandbox can be told again. Only its owner may read it."""

    sandbox: str
    product: str
    client_id: str
    client_secret: str
    doors: dict[DoorName, Door]


@dataclass
class SandboxAdmin:
    """An admin of Homeroom who also looks after the sandbox's portals."""

    client: HomeroomClient
    district: httpx2.AsyncClient
    issuer: str
    described: Json
    """What the sandbox says of itself."""

    @classmethod
    async def open(cls, stack: AsyncExitStack, running: Stack) -> SandboxAdmin:
        """Come to an installation with its sandbox."""
        client = await stack.enter_async_context(HomeroomClient.open(running.origin, await running.token()))
        district = await stack.enter_async_context(
            httpx2.AsyncClient(base_url=running.sandbox, timeout=60, trust_env=False)
        )
        return cls(client, district, running.origin, (await district.get("/sandbox")).json())

    @property
    def portals(self) -> Json:
        """The addresses of the portals."""
        found: Json = self.described["portals"]
        return found

    # ── at Homeroom ──────────────────────────────────────────────────────────────────────────────────────────────

    async def add_product(self, *organizations: str) -> tuple[str, str, str]:
        """The sample product, licensed to organizations, with a client that signs people in: its id, and the client."""
        product = str((await self.client.call("POST", "/v1/products", json={"name": PRODUCT}))["id"])
        for organization in organizations:
            license_ = {"product_id": product, "organization_id": organization, "grants": GRANTS}
            await self.client.call("POST", "/v1/licenses", json=license_)
        body = {"scopes": PRODUCT_SCOPES, "product_id": product}
        client = await self._once_known(lambda: self.client.call("POST", "/v1/clients", json=body))
        told = self.portals["product"]
        party = {
            "redirect_uris": [told["redirect_uri"]],
            "post_logout_redirect_uris": told["post_logout_redirect_uris"],
            "initiate_login_uri": told["initiate_login_uri"],
            "backchannel_logout_uri": told["backchannel_logout_uri"],
            "destinations": told["destinations"],
        }
        await self._once_known(lambda: self.client.call("PUT", f"/v1/relying-parties/{client['id']}", json=party))
        return product, str(client["id"]), str(client["secret"])

    async def connect_classlink(self, organization: str, integration: str, product: str) -> Door:
        """The LaunchPad-like portal: one application for all districts, and this district's tenant of it."""
        told, secret = self.portals["launchpad"], secrets.token_urlsafe(24)
        oidc = {"issuer": told["issuer"], "info_url": told["info_url"]}
        door = await self._add_application("classlink", "LaunchPad (sandbox)", oidc, secret, product)
        await self._connect(
            {
                "organization_id": organization,
                "kind": "classlink",
                "name": "LaunchPad",
                "integration_id": integration,
                "tenant": told["tenant"],
                "application_id": door.path.rpartition("/")[2],
            }
        )
        return door

    async def connect_clever(self, organization: str, integration: str, product: str) -> Door:
        """The Clever-like portal, as Clever is at first: OAuth 2 without OpenID Connect."""
        told, secret = self.portals["clever_portal"], secrets.token_urlsafe(24)
        names = ("issuer", "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "info_url")
        oidc = {name: told[name] for name in names} | {"openid": False}
        door = await self._add_application("clever", "Clever (sandbox)", oidc, secret, product)
        await self._connect(
            {
                "organization_id": organization,
                "kind": "clever",
                "name": "Clever",
                "integration_id": integration,
                "tenant": told["tenant"],
                "application_id": door.path.rpartition("/")[2],
            }
        )
        return door

    async def connect_idp(self, organization: str, integration: str, product: str) -> Door:
        """The district's own identity provider: plain OpenID Connect."""
        secret = secrets.token_urlsafe(24)
        made = await self._connect(
            {
                "organization_id": organization,
                "kind": "oidc",
                "name": "Lake Verity ID",
                "integration_id": integration,
                "product_id": product,
                "oidc": {
                    "issuer": self.portals["idp"]["issuer"],
                    "client_id": PORTAL_CLIENT,
                    "client_secret": secret,
                    "person_claim": "sourcedId",
                },
            }
        )
        return Door(f"/v1/connections/{made['id']}", secret)

    async def connect_saml(self, organization: str, integration: str, product: str) -> Door:
        """The same people by SAML, with answers nobody asked for allowed."""
        told = self.portals["saml_idp"]
        made = await self._connect(
            {
                "organization_id": organization,
                "kind": "classlink-saml",
                "name": "LaunchPad by SAML",
                "integration_id": integration,
                "tenant": self.portals["launchpad"]["tenant"],
                "product_id": product,
                "saml": {
                    "metadata_url": told["metadata_url"],
                    "idp_initiated": True,
                    "person_attribute": "OR:userSourcedId",
                    "tenant_attribute": "Tenant ID",
                    "subject_attribute": "ID",
                    "name_attribute": "Full Name",
                },
            }
        )
        return Door(f"/v1/connections/{made['id']}")

    async def _add_application(self, kind: str, name: str, oidc: Mapping[str, Any], secret: str, product: str) -> Door:
        body = {
            "kind": kind,
            "name": name,
            "product_id": product,
            "oidc": {"client_id": PORTAL_CLIENT, "client_secret": secret, **oidc},
        }
        made = await self._once_known(lambda: self.client.call("POST", "/v1/portal-applications", json=body))
        return Door(f"/v1/portal-applications/{made['id']}", secret)

    async def _connect(self, body: Json) -> Json:
        made: Json = await self._once_known(lambda: self.client.call("POST", "/v1/connections", json=body))
        return made

    async def _once_known(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until what it names has been heard of: services tell each other over the bus. Raises ApiError."""
        deadline = time.monotonic() + KNOWN_SECONDS
        while True:
            try:
                return await call()
            except ApiError as error:
                if error.status not in UNHEARD or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)

    # ── at the sandbox ───────────────────────────────────────────────────────────────────────────────────────────

    async def introduce_product(self, client_id: str, client_secret: str) -> None:
        """Tell the product who signs its people in."""
        await self._tell(
            "product",
            {"issuer": self.issuer, "client_id": client_id, "client_secret": client_secret, "name": PRODUCT},
        )

    async def introduce_door(self, name: DoorName, door: Door) -> None:
        """Tell a portal of us, and put the product's tiles on it."""
        portal = (await self.client.call("GET", door.path))["portal"]
        if name == "saml":
            await self._tell("portal-clients", {"kind": "saml", "metadata_url": portal["metadata_url"]})
            start = self.portals["saml_idp"]["start"].replace("ENTITY_ID", portal["entity_id"])
            await self._put_tile("launchpad", f"{PRODUCT} (SAML)", "started by the portal", url=start)
            await self._put_tile("launchpad", f"{PRODUCT} (SAML, asked)", "started by us", url=portal["launch_url"])
            return
        at = {"classlink": "launchpad", "clever": "clever-portal", "idp": "idp"}[name]
        await self._tell(
            "portal-clients",
            {
                "kind": "openid",
                "portal": at,
                "client_id": PORTAL_CLIENT,
                "client_secret": door.secret,
                "redirect_uris": [portal["redirect_uri"]],
                "openid": name != "clever",
            },
        )
        launch = portal["launch_url"]
        await self._put_tile(at, PRODUCT, "", url=launch)
        await self._put_tile(at, f"{PRODUCT}: Reading room", "one of its places", url=f"{launch}?destination=reading")
        if name != "idp":
            await self._put_tile(at, f"{PRODUCT} (code)", "starts with a code", starts="code", client_id=PORTAL_CLIENT)

    async def _put_tile(self, portal: str, name: str, description: str, **how: str) -> None:
        await self._tell("tiles", {"portal": portal, "name": name, "description": description, **how})

    async def _tell(self, what: str, order: Json) -> None:
        answer = await self.district.post(f"/sandbox/{what}", json=order)
        if answer.is_error:
            msg = f"the sandbox took no {what}: {answer.text}"
            raise SetupError(msg)


async def set_up(running: Stack) -> Json:
    """Have everything clickable, made at the first start and told to the sandbox at each; the addresses.

    Raises ApiError, SetupError, TimeoutError, httpx2.HTTPError.
    """
    async with AsyncExitStack() as stack:
        admin = await SandboxAdmin.open(stack, running)
        path = running.data / "sign-in.json"
        made = msgspec.json.decode(path.read_bytes(), type=SignIn) if path.exists() else None
        if made is None or made.sandbox != running.sandbox or not await _is_there(admin, made):
            made = await _make(admin, running.sandbox)
            write_private(path, msgspec.json.encode(made))
        await admin.introduce_product(made.client_id, made.client_secret)
        for name, door in made.doors.items():
            await admin.introduce_door(name, door)
        return admin.portals


async def _is_there(admin: SandboxAdmin, made: SignIn) -> bool:
    """Whether all that was made is still there."""
    paths = [f"/v1/relying-parties/{made.client_id}", *(door.path for door in made.doors.values())]
    try:
        for path in paths:
            await admin.client.call("GET", path)
    except ApiError as error:
        if error.status == 404:  # noqa: PLR2004 - HTTP's
            return False
        raise
    return True


async def _make(admin: SandboxAdmin, sandbox: str) -> SignIn:
    """Two organizations over the same made-up people, one for each place their roster comes from, with all doors."""
    by_oneroster = await admin.client.create_organization("Lake Verity (sandbox)")
    by_clever = await admin.client.create_organization("Lake Verity by Clever (sandbox)")
    face, clever = admin.described["oneroster"], admin.described["clever"]
    integration = await admin.client.create_integration(
        by_oneroster,
        {
            "endpoint_url": face["base_url"],
            "auth": "oauth1",
            "client_id": face["client_id"],
            "client_secret": face["client_secret"],
        },
    )
    integration_by_clever = await admin.client.create_integration(
        by_clever,
        {
            "district_id": clever["district_id"],
            "district_token": clever["district_token"],
            "base_url": clever["base_url"][0],
            "token_url": clever["token_url"],
        },
        provider="clever",
    )
    product, client_id, client_secret = await admin.add_product(by_oneroster, by_clever)
    doors: dict[DoorName, Door] = {
        "classlink": await admin.connect_classlink(by_oneroster, integration, product),
        "clever": await admin.connect_clever(by_clever, integration_by_clever, product),
        "idp": await admin.connect_idp(by_oneroster, integration, product),
        "saml": await admin.connect_saml(by_oneroster, integration, product),
    }
    for run in await asyncio.gather(admin.client.sync(integration), admin.client.sync(integration_by_clever)):
        if run["state"] != "succeeded":
            msg = f"the sandbox's roster did not arrive: {run['code']} {run['message']}"
            raise SetupError(msg)
    return SignIn(sandbox, product, client_id, client_secret, doors)
