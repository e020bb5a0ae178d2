"""The authorization endpoint: from a product's request to a code, with a sign-in between where one is needed (E3).

Nobody is asked for consent: what a product may see of a district's people is what the district licensed to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

import msgspec
from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from homeroom.clock import Clock
from homeroom.codes import Code
from homeroom.db import Database
from sso.launch.flows import Intent
from sso.launch.identification import Identified
from sso.launch.launching import Arrived, Launching
from sso.launch.refusals import Refused
from sso.launch.sessions import Session
from sso.launch.traces import Trace
from sso.provider.answers import HEADERS, answer_product
from sso.provider.claims import SUBJECT_CHARACTERS, make_claims, make_subject
from sso.provider.codes import Codes, Given
from sso.provider.first_party import FirstParty
from sso.provider.hints import PREFIX, Hints
from sso.provider.kept_requests import KeptRequests
from sso.provider.relying_parties import RelyingParties, RelyingParty
from sso.provider.requests import (
    AuthorizationRequest,
    Declined,
    Step,
    check_redirect,
    decide,
    read_parameters,
    read_request,
    read_response_mode,
    read_state,
)
from sso.provider.signing import Signing
from sso.statements import SQL

SIGN_IN_PATH: Final = "/oauth2/sign-in"
MOST_PARAMETERS: Final = 50


@dataclass
class Authorizing:
    """Answers products' requests; `app.state.authorizing`."""

    issuer: str
    database: Database
    parties: RelyingParties
    kept: KeptRequests
    codes: Codes
    hints: Hints
    signing: Signing
    launching: Launching
    clock: Clock
    first_party: FirstParty | None = None

    async def authorize(self, request: Request, query: str) -> Response:
        """Answer a request. Raises `Refused` for what the person in front of the browser is told."""
        try:
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MOST_PARAMETERS)
        except ValueError:
            raise Refused(Code.SIGNIN_REQUEST_INVALID, "too many parameters", status=400) from None
        fields, repeated = read_parameters(pairs)
        party = await self._find_party(fields["client_id"])
        check_redirect(fields["redirect_uri"], party)
        try:
            return await self._go_on(request, party, read_request(fields, repeated))
        except Declined as declined:
            return self._decline(fields, declined)

    async def send(self, request: Request, resume: str, connection_id: UUID, *, fresh: bool = False) -> Response:
        """Send somebody to the connection they chose, for a request that waits. Raises `Refused`."""
        kept = await self.kept.find(resume)
        if kept is None:
            raise Refused(Code.SIGNIN_FLOW_LOST, "the product's request is over")
        trace = self.launching.launches.resume(kept.launch_id, kept.support_id, kept.purpose)
        request.state.trace = trace
        party = await self._find_party(kept.request.client_id)
        fresh = fresh or bool({"login", "select_account"} & set(kept.request.prompts))
        return await self._send(request, party, resume, connection_id, trace, fresh=fresh)

    async def find_product(self, resume: str) -> tuple[UUID | None, UUID | None]:
        """The product whose request waits, and the organization it is for if it said so. Raises `Refused`."""
        kept = await self.kept.find(resume)
        if kept is None:
            raise Refused(Code.SIGNIN_FLOW_LOST, "the product's request is over")
        party = await self._find_party(kept.request.client_id)
        return party.product_id, kept.request.organization

    async def resume(self, request: Request, arrived: Arrived) -> Response:
        """The continuation of `authorize`: whoever has signed in gets on to the product."""
        assert arrived.session is not None  # noqa: S101 - signing in for a product makes one
        return await self.go_on(
            request, arrived.intent.resume or "", arrived.session, arrived.identified, arrived.trace
        )

    async def go_on(
        self, request: Request, resume: str, session: Session, identified: Identified | None, trace: Trace
    ) -> Response:
        """Answer a request that waited for this session. Raises `Refused`.

        Args:
            request: the browser's.
            resume: what the request was kept under.
            session: who has signed in.
            identified: who they are for the product; None for the console.
            trace: the launch's.
        """
        kept = await self.kept.take(resume)
        if kept is None:
            raise Refused(Code.SIGNIN_FLOW_LOST, "the product's request is over, or was answered")
        wish = kept.request
        party = await self._find_party(wish.client_id)
        check_redirect(wish.redirect_uri, party)
        try:
            return await self._give_code(request, party, wish, session, identified, trace)
        except Declined as declined:
            return self._decline(_show(wish), declined)

    async def _find_party(self, client_id: str) -> RelyingParty:
        party = await self.parties.find(client_id)
        if party is None:
            raise Refused(Code.SIGNIN_PRODUCT_OFF, "no such relying party, or its client is disabled", status=400)
        return party

    async def _go_on(self, request: Request, party: RelyingParty, wish: AuthorizationRequest) -> Response:
        found = await self.launching.sessions.find(request)
        session = None if found is None or not _is_of(found, party) else found
        trace, wish, somebody_else = await self._heed_hints(party, wish, session)
        request.state.trace = trace
        trace.facts["product_id"] = None if party.first_party else party.product_id
        auth_time = None if session is None else session.auth_time
        step = decide(wish, auth_time, self.clock.now(), somebody_else=somebody_else)
        if step != "answer" or session is None:
            return await self._have_sign_in(request, party, wish, step, session, trace)
        identified = None
        if not party.first_party:
            identified = await self._admit(request, party, wish, session, trace)
        return await self._give_code(request, party, wish, session, identified, trace)

    async def _heed_hints(
        self, party: RelyingParty, wish: AuthorizationRequest, session: Session | None
    ) -> tuple[Trace, AuthorizationRequest, bool]:
        """The launch this belongs to, the request with whom it expects, and whether that is somebody else."""
        trace = self.launching.launches.begin("staff" if party.first_party else "authorize")
        subject = _find_subject(party, session)
        expected, somebody_else = wish.login_hint if _is_subject(wish.login_hint) else None, False
        if wish.id_token_hint is not None:
            shown = await self.signing.read_hint(wish.id_token_hint)
            if shown is None or shown.client_id != party.client_id:
                raise Declined("invalid_request", "The id_token_hint is no ID token of this client.")
            expected = shown.subject
        if session is not None and wish.login_hint is not None and wish.login_hint.startswith(PREFIX):
            hint = await self.hints.take(wish.login_hint, session.id)
            if hint is None or hint.product_id != party.product_id:
                somebody_else = True  # of another launch, or used before: whoever sits there must be asked
            else:
                trace = self.launching.launches.resume(hint.launch_id, hint.support_id, "launch")
        if expected is not None:
            wish = _expect(wish, expected)
            somebody_else = somebody_else or (subject is not None and subject != expected)
        return trace, wish, somebody_else

    async def _have_sign_in(
        self,
        request: Request,
        party: RelyingParty,
        wish: AuthorizationRequest,
        step: Step,
        session: Session | None,
        trace: Trace,
    ) -> Response:
        """Keep the request and have somebody sign in for it."""
        resume = await self.kept.keep(wish, trace)
        fresh = step in ("sign in anew", "choose")
        if party.first_party:
            assert self.first_party is not None  # noqa: S101 - there is such a party only with it
            return await self.first_party.sign_in(request, resume, trace, fresh=fresh)
        connection_id = wish.connection
        if connection_id is None and step == "sign in anew" and session is not None:
            connection_id = session.connection_id
        if connection_id is None and wish.organization is not None and step != "choose":
            connection_id = await self._find_only_door(party, wish.organization)
        if connection_id is not None:
            return await self._send(request, party, resume, connection_id, trace, fresh=fresh)
        return RedirectResponse(f"{SIGN_IN_PATH}?{urlencode({'request': resume})}", 303, HEADERS)

    async def _find_only_door(self, party: RelyingParty, organization_id: UUID) -> UUID | None:
        """The one way in that an organization's people have to a product; None if there are several, or none."""
        rows = await self.database.fetch(SQL["search_doors"], party.product_id, organization_id, "", 2)
        return rows[0]["id"] if len(rows) == 1 else None

    async def _send(
        self, request: Request, party: RelyingParty, resume: str, connection_id: UUID, trace: Trace, *, fresh: bool
    ) -> Response:
        """Send somebody to a connection's portal, if people of its district may open the product."""
        door = await self.launching.identification.find_connection(connection_id, party.product_id)
        if door is None or not door.enabled:
            raise Refused(Code.SIGNIN_CONNECTION_OFF, "the connection is disabled, or there is none")
        if not door.licensed:
            raise Refused(Code.SIGNIN_UNLICENSED, "no license of the product is in force for the organization")
        upstream = await self.launching.upstreams.find(door.upstream_id)
        if upstream is None:
            raise Refused(Code.SIGNIN_CONNECTION_OFF, "the upstream is gone")
        trace.kind = upstream.kind
        intent = Intent("authorize", party.product_id, connection_id=connection_id, resume=resume, fresh=fresh)
        response = await self.launching.send(request, upstream, intent, trace)
        response.headers.update(HEADERS)
        return response

    async def _admit(
        self, request: Request, party: RelyingParty, wish: AuthorizationRequest, session: Session, trace: Trace
    ) -> Identified:
        """Who is signed in, if this product may be opened for them now. Raises `Refused`, or `Declined` if silent."""
        try:
            identified = await self.launching.admit(session, party.product_id)
        except Refused as refused:
            if "none" in wish.prompts:
                trace.note("refused", code=refused.code, why=refused.why)
                await self.launching.launches.write(trace, "refused", refused.code)
                raise _decline_silently(refused) from None
            # Somebody else may be sitting there by now: they get a way to say who they are.
            again = await self.kept.keep(wish, self.launching.launches.begin("authorize"))
            request.state.retry = f"{SIGN_IN_PATH}?{urlencode({'request': again})}"
            raise
        upstream = await self.launching.upstreams.find(identified.door.upstream_id)
        trace.kind = "" if upstream is None else upstream.kind
        return identified

    async def _give_code(
        self,
        request: Request,
        party: RelyingParty,
        wish: AuthorizationRequest,
        session: Session,
        identified: Identified | None,
        trace: Trace,
    ) -> Response:
        del request
        if party.first_party:
            assert self.first_party is not None  # noqa: S101 - there is such a party only with it
            claims: dict[str, object] = {"sub": (await self.first_party.find_scopes(session)).subject}
        else:
            assert identified is not None  # noqa: S101 - who comes for a product was identified
            claims = make_claims(identified, party.product_id, wish.scopes)
        if wish.subject is not None and wish.subject != claims["sub"]:
            raise Declined("login_required", "Somebody else signed in than the one who was expected.")
        product_id = None if party.first_party else party.product_id
        code = await self.codes.give(Given(wish, session, claims, product_id, identified), trace)
        return self._answer(_show(wish), code=code)

    def _decline(self, fields: Mapping[str, str], declined: Declined) -> Response:
        return self._answer(fields, error=declined.error, error_description=declined.description)

    def _answer(self, fields: Mapping[str, str], **said: str) -> Response:
        """Answer the product, with its state and who answers (RFC 9207)."""
        try:
            state = read_state(fields)
        except Declined:
            state = None
        parameters = {**said, **({} if state is None else {"state": state}), "iss": self.issuer}
        return answer_product(fields["redirect_uri"], read_response_mode(fields), parameters)


