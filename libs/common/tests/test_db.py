"""homeroom.db and homeroom.migrate."""

import asyncpg
import pytest

from homeroom.db import Database
from homeroom.embedded import EmbeddedPostgres


async def test_transactions_are_repeated_whole(database_url: str) -> None:
    """A unit of work that loses its connection runs again from its first statement."""
    async with Database.open(database_url, schema="public", size=2) as database:
        await database.fetch("CREATE TABLE entry (n int)")
        tries = 0

        async def work(connection: asyncpg.Connection) -> None:
            nonlocal tries
            tries += 1
            await connection.execute("INSERT INTO entry VALUES (1)")
            if tries == 1:
                await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

        await database.transact(work)

        assert tries == 2
        assert await database.fetchval("SELECT count(*) FROM entry") == 1


@pytest.mark.usefixtures("database_url")
async def test_server_survives_a_crash(postgres: EmbeddedPostgres) -> None:
    """After kill -9 of Postgres the same pool goes on once the server is back."""
    url = await postgres.create_database("crash")
    async with Database.open(url, schema="public", size=2) as database:
        await database.fetch("CREATE TABLE IF NOT EXISTS entry (n int)")
        postgres.kill()
        postgres.restart()

        async def work(connection: asyncpg.Connection) -> None:
            await connection.execute("INSERT INTO entry VALUES (1)")

        await database.transact(work)
        assert await database.fetchval("SELECT count(*) FROM entry") >= 1
