"""A whole installation as a process (`homeroom up`), and what the end-to-end tests know of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import psutil
from history import History, Served, StoreWatch, watching_store
from pydantic import SecretStr

from homeroom.bus import Message
from homeroom.bus.opening import open_bus
from homeroom.messages import ROSTER_EVENTS
from homeroom.settings import Settings
from homeroom_local.client import ApiError, HomeroomClient
from homeroom_local.stack import free_port
from sandbox_district import District, Sandbox, running_sandbox

START_SECONDS = 90
COLLECTIONS = ("orgs", "academicSessions", "courses", "classes", "users", "enrollments")
QUICK = {
    "HOMEROOM_SILENCE_SECONDS": "3",
    "HOMEROOM_HEARTBEAT_SECONDS": "0.5",
    "HOMEROOM_RETRY_SECONDS": "0.2",
    "HOMEROOM_BUS_SESSION_SECONDS": "6",
    "HOMEROOM_INBOX_REST_SECONDS": "1",
}
"""Patience in seconds rather than minutes, so that recovery can be watched."""


@dataclass
class Installation:
    """`homeroom up`, running."""

    origin: str
    data: Path
    faultpoints: Path
    process: subprocess.Popen[bytes]
    kafka: str | None

    @property
    def token(self) -> str:
        """The admin's access token."""
        return (self.data / "admin-token").read_text("utf-8")

    @property
    def sandbox(self) -> str:
        """The sandbox's address, read off its process."""
        commands = (child.cmdline() for child in self.services())
        command = next(command for command in commands if "sandbox_district" in command)
        return f"http://127.0.0.1:{command[command.index('--port') + 1]}"

    @property
    def database_url(self) -> str:
        """The embedded Postgres's address, read off a service's environment."""
        return next(
            child.environ()["HOMEROOM_DATABASE_URL"]
            for child in self.services()
            if "HOMEROOM_DATABASE_URL" in child.environ()
        )

    def services(self) -> list[psutil.Process]:
        """The service processes."""
        return [child for child in psutil.Process(self.process.pid).children() if "-m" in child.cmdline()]

    def frozen(self) -> list[psutil.Process]:
        """Processes that a fault point has stopped, seconds included."""
        found = []
        for child in psutil.process_iter():
            with suppress(psutil.Error):
                if child.status() == psutil.STATUS_STOPPED and str(self.faultpoints) in child.environ().get(
                    "HOMEROOM_FAULTPOINTS", ""
                ):
                    found.append(child)
        return found

    def kill(self, package: str, role: str) -> None:
        """Kill -9 one service process; the installation starts it again."""
        for child in self.services():
            if child.cmdline()[-2:] == [package, role]:
                child.send_signal(signal.SIGKILL)

    def arm(self, point: str, order: str = "kill") -> Path:
        """Let the next process that reaches a fault point die there, or `stop`; the file is gone once that happened."""
        path = self.faultpoints / point
        draft = path.with_suffix(".draft")
        draft.write_text(order, "utf-8")
        draft.rename(path)
        return path

    @contextmanager
    def second(self, *roles: tuple[str, str]) -> Iterator[list[subprocess.Popen[bytes]]]:
        """One more process of each of these roles, with the settings of the first; ended with Ctrl-C's signal."""
        started = []
        with (self.data / "logs" / "second.log").open("ab") as log:
            for package, role in roles:
                first = next(child for child in self.services() if child.cmdline()[-2:] == [package, role])
                started.append(subprocess.Popen(first.cmdline(), env=first.environ(), stdout=log, stderr=log))
        try:
            yield started
        finally:
            for process in started:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            for process in started:
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(10)

    def logs(self) -> str:
        """Everything the services have logged."""
        return "".join(path.read_text("utf-8", "replace") for path in sorted((self.data / "logs").iterdir()))


@contextmanager
def running_installation(
    folder: Path, kafka: str | None = None, settings: Mapping[str, str] | None = None, *, sandbox: bool = False
) -> Iterator[Installation]:
    """Start `homeroom up` as a user would, wait until it is ready, and stop it with Ctrl-C."""
    port = free_port()
    data, faultpoints = folder / "data", folder / "faultpoints"
    faultpoints.mkdir(parents=True)
    environment = {**os.environ, **QUICK, **(settings or {}), "HOMEROOM_FAULTPOINTS": str(faultpoints)}
    if kafka:
        environment["HOMEROOM_KAFKA"] = kafka
    command = [
        sys.executable,
        "-m",
        "homeroom_local.cli",
        "up",
        "--port",
        str(port),
        "--data",
        str(data),
        *(() if sandbox else ("--no-sandbox",)),
    ]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        token = data / "admin-token"
        deadline = time.monotonic() + START_SECONDS
        while not token.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((folder / "up.log").read_text("utf-8"))
            time.sleep(0.1)
        yield Installation(f"http://127.0.0.1:{port}", data, faultpoints, process, kafka)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@dataclass
