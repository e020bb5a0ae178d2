"""Finding people, classes and schools by the beginning of a name, identifier or address, or by the words of a name.

The embedded Postgres has no trigrams, and folding 200,000 people's names for each question takes over a second. So the
texts records are found by stand in a table of their own, folded, every word of a name once at the beginning; an index
finds them in the time their number takes. It is made from the roster by following its steps, which costs a sync
nothing: the worker is a second or two behind, what is made by hand is found at once.

Which fields somebody may search by is decided by the view (migration 0011): a question never finds a person by an
address that would not be shown. Questions hold names, so they are neither logged nor traced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

import asyncpg

from homeroom.db import TRANSIENT, Connection, Database
from homeroom.roster import record_key
from homeroom.telemetry import explain_error, get_logger
from roster_store.sights import Rosters, Sight
from roster_store.tables import SQL, TABLES

Kind = Literal["person", "class", "school"]
Match = Literal["exact", "prefix", "contains"]

SEARCHED: Final = ("orgs", "classes", "users")
EVERY_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 5.0
FIND_SECONDS: Final = 5.0
BATCH: Final = 2_000
BATCH_SECONDS: Final = 60.0
INTEGRATIONS_AT_ONCE: Final = 50

_MATCHES: Final[tuple[Match, ...]] = ("exact", "prefix", "contains")
_KINDS: Final[dict[Kind, tuple[str, str, tuple[str, ...]]]] = {
    "person": (
        "users",
        "",
        (
            "given_name",
            "family_name",
            "preferred_first_name",
            "preferred_last_name",
            "roles",
            "grades",
            "email",
            "username",
            "identifier",
        ),
    ),
    "class": ("classes", "", ("title", "class_code", "school_sourced_id", "grades")),
    "school": ("orgs", "AND seen.type = 'school'", ("name", "identifier")),
}

log = get_logger(__name__)


# ── keeping up with the roster ────────────────────────────────────────────────────────────────────────────────────


class SearchIndex:
    """Follows the rosters until it is told to stop."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, stop: asyncio.Event) -> None:
        """Catch up, wait a moment, and again; go on after whatever may pass by itself."""
        while not stop.is_set():
            pause = EVERY_SECONDS
            try:
                await catch_up(self._database)
            except TRANSIENT as error:
                log.warning("search.interrupted", error=explain_error(error))
                pause = RETRY_SECONDS
            try:
                await asyncio.wait_for(stop.wait(), pause)
            except TimeoutError:
                continue


async def catch_up(database: Database, integration_no: int | None = None) -> None:
    """Take in what changed since the last time, of all integrations or one; safe from several workers at once."""
    while due := await database.fetch(SQL["list_unsearchable"], integration_no, INTEGRATIONS_AT_ONCE):
        taken = [await _follow(database, row["no"]) for row in due]
        if not all(taken):  # another worker is at it
            return


async def _follow(database: Database, integration_no: int) -> bool:
    """Take in the new steps of one integration, in small transactions so that nobody waits; False if another does."""
    async with database.connection() as connection:
        if not await connection.fetchval(SQL["lock_search"], integration_no):
            return False
        try:
            known = await connection.fetchrow(SQL["read_search_progress"], integration_no)
            through, beyond = (0, []) if known is None else (known["through"], known["beyond"])
            steps = await connection.fetch(SQL["list_search_steps"], integration_no, through)
            if known is None:
                await _take_everything(connection, integration_no)
            else:
                for step in steps:
                    if step["no"] not in beyond:
                        await _take_step(connection, integration_no, step["no"])
            settled = [step["no"] for step in steps if step["settled"]]
            through = max(settled, default=through)
            beyond = [step["no"] for step in steps if step["no"] > through]
            await connection.execute(SQL["keep_search_progress"], integration_no, through, beyond)
        finally:
            if not connection.is_closed():
                await connection.fetchval(SQL["unlock_search"], integration_no)
    return True


