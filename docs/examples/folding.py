"""What a product holds of the rosters it is licensed for: events folded into records.

Whatever way events come (pull, webhook, Kafka), the rules are the same. They may come twice, so everything here may be
done twice.
"""

# ruff: noqa: INP001 - an example beside the scripts that use it, not part of a package
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LICENSE_EVENTS = ("homeroom.license.started.v1", "homeroom.license.ended.v1")
PUT, TAKE_OUT = ("added", "updated", "activated"), "removed"


@dataclass
class Roster:
    """Records by source ("/integrations/{id}") and subject ("users/{sourcedId}"), each with its version."""

    records: dict[str, dict[str, tuple[int, Any]]] = field(default_factory=dict)

    def fold(self, kind: str, source: str, subject: str, data: Mapping[str, Any]) -> None:
        """Take one event into account."""
        if kind in LICENSE_EVENTS:
            self.records.pop(source, None)  # what is licensed comes anew, or nothing is licensed any more
            return
        _, _, change, *_ = [*kind.split("."), "", ""]
        if change not in (*PUT, TAKE_OUT) or "version" not in data:
            return  # a kind that is of no interest here, or that did not exist when this was written
        held = self.records.setdefault(source, {})
        version = int(data["version"])
        if subject in held and held[subject][0] > version:
            return  # older than what is known
        # What is gone is remembered with its version, so that an older event does not bring it back.
        held[subject] = (version, None if change == TAKE_OUT else data["record"])

    def list_present(self) -> dict[str, dict[str, Any]]:
        """What is there now: {source: {subject: record}}."""
        return {
            source: {subject: record for subject, (_, record) in held.items() if record is not None}
            for source, held in self.records.items()
        }
