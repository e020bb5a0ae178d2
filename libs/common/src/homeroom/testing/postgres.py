"""Pytest fixtures: a real Postgres for every test that stores anything.

`HOMEROOM_TEST_DATABASE_URL` names a server of your own; otherwise one is started from the wheel, once a session.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from homeroom.embedded import EmbeddedPostgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """An embedded server that lives as long as the test session."""
    folder = Path(tempfile.mkdtemp(prefix="homeroom-pg-"))
    server = EmbeddedPostgres(folder / "data", {"max_wal_size": "1GB"})
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def database_url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The address of a fresh, empty database; dropped afterwards."""
    async with fresh_database(request) as url:
        yield url


@asynccontextmanager
async def fresh_database(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The same for as long as the block, for fixtures that last longer than a test."""
    name = f"test_{uuid.uuid4().hex}"
    if own := os.environ.get("HOMEROOM_TEST_DATABASE_URL"):
        admin, url = own, urlunsplit(urlsplit(own)._replace(path=f"/{name}"))
    else:
        server: EmbeddedPostgres = request.getfixturevalue("postgres")
        admin, url = server.url(), server.url(name)
    await _execute(admin, f'CREATE DATABASE "{name}"')
    try:
        yield url
    finally:
        await _execute(admin, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, timeout=30)
    try:
        await connection.execute(statement)
    finally:
        await connection.close(timeout=10)
