"""What OpenID providers publish about themselves: metadata and keys, kept, asked for by one at a time, believed little.

The issuer in the metadata must be the connection's, endpoints that are pinned in the connection win, and nothing here
says which signatures are accepted. While a provider does not answer, what it said before goes on counting for a day.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Generic, TypeVar

from homeroom.clock import Clock
from homeroom.egress import AddressRefused, read_address
from homeroom.telemetry import get_logger
from sso.connections.quirks import QUIRKS, Quirks
from sso.connections.upstreams import Kind, OidcConfig, Upstream
from sso.upstream.fetching import Fetching, NotFetched
from sso.upstream.key_sets import PublicKey, read_keys

METADATA_SECONDS: Final = 3600.0
KEYS_SECONDS: Final = 600.0
STALE_SECONDS: Final = 24 * 3600.0
RETRY_SECONDS: Final = 10.0
"""How long a provider that failed is left alone, so that not everybody waits for it."""
NEW_KEY_SECONDS: Final = 60.0
"""How often at most an unknown key has us ask for the keys again: forged key ids must cost a provider nothing."""
MOST_KEPT: Final = 5_000

Value = TypeVar("Value")

log = get_logger(__name__)


class MetadataRefused(Exception):  # noqa: N818 - what happened to the metadata
    """What a provider says about itself can't be used; `why` is a word for admins and the trace."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """What is used of an OpenID provider's metadata (OpenID Connect Discovery §3, RFC 8414), after the pins.

    Args:
        issuer: the connection's, always.
        authorization_endpoint: where browsers go.
        token_endpoint: where codes are exchanged.
        jwks_uri: where its keys are; None for providers without ID tokens.
        userinfo_endpoint: where more about somebody is had, if it has one.
        pkce: whether it says that it knows S256.
        promises_issuer: whether its answers carry `iss` (RFC 9207).
        auth_methods: how clients may show who they are at the token endpoint; empty if it does not say.
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str | None = None
    userinfo_endpoint: str | None = None
    pkce: bool = False
    promises_issuer: bool = False
    auth_methods: tuple[str, ...] = ()


def find_discovery_url(kind: Kind, config: OidcConfig) -> str | None:
    """Where the metadata of a provider is; None if all that is needed of it is known without."""
    quirks = _own_quirks(kind, config)
    needed = ["authorization_endpoint", "token_endpoint"]
    if config.openid:
        known = all(getattr(config, name) for name in (*needed, "jwks_uri"))
    else:
        known = all(getattr(config, name) or getattr(quirks, name, None) for name in needed)
    if known and config.discovery_url is None:
        return None
    return config.discovery_url or f"{config.issuer.rstrip('/')}/.well-known/openid-configuration"


def _own_quirks(kind: Kind, config: OidcConfig) -> Quirks | None:
    """The kind's quirks, if the connection is with the portal itself: with another, its addresses are not right."""
    quirks = QUIRKS[kind]
    return quirks if quirks.issuer == config.issuer else None


def read_metadata(
    document: Mapping[str, Any], kind: Kind, config: OidcConfig, *, allow_private: bool
) -> ProviderMetadata:
    """What a provider's metadata says, as far as the connection does not know better. Raises `MetadataRefused`."""
    if document.get("issuer") != config.issuer:
        raise MetadataRefused("the metadata is another issuer's")
    quirks = _own_quirks(kind, config)

    def find(name: str, *, needed: bool) -> str | None:
        url = getattr(config, name) or document.get(name) or getattr(quirks, name, None)
        if url is None and not needed:
            return None
        try:
            if not isinstance(url, str) or read_address(url, allow_private=allow_private).fragment:
                raise MetadataRefused(f"{name} is no usable address")
        except AddressRefused:
            raise MetadataRefused(f"{name} is no usable address") from None
        return url

    return ProviderMetadata(
        issuer=config.issuer,
        authorization_endpoint=find("authorization_endpoint", needed=True) or "",
        token_endpoint=find("token_endpoint", needed=True) or "",
        jwks_uri=find("jwks_uri", needed=config.openid),
        userinfo_endpoint=find("userinfo_endpoint", needed=False),
        pkce="S256" in _list_texts(document, "code_challenge_methods_supported"),
        promises_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        auth_methods=_list_texts(document, "token_endpoint_auth_methods_supported"),
    )


