"""The acceptance suite's world: one sandbox district, seen through one face, synced into a store that remembers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from faces import ASKED, FACES, REFERENCE, SENT, Face
from lenses import Roster

from homeroom.bus import Outgoing
from homeroom.messages import UploadRef
from provider_gateway.execution import Execution
from sandbox_district import District
from sandbox_district.server import Sandbox, create_district, running_sandbox

EVERYTHING = {"sync_parents": True, "sync_demographics": True}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with a `face` is run with each; with an `asked_face` those on a network, with a `sent_face` the others."""
    for name, faces in (("face", FACES), ("asked_face", ASKED), ("sent_face", SENT)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, faces, ids=lambda face: face.name)


@dataclass
class FolderOfUploads:
    """Sets of files that were received, by the id of their upload."""

    sets: dict[str, Path] = field(default_factory=dict)

    async def fetch(self, _integration_id: str, upload_id: str, into: Path) -> Path:
        """Where a set is."""
        del into
        return self.sets[upload_id]


class SilentBus:
    """Takes every message and keeps none."""

    async def send(self, message: Outgoing) -> Awaitable[None]:
        """Durable at once."""
        del message
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def publish(self, *messages: Outgoing) -> None:
        """Durable at once."""


class View:
    """A gateway that is connected to the sandbox by one face."""

    def __init__(self, gateway: Any, district: District, told: Any, face: Face, folder: Path) -> None:
        self.gateway = gateway
        self.district = district
        self.face = face
        self.uploads = FolderOfUploads()
        self.options: dict[str, Any] = EVERYTHING
        self._folder = folder
        self._number = 0
        self._sent_day = 0
        gateway.provider = face.kind
        gateway.uploads = self.uploads
        connection = face.connection(told)
        gateway.connection, gateway.secrets = connection.shown(), connection.secrets()

    def upload(self) -> UploadRef | None:
        """Let the district send what it has today, if it is one that sends files."""
        if self.face.files is None:
            return None
        self._number += 1
        name = f"upload-{self._number}"
        self.uploads.sets[name] = self.face.files.write(self.district, self._folder, self._number, self._sent_day)
        self._sent_day = self.district.day
        return UploadRef(id=name, number=self._number, received_at=datetime.now(UTC))

    def job(self, *, upload: UploadRef | None = None, **values: Any) -> Any:
        """A job with the options chosen."""
        return self.gateway.job(options=self.options, upload=upload or self.upload(), **values)

    async def run(self, mode: str = "full", **settings: Any) -> Any:
        """Run a job; nothing is applied."""
        return await self.gateway.run(self.job(mode=mode), **settings)

    async def sync(self, mode: str = "full", **settings: Any) -> Any:
        """Run a job and apply what came."""
        outcome = await self.run(mode, **settings)
        assert outcome.failure is None, outcome.failure
        self.gateway.store.apply(outcome.changes)
        self.gateway.bookmark = outcome.completed.bookmark
        return outcome

    def execution(self, job: Any = None, **settings: Any) -> Execution:
        """A job that is not begun, whose messages nobody keeps."""
        return Execution(self.gateway.workshop(SilentBus(), **settings), job or self.job())

    def roster(self) -> Roster:
        """What the store holds."""
        return {
            collection: {key: json.loads(record) for key, (_, record) in records.items()}
            for collection, records in self.gateway.store.records.items()
        }


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A district of 60 students."""
    async with running_sandbox(create_district(seed=3, students=60)) as sandbox:
        yield sandbox


@pytest.fixture
async def told(sandbox: Sandbox, gateway: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the sandbox says of itself; the gateway is less patient with it than in earnest."""
    del gateway
    monkeypatch.setattr("provider_gateway.client._LONGEST_PAUSE_SECONDS", 0.05)
    async with httpx2.AsyncClient(trust_env=False) as http:
        return (await http.get(f"{sandbox.url}/sandbox")).json()


@pytest.fixture
def view(gateway: Any, sandbox: Sandbox, told: Any, face: Face, tmp_path: Path) -> View:
    """The district through the face under test."""
    return View(gateway, sandbox.district, told, face, tmp_path)


@pytest.fixture
def asked_view(gateway: Any, sandbox: Sandbox, told: Any, asked_face: Face, tmp_path: Path) -> View:
    """The district through a face that is asked over a network."""
    return View(gateway, sandbox.district, told, asked_face, tmp_path)


@pytest.fixture
def sent_view(gateway: Any, sandbox: Sandbox, told: Any, sent_face: Face, tmp_path: Path) -> View:
    """The district through a face that it sends files to."""
    return View(gateway, sandbox.district, told, sent_face, tmp_path)


@pytest.fixture
async def reference(gateway: Any, sandbox: Sandbox, told: Any, serve: Any, tmp_path: Path) -> View:
    """The district through OneRoster 1.1, into a store of its own."""
    other = type(gateway)(type(gateway.store)(), gateway._http)
    other.store.url = await serve(other.store.app())
    return View(other, sandbox.district, told, REFERENCE, tmp_path)
