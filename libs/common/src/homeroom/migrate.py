"""Forward-only SQL migrations, run by each service for its own schema under a lock.

Files are `NNNN_name.sql` in the package's `migrations` folder; each is applied once, in order, in a transaction
of its own, and its checksum is kept: a file that was applied must never be edited, only followed by another.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_LOCK_SECONDS = 60


class MigrationError(Exception):
    """The migrations on disk and those applied do not fit together; the text says which."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration file."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations(package: str) -> list[Migration]:
    """The migrations of a package in order. Raises MigrationError for odd names, gaps and doubles."""
    found = []
    for entry in files(package).joinpath("migrations").iterdir():
        if not entry.name.endswith(".sql"):
            continue
        if not (match := _NAME.match(entry.name)):
            msg = f"{package}/migrations/{entry.name} is not named NNNN_name.sql"
            raise MigrationError(msg)
        found.append(Migration(int(match[1]), entry.name, entry.read_text("utf-8")))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        msg = f"{package}/migrations must be numbered 0001, 0002, ... without gap or double"
        raise MigrationError(msg)
    return found


async def migrate(url: str, *, schema: str, package: str) -> list[str]:
    """Bring `schema` up to date and return the names applied now; safe to run from several places at once."""
    migrations = load_migrations(package)
    connection = await asyncpg.connect(url, timeout=10, command_timeout=600)
    try:
        await connection.execute(f"SET lock_timeout = '{_LOCK_SECONDS}s'")
        await connection.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", f"migrate:{schema}")
        await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        await connection.execute(f'SET search_path = "{schema}", public')
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migration (number int PRIMARY KEY, name text NOT NULL,"
            " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = {row["number"]: row for row in await connection.fetch("SELECT * FROM migration")}
        for migration in migrations:
            if (known := applied.get(migration.number)) and known["checksum"] != migration.checksum:
                msg = f"{migration.name} was edited after it was applied; add a new migration instead"
                raise MigrationError(msg)
        if unknown := sorted(set(applied) - {migration.number for migration in migrations}):
            msg = f"the schema {schema} was migrated by newer code (migrations {unknown}); run that code"
            raise MigrationError(msg)
        done = []
        for migration in migrations:
            if migration.number in applied:
                continue
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO migration (number, name, checksum) VALUES ($1, $2, $3)",
                    migration.number,
                    migration.name,
                    migration.checksum,
                )
            done.append(migration.name)
        return done
    finally:
        await connection.close(timeout=10)
