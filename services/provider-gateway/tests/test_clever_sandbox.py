"""The sandbox district through Clever: whole, by its events, and what becomes of it in trouble."""

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest

from homeroom.codes import Code
from sandbox_district import faults
from sandbox_district.server import Sandbox, create_district, running_sandbox

EVERYTHING = {"sync_parents": True, "sync_demographics": True}
WITHOUT_PARENTS = {"sync_demographics": True}
DAYS = 10


@pytest.fixture
async def sandbox(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sandbox]:
    """A district of 40 students at Clever, and a gateway that is less patient than in earnest."""
    monkeypatch.setattr("provider_gateway.client._LONGEST_PAUSE_SECONDS", 0.05)
    async with running_sandbox(create_district(seed=3, students=40)) as sandbox:
        connect(gateway, sandbox)
        yield sandbox


def connect(gateway: Any, sandbox: Sandbox, version: str = "v3.1") -> None:
    origin = f"{sandbox.url}/clever"
    gateway.provider = "clever"
    gateway.connection = {
        "district_id": sandbox.clever.district_id,
        "base_url": f"{origin}/{version}",
        "token_url": f"{origin}/oauth/tokens",
        "client_id": sandbox.clever.client_id,
    }
    gateway.secrets = {"client_secret": sandbox.clever.client_secret}


@pytest.mark.parametrize("version", ["v3.0", "v3.1"])
async def test_full_and_events_lead_to_the_same(gateway: Any, sandbox: Sandbox, version: str) -> None:
    """After each of ten days, full and events have led to what a fresh read of everything brings, byte for byte."""
    connect(gateway, sandbox, version)
    await gateway.sync(options=WITHOUT_PARENTS)
    for _ in range(DAYS):
        sandbox.district.advance_day()
        outcome = await gateway.sync(job=gateway.job(mode="delta", options=WITHOUT_PARENTS))
        assert outcome.completed.mode == "delta"
        by_events, bookmark = copy.deepcopy(gateway.store.records), gateway.bookmark
        gateway.store.records = {collection: {} for collection in by_events}
        gateway.bookmark = None
        await gateway.sync(options=WITHOUT_PARENTS)
        assert by_events == gateway.store.records
        gateway.bookmark = bookmark


async def test_parents_and_events(gateway: Any, sandbox: Sandbox) -> None:
    """With parents, too, whatever way the changes took."""
    await gateway.sync(options=EVERYTHING)
    for _ in range(4):
        sandbox.district.advance_day()
        await gateway.sync(job=gateway.job(mode="delta", options=EVERYTHING))
        repaired = await gateway.run(job=gateway.job(options=EVERYTHING))
        assert repaired.chunks == []


@pytest.mark.parametrize(
    "trouble",
    [
        faults.RateLimit(every=5, retry_after=0.02),
        faults.ServerError(every=5),
        faults.Truncate(path="/clever/v3.1/users", times=2),
        faults.HangUp(path="/clever/v3.1/users", times=2),
    ],
    ids=lambda one: type(one).__name__,
)
async def test_trouble_that_passes(gateway: Any, sandbox: Sandbox, trouble: Any) -> None:
    """Trouble that asking again gets over leaves no trace in the roster."""
    await gateway.sync(options=EVERYTHING)
    sandbox.faults.replace(trouble)
    outcome = await gateway.sync(options=EVERYTHING)
    assert outcome.chunks == []


async def test_tokens_rotate(gateway: Any, sandbox: Sandbox) -> None:
    """A token that changed between runs, or in the midst of one, is looked up again."""
    await gateway.sync()
    gateway.secrets["district_token"] = "of-old"
    sandbox.clever.rotate_token()
    outcome = await gateway.sync()
    assert outcome.chunks == []


@pytest.mark.parametrize("state", ["paused", "error"])
async def test_a_paused_district(gateway: Any, sandbox: Sandbox, state: str) -> None:
    """While the district is paused, its roster stays."""
    await gateway.sync()
    sandbox.clever.state = state
    sandbox.district.advance_day()
    outcome = await gateway.run(job=gateway.job(mode="delta"))
    assert outcome.failure is not None
    assert outcome.failure.code is Code.PROV_PAUSED


async def test_purged_events(gateway: Any, sandbox: Sandbox) -> None:
    """Events that are gone have everything read."""
    await gateway.sync()
    sandbox.district.advance_day()
    sandbox.clever.ledger.purge_events()
    outcome = await gateway.sync(job=gateway.job(mode="delta"))
    assert outcome.completed.mode_code is Code.CLEVER_EVENTS_GAP
    again = await gateway.sync()
    assert again.chunks == []
