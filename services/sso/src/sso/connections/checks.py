"""The self-test of a connection: all that can be seen without a person, in words, with what to do about it (E1).

Only what proves to the token endpoint who we are is sent with a secret, together with a code that is made up: a
provider that knows us complains about the code, one that does not complains about us.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

import asyncpg

from homeroom.clock import Clock
from homeroom.db import Database
from homeroom.people import PersonAnswer
from sso.connections.quirks import QUIRKS
from sso.connections.saml_configs import SamlConfigs
from sso.connections.trust import Trust, TrustError, compare
from sso.connections.upstreams import OidcConfig, SamlConfig, Upstream
from sso.connections.warnings import Facts, warn
from sso.launch.people import People
from sso.launch.refusals import Refused
from sso.launch.verdict import check_age
from sso.statements import SQL
from sso.upstream.discovery import MetadataRefused, ProviderMetadata, find_discovery_url, read_metadata
from sso.upstream.exchange import exchange_code
from sso.upstream.fetching import Fetching, NotFetched
from sso.upstream.key_sets import read_keys

MADE_UP: Final = "homeroom-self-test"
"""A code nobody gave, and a sourcedId nobody has."""
MOST_SKEW_SECONDS: Final = 60.0
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
_BAD_CLIENT: Final = frozenset({"invalid_client", "unauthorized_client", "status 401", "status 403"})


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was looked at.

    Args:
        check: its name.
        ok: whether it is as it must be; None if that can't be said.
        detail: how it is, in words.
        next_step: what to do, where something is wrong.
    """

    check: str
    ok: bool | None
    detail: str
    next_step: str | None = None


