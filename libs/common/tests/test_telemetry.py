"""homeroom.telemetry."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import httpx2
import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from homeroom.bus import Message
from homeroom.telemetry import explain_error, inject_headers, mask, refuse_personal, span_from

CANARIES = ("Xanthippe", "xan@example.org", "s3cr3t-canary", "2011-02-03", "canary-id-77")

SERVICE = """
    import logging, sys
    from fastapi import APIRouter
    from homeroom.service import create_app, run_api
    from homeroom.settings import Settings
    from homeroom.telemetry import get_logger, traced_sql

    log = get_logger("canary")
    router = APIRouter()

    @router.get("/people/{person_id}")
    async def person(person_id: str) -> str:
        log.info("seen", name="Xanthippe", givenName="Xanthippe", email="xan@example.org", birth_date="2011-02-03",
                 record={"familyName": "Xanthippe"}, nested=[{"password": "s3cr3t-canary", "count": 3}],
                 why="mail to xan@example.org failed", url="https://user:s3cr3t-canary@sis.example/?q=Xanthippe")
        logging.getLogger("library").warning("GET https://sis.example/users?filter=Xanthippe as %s", "xan@example.org",
                                             extra={"token": "s3cr3t-canary"})
        with traced_sql("find_person"):
            raise ValueError("no date: 2011-02-03")

    async def open_parts(app, parts):
        pass

    settings = Settings.load()
    run_api(create_app(name="canary", title="-", settings=settings, routers=[router], open_parts=open_parts), settings)
"""


async def test_nothing_personal_leaves_a_service(tmp_path: Path) -> None:
    """Names, addresses, dates of birth, secrets and ids in paths reach neither logs nor exported traces."""
    exported = bytearray()

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.lower().splitlines() if b"content-length" in line)
        exported.extend(head + await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    collector = await asyncio.start_server(collect, "127.0.0.1", 0)
    port_file = tmp_path / "port"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        textwrap.dedent(SERVICE),
        env=os.environ
        | {
            "HOMEROOM_DATABASE_URL": "postgresql://homeroom:s3cr3t-canary@db/x",
            "HOMEROOM_ISSUER": "http://issuer.test",
            "HOMEROOM_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.sockets[0].getsockname()[1]}",
            "HOMEROOM_PORT_FILE": str(port_file),
        },
        stderr=subprocess.PIPE,
    )
    async with collector, asyncio.timeout(60):
        while not port_file.exists():
            assert process.returncode is None
            await asyncio.sleep(0.05)
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port_file.read_text().strip()}") as client:
            answer = await client.get(
                "/people/canary-id-77",
                params={"filter": "givenName='Xanthippe'"},
                headers={"Authorization": "Bearer s3cr3t-canary", "User-Agent": "Xanthippe"},
            )
        process.send_signal(signal.SIGTERM)
        _, logged = await process.communicate()

    assert answer.status_code == 500
    assert process.returncode == 0
    lines = [msgspec.json.decode(line) for line in logged.splitlines()]
    assert {"seen", "a request failed", "request"} <= {line["event"] for line in lines}
    assert len({line["trace_id"] for line in lines if "request_id" in line}) == 1
    assert b"/people/{person_id}" in exported
    assert b"sql find_person" in exported
    everything = logged + bytes(exported) + answer.content
    assert [canary for canary in CANARIES if canary.encode() in everything] == []


def test_what_is_refused_is_named() -> None:
    """Whoever logs a refused key sees that it was dropped, at any depth and in any spelling."""
    event = refuse_personal(None, "info", {"event": "x", "familyName": "X", "inner": {"Set-Cookie": "y", "count": 1}})

    assert event == {"event": "x", "inner": {"count": 1}, "refused": ["Set-Cookie", "familyName"]}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("mail to ann.b+c@school.example today", "mail to [mail] today"),
        ("Authorization: Bearer abc.def.ghi-123", "Authorization: [bearer]"),
        ("postgresql://user:pass@host/db", "postgresql://[login]@host/db"),
        ("GET /users?filter=givenName='Ann' failed", "GET /users?[query]'Ann' failed"),
        ("run 7 took 3.5 s at 2026-09-01T10:00:00Z", "run 7 took 3.5 s at 2026-09-01T10:00:00Z"),
    ],
)
def test_free_text_is_masked(text: str, masked: str) -> None:
    """Addresses, tokens, passwords and queries are taken out of free text, and the rest stays readable."""
    assert mask(text) == masked


async def test_database_errors_are_told_without_their_row(database_url: str) -> None:
    """Postgres quotes the row it refuses; the log gets the constraint and not the row."""
    connection = await asyncpg.connect(database_url, timeout=10)
    try:
        await connection.execute("CREATE TABLE person (email text CONSTRAINT one_mail UNIQUE)")
        await connection.execute("INSERT INTO person VALUES ('xan@example.org')")
        with pytest.raises(asyncpg.UniqueViolationError) as caught:
            await connection.execute("INSERT INTO person VALUES ('xan@example.org')")
    finally:
        await connection.close(timeout=10)

    told = explain_error(caught.value)

    assert (told["type"], told["sqlstate"], told["constraint"]) == ("UniqueViolationError", "23505", "one_mail")
    assert "xan" not in str(told)


def test_traces_run_through_the_bus() -> None:
    """Handling a message belongs to the trace in which it was sent."""
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("sender") as sender:
        headers = inject_headers()
    message = Message("sync-jobs.us", 0, 0, "k", b"", headers, datetime(2026, 9, 1, tzinfo=UTC))

    with span_from(message, "handle"):
        current = trace.get_current_span().get_span_context()

    assert current.trace_id == sender.get_span_context().trace_id
