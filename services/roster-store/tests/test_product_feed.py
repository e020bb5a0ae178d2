"""The feed of a product: what its licenses show, whatever happens meanwhile (D1, D2, F2, F3)."""

from __future__ import annotations

import os
import random

import pytest
from folded import Reader, product_scope, read_view
from played_gateway import Gateway
from product_worlds import World

from homeroom.db import Database
from roster_store.access import settle_licenses
from roster_store.feed import Scope
from roster_store.sights import Rosters

SEED = int(os.environ.get("HOMEROOM_TEST_SEED", "20261122"))


@pytest.mark.parametrize("seed", [SEED, SEED + 1])
async def test_folding_the_feed_gives_the_view(
    gateway: Gateway, database: Database, rosters: Rosters, seed: int
) -> None:
    """Whatever happens and however it is read, what a product makes of its events is exactly what it may see."""
    chance = random.Random(seed)
    second = Gateway(gateway.consumer, gateway.bus, organization_id=gateway.organization_id)
    world = World(database, rosters, [gateway, second], chance)
    whole, waiting, late = (
        world.add_product(),
        world.add_product("teacher-started"),
        world.add_product("teacher-started"),
    )
    scopes = [
        Scope(),
        product_scope(whole),
        product_scope(whole, schools=frozenset({"org-North"}), demographics=False),
        product_scope(waiting),
        product_scope(late),
    ]
    readers = [Reader(database, rosters, scope, chance, repeats=place % 2 == 1) for place, scope in enumerate(scopes)]
    for _ in world.products:
        await world.license()
    for moment in range(50):
        await world.happen()
        reader = chance.choice(readers if moment > 20 else readers[:-1])
        await reader.read(chance.randint(1, 6))
        if moment % 10 == 9:
            reader = chance.choice(readers)
            await settle_licenses(database)
            assert await reader.catch_up() == await read_view(database, rosters, reader.scope), f"moment {moment}"
    await settle_licenses(database)
    for reader in readers:
        seen = await read_view(database, rosters, reader.scope)
        assert await reader.catch_up() == seen
        newcomer = Reader(database, rosters, reader.scope, chance)
        assert await newcomer.catch_up() == seen
