"""Finds out what the guard judges by; on an ordinary night next to nothing.

What is held is counted only as far as a limit needs it: ten removals can be no tenth of a collection of which a hundred
and one records were seen. What goes is read by its keys, and a school as a whole only where it loses more than a few.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

from homeroom.db import Connection
from homeroom.messages import CollectionReport, GuardLimits, Terms
from roster_store.guard import HANDFUL, PEOPLE, GuardFacts, Scope, find_emptied, suspects_rekeying
from roster_store.picture import GONE, PICTURE_SECONDS, Picture, allow_nested_loops, forbid_nested_loops
from roster_store.plan import Plan
from roster_store.school_counts import count_by_school
from roster_store.tables import TABLES

_SCHOOLED = ("courses", "classes", PEOPLE, "enrollments")
_THEIRS = ("enrollments", "demographics")
"""What people take along when they go."""
_MANY = 50_000
"""More removals are read with the whole district in one pass, not one by one."""


@dataclass(frozen=True, slots=True)
class _Leaving:
    """What of a collection goes from one school."""

    own: int
    following: int
    """What goes along with people."""
    configured: int
    """Of what goes along, by the integration's options."""


_Leavings = Mapping[str, Mapping[str | None, _Leaving]]
"""Collection → school → what goes; only collections it may matter for."""


async def gather_facts(
    connection: Connection, plan: Plan, reports: Mapping[str, CollectionReport], terms: Terms, *, first: bool
) -> GuardFacts:
    """Gather what `guard.judge` needs of a settled plan; `first` says that nothing was ever applied."""
    limits, picture = terms.guard, plan.picture
    many = sum(part.removed for part in plan.collections.values()) > _MANY
    if many:
        await forbid_nested_loops(connection)
    refresh = terms.purpose == "refresh"
    leaving = {} if refresh else await _list_leaving(connection, plan, limits)
    scopes = await _list_scopes(connection, plan, reports, leaving)
    facts = GuardFacts(purpose=terms.purpose, first=first, approve_first=terms.approve_first)
    facts = replace(facts, additions_only=terms.additions_only)
    if refresh:
        # One class was read, not a district: what it had is what came and what would go.
        classes = {name: replace(scope, held=scope.served + scope.removed) for name, scope in scopes.items()}
        return replace(facts, collections=classes)
    scopes = await _count_held(connection, picture, scopes, limits)
    schools = await _list_schools(connection, picture, leaving, limits)
    twins = await _count_twins(connection, picture, scopes, schools, limits)
    if many:
        await allow_nested_loops(connection, picture)
    return replace(facts, collections=scopes, schools=schools, twins=twins)


async def count_configured(connection: Connection, picture: Picture) -> dict[str, int]:
    """How many go because of the integration's options, by collection."""
    if GONE not in picture.staged:
        return {}
    return {row["collection"]: row["count"] for row in await connection.fetch(picture.sql("count_configured"))}


async def _list_leaving(connection: Connection, plan: Plan, limits: GuardLimits) -> _Leavings:
    """What goes from each school, of the collections of which more than a few do."""
    parts, picture = plan.collections, plan.picture
    people_go = PEOPLE in parts and parts[PEOPLE].removed
    leaving: dict[str, dict[str | None, _Leaving]] = {}
    for collection, part in parts.items():
        matters = collection in _SCHOOLED and part.removed > limits.school_remove_least
        if not matters and not (people_go and collection in _THEIRS and part.removed):
            continue
        rows = await connection.fetch(
            picture.sql(f"count_leaving_{collection}"), picture.integration_no, timeout=PICTURE_SECONDS
        )
        leaving[collection] = {row["school"]: _Leaving(row["own"], row["following"], row["configured"]) for row in rows}
    return leaving


# ── collections ───────────────────────────────────────────────────────────────────────────────────────────────────


async def _list_scopes(
    connection: Connection, plan: Plan, reports: Mapping[str, CollectionReport], leaving: _Leavings
) -> dict[str, Scope]:
    """The collections, without what is held of them."""
    emptied = find_emptied(plan.collections)
    configured = await count_configured(connection, plan.picture)
    scopes = {}
    for collection, part in plan.collections.items():
        report = reports.get(collection, CollectionReport())
        along = leaving.get(collection, {}).values()
        scopes[collection] = Scope(
            added=part.added,
            changed=part.changed,
            taken=part.taken,
            removed=part.removed - sum(one.following for one in along),
            configured=configured.get(collection, 0) - sum(one.configured for one in along),
            going=part.removed,
            served=report.served,
            quarantined=report.quarantined + part.quarantined,
            spared=part.unconfirmed,
            emptied=collection in emptied,
        )
    return scopes


