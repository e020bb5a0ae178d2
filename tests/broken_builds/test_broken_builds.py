"""The checkers have teeth: each deliberately broken build is caught, in a scenario an unbroken one goes through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from broken_builds.builds import BUILDS
from broken_builds.scenarios import World
from checkers import assert_sound, check
from history import History, watching_store

from homeroom.db import Database
from homeroom.migrate import migrate

SCENARIOS = {build.scenario.__name__: build.scenario for build in BUILDS.values()}
FEWEST = 12


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """An empty store that is watched."""
    await migrate(database_url, schema="roster", package="roster_store")
    async with Database.open(database_url, schema="roster", size=6) as database, watching_store(database_url) as store:
        yield World(database, database_url, store, History(tmp_path / "history.jsonl", seed=0))


@pytest.mark.parametrize("name", SCENARIOS)
async def test_an_unbroken_build_is_sound(world: World, name: str) -> None:
    """The build as it is goes through every scenario without a violation."""
    await SCENARIOS[name](world)

    assert_sound(world.history)


@pytest.mark.parametrize("name", BUILDS)
async def test_a_broken_build_is_caught(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checker of the invariant that the build breaks says so."""
    build = BUILDS[name]
    build.broken(monkeypatch, world)
    await build.scenario(world)

    found = check(world.history.entries)
    assert build.invariant in {one.invariant for one in found}, f"not caught; found only {found[:5]}"


def test_there_are_enough_broken_builds() -> None:
    """At least a dozen builds are broken, each in its own way, and most invariants are broken by one."""
    assert len(BUILDS) >= FEWEST
    assert len({build.invariant for build in BUILDS.values()}) >= len({"I1", "I2", "I3", "I4", "I5", "I6", "I8", "I9"})
