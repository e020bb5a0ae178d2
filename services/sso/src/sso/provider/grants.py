"""Codes and refresh tokens become tokens (RFC 6749 §4.1.3 and §6, OIDC Core §3.1.3 and §12).

In the transaction that redeems a code stands everything that makes a launch complete: that the product was told of the
session, that a rostered person came in, and how the launch ended. A code or refresh token that comes a second time was
stolen, from us or from whom it was given to: everything that came of it ends.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg

from homeroom.clock import Clock
from homeroom.codes import Code
from homeroom.db import Connection, Database
from homeroom.ids import new_id
from homeroom.telemetry import LAUNCHES, get_logger
from sso.keys import Keys
from sso.launch.flows import hash_token, make_token
from sso.launch.launching import Launching
from sso.launch.refusals import Refused
from sso.launch.sessions import IDLE_SECONDS, Session
from sso.provider.claims import make_claims
from sso.provider.first_party import CONSOLE_SECONDS, FirstParty, StaffGrant
from sso.provider.relying_parties import RelyingParty
from sso.provider.signing import Signing
from sso.statements import SQL
from sso.tokens import TokenDenied, TokenRequest, sign_access_token

REFRESH_SECONDS: Final = 10 * 3600.0
"""No longer than any session lasts."""
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_GONE: Final = "It was used, is too old, or is not this client's; or whoever signed in is signed out."

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NewTokens:
    """Tokens as they are given, and as they are stored."""

    access: str = field(repr=False)
    refresh: str | None = field(repr=False)
    seconds: float

    def to_rows(self) -> tuple[list[bytes], list[str], list[float]]:
        """Hashes, kinds and lives."""
        rows = [(hash_token(self.access), "access", self.seconds)]
        if self.refresh is not None:
            rows.append((hash_token(self.refresh), "refresh", REFRESH_SECONDS))
        hashes, kinds, seconds = zip(*rows, strict=True)
        return list(hashes), list(kinds), list(seconds)


@dataclass
class Grants:
    """Gives tokens for codes and refresh tokens; `app.state.grants`."""

    database: Database
    launching: Launching
    signing: Signing
    keys: Keys
    issuer: str
    clock: Clock
    seconds: int
    """How long access tokens for userinfo are valid."""
    first_party: FirstParty | None = None

    async def redeem(self, party: RelyingParty, asked: TokenRequest) -> dict[str, Any]:
        """The answer for a code. Raises `TokenDenied`."""
        code = asked.parameters.get("code", "")
        if not code or "redirect_uri" not in asked.parameters:
            raise TokenDenied(Code.REQUEST_INVALID, "The parameters code and redirect_uri are required.")
        tokens = self._make_tokens(party)
        step = {"at": self.clock.now().isoformat(timespec="milliseconds"), "what": "tokens given"}
        row = await self._use_up(party, code, asked.parameters, tokens, step)
        LAUNCHES.labels(row["kind"] or "none", row["purpose"], "completed").inc()
        session = _read_session(row)
        access, scope = tokens.access, " ".join(row["scopes"])
        if party.first_party:
            access, scope = await self._sign_for_console(party, session, asked.parameters)
        id_token = self.signing.sign_id_token(
            party.client_id,
            row["claims"],
            sid=row["sid"],
            nonce=row["nonce"],
            auth_time=session.auth_time,
            access_token=access,
        )
        return _answer(tokens, access, scope, id_token)

    async def _use_up(
        self, party: RelyingParty, code: str, parameters: Mapping[str, str], tokens: NewTokens, step: Mapping[str, Any]
    ) -> asyncpg.Record:
        """Use a code up, with all that follows. Raises `TokenDenied` if it is good for nothing, or not for this."""
        hashed = hash_token(code)
        row = await self.database.fetchrow(
            SQL["redeem_code"],
            hashed,
            party.client_id,
            parameters["redirect_uri"],
            make_challenge(parameters.get("code_verifier", "")),
            new_id(),
            new_id(),
            None if party.first_party else party.product_id,
            new_id(),
            *tokens.to_rows(),
            [dict(step)],
        )
        if row is None:
            if await self.database.fetchval(SQL["revoke_grant_of_code"], hashed, party.client_id) is not None:
                log.warning("a code was presented twice, its tokens are revoked", client_id=party.client_id)
            raise TokenDenied(Code.GRANT_INVALID, _GONE)
        return row

    async def refresh(self, party: RelyingParty, asked: TokenRequest) -> dict[str, Any]:
        """The answer for a refresh token, which is replaced; what the person may do is judged anew.

        Raises `TokenDenied`. While the store is away and nobody can judge, the token stays good.
        """
        token = asked.parameters.get("refresh_token", "")
        row = await self.database.fetchrow(SQL["find_token"], hash_token(token), "refresh", IDLE_SECONDS)
        if row is None or row["client_id"] != party.client_id or not party.refresh_tokens:
            raise TokenDenied(Code.GRANT_INVALID, _GONE)
        if asked.scopes and not set(asked.scopes) <= set(row["scopes"]):
            raise TokenDenied(Code.SCOPE_REFUSED, "A refresh token is good for the scopes it was given with.")
        session = _read_session(row)
        tokens = self._make_tokens(party)
        access, scope = tokens.access, " ".join(row["scopes"])
        if party.first_party:
            access, scope = await self._sign_for_console(party, session, asked.parameters)
            claims: dict[str, Any] = {"sub": row["subject"]}
        else:
            claims = await self.find_claims(party, session, row["scopes"])
        if not await self.database.transact(partial(_rotate, token=token, grant_id=row["grant_id"], tokens=tokens)):
            log.warning("a refresh token was used twice, its grant ended", client_id=party.client_id)
            raise TokenDenied(Code.GRANT_INVALID, _GONE)
        id_token = self.signing.sign_id_token(
            party.client_id, claims, sid=row["sid"], nonce=None, auth_time=session.auth_time, access_token=access
        )
        return _answer(tokens, access, scope, id_token)

    async def find_claims(self, party: RelyingParty, session: Session, scopes: Sequence[str]) -> dict[str, Any]:
        """What the product may be told now of whose session it is. Raises `TokenDenied` if nothing any more."""
        try:
            identified = await self.launching.admit(session, party.product_id)
        except Refused as refused:
            if refused.code is Code.SIGNIN_STORE_AWAY:
                raise TokenDenied(refused.code, "The roster does not answer; try again.") from None
            log.info("no more tokens for somebody", code=refused.code, client_id=party.client_id)
            raise TokenDenied(Code.GRANT_INVALID, _GONE) from None
        return make_claims(identified, party.product_id, scopes)

    async def _sign_for_console(
        self, party: RelyingParty, session: Session, parameters: Mapping[str, str]
    ) -> tuple[str, str]:
        """An access token for Homeroom's REST, with what the person may do now; and its scopes.

        Whoever has several roles says with `organization` or `product` which one it is to be, the highest otherwise.
        """
        assert self.first_party is not None  # noqa: S101 - there is such a party only with it
        try:
            grant = await self.first_party.find_scopes(session, *_read_places(parameters))
        except Refused:
            raise TokenDenied(Code.GRANT_INVALID, "Whoever signed in has no role any more.") from None
        claims = make_staff_claims(party.client_id, grant)
        token = sign_access_token(
            claims, self.keys.signing, issuer=self.issuer, clock=self.clock, seconds=CONSOLE_SECONDS
        )
        return token, claims["scope"]

    def _make_tokens(self, party: RelyingParty) -> NewTokens:
        seconds = CONSOLE_SECONDS if party.first_party else self.seconds
        return NewTokens(make_token(), make_token() if party.refresh_tokens else None, float(seconds))


def _read_places(parameters: Mapping[str, str]) -> tuple[UUID | None, UUID | None]:
    """The organization and the product a token is to be bound to. Raises `TokenDenied`."""
    try:
        named = [UUID(text) if (text := parameters.get(name)) else None for name in ("organization", "product")]
    except ValueError:
        raise TokenDenied(Code.REQUEST_INVALID, "The parameters organization and product must be ids.") from None
    return named[0], named[1]


def make_staff_claims(client_id: str, grant: StaffGrant) -> dict[str, Any]:
    """What an access token for somebody of the staff says (`homeroom.auth.Caller` reads it)."""
    teacher = grant.teacher
    return {
        "sub": grant.subject,
        "client_id": client_id,
        "scope": " ".join(sorted(grant.scopes)),
        "organization_id": grant.organization_id and str(grant.organization_id),
        "product_id": grant.product_id and str(grant.product_id),
        "teacher": None if teacher is None else {"integration_id": str(teacher[0]), "sourced_id": teacher[1]},
    }


def make_challenge(verifier: str) -> str | None:
    """The S256 challenge of a PKCE verifier (RFC 7636 §4.6); None for what can't be one."""
    if not _VERIFIER.fullmatch(verifier):
        return None
    return urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode()


async def _rotate(connection: Connection, token: str, grant_id: UUID, tokens: NewTokens) -> bool:
    """Replace a refresh token; one that was used already ends its grant, and is told by False."""
    if await connection.fetchval(SQL["use_refresh_token"], hash_token(token)) is None:
        await connection.execute(SQL["revoke_grant"], grant_id)
        return False
    await connection.execute(SQL["add_tokens"], grant_id, *tokens.to_rows())
    return True


def _read_session(row: asyncpg.Record) -> Session:
    return Session(**{name: row[name] for name in Session.__slots__})


def _answer(tokens: NewTokens, access: str, scope: str, id_token: str) -> dict[str, Any]:
    refresh = {} if tokens.refresh is None else {"refresh_token": tokens.refresh}
    return {
        "access_token": access,
        "token_type": "Bearer",
        "expires_in": int(tokens.seconds),
        "scope": scope,
        "id_token": id_token,
        **refresh,
    }