def _list_texts(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = document.get(name)
    return tuple(text for text in found if isinstance(text, str)) if isinstance(found, list) else ()


@dataclass(slots=True)
class _Entry(Generic[Value]):
    """One thing that is kept."""

    value: Value | None = None
    fetched: float = float("-inf")
    failed: float = float("-inf")
    failure: Exception | None = None
    asked_again: float = float("-inf")
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Shelf(Generic[Value]):
    """Keeps what was fetched: fresh for a while, usable for a day if nothing newer is to be had, one asks at a time."""

    def __init__(self, clock: Clock, fresh_seconds: float) -> None:
        self._clock = clock
        self._fresh_seconds = fresh_seconds
        self._entries: OrderedDict[Hashable, _Entry[Value]] = OrderedDict()

    async def get(self, place: Hashable, fetch: Callable[[], Awaitable[Value]], *, again: bool = False) -> Value:
        """What is kept at a place, fetched if need be. Raises what `fetch` does, if nothing usable is there.

        Args:
            place: what it is found by.
            fetch: gets it; raises `NotFetched` or `MetadataRefused`.
            again: ask for something newer, if that was not done within the last minute.
        """
        entry = self._find(place)
        now = self._clock.monotonic()
        again = again and now - entry.asked_again >= NEW_KEY_SECONDS
        if again:
            entry.asked_again = now
        elif entry.value is not None and now - entry.fetched <= self._fresh_seconds:
            return entry.value
        usable = entry.value if now - entry.fetched <= STALE_SECONDS else None
        if now - entry.failed < RETRY_SECONDS or (entry.turn.locked() and not again):
            if usable is not None:
                return usable
            if now - entry.failed < RETRY_SECONDS and entry.failure is not None:
                raise entry.failure.with_traceback(None)
        return await self._fetch(entry, entry.fetched, usable, fetch)

    async def _fetch(
        self, entry: _Entry[Value], before: float, usable: Value | None, fetch: Callable[[], Awaitable[Value]]
    ) -> Value:
        async with entry.turn:
            if entry.value is not None and entry.fetched > before:
                return entry.value
            now = self._clock.monotonic()
            if usable is None and entry.failure is not None and now - entry.failed < RETRY_SECONDS:
                raise entry.failure.with_traceback(None)
            try:
                entry.value = await fetch()
            except (NotFetched, MetadataRefused) as error:
                entry.failed, entry.failure = self._clock.monotonic(), error
                if usable is None:
                    raise
                log.warning("a provider can't be asked, what it said before is used", why=str(error))
                return usable
            entry.fetched, entry.failure = self._clock.monotonic(), None
            entry.failed = float("-inf")
            return entry.value

    def _find(self, place: Hashable) -> _Entry[Value]:
        entry = self._entries.get(place)
        if entry is None:
            entry = self._entries[place] = _Entry()
            while len(self._entries) > MOST_KEPT:
                self._entries.popitem(last=False)
        self._entries.move_to_end(place)
        return entry


class Discovery:
    """Metadata and keys of upstreams, kept in this process."""

    def __init__(self, fetching: Fetching, clock: Clock) -> None:
        self._fetching = fetching
        self._metadata: Shelf[ProviderMetadata] = Shelf(clock, METADATA_SECONDS)
        self._keys: Shelf[tuple[PublicKey, ...]] = Shelf(clock, KEYS_SECONDS)

    async def metadata(self, upstream: Upstream) -> ProviderMetadata:
        """A provider's metadata. Raises `NotFetched` and `MetadataRefused`."""
        fetch = partial(self._fetch_metadata, upstream.kind, upstream.oidc)
        return await self._metadata.get((upstream.id, upstream.revision, upstream.config), fetch)

    async def keys(self, upstream: Upstream, *, again: bool = False) -> tuple[PublicKey, ...]:
        """A provider's keys; `again` if none of them fits, which counts once a minute. Raises as `metadata` does."""
        url = (await self.metadata(upstream)).jwks_uri
        if url is None:
            raise MetadataRefused("it publishes no keys")
        return await self._keys.get((upstream.id, upstream.revision, url), partial(self._fetch_keys, url), again=again)

    async def _fetch_metadata(self, kind: Kind, config: OidcConfig) -> ProviderMetadata:
        url = find_discovery_url(kind, config)
        document = {"issuer": config.issuer} if url is None else await self._fetching.get_json(url)
        return read_metadata(document, kind, config, allow_private=self._fetching.allow_private)

    async def _fetch_keys(self, url: str) -> tuple[PublicKey, ...]:
        keys = read_keys(await self._fetching.get_json(url))
        if not keys:
            raise MetadataRefused("no usable key is published")
        return keys
