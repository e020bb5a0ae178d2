"""What the store holds, read from its binary stream."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.codes import Code
from homeroom.roster import record_key
from provider_gateway.store import CopyReader


def stream(rows: list[tuple[bytes, int]]) -> bytes:
    return (
        b"PGCOPY\n\xff\r\n\0"
        + bytes(8)
        + b"".join(struct.pack(">hi16siq", 2, 16, k, 8, v) for k, v in rows)
        + b"\xff\xff"
    )


rows = st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.integers(-(2**63), 2**63 - 1)), max_size=40)


@given(rows, st.integers(1, 100))
def test_any_cut_of_the_stream(rows: list[tuple[bytes, int]], size: int) -> None:
    """However the stream is cut into pieces, the same records come out, sorted by key."""
    reader = CopyReader()
    data = stream(rows)
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
    known = reader.finish()
    found = [
        (int(u).to_bytes(8, "big") + int(lo).to_bytes(8, "big"), int(v))
        for u, lo, v in zip(known.upper, known.lower, known.fingerprints, strict=True)
    ]
    assert sorted(found) == sorted(rows)
    assert [key[:8] for key, _ in found] == sorted(key[:8] for key, _ in found)


@pytest.mark.parametrize("keep", [0, 10, 19, 19 + 34, 19 + 34 + 33, 19 + 34 * 2, 19 + 34 * 2 + 1])
def test_cut_off(keep: int) -> None:
    """A stream without its end is no picture."""
    reader = CopyReader()
    reader.feed(stream([(bytes(16), 1), (bytes(16), 2)])[:keep])
    with pytest.raises(ValueError, match="cut off"):
        reader.finish()


@pytest.mark.usefixtures("provider")
async def test_store_that_cuts_its_stream(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the store can't be read the run fails before anything is published, and is tried again."""
    monkeypatch.setattr("provider_gateway.store._TRIES", 2)
    gateway.store.cut = True
    outcome = await gateway.run()
    assert (outcome.failure.code, outcome.failure.again) == (Code.STORE_UNAVAILABLE, True)
    assert outcome.changes == []


async def test_basis(gateway: Any, provider: Any, user: Any) -> None:
    """A fetch says which apply it was compared with."""
    provider.collections["users"] = [user(1)]
    first = await gateway.sync()
    second = await gateway.sync()
    assert [outcome.changes[0].basis for outcome in (first, second)] == [0, 1]


async def test_confirmation_asks_the_store_for_ids(gateway: Any, provider: Any, user: Any) -> None:
    """Records missing from a list without counts are asked for by id; only those not found are removed."""
    provider.collections["users"] = [user(n) for n in range(8)]
    provider.counted = False
    await gateway.sync()
    del provider.collections["users"][3]
    provider.collections["users"][5]["status"] = "tobedeleted"
    outcome = await gateway.sync()

    assert gateway.store.ids("users") == {"u0", "u1", "u2", "u4", "u5", "u7"}
    assert gateway.store.asked == [record_key("u3").hex()]
    assert outcome.reports["users"].removed == 2
    assert [chunk.removal_reason for chunk in outcome.chunks] == ["tombstone", "confirmed"]
