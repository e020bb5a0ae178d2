"""Single logout with SAML identity providers: what they ask of us, and what we ask of them."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from homeroom.clock import Clock
from homeroom.codes import Code
from homeroom.db import Database
from sso.connections.upstreams import SAML_KINDS, Upstream, Upstreams
from sso.launch.flows import Flows, hash_token
from sso.launch.refusals import Refused
from sso.launch.sessions import Session, Sessions
from sso.launch.traces import Trace
from sso.saml.logout_messages import MOST_AGE, MOST_RELAY_STATE, LogoutAsked, Message, write_answer, write_request
from sso.saml.profile import SKEW
from sso.saml.requests import address, make_id
from sso.saml.service_provider import describe_service_provider
from sso.statements import SQL

WAITING_SECONDS: Final = 600
"""How long we remember that we asked for a logout."""


class SamlLogout:
    """Ends sessions with identity providers, both ways."""

    def __init__(
        self, database: Database, upstreams: Upstreams, sessions: Sessions, flows: Flows, clock: Clock, issuer: str
    ) -> None:
        self._database = database
        self._upstreams = upstreams
        self._sessions = sessions
        self._flows = flows
        self._clock = clock
        self._issuer = issuer

    async def start(self, session: Session, back: str | None = None) -> str | None:
        """Where the browser goes so that the identity provider ends its session too; None where there is no such way.

        Call it beside ending our own session. It is signed if the connection has a key.

        Args:
            session: the one that ends, as it was.
            back: where the browser goes afterwards: a path of ours, or a URL that was checked. It is kept here.
        """
        logout = session.upstream or {}
        if "name_id" not in logout or "upstream_id" not in logout:
            return None
        upstream = await self._upstreams.find(UUID(logout["upstream_id"]))
        if upstream is None or not upstream.enabled or upstream.kind not in SAML_KINDS:
            return None
        if upstream.saml.slo_url is None:
            return None
        request_id, ours = make_id(), describe_service_provider(self._issuer, upstream)
        await self._database.fetch(SQL["keep_saml_logout"], hash_token(request_id), upstream.id, back, WAITING_SECONDS)
        request = write_request(request_id, ours, upstream, logout, self._clock.now())
        return address(upstream.saml.slo_url, "SAMLRequest", request, private_key=upstream.private_key)

    async def finish(self, upstream: Upstream, request_id: str) -> str | None:
        """Where the browser goes that is back with an answer to this request; None for our own page.

        Raises `Refused` for a request we don't know of.
        """
        row = await self._database.fetchrow(SQL["take_saml_logout"], hash_token(request_id), upstream.id)
        if row is None:
            raise Refused(Code.SIGNIN_FLOW_LOST, "an answer to a logout nobody asked for")
        back: str | None = row["back"]
        return back

    async def obey(self, upstream: Upstream, asked: LogoutAsked, message: Message, trace: Trace) -> str | None:
        """End the sessions an identity provider means, and say where the browser takes our answer.

        None if it has no address for answers. Raises `Refused` for a request that came before.
        """
        now: datetime = self._clock.now()
        seconds = (MOST_AGE + 2 * SKEW).total_seconds() * 2
        if not await self._flows.present(f"saml-logout:{upstream.id}", asked.id, seconds):
            raise Refused(Code.SIGNIN_REPLAYED, "the logout request was used before")
        indexes = None if asked.session_indexes is None else list(asked.session_indexes)
        found = await self._database.fetch(SQL["find_sessions_of_name_id"], asked.name_id, str(upstream.id), indexes)
        for row in found:
            await self._sessions.end(row["id"])
        trace.note("logged out by the portal", sessions=len(found))
        if upstream.saml.slo_url is None:
            return None
        ours = describe_service_provider(self._issuer, upstream)
        answer = write_answer(make_id(), asked.id, ours, upstream, now)
        relay_state = message.relay_state
        if relay_state is not None and len(relay_state.encode()) > MOST_RELAY_STATE:
            relay_state = None
        return address(
            upstream.saml.slo_url,
            "SAMLResponse",
            answer,
            relay_state=relay_state,
            private_key=upstream.private_key,
        )
