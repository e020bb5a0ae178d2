"""Keeps incomplete schools as they are, so that the others can go on (C4; the decision itself stands in `schools`).

Nothing is asked school by school: a few statements gather the facts of all, and a few more take the records of the
schools that were found incomplete out of the picture again. Only schools this fetch touches are judged.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from homeroom.codes import Code
from homeroom.db import Connection
from homeroom.messages import FetchCompleted, RecordIssue
from roster_store.picture import GONE, PICTURE_SECONDS, Picture, allow_nested_loops, forbid_nested_loops
from roster_store.plan import Plan, count_again, count_gone
from roster_store.schools import MOST_DANGLING, District, Incomplete, Presence, SchoolFacts, judge_school
from roster_store.tables import SQL, TABLES

_TAKEN_OUT = ("courses", "classes", "users", "enrollments", "demographics")


@dataclass(slots=True)
class _Gathered:
    """What was found out about one org."""

    arriving_people: int = 0
    arriving_classes: int = 0
    students: Presence = field(default_factory=Presence)
    classes: Presence = field(default_factory=Presence)
    belonging: bool = False
    touched: bool = False


@dataclass(slots=True)
class _Orgs:
    """All orgs of the integration as they will be, and what belongs to them."""

    schools: dict[str, str | None]
    """Schools with the reason they would be removed for."""
    known: set[str]
    """Orgs of any kind that stay or come."""
    found: dict[str, _Gathered]


class SchoolMemory(msgspec.Struct, frozen=True):
    """What is to be kept of which schools are incomplete, if the picture is applied: only what changed in that."""

    incomplete: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()


NOTHING_NEW = SchoolMemory()


@dataclass(frozen=True, slots=True)
class Protected:
    """A plan without what belongs to incomplete schools."""

    plan: Plan
    incomplete: Sequence[Incomplete] = ()
    notes: Sequence[RecordIssue] = ()
    """References to orgs that are not there; what holds them is kept."""
    memory: SchoolMemory = NOTHING_NEW

    @property
    def issues(self) -> list[RecordIssue]:
        """One for each school that was left as it was."""
        return [
            RecordIssue(collection="orgs", sourced_id=one.sourced_id, code=one.code, detail=one.detail)
            for one in self.incomplete
        ]


async def protect_schools(connection: Connection, plan: Plan, completed: FetchCompleted, dangling: int) -> Protected:
    """Judge the schools this fetch touches, and take out of the picture what belongs to incomplete ones."""
    picture = plan.picture
    moved = picture.holds("users", "classes") or any(
        part.removed for name, part in plan.collections.items() if name in ("orgs", "users", "classes")
    )
    if not (moved or dangling > MOST_DANGLING or completed.refused_schools):
        return Protected(plan)
    orgs = await _gather(connection, picture, moved=moved)
    notes = _note_unknown_orgs(orgs) if moved else []
    district = await _describe(connection, picture, completed)
    facts = _list_facts(orgs, completed, await _count_dangling(connection, picture, dangling), first=picture.first)
    incomplete = [verdict for one in facts if (verdict := judge_school(one, district))]
    if incomplete:
        plan = await _take_out(connection, plan, [one.sourced_id for one in incomplete], orgs)
    return Protected(plan, incomplete, notes, _compare([one.sourced_id for one in facts], incomplete, district))


async def _gather(connection: Connection, picture: Picture, *, moved: bool) -> _Orgs:
    """A pass over what is staged, and one over the people and classes held if any of them move."""
    no = picture.integration_no
    await forbid_nested_loops(connection)
    rows = await connection.fetch(picture.sql("list_orgs"), no)
    schools = {row["sourced_id"]: row["reason"] for row in rows if row["school"]}
    known = {row["sourced_id"] for row in rows if row["reason"] is None}
    found = await _gather_movers(connection, picture) if moved else {}
    await allow_nested_loops(connection, picture)
    return _Orgs(schools, known, found)


async def _gather_movers(connection: Connection, picture: Picture) -> dict[str, _Gathered]:
    """Who and what belongs to each org, before and after."""
    no = picture.integration_no
    found: dict[str, _Gathered] = defaultdict(_Gathered)
    if not picture.first:
        for row in await connection.fetch(picture.sql("list_held_people"), no, timeout=PICTURE_SECONDS):
            one = found[row["org"]]
            one.students = Presence(row["learned"], row["learning"], row["lost"], row["excused"])
            one.belonging, one.touched = bool(row["belonging"]), row["touched"]
        for row in await connection.fetch(picture.sql("list_held_classes"), no, timeout=PICTURE_SECONDS):
            one = found[row["org"]]
            one.classes = Presence(before=True, after=row["staying"], lost=row["lost"], excused=row["excused"])
            one.belonging |= row["staying"] or row["lost"] > 0
            one.touched |= row["touched"]
    for row in await connection.fetch(picture.sql("list_staged_people"), timeout=PICTURE_SECONDS):
        one = found[row["org"]]
        one.arriving_people = row["arriving"]
        one.students = replace(one.students, after=one.students.after or row["learning"])
    for row in await connection.fetch(picture.sql("list_staged_classes"), timeout=PICTURE_SECONDS):
        one = found[row["org"]]
        one.arriving_classes = row["arriving"]
        one.classes = replace(one.classes, after=True)
    return found


async def _describe(connection: Connection, picture: Picture, completed: FetchCompleted) -> District:
    no = picture.integration_no
    classes = completed.collections.get("classes")
    return District(
        syncs_classes=classes is not None and classes.wanted,
        had_classes=not picture.first and await connection.fetchval(TABLES["classes"].sql("knows_any"), no),
        incomplete=frozenset(row["sourced_id"] for row in await connection.fetch(SQL["list_incomplete_schools"], no)),
    )


async def _count_dangling(connection: Connection, picture: Picture, dangling: int) -> Mapping[str, tuple[int, int]]:
    """School → dangling and all staged enrollments, where there are more than a few."""
    if dangling <= MOST_DANGLING:
        return {}
    rows = await connection.fetch(picture.sql("list_dangling_schools"), picture.integration_no, MOST_DANGLING)
    if not rows:
        return {}
    counted = await connection.fetch(
        picture.sql("count_school_enrollments"), picture.integration_no, timeout=PICTURE_SECONDS
    )
    staged = {row["org"]: row["count"] for row in counted}
    return {row["org"]: (row["dangling"], staged[row["org"]]) for row in rows}


def _list_facts(
    orgs: _Orgs, completed: FetchCompleted, dangling: Mapping[str, tuple[int, int]], *, first: bool
) -> list[SchoolFacts]:
    """The facts of every school that is touched; of a school with neither people nor classes there are none."""
    facts = []
    for sourced_id in sorted(orgs.schools.keys() | completed.refused_schools.keys()):
        one = orgs.found.get(sourced_id) or _Gathered()
        reason = orgs.schools.get(sourced_id)
        arriving = bool(one.arriving_people or one.arriving_classes)
        named = sourced_id in completed.refused_schools or sourced_id in dangling or reason is not None
        if not (first or one.touched or arriving or named):
            continue
        lost, staged = dangling.get(sourced_id, (0, 0))
        facts.append(
            SchoolFacts(
                sourced_id,
                students=one.students,
                classes=one.classes,
                missing=reason not in (None, "configuration") and (one.belonging or arriving),
                refused=completed.refused_schools.get(sourced_id),
                enrollments=staged,
                dangling=lost,
            )
        )
    return facts


def _note_unknown_orgs(orgs: _Orgs) -> list[RecordIssue]:
    """What points to orgs that are not there, in two numbers; nothing to note where a provider shares no orgs."""
    if not orgs.known:
        return []
    unknown: Counter[str] = Counter()
    for sourced_id, one in orgs.found.items():
        if sourced_id not in orgs.known:
            unknown["users"] += one.arriving_people
            unknown["classes"] += one.arriving_classes
    words = {"users": ("roles", "roles name an org"), "classes": ("school", "classes name a school")}
    return [
        RecordIssue(
            collection=collection,
            sourced_id=None,
            code=Code.REF_MISSING,
            field=words[collection][0],
            detail=f"{count:,} {words[collection][1]} that is not there",
        )
        for collection, count in sorted(unknown.items())
        if count
    ]


def _compare(judged: Sequence[str], incomplete: Sequence[Incomplete], district: District) -> SchoolMemory:
    now = {one.sourced_id for one in incomplete}
    return SchoolMemory(
        incomplete=tuple(sorted(now - district.incomplete)),
        whole=tuple(sorted(district.incomplete.intersection(judged) - now)),
    )


async def remember_schools(connection: Connection, integration_no: int, memory: SchoolMemory) -> None:
    """Keep which schools are incomplete; to be called when the picture they were found in is applied."""
    if memory.whole:
        await connection.execute(SQL["forget_incomplete_schools"], integration_no, list(memory.whole))
    if memory.incomplete:
        await connection.execute(SQL["keep_incomplete_schools"], integration_no, list(memory.incomplete))


async def _take_out(connection: Connection, plan: Plan, incomplete: list[str], orgs: _Orgs) -> Plan:
    """Take records of some schools out of the picture: what came counts as filtered, what would go as unconfirmed."""
    picture, no = plan.picture, plan.picture.integration_no
    others = sorted(orgs.schools.keys() - set(incomplete))
    for statement, collection, args in (
        ("drop_school_enrollments", "enrollments", (incomplete,)),
        ("drop_class_enrollments", "enrollments", (no, incomplete)),
        ("drop_school_demographics", "demographics", (no, incomplete, others)),
        ("drop_school_users", "users", (incomplete, others)),
        ("drop_school_classes", "classes", (incomplete,)),
        ("drop_school_courses", "courses", (incomplete,)),
    ):
        if picture.holds(collection):
            await connection.execute(picture.sql(statement), *args, timeout=PICTURE_SECONDS)
    plan = await count_again(connection, plan, _TAKEN_OUT)
    if GONE not in picture.staged:
        return plan
    # Enrollments and demographics are looked up through classes and people, so the order of these is of no matter.
    await forbid_nested_loops(connection)  # as for the facts
    for collection in ("enrollments", "users", "classes", "courses", "orgs"):
        await connection.execute(picture.sql(f"withhold_{collection}"), no, incomplete, timeout=PICTURE_SECONDS)
    await allow_nested_loops(connection, picture)
    left = await count_gone(connection, picture)
    amended = {
        collection: replace(part, removed=left.get(collection, 0), unconfirmed=part.removed - left.get(collection, 0))
        for collection, part in plan.collections.items()
        if part.removed
    }
    return plan.amend(amended)
