"""Who calls, and what they may do: access tokens (JWT, RFC 9068) issued by sso and checked wherever they are shown.

A service asks for scopes with `require("integrations.read")`; a service that calls another gets its own tokens from
a `TokenSource`. Keys come from sso's JWKS, are kept, and outlive an outage of sso.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import httpx2
import msgspec
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet

from homeroom.clock import Clock, SystemClock
from homeroom.codes import Code
from homeroom.problems import Problem
from homeroom.settings import Settings
from homeroom.telemetry import explain_error, get_logger, inject_headers

AUDIENCE: Final = "homeroom"
ALGORITHMS: Final = ("RS256", "ES256")
"""Signatures with a public key only: `none` and the HMAC family are refused before a key is looked at."""
TOKEN_TYPE: Final = "at+jwt"  # noqa: S105 - a media type; it keeps other tokens of sso from being used as access tokens
LEEWAY_SECONDS: Final = 30
MAX_TOKEN_CHARACTERS: Final = 8_000

ADMIN: Final = "admin"
FINGERPRINTS: Final = "fingerprints.read"
RESOLVE_PEOPLE: Final = "people.resolve"
INTERNAL_SCOPES: Final = frozenset({FINGERPRINTS, RESOLVE_PEOPLE})
"""Scopes of our own services, for calls that are on no origin."""
DEMOGRAPHICS: Final = "demographics.read"
SCOPES: Final = frozenset(
    {
        ADMIN,
        "integrations.read",
        "integrations.write",
        "runs.write",
        "runs.approve",
        "classes.refresh",
        "licenses.write",
        "roster.read",
        DEMOGRAPHICS,
        "roster.write",
        "accounts.write",
        "classes.start",
        "subscriptions.write",
        "privacy.write",
        "connections.read",
        "connections.write",
        "launches.read",
        *INTERNAL_SCOPES,
    }
)
"""Every scope there is; `admin` includes all others but our own services'."""
PRODUCT_SCOPES: Final = frozenset(
    {"roster.read", DEMOGRAPHICS, "accounts.write", "classes.start", "subscriptions.write"}
)
"""What a product's client may have; all of it counts only for what the product is licensed for."""
TEACHER_SCOPES: Final = frozenset({"classes.refresh", "classes.start"})
"""What a teacher may have; all of it counts only for the classes they teach."""
_PURL: Final = "https://purl.imsglobal.org/spec/or/{}/scope/{}.readonly"
ROSTER_CORE_SCOPES: Final = frozenset(_PURL.format(version, "roster-core") for version in ("v1p1", "v1p2"))
"""What OneRoster's consumers ask for to read collections and single records, and nothing else."""
ROSTER_SCOPES: Final = ROSTER_CORE_SCOPES | {_PURL.format(version, "roster") for version in ("v1p1", "v1p2")}
"""What they ask for to read what belongs to a record as well; with it all of these are the same as `roster.read`."""
DEMOGRAPHICS_SCOPES: Final = frozenset(_PURL.format(version, "roster-demographics") for version in ("v1p1", "v1p2"))
"""What they ask for to read demographics; the same as `demographics.read`."""
ONEROSTER_SCOPES: Final = ROSTER_SCOPES | DEMOGRAPHICS_SCOPES

HTTP_TIMEOUT: Final = httpx2.Timeout(5.0, connect=2.0)
FRESH_SECONDS: Final = 300.0
STALE_SECONDS: Final = 24 * 3600.0
RETRY_SECONDS: Final = 5.0

log = get_logger(__name__)


