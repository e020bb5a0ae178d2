"""Records → rows of Canvas' SIS import files (pure; Canvas, "SIS Import Format").

Ids are the records' own, so they are the same in every set. Nobody and nothing is ever deleted: people who left are
`suspended`, enrollments that were removed `inactive` or, once their time is over, `completed`, classes that are over
or gone `completed`. What ends on a day ended when that day began: OneRoster's ends are exclusive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Final
from zoneinfo import ZoneInfo

from homeroom.grants import GUARDIAN_ROLES
from roster_store.archives import Row
from roster_store.csv_export.cells import find_primary, write_text

Record = Any
"""A row of the database, read by column."""

HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "accounts": ("account_id", "parent_account_id", "name", "status"),
    "terms": ("term_id", "name", "status", "start_date", "end_date"),
    "courses": (
        "course_id", "short_name", "long_name", "account_id", "term_id", "status", "start_date", "end_date",
    ),
    "sections": ("section_id", "course_id", "name", "status", "start_date", "end_date"),
    "users": (
        "user_id", "login_id", "first_name", "last_name", "short_name", "email", "declared_user_type", "status",
    ),
    "enrollments": ("section_id", "user_id", "role", "status", "start_date", "end_date"),
    "user_observers": ("observer_id", "student_id", "status"),
}  # fmt: skip
"""Canvas takes columns in any order; these are all that are sent, parents before children."""
ROLES: Final[Mapping[str, str]] = {"student": "student", "teacher": "teacher", "aide": "ta"}
"""Roles of enrollments that Canvas has a word for; others are left out."""
_USER_TYPES: Final = {
    "student": "student",
    "teacher": "teacher",
    **dict.fromkeys(GUARDIAN_ROLES, "observer"),
    **dict.fromkeys(
        ("administrator", "districtAdministrator", "siteAdministrator", "systemAdministrator"), "administrative"
    ),
}
_ROOTS: Final = frozenset({"district", "state", "national"})
"""Orgs that stand for the whole: the root account itself, not a part of it."""
DELETE: Final = "<delete>"
"""Takes a course's date away; an empty cell would leave it."""
ACTIVE, COMPLETED, INACTIVE, SUSPENDED = "active", "completed", "inactive", "suspended"
_STANDING: Final = {ACTIVE: 0, INACTIVE: 1, COMPLETED: 2}


# ── accounts and terms ────────────────────────────────────────────────────────────────────────────────────────────


def place_accounts(orgs: Iterable[Record]) -> dict[str, str]:
    """Which account each org is; the root account's is blank, and so is that of an org nobody knows.

    Args:
        orgs: with `sourced_id`, `type` and `parent_sourced_id`.
    """
    return {org["sourced_id"]: "" if _is_root(org) else org["sourced_id"] for org in orgs}


def list_accounts(orgs: Sequence[Record]) -> list[Row]:
    """Rows of accounts.csv, parents before children; a circle of parents is cut where it is first met."""
    known = {org["sourced_id"]: org for org in orgs}
    rows: list[Row] = []
    done: set[str] = set()
    written: set[str] = set()
    for org in orgs:
        line: list[Record] = []
        above: Record | None = org
        while above is not None and above["sourced_id"] not in done and not _is_root(above):
            done.add(above["sourced_id"])
            line.append(above)
            above = known.get(above["parent_sourced_id"] or "")
        for one in reversed(line):
            parent = one["parent_sourced_id"] or ""
            rows.append((one["sourced_id"], parent if parent in written else "", write_text(one["name"]), ACTIVE))
            written.add(one["sourced_id"])
    return rows


def _is_root(org: Record) -> bool:
    return org["type"] in _ROOTS


@dataclass(frozen=True, slots=True)
class Term:
    """When a class meets: the term it is filed under, and from when to when if that is not the term's own time."""

    term_id: str = ""
    """Blank for Canvas' default term."""
    begin: date | None = None
    end: date | None = None
    """Exclusive."""
    own_dates: bool = False
    """Whether begin and end differ from the term's, since it meets in several."""

    def is_over(self, today: date) -> bool:
        """Whether its time has passed."""
        return self.end is not None and self.end <= today