class SelfTest:
    """Looks at connections."""

    def __init__(
        self, database: Database, fetching: Fetching, configs: SamlConfigs, people: People, clock: Clock, origin: str
    ) -> None:
        self._database = database
        self._fetching = fetching
        self._configs = configs
        self._people = people
        self._clock = clock
        self._origin = origin

    async def run(self, row: asyncpg.Record, upstream: Upstream) -> list[Check]:
        """Look at a connection, given its row of `connection_view`."""
        checks = [self._check_enabled(row)]
        if isinstance(upstream.config, SamlConfig):
            checks += await self._check_saml(upstream.config)
        else:
            checks += await self._check_oidc(upstream, upstream.config)
        checks += [_check_tenant(row), *await self._check_roster(row), await self._check_license(row)]
        return checks

    def _check_enabled(self, row: asyncpg.Record) -> Check:
        if row["enabled"] and row["upstream_enabled"]:
            return Check("enabled", ok=True, detail="People may come in by it.")
        what = "connection" if row["upstream_enabled"] else "portal application"
        return Check(
            "enabled", ok=False, detail=f"The {what} is disabled.", next_step="Enable it once all else is well."
        )

    # ── OpenID Connect ────────────────────────────────────────────────────────────────────────────────────────────

    async def _check_oidc(self, upstream: Upstream, config: OidcConfig) -> list[Check]:
        url = find_discovery_url(upstream.kind, config)
        document: Mapping[str, Any] = {"issuer": config.issuer}
        if url is None:
            checks = [Check("discovery", ok=True, detail="Not needed: all endpoints are entered here.")]
        else:
            try:
                document = await self._fetching.get_json(url)
            except NotFetched as error:
                step = "Check the issuer, or enter a discovery_url; it must answer with JSON on the public internet."
                return [
                    Check("discovery", ok=False, detail=f"Its metadata can't be read: {error.detail}", next_step=step)
                ]
            checks = [Check("discovery", ok=True, detail="Its metadata can be read.")]
        issuer = document.get("issuer")
        if issuer != config.issuer:
            said = f"It calls itself {issuer[:200]!r}" if isinstance(issuer, str) else "It does not say who it is"
            step = "Enter the issuer exactly as the provider writes it; a slash at the end counts."
            return [*checks, Check("issuer", ok=False, detail=f"{said}, not {config.issuer!r}.", next_step=step)]
        checks.append(Check("issuer", ok=True, detail="The issuer is the one that was entered."))
        try:
            metadata = read_metadata(document, upstream.kind, config, allow_private=self._fetching.allow_private)
        except MetadataRefused as error:
            step = "Enter the endpoint here, or have the provider publish an https address."
            return [*checks, Check("endpoints", ok=False, detail=f"Not usable: {error.why}.", next_step=step)]
        checks.append(Check("endpoints", ok=True, detail="All endpoints may be used."))
        if config.openid:
            checks += [await self._check_keys(config, metadata), _check_algorithms(config, document)]
        checks.append(_check_pkce(upstream, config, metadata))
        return [*checks, *await self._check_token_endpoint(upstream, metadata)]

    async def _check_keys(self, config: OidcConfig, metadata: ProviderMetadata) -> Check:
        try:
            keys = read_keys(await self._fetching.get_json(metadata.jwks_uri or ""))
        except NotFetched as error:
            step = "Ask the provider to publish its keys, or enter the jwks_uri."
            return Check("keys", ok=False, detail=f"Its keys can't be read: {error.detail}", next_step=step)
        fitting = [key for key in keys if key.algorithms & set(config.algorithms)]
        if not fitting:
            step = "Allow the algorithm its keys are for, or ask the provider for a public key for signatures."
            detail = f"Of {len(keys)} usable keys none is for {' or '.join(config.algorithms)}."
            return Check("keys", ok=False, detail=detail, next_step=step)
        return Check("keys", ok=True, detail=f"Keys that fit: {len(fitting)}.")

    async def _check_token_endpoint(self, upstream: Upstream, metadata: ProviderMetadata) -> list[Check]:
        """Whether it refuses nonsense, knows us, and has the time of day."""
        try:
            form = f"grant_type=authorization_code&code={MADE_UP}".encode()
            answer = await self._fetching.post(metadata.token_endpoint, form, _FORM)
        except NotFetched as error:
            step = "Check the token endpoint."
            detail = f"The token endpoint does not answer as it should: {error.detail}"
            return [Check("token-endpoint", ok=False, detail=detail, next_step=step)]
        checks = [_check_refusal(answer.status), self._check_clock(answer.headers.get("date"))]
        try:
            await exchange_code(
                self._fetching,
                upstream,
                metadata,
                QUIRKS[upstream.kind],
                code=MADE_UP,
                redirect_uri=f"{self._origin}/sso/callback/{upstream.id}",
                code_verifier=MADE_UP * 3,
            )
        except Refused as refused:
            return [*checks, _check_client(refused.why.removeprefix("token endpoint: "))]
        step = "Do not use this provider before its vendor has explained that."
        return [*checks, Check("client", ok=False, detail="It gave tokens for a code that is made up.", next_step=step)]

    def _check_clock(self, date: str | None) -> Check:
        try:
            theirs = parsedate_to_datetime(date or "")
            skew = (theirs - self._clock.now()).total_seconds()
        except (ValueError, TypeError):
            return Check("clock", ok=None, detail="The provider does not say what time it is.")
        if abs(skew) > MOST_SKEW_SECONDS:
            step = "Have the clock set right, at the provider or here; tokens are refused by it."
            return Check("clock", ok=False, detail=f"Its clock is {round(skew)} seconds off ours.", next_step=step)
        return Check("clock", ok=True, detail="Its clock and ours agree.")

    # ── SAML ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _check_saml(self, config: SamlConfig) -> list[Check]:
        now = self._clock.now()
        ends = Trust.of(config).ends
        checks = []
        in_force = sum(end > now for end in ends)
        step = "Ask the district for the present metadata or certificate, and enter it."
        checks.append(
            Check("certificate", ok=True, detail=f"Certificates in force: {in_force}.")
            if in_force
            else Check("certificate", ok=False, detail="No certificate is in force any more.", next_step=step)
        )
        warned = warn(Facts(certificate_ends=ends, sha1_until=config.allow_sha1_until), now)
        checks += [
            Check(
                str(one.code).lower().replace("_", "-"),
                ok=False,
                detail=one.message,
                next_step=one.code.entry.next_step,
            )
            for one in warned
        ]
        if config.metadata_url is not None:
            checks.append(await self._check_metadata(config, config.metadata_url))
        return checks

    async def _check_metadata(self, config: SamlConfig, url: str) -> Check:
        try:
            found = await self._configs.read_again(url, config.entity_id)
        except TrustError as error:
            step = "Check the metadata address; sign-in goes on with what was accepted."
            return Check("metadata", ok=False, detail=f"Its metadata can't be used: {error}", next_step=step)
        differences = compare(Trust.of(config), found)
        if differences:
            named = ", ".join(sorted({one.field for one in differences}))
            step = "Ask the district whether they changed it, then approve the change, which the next reading holds."
            return Check("metadata", ok=False, detail=f"Not as it was accepted: {named}.", next_step=step)
        return Check("metadata", ok=True, detail="Its metadata is as it was accepted.")

    # ── the district ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _check_roster(self, row: asyncpg.Record) -> list[Check]:
        if row["integration_id"] is None:
            detail = "No integration is named, so nobody is looked for in a roster."
            return [Check("integration", ok=None, detail=detail, next_step="Name one if there is a roster.")]
        gone = row["integration_deleted"]
        detail = "It was deleted: its people may go on, nobody is added." if gone else "The integration is there."
        checks = [Check("integration", ok=True, detail=detail)]
        try:
            answer = await self._people.find(row["integration_id"], "sourcedId", MADE_UP, None)
        except Refused:
            return [*checks, Check("roster", ok=None, detail="The roster can't be asked now.", next_step="Try again.")]
        return [*checks, self._check_age(row, answer)]

    def _check_age(self, row: asyncpg.Record, answer: PersonAnswer) -> Check:
        applied, now = answer.applied_at, self._clock.now()
        if applied is None:
            step = "Sync the integration first; until then nobody is in its roster."
            return Check("roster", ok=False, detail="The roster was never filled.", next_step=step)
        if not check_age(applied, now, row["max_roster_age_hours"], deleted=row["integration_deleted"]):
            step = "See why the integration does not sync, or allow an older roster."
            detail = f"The roster is of {applied.date()}, older than {row['max_roster_age_hours']} hours."
            return Check("roster", ok=False, detail=detail, next_step=step)
        return Check("roster", ok=True, detail=f"The roster is of {applied.date()}.")

    async def _check_license(self, row: asyncpg.Record) -> Check:
        if await self._database.fetchval(SQL["count_licenses"], row["organization_id"]):
            return Check("license", ok=True, detail="A license of a product is in force for the organization.")
        step = "License a product to the organization."
        return Check("license", ok=False, detail="No license of any product is in force.", next_step=step)