def include(scopes: Collection[str]) -> frozenset[str]:
    """The scopes, and those they include."""
    granted = set(scopes)
    if ADMIN in granted:
        granted |= SCOPES - INTERNAL_SCOPES
    for ours, theirs in (("roster.read", ROSTER_SCOPES), (DEMOGRAPHICS, DEMOGRAPHICS_SCOPES)):
        if granted & {ours, *theirs} - ROSTER_CORE_SCOPES:
            granted |= {ours, *theirs}
    if granted & ROSTER_CORE_SCOPES:
        granted |= ROSTER_CORE_SCOPES
    return frozenset(granted)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. `scopes` holds included scopes as well."""

    subject: str
    scopes: frozenset[str]
    organization_id: str | None = None
    """The one organization the caller may see; None is all of them."""
    client_id: str = ""
    product_id: str | None = None
    """The product the caller acts for: it sees what that is licensed for, and nothing where licenses do not count."""
    teacher: tuple[str, str] | None = None
    """The integration and the sourcedId of a teacher, who sees their own classes and nothing else; then there is an
    organization, and no product."""

    def may_see(self, organization_id: object) -> bool:
        """Whether an organization's data is open to the caller; to others it does not exist (404, not 403)."""
        if self.product_id is not None or self.teacher is not None:
            return False
        return self.organization_id in (None, str(organization_id))


class TokenRefused(Exception):  # noqa: N818 - what happened to the token
    """A token is not valid; the text says why, for logs. Callers only learn that it is not."""


class KeysUnavailable(Exception):  # noqa: N818 - a state rather than a mistake; becomes 503 UNAVAILABLE
    """No key to check tokens with could be had."""


FetchKeys = Callable[[], Awaitable[Mapping[str, Any]]]
"""Gets a JWKS document."""


class KeyRing:
    """The public keys of sso: kept for five minutes, for a day if sso is away, asked for again for an unknown key."""

    def __init__(self, fetch: FetchKeys, clock: Clock | None = None) -> None:
        self._fetch = fetch
        self._clock = clock or SystemClock()
        self._keys: dict[str, Key] = {}
        self._fetched = self._tried = float("-inf")
        self._turn = asyncio.Lock()

    async def key(self, kid: str) -> Key:
        """The key with this id. Raises `TokenRefused` if there is none and `KeysUnavailable` if nobody knows."""
        if self._age() > FRESH_SECONDS or kid not in self._keys:
            await self._refresh(kid)
        if self._age() > STALE_SECONDS:
            msg = "the keys of sso can't be had"
            raise KeysUnavailable(msg)
        if kid not in self._keys:
            msg = "no such key"
            raise TokenRefused(msg)
        return self._keys[kid]

    def _age(self) -> float:
        return self._clock.monotonic() - self._fetched

    async def _refresh(self, kid: str) -> None:
        """Fetch the keys, one caller at a time and at most every few seconds: forged key ids must cost sso nothing."""
        async with self._turn:
            if self._age() <= FRESH_SECONDS and kid in self._keys:
                return
            if self._clock.monotonic() - self._tried < RETRY_SECONDS:
                return
            self._tried = self._clock.monotonic()
            try:
                keys = KeySet.import_key_set(await self._fetch())  # type: ignore[arg-type]  # checked while it is read
            except (httpx2.HTTPError, JoseError, LookupError, TypeError, ValueError) as error:
                log.warning("keys could not be fetched, those at hand are used", error=explain_error(error))
                return
            self._keys = {key.kid: key for key in keys if key.kid and key.key_type in {"RSA", "EC"}}
            self._fetched = self._clock.monotonic()


class Verifier:
    """Checks access tokens: signature, issuer, audience, kind and times."""

    def __init__(self, issuer: str, fetch: FetchKeys, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._keys = KeyRing(fetch, self._clock)
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(self._clock.now().timestamp()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": AUDIENCE},
            exp={"essential": True},
            sub={"essential": True},
        )

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Verifier]:
        """A verifier that gets its keys from `settings.jwks_url` when they are first needed."""
        async with httpx2.AsyncClient(timeout=HTTP_TIMEOUT, follow_redirects=False) as client:

            async def fetch() -> Mapping[str, Any]:
                async with asyncio.timeout(HTTP_TIMEOUT.read):
                    answer = await client.get(settings.jwks_url)
                found: Mapping[str, Any] = answer.raise_for_status().json()
                return found

            yield cls(settings.issuer, fetch)

    async def verify(self, token: str) -> Caller:
        """Who holds this token. Raises `TokenRefused` or `KeysUnavailable`."""
        if len(token) > MAX_TOKEN_CHARACTERS:
            msg = "too long"
            raise TokenRefused(msg)
        try:
            header = jws.extract_compact(token.encode("ascii")).headers()
            if header.get("alg") not in ALGORITHMS or str(header.get("typ")).lower() != TOKEN_TYPE:
                msg = "another kind of token or signature"
                raise TokenRefused(msg)
            key = await self._keys.key(str(header.get("kid")))
            claims = jwt.decode(token, key, algorithms=list(ALGORITHMS)).claims
            self._claims.validate(claims)
        except (JoseError, ValueError, TypeError) as error:
            raise TokenRefused(type(error).__name__) from None
        return _read_caller(claims)


