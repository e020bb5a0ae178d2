"""Who did what: a line beside everything a person or a product decides, in the same transaction and never changed.

Each service keeps its own, in the table `audit_entry` of its schema. An action is `thing.verb` (`run.approve`), a
subject `thing:id` (`run:0190…`). Details are ids of ours, codes and settings: no personal data and no secrets.

When a transaction commits, the database numbers its entries and seals each with a hash over the entry and the hash of
the one before (a chain). Nothing can be changed, taken out or put in between without every later hash being wrong;
`verify` finds where. Somebody who may replace the whole chain can only be found out by who remembers an older end of
it, so `verify` takes one as well. What retention forgets leaves its last number and hash, and the rest still fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg

from homeroom.db import Connection, Database, load_statements

SQL: Final = load_statements("homeroom")

WALK_ENTRIES: Final = 5_000
WALK_SECONDS: Final = 60.0
FORGET_ENTRIES: Final = 5_000
LEAST_DAYS: Final = 30
"""No entry younger than this is ever forgotten; the database refuses it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """An entry's place in the chain, and its hash in hexadecimal: whoever keeps it can prove what stood before it."""

    number: int
    hash: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of walking the chain."""

    entries: int
    """How many were looked at."""
    first_broken: int | None
    """The number of the first entry that is missing or is not as it was written; None if all is well."""
    newest: Mark
    """The end of the chain, to be kept outside."""
    forgotten: int
    """The number of the last entry that retention has forgotten; 0 for none."""


async def note(
    connection: Connection,
    *,
    by: str,
    action: str,
    organization: UUID | None,
    subject: str,
    product: UUID | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write down what was done; it stands if the transaction does.

    Args:
        connection: in the transaction of what is written down.
        by: the subject of the caller's token, or a name of ours.
        action: what was done, as `thing.verb`.
        organization: the district it concerns; None for none, or all.
        subject: what it was done to, as `thing:id`, with an id of ours: a sourcedId may be a person's number.
        product: the product whose token it was done with, or that it concerns.
        detail: ids, codes and settings.
    """
    await connection.execute(SQL["add_audit"], organization, product, by, action, subject, dict(detail or {}))


async def list_entries(
    database: Database, *, organization: UUID | None, subject: str | None, before: int, limit: int
) -> list[asyncpg.Record]:
    """Entries with numbers below `before`, newest first; of one organization or subject if that is named."""
    return await database.fetch(SQL["list_audit"], organization, subject, before, limit)


async def verify(database: Database, *, known: Mark | None = None) -> Verdict:
    """Walk the whole chain, some thousand entries at a time, and say where it is broken first.

    `known` is an end of the chain as it was told before: it is broken there, too, if that entry is another now. A mark
    that retention has forgotten meanwhile proves nothing and is let go by.
    """
    async with (
        database.connection() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        chain = await connection.fetchrow(SQL["read_audit_chain"])
        assert chain is not None  # noqa: S101 - the migration puts its one row there, nothing takes it away
        number, last, entries = chain["forgotten"], chain["forgotten_hash"], 0
        broken: int | None = None
        while broken is None:
            page = await connection.fetchrow(SQL["walk_audit"], number, last, WALK_ENTRIES, timeout=WALK_SECONDS)
            assert page is not None  # noqa: S101 - an aggregate always gives a row
            if not page["entries"]:
                break
            entries += page["entries"]
            number, last, broken = page["number"], page["hash"], page["broken"]
        if broken is None and (number, last) != (chain["newest"], chain["newest_hash"]):
            broken = min(number + 1, chain["newest"])  # the newest entries were cut off
        if known is not None and await _differs(connection, known, chain):
            broken = known.number if broken is None else min(broken, known.number)
        newest = Mark(chain["newest"], bytes(chain["newest_hash"]).hex())
    return Verdict(entries, broken, newest, chain["forgotten"])


async def _differs(connection: Connection, known: Mark, chain: asyncpg.Record) -> bool:
    if known.number < chain["forgotten"] or known.number == 0:
        return False
    if known.number == chain["forgotten"]:
        return bool(chain["forgotten_hash"].hex() != known.hash)
    found: bytes | None = await connection.fetchval(SQL["find_audit_hash"], known.number)
    return found is None or found.hex() != known.hash


async def forget(connection: Connection, days: float) -> int:
    """Forget a batch of entries older than so many days, oldest first; returns how many."""
    forgotten: int = await connection.fetchval(SQL["forget_audit"], max(days, LEAST_DAYS) * 86_400.0, FORGET_ENTRIES)
    return forgotten
