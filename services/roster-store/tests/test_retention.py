"""What is kept for a time only."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from played_gateway import ROSTER, Gateway, student
from undoing import carry_out, count_staging, undo

from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Applied, Failed
from roster_store import retention
from roster_store.retention import Retention
from roster_store.settings import StoreSettings
from roster_store.tables import SQL


@pytest.fixture
def keeper(database: Database, settings: StoreSettings) -> Retention:
    """A worker that keeps history for ten days."""
    return Retention(database, settings.model_copy(update={"history_days": 10}))


async def days_go_by(database: Database, days: float) -> None:
    """Let everything be some days older."""
    for table, columns in (("apply", ["applied_at"]), ("staged_fetch", ["started_at", "finished_at"])):
        moved = ", ".join(f"{column} = {column} - make_interval(secs => $1)" for column in columns)
        await database.fetch(f"UPDATE {table} SET {moved}", days * 86_400)  # noqa: S608 - tables of ours


async def rename(gateway: Gateway, name: str) -> Applied:
    """A run that changes one person."""
    return await gateway.apply({"users": [student(1, name)]}, served={"users": 3})


async def test_history_is_kept_as_long_as_it_should_be(gateway: Gateway, database: Database, keeper: Retention) -> None:
    """What applies of more than ten days ago changed is forgotten and can't be undone; younger ones can."""
    await gateway.apply(ROSTER)
    await rename(gateway, "Ana")
    await days_go_by(database, 6)
    await rename(gateway, "Bea")
    await days_go_by(database, 5)
    forgotten = await keeper.forget()

    assert forgotten["history"] == 1
    rows = await database.fetch("SELECT until_apply FROM history")
    assert [row["until_apply"] for row in rows] == [3]
    refused = await carry_out(database, gateway, undo(gateway, 2))
    assert isinstance(refused, Failed)
    assert refused.code == Code.RESTORE_IMPOSSIBLE
    assert isinstance(await carry_out(database, gateway, undo(gateway, 3)), Applied)


async def test_nothing_is_forgotten_twice(gateway: Gateway, database: Database, keeper: Retention) -> None:
    """A round with nothing to do does nothing, and an empty store is no trouble."""
    assert not any((await keeper.forget()).values())
    await gateway.apply(ROSTER)
    await rename(gateway, "Ana")

    assert not any((await keeper.forget()).values())
    assert await database.fetchval("SELECT count(*) FROM history_horizon") == 0


async def test_batches_go_on_until_nothing_is_left(
    gateway: Gateway, database: Database, keeper: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a batch is forgotten in several, and the horizon is the newest of them."""
    monkeypatch.setattr(retention, "BATCH", 2)
    await gateway.apply(ROSTER)
    for name in ("Ana", "Bea", "Cleo"):
        await gateway.apply({"users": [student(1, name), student(2, name)]}, served={"users": 3})
    await days_go_by(database, 11)

    assert (await keeper.forget())["history"] == 6
    assert await database.fetchval("SELECT apply_no FROM history_horizon") == 4


async def test_a_district_that_is_being_applied_is_not_waited_for(
    gateway: Gateway, database: Database, keeper: Retention
) -> None:
    """Forgetting neither waits for a sync's locks nor holds any it would wait for."""
    await gateway.apply(ROSTER)
    await rename(gateway, "Ana")
    await days_go_by(database, 11)
    async with database.transaction() as applying:
        await applying.fetchrow(SQL["lock_integration"], gateway.integration_id)
        assert (await asyncio.wait_for(keeper.forget(), 5))["history"] == 1


async def test_one_worker_forgets_at_a_time(database: Database, keeper: Retention) -> None:
    """While one worker forgets, the others have nothing to do."""
    async with database.connection() as other:
        assert await other.fetchval(SQL["lock_retention"])
        assert await keeper.forget() == {}
        await other.fetchval(SQL["unlock_retention"])
    assert await keeper.forget() != {}


async def test_traces_of_fetches_are_forgotten(gateway: Gateway, database: Database, keeper: Retention) -> None:
    """Fetches that ended long ago go; one nobody has heard of for a week is ended, and its tables are dropped."""
    await gateway.apply(ROSTER)
    await days_go_by(database, 11)
    await gateway.consumer.handle(gateway.messages({"users": [student(4)]})[:-1])
    await database.fetch("UPDATE staged_fetch SET started_at = started_at - interval '8 days' WHERE state = 'staging'")
    forgotten = await keeper.forget()

    assert (forgotten["fetches"], forgotten["forsaken"]) == (1, 1)
    assert await database.fetchval("SELECT array_agg(state) FROM staged_fetch") == ["abandoned"]
    assert await count_staging(database) == 0


async def test_what_waits_for_a_decision_is_kept(gateway: Gateway, database: Database, keeper: Retention) -> None:
    """However old, a fetch with an open hold stays."""
    await gateway.apply(ROSTER)
    await gateway.sync({}, {"users": ["user-1", "user-2", "user-3"]}, served={"users": 0})
    await days_go_by(database, 99)
    await keeper.forget()

    assert await database.fetchval("SELECT array_agg(state) FROM staged_fetch") == ["held"]
    await database.fetch("UPDATE hold SET state = 'expired'")
    assert (await keeper.forget())["fetches"] == 1


async def test_the_loop_ends_when_it_is_told_to(
    gateway: Gateway, database: Database, keeper: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop forgets at once, goes on after a failure that passes, and stops in no time."""
    await gateway.apply(ROSTER)
    await rename(gateway, "Ana")
    await days_go_by(database, 11)
    forget, rounds = keeper.forget, 0
    stop = asyncio.Event()

    async def fail_first() -> Any:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise ConnectionError
        forgotten = await forget()
        stop.set()
        return forgotten

    monkeypatch.setattr(keeper, "forget", fail_first)
    monkeypatch.setattr(retention, "RETRY_SECONDS", 0.01)
    await asyncio.wait_for(keeper.run(stop), 10)

    assert rounds == 2
    assert await database.fetchval("SELECT count(*) FROM history") == 0