def _read_caller(claims: Mapping[str, Any]) -> Caller:
    scope, organization, product = claims.get("scope", ""), claims.get("organization_id"), claims.get("product_id")
    if not isinstance(scope, str) or not isinstance(organization, str | None) or not isinstance(product, str | None):
        msg = "claims of the wrong kind"
        raise TokenRefused(msg)
    subject, scopes, teacher = str(claims["sub"]), include(scope.split()), _read_teacher(claims)
    if product is not None:
        scopes &= include(PRODUCT_SCOPES)
    if teacher is not None:
        if organization is None or product is not None:
            msg = "a teacher who is nowhere, or a product"
            raise TokenRefused(msg)
        scopes &= TEACHER_SCOPES
    return Caller(subject, scopes, organization, str(claims.get("client_id", subject)), product, teacher)


def _read_teacher(claims: Mapping[str, Any]) -> tuple[str, str] | None:
    teacher = claims.get("teacher")
    if teacher is None:
        return None
    parts = (teacher.get("integration_id"), teacher.get("sourced_id")) if isinstance(teacher, Mapping) else ()
    match parts:
        case (str(integration_id), str(sourced_id)) if integration_id and sourced_id:
            return integration_id, sourced_id
    msg = "a teacher who is nobody"
    raise TokenRefused(msg)


_bearer = HTTPBearer(auto_error=False, description="An access token from /oauth2/token")


