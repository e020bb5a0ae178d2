"""Google Classroom: courses, their teachers and students, and guardians (docs/providers/google-classroom.md).

There is a list of people for each course, so a domain is read course by course, each list once; who was met where is
left on disk until everybody's roles are known.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from homeroom.codes import Code
from homeroom.connections import GoogleClassroomConnection
from homeroom.messages import Finding, Mode
from provider_gateway.failures import ProviderError, RecordProblem
from provider_gateway.providers._google_client import ClassroomApi, open_api
from provider_gateway.providers._google_records import (
    ACTIVE,
    Person,
    identify,
    make_enrollment,
    make_org,
    read_course,
    read_person,
)
from provider_gateway.providers.contract import Opening, Page, Proof, RawPage, Seen, Source, make_page
from provider_gateway.scope import Scope
from provider_gateway.spool import Spool, pack, unpack

_COURSES_PER_PAGE: Final = "100"
_PEOPLE_PER_PAGE: Final = "100"
_COURSES_GLANCED_AT: Final = 5
_RECORDS_PER_PAGE: Final = 1_000
_AT_ONCE: Final = 200
_LISTS: Final = {"teacher": "teachers", "student": "students"}
_EVERYBODY: Final = "-"
_REFUSED: Final = frozenset({403, 404})
_TABLES: Final = (
    "CREATE TABLE courses (id TEXT UNIQUE ON CONFLICT REPLACE, owner TEXT, content BLOB)",
    "CREATE TABLE gone (id TEXT)",
    "CREATE TABLE members (course TEXT, user TEXT, role TEXT, owner INTEGER, UNIQUE (course, user, role))",
    "CREATE TABLE people (id TEXT UNIQUE, profile BLOB, student INTEGER, teacher INTEGER, guardian INTEGER)",
    "CREATE TABLE wards (student TEXT, guardian TEXT, PRIMARY KEY (student, guardian)) WITHOUT ROWID",
    "CREATE INDEX guardians ON wards (guardian)",
)
_PERSON: Final = "id, profile, student, teacher, guardian"
_ADD_MEMBER: Final = "INSERT OR IGNORE INTO members VALUES (?, ?, ?, ?)"
_ADD_PERSON: Final = (
    "INSERT INTO people VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET profile = max(profile, excluded.profile),"
    " student = max(student, excluded.student), teacher = max(teacher, excluded.teacher),"
    " guardian = max(guardian, excluded.guardian)"
)


class GoogleClassroom:
    """Declares the provider and opens connections to it."""

    kind = "google-classroom"
    title = "Google Classroom"
    connection_model = GoogleClassroomConnection
    capabilities: Mapping[str, Any] = {
        "collections": ["orgs", "classes", "users", "enrollments"],
        "modes": ["full"],
        "states_counts": False,
        "single_records": True,
        "single_classes": False,
    }

    @asynccontextmanager
    async def open(self, opening: Opening) -> AsyncIterator[Source]:
        """Get ready to read one domain."""
        async with Spool.open(opening.workspace, *_TABLES) as spool:
            yield _Domain(opening, open_api(opening), spool)


class _Domain:
    """All of a domain."""

    mode: Mode = "full"
    mode_code: Code | None = None
    increments = False
    collections = tuple(GoogleClassroom.capabilities["collections"])

    def __init__(self, opening: Opening, api: ClassroomApi, spool: Spool) -> None:
        self.refused_schools: dict[str, str] = {}
        self._api = api
        self._spool = spool
        self._domain: str = opening.connection.values["domain"]
        self._parents = opening.options.sync_parents
        self._turn = asyncio.Semaphore(opening.pages_in_flight)
        self._courses = _Once(self._read_courses)
        self._members = _Once(self._read_members)
        self._course_problems: list[RecordProblem] = []
        self._people_problems: list[RecordProblem] = []
        self._refused_rosters: dict[str, RecordProblem] = {}
        self._glancing = False

    def pages(self, collection: str, scope: Scope) -> AsyncGenerator[Page, None]:
        """All pages of a collection in order."""
        ways = {
            "orgs": self._make_orgs,
            "classes": self._make_classes,
            "users": self._make_users,
            "enrollments": self._make_enrollments,
        }
        return ways[collection](scope)

    def proof(self, collection: str) -> Proof:
        """Everything is read to its last page; where a roster was refused, nobody is missing for sure."""
        whole = {
            "orgs": True,
            "classes": not any(problem.sourced_id is None for problem in self._course_problems),
        }.get(collection, not self._refused_rosters and not self._people_problems)
        return Proof.WHOLE if whole and not self._glancing else Proof.COUNTS

    async def find(self, collection: str, sourced_id: str, scope: Scope) -> Page | None:
        """One record by its id, as far as Classroom has such; None if it says there is none."""
        page = RawPage(received=1, suspicious=True)
        try:
            match collection:
                case "orgs" if sourced_id == self._domain:
                    page.records.append(make_org(self._domain))
                case "orgs":
                    return None
                case "classes":
                    found = await self._api.single(f"/courses/{_escape(sourced_id)}", name="/courses/{id}")
                    self._take_course(page, found)
                case "enrollments":
                    page.records.append(await self._find_enrollment(sourced_id))
                case _:
                    await self._api.single(f"/userProfiles/{_escape(sourced_id)}", name="/userProfiles/{id}")
                    # They have an account; what they are is only known from the courses they are in.
                    rows = await self._spool.rows(f"SELECT {_PERSON} FROM people WHERE id = ?", sourced_id)  # noqa: S608 - names from code
                    page.records += [read_person(one, self._domain) for one in await self._tie(rows)]
        except ProviderError as error:
            if error.code is Code.PROV_NOT_FOUND and error.status in {404, 410}:
                return None
            raise
        except RecordProblem as problem:
            page.refused.append(problem)
        return make_page(collection, page, scope)

    async def finish(self, seen: Mapping[str, Seen]) -> dict[str, Any]:  # noqa: ARG002 - nothing is checked with it
        """There is nothing to go on from: Classroom has no list of changes."""
        return {}

    async def remark(self) -> Sequence[Finding]:
        """Asked before a first look, for which a few courses are enough."""
        self._glancing = True
        return ()

    async def _make_orgs(self, scope: Scope) -> AsyncGenerator[Page, None]:
        yield make_page("orgs", RawPage(received=1, records=[make_org(self._domain)]), scope)

    async def _make_classes(self, scope: Scope) -> AsyncGenerator[Page, None]:
        await self._courses.done()
        async for rows in self._spool.walk("courses", "content", at_once=_RECORDS_PER_PAGE):
            page = RawPage(received=len(rows), suspicious=True)
            for row in rows:
                self._take_course(page, unpack(row[0]))
            yield make_page("classes", page, scope)
        gone = [row[0] for row in await self._spool.rows("SELECT id FROM gone")]
        problems = self._course_problems
        if gone or problems:
            yield make_page(
                "classes", RawPage(received=len(gone) + len(problems), tombstones=gone, refused=problems), scope
            )

    def _take_course(self, page: RawPage, found: Any) -> None:
        try:
            if found.get("courseState", ACTIVE) != ACTIVE:
                page.tombstones.append(found["id"])
            else:
                page.records.append(read_course(found, self._domain))
        except RecordProblem as problem:
            problem.sourced_id = problem.sourced_id or identify(found, "id")
            page.refused.append(problem)

    async def _make_enrollments(self, scope: Scope) -> AsyncGenerator[Page, None]:
        await self._members.done()
        if self._refused_rosters:
            yield make_page("enrollments", RawPage(notes=list(self._refused_rosters.values())), scope)
        async for rows in self._spool.walk("members", "course, user, role, owner", at_once=_RECORDS_PER_PAGE):
            page = RawPage(received=len(rows), suspicious=True)
            page.records += [
                make_enrollment(course, user, role, owner=bool(owner), domain=self._domain)
                for course, user, role, owner in rows
            ]
            yield make_page("enrollments", page, scope)

    async def _make_users(self, scope: Scope) -> AsyncGenerator[Page, None]:
        await self._members.done()
        if self._parents:
            await self._read_guardians()
        async for rows in self._spool.walk("people", _PERSON, at_once=_RECORDS_PER_PAGE):
            page = RawPage(received=len(rows), suspicious=True)
            for person in await self._tie(rows):
                try:
                    page.records.append(read_person(person, self._domain))
                except RecordProblem as problem:
                    problem.sourced_id = person.sourced_id
                    page.refused.append(problem)
            made = make_page("users", page, scope)
            if scope.masked is None and len(made.canonical):
                scope = replace(scope, masked=made.masked)  # what the first page with people showed
            yield made
        if self._people_problems:
            problems = self._people_problems
            yield make_page("users", RawPage(received=len(problems), refused=problems), scope)

    async def _tie(self, rows: Sequence[tuple[Any, ...]]) -> list[Person]:
        """People with the guardians or students they are tied to."""
        agents: dict[str, set[str]] = {row[0]: set() for row in rows}
        if self._parents:
            for one, other in (("student", "guardian"), ("guardian", "student")):
                for key, agent in await self._spool.among("wards", one, tuple(agents), columns=f"{one}, {other}"):
                    agents[key].add(agent)
        return [
            Person(key, unpack(profile), bool(student), bool(teacher), bool(guardian), tuple(agents[key]))
            for key, profile, student, teacher, guardian in rows
        ]

    async def _read_courses(self) -> None:
        query = {"courseStates": ACTIVE, "pageSize": _COURSES_PER_PAGE}
        async with aclosing(self._api.pages("/courses", "courses", query, name="/courses")) as pages:
            async for rows in pages:
                await self._keep_courses(rows)
                if self._glancing:
                    return

    async def _keep_courses(self, rows: Sequence[Any]) -> None:
        courses: list[tuple[str, str | None, bytes]] = []
        gone: list[tuple[str]] = []
        for found in rows:
            try:
                sourced_id, owner = identify(found, "id"), identify(found, "ownerId")
            except RecordProblem as problem:
                self._course_problems.append(problem)
                continue
            if sourced_id is None:
                self._course_problems.append(RecordProblem(Code.RECORD_NO_ID))
            elif found.get("courseState", ACTIVE) != ACTIVE:
                gone.append((sourced_id,))
            else:
                courses.append((sourced_id, owner, pack(found)))
        await self._spool.add("INSERT INTO courses VALUES (?, ?, ?)", courses)
        await self._spool.add("INSERT INTO gone VALUES (?)", gone)

    async def _read_members(self) -> None:
        """Teachers and students of every course, a few courses at once."""
        await self._courses.done()
        courses = 0
        async for rows in self._spool.walk("courses", "id, owner", at_once=_AT_ONCE):
            chosen = rows[:_COURSES_GLANCED_AT] if self._glancing else rows
            await _all([self._read_course_members(course, owner) for course, owner in chosen])
            courses += len(chosen)
            if self._glancing:
                break
        if courses and len(self._refused_rosters) == courses:
            raise ProviderError(Code.PROV_SCOPE, "Google refused the people of every course.", status=403)

    async def _read_course_members(self, course: str, owner: str | None) -> None:
        async with self._turn:
            for role, key in _LISTS.items():
                path, name = f"/courses/{_escape(course)}/{key}", f"/courses/{{id}}/{key}"
                try:
                    async with aclosing(self._api.pages(path, key, {"pageSize": _PEOPLE_PER_PAGE}, name=name)) as pages:
                        async for rows in pages:
                            await self._keep_members(course, owner, role, rows)
                except ProviderError as error:
                    if error.status not in _REFUSED:
                        raise
                    self._refused_rosters[course] = RecordProblem(Code.PROV_SCOPE, field=key, sourced_id=course)

    async def _keep_members(self, course: str, owner: str | None, role: str, rows: Sequence[Any]) -> None:
        members: list[tuple[Any, ...]] = []
        people: list[tuple[Any, ...]] = []
        for found in rows:
            try:
                user = identify(found, "userId")
            except RecordProblem:
                user = None
            if user is None:
                self._people_problems.append(RecordProblem(Code.RECORD_NO_ID))
                continue
            profile = found.get("profile")
            members.append((course, user, role, user == owner))
            kept = pack(profile if isinstance(profile, dict) else {})
            people.append((user, kept, role == "student", role == "teacher", False))
        await self._spool.add(_ADD_MEMBER, members)
        await self._spool.add(_ADD_PERSON, people)

    async def _read_guardians(self) -> None:
        """The guardians of all students in one list; where Google does not give it, student by student."""
        try:
            if await self._keep_guardians(_EVERYBODY) or self._glancing:
                await self._spool.run(_forget_guardians_of_nobody)
                return
        except ProviderError as error:
            if error.status not in {400, *_REFUSED}:
                raise
        async for rows in self._spool.walk("people", "id", where="student", at_once=_AT_ONCE):
            await _all([self._read_guardians_of(student) for (student,) in rows])

    async def _read_guardians_of(self, student: str) -> None:
        async with self._turn:
            try:
                await self._keep_guardians(student)
            except ProviderError as error:
                if error.code is not Code.PROV_NOT_FOUND:
                    raise

    async def _keep_guardians(self, student: str) -> int:
        """Keep what one list of guardians holds; how many that were."""
        kept = 0
        path, name = f"/userProfiles/{_escape(student)}/guardians", "/userProfiles/{id}/guardians"
        async with aclosing(self._api.pages(path, "guardians", {"pageSize": _PEOPLE_PER_PAGE}, name=name)) as pages:
            async for rows in pages:
                people: list[tuple[Any, ...]] = []
                wards: list[tuple[str, str]] = []
                for found in rows:
                    try:
                        guardian, ward = identify(found, "guardianId"), identify(found, "studentId") or student
                    except RecordProblem:
                        guardian, ward = None, student
                    if guardian is None or ward == _EVERYBODY:
                        self._people_problems.append(RecordProblem(Code.RECORD_NO_ID))
                        continue
                    profile = found.get("guardianProfile")
                    known = {"emailAddress": found.get("invitedEmailAddress")}
                    profile = known | profile if isinstance(profile, dict) else known
                    people.append((guardian, pack(profile), False, False, True))
                    wards.append((ward, guardian))
                await self._spool.add(_ADD_PERSON, people)
                await self._spool.add("INSERT OR IGNORE INTO wards VALUES (?, ?)", wards)
                kept += len(wards)
        return kept

    async def _find_enrollment(self, sourced_id: str) -> Any:
        course, user, role = [*sourced_id.split("_", 2), "", ""][:3]
        if role not in _LISTS:
            raise ProviderError(Code.PROV_NOT_FOUND, "It is not the id of an enrollment.", status=404)
        name = f"/courses/{{id}}/{_LISTS[role]}/{{id}}"
        await self._api.single(f"/courses/{_escape(course)}/{_LISTS[role]}/{_escape(user)}", name=name)
        found = await self._spool.rows("SELECT owner FROM courses WHERE id = ?", course)
        owner = bool(found) and found[0][0] == user
        return make_enrollment(course, user, role, owner=owner, domain=self._domain)


class _Once:
    """Something several collections need, done by the first that asks."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._turn = asyncio.Lock()
        self._done = False

    async def done(self) -> None:
        """Have it done, unless it was."""
        async with self._turn:
            if not self._done:
                await self._work()
                self._done = True


def _forget_guardians_of_nobody(database: sqlite3.Connection) -> None:
    """One list of all guardians has those of students who are in no course that is read, too."""
    database.execute("DELETE FROM wards WHERE student NOT IN (SELECT id FROM people WHERE student)")
    database.execute("UPDATE people SET guardian = 0 WHERE id NOT IN (SELECT guardian FROM wards)")
    database.execute("DELETE FROM people WHERE NOT student AND NOT teacher AND NOT guardian")


async def _all(works: Sequence[Any]) -> None:
    """Do several things at once; raises the first failure of any."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except* Exception as failures:  # noqa: BLE001 - passed on, without the group around it
        raise failures.exceptions[0] from None


def _escape(sourced_id: str) -> str:
    return quote(sourced_id, safe="")
