"""The audit log cannot be changed unnoticed: a chain of hashes, verified from one end to the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from homeroom import audit
from homeroom.audit import Mark
from homeroom.db import Database

ROOT = Path(__file__).parents[3]
MIGRATIONS = (
    ROOT / "services/sync-scheduler/src/sync_scheduler/migrations/0008_audit.sql",
    ROOT / "services/roster-store/src/roster_store/migrations/0010_privacy.sql",
    ROOT / "services/sso/src/sso/migrations/0004_connections.sql",
)
TABLE = """
CREATE SCHEMA log;
SET search_path = log;
CREATE TABLE audit_entry (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    organization uuid, product uuid, by text NOT NULL, action text NOT NULL, subject text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}', number bigint UNIQUE, hash bytea);
"""


def read_chain(migration: Path) -> tuple[str, str]:
    """What makes the chain in a migration: how entries are sealed, and how they are guarded and forgotten."""
    text = migration.read_text("utf-8")
    sealing = text[text.index("CREATE FUNCTION hash_audit") : text.index("    RETURN NULL;\nEND $$;")]
    guarding = text[text.index("CREATE CONSTRAINT TRIGGER audit_sealed") : text.index("    RETURN gone;\nEND $$;")]
    return sealing, guarding


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A schema with nothing but an audit log, as the services make theirs."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(TABLE)
    text = MIGRATIONS[1].read_text("utf-8")
    begin, end = text.index("CREATE FUNCTION hash_audit"), text.index("-- ── erasure")
    await connection.execute(text[begin:end])
    await connection.close()
    async with Database.open(database_url, schema="log", size=4) as database:
        yield database


async def note(database: Database, *subjects: str) -> None:
    """Write entries, each in a transaction of its own."""
    for subject in subjects:
        await database.transact(
            lambda connection, one=subject: audit.note(  # type: ignore[misc]  # the default binds it to this round
                connection, by="ada", action="thing.do", organization=None, subject=one, detail={"ä": [1, None]}
            )
        )


async def tamper(database: Database, statement: str) -> None:
    """What somebody does who may do everything with the database."""
    async with database.connection() as connection:
        for verb in ("DISABLE", "ENABLE"):
            for table in ("audit_entry", "audit_chain"):
                await connection.execute(f"ALTER TABLE {table} {verb} TRIGGER USER")
            if verb == "DISABLE":
                await connection.execute(statement)


async def test_verification_names_the_first_broken_entry(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flipped byte, an entry taken out, put in or cut off at the end: each is found, and where it is (X15)."""
    monkeypatch.setattr(audit, "WALK_ENTRIES", 2)
    await note(database, *(f"thing:{number}" for number in range(1, 6)))
    well = await audit.verify(database)
    keep = "CREATE TABLE kept AS SELECT * FROM audit_entry; CREATE TABLE ends AS SELECT * FROM audit_chain"
    await tamper(database, keep)
    broken = {}
    for name, statement in {
        "changed": "UPDATE audit_entry SET by = 'adb' WHERE number = 3",
        "later": "UPDATE audit_entry SET at = at + interval '1 microsecond' WHERE number = 4",
        "taken out": "DELETE FROM audit_entry WHERE number = 2",
        "cut off": "DELETE FROM audit_entry WHERE number = 5",
        "first": "DELETE FROM audit_entry WHERE number = 1",
        "hash": "UPDATE audit_entry SET hash = sha256('x') WHERE number = 5",
        "emptied": "DELETE FROM audit_entry",
    }.items():
        await tamper(database, statement)
        broken[name] = (await audit.verify(database)).first_broken
        again = "DELETE FROM audit_entry; INSERT INTO audit_entry OVERRIDING SYSTEM VALUE SELECT * FROM kept"
        async with database.connection() as connection:
            await connection.execute(f"SET session_replication_role = replica; {again}; RESET session_replication_role")

    assert (well.entries, well.first_broken, well.newest.number) == (5, None, 5)
    assert broken == {"changed": 3, "later": 4, "taken out": 2, "cut off": 5, "first": 1, "hash": 5, "emptied": 1}
    assert (await audit.verify(database)).first_broken is None


async def test_who_remembers_an_end_finds_a_chain_made_anew(database: Database) -> None:
    """A whole chain that was written again fits in itself, and not with what somebody noted down before."""
    await note(database, "thing:1", "thing:2")
    known = (await audit.verify(database)).newest
    await tamper(database, "DELETE FROM audit_entry; UPDATE audit_chain SET newest = 0, newest_hash = sha256('')")
    await note(database, "thing:1", "thing:9", "thing:3")

    assert (await audit.verify(database)).first_broken is None
    assert (await audit.verify(database, known=known)).first_broken == 2
    assert (await audit.verify(database, known=Mark(99, "00"))).first_broken == 99


async def test_what_is_forgotten_leaves_a_whole_chain(database: Database) -> None:
    """Retention forgets from the old end only and nothing young, and the rest verifies; nothing else may delete."""
    await note(database, *(f"thing:{number}" for number in range(1, 5)))
    known = (await audit.verify(database)).newest
    await tamper(database, "UPDATE audit_entry SET at = at - interval '40 days' WHERE number IN (1, 2, 4)")
    too_young = await database.transact(lambda connection: audit.forget(connection, 41))
    forgotten = await database.transact(lambda connection: audit.forget(connection, 0))
    for refused in (
        "UPDATE audit_entry SET by = 'eve'",
        "DELETE FROM audit_entry",
        "TRUNCATE audit_entry",
        "DELETE FROM audit_chain",
        "UPDATE audit_chain SET forgotten = 3, forgotten_hash = (SELECT hash FROM audit_entry WHERE number = 3)",
        "INSERT INTO audit_entry (by, action, subject, number, hash) VALUES ('eve', 'a', 's', 9, sha256('x'))",
    ):
        with pytest.raises(asyncpg.RaiseError, match=r"only ever added to|older than 30 days"):
            await database.fetch(refused)
    await tamper(database, "UPDATE audit_entry SET at = at + interval '40 days' WHERE number = 4")
    verdict = await audit.verify(database, known=known)

    assert (too_young, forgotten) == (0, 2)
    assert (verdict.entries, verdict.first_broken, verdict.forgotten) == (2, None, 2)
    assert (await audit.verify(database, known=Mark(1, "00"))).first_broken is None


async def test_many_at_once_make_one_chain(database: Database) -> None:
    """Entries of transactions that run beside each other, with some that fail, are numbered without a gap."""

    async def fail() -> None:
        async with database.transaction() as connection:
            await audit.note(connection, by="ada", action="thing.do", organization=None, subject="thing:0")
            raise LookupError

    tasks = [note(database, f"thing:{number}", f"thing:{number}b") for number in range(8)]
    await asyncio.gather(*tasks, *(fail() for _ in range(4)), return_exceptions=True)
    verdict = await audit.verify(database)

    assert (verdict.entries, verdict.first_broken, verdict.newest.number) == (16, None, 16)


def test_every_service_has_the_same_chain() -> None:
    """The functions and triggers that keep the chain are the same in every service that has an audit."""
    assert read_chain(MIGRATIONS[0]) == read_chain(MIGRATIONS[1])