class Watcher:
    """Keeps the newest state of every record of one integration, as a product folding the events would."""

    integration_id: str
    states: dict[str, tuple[int, bool]]
    """subject → (version, active)."""
    seen: list[tuple[str, str, str]]
    """(id, type, subject) of every record event, repeats included."""
    history: History | None = None
    """Where every event is noted, if somebody judges it."""

    async def handle(self, messages: Any) -> None:
        """Take a batch of `roster-events`."""
        for message in messages:
            self.take(message)

    def take(self, message: Message) -> None:
        """Fold one event in."""
        kind, subject = message.headers["ce_type"], message.headers["ce_subject"]
        if message.key != self.integration_id:
            return
        if self.history is not None:
            self.history.deliver("product", message.offset, message.key, message.headers, message.value)
        if kind.startswith("homeroom.sync."):
            return
        version = msgspec.json.decode(message.value)["version"]
        self.seen.append((message.headers["ce_id"], kind, subject))
        if version >= self.states.get(subject, (0, False))[0]:
            self.states[subject] = (version, not kind.endswith(".removed.v1"))

    def active(self) -> set[str]:
        """Subjects of all active records."""
        return {subject for subject, (_, active) in self.states.items() if active}


@dataclass
class SyncedDistrict:
    """A sandbox district with an integration of its own."""

    sandbox: Sandbox
    client: HomeroomClient
    integration_id: str
    watcher: Watcher

    @property
    def truth(self) -> set[str]:
        """Subjects of all records the provider has."""
        truth = self.sandbox.district.truth()
        return {f"{collection}/{sourced_id}" for collection in COLLECTIONS for sourced_id in truth[collection]}

    async def sync(self, seconds: float = 60, *, mode: str = "full") -> dict[str, Any]:
        """Run now and wait for the end, whatever dies meanwhile."""
        return await self.wait(await self.start(mode), seconds)

    async def approve(self, run: dict[str, Any], action: str = "all") -> dict[str, Any]:
        """Approve what a run holds, and wait for what comes of it."""
        decision = {"plan": run["hold"]["plan"], "action": action}
        await self.client.call("POST", f"/v1/runs/{run['id']}/approve", json=decision)
        return await self.wait(run["id"])

    async def start(self, mode: str = "full") -> str:
        """Ask for a run until there is one."""
        async with asyncio.timeout(30):
            while True:
                try:
                    return await self.client.start_run(self.integration_id, mode)
                except ApiError as error:
                    if error.code == "SYNC_IN_PROGRESS":
                        runs = await self.client.call("GET", f"/v1/integrations/{self.integration_id}/runs")
                        return str(next(iter(runs.values()))[0]["id"])
                    if error.status not in (502, 503):
                        raise
                except httpx2.TransportError:
                    pass
                await asyncio.sleep(0.2)

    async def wait(self, run_id: str, seconds: float = 60) -> dict[str, Any]:
        """Wait for a run's end, through restarts of whoever is asked."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    return await self.client.wait_for_run(run_id, seconds=seconds)
                except (ApiError, httpx2.TransportError) as error:
                    if isinstance(error, ApiError) and error.status not in (502, 503):
                        raise
                    await asyncio.sleep(0.2)

    async def held(self) -> set[str]:
        """Subjects of all active records of the store, read back as OneRoster, once its API answers."""
        async with asyncio.timeout(30):
            while True:
                try:
                    return {
                        f"{collection}/{record['sourcedId']}"
                        for collection in COLLECTIONS
                        for record in await self.client.list_records(collection, self.integration_id, 5_000)
                    }
                except (ApiError, httpx2.TransportError) as error:
                    if isinstance(error, ApiError) and error.status not in (502, 503):
                        raise
                    await asyncio.sleep(0.2)

    async def wait_for_events(self, seconds: float = 40) -> None:
        """Wait until the folded events are the provider's roster."""
        try:
            async with asyncio.timeout(seconds):
                while self.watcher.active() != self.truth:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            missing, extra = self.truth - self.watcher.active(), self.watcher.active() - self.truth
            msg = f"events missing for {len(missing)} records, {len(extra)} too many: {sorted(missing | extra)[:5]}"
            raise AssertionError(msg) from None


