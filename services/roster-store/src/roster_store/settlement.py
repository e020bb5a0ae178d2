"""Settles what of a plan is applied: incomplete schools are left as they are, dangling enrollments kept back.

Schools come first, with the enrollments that dangle as one of their signs; as leaving a school out may leave others'
enrollments pointing nowhere, references are looked at once more after that. What remains can be applied whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from homeroom.db import Connection
from homeroom.messages import CollectionReport, FetchCompleted, RecordIssue
from roster_store.plan import Plan
from roster_store.protection import NOTHING_NEW, Protected, SchoolMemory, protect_schools
from roster_store.references import (
    find_dangling,
    find_dangling_again,
    name_kept,
    name_reused_ids,
    quarantine_dangling,
    release_enrollments,
)
from roster_store.takeover import settle_takeover

MOST_SCHOOLS = 2_000
"""Incomplete schools that are named; more would not fit into a message."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What is applied, and what is to be said about the rest."""

    plan: Plan
    schools: Sequence[RecordIssue]
    """One for each school that is left as it was; to be told first, so that nothing cuts them off."""
    others: Sequence[RecordIssue]
    waiting: bool
    """Whether records wait for others to come or to go, so that changes alone might never bring them again."""
    memory: SchoolMemory = NOTHING_NEW
    """What is to be kept of which schools are incomplete, if the plan is applied."""


async def settle(connection: Connection, completed: FetchCompleted, plan: Plan, *, schools: bool = True) -> Settled:
    """Take out of a plan what can't be applied as it is; costs next to nothing where nothing was staged.

    Schools are not judged where the whole picture is not believed: a person decides about all of it.
    """
    reports = completed.collections
    dangling = await find_dangling(connection, plan.picture, reports)
    protected = await protect_schools(connection, plan, completed, dangling) if schools else Protected(plan)
    if protected.incomplete:
        dangling = await find_dangling_again(connection, plan.picture, reports)
    settled = await _settle_references(connection, protected.plan, dangling)
    reused = await name_reused_ids(connection, plan.picture)
    kept = await name_kept(connection, settled.plan)
    plan, taken = await settle_takeover(connection, settled.plan)
    return Settled(
        plan,
        schools=protected.issues[:MOST_SCHOOLS],
        others=[*taken, *kept, *protected.notes, *settled.others, *reused],
        waiting=settled.waiting or bool(kept),
        memory=protected.memory,
    )


async def settle_again(connection: Connection, plan: Plan, reports: Mapping[str, CollectionReport]) -> Settled:
    """Settle references once more before a plan is applied that waited: the roster may have gone on meanwhile."""
    dangling = await find_dangling(connection, plan.picture, reports)
    settled = await _settle_references(connection, plan, dangling)
    plan, _ = await settle_takeover(connection, settled.plan)
    return replace(settled, plan=plan)


async def _settle_references(connection: Connection, plan: Plan, dangling: int) -> Settled:
    issues: list[RecordIssue] = []
    if dangling:
        plan, issues = await quarantine_dangling(connection, plan)
    released = await release_enrollments(connection, plan)
    return Settled(released, schools=(), others=issues, waiting=bool(dangling) or released is not plan)


def merge_counts(completed: FetchCompleted, plan: Plan) -> dict[str, CollectionReport]:
    """The gateway's counts, with added, changed and removed as the store really plans them.

    What the gateway took for a change and the store does not (a record made by hand keeps its value, C9; a school is
    left as it was) counts as filtered, so that the sum stays what was served (I9).
    """
    reports = {}
    for collection, part in plan.collections.items():
        report = completed.collections.get(collection) or CollectionReport(whole=False)
        untouched = report.added + report.changed - part.added - part.changed - part.taken - part.quarantined
        reports[collection] = msgspec.structs.replace(
            report,
            added=part.added,
            changed=part.changed + part.taken,
            removed=part.removed,
            held=part.held,
            filtered=report.filtered + untouched,
            quarantined=report.quarantined + part.quarantined,
            unconfirmed=report.unconfirmed - part.missed + part.unconfirmed,
        )
    return reports
