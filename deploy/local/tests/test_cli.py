"""The `homeroom` command as a user starts it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx2
import psutil
import pytest

from homeroom_local.client import HomeroomClient
from homeroom_local.secrets_file import LocalSecrets
from homeroom_local.sign_in_setup import set_up
from homeroom_local.stack import Stack, free_port

COLLECTIONS = {"orgs", "academicSessions", "courses", "classes", "users", "enrollments"}
COUNTS = {"served", "added", "changed", "unchanged", "removed", "filtered", "quarantined", "unconfirmed", "held"}
RUN = {"id", "state", "code", "message", "next_step", "mode", "attempt", "counts", "started_at", "finished_at"}
MARK = "MADE_BY_TEST"
START_SECONDS = 90


class Command:
    """`homeroom …`, with a mark that everything it starts inherits."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.mark = uuid4().hex
        self.folder = folder
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HOMEROOM_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "homeroom_local.cli", *words],
            cwd=folder,
            env=environment | {MARK: self.mark, "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, seconds: float = START_SECONDS) -> tuple[int, str, str]:
        """Wait until it has ended: exit code, standard output, standard error."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, " ".join(err.split())

    def running(self) -> list[psutil.Process]:
        """Every process that it has started and that still runs, Postgres included."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            marked = process.environ().get(MARK) == self.mark
            return (marked or str(self.folder) in " ".join(process.cmdline())) and process.pid != os.getpid()
        except psutil.Error:
            return False


@contextmanager
def started(folder: Path, *words: str) -> Iterator[Command]:
    """A command that is ended with the test, whatever happens."""
    command = Command(folder, *words)
    try:
        yield command
    finally:
        left = command.running()
        for process in left:
            process.kill()
        command.process.communicate(timeout=10)


def await_file(path: Path, command: Command) -> None:
    """Wait for a file that says that something is ready."""
    deadline = time.monotonic() + START_SECONDS
    while not path.exists():
        assert command.process.poll() is None, command.end()
        assert time.monotonic() < deadline, "it did not come up"
        time.sleep(0.05)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder with a short path: below a long one, Postgres's wheel puts its socket beside the data."""
    with tempfile.TemporaryDirectory(prefix="h") as folder:
        yield Path(folder)


def test_demo_does_what_the_readme_promises(short_path: Path) -> None:
    """`homeroom demo --json` prints exactly one object of the contract's shape, and leaves nothing behind."""
    with started(short_path, "demo", "--json") as command:
        code, out, err = command.end()
        assert code == 0, err
        report = json.loads(out)
        assert command.running() == []
    assert {path.name for path in short_path.iterdir()} <= {".lockfile"}, "only the lock of Postgres's wheel may stay"

    runs = [report[name] for name in ("first_run", "second_run", "after_changes_run")]
    assert set(report) == {
        *("organization", "integration", "first_run", "second_run", "after_changes_run"),
        *("roster", "events", "launch", "seconds"),
    }
    assert set(report["roster"]) == {"orgs", "classes", "students", "teachers", "enrollments"}
    assert set(report["events"]) == {"first_run", "after_changes_run"}
    assert all(run.keys() >= RUN and run["state"] == "succeeded" for run in runs)
    assert all(set(run["counts"]) == COLLECTIONS for run in runs)
    assert all(set(counts) == COUNTS for run in runs for counts in run["counts"].values())

    first, second, third = (
        sum(counts[kind] for counts in run["counts"].values() for kind in ("added", "changed", "removed"))
        for run in runs
    )
    assert second == 0
    assert report["events"] == {"first_run": first, "after_changes_run": third}
    assert min(first, third, *report["roster"].values()) > 0

    launch = report["launch"]
    assert launch.keys() >= {"product", "organization", "sub", "roles", "sourced_id", "classes", "seconds"}
    assert (launch["roles"], launch["sourced_id"][:4]) == (["student"], "stu-")
    assert launch["classes"] > 0


def test_demo_can_be_stopped_at_any_moment(tmp_path: Path) -> None:
    """A demo that is told to end while it starts stops what it has started and says so."""
    with started(tmp_path, "demo", "--json") as command:
        deadline = time.monotonic() + START_SECONDS
        while len(command.running()) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        command.process.send_signal(signal.SIGTERM)
        code, out, err = command.end()
        assert (code, out) == (130, "")
        assert "The demo was stopped." in err
        assert "Traceback" not in err
        assert command.running() == []


def test_ctrl_c_stops_everything(tmp_path: Path) -> None:
    """`homeroom up` serves, with sign-in set up once, until Ctrl-C, and then stops all it started; its data stay."""
    port, data = free_port(), tmp_path / "data"
    with started(tmp_path, "up", "--port", str(port), "--data", str(data)) as command:
        await_file(data / "admin-token", command)
        processes = command.running()
        listening = {
            found.laddr.port for process in processes for found in process.net_connections() if _listens(found)
        }
        assert port in listening
        assert len(listening) >= 6, "the origin, four APIs and the sandbox"
        await_file(data / "sign-in.json", command)
        made = (data / "sign-in.json").read_bytes()
        asyncio.run(_set_up_again(data, port))
        assert (data / "sign-in.json").read_bytes() == made

        command.process.send_signal(signal.SIGINT)
        code, _, err = command.end()
        assert code == 0, err
        assert command.running() == []
    assert {other for other in listening if _answers(other)} == set()
    assert (data / "secrets.json").exists()


async def _set_up_again(data: Path, port: int) -> None:
    """What another start would do; nothing is made that is there, and every portal has tiles."""
    origin, sandbox = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{(data / 'sandbox-port').read_text('utf-8')}"
    stack = Stack(origin, data, "", None, LocalSecrets.load(data), {"sso": origin, "sandbox": sandbox})
    async with (
        HomeroomClient.open(origin, await stack.token()) as client,
        httpx2.AsyncClient(base_url=sandbox, follow_redirects=True, trust_env=False) as browser,
    ):
        before = await client.call("GET", "/v1/organizations")
        for portal in (await set_up(stack), await set_up(stack))[1].values():
            if "portal" in portal:
                await browser.post(f"{portal['portal']}/sign-in", data={"person": "newcomer"})
                assert "<strong>Sample Product</strong>" in (await browser.get(portal["portal"])).text
        assert await client.call("GET", "/v1/organizations") == before


def _listens(connection: object) -> bool:
    found = getattr(connection, "status", None), getattr(connection, "family", None)
    return found[0] == psutil.CONN_LISTEN and found[1] in (socket.AF_INET, socket.AF_INET6)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_taken_port(tmp_path: Path) -> None:
    """`homeroom up` on a port that somebody else has says so, starts nothing and exits with 1."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with started(tmp_path, "up", "--port", str(port), "--data", str(tmp_path / "data")) as command:
            code, out, err = command.end(30)
            assert (code, out) == (1, "")
            assert f"port {port} can't be listened on" in err
            assert "choose another with --port" in err
            assert "Traceback" not in err
            assert command.running() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("installed", [False, True], ids=["no installation", "nothing running"])
def test_no_token(tmp_path: Path, *, installed: bool) -> None:
    """`homeroom token` without an installation, or without one that runs, says so and exits with 1."""
    if installed:
        LocalSecrets.load(tmp_path)
    port = free_port()
    with started(tmp_path, "token", "--scope", "admin", "--data", str(tmp_path), "--port", str(port)) as command:
        code, out, err = command.end(30)
    assert (code, out) == (1, "")
    told = f"Nothing answers at port {port}" if installed else f"There is no installation in {tmp_path}"
    assert told in err
    assert "homeroom up" in err
