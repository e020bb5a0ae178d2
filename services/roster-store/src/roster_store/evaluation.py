"""Evaluations (C11): what a picture comes to, found out and kept without changing anything.

The same report is made for what is held, so that whoever decides sees what they decide about. Only these two pay for
it: it reads everything the integration holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import msgspec

from homeroom.db import Connection
from homeroom.messages import CollectionReport, HoldReason, RecordIssue, Terms
from roster_store.collisions import find_collisions
from roster_store.picture import PICTURE_SECONDS, Picture
from roster_store.plan import Plan
from roster_store.plan_changes import changes_name, keep_changes
from roster_store.plans import MOST_SCHOOLS, CollectionPlanned, Reason, Report, School, SchoolPlanned, Takeover
from roster_store.prospect import open_prospect
from roster_store.sanity import examine
from roster_store.school_counts import SchoolCounts, count_by_school
from roster_store.tables import SQL
from roster_store.takeover import TAKEN


async def keep_report(
    connection: Connection,
    plan: Plan,
    *,
    run_id: str,
    plan_hash: str,
    terms: Terms,
    collections: Mapping[str, CollectionReport],
    reasons: Sequence[HoldReason] = (),
    issues: Sequence[RecordIssue] = (),
) -> Report:
    """Find out what a settled plan comes to, and keep that with every single change.

    To be called before anything of the plan is applied. `collections` are the counts as they are told in the fact.
    """
    picture = plan.picture
    removes = not terms.additions_only
    integration = await connection.fetchrow(SQL["describe_integration"], picture.integration_no)
    assert integration is not None  # noqa: S101 - the plan is of an integration that is locked
    counts = await count_by_school(connection, picture)
    async with open_prospect(connection, picture, removes=removes):
        await keep_changes(connection, plan, removes=removes, held=bool(reasons) and terms.purpose != "evaluation")
        counted = await _count_collections(connection, picture, collections)
        schools, schools_changed = await _list_schools(connection, counts, removes=removes)
        report = Report(
            purpose=terms.purpose,
            configuration=sum(part.by_configuration for part in counted.values()),
            collections=counted,
            schools=schools,
            schools_changed=schools_changed,
            collisions=await find_collisions(connection, picture, integration),
            takeover=await _count_takeover(connection, picture, terms.takes_over),
            reasons=[Reason(**msgspec.structs.asdict(reason)) for reason in reasons],
            sanity=await examine(connection, issues, *_count_dangling(plan, collections)),
        )
    await connection.execute(
        SQL["keep_report"],
        picture.fetch_no,
        picture.integration_no,
        run_id,
        plan_hash,
        report.model_dump(mode="json"),
    )
    return report


async def _count_collections(
    connection: Connection, picture: Picture, collections: Mapping[str, CollectionReport]
) -> dict[str, CollectionPlanned]:
    changes = changes_name(picture.fetch_no)
    removals: dict[str, dict[str, int]] = {}
    for row in await connection.fetch(SQL["count_removal_reasons"].format(changes=changes), timeout=PICTURE_SECONDS):
        removals.setdefault(row["collection"], {})[row["reason"]] = row["count"]
    fields: dict[str, dict[str, int]] = {}
    for row in await connection.fetch(SQL["count_changed_fields"].format(changes=changes), timeout=PICTURE_SECONDS):
        fields.setdefault(row["collection"], {})[row["field"]] = row["count"]
    return {
        collection: CollectionPlanned(
            served=report.served,
            added=report.added,
            changed=report.changed,
            removed=report.removed,
            by_configuration=removals.get(collection, {}).get("configuration", 0),
            unchanged=report.unchanged,
            filtered=report.filtered,
            quarantined=report.quarantined,
            unconfirmed=report.unconfirmed,
            held=report.held,
            removal_reasons=removals.get(collection, {}),
            changed_fields=fields.get(collection, {}),
        )
        for collection, report in collections.items()
    }


async def _list_schools(
    connection: Connection, counts: Mapping[str, Mapping[str, SchoolCounts]], *, removes: bool
) -> tuple[list[School], int]:
    """The schools that would change the most, with their names, and how many would change at all."""
    if not removes:
        counts = {school: {name: _stay(part) for name, part in parts.items()} for school, parts in counts.items()}
    changes = {school: sum(map(_weigh, parts.values())) for school, parts in counts.items()}
    changed = sorted((school for school in changes if changes[school]), key=lambda one: (-changes[one], one))
    shown = changed[:MOST_SCHOOLS]
    names = {row["sourced_id"]: row["name"] for row in await connection.fetch(SQL["name_schools"], shown)}
    schools = [
        School(
            sourced_id=school,
            name=names.get(school),
            collections={
                collection: SchoolPlanned(
                    held=part.held,
                    added=part.added,
                    changed=part.changed,
                    removed=part.removed,
                    by_configuration=part.configured,
                )
                for collection, part in counts[school].items()
            },
        )
        for school in shown
    ]
    return schools, len(changed)


def _stay(counts: SchoolCounts) -> SchoolCounts:
    return replace(counts, removed=0, configured=0, following=0)


def _weigh(counts: SchoolCounts) -> int:
    return counts.added + counts.changed + counts.removed


async def _count_takeover(connection: Connection, picture: Picture, takes_over: str | None) -> Takeover | None:
    if takes_over is None or TAKEN not in picture.staged:
        return None
    rows = await connection.fetch(SQL["count_taken"].format(taken=picture.name(TAKEN)))
    return Takeover(integration_id=UUID(takes_over), records={row["collection"]: row["count"] for row in rows})


def _count_dangling(plan: Plan, collections: Mapping[str, CollectionReport]) -> tuple[int, int]:
    """The enrollments that lead nowhere, and all that were served."""
    part, report = plan.collections.get("enrollments"), collections.get("enrollments")
    return (part.quarantined, report.served) if part and report else (0, 0)