def _check_tenant(row: asyncpg.Record) -> Check:
    if row["tenant"] is not None:
        return Check("tenant", ok=True, detail="Only people of the named tenant come in; a test sign-in proves it.")
    return Check("tenant", ok=True, detail="The provider is the district's own, so there is no tenant to tell.")


def _check_algorithms(config: OidcConfig, document: Mapping[str, Any]) -> Check:
    offered = document.get("id_token_signing_alg_values_supported")
    if not isinstance(offered, list):
        return Check("algorithms", ok=None, detail="It does not say how it signs ID tokens.")
    if set(config.algorithms) & {one for one in offered if isinstance(one, str)}:
        return Check("algorithms", ok=True, detail="It signs ID tokens in a way that is allowed here.")
    step = "Allow one of its asymmetric algorithms; HS256 and none are never taken."
    detail = f"It does not sign ID tokens with {' or '.join(config.algorithms)}."
    return Check("algorithms", ok=False, detail=detail, next_step=step)


def _check_pkce(upstream: Upstream, config: OidcConfig, metadata: ProviderMetadata) -> Check:
    asked = config.pkce if config.pkce is not None else QUIRKS[upstream.kind].pkce
    if asked is False and metadata.pkce:
        step = "Take the setting pkce back."
        return Check("pkce", ok=False, detail="The provider knows PKCE, and it is turned off.", next_step=step)
    if asked and not metadata.pkce:
        step = "Take the setting pkce back if sign-in fails at the token endpoint."
        return Check(
            "pkce", ok=None, detail="PKCE is turned on; the provider does not say it knows it.", next_step=step
        )
    detail = "PKCE is used." if asked or metadata.pkce else "The provider does not say it knows PKCE; it is not used."
    return Check("pkce", ok=True, detail=detail)


def _check_refusal(status: int) -> Check:
    if 400 <= status < 500:  # noqa: PLR2004 - HTTP's errors of clients
        return Check("token-endpoint", ok=True, detail="The token endpoint answers, and refuses nonsense.")
    step = "Check the token endpoint; another service may be at this address."
    detail = f"The token endpoint answered nonsense with {status}."
    return Check("token-endpoint", ok=False, detail=detail, next_step=step)


def _check_client(why: str) -> Check:
    if why == "invalid_grant":
        return Check("client", ok=True, detail="The client id and secret are right.")
    if why in _BAD_CLIENT:
        step = "Enter the client id and secret as they stand at the provider."
        return Check("client", ok=False, detail="The provider does not know our client id or secret.", next_step=step)
    detail = f"Whether the client id and secret are right can't be said ({why})."
    return Check("client", ok=None, detail=detail, next_step="Make a test sign-in.")
