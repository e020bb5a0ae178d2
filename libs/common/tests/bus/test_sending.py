"""What happens to a message before it leaves."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from homeroom.bus import BusUnavailable
from homeroom.bus.sending import Outstanding, partition_of


@given(key=st.text(st.characters(exclude_categories=["Cs"]), max_size=60), partitions=st.integers(1, 60))
def test_partitions_are_kafkas(key: str, partitions: int) -> None:
    """A key goes to the partition that Kafka's own clients choose for it."""
    assert partition_of(key, partitions) == DefaultPartitioner()(key.encode(), range(partitions), [])


async def test_outstanding_is_bounded() -> None:
    """Who comes when there is no room waits, first come first served, until others are done."""
    outstanding = Outstanding(100, 5.0)
    order: list[str] = []

    async def come(name: str, size: int) -> None:
        await outstanding.admit(size)
        order.append(name)

    await come("first", 60)
    second, third = asyncio.create_task(come("second", 60)), asyncio.create_task(come("third", 10))
    await asyncio.sleep(0.05)
    assert order == ["first"]
    outstanding.settle(60)
    await asyncio.gather(second, third)
    assert order == ["first", "second", "third"]
    assert outstanding.held == 70


async def test_larger_than_the_room() -> None:
    """Something larger than the limit goes when nothing else is on its way."""
    outstanding = Outstanding(100, 5.0)
    await outstanding.admit(500)
    assert outstanding.held == 500


async def test_no_room_in_time() -> None:
    """Waiting for room ends at the deadline with what to do, and takes nothing."""
    outstanding = Outstanding(100, 0.05)
    await outstanding.admit(100)
    with pytest.raises(BusUnavailable, match="try again later"):
        await outstanding.admit(1)
    assert outstanding.held == 100