async def _count_held(
    connection: Connection, picture: Picture, scopes: Mapping[str, Scope], limits: GuardLimits
) -> dict[str, Scope]:
    """What is held, or a number great enough to be sure that no limit is passed; people first, for enrollments."""
    counted = dict(scopes)
    for collection in sorted(scopes, key=lambda name: name != PEOPLE):
        scope = scopes[collection]
        if not picture.first:
            people = counted.get(PEOPLE, Scope()).held
            enough = _find_enough(collection, scope, scopes.get("enrollments", Scope()), people, limits)
            counted[collection] = replace(scope, held=await _count_up_to(connection, picture, collection, enough))
    return {collection: counted[collection] for collection in scopes}


def _find_enough(collection: str, scope: Scope, enrollments: Scope, people: int, limits: GuardLimits) -> int | None:
    """From how many records on it does not matter how many are held; None where every one matters."""
    shares = (limits.remove_share, limits.rekey_share) if collection == PEOPLE else (limits.remove_share,)
    share = min(shares)
    if not (share and limits.change_share and limits.remove_most):
        return None
    missing = scope.removed + scope.spared
    enough = max(limits.small, ceil(missing / share), ceil(scope.changed / limits.change_share))
    if collection == "enrollments":
        enough = max(enough, ceil(scope.removed * people / limits.remove_most))
    elif scope.removed > limits.remove_most or (collection == PEOPLE and enrollments.removed > limits.remove_most):
        return None
    return enough + 1


async def _count_up_to(connection: Connection, picture: Picture, collection: str, enough: int | None) -> int:
    found: int = await connection.fetchval(
        TABLES[collection].sql("count_held"), picture.integration_no, enough, timeout=PICTURE_SECONDS
    )
    return found


# ── schools ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def _list_schools(
    connection: Connection, picture: Picture, leaving: _Leavings, limits: GuardLimits
) -> dict[str, dict[str, Scope]]:
    """The schools that lose more than a few of a collection, with what they hold of it."""
    losing: dict[str, dict[str, int]] = defaultdict(dict)
    for collection, places in leaving.items():
        for school, one in places.items():
            if school is not None and one.own > limits.school_remove_least:
                losing[collection][school] = one.own
    schools: dict[str, dict[str, Scope]] = defaultdict(dict)
    if going := losing.pop("enrollments", None):
        rows = await connection.fetch(
            picture.sql("count_enrollments_of_schools"), picture.integration_no, list(going), timeout=PICTURE_SECONDS
        )
        for row in rows:
            schools[row["school"]]["enrollments"] = Scope(held=row["held"], removed=going[row["school"]])
    if losing:
        counts = await count_by_school(connection, picture, losing.keys())
        for collection, leavers in losing.items():
            for school, own in leavers.items():
                found = counts[school][collection]
                schools[school][collection] = Scope(
                    held=found.held,
                    added=found.added,
                    changed=found.changed,
                    removed=own,
                    configured=found.configured,
                )
    return schools


async def _count_twins(
    connection: Connection,
    picture: Picture,
    scopes: Mapping[str, Scope],
    schools: Mapping[str, Mapping[str, Scope]],
    limits: GuardLimits,
) -> dict[str | None, int]:
    """How many of the people who go come again, where so many go and come that they may."""
    suspected = suspects_rekeying(scopes.get(PEOPLE, Scope()), limits.rekey_share, HANDFUL) or any(
        suspects_rekeying(one.get(PEOPLE, Scope()), limits.school_remove_share, limits.school_remove_least)
        for one in schools.values()
    )
    if not suspected:
        return {}
    await forbid_nested_loops(connection)
    rows = await connection.fetch(picture.sql("count_twins"), picture.integration_no, timeout=PICTURE_SECONDS)
    await allow_nested_loops(connection, picture)
    return {row["school"]: row["count"] for row in rows}