async def _take_everything(connection: Connection, integration_no: int) -> None:
    for collection in SEARCHED:
        after = ""
        statement = TABLES[collection].sql("list_all_search_rows")
        while rows := await connection.fetch(statement, integration_no, after, BATCH):
            await take_in(connection, integration_no, collection, [row["sourced_id"] for row in rows])
            after = rows[-1]["sourced_id"]


async def _take_step(connection: Connection, integration_no: int, step: int) -> None:
    for collection in SEARCHED:
        after = 0
        statement = TABLES[collection].sql("list_search_rows")
        while rows := await connection.fetch(statement, integration_no, step, after, BATCH):
            await take_in(connection, integration_no, collection, [row["sourced_id"] for row in rows])
            after = rows[-1]["change_no"]


async def take_in(connection: Connection, integration_no: int, collection: str, sourced_ids: Sequence[str]) -> None:
    """Make anew what some records are found by; nothing where they are gone, or of a collection nobody looks for."""
    if collection not in SEARCHED or not sourced_ids:
        return
    table, keys = TABLES[collection], [UUID(bytes=record_key(sourced_id)) for sourced_id in sourced_ids]
    async with connection.transaction():
        forget = table.sql("forget_search_texts")
        await connection.execute(forget, integration_no, keys, collection, timeout=BATCH_SECONDS)
        keep = table.sql("keep_search_texts", collection=collection, texts=SQL[f"texts_of_{collection}"])
        await connection.execute(keep, integration_no, sourced_ids, timeout=BATCH_SECONDS)


async def is_behind(database: Database, sights: Sequence[Sight]) -> bool:
    """Whether some of the newest changes of these integrations can't be found yet."""
    for sight in sights:
        if await database.fetch(SQL["list_unsearchable"], sight.integration_no, 1):
            return True
    return False


# ── finding ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Found:
    """A record that was found, as the sight shows it."""

    kind: Kind
    match: Match
    sight: Sight
    row: asyncpg.Record


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for, in the forms it is compared in."""

    plain: str
    words: str

    @property
    def parts(self) -> list[str]:
        """The single words, the longest first: the fewest texts have it."""
        return sorted(self.words.split(), key=len, reverse=True)

    @property
    def is_long_enough(self) -> bool:
        """Whether there are at least two letters or digits."""
        return sum(character.isalnum() for character in self.plain) > 1


async def fold_question(database: Database, text: str) -> Question:
    """A question without capitals, accents and what else makes no difference."""
    row = await database.fetchrow(SQL["fold_query"], text)
    assert row is not None  # noqa: S101 - the statement always gives a row
    return Question(row["plain"], "" if "@" in row["plain"] else row["words"])  # an address is no name


async def find(
    rosters: Rosters, sights: Iterable[Sight], question: Question, kinds: Sequence[Kind], limit: int
) -> list[Found]:
    """The best matches of all kinds, at most `limit`: exact ones first, then beginnings, then all words contained."""
    found: list[Found] = []
    for sight in sights:
        async with rosters.look(sight) as connection:
            for kind in kinds:
                rows = await _find_kind(connection, kind, question, limit)
                found += [Found(kind, _MATCHES[row["rank"]], sight, row) for row in rows]
    found.sort(key=lambda one: _MATCHES.index(one.match))  # stable: within a rank as each integration gave them
    return found[:limit]


async def _find_kind(connection: Connection, kind: Kind, question: Question, limit: int) -> list[asyncpg.Record]:
    collection, narrowing, names = _KINDS[kind]
    columns = ", ".join(f"held.{name}" for name in ("sourced_id", *names))
    statement = TABLES[collection].sql("find_texts", columns=columns, narrowing=narrowing)
    first, *others = question.parts or [""]
    return await connection.fetch(
        statement, collection, question.words, question.plain, first, others, limit, timeout=FIND_SECONDS
    )
