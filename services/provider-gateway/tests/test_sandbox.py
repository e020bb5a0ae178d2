"""The gateway against the sandbox district: everything it serves arrives, and nothing else."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sandbox_district.server import Sandbox, create_district, running_sandbox


@pytest.fixture
async def sandbox(gateway: Any) -> AsyncIterator[Sandbox]:
    async with running_sandbox(create_district(seed=3, students=60)) as sandbox:
        gateway.point_at(sandbox.url, client_id=sandbox.client_id)
        gateway.secret = sandbox.client_secret
        yield sandbox


async def test_first_sync(gateway: Any, sandbox: Sandbox) -> None:
    """A first sync brings every active record into the store, and a second one publishes nothing."""
    outcome = await gateway.sync(options={"sync_parents": True, "sync_demographics": True})

    truth = sandbox.district.truth()
    assert {collection: gateway.store.ids(collection) for collection in truth} == truth

    again = await gateway.sync(options={"sync_parents": True, "sync_demographics": True})
    assert again.chunks == []
    print(outcome.reports)
