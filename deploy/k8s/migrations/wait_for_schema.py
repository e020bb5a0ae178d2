"""Waits until a service's schema holds every migration this image knows. Runs before the service in its Pods.

`python wait_for_schema.py SERVICE` ends with 0 once it does and with 1 after ten minutes, to be started again.
Migrations this image does not know are none of its business: Pods of the version before go on while a newer one
is rolled out.
"""

# ruff: noqa: INP001 - a script that is run, not part of a package
from __future__ import annotations

import asyncio
import importlib
import sys
import time

import asyncpg

from homeroom.db import TRANSIENT
from homeroom.migrate import load_migrations
from homeroom.settings import Settings

PATIENCE_SECONDS = 600.0
PAUSE_SECONDS = 2.0
ANSWER_SECONDS = 10.0


async def find_missing(url: str, package: str, schema: str) -> list[str]:
    """The names of migrations that are not applied yet. Raises what a database that is away is known by."""
    connection = await asyncpg.connect(url, timeout=ANSWER_SECONDS, command_timeout=ANSWER_SECONDS)
    try:
        there = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{schema}.migration")
        # The schema is a constant of the service, not somebody's input.
        rows = await connection.fetch(f'SELECT name FROM "{schema}".migration') if there else []  # noqa: S608 - see above
    finally:
        await connection.close(timeout=ANSWER_SECONDS)
    applied = {row["name"] for row in rows}
    return [migration.name for migration in load_migrations(package) if migration.name not in applied]


async def wait(url: str, package: str, schema: str, patience: float = PATIENCE_SECONDS) -> bool:
    """Whether the schema was complete in time; says what is waited for whenever that changes."""
    deadline = time.monotonic() + patience
    said = ""
    while True:
        try:
            missing = await find_missing(url, package, schema)
            waiting_for = f"{len(missing)} migrations, the first is {missing[0]}" if missing else ""
        except TRANSIENT as error:
            missing, waiting_for = [""], f"the database ({type(error).__name__})"
        if not missing:
            return True
        if waiting_for != said:
            said = waiting_for
            sys.stdout.write(f"the schema {schema} waits for {waiting_for}\n")
            sys.stdout.flush()
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    _package = sys.argv[1].replace("-", "_")
    _schema = importlib.import_module(f"{_package}.app").SCHEMA
    _url = Settings.load().database_url.get_secret_value()
    sys.exit(0 if asyncio.run(wait(_url, _package, _schema)) else 1)
