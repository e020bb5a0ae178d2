"""Products' clients as OpenID relying parties: where they may be answered, and how a tile opens them."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg

from homeroom.clock import Clock
from homeroom.db import Database
from sso.clients import CLIENT_ID
from sso.statements import SQL

FRESH_SECONDS: Final = 5.0
"""How long a change made at another copy of sso may take until it is heeded."""
MOST_KEPT: Final = 5_000

NO_PRODUCT: Final = UUID(int=0)

LaunchMode = Literal["oidc", "ticket", "lti"]


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """A product's client, as the table `relying_party` has it.

    Args:
        product_id: whose it is.
        launches: whether tiles open the product through this client.
        launch_mode: how they do.
        redirect_uris: where codes may be sent, compared character by character.
        initiate_login_uri: where a portal's launch begins (OIDC Core §4).
        launch_uri: where tickets are sent.
        destinations: name → `target_link_uri`.
        refresh_tokens: whether it is given any.
        public: without a secret: PKCE alone proves that it is the one that asked.
        lti: what LTI needs.
    """

    client_id: str
    product_id: UUID
    launches: bool
    launch_mode: LaunchMode
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uris: tuple[str, ...]
    initiate_login_uri: str | None
    launch_uri: str | None
    backchannel_logout_uri: str | None
    destinations: Mapping[str, str]
    refresh_tokens: bool
    public: bool
    lti: Mapping[str, Any] | None

    @property
    def first_party(self) -> bool:
        """Whether it is Homeroom's own console, which belongs to no product."""
        return self.product_id == NO_PRODUCT


class RelyingParties:
    """The relying parties of this installation; one that is used often is read every few seconds only."""

    def __init__(self, database: Database, clock: Clock, first_parties: Sequence[RelyingParty] = ()) -> None:
        self._database = database
        self._first_parties = {party.client_id: party for party in first_parties}
        self._clock = clock
        self._kept: OrderedDict[str | UUID, tuple[float, RelyingParty | None]] = OrderedDict()

    async def find(self, client_id: str) -> RelyingParty | None:
        """The relying party of this client; None if there is none, or its client is disabled."""
        if client_id in self._first_parties:
            return self._first_parties[client_id]
        if not re.fullmatch(CLIENT_ID, client_id):
            return None
        return await self._find("find_relying_party", client_id)

    async def find_of_product(self, product_id: UUID) -> RelyingParty | None:
        """The relying party that tiles open a product through; None if there is none, or its client is disabled."""
        return await self._find("find_relying_party_of_product", product_id)

    def forget(self) -> None:
        """Read everything anew, after a change."""
        self._kept.clear()

    async def _find(self, statement: str, key: str | UUID) -> RelyingParty | None:
        kept = self._kept.get(key)
        if kept is not None and self._clock.monotonic() - kept[0] < FRESH_SECONDS:
            return kept[1]
        row = await self._database.fetchrow(SQL[statement], key)
        found = None if row is None else read_relying_party(row)
        self._kept[key] = (self._clock.monotonic(), found)
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return found


def read_relying_party(row: asyncpg.Record) -> RelyingParty:
    """A row of the table."""
    columns: dict[str, Any] = {name: row[name] for name in RelyingParty.__slots__}
    lists = {name: tuple(row[name]) for name in ("redirect_uris", "post_logout_redirect_uris")}
    return RelyingParty(**columns | lists)
