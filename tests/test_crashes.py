"""kill -9 at every step of a run: it ends succeeded, the roster is the provider's, no event is missing."""

from __future__ import annotations

import asyncio
import random

import pytest
from installation import Installation, synced_district

from homeroom.faultpoints import POINTS

VICTIMS = [
    ("sync_scheduler", "api"),
    ("sync_scheduler", "worker"),
    ("provider_gateway", "worker"),
    ("roster_store", "api"),
    ("roster_store", "worker"),
    ("sso", "api"),
]


@pytest.mark.parametrize("point", sorted(POINTS))
async def test_a_crash_at_any_step_is_survived(installation: Installation, point: str) -> None:
    """Whichever process dies between two effects of a run, nothing is lost and nothing is done twice."""
    async with synced_district(installation) as district:
        await district.sync()
        await district.wait_for_events()
        changes = district.sandbox.district.advance_day()
        armed = installation.arm(point)
        run = await district.sync()
        await district.wait_for_events()
        # The relay may still be to die on its way; the armed file is gone when it has.
        async with asyncio.timeout(30):
            while armed.exists():
                await asyncio.sleep(0.1)
        held = await district.held()
        await district.wait_for_events()

        assert run["state"] == "succeeded", run
        assert held == district.truth
        counted = [[counts[kind] for kind in ("added", "changed", "removed")] for counts in run["counts"].values()]
        true = [
            [len(changes[name].added), len(changes[name].changed), len(changes[name].removed)] for name in run["counts"]
        ]
        assert counted in (true, [[0, 0, 0]] * len(true)), "all of the day, or nothing left to do for a later attempt"


async def test_crashes_at_any_moment_are_survived(installation: Installation) -> None:
    """Processes killed at random moments of ten runs never cost a record or an event."""
    dice = random.Random(11)
    async with synced_district(installation, seed=11) as district:
        await district.sync()
        for _ in range(10):
            district.sandbox.district.advance_day()
            run_id = await district.start()
            await asyncio.sleep(dice.uniform(0, 0.5))
            installation.kill(*dice.choice(VICTIMS))
            run = await district.wait(run_id)

            assert run["state"] == "succeeded", run
            assert await district.held() == district.truth
        await district.wait_for_events()
