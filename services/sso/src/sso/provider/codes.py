"""Authorization codes: 256 random bits, good for a minute, once, for whoever holds the PKCE verifier (RFC 9700 §2.1.1).

Only the hash of a code is stored. What its ID token will say of the person lies beside it for that minute, so that
redeeming asks nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from homeroom.db import Database
from sso.launch.flows import hash_token, make_token
from sso.launch.identification import Identified
from sso.launch.sessions import Session
from sso.launch.traces import Launches, Trace
from sso.provider.requests import AuthorizationRequest
from sso.statements import SQL

CODE_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Given:
    """What a code is given for."""

    request: AuthorizationRequest
    session: Session
    claims: Mapping[str, Any]
    """With `sub`."""
    product_id: UUID | None
    identified: Identified | None


class Codes:
    """Gives codes out; `sso.provider.grants` redeems them."""

    def __init__(self, database: Database, launches: Launches) -> None:
        self._database = database
        self._launches = launches

    async def give(self, given: Given, trace: Trace) -> str:
        """A new code. What the trace of a launch that goes on says waits beside it; any other is written now."""
        code, request, session = make_token(), given.request, given.session
        if trace.purpose != "launch":
            self._note_facts(given, trace)
            trace.note("code given", client=request.client_id)
            await self._launches.write(trace, "signed-in")
        else:
            trace.note("code given", client=request.client_id)
        await self._database.fetch(
            SQL["give_code"],
            hash_token(code),
            request.client_id,
            request.redirect_uri,
            request.challenge,
            request.nonce,
            list(request.scopes),
            session.id,
            given.claims["sub"],
            dict(given.claims),
            trace.id,
            trace.support_id,
            trace.purpose,
            trace.kind,
            CODE_SECONDS,
            trace.take(),
        )
        return code

    @staticmethod
    def _note_facts(given: Given, trace: Trace) -> None:
        """Who it is, for whoever looks the launch up: it may have begun with a session that was there."""
        session = given.session
        trace.facts |= {
            "upstream_id": None if given.identified is None else given.identified.door.upstream_id,
            "connection_id": session.connection_id,
            "organization_id": session.organization_id,
            "integration_id": session.integration_id,
            "sourced_id": session.sourced_id,
            "product_id": given.product_id,
        }
