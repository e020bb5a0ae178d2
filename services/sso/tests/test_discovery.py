"""What providers say about themselves: how long it counts, who asks for it, and what is believed of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from homeroom.clock import MovingClock
from sso.connections.upstreams import Kind, OidcConfig
from sso.upstream.discovery import (
    KEYS_SECONDS,
    NEW_KEY_SECONDS,
    RETRY_SECONDS,
    STALE_SECONDS,
    MetadataRefused,
    ProviderMetadata,
    Shelf,
    find_discovery_url,
    read_metadata,
)
from sso.upstream.fetching import NotFetched

ISSUER = "https://portal.example"
DOCUMENT = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/jwks",
}


class Source:
    """Something that is fetched, and may be away or slow."""

    def __init__(self) -> None:
        self.fetched = 0
        self.away = False
        self.pause = asyncio.Event()
        self.pause.set()

    async def fetch(self) -> int:
        """The next number."""
        self.fetched += 1
        await self.pause.wait()
        if self.away:
            raise NotFetched("timeout", "too slow")
        return self.fetched


def make_shelf() -> tuple[Shelf[int], Source, MovingClock]:
    """A shelf with nothing on it."""
    clock = MovingClock(datetime(2026, 9, 1, tzinfo=UTC))
    clock.move(days=1)
    return Shelf(clock, KEYS_SECONDS), Source(), clock


async def test_one_asks_for_all() -> None:
    """A class that comes in at once asks a provider once, and it is not asked again until what it said is old."""
    shelf, source, clock = make_shelf()
    source.pause.clear()
    class_ = [asyncio.create_task(shelf.get("a", source.fetch)) for _ in range(30)]
    await asyncio.sleep(0)
    source.pause.set()
    assert set(await asyncio.gather(*class_)) == {1}
    clock.move(seconds=KEYS_SECONDS)
    assert await shelf.get("a", source.fetch) == 1
    clock.move(seconds=1)
    assert await shelf.get("a", source.fetch) == 2
    assert await shelf.get("b", source.fetch) == 3


async def test_what_a_provider_said_counts_while_it_is_away() -> None:
    """For a day nobody notices an outage, nor waits for it more than now and then; then it is one."""
    shelf, source, clock = make_shelf()
    await shelf.get("a", source.fetch)
    source.away = True
    clock.move(seconds=KEYS_SECONDS + 1)
    assert await shelf.get("a", source.fetch) == 1
    assert await shelf.get("a", source.fetch) == 1
    assert source.fetched == 2
    clock.move(seconds=RETRY_SECONDS)
    assert await shelf.get("a", source.fetch) == 1
    assert source.fetched == 3
    clock.move(seconds=STALE_SECONDS)
    with pytest.raises(NotFetched):
        await shelf.get("a", source.fetch)
    source.away = False
    clock.move(seconds=RETRY_SECONDS)
    assert await shelf.get("a", source.fetch) == 5


async def test_a_slow_provider_holds_up_one_only() -> None:
    """While one waits for a newer answer, everybody else goes on with the one at hand."""
    shelf, source, clock = make_shelf()
    await shelf.get("a", source.fetch)
    clock.move(seconds=KEYS_SECONDS + 1)
    source.pause.clear()
    waiting = asyncio.create_task(shelf.get("a", source.fetch))
    await asyncio.sleep(0)
    assert await asyncio.wait_for(shelf.get("a", source.fetch), 1) == 1
    source.pause.set()
    assert await waiting == 2


async def test_a_provider_that_never_answered_is_not_asked_by_everybody() -> None:
    """Where nothing is at hand an outage is told at once for some seconds, without asking again."""
    shelf, source, clock = make_shelf()
    source.away = True
    for _ in range(3):
        with pytest.raises(NotFetched):
            await shelf.get("a", source.fetch)
    assert source.fetched == 1
    clock.move(seconds=RETRY_SECONDS)
    with pytest.raises(NotFetched):
        await shelf.get("a", source.fetch)
    assert source.fetched == 2


async def test_attack_45_unknown_keys_have_it_asked_once_a_minute() -> None:
    """Asking for something newer counts once a minute, however many want it."""
    shelf, source, clock = make_shelf()
    await shelf.get("a", source.fetch)
    assert await shelf.get("a", source.fetch, again=True) == 2
    for _ in range(5):
        assert await shelf.get("a", source.fetch, again=True) == 2
    clock.move(seconds=NEW_KEY_SECONDS)
    assert await shelf.get("a", source.fetch, again=True) == 3


def read(document: dict[str, Any], kind: Kind = "oidc", **config: Any) -> ProviderMetadata:
    """What is used of metadata."""
    said = OidcConfig(**{"issuer": ISSUER, "client_id": "homeroom"} | config)
    return read_metadata(document, kind, said, allow_private=False)


@pytest.mark.parametrize("issuer", [None, "", f"{ISSUER}/", ISSUER.upper(), "https://clever.com", [ISSUER]])
def test_attack_38_metadata_of_another_issuer_is_refused(issuer: object) -> None:
    """The issuer must be the connection's, character by character."""
    with pytest.raises(MetadataRefused, match="another issuer"):
        read({**DOCUMENT, "issuer": issuer})


def test_attack_37_metadata_changes_no_algorithm() -> None:
    """Nothing of what is read says which signatures count."""
    said = {"id_token_signing_alg_values_supported": ["none", "HS256"]}
    assert read({**DOCUMENT, **said}) == read(DOCUMENT)


def test_pinned_endpoints_win() -> None:
    """Where the connection says an endpoint, metadata can't move it."""
    found = read({**DOCUMENT, "token_endpoint": "https://evil.example"}, token_endpoint=f"{ISSUER}/pinned")
    assert found.token_endpoint == f"{ISSUER}/pinned"
    assert found.authorization_endpoint == f"{ISSUER}/authorize"


@pytest.mark.parametrize(
    "endpoint",
    [None, "", 7, "http://portal.example/x", "javascript:alert(1)", "https://a:b@portal.example", "//x", "#a"],
)
def test_endpoints_must_be_usable(endpoint: object) -> None:
    """An endpoint that is missing, or no address of the public web, is refused when it is read."""
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        with pytest.raises(MetadataRefused, match=name):
            read({**DOCUMENT, name: endpoint})


def test_metadata_of_the_wrong_shape_says_nothing() -> None:
    """Lists that are none, and words that are none, count as not there."""
    odd = {"code_challenge_methods_supported": "S256", "authorization_response_iss_parameter_supported": "true"}
    found = read({**DOCUMENT, **odd, "token_endpoint_auth_methods_supported": [7, None]})
    assert not found.pkce
    assert not found.promises_issuer
    assert found.auth_methods == ()


def test_a_portals_own_places_are_the_portals_only() -> None:
    """Clever's addresses are used for Clever itself; where another host plays it, nothing is sent to the real one."""
    clever = OidcConfig(issuer="https://clever.com", client_id="c", openid=False)
    assert find_discovery_url("clever", clever) is None
    found = read_metadata({"issuer": "https://clever.com"}, "clever", clever, allow_private=False)
    assert found.token_endpoint == "https://clever.com/oauth/tokens"
    played = OidcConfig(issuer=ISSUER, client_id="c", openid=False)
    assert find_discovery_url("clever", played) == f"{ISSUER}/.well-known/openid-configuration"
    with pytest.raises(MetadataRefused):
        read({"issuer": ISSUER}, "clever", openid=False)
