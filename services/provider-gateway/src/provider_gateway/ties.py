"""What the choice of some records means for those that are tied to them (pure; see `scope`).

Classes that are left out take their enrollments along, students without a current enrollment are left out where dates
are respected, and demographics follow their user. Only keys are kept, 16 bytes each.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from provider_gateway.comparer import KEY_BYTES, KeySet, split_keys
from provider_gateway.providers.contract import Page
from provider_gateway.scope import Scope

_FOLLOWED: Final = frozenset({"classes", "users"})


class Ties:
    """Follows the collections of one fetch, in the order of `scope.stages`."""

    def __init__(self, scope: Scope) -> None:
        self._respects_dates = scope.options.respect_enrollment_dates
        self._left_out = {collection: KeySet() for collection in _FOLLOWED}
        self._enrolled = KeySet()

    def leave_out(self, collection: str, keys: bytes) -> None:
        """Take note of records that are not wanted."""
        if collection in _FOLLOWED:
            _add(self._left_out[collection], keys)

    def judge(self, collection: str, page: Page) -> NDArray[np.bool_]:
        """Which of a page's records belong, by what they are tied to."""
        keep = np.ones(len(page.canonical), np.bool_)
        match collection:
            case "enrollments":
                pairs = np.frombuffer(page.ties, "V16").reshape(-1, 2)
                keep = ~_holds(self._left_out["classes"], pairs[:, 0].tobytes())
                if self._respects_dates:
                    _add(self._enrolled, pairs[keep, 1].tobytes())
            case "users":
                if self._respects_dates:
                    only_learns = np.frombuffer(page.ties, np.bool_)
                    keep = ~only_learns | _holds(self._enrolled, page.canonical.keys)
            case "demographics":
                keep = ~_holds(self._left_out["users"], page.canonical.keys)
        if not keep.all():
            self.leave_out(collection, np.frombuffer(page.canonical.keys, "V16")[~keep].tobytes())
        return keep


def _holds(keys: KeySet, wanted: bytes) -> NDArray[np.bool_]:
    upper, lower = split_keys(wanted)
    order = np.argsort(upper)
    held = np.empty(len(upper), np.bool_)
    held[order] = keys.holds(upper[order], lower[order])
    return held


def _add(keys: KeySet, added: bytes) -> None:
    """Add keys of which some may be there, or come twice."""
    unique = b"".join({added[start : start + KEY_BYTES] for start in range(0, len(added), KEY_BYTES)})
    upper, lower = split_keys(unique)
    order = np.argsort(upper)
    upper, lower = upper[order], lower[order]
    new = ~keys.holds(upper, lower)
    keys.add(upper[new], lower[new])
