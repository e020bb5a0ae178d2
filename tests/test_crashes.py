"""kill -9 and zombies at every step of a run: nothing is lost, nothing done twice, nothing old written over new.

Every test writes down what happens and has it judged by the checkers of all invariants (reliability facts §4.3).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from checkers import assert_sound
from history import Decided, Fault, History
from installation import Installation, RecordedDistrict, recorded_district, running_installation

from homeroom.faultpoints import POINTS
from sandbox_district.registrar import Registrar

VICTIMS = [
    ("sync_scheduler", "api"),
    ("sync_scheduler", "worker"),
    ("provider_gateway", "worker"),
    ("roster_store", "api"),
    ("roster_store", "worker"),
    ("sso", "api"),
    ("sso", "worker"),
]
WORKERS = [("sync_scheduler", "worker"), ("provider_gateway", "worker"), ("roster_store", "worker"), ("sso", "worker")]
IMPATIENT = {
    "HOMEROOM_SILENCE_SECONDS": "1.5",
    "HOMEROOM_HEARTBEAT_SECONDS": "0.25",
    "HOMEROOM_BUS_SESSION_SECONDS": "2.5",
}
"""So that who sleeps is soon taken for dead; a worker that is only slow loses its work and gets other, no more."""

ZOMBIES = [
    ("gateway.job-taken",),
    ("gateway.claimed", "scheduler.facts-applied"),
    ("gateway.fetch-started", "store.fetch-started"),
    ("gateway.chunk-sent", "store.fact-published"),
    ("gateway.all-sent", "store.chunks-staged"),
    ("gateway.completed-sent", "store.applied"),
]
"""Points of different services at which processes fall asleep in the same run, and others take over."""
ASIDE = [("store.held", "scheduler.decision-published"), ("store.decided",)]
"""Points with a scenario of their own: who sleeps there is given a while to be replaced, and then wakes."""
HOLDERS = ("scheduler.run-created", "scheduler.job-published", "store.applying", "relay.events-sent")
"""Points at which a process holds what nobody else can take: all wait for it, and go on when it wakes."""


@pytest.fixture
def history(tmp_path: Path) -> History:
    """What happens in a test."""
    return History(tmp_path / "history.jsonl", seed=7)


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with two workers of each kind that are soon given up."""
    with (
        running_installation(tmp_path_factory.mktemp("doubled"), settings=IMPATIENT) as installation,
        installation.second(*WORKERS),
    ):
        yield installation


# ── how a point is reached ────────────────────────────────────────────────────────────────────────────────────────


async def sync_a_day(district: RecordedDistrict) -> dict[str, Any]:
    """A day goes by and is synced: what most points lie on the way of."""
    district.advance_day()
    return await district.sync()


async def approve_a_hold(district: RecordedDistrict) -> dict[str, Any]:
    """More people leave than the guard lets go unseen, and somebody approves that."""
    books = district.sandbox.district
    registrar = Registrar(books, random.Random(district.history.seed))
    leaving = [key for key, user in books.active("users").items() if user["role"] == "student"][:30]
    books.change(lambda: [registrar.dismiss(one, tombstone=False) for one in leaving])
    district.note_truth()
    held = await district.sync()
    assert held["state"] == "held", held
    district.history.note(Decided(integration=district.integration_id, run=held["id"], action="approve"))
    await district.client.call("POST", f"/v1/runs/{held['id']}/approve", json={"plan": held["hold"]["plan"]})
    return await district.wait(held["id"])


Scenario = Callable[[RecordedDistrict], Awaitable[dict[str, Any]]]
SCENARIOS: dict[str, Scenario] = {
    "store.held": approve_a_hold,
    "scheduler.decision-published": approve_a_hold,
    "store.decided": approve_a_hold,
}
"""Point → what reaches it, for points an ordinary sync does not reach. It ends with the run that must have succeeded
and with the provider's roster in the store."""


# ── kill -9 ───────────────────────────────────────────────────────────────────────────────────────────────────────


ON_KAFKA = ("gateway.claimed", "gateway.chunk-sent", "gateway.completed-sent", "relay.events-sent", "store.applied")
"""Points between a message and its offset, or between two messages: there it matters which bus there is. What lies
between two rows is the same on both."""
STEPS = [pytest.param("on_postgres", point, id=point) for point in sorted(POINTS)] + [
    pytest.param("on_kafka", point, id=f"on_kafka-{point}", marks=pytest.mark.kafka) for point in ON_KAFKA
]


