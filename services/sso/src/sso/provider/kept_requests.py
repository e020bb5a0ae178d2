"""Products' requests that wait while somebody signs in: kept here, found by an id that goes through the browser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from homeroom.db import Database
from sso.launch.flows import hash_token, make_token
from sso.launch.traces import Purpose, Trace
from sso.provider.requests import AuthorizationRequest
from sso.statements import SQL

REQUEST_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """A request, and the launch it belongs to."""

    request: AuthorizationRequest
    launch_id: UUID
    support_id: str
    purpose: Purpose


class KeptRequests:
    """Requests under way, in the database, so that any copy of sso finds them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, request: AuthorizationRequest, trace: Trace) -> str:
        """Keep a request for ten minutes; the id it is found by."""
        text = make_token()
        await self._database.fetch(
            SQL["keep_request"],
            hash_token(text),
            request.client_id,
            msgspec.to_builtins(request),
            trace.id,
            trace.support_id,
            trace.purpose,
            REQUEST_SECONDS,
        )
        return text

    async def find(self, text: str) -> KeptRequest | None:
        """The request with this id, which stays."""
        return _read(await self._database.fetchrow(SQL["find_request"], hash_token(text)))

    async def take(self, text: str) -> KeptRequest | None:
        """The request with this id; nobody finds it a second time."""
        return _read(await self._database.fetchrow(SQL["take_request"], hash_token(text)))


def _read(row: asyncpg.Record | None) -> KeptRequest | None:
    if row is None:
        return None
    request = msgspec.convert(row["request"], AuthorizationRequest)
    return KeptRequest(request, row["launch_id"], row["support_id"], row["purpose"])
