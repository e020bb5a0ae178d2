"""The faults in force."""

from collections import Counter
from collections.abc import Iterator

from sandbox_district.faults.fault import Fault


class Faults:
    """The faults that are in force, and how often each has been met and has struck."""

    def __init__(self, *faults: Fault) -> None:
        self.replace(*faults)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)

    def replace(self, *faults: Fault) -> None:
        """Put these in force instead of all others, counting anew."""
        self._faults = faults
        self._met: Counter[int] = Counter()
        self._struck: Counter[int] = Counter()

    def strike(self, path: str, *, single: bool = False) -> list[Fault]:
        """Count a request; return the faults that strike it, in the order they were given."""
        striking = []
        for number, fault in enumerate(self._faults):
            if not fault.covers(path, single=single):
                continue
            self._met[number] += 1
            due = self._met[number] > fault.after and (self._met[number] - fault.after) % fault.every == 0
            if due and (fault.times is None or self._struck[number] < fault.times):
                self._struck[number] += 1
                striking.append(fault)
        return striking
