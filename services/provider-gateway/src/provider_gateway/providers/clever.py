"""Clever Secure Sync: a district through the Data API v3, and its changes through the Events API.

What Clever calls things and what becomes of them: docs/providers/clever.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from homeroom.codes import Code
from homeroom.connections import CleverConnection
from homeroom.messages import Finding, Mode
from homeroom.roster import Class
from provider_gateway.failures import ProviderError
from provider_gateway.providers import _clever_events as events
from provider_gateway.providers import _clever_pages as read
from provider_gateway.providers._clever_client import CleverApi, open_api
from provider_gateway.providers._clever_records import READERS, Links, View, pick_demographics
from provider_gateway.providers._clever_singles import fetch_single, find_record
from provider_gateway.providers.contract import ClassRoster, Opening, Page, Proof, RawPage, Seen, Source, make_page
from provider_gateway.readers import Readers
from provider_gateway.scope import Scope
from provider_gateway.spool import Spool, pack, unpack

P = ParamSpec("P")
T = TypeVar("T")

_FEW_PAGES: Final = 16
"""A district of no more pages is read in the worker itself; handing it over would take longer."""
_SECTIONS_PER_PAGE: Final = 1_000
"""A section holds all its people, so a page of them is larger than one of anything else."""
_ROLES: Final = ("student", "teacher", "staff", "district_admin")
_LISTS: Final = {"academicSessions": "terms", "courses": "courses"}
_HALTED: Final = {
    "paused": "the district has paused its sync",
    "error": "the district's sync is in error",
    "pending": "the district has not shared its data yet",
}
_TABLES: Final = (
    "CREATE TABLE rosters (section TEXT UNIQUE ON CONFLICT REPLACE, people BLOB)",
    "CREATE TABLE demographics (student TEXT UNIQUE ON CONFLICT REPLACE, marks BLOB)",
    "CREATE TABLE contacts (contact TEXT UNIQUE ON CONFLICT REPLACE, person BLOB)",
    "CREATE TABLE links (student TEXT, contact TEXT, PRIMARY KEY (student, contact)) WITHOUT ROWID",
    "CREATE TABLE schools (student TEXT, school TEXT, PRIMARY KEY (student, school)) WITHOUT ROWID",
    "CREATE TABLE met (user TEXT PRIMARY KEY) WITHOUT ROWID",
)


_MakePage = Callable[[Scope], Awaitable[Page]]


class Clever:
    """Declares the provider and opens connections to it."""

    kind = "clever"
    title = "Clever Secure Sync"
    connection_model = CleverConnection
    capabilities: Mapping[str, Any] = {
        "collections": ["orgs", "academicSessions", "courses", "classes", "users", "enrollments", "demographics"],
        "modes": ["full", "delta"],
        "states_counts": False,
        "single_records": True,
        "single_classes": True,
    }

    @asynccontextmanager
    async def open(self, opening: Opening) -> AsyncIterator[Source]:
        """Get ready to read one district, or what has changed in it; a district that is paused is not read at all."""
        api = open_api(opening)
        district_id = opening.connection.values["district_id"]
        district = await fetch_single(api, "districts", district_id)
        if why := find_halt(district, opening.began):
            raise ProviderError(Code.PROV_PAUSED, f"Clever says that {why}; what is missing there now may come back.")
        options = opening.options
        view = View(district_id, parents=options.sync_parents, demographics=options.sync_demographics)
        async with Spool.open(opening.workspace, *_TABLES, *events.TABLES) as spool:
            if opening.mode == "delta":
                changes = await events.read_changes(opening, api, spool, view)
                yield events.Changes(api, spool, view, changes, tell_district(district))
                return
            newest = await events.find_newest(api)
            yield _District(opening, api, spool, view, district, newest)


def find_halt(district: Any, now: datetime) -> str | None:
    """Why nothing may be concluded from a district's data now; None if they are good (pure)."""
    if not isinstance(district, dict):
        return None
    if why := _HALTED.get(str(district.get("state") or "").lower()):
        return why
    start, end = (_read_moment(district.get(name)) for name in ("pause_start", "pause_end"))
    return "the district's sync is paused at this time" if start and end and start <= now < end else None


def tell_district(district: Any) -> tuple[Finding, ...]:
    """What an admin may want to know of a district's sync (pure)."""
    found = district if isinstance(district, dict) else {}
    told = [
        f"{title} {found[name]}" for name, title in _TOLD.items() if isinstance(found.get(name), str) and found[name]
    ]
    return (Finding(check="district", ok=True, detail=f"Clever's district: {', '.join(told) or 'no details'}."),)


_TOLD: Final = {"state": "state", "last_sync": "last sync", "sis_type": "SIS"}


