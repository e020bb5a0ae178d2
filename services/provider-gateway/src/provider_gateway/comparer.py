"""What a provider serves, compared with what the store holds: new, changed, unchanged, and never seen.

Of a known record 25 bytes are held, of one that is not known 16: two numpy columns of its 128-bit key, its fingerprint,
and whether it was seen. A page is looked up at once, its keys sorted first, so that the search walks the columns in one
direction. Everything here is pure and waits for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

KEY_BYTES: Final = 16
NEW, CHANGED, UNCHANGED, REPEATED = range(4)
"""What a record is, compared; REPEATED means that its sourcedId came before in this fetch."""

UInts = NDArray[np.uint64]


def split_keys(keys: bytes) -> tuple[UInts, UInts]:
    """The upper and lower halves of 16-byte keys."""
    halves = np.frombuffer(keys, ">u8").astype(np.uint64).reshape(-1, 2)
    return halves[:, 0], halves[:, 1]


def join_keys(upper: UInts, lower: UInts) -> bytes:
    """The inverse of `split_keys`."""
    return np.column_stack((upper, lower)).astype(">u8").tobytes()


def _locate(upper: UInts, lower: UInts, wanted_upper: UInts, wanted_lower: UInts) -> NDArray[np.int64]:
    """Where each wanted key stands in columns sorted by their upper half; -1 if nowhere."""
    found = np.full(len(wanted_upper), -1, np.int64)
    if not len(upper):
        return found
    order = np.argsort(wanted_upper)
    at = np.searchsorted(upper, wanted_upper[order])
    inside = at < len(upper)
    at[~inside] = 0
    same_upper = inside & (upper[at] == wanted_upper[order])
    same = same_upper & (lower[at] == wanted_lower[order])
    found[order[same]] = at[same]
    for number in np.nonzero(same_upper & ~same)[0]:  # two keys with one upper half: once in a great many districts
        place, index = int(at[number]) + 1, order[number]
        while place < len(upper) and upper[place] == wanted_upper[index]:
            if lower[place] == wanted_lower[index]:
                found[index] = place
                break
            place += 1
    return found


class Known:
    """What the store holds of one collection; the columns are taken over, and sorted by key if they are not."""

    def __init__(self, upper: UInts, lower: UInts, fingerprints: NDArray[np.int64]) -> None:
        if len(upper) > 1 and not bool(np.all(upper[:-1] <= upper[1:])):
            order = np.argsort(upper)
            for column in (upper, lower, fingerprints):
                column[:] = column[order]  # one at a time and in place, so that there are never two copies of all
        self.upper = upper
        self.lower = lower
        self.fingerprints = fingerprints

    @classmethod
    def nothing(cls) -> Known:
        """Before the first apply."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.upper)


class _KeySet:
    """Keys that were met, exact, as a few sorted runs that are merged as they grow."""

    def __init__(self) -> None:
        self._runs: list[tuple[UInts, UInts]] = []

    def __len__(self) -> int:
        return sum(len(upper) for upper, _ in self._runs)

    def holds(self, upper: UInts, lower: UInts) -> NDArray[np.bool_]:
        """Which of these keys are in the set."""
        held = np.zeros(len(upper), np.bool_)
        for run_upper, run_lower in self._runs:
            held |= _locate(run_upper, run_lower, upper, lower) >= 0
        return held

    def add(self, upper: UInts, lower: UInts) -> None:
        """Add keys that are not in the set."""
        if not len(upper):
            return
        order = np.argsort(upper)
        run = upper[order], lower[order]
        while self._runs and len(self._runs[-1][0]) <= 2 * len(run[0]):
            run = _merge(self._runs.pop(), run)
        self._runs.append(run)


def _merge(one: tuple[UInts, UInts], other: tuple[UInts, UInts]) -> tuple[UInts, UInts]:
    upper = np.concatenate((one[0], other[0]))
    order = np.argsort(upper, kind="stable")
    lower = np.concatenate((one[1], other[1]))
    return upper[order], lower[order]


class Comparer:
    """Compares one collection of one fetch."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._seen = np.zeros(len(known), np.bool_)
        self._others = _KeySet()
        self._seen_known = 0

    @property
    def distinct(self) -> int:
        """How many different sourcedIds came, whatever became of their records."""
        return self._seen_known + len(self._others)

    @property
    def unseen_count(self) -> int:
        """How many known records did not come."""
        return len(self._known) - self._seen_known

    def compare(self, keys: bytes, fingerprints: NDArray[np.int64]) -> NDArray[np.int8]:
        """What each record is: NEW, CHANGED, UNCHANGED, or REPEATED if its sourcedId came before."""
        places, repeated = self._meet(keys)
        kinds = np.full(len(places), NEW, np.int8)
        met = places >= 0
        same = self._known.fingerprints[places[met]] == fingerprints[met]
        kinds[met] = np.where(same, UNCHANGED, CHANGED)
        kinds[repeated] = REPEATED
        return kinds

    def mark(self, keys: bytes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Take note of records that came but are not compared; which of them are known, which came before."""
        places, repeated = self._meet(keys)
        return places >= 0, repeated

    def unseen(self, at_once: int) -> Iterator[bytes]:
        """The keys of known records that did not come, some at a time."""
        places = np.nonzero(~self._seen)[0]
        for start in range(0, len(places), at_once):
            part = places[start : start + at_once]
            yield join_keys(self._known.upper[part], self._known.lower[part])

    def _meet(self, keys: bytes) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where each key stands among the known ones, and which came before, in this page or an earlier one."""
        upper, lower = split_keys(keys)
        places = _locate(self._known.upper, self._known.lower, upper, lower)
        repeated = np.zeros(len(places), np.bool_)
        met = places >= 0
        repeated[met] = self._seen[places[met]]
        other = np.nonzero(~met)[0]
        repeated[other] = self._others.holds(upper[other], lower[other])
        seen_here: set[bytes] = set()
        if len({keys[start : start + KEY_BYTES] for start in range(0, len(keys), KEY_BYTES)}) < len(places):
            for number in range(len(places)):
                key = keys[number * KEY_BYTES : (number + 1) * KEY_BYTES]
                repeated[number] |= key in seen_here
                seen_here.add(key)
        first = ~repeated
        self._seen[places[met & first]] = True
        self._seen_known += int(np.count_nonzero(met & first))
        other = np.nonzero(~met & first)[0]
        self._others.add(upper[other], lower[other])
        return places, repeated
