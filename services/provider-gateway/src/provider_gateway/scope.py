"""What of a district an integration wants (pure): which collections, which records, and what of them."""

from __future__ import annotations

import msgspec

from homeroom.messages import Options
from homeroom.roster import COLLECTIONS, Record, User

_GUARDIANS = frozenset({"guardian", "parent", "relative"})
_OF_CLASSES = frozenset({"courses", "classes", "enrollments"})


def wanted_collections(options: Options) -> tuple[str, ...]:
    """The collections to fetch; whatever is known of the others leaves by configuration."""
    return tuple(
        collection
        for collection in COLLECTIONS
        if (options.sync_demographics or collection != "demographics")
        and (options.sync_classes or collection not in _OF_CLASSES)
    )


def select(collection: str, records: list[Record], options: Options) -> tuple[list[Record], list[str]]:
    """The records that belong, as far as they belong, and the sourcedIds of those that don't."""
    if collection != "users" or options.sync_parents:
        return records, []
    chosen: list[Record] = []
    left_out: list[str] = []
    for user in records:
        assert isinstance(user, User)  # noqa: S101 - the collection says so
        if user.roles[0].role in _GUARDIANS and all(role.role in _GUARDIANS for role in user.roles):
            left_out.append(user.sourced_id)
        elif user.agent_sourced_ids:
            chosen.append(msgspec.structs.replace(user, agent_sourced_ids=()))
        else:
            chosen.append(user)
    return chosen, left_out
