"""The comparer against a dictionary, and how much it holds."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.roster import Org, encode_record, fingerprint, record_key
from provider_gateway.canonical import fingerprints_of, keys_of
from provider_gateway.comparer import (
    CHANGED,
    KEY_BYTES,
    NEW,
    REPEATED,
    RESTORED,
    RIVAL,
    UNCHANGED,
    Comparer,
    Known,
    join_keys,
    split_keys,
)

# Few distinct halves, so that keys share one half or both far more often than any district's do.
halves = st.sampled_from([0, 1, 2**63, 2**64 - 1])
keys = st.builds(lambda upper, lower: upper.to_bytes(8, "big") + lower.to_bytes(8, "big"), halves, halves)
held = st.dictionaries(keys, st.integers(-2, 2))
pages = st.lists(st.lists(st.tuples(keys, st.integers(-2, 2), st.booleans()), max_size=6), max_size=6)


def make_known(records: dict[bytes, int]) -> Known:
    upper, lower = split_keys(b"".join(records))
    return Known(upper.copy(), lower.copy(), np.array(list(records.values()), np.int64))


@given(held, pages)
def test_against_a_dictionary(known: dict[bytes, int], served: list[list[tuple[bytes, int, bool]]]) -> None:
    """Whatever is served in whatever order, every verdict is what a dictionary of everything would give."""
    comparer = Comparer(make_known(known))
    seen: dict[bytes, int | None] = {}  # the greatest value that was compared, if any was
    for page in served:
        compared = [(key, value) for key, value, only_marked in page if not only_marked]
        expected = []
        for key, value in compared:
            first = seen.get(key)
            if key not in seen:
                differs = RESTORED if known.get(key) == 0 else CHANGED  # 0 marks what was edited by hand
                expected.append(NEW if key not in known else UNCHANGED if known[key] == value else differs)
                seen[key] = value
            elif first is None or (key in known and value <= first):
                expected.append(REPEATED)
            else:
                expected.append(RIVAL)
                seen[key] = value
        kinds = comparer.compare(b"".join(key for key, _ in compared), np.array([v for _, v in compared], np.int64))
        assert kinds.tolist() == expected

        marked = [key for key, _, only_marked in page if only_marked]
        is_known, repeated = comparer.mark(b"".join(marked))
        before = set(seen)
        for number, key in enumerate(marked):
            assert (bool(is_known[number]), bool(repeated[number])) == (key in known, key in before)
            before.add(key)
            seen.setdefault(key, None)
    assert comparer.distinct == len(seen)
    unseen = b"".join(comparer.unseen(2))
    assert {unseen[start : start + KEY_BYTES] for start in range(0, len(unseen), KEY_BYTES)} == set(known) - seen.keys()
    assert comparer.unseen_count == len(set(known) - seen.keys()) == len(unseen) // KEY_BYTES


@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=2, max_size=2),
    st.one_of(st.none(), st.integers(-3, 3)),
)
def test_twins_settle(orders: list[list[int]], held: int | None) -> None:
    """A sourcedId served several times ends as its greatest version, in whatever order and night after night."""
    key = record_key("twin")
    for versions in (*orders, [*reversed(orders[1])]):
        known = make_known({} if held is None else {key: held})
        comparer = Comparer(known)
        staged = [
            value for value in versions
            if comparer.compare(key, np.array([value], np.int64))[0] in (NEW, CHANGED, RESTORED, RIVAL)
        ]  # fmt: skip
        held = max(staged, default=held)
        assert held == max(versions)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_hashes_are_the_rosters(texts: list[str]) -> None:
    """Keys and fingerprints made a page at a time are those of `homeroom.roster`."""
    encoded = [encode_record(Org(sourced_id=text, name=text, type="school")) for text in texts]
    assert keys_of(texts) == b"".join(map(record_key, texts))
    assert fingerprints_of(encoded).tolist() == list(map(fingerprint, encoded))
    assert join_keys(*split_keys(keys_of(texts))) == keys_of(texts)


@pytest.mark.parametrize("known", [True, False], ids=["all known", "all new"])
def test_memory(known: bool) -> None:
    """Of a record at most 32 bytes are held, whether the store knows it or not."""
    count, step = 400_000, 2_000
    random = np.random.default_rng(1)
    upper, lower = (random.integers(0, 2**64, count, np.uint64) for _ in range(2))
    tracemalloc.start()
    try:
        columns = (upper.copy(), lower.copy(), np.zeros(count, np.int64))
        comparer = Comparer(Known(*columns) if known else Known.nothing())
        del columns
        for start in range(0, count, step):
            part = slice(start, start + step)
            comparer.compare(join_keys(upper[part], lower[part]), np.zeros(step, np.int64))
        bytes_held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert comparer.distinct == count
    assert bytes_held <= 32 * count + 100_000
