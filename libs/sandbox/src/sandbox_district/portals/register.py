"""What the portals were told of: applications that people sign in to, and tiles that open them."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

PortalName = Literal["launchpad", "clever-portal", "idp"]
PORTALS: Final[tuple[PortalName, ...]] = ("launchpad", "clever-portal", "idp")
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class _Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """An application, of the kind that `kind` says."""


class PortalClient(_Told, frozen=True, kw_only=True, tag="openid"):
    """An application that signs people in by OpenID Connect or OAuth 2.

    Args:
        portal: where it is registered.
        redirect_uris: where codes may be sent, exactly; the first one also gets those of tiles.
        post_logout_redirect_uris: where people may be sent after they signed out.
        openid: at the Clever-like portal: whether OpenID Connect was switched on for it.
    """

    portal: PortalName
    client_id: Text
    client_secret: Text
    redirect_uris: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=20)]
    post_logout_redirect_uris: tuple[Text, ...] = ()
    openid: bool = True


class SamlService(_Told, frozen=True, kw_only=True, tag="saml"):
    """An application that signs people in by SAML: what its metadata says, or where that is.

    Args:
        metadata_url: read once, now; it gives whatever is not given here.
        acs_url: where answers are posted.
        slo_url: where people are sent back to after they signed out.
    """

    entity_id: Text | None = None
    acs_url: Text | None = None
    slo_url: Text | None = None
    metadata_url: Text | None = None


class Tile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What opens an application from a portal's page.

    Args:
        starts: `url`: the browser is sent to `url`; `code`: to the first redirect URI of `client_id`, with a code that
            nobody asked for and no state.
    """

    portal: PortalName
    name: Text
    starts: Literal["url", "code"] = "url"
    url: Text | None = None
    client_id: Text | None = None
    description: str = ""


class Register:
    """The applications and tiles, by what makes each of them one: told again, it replaces what was told before."""

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str], PortalClient] = {}
        self._services: dict[str, SamlService] = {}
        self._tiles: dict[tuple[str, str], Tile] = {}

    def put_client(self, client: PortalClient) -> None:
        """Register an application at its portal."""
        self._clients[client.portal, client.client_id] = client

    def find_client(self, portal: str, client_id: str) -> PortalClient | None:
        """An application of a portal."""
        return self._clients.get((portal, client_id))

    def list_clients(self, portal: str) -> list[PortalClient]:
        """The applications of a portal."""
        return [client for client in self._clients.values() if client.portal == portal]

    def put_service(self, service: SamlService) -> None:
        """Register an application that speaks SAML. Raises ValueError where something is missing."""
        if not service.entity_id or not service.acs_url:
            msg = "entity_id and acs_url are needed, or metadata that names them"
            raise ValueError(msg)
        self._services[service.entity_id] = service

    def find_service(self, entity_id: str) -> SamlService | None:
        """An application that speaks SAML."""
        return self._services.get(entity_id)

    def put_tile(self, tile: Tile) -> None:
        """Put a tile on its portal's page. Raises ValueError if it leads nowhere."""
        if tile.starts == "url" and not (tile.url or "").startswith(("https://", "http://", "/")):
            msg = "a tile that starts with a URL needs one"
            raise ValueError(msg)
        if tile.starts == "code" and self.find_client(tile.portal, tile.client_id or "") is None:
            msg = "a tile that starts with a code needs a client of its portal"
            raise ValueError(msg)
        self._tiles[tile.portal, tile.name] = tile

    def list_tiles(self, portal: str) -> list[Tile]:
        """The tiles of a portal, in the order they came."""
        return [tile for tile in self._tiles.values() if tile.portal == portal]
