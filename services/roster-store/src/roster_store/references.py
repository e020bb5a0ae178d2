"""References: no enrollment becomes or stays active whose person, class or school is not there (P13, I8).

An enrollment that points nowhere is kept back and named, not stored: as the store does not hold it, the gateway sends
it again with every full fetch, and it is taken as soon as what it needs is there. When a person or class goes, the
enrollments that are left go along; those made by hand come back with them (`application`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from homeroom.codes import Code
from homeroom.db import Connection
from homeroom.messages import CollectionReport, RecordIssue
from roster_store.guard import CollectionPlan
from roster_store.picture import PICTURE_SECONDS, Picture, allow_nested_loops, analyze_gone, forbid_nested_loops
from roster_store.plan import Plan, count_again, count_gone
from roster_store.tables import TABLES

MOST_NAMED = 200
"""Dangling enrollments, and reused ids, that are named; the counts are exact."""
_REFERENCES = ("users", "classes")
"""What an enrollment must point to for being active."""


async def find_dangling(connection: Connection, picture: Picture, reports: Mapping[str, CollectionReport]) -> int:
    """Find the staged enrollments that would point nowhere, and how many there are.

    What was never read for this integration is not missed: a provider may share no orgs, and without classes in the
    report nobody looked for them.
    """
    if not picture.holds("enrollments") or "enrollments" not in reports:
        return 0
    await connection.execute(picture.sql("create_dangling"))
    return await _fill_dangling(connection, picture, reports)


async def find_dangling_again(connection: Connection, picture: Picture, reports: Mapping[str, CollectionReport]) -> int:
    """The same once more, after records were taken out of the picture."""
    if not picture.holds("enrollments") or "enrollments" not in reports:
        return 0
    await connection.execute(picture.sql("empty_dangling"))
    return await _fill_dangling(connection, picture, reports)


async def _fill_dangling(connection: Connection, picture: Picture, reports: Mapping[str, CollectionReport]) -> int:
    checks = (
        "users" in reports or await _knows(connection, picture, "users"),
        "classes" in reports or await _knows(connection, picture, "classes"),
        await _knows(connection, picture, "orgs"),
    )
    await connection.execute(picture.sql("find_dangling"), picture.integration_no, *checks, timeout=PICTURE_SECONDS)
    found: int = await connection.fetchval(picture.sql("count_dangling"))
    return found


async def _knows(connection: Connection, picture: Picture, collection: str) -> bool:
    """Whether there ever was a record of a collection."""
    if picture.holds(collection):
        return True
    return bool(await connection.fetchval(TABLES[collection].sql("knows_any"), picture.integration_no))


async def quarantine_dangling(connection: Connection, plan: Plan) -> tuple[Plan, list[RecordIssue]]:
    """Take enrollments that would point nowhere out of the picture: they count as quarantined (I9)."""
    picture = plan.picture
    rows = await connection.fetch(picture.sql("list_dangling"), picture.integration_no, MOST_NAMED)
    issues = [
        RecordIssue(collection="enrollments", sourced_id=row["sourced_id"], code=Code.REF_MISSING, field=row["field"])
        for row in rows
    ]
    before = plan.collections["enrollments"]
    await connection.execute(picture.sql("drop_dangling"), timeout=PICTURE_SECONDS)
    plan = await count_again(connection, plan, ["enrollments"])
    after = plan.collections["enrollments"]
    quarantined = before.added + before.changed - after.added - after.changed
    return plan.amend({"enrollments": replace(after, quarantined=before.quarantined + quarantined)}), issues


async def release_enrollments(connection: Connection, plan: Plan) -> Plan:
    """Let held enrollments go along with the people and classes that go, and demographics made by hand with people."""
    picture = plan.picture
    if not any(plan.collections[name].removed for name in _REFERENCES if name in plan.collections):
        return plan
    await forbid_nested_loops(connection)  # one pass over the district's enrollments, as for keys
    await connection.execute(picture.sql("release_enrollments"), picture.integration_no, timeout=PICTURE_SECONDS)
    await connection.execute(picture.sql("release_demographics"), picture.integration_no, timeout=PICTURE_SECONDS)
    await allow_nested_loops(connection, picture)
    counts, amended = await count_gone(connection, picture), {}
    for name in ("enrollments", "demographics"):
        part = plan.collections.get(name) or CollectionPlan(served=0, holds_any=True, whole=False)
        if (removed := counts.get(name, 0)) != part.removed:
            amended[name] = replace(part, removed=removed)
    if not amended:
        return plan
    await analyze_gone(connection, picture)
    return plan.amend(amended)


async def name_kept(connection: Connection, plan: Plan) -> list[RecordIssue]:
    """Records of the provider that are left out because others with their ids were made by hand (C9)."""
    picture = plan.picture
    issues: list[RecordIssue] = []
    for collection, part in plan.collections.items():
        if part.manual and len(issues) < MOST_NAMED:
            table = TABLES[collection]
            statement = table.sql("list_kept", staging=picture.name(table.name))
            rows = await connection.fetch(
                statement, picture.integration_no, MOST_NAMED - len(issues), timeout=PICTURE_SECONDS
            )
            issues += [
                RecordIssue(collection=collection, sourced_id=row["sourced_id"], code=Code.MANUAL_KEPT) for row in rows
            ]
    return issues


async def name_reused_ids(connection: Connection, picture: Picture) -> list[RecordIssue]:
    """Known people who came back as somebody else in every field that tells people apart (P12); only a note."""
    if picture.first or not picture.holds("users"):
        return []
    rows = await connection.fetch(
        picture.sql("list_reused_ids"), picture.integration_no, MOST_NAMED, timeout=PICTURE_SECONDS
    )
    return [RecordIssue(collection="users", sourced_id=row["sourced_id"], code=Code.ID_REUSE_SUSPECTED) for row in rows]
