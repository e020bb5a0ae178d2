"""roles.csv of OneRoster 1.2: collected on disk, and found again by user.

A user's roles may stand anywhere in the file, and a district's are too many to keep in memory. So they go into a small
SQLite database in the fetch's own directory, which every reading process looks things up in.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from provider_gateway.failures import RecordProblem
from provider_gateway.providers._csv_blocks import cut_blocks
from provider_gateway.providers._csv_headers import Layout
from provider_gateway.providers._csv_lines import read_lines
from provider_gateway.providers._csv_package import Package
from provider_gateway.providers._oneroster_records import is_gone
from provider_gateway.providers._oneroster_shapes import Ref, RoleRow

_AT_ONCE: Final = 500
_WAIT_SECONDS: Final = 30.0
_DAMAGED: Final = "?"
"""Stands for the role of a row that could not be read although its user could."""


class Collected(NamedTuple):
    """What a roles.csv came to."""

    rows: int
    unread: int
    """Rows of which not even the user is known."""


def collect_roles(package: Package, layout: Layout, into: Path) -> Collected:
    """Put every role of the set into a database; runs in whichever process there is.

    Raises `ProviderError` CSV_ENCODING, and what reading a package raises.
    """
    user_at = layout.find("userSourcedId")
    rows = unread = 0
    with closing(sqlite3.connect(into, timeout=_WAIT_SECONDS)) as database, database, package.open("roles") as stream:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute("CREATE TABLE roles (user, role, type, org, begins, ends)")
        for block in cut_blocks(stream, skip_first=True):
            lines = read_lines(layout, block, user_at)
            rows += lines.received
            database.executemany("INSERT INTO roles VALUES (?, ?, ?, ?, ?, ?)", _list_roles(layout, lines.rows))
            known = [problem.sourced_id for problem in lines.refused if problem.sourced_id]
            unread += len(lines.refused) - len(known)
            database.executemany("INSERT INTO roles (user, role) VALUES (?, ?)", [(one, _DAMAGED) for one in known])
        database.execute("CREATE INDEX roles_by_user ON roles (user)")
    return Collected(rows, unread)


def _list_roles(layout: Layout, rows: Sequence[Sequence[str]]) -> Iterator[tuple[str | None, ...]]:
    names = ("userSourcedId", "role", "roleType", "orgSourcedId", "beginDate", "endDate", "status")
    user, *others, status = [layout.find(name) for name in names]
    for row in rows:
        if user is None or (status is not None and _is_gone(row[status])):
            continue
        yield (row[user], *(None if at is None else row[at] for at in others))


def _is_gone(status: str) -> bool:
    try:
        return is_gone(status)
    except RecordProblem:
        return False


def find_roles(database: Path, users: Sequence[str]) -> dict[str, list[RoleRow]]:
    """The roles of some users in the order of the file; a user without any is left out."""
    found: dict[str, list[RoleRow]] = {}
    with closing(
        sqlite3.connect(f"{database.as_uri()}?mode=ro&immutable=1", uri=True, timeout=_WAIT_SECONDS)
    ) as reader:
        for start in range(0, len(users), _AT_ONCE):
            some = users[start : start + _AT_ONCE]
            places = ",".join("?" * len(some))
            query = f"SELECT user, role, type, org, begins, ends FROM roles WHERE user IN ({places}) ORDER BY rowid"  # noqa: S608 - only question marks
            for user, role, kind, org, begins, ends in reader.execute(query, some):
                found.setdefault(user, []).append(RoleRow(role, kind, Ref(org) if org else None, begins, ends))
    return found
