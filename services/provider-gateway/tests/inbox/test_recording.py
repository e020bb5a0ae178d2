"""What a provider sent in the course of a run, kept for a while."""

from __future__ import annotations

import asyncio
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from homeroom.bus import Message
from homeroom.ids import new_id
from homeroom.messages import Erased, to_erasures
from provider_gateway.inbox.erasures import Erasures
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


async def test_erased_people_are_in_no_file(harbour: Any, tmp_path: Path) -> None:
    """After an erasure no upload, recording or file in the inbox of that integration is left from before it (X10)."""
    states = [await harbour.add(), await harbour.add()]
    await asyncio.sleep(0.002)  # ids of files tell milliseconds
    for state in states:
        recording = Recording(tmp_path / state.id)
        (tmp_path / state.id).mkdir()
        await recording.keep("/users", b"[]")
        await recording.put_away(harbour.uploads.received, state.id, str(new_id()), datetime.now(UTC))
        (harbour.incoming(state) / "users.csv").write_bytes(b"x")
    await asyncio.sleep(0.01)
    at = datetime.now(UTC)
    await asyncio.sleep(0.01)
    later = Recording(tmp_path)
    await later.keep("/users", b"[]")
    await later.put_away(harbour.uploads.received, states[0].id, str(new_id()), at)
    out = to_erasures(
        Erased(erasure_id="e", integration_id=states[0].id, organization_id="o", sourced_ids=("user-7",), at=at)
    )
    for _ in range(2):
        await Erasures(harbour.uploads, harbour.spools).handle([Message(out.topic, 0, 0, out.key, out.value, {}, at)])

    assert [len(await harbour.uploads.received.ids(state.id)) for state in states] == [1, 1]
    assert [len(list(harbour.incoming(state).iterdir())) for state in states] == [0, 1]