@pytest.mark.parametrize(("installation", "point"), STEPS, indirect=["installation"])
async def test_a_crash_at_any_step_is_survived(installation: Installation, history: History, point: str) -> None:
    """Whichever process dies between two effects of a run, nothing is lost and nothing is done twice."""
    async with recorded_district(installation, history) as district:
        await district.sync()
        armed = installation.arm(point)
        history.note(Fault(kind="kill", target=point))
        run = await SCENARIOS.get(point, sync_a_day)(district)

        assert run["state"] == "succeeded", run
        await until_gone(armed)
        await district.come_to_rest()
        assert await district.held() == district.truth
        assert_sound(history)


async def test_crashes_at_any_moment_are_survived(installation: Installation, history: History) -> None:
    """Processes killed at random moments of seven runs never cost a record or an event."""
    dice = random.Random(history.seed)
    async with recorded_district(installation, history) as district:
        await district.sync()
        for _ in range(7):
            district.advance_day()
            run_id = await district.start()
            await asyncio.sleep(dice.uniform(0, 0.5))
            victim = dice.choice(VICTIMS)
            history.note(Fault(kind="kill", target=" ".join(victim)))
            installation.kill(*victim)
            run = await district.wait(run_id)

            assert run["state"] == "succeeded", run
        await district.come_to_rest()
        assert await district.held() == district.truth
        assert_sound(history)


# ── SIGSTOP, and SIGCONT when others have taken over ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("points", ZOMBIES, ids=" and ".join)
async def test_a_zombie_changes_nothing_any_more(
    doubled: Installation, history: History, points: tuple[str, ...]
) -> None:
    """Who wakes up when others have finished its run, and a newer one, finds its late writes refused."""
    async with recorded_district(doubled, history) as district:
        await district.sync()
        async with asleep(doubled, history, points):
            await sync_a_day(district)
            district.advance_day()
            newer = await district.sync()
        await district.wait_for_silence()
        again = await district.sync()
        await district.come_to_rest()

        assert (newer["state"], again["state"]) == ("succeeded", "succeeded")
        assert await district.held() == district.truth
        assert_sound(history)


async def test_a_sleeper_that_is_waited_for_goes_on(doubled: Installation, history: History) -> None:
    """Who sleeps where nobody can replace it, even all at once and past its lease, costs time and nothing else."""
    async with recorded_district(doubled, history) as district:
        await district.sync()
        district.advance_day()
        async with asleep(doubled, history, HOLDERS[:-1]) as reached:
            starting = asyncio.create_task(district.start())
            await reached()
            await asyncio.sleep(2.5)
        run = await district.wait(await starting)
        async with asleep(doubled, history, HOLDERS[-1:]) as reached:
            district.advance_day()
            last = await district.sync()
            await reached()
            await asyncio.sleep(2.5)
        await district.come_to_rest()

        assert (run["state"], last["state"]) == ("succeeded", "succeeded")
        assert await district.held() == district.truth
        assert_sound(history)


@pytest.mark.parametrize("points", ASIDE, ids=" and ".join)
async def test_a_zombie_beside_the_way_changes_nothing(
    doubled: Installation, history: History, points: tuple[str, ...]
) -> None:
    """The same at points an ordinary sync does not reach."""
    async with recorded_district(doubled, history) as district:
        await district.sync()
        async with asleep(doubled, history, points) as reached:
            working = asyncio.create_task(SCENARIOS[points[0]](district))
            await reached()
            await asyncio.wait([working], timeout=4)
        run = await working
        await district.come_to_rest()

        assert run["state"] == "succeeded", run
        assert await district.held() == district.truth
        assert_sound(history)


def test_every_point_is_slept_at() -> None:
    """There is no step that no zombie was tried at."""
    assert {point for points in (*ZOMBIES, *ASIDE, HOLDERS) for point in points} == POINTS


@asynccontextmanager
async def asleep(
    installation: Installation, history: History, points: tuple[str, ...]
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Processes that reach these points fall asleep until the block ends; gives a way to wait until all have."""
    armed = [installation.arm(point, "stop") for point in points]
    for point in points:
        history.note(Fault(kind="stop", target=point))

    async def reached() -> None:
        for path in armed:
            await until_gone(path)

    try:
        yield reached
        await reached()
    finally:
        for path in armed:
            path.unlink(missing_ok=True)
        for process in installation.frozen():
            process.resume()


async def until_gone(armed: Path, seconds: float = 30) -> None:
    """Wait until an armed point has struck: the relay may still be on its way to it when a run has ended."""
    try:
        async with asyncio.timeout(seconds):
            while armed.exists():  # noqa: ASYNC240 - a look at a local folder
                await asyncio.sleep(0.05)
    except TimeoutError:
        armed.unlink(missing_ok=True)  # noqa: ASYNC240 - likewise
        msg = f"nothing reached {armed.name}: give it a scenario in SCENARIOS"
        raise AssertionError(msg) from None
