"""What a fetch has seen so far, in numbers: read while it runs, reported when it has ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from homeroom.messages import CollectionReport, RecordIssue
from provider_gateway.providers.contract import Seen

_MOST_KEPT_ISSUES = 1_000


@dataclass(slots=True)
class Counts:
    """What was seen of one collection so far; becomes its `CollectionReport`."""

    whole: bool = True
    wanted: bool = True
    served: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    filtered: int = 0
    quarantined: int = 0
    removed: int = 0
    unconfirmed: int = 0
    stated: int | None = None
    consistent: bool = False
    pages: int = 0
    expected: int | None = None
    """How many rows the provider says there are to come."""
    ended: bool = False
    """Whether its last page was read."""
    known: int = 0

    def seen(self) -> Seen:
        """For the source, once everything was read."""
        return Seen(self.known, self.added, self.changed, self.removed, self.filtered + self.quarantined)

    def report(self) -> CollectionReport:
        """For messages."""
        values = {name: getattr(self, name) for name in CollectionReport.__struct_fields__ if hasattr(self, name)}
        return CollectionReport(**values)


@dataclass(slots=True)
class Tally:
    """The whole fetch in numbers, and the issues that are told; read while it runs."""

    collections: dict[str, Counts] = field(default_factory=dict)
    issues: list[RecordIssue] = field(default_factory=list)
    duplicates: bool = False
    """Whether two versions of a record were published."""
    drifted: int = 0
    """Records that differ although they say that they were not modified since the bookmark."""
    masked: frozenset[str] | None = None
    """Fields of users that are alike for everybody."""
    masked_values: Counter[str] = field(default_factory=Counter)

    @property
    def pages(self) -> int:
        """Pages read so far."""
        return sum(counts.pages for counts in self.collections.values())

    def served(self) -> dict[str, int]:
        """Records read so far, by collection."""
        return {collection: counts.served for collection, counts in self.collections.items()}

    def stated(self) -> dict[str, int]:
        """How many records there are, by collection, where the provider said so."""
        return {name: counts.expected for name, counts in self.collections.items() if counts.expected is not None}

    def reading(self) -> tuple[str, ...]:
        """The collections that are being read."""
        return tuple(name for name, counts in self.collections.items() if counts.pages and not counts.ended)

    def reports(self) -> dict[str, CollectionReport]:
        """What every collection came to."""
        return {collection: counts.report() for collection, counts in self.collections.items()}

    def note(self, issue: RecordIssue) -> None:
        """Keep an issue, if there is room."""
        if len(self.issues) < _MOST_KEPT_ISSUES:
            self.issues.append(issue)