class Calendar:
    """The academic sessions of a roster, which are few."""

    def __init__(self, sessions: Iterable[Record], zone: str, today: date) -> None:
        """Take the sessions, the time zone their days are of, and what day it is there."""
        self._sessions = {session["sourced_id"]: session for session in sessions}
        self._zone = ZoneInfo(zone)
        self.today = today

    def find_term(self, sourced_ids: Collection[str]) -> Term:
        """The term for a class that meets in these: its only one, what they all are parts of, or else the first."""
        met = sorted(
            (session for one in set(sourced_ids) if (session := self._sessions.get(one))),
            key=lambda session: (session["start_date"], session["end_date"], session["sourced_id"]),
        )
        if not met:
            return Term()
        begin = min(session["start_date"] for session in met)
        end = max(session["end_date"] for session in met)
        parents = {session["parent_sourced_id"] for session in met}
        chosen = met[0]["sourced_id"]
        if len(met) > 1 and len(parents) == 1 and (parent := parents.pop()) in self._sessions:
            chosen = parent
        return Term(chosen, begin, end, own_dates=len(met) > 1)

    def list_terms(self, used: Collection[str]) -> list[Row]:
        """Rows of terms.csv for the terms that are used."""
        return [
            (one, write_text(session["title"]), ACTIVE, *map(self.stamp, (session["start_date"], session["end_date"])))
            for one, session in sorted(self._sessions.items())
            if one in used
        ]

    def stamp(self, day: date | None) -> str:
        """The moment a day begins, as `2026-08-20T05:00:00Z`; blank without one."""
        if day is None:
            return ""
        begins = datetime.combine(day, time(), self._zone).astimezone(UTC)
        return begins.strftime("%Y-%m-%dT%H:%M:%SZ") if begins.year >= 1000 else ""  # noqa: PLR2004 - ISO 8601 wants four digits


# ── courses and sections ──────────────────────────────────────────────────────────────────────────────────────────


def name_shared_course(course: str, school: str, term: str) -> str:
    """The id of the Canvas course that classes of a course, a school and a term share."""
    return "course-" + hashlib.sha256(f"{course}\0{school}\0{term}".encode()).hexdigest()[:32]


def find_course(record: Record, term: Term, *, shared: bool) -> str:
    """The Canvas course a class belongs to: its own, or the one it shares with others."""
    if shared and record["course_sourced_id"] and record["course_title"] and term.term_id:
        return name_shared_course(record["course_sourced_id"], record["school_sourced_id"], term.term_id)
    own: str = record["sourced_id"]
    return own


class CourseRows:
    """Makes rows of courses.csv; classes come ordered by course and school, so that those sharing one are together."""

    def __init__(self, calendar: Calendar, accounts: Mapping[str, str], *, shared: bool) -> None:
        self._calendar, self._accounts, self._shared = calendar, accounts, shared
        self._group: tuple[str | None, str | None] = (None, None)
        self._met: dict[str, tuple[Row, bool]] = {}
        self.active = 0
        """Rows that stand for something the roster holds."""

    def render(self, records: Sequence[Record]) -> Iterator[Row]:
        """The rows that are known to be whole."""
        for record in records:
            group = (record["course_sourced_id"], record["school_sourced_id"])
            if group != self._group:
                yield from self.finish()
                self._group = group
            term = self._calendar.find_term(record["term_sourced_ids"])
            course_id = find_course(record, term, shared=self._shared)
            row, alive = self._make(record, term, course_id), bool(record["active"])
            if course_id == record["sourced_id"]:
                self.active += alive
                yield row
                continue
            known, stands = self._met.get(course_id, (row, False))
            self._met[course_id] = (row if row[5] == ACTIVE else known, stands or alive)

    def finish(self) -> Iterator[Row]:
        """The rest."""
        met, self._met = self._met, {}
        for row, alive in met.values():
            self.active += alive
            yield row

    def _make(self, record: Record, term: Term, course_id: str) -> Row:
        own = course_id == record["sourced_id"]
        code, title = (
            (record["class_code"], record["title"]) if own else (record["course_code"], record["course_title"])
        )
        status = ACTIVE if record["active"] and not term.is_over(self._calendar.today) else COMPLETED
        dates = (DELETE, DELETE)
        if own and term.own_dates:
            dates = (self._calendar.stamp(term.begin), self._calendar.stamp(term.end))
        title = write_text(title)
        account = self._accounts.get(record["school_sourced_id"], "")
        return (course_id, write_text(code) or title, title, account, term.term_id, status, *dates)


