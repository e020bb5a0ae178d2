"""Pages of Clever's lists → pages ready to be compared; what is done here may be done in a reading process (pure)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from msgspec import Raw

from homeroom.codes import Code
from homeroom.roster import Record
from provider_gateway.canonical import Canonical
from provider_gateway.failures import RecordProblem
from provider_gateway.providers._clever_client import decode_listing, unwrap
from provider_gateway.providers._clever_records import (
    COLLECTIONS,
    READERS,
    Roster,
    View,
    identify,
    pick_demographics,
    read_demographics,
    read_roster,
    read_user,
)
from provider_gateway.providers.contract import Page, RawPage, make_page
from provider_gateway.scope import Scope
from provider_gateway.spool import pack, unpack

RECORDS_PER_PAGE: Final = 2_000
"""Of the collections that are made from others."""


@dataclass(slots=True)
class UsersRead:
    """A page of users, and what of it other collections need."""

    page: Page = field(default_factory=lambda: Page(0, Canonical(), (), (), (), None, 0))
    demographics: list[tuple[str, bytes]] = field(default_factory=list)
    """Students' ids, and what they are as JSON (`pick_demographics`)."""
    schools: list[tuple[str, str]] = field(default_factory=list)
    """Students' ids, and each of their schools."""


class _Glimpse(msgspec.Struct):
    id: str
    roles: dict[str, Raw] | None = None


class _Glimpsed(msgspec.Struct):
    data: _Glimpse


ROSTERS = msgspec.json.Decoder(Roster)
_GLIMPSED = msgspec.json.Decoder(_Glimpsed)


def read_list(kind: str, body: bytes, view: View, scope: Scope) -> Page:
    """A page of one of Clever's kinds of objects."""
    page = RawPage()
    for found in _rows(body, kind, page):
        take(page, found, lambda found: READERS[kind](found, view, page.notes))
    return make_page(COLLECTIONS[kind], page, scope)


@dataclass(slots=True)
class SectionsRead:
    """A page of sections: the classes, and the people of each as JSON."""

    page: Page
    rosters: list[tuple[str, bytes]]
    complete: bool
    """Whether the people of every section could be read."""


def read_sections(body: bytes, view: View, scope: Scope) -> SectionsRead:
    """A page of classes, and their people."""
    page = RawPage()
    rosters: list[tuple[str, bytes]] = []
    for found in _rows(body, "sections", page):
        take(page, found, lambda found: READERS["sections"](found, view, page.notes))
        roster = try_roster(found, page)
        if roster is not None:
            rosters.append((roster.section, msgspec.json.encode(roster)))
    return SectionsRead(make_page("classes", page, scope), rosters, len(rosters) == page.received)


def read_users(body: bytes, view: View, scope: Scope, skipped: Collection[str]) -> UsersRead:
    """A page of users without those who came before, or come later."""
    page = RawPage()
    read = UsersRead()
    for found in _rows(body, "users", page):
        if found.get("id") in skipped or (isinstance(found.get("roles"), dict) and not view.roles(found)):
            page.received -= 1
            continue
        take(page, found, lambda found: read_user(found, view, page.notes))
        read.schools += list_schools(found) if view.parents else []
        if view.demographics and (marks := pick_demographics(found)) is not None and isinstance(marks["id"], str):
            read.demographics.append((marks["id"], pack(marks)))
    read.page = make_page("users", page, scope)
    return read


def make_users(rows: Sequence[bytes], view: View, scope: Scope) -> Page:
    """A page of users that were kept as JSON."""
    page = RawPage(received=len(rows), suspicious=True)
    for row in rows:
        take(page, unpack(row), lambda found: read_user(found, view, page.notes))
    return make_page("users", page, scope)


def make_demographics(rows: Sequence[bytes], scope: Scope) -> Page:
    """A page of demographics out of what students are."""
    page = RawPage(received=len(rows), suspicious=True)
    for row in rows:
        take(page, unpack(row), lambda found: read_demographics(found, page.notes))
    page.received = len(page.records) + len(page.refused)
    return make_page("demographics", page, scope)