@asynccontextmanager
async def synced_district(
    installation: Installation,
    *,
    students: int = 60,
    seed: int = 7,
    auth: str = "oauth1",
    history: History | None = None,
    **options: Any,
) -> AsyncIterator[SyncedDistrict]:
    """A small district with an integration, watched; nothing is synced yet."""
    settings = Settings(
        database_url=SecretStr(installation.database_url), kafka=installation.kafka, issuer=installation.origin
    )
    async with (
        running_sandbox(District(seed=seed, students=students)) as sandbox,
        HomeroomClient.open(installation.origin, installation.token) as client,
        open_bus(settings) as bus,
    ):
        organization = await client.create_organization("Test district")
        integration_id = await client.create_integration(
            organization, connection_of(sandbox, auth), options={"sync_parents": True, **options}
        )
        watcher = Watcher(integration_id, {}, [], history)
        consumer = bus.consumer([ROSTER_EVENTS.name], watcher.handle, group=None, start="earliest")
        consuming = asyncio.create_task(consumer.run())
        try:
            yield SyncedDistrict(sandbox, client, integration_id, watcher)
        finally:
            await consumer.stop()
            await asyncio.wait_for(consuming, 30)


def connection_of(sandbox: Sandbox, auth: str = "oauth1", **other: str) -> dict[str, Any]:
    """What an admin would enter for the sandbox."""
    return {
        "endpoint_url": sandbox.base_url,
        "auth": auth,
        "client_id": sandbox.client_id,
        "client_secret": sandbox.client_secret,
        **({"token_url": sandbox.token_url} if auth == "oauth2" else {}),
        **other,
    }


@dataclass
class RecordedDistrict(SyncedDistrict):
    """A district of which everything is written down, to be judged at the end (`checkers`)."""

    history: History
    store: StoreWatch

    def note_truth(self) -> None:
        """Write down what the provider has from now on."""
        district = self.sandbox.district
        self.history.provide(self.integration_id, len(district.history), district, COLLECTIONS)

    def advance_day(self) -> None:
        """Let a day go by."""
        self.sandbox.district.advance_day()
        self.note_truth()

    async def wait(self, run_id: str, seconds: float = 60) -> dict[str, Any]:
        """Wait for a run's end, and write down what it was shown and what it says."""
        books = self.sandbox.district.collections
        shown = {collection: len(books[collection]) for collection in COLLECTIONS}
        self.history.note(Served(integration=self.integration_id, run=run_id, records=shown))
        run = await super().wait(run_id, seconds)
        self.history.end(run)
        return run

    async def come_to_rest(self, seconds: float = 40) -> None:
        """Wait until nothing is on its way any more, and write down what the store holds."""
        await self.wait_for_events(seconds)
        await self.wait_for_silence(seconds, silent=0.2)
        for run in (await self.client.call("GET", f"/v1/integrations/{self.integration_id}/runs"))["items"]:
            if run["finished_at"] and run["id"] not in self.history.ended:  # whoever asked for it never heard its id
                self.history.end(run)
        await self.store.read_runs(self.history, self.integration_id)
        await self.store.rest(self.history, self.integration_id)

    async def wait_for_silence(self, seconds: float = 40, silent: float = 0.6) -> None:
        """Wait until nobody sends or works: longer than a worker is silent between two heartbeats.

        Only the bus on Postgres is looked into; on Kafka the events that came have to do.
        """
        deadline, since, before = time.monotonic() + seconds, time.monotonic(), None
        while time.monotonic() < deadline:
            now = await self.store.read_bus()
            if now is None:
                return
            if now != before or now.waiting:
                since, before = time.monotonic(), now
            if time.monotonic() - since > silent:
                return
            await asyncio.sleep(0.1)
        msg = f"the bus did not fall silent within {seconds:.0f} s"
        raise AssertionError(msg)


@asynccontextmanager
async def recorded_district(
    installation: Installation, history: History, **options: Any
) -> AsyncIterator[RecordedDistrict]:
    """A small district of which everything is written down; nothing is synced yet."""
    async with (
        watching_store(installation.database_url) as store,
        synced_district(installation, seed=history.seed, history=history, **options) as found,
    ):
        district = RecordedDistrict(
            found.sandbox, found.client, found.integration_id, found.watcher, history=history, store=store
        )
        district.note_truth()
        yield district