def list_sections(records: Iterable[Record], calendar: Calendar, *, shared: bool) -> Iterator[Row]:
    """Rows of sections.csv: one a class. A class that is gone keeps its section, whose course is completed."""
    for record in records:
        term = calendar.find_term(record["term_sourced_ids"])
        dates = (calendar.stamp(term.begin), calendar.stamp(term.end)) if term.own_dates and shared else ("", "")
        course_id = find_course(record, term, shared=shared)
        yield (record["sourced_id"], course_id, write_text(record["title"]), ACTIVE, *dates)


# ── people ────────────────────────────────────────────────────────────────────────────────────────────────────────


def list_users(records: Iterable[Record]) -> Iterator[Row]:
    """Rows of users.csv. Who left or may not sign in is suspended, never deleted."""
    for record in records:
        primary = find_primary(record["roles"])
        given, family = write_text(record["given_name"]), write_text(record["family_name"])
        shown = (
            write_text(record["preferred_first_name"]) or given,
            write_text(record["preferred_last_name"]) or family,
        )
        yield (
            record["sourced_id"],
            write_text(record["login"]),
            given,
            family,
            " ".join(filter(None, shown)),
            write_text(record["email"]),
            _USER_TYPES.get(primary["role"], "staff") if primary else "",
            ACTIVE if record["active"] and record["enabled_user"] else SUSPENDED,
        )


class EnrollmentRows:
    """Makes rows of enrollments.csv; records come ordered by section, person and role.

    Canvas has one enrollment where OneRoster may have several after each other: the one that counts most is sent.
    """

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self._pending: Row | None = None
        self._present = False
        self.active = 0
        """Rows that stand for something the roster holds."""

    def render(self, records: Sequence[Record]) -> Iterator[Row]:
        """The rows that are known to be whole."""
        for record in records:
            role = ROLES.get(record["role"])
            if role is None:
                continue
            row = self._make(record, role)
            if self._pending is not None and self._pending[:3] == row[:3]:
                self._present = self._present or record["active"]
                if _STANDING[str(row[3])] < _STANDING[str(self._pending[3])]:
                    self._pending = row
                continue
            yield from self.finish()
            self._pending, self._present = row, record["active"]

    def finish(self) -> Iterator[Row]:
        """The last one."""
        if self._pending is not None:
            self.active += self._present
            yield self._pending
        self._pending, self._present = None, False

    def _make(self, record: Record, role: str) -> Row:
        begin, end, today = record["begin_date"], record["end_date"], self._calendar.today
        term = self._calendar.find_term(record["term_sourced_ids"])
        dated = begin is not None and end is not None and begin < end
        if (end is not None and end <= today) or term.is_over(today):
            status = COMPLETED
        elif not (record["active"] and record["class_active"]) or (begin is not None and begin > today and not dated):
            status = INACTIVE
        else:
            status = ACTIVE
        # Canvas heeds dates only where there are both.
        dates = (self._calendar.stamp(begin), self._calendar.stamp(end)) if dated else ("", "")
        return (record["class_sourced_id"], record["user_sourced_id"], role, status, *dates)


def list_observers(records: Iterable[Record]) -> Iterator[Row]:
    """Rows of user_observers.csv."""
    for record in records:
        yield (record["observer_id"], record["student_id"], ACTIVE)
