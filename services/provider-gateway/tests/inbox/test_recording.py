"""What a provider sent in the course of a run, kept for a while."""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from homeroom.ids import new_id
from provider_gateway.inbox.retention import Retention
from provider_gateway.recording import Recording


async def list_kept(harbour: Any, folder: Path, recording: Recording) -> tuple[str, list[str]]:
    """Put a recording away; its integration, and the names in its zip."""
    integration_id, run_id = str(uuid4()), str(new_id())
    await recording.put_away(harbour.uploads.received, integration_id, run_id, datetime.now(UTC))
    with zipfile.ZipFile(await harbour.uploads.received.fetch(integration_id, run_id, folder)) as archive:
        return integration_id, archive.namelist()


async def test_answers_in_their_order(harbour: Any, tmp_path: Path) -> None:
    """Every answer is a file, in the order they came, and no name holds an id."""
    recording = Recording(tmp_path)
    await recording.keep("/users", b'{"users": []}')
    await recording.keep("/classes/{id}", b'{"class": {}}')

    _, names = await list_kept(harbour, tmp_path, recording)
    assert names == ["000001-users.json", "000002-classes--id.json"]


async def test_too_much_is_cut_off(harbour: Any, tmp_path: Path) -> None:
    """Beyond its limit nothing more is kept, and the zip says so."""
    recording = Recording(tmp_path, most_bytes=10)
    await recording.keep("/users", b"12345678")
    await recording.keep("/users", b"12345678")

    _, names = await list_kept(harbour, tmp_path, recording)
    assert names == ["000001-users.json", "NOT-EVERYTHING.txt"]


@pytest.mark.parametrize(("days", "left"), [(1, 1), (3, 0)])
async def test_kept_for_some_days(harbour: Any, tmp_path: Path, days: int, left: int) -> None:
    """What a run received is erased after its days, the newest too."""
    recording = Recording(tmp_path)
    await recording.keep("/users", b"[]")
    integration_id, _ = await list_kept(harbour, tmp_path, recording)

    class Later:
        def now(self) -> datetime:
            return datetime.now(UTC) + timedelta(days=days)

    clock: Any = Later()
    await Retention(harbour.uploads, harbour.spools, harbour.directory, clock, timedelta(days=2)).sweep()

    assert len(await harbour.uploads.received.ids(integration_id)) == left
