"""Asking upstreams' servers: an answer of sane size in sane time, or a word for what was wrong."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from played_provider import PlayedProvider, playing_provider

from homeroom.clock import SystemClock
from sso.upstream.fetching import Fetching, NotFetched

WELL_KNOWN = "/.well-known/openid-configuration"


@asynccontextmanager
async def fetching(
    seconds: float = 0.4, *, allow_private: bool = True
) -> AsyncIterator[tuple[Fetching, PlayedProvider]]:
    """Something that fetches, and a server."""
    async with (
        playing_provider(SystemClock()) as provider,
        Fetching.open(allow_private=allow_private, seconds=seconds) as opened,
    ):
        yield opened, provider


async def test_json_and_documents_are_fetched() -> None:
    """What is there is had: an object of JSON, or the bytes of whatever it is."""
    async with fetching() as (asking, provider):
        assert (await asking.get_json(provider.url + WELL_KNOWN))["issuer"] == provider.url
        provider.behave[WELL_KNOWN] = "html"
        assert b"maintenance" in await asking.get_bytes(provider.url + WELL_KNOWN)


@pytest.mark.parametrize(
    ("manner", "word"),
    [
        ("slow", "timeout"),
        ("drip", "timeout"),
        ("huge", "too-large"),
        ("bomb", "too-large"),
        ("redirect", "redirect"),
        ("html", "content"),
        ("error", "status"),
        ("refuse", "status"),
        ("not-json", "unreadable"),
        ("list", "unreadable"),
        ("hang-up", "unreachable"),
    ],
)
async def test_attack_45_bad_servers_are_told_apart(manner: str, word: str) -> None:
    """Whatever a server does, it is over within the deadline, and its word says what to look after."""
    async with fetching() as (asking, provider):
        provider.behave[WELL_KNOWN] = manner  # type: ignore[assignment]  # each is one of them
        began = time.monotonic()
        with pytest.raises(NotFetched) as failed:
            await asking.get_json(provider.url + WELL_KNOWN)
        assert failed.value.word == word
        assert time.monotonic() - began < 2
        assert provider.count("/elsewhere") == 0


async def test_attack_45_addresses_are_judged() -> None:
    """Private addresses, other schemes and names that lead nowhere are not asked, and nothing is sent there."""
    async with fetching(allow_private=False) as (asking, provider):
        for url in (
            provider.url,
            provider.url.replace("http", "https"),
            "https://localhost/x",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/",
            "https://name:word@example.com/",
            "file:///etc/passwd",
            "gopher://x/",
            "no-address",
            "",
        ):
            with pytest.raises(NotFetched) as failed:
                await asking.get_bytes(url)
            assert failed.value.word == "address", url
        assert provider.asked == []


async def test_nothing_listening_is_told() -> None:
    """A server that is not there is unreachable, which is said without our own words of it."""
    async with fetching() as (asking, _):
        with pytest.raises(NotFetched) as failed:
            await asking.get_json("http://127.0.0.1:9/x")
        assert failed.value.word == "unreachable"
        assert "127.0.0.1" not in failed.value.detail


async def test_a_body_may_be_as_large_as_allowed() -> None:
    """The limit is the caller's: a document that is large for metadata is not for a federation."""
    async with fetching(seconds=3) as (asking, provider):
        provider.behave[WELL_KNOWN] = "huge"
        assert len(await asking.get_bytes(provider.url + WELL_KNOWN, 7_000_000)) > 6_000_000
        with pytest.raises(NotFetched, match="too-large"):
            await asking.get_bytes(provider.url + WELL_KNOWN, 5_999_999)
