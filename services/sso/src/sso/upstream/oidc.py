"""Signs people in at OpenID providers, and at portals that only speak OAuth 2 (E1; OpenID Connect Core §3.1).

Out: `start` keeps a flow and says where the browser goes. Back: `finish` exchanges the code, checks what came for it,
asks the portal where the ID token does not say enough, and gives an `Arrival`. What kinds of provider do differently is
data (`sso.connections.quirks`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from homeroom.clock import Clock
from homeroom.codes import Code
from homeroom.db import Database
from sso.connections.quirks import QUIRKS, Info
from sso.connections.upstreams import Kind, Upstream
from sso.launch.arrivals import Arrival
from sso.launch.flows import Flow, Flows, Intent, make_token
from sso.launch.refusals import Refused
from sso.launch.traces import Trace
from sso.statements import SQL
from sso.upstream.claims import ClaimUnusable, Told, list_info_fields, list_token_fields, read
from sso.upstream.discovery import Discovery, MetadataRefused, ProviderMetadata
from sso.upstream.exchange import Tokens, ask_about, away, exchange_code, fill_record, move_record
from sso.upstream.fetching import Fetching, NotFetched
from sso.upstream.id_tokens import Expected, KeyUnknown, TokenRefused, check_id_token, read_auth_time

OIDC_KINDS: Final[tuple[Kind, ...]] = ("classlink", "clever", "oidc")
FINISH_SECONDS: Final = 12.0
"""How long all questions to a portal may take together; each has its own limit as well."""


@dataclass(frozen=True, slots=True)
class OidcProtocol:
    """Sends people to OpenID providers and receives them back."""

    database: Database
    flows: Flows
    discovery: Discovery
    fetching: Fetching
    clock: Clock
    origin: str
    """Ours, as registered at portals."""

    async def start(self, upstream: Upstream, intent: Intent, trace: Trace, browser: str) -> str:
        """Keep a flow and say which URL the browser goes to. Raises `Refused` if the provider can't be asked."""
        config, quirks = upstream.oidc, QUIRKS[upstream.kind]
        metadata = await self.find_metadata(upstream)
        state, nonce, verifier = make_token(), make_token(), make_token()
        parameters = {
            **quirks.authorize_parameters,
            **await self._point_to_tenant(upstream, intent),
            "nonce": nonce if config.openid else None,
        }
        pkce = next((one for one in (config.pkce, quirks.pkce) if one is not None), metadata.pkce)
        if pkce:
            parameters |= {"code_challenge": create_s256_code_challenge(verifier), "code_challenge_method": "S256"}
        if intent.fresh and quirks.asks_anew:
            parameters |= {"prompt": "login", "max_age": "0"}
        scopes = quirks.scopes if config.scopes is None else config.scopes
        try:
            url: str = prepare_grant_uri(
                metadata.authorization_endpoint,
                config.client_id,
                "code",
                redirect_uri=self.redirect_uri(upstream),
                scope=" ".join(scopes) or None,
                state=state,
                **parameters,
            )
        except ValueError:
            raise Refused(Code.SIGNIN_UPSTREAM_AWAY, "authorization endpoint: no usable address", status=503) from None
        flow = Flow(trace.id, trace.support_id, upstream.id, intent, nonce, verifier if pkce else "")
        await self.flows.begin(state, browser, upstream, flow, trace)
        return url

    async def _point_to_tenant(self, upstream: Upstream, intent: Intent) -> dict[str, str]:
        """The parameter that spares somebody a search for their district, where theirs is known."""
        name = QUIRKS[upstream.kind].tenant_parameter
        if name is None or intent.connection_id is None:
            return {}
        tenant = await self.database.fetchval(SQL["find_tenant"], intent.connection_id, upstream.id)
        return {} if tenant is None else {name: tenant}

    def redirect_uri(self, upstream: Upstream) -> str:
        """Where a provider sends people back to; one for each, so that no answer passes for another's (attack 35)."""
        return f"{self.origin}/sso/callback/{upstream.id}"

    async def find_metadata(self, upstream: Upstream) -> ProviderMetadata:
        """A provider's metadata. Raises `Refused`."""
        try:
            return await self.discovery.metadata(upstream)
        except NotFetched as error:
            raise away("metadata", error) from None
        except MetadataRefused as error:
            raise Refused(Code.SIGNIN_UPSTREAM_AWAY, error.why, status=503) from None

    def check_issuer(self, upstream: Upstream, metadata: ProviderMetadata, issuer: str | None) -> None:
        """Whether an answer is this provider's, as far as answers say so (RFC 9207). Raises `Refused`."""
        if issuer is None and metadata.promises_issuer:
            raise Refused(Code.SIGNIN_TOKEN_INVALID, "the answer does not say whose it is")
        if issuer is not None and issuer != upstream.oidc.issuer:
            raise Refused(Code.SIGNIN_TOKEN_INVALID, "the answer is another issuer's")

    async def finish(self, upstream: Upstream, flow: Flow, code: str, trace: Trace) -> Arrival:
        """Who came back, of a flow that was taken and a code that was never presented before. Raises `Refused`."""
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                return await self._finish(upstream, flow, code, trace)
        except TimeoutError:
            raise Refused(Code.SIGNIN_UPSTREAM_AWAY, "the portal took too long", status=503) from None
        except TokenRefused as error:
            raise Refused(Code.SIGNIN_TOKEN_INVALID, f"ID token: {error.why}") from None
        except ClaimUnusable as error:
            raise Refused(Code.SIGNIN_TOKEN_INVALID, error.why) from None

    async def _finish(self, upstream: Upstream, flow: Flow, code: str, trace: Trace) -> Arrival:
        metadata = await self.find_metadata(upstream)
        tokens = await exchange_code(
            self.fetching,
            upstream,
            metadata,
            QUIRKS[upstream.kind],
            code=code,
            redirect_uri=self.redirect_uri(upstream),
            code_verifier=flow.code_verifier,
        )
        trace.note("the code was exchanged")
        claims: Mapping[str, Any] = {}
        told = Told()
        if tokens.id_token is not None:
            claims = await self._check(upstream, flow, code, tokens)
            told = read(claims, list_token_fields(upstream.oidc, QUIRKS[upstream.kind]))
        told = await self._ask(upstream, metadata, told, tokens.access_token)
        if told.subject is None:
            raise ClaimUnusable("nobody says who it is")
        return Arrival(
            upstream=upstream,
            subject=told.subject,
            tenant=told.tenant,
            person_key=told.person_key,
            shown_as=told.shown_as,
            auth_time=read_auth_time(claims),
            claims=tuple(sorted(told.names)),
        )

    async def _check(self, upstream: Upstream, flow: Flow, code: str, tokens: Tokens) -> Mapping[str, Any]:
        """The claims of a genuine ID token. Keys are asked for once more if none fits."""
        config = upstream.oidc
        assert tokens.id_token is not None  # noqa: S101 - the caller looked
        expected = Expected(
            issuer=config.issuer,
            client_id=config.client_id,
            nonce=flow.nonce,
            algorithms=config.algorithms,
            access_token=tokens.access_token,
            code=code,
            signed_in_after=flow.began_at if flow.intent.fresh and QUIRKS[upstream.kind].asks_anew else None,
        )
        try:
            keys = await self.discovery.keys(upstream)
            try:
                return check_id_token(tokens.id_token, keys, expected, self.clock.now())
            except KeyUnknown:
                keys = await self.discovery.keys(upstream, again=True)
                return check_id_token(tokens.id_token, keys, expected, self.clock.now())
        except NotFetched as error:
            raise away("keys", error) from None
        except MetadataRefused as error:
            raise Refused(Code.SIGNIN_UPSTREAM_AWAY, error.why, status=503) from None

    async def _ask(self, upstream: Upstream, metadata: ProviderMetadata, told: Told, access_token: str) -> Told:
        """Ask the portal what is not known yet; who it is must be the same in every answer (attack 43)."""
        config, quirks = upstream.oidc, QUIRKS[upstream.kind]
        claims = list_token_fields(config, quirks)
        if told.subject is not None and not _lacks(told, tenant=bool(claims.tenant), person=bool(claims.person)):
            return told
        info = _find_info(upstream)
        if info is None:
            if metadata.userinfo_endpoint is None:
                return told
            said = await ask_about(self.fetching, metadata.userinfo_endpoint, access_token)
            return told.fill(read(said, claims))
        fields = list_info_fields(config, quirks, quirks.info)
        told = told.fill(read(await ask_about(self.fetching, info.url, access_token), fields))
        wanted = _lacks(told, tenant=bool(fields.tenant), person=bool(fields.person))
        if info.record is None or not (wanted or told.shown_as is None) or told.subject is None:
            return told
        try:
            said = await ask_about(self.fetching, fill_record(info.record, told.subject), access_token)
        except Refused:
            if wanted:
                raise
            return told
        return told.fill(read(said, fields))


def _lacks(told: Told, *, tenant: bool, person: bool) -> bool:
    """Whether something is still to be asked for."""
    return (tenant and told.tenant is None) or (person and told.person_key is None)


def _find_info(upstream: Upstream) -> Info | None:
    """Where this upstream is asked about its users, if it has such a place beside userinfo."""
    config, quirks = upstream.oidc, QUIRKS[upstream.kind]
    if quirks.info is None:
        return None if config.info_url is None else Info(config.info_url)
    if config.info_url is None:
        return quirks.info if config.issuer == quirks.issuer else None
    record = quirks.info.record
    if record is not None:
        record = move_record(config.info_url, record, quirks.info.url)
    return replace(quirks.info, url=config.info_url, record=record)
