"""What a provider serves, compared with what the store holds: new, changed, unchanged, and never seen.

Of a known record 29 bytes are held, of one that is not known 16. A sourcedId that comes twice with different content is
won by the version with the greatest fingerprint, in whatever order they come, so that it never flips to and fro: each
greater version is staged, and the store takes the greatest. Providers mostly serve in the order the store got the
records in, so a page is first laid beside the next stretch of that order; only what does not fit is searched for.
Everything here is pure and waits for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

KEY_BYTES: Final = 16
NEW, CHANGED, RESTORED, UNCHANGED, REPEATED, RIVAL = range(6)
"""What a record is, compared. RESTORED: it was edited by hand, and is the provider's again (C9). REPEATED: its
sourcedId came before in this fetch. RIVAL: it did, with other content that this one may have to replace."""
KINDS: Final = 6
EDITED: Final = 0
"""The fingerprint of a record that was edited by hand: whatever the provider has is another."""
_UNSEEN, _COMPARED, _MARKED = range(3)

_MERGE_RATIO: Final = 8

UInts = NDArray[np.uint64]


def split_keys(keys: bytes) -> tuple[UInts, UInts]:
    """The upper and lower halves of 16-byte keys."""
    halves = np.frombuffer(keys, ">u8").astype(np.uint64).reshape(-1, 2)
    return halves[:, 0], halves[:, 1]


def join_keys(upper: UInts, lower: UInts) -> bytes:
    """The inverse of `split_keys`."""
    return np.column_stack((upper, lower)).astype(">u8").tobytes()


def _search(upper: UInts, lower: UInts, wanted_upper: UInts, wanted_lower: UInts) -> NDArray[np.int64]:
    """Where each wanted key stands in columns sorted by their upper half; -1 if nowhere.

    Wanted keys that are sorted, too, are found faster: they walk the columns in one direction, which caches like.
    """
    found = np.full(len(wanted_upper), -1, np.int64)
    if not len(upper):
        return found
    at = np.searchsorted(upper, wanted_upper)
    inside = at < len(upper)
    at[~inside] = 0
    same_upper = inside & (upper[at] == wanted_upper)
    same = same_upper & (lower[at] == wanted_lower)
    found[same] = at[same]
    for index in np.nonzero(same_upper & ~same)[0]:  # two keys with one upper half: once in a great many districts
        place = int(at[index]) + 1
        while place < len(upper) and upper[place] == wanted_upper[index]:
            if lower[place] == wanted_lower[index]:
                found[index] = place
                break
            place += 1
    return found


class Known:
    """What the store holds of one collection; the columns are taken over and sorted by key.

    `sequence` is the order they came in: places in the sorted columns.
    """

    def __init__(self, upper: UInts, lower: UInts, fingerprints: NDArray[np.int64]) -> None:
        order = np.argsort(upper)
        for column in (upper, lower, fingerprints):
            column[:] = column[order]  # one at a time and in place, so that there are never two copies of all
        self.sequence = np.empty(len(upper), np.int32)
        self.sequence[order] = np.arange(len(upper), dtype=np.int32)
        self.upper = upper
        self.lower = lower
        self.fingerprints = fingerprints

    @classmethod
    def nothing(cls) -> Known:
        """Before the first apply."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.upper)

    @property
    def holds_edited(self) -> bool:
        """Whether records were edited by hand since the provider's were last taken (C9)."""
        return bool((self.fingerprints == EDITED).any())


class _Follower:
    """Finds keys among the known ones, expecting them in the order the store got them in."""

    _FIRST_WINDOW = 4
    _SLACK = 64

    def __init__(self, known: Known) -> None:
        self._known = known
        self._next = 0
        self._window = self._FIRST_WINDOW

    def locate(self, upper: UInts, lower: UInts) -> NDArray[np.int64]:
        """Where each key stands in the sorted columns; -1 if nowhere."""
        known = self._known
        places = np.empty(len(upper), np.int64)
        done = 0
        while done < len(upper):
            ahead = known.sequence[self._next : self._next + len(upper) - done]
            part = slice(done, done + len(ahead))
            fits = (known.upper[ahead] == upper[part]) & (known.lower[ahead] == lower[part])
            count = len(fits) if fits.all() else int(np.argmin(fits))
            places[done : done + count] = ahead[:count]
            done += count
            self._next += count
            if done < len(upper):
                # Where nothing fits, ever more is searched for at once, so that another order costs a search a page.
                self._window = self._FIRST_WINDOW if count > self._window else self._window * 2
                part = slice(done, done + self._window)
                order = np.argsort(upper[part])
                found = np.empty(len(order), np.int64)
                found[order] = _search(known.upper, known.lower, upper[part][order], lower[part][order])
                places[part] = found
                self._resume(found)
                done += len(found)
        return places

    def _resume(self, found: NDArray[np.int64]) -> None:
        """Go on behind the last record found, if it is near."""
        if not len(found) or found[-1] < 0:
            return
        near = self._known.sequence[self._next : self._next + len(found) + self._SLACK]
        at = np.nonzero(near == found[-1])[0]
        if len(at):
            self._next += int(at[0]) + 1


