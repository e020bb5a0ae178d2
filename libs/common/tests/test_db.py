"""homeroom.db and homeroom.migrate."""

import asyncpg
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

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


async def test_work_on_the_database_is_part_of_the_trace(database_url: str) -> None:
    """A transaction within a trace is a span of it, named by what it does and without any value."""
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))

    async def read_person(connection: asyncpg.Connection) -> str:
        return await connection.fetchval("SELECT $1::text", "Xanthippe")

    async with Database.open(database_url, schema="public", size=2) as database:
        await database.transact(read_person)
        with pytest.MonkeyPatch.context() as patch, provider.get_tracer("test").start_as_current_span("request"):
            patch.setattr("homeroom.telemetry._tracer", provider.get_tracer("test"))
            await database.transact(read_person)

    assert [span.name for span in spans.get_finished_spans()] == ["sql read_person", "request"]
    assert "Xanthippe" not in str([span.to_json() for span in spans.get_finished_spans()])


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