async def identify(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    """The caller of a request, whatever they may do (FastAPI dependency)."""
    if credentials is None:
        raise Problem(
            Code.TOKEN_MISSING,
            status=401,
            detail="The request carries no bearer token.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    verifier: Verifier = request.app.state.verifier
    try:
        return await verifier.verify(credentials.credentials)
    except TokenRefused as error:
        log.info("token refused", why=str(error))
        raise Problem(
            Code.TOKEN_INVALID,
            status=401,
            detail="The bearer token is not valid, or not any more.",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
        ) from None
    except KeysUnavailable:
        raise Problem(
            Code.UNAVAILABLE,
            status=503,
            detail="The token could not be checked, because sso does not answer.",
            headers={"Retry-After": "5"},
        ) from None


def require(*scopes: str, products: bool = False, teachers: bool = False) -> Callable[..., Awaitable[Caller]]:
    """A FastAPI dependency that gives the `Caller` if their token has all of these scopes.

    `caller: Annotated[Caller, Depends(require("integrations.read"))]`

    Tokens of products are refused unless `products` says that the route heeds what they are licensed for, and those of
    teachers unless `teachers` says that it heeds whose classes they are (`own_teacher`).
    """
    if unknown := set(scopes) - SCOPES:
        msg = f"no such scopes: {sorted(unknown)}"
        raise ValueError(msg)

    async def check(caller: Annotated[Caller, Depends(identify)]) -> Caller:
        if missing := [scope for scope in scopes if scope not in caller.scopes]:
            raise Problem(
                Code.SCOPE_MISSING,
                status=403,
                detail=f"The token lacks the scope {' '.join(missing)}.",
                headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{" ".join(scopes)}"'},
            )
        if caller.product_id is not None and not products:
            raise Problem(Code.PRODUCT_REFUSED, status=403, detail="The token is a product's.")
        if caller.teacher is not None and not teachers:
            raise Problem(Code.TEACHER_REFUSED, status=403, detail="The token is a teacher's.")
        return caller

    return check


def own_teacher(caller: Caller, integration_id: object, sourced_id: str | None) -> str | None:
    """The teacher in whose name a request counts: for a teacher's token that is they, in their own integration.

    Raises `Problem` TEACHER_REFUSED for one that speaks of anybody or anywhere else.
    """
    if caller.teacher is None:
        return sourced_id
    integration, teacher = caller.teacher
    if str(integration_id or integration) != integration or (sourced_id or teacher) != teacher:
        raise Problem(Code.TEACHER_REFUSED, status=403, detail="A teacher acts for themselves only.")
    return teacher


class TokenUnavailable(Exception):  # noqa: N818 - a state rather than a mistake
    """No access token could be had; the text says why. Worth another try later, unless sso refused the client."""


class _Granted(msgspec.Struct, frozen=True):
    """What the token endpoint answers."""

    access_token: str
    expires_in: int


@dataclass(frozen=True, slots=True)
class _Held:
    token: str
    renew_at: float
    ends_at: float


class TokenSource:
    """This service's own access tokens: had when first needed, kept, renewed when four fifths of their life is over."""

    def __init__(
        self, client: httpx2.AsyncClient, settings: Settings, scopes: Collection[str], clock: Clock | None = None
    ) -> None:
        self._client = client
        self._settings = settings
        self._scopes = " ".join(sorted(scopes))
        self._clock = clock or SystemClock()
        self._held = _Held("", float("-inf"), float("-inf"))
        self._turn = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, scopes: Collection[str]) -> AsyncIterator[TokenSource]:
        """A source for the client of `settings`; nothing is asked for before `token`."""
        async with httpx2.AsyncClient(timeout=HTTP_TIMEOUT, follow_redirects=False) as client:
            yield cls(client, settings, scopes)

    async def token(self) -> str:
        """A token that is valid for a while. Raises `TokenUnavailable`."""
        if self._clock.monotonic() < self._held.renew_at:
            return self._held.token
        async with self._turn:
            now = self._clock.monotonic()
            if now >= self._held.renew_at:
                try:
                    self._held = await self._renew(now)
                except TokenUnavailable as error:
                    if now >= self._held.ends_at:
                        raise
                    log.warning("the token could not be renewed, the old one is used", why=str(error))
                    self._held = replace(self._held, renew_at=min(now + RETRY_SECONDS, self._held.ends_at))
            return self._held.token

    async def headers(self) -> dict[str, str]:
        """Headers for a request to another service: the token, and the present trace."""
        return {"Authorization": f"Bearer {await self.token()}", **inject_headers()}

    def forget(self) -> None:
        """Ask for a new token next time; for when the one at hand was answered with 401."""
        self._held = _Held("", float("-inf"), float("-inf"))

    async def _renew(self, now: float) -> _Held:
        settings = self._settings
        try:
            async with asyncio.timeout(HTTP_TIMEOUT.read):
                answer = await self._client.post(
                    settings.token_url,
                    data={
                        "grant_type": "client_credentials",
                        "scope": self._scopes,
                        "client_id": settings.client_id,
                        "client_secret": settings.client_secret.get_secret_value(),
                    },
                )
        except (httpx2.HTTPError, TimeoutError) as error:
            msg = f"the token endpoint does not answer ({type(error).__name__})"
            raise TokenUnavailable(msg) from None
        if answer.status_code != 200:  # noqa: PLR2004 - HTTP's OK
            msg = f"the token endpoint answered {answer.status_code}; check HOMEROOM_CLIENT_ID, _SECRET and the scopes"
            raise TokenUnavailable(msg)
        try:
            granted = msgspec.json.decode(answer.content, type=_Granted)
        except msgspec.MsgspecError:
            msg = "the token endpoint's answer is no token"
            raise TokenUnavailable(msg) from None
        return _Held(granted.access_token, now + granted.expires_in * 0.8, now + granted.expires_in - LEEWAY_SECONDS)