class KeySet:
    """Keys that were met, exact, as a few sorted runs that are merged as they grow."""

    def __init__(self) -> None:
        self._runs: list[tuple[UInts, UInts]] = []

    def __len__(self) -> int:
        return sum(len(upper) for upper, _ in self._runs)

    def holds(self, upper: UInts, lower: UInts) -> NDArray[np.bool_]:
        """Which of these keys, sorted by their upper half, are in the set."""
        held = np.zeros(len(upper), np.bool_)
        for run_upper, run_lower in self._runs:
            held |= _search(run_upper, run_lower, upper, lower) >= 0
        return held

    def add(self, upper: UInts, lower: UInts) -> None:
        """Add keys that are not in the set, sorted by their upper half."""
        if not len(upper):
            return
        run = upper, lower
        while self._runs and len(self._runs[-1][0]) <= _MERGE_RATIO * len(run[0]):
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
        self._seen = np.zeros(len(known), np.int8)
        self._follower = _Follower(known)
        self._new = KeySet()
        self._marked = KeySet()
        self._seen_known = 0

    @property
    def distinct(self) -> int:
        """How many different sourcedIds came, whatever became of their records."""
        return self._seen_known + len(self._new) + len(self._marked)

    @property
    def unseen_count(self) -> int:
        """How many known records did not come."""
        return len(self._known) - self._seen_known

    def compare(self, keys: bytes, fingerprints: NDArray[np.int64]) -> NDArray[np.int8]:
        """What each record is: NEW, CHANGED, RESTORED, UNCHANGED; REPEATED or RIVAL if its sourcedId came before."""
        places, repeated, rivals = self._meet(keys, _COMPARED)
        held = self._known.fingerprints
        kinds = np.full(len(places), NEW, np.int8)
        met = (places >= 0) & ~repeated
        before = held[places[met]]
        kinds[met] = np.where(before == fingerprints[met], UNCHANGED, np.where(before == EDITED, RESTORED, CHANGED))
        held[places[met]] = fingerprints[met]  # from now on what came first, for those that come again
        kinds[repeated] = REPEATED
        for number in np.nonzero(rivals)[0].tolist():
            place = places[number]
            if place < 0:
                kinds[number] = RIVAL
            elif fingerprints[number] > held[place]:
                kinds[number] = RIVAL
                held[place] = fingerprints[number]
        return kinds

    def mark(self, keys: bytes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Take note of records that came but are not compared; which of them are known, which came before."""
        places, repeated, _ = self._meet(keys, _MARKED)
        return places >= 0, repeated

    def unseen(self, at_once: int) -> Iterator[bytes]:
        """The keys of known records that did not come, some at a time."""
        places = np.nonzero(self._seen == _UNSEEN)[0]
        for start in range(0, len(places), at_once):
            part = places[start : start + at_once]
            yield join_keys(self._known.upper[part], self._known.lower[part])

    def _meet(self, keys: bytes, how: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Where each key stands among the known ones, which came before, and which of those were compared then."""
        upper, lower = split_keys(keys)
        places = self._follower.locate(upper, lower)
        met = places >= 0
        repeated = np.zeros(len(places), np.bool_)
        rivals = np.zeros(len(places), np.bool_)
        before = self._seen[places[met]]
        repeated[met] = before != _UNSEEN
        rivals[met] = before == _COMPARED
        other = np.nonzero(~met)[0]
        if len(other):
            other = other[np.argsort(upper[other])]
            rivals[other] = self._new.holds(upper[other], lower[other])
            repeated[other] = rivals[other] | self._marked.holds(upper[other], lower[other])
        if _may_repeat(upper):
            seen_here: set[bytes] = set()
            for number in range(len(places)):
                key = keys[number * KEY_BYTES : (number + 1) * KEY_BYTES]
                if key in seen_here and not repeated[number]:
                    repeated[number] = True
                    rivals[number] = how == _COMPARED
                seen_here.add(key)
        seen = places[met & ~repeated]
        self._seen[seen] = how
        self._seen_known += len(seen)
        other = other[~repeated[other]]
        (self._new if how == _COMPARED else self._marked).add(upper[other], lower[other])
        return places, repeated, rivals


def _may_repeat(upper: UInts) -> bool:
    """Whether two of a page's keys may be the same."""
    ordered = np.sort(upper)
    return bool((ordered[1:] == ordered[:-1]).any())
