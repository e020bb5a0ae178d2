"""Settles what of a plan is applied: incomplete schools are left as they are, dangling enrollments kept back.

Schools come first, with the enrollments that dangle as one of their signs; as leaving a school out may leave others'
enrollments pointing nowhere, references are looked at once more after that. What remains can be applied whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from homeroom.db import Connection
from homeroom.messages import CollectionReport, FetchCompleted, RecordIssue
from roster_store.plan import Plan
from roster_store.protection import protect_schools
from roster_store.references import (
    find_dangling,
    find_dangling_again,
    name_reused_ids,
    quarantine_dangling,
    release_enrollments,
)

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
    """Whether enrollments wait for what they point to, which changes alone might never bring again."""


async def settle(connection: Connection, completed: FetchCompleted, plan: Plan) -> Settled:
    """Take out of a plan what can't be applied as it is; costs next to nothing where nothing was staged."""
    reports = completed.collections
    dangling = await find_dangling(connection, plan.picture, reports)
    protected = await protect_schools(connection, plan, completed, dangling)
    plan, issues = protected.plan, [*protected.notes]
    if protected.incomplete:
        dangling = await find_dangling_again(connection, plan.picture, reports)
    if dangling:
        plan, named = await quarantine_dangling(connection, plan)
        issues += named
    held_back = plan
    plan = await release_enrollments(connection, plan)
    issues += await name_reused_ids(connection, plan.picture)
    return Settled(plan, protected.issues[:MOST_SCHOOLS], issues, bool(dangling) or plan is not held_back)


def merge_counts(completed: FetchCompleted, plan: Plan) -> dict[str, CollectionReport]:
    """The gateway's counts, with added, changed and removed as the store really plans them.

    What the gateway took for a change and the store does not (a record made by hand keeps its value, C9; a school is
    left as it was) counts as filtered, so that the sum stays what was served (I9).
    """
    reports = {}
    for collection, part in plan.collections.items():
        report = completed.collections.get(collection) or CollectionReport(whole=False)
        untouched = report.added + report.changed - part.added - part.changed - part.quarantined
        reports[collection] = msgspec.structs.replace(
            report,
            added=part.added,
            changed=part.changed,
            removed=part.removed,
            filtered=report.filtered + untouched,
            quarantined=report.quarantined + part.quarantined,
            unconfirmed=report.unconfirmed + part.unconfirmed,
        )
    return reports