def _read_moment(text: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class _Handover:
    """Whether rows of one collection that another one needs are all on disk."""

    def __init__(self) -> None:
        self._begun = False
        self._whole = False
        self._ended = asyncio.Event()

    def begin(self) -> None:
        """Somebody reads them."""
        self._begun = True

    def end(self, *, whole: bool) -> None:
        """Nobody reads them any more."""
        self._whole |= whole
        self._ended.set()

    async def wait(self) -> bool:
        """Whether they are all there, once whoever reads them has ended."""
        if self._begun:
            await self._ended.wait()
        return self._whole


class _District:
    """All of a district."""

    mode: Mode = "full"
    mode_code: Code | None = None
    collections = tuple(Clever.capabilities["collections"])

    def __init__(
        self, opening: Opening, api: CleverApi, spool: Spool, view: View, district: Any, newest: events.Newest | None
    ) -> None:
        self.increments = newest is not None
        self.refused_schools: dict[str, str] = {}
        self._api = api
        self._spool = spool
        self._view = view
        self._district = district
        self._newest = newest
        self._readers: Readers = opening.readers
        self._pages = 0
        self._rosters = _Handover()
        self._users = _Handover()
        self._unproved: set[str] = set()
        self._glancing = False

    async def pages(self, collection: str, scope: Scope) -> AsyncGenerator[Page, None]:
        """All pages of a collection in order."""
        ways = {
            "orgs": self._read_orgs,
            "classes": self._read_classes,
            "users": self._read_users,
            "enrollments": self._read_enrollments,
            "demographics": self._read_demographics,
        }
        pages = ways[collection](scope) if collection in ways else self._read_list(_LISTS[collection], scope)
        async with aclosing(pages):
            async for page in pages:
                if any(problem.sourced_id is None for problem in page.refused):
                    self._unproved.add(collection)
                yield page

    def proof(self, collection: str) -> Proof:
        """Clever's cursors are stable; only where somebody came without a readable id, nobody is missing for sure."""
        return Proof.COUNTS if collection in self._unproved else Proof.WHOLE

    async def find(self, collection: str, sourced_id: str, scope: Scope) -> Page | None:
        """One record by its id; None if Clever has none, or shares it no more."""
        try:
            return await find_record(self._api, self._view, collection, sourced_id, scope)
        except ProviderError as error:
            if error.code is Code.PROV_NOT_FOUND and error.status in {404, 410}:
                return None
            raise

    async def read_class(self, section: Class, scope: Scope) -> ClassRoster:
        """The people of a section, who are all part of it."""
        page = RawPage(received=0, suspicious=True)
        roster = read.try_roster(await fetch_single(self._api, "sections", section.sourced_id), page)
        if roster is not None:
            page.records += roster.enrollments()
            page.received = len(page.records)
        return ClassRoster([make_page("enrollments", page, scope)], whole=roster is not None)

    async def finish(self, seen: Mapping[str, Seen]) -> dict[str, Any]:  # noqa: ARG002 - nothing is checked with it
        """The event that was the newest when the fetch began; changes since then come with the next one."""
        return {"event": self._newest.event} if self._newest is not None else {}

    async def remark(self) -> Sequence[Finding]:
        """What Clever says of the district; asked before a first look, for which first pages are enough."""
        self._glancing = True
        return tell_district(self._district)

    async def _read_orgs(self, scope: Scope) -> AsyncGenerator[Page, None]:
        page = RawPage(received=1, suspicious=True)
        read.take(page, self._district, lambda found: READERS["districts"](found, self._view, page.notes))
        yield make_page("orgs", page, scope)
        async with aclosing(self._read_list("schools", scope)) as pages:
            async for schools in pages:
                yield schools

    async def _read_list(self, kind: str, scope: Scope) -> AsyncGenerator[Page, None]:
        async with aclosing(self._api.bodies(f"/{kind}")) as bodies:
            async for body in bodies:
                yield await self._do(read.read_list, kind, body, self._view, scope)

    async def _read_classes(self, scope: Scope) -> AsyncGenerator[Page, None]:
        """Sections, whose people are left on disk for the enrollments."""
        whole = False
        self._rosters.begin()
        try:
            async with aclosing(self._read_sections(scope)) as pages:
                async for sections in pages:
                    await self._spool.add("INSERT INTO rosters VALUES (?, ?)", sections.rosters)
                    yield sections.page
            whole = True
        finally:
            self._rosters.end(whole=whole)

    async def _read_sections(self, scope: Scope) -> AsyncGenerator[read.SectionsRead, None]:
        async with aclosing(self._api.bodies("/sections", most=_SECTIONS_PER_PAGE)) as bodies:
            async for body in bodies:
                sections = await self._do(read.read_sections, body, self._view, scope)
                if not sections.complete:
                    self._unproved.add("enrollments")
                yield sections

    async def _read_enrollments(self, scope: Scope) -> AsyncGenerator[Page, None]:
        """From the sections that were read for the classes; if they were not, sections are read for this alone."""
        if await self._rosters.wait():
            async for rows in self._spool.walk("rosters", "people"):
                for page in await self._do(read.make_enrollments, [row[0] for row in rows], scope):
                    yield page
            return
        async with aclosing(self._read_sections(scope)) as pages:
            async for sections in pages:
                for page in await self._do(read.make_enrollments, [people for _, people in sections.rosters], scope):
                    yield page

    async def _read_users(self, scope: Scope) -> AsyncGenerator[Page, None]:
        """Everybody by role, each person once; contacts last, since they are at the schools of their students."""
        whole = False
        self._users.begin()
        try:
            refused = await self._gather_contacts() if self._view.parents else RawPage()
            for pages in (*(self._read_role(role) for role in _ROLES), self._make_contacts()):
                async with aclosing(pages):
                    async for make in pages:
                        page = await make(scope)
                        if scope.masked is None and len(page.canonical):
                            scope = replace(scope, masked=page.masked)  # what the first page with people showed
                        yield page
            if refused.refused:
                yield make_page("users", refused, scope)
            whole = True
        finally:
            self._users.end(whole=whole)

    async def _read_role(self, role: str) -> AsyncGenerator[_MakePage, None]:
        async with aclosing(self._api.bodies("/users", {"role": role})) as bodies:
            async for body in bodies:
                yield partial(self._make_users, role, body)

    async def _make_users(self, role: str, body: bytes, scope: Scope) -> Page:
        glimpsed = read.glimpse_users(body)
        skipped = await self._find_met(glimpsed)
        view = self._view
        if view.parents and role == "student":
            view = replace(view, links=Links(contacts=await self._find_contacts([one for one, _ in glimpsed])))
        users = await self._do(read.read_users, body, view, scope, skipped)
        await self._spool.add("INSERT INTO demographics VALUES (?, ?)", users.demographics)
        await self._spool.add("INSERT OR IGNORE INTO schools VALUES (?, ?)", users.schools)
        return users.page

    async def _find_met(self, glimpsed: Sequence[tuple[str, frozenset[str]]]) -> frozenset[str]:
        """Of a page's users those with several roles who came before, and contacts, who come by themselves."""
        several = [user for user, roles in glimpsed if len(roles) > 1]
        if not several:
            return frozenset()
        met = [
            *await self._spool.among("met", "user", several),
            *await self._spool.among("contacts", "contact", several),
        ]
        await self._spool.add("INSERT OR IGNORE INTO met VALUES (?)", [(user,) for user in several])
        return frozenset(row[0] for row in met)

    async def _gather_contacts(self) -> RawPage:
        """All contacts and their links, to the disk; gives those that can't be read."""
        refused = RawPage()
        async with aclosing(self._api.bodies("/users", {"role": "contact"})) as bodies:
            async for body in bodies:
                contacts, links, problems = await self._do(read.list_contacts, body)
                await self._spool.add("INSERT INTO contacts VALUES (?, ?)", contacts)
                await self._spool.add("INSERT OR IGNORE INTO links VALUES (?, ?)", links)
                refused.received += len(problems)
                refused.refused += problems
                if self._glancing:
                    break
        return refused

    async def _make_contacts(self) -> AsyncGenerator[_MakePage, None]:
        async for rows in self._spool.walk("contacts", "contact, person"):
            yield partial(self._make_some_contacts, rows)

    async def _make_some_contacts(self, rows: Sequence[tuple[str, bytes]], scope: Scope) -> Page:
        people = [person for _, person in rows]
        found = [unpack(person) for person in people]
        students = sorted({student for one in found for student in read.list_students(one)})
        schools: dict[str, list[str]] = {}
        for student, school in await self._spool.among("schools", "student", students):
            schools.setdefault(student, []).append(school)
        contacts = await self._find_contacts([contact for contact, _ in rows])
        view = replace(self._view, links=Links(contacts=contacts, schools=schools))
        if view.demographics:
            marks = [marks for one in found if (marks := pick_demographics(one)) is not None]
            await self._spool.add(
                "INSERT INTO demographics VALUES (?, ?)", [(mark["id"], pack(mark)) for mark in marks]
            )
        return await self._do(read.make_users, people, view, scope)

    async def _find_contacts(self, students: Sequence[str]) -> dict[str, list[str]]:
        contacts: dict[str, list[str]] = {}
        for student, contact in await self._spool.among("links", "student", students):
            contacts.setdefault(student, []).append(contact)
        return contacts

    async def _read_demographics(self, scope: Scope) -> AsyncGenerator[Page, None]:
        """From the students that were read as users; if they were not, students are read for this alone."""
        if await self._users.wait():
            async for rows in self._spool.walk("demographics", "marks", at_once=read.RECORDS_PER_PAGE):
                yield await self._do(read.make_demographics, [row[0] for row in rows], scope)
            return
        async with aclosing(self._api.bodies("/users", {"role": "student"})) as bodies:
            async for body in bodies:
                users = await self._do(read.read_users, body, self._view, scope, ())
                yield await self._do(read.make_demographics, [marks for _, marks in users.demographics], scope)

    async def _do(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._pages += 1
        return work(*args, **kwargs) if self._pages <= _FEW_PAGES else await self._readers.run(work, *args, **kwargs)