def make_enrollments(rows: Sequence[bytes], scope: Scope) -> list[Page]:
    """Pages of enrollments out of the people of sections, however many a section has."""
    pages: list[Page] = []
    records: list[Record] = []
    for row in rows:
        records += ROSTERS.decode(row).enrollments()
        while len(records) >= RECORDS_PER_PAGE:
            pages.append(_make_enrollments(records[:RECORDS_PER_PAGE], scope))
            del records[:RECORDS_PER_PAGE]
    if records:
        pages.append(_make_enrollments(records, scope))
    return pages


def _make_enrollments(records: list[Record], scope: Scope) -> Page:
    return make_page("enrollments", RawPage(received=len(records), records=records), scope)


def glimpse_users(body: bytes) -> list[tuple[str, frozenset[str]]]:
    """The ids and roles of a page's users, as far as they can be read."""
    glimpsed: list[tuple[str, frozenset[str]]] = []
    for raw in decode_listing(body, "/users").data:
        try:
            found = _GLIMPSED.decode(raw).data
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        glimpsed.append((found.id, frozenset(found.roles or ())))
    return glimpsed


def list_contacts(body: bytes) -> tuple[list[tuple[str, bytes]], list[tuple[str, str]], list[RecordProblem]]:
    """The contacts of a page as JSON, their students, and those that can't be read."""
    page = RawPage()
    contacts: list[tuple[str, bytes]] = []
    links: list[tuple[str, str]] = []
    for found in _rows(body, "users", page):
        try:
            sourced_id = identify(found)
            contacts.append((sourced_id, pack(found)))
        except RecordProblem:
            page.refused.append(RecordProblem(Code.RECORD_INVALID))
            continue
        links += [(student, sourced_id) for student in list_students(found)]
    return contacts, links, page.refused


def list_students(found: Any) -> list[str]:
    """The students a contact names."""
    roles = found.get("roles")
    contact = roles.get("contact") if isinstance(roles, dict) else None
    relations = contact.get("student_relationships") if isinstance(contact, dict) else None
    if not isinstance(relations, list):
        return []
    students = [one.get("student") for one in relations if isinstance(one, dict)]
    return sorted({student for student in students if isinstance(student, str) and student})


def list_schools(found: Any) -> list[tuple[str, str]]:
    """A student's id with each of their schools."""
    roles = found.get("roles")
    student = roles.get("student") if isinstance(roles, dict) else None
    if not isinstance(student, dict) or not isinstance(found.get("id"), str):
        return []
    others = student.get("schools")
    schools = {student.get("school"), *(others if isinstance(others, list) else ())}
    return [(found["id"], school) for school in sorted(one for one in schools if isinstance(one, str) and one)]


def take(page: RawPage, found: Any, read: Callable[[Any], Record | None]) -> None:
    """Add what an object becomes to a page, or why it can't be taken."""
    try:
        record = read(found)
    except RecordProblem as problem:
        sourced_id = found.get("id") if isinstance(found, dict) else None
        problem.sourced_id = problem.sourced_id or (sourced_id if isinstance(sourced_id, str) and sourced_id else None)
        page.refused.append(problem)
        return
    if record is not None:
        page.records.append(record)


def try_roster(found: Any, page: RawPage) -> Roster | None:
    """The people of a section; None, and a note, where they can't be read."""
    try:
        roster = read_roster(found)
    except RecordProblem as problem:
        page.notes.append(RecordProblem(problem.code, field=problem.field))
        return None
    ids = "".join([roster.section, *roster.students, *roster.teachers])
    if page.suspicious and not _is_storable(ids):
        page.notes.append(RecordProblem(Code.BAD_TEXT, field="students"))
        return None
    return roster


def _is_storable(text: str) -> bool:
    return "\0" not in text and text == text.encode("utf-8", "ignore").decode("utf-8")


def _rows(body: bytes, kind: str, page: RawPage) -> Iterator[Any]:
    """The objects of a page; those nobody can read are refused."""
    for raw in decode_listing(body, f"/{kind}").data:
        page.received += 1
        try:
            found, odd = unwrap(raw)
        except RecordProblem as problem:
            page.refused.append(problem)
            continue
        page.suspicious |= odd
        yield found