def _show(wish: AuthorizationRequest) -> dict[str, str]:
    """What an answer needs of a request that was read before."""
    state = {} if wish.state is None else {"state": wish.state}
    return {"redirect_uri": wish.redirect_uri, "response_mode": wish.response_mode, **state}


def _find_subject(party: RelyingParty, session: Session | None) -> str | None:
    if party.first_party or session is None or session.person_id is None:
        return None
    return make_subject(session.person_id, party.product_id)


def _is_of(session: Session, party: RelyingParty) -> bool:
    """Whether a session counts for a client: the console's are the staff's, products' are those of portals' people."""
    if party.first_party:
        return session.staff_id is not None
    return session.connection_id is not None and session.person_id is not None


def _is_subject(hint: str | None) -> bool:
    """Whether a login_hint is what a product calls somebody; e-mail addresses are hints to nobody."""
    return hint is not None and len(hint) == SUBJECT_CHARACTERS and hint.replace("-", "").replace("_", "").isalnum()


def _expect(wish: AuthorizationRequest, subject: str) -> AuthorizationRequest:
    return msgspec.structs.replace(wish, subject=subject)


def _decline_silently(refused: Refused) -> Declined:
    if refused.status >= 500:  # noqa: PLR2004 - HTTP's errors of servers
        return Declined("temporarily_unavailable", "Whether they may come in can't be told at the moment.")
    return Declined("access_denied", "Whoever is signed in may not open this product.")
