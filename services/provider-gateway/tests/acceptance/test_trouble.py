"""What goes wrong at any provider: nobody is removed by it, waits are kept, and nothing is left open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import msgspec
import pytest

from homeroom.codes import Code
from homeroom.messages import FetchAbandoned, FetchCompleted
from sandbox_district import faults
from sandbox_district.server import Sandbox

TROUBLE: list[faults.Fault] = [
    faults.Truncate(),
    faults.Truncate(after=1),
    faults.HangUp(),
    faults.ServerError(status=502),
    faults.HtmlLogin(),
    faults.Unauthorized(),
    faults.RateLimit(retry_after=0.01),
]


def assert_abandoned(view: Any, outcome: Any, before: Any, why: object = None) -> None:
    assert outcome.failure is not None, why
    assert not outcome.changes or isinstance(outcome.changes[-1], FetchAbandoned)
    assert all(one.code == outcome.failure.code for one in outcome.changes if isinstance(one, FetchAbandoned))
    assert not any(isinstance(change, FetchCompleted) for change in outcome.changes)
    assert view.roster() == before, why


async def test_failing_provider_removes_nobody(asked_view: Any, sandbox: Sandbox) -> None:
    """A provider that goes on failing where it is asked for people ends the fetch abandoned, and removes nobody."""
    await asked_view.sync()
    before = asked_view.roster()
    for trouble in TROUBLE:
        sandbox.faults.replace(msgspec.structs.replace(trouble, path=asked_view.face.people))
        outcome = await asked_view.run(page_size=20, page_seconds=2.0)
        assert_abandoned(asked_view, outcome, before, trouble)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _rewrite(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Change the files of a set, be it a folder or a zip."""
    if path.is_dir():
        files = {one.name: one.read_bytes() for one in path.iterdir()}
        change(files)
        for one in path.iterdir():
            one.unlink()
        for name, content in files.items():
            (path / name).write_bytes(content)
        return
    with ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def _lose_people(files: dict[str, bytes]) -> None:
    del files["users.csv"]


def _garble_people(files: dict[str, bytes]) -> None:
    files["users.csv"] = files["users.csv"].decode().encode("utf-16")


def _rename_key(files: dict[str, bytes]) -> None:
    files["users.csv"] = files["users.csv"].replace(b"sourcedId", b"id", 1)


SPOILED: dict[str, Callable[[dict[str, bytes]], None]] = {
    "no users": _lose_people,
    "another encoding": _garble_people,
    "no sourcedId": _rename_key,
}


async def test_spoiled_set_removes_nobody(sent_view: Any) -> None:
    """A set whose people are missing or can't be read ends the fetch abandoned, and removes nobody."""
    await sent_view.sync()
    before = sent_view.roster()
    for how, spoil in SPOILED.items():
        upload = sent_view.upload()
        _rewrite(sent_view.uploads.sets[upload.id], spoil)
        outcome = await sent_view.gateway.run(sent_view.job(upload=upload))
        assert_abandoned(sent_view, outcome, before, how)


async def test_cut_set_removes_nobody(sent_view: Any) -> None:
    """A zip that was cut off ends the fetch abandoned, and removes nobody."""
    if sent_view.face.files.ending != ".zip":
        pytest.skip("a folder is not one file that can be cut")
    await sent_view.sync()
    before = sent_view.roster()
    upload = sent_view.upload()
    _cut(sent_view.uploads.sets[upload.id])
    assert_abandoned(sent_view, await sent_view.gateway.run(sent_view.job(upload=upload)), before)


async def test_missing_upload(sent_view: Any) -> None:
    """A set that is not there any more fails the run with its code."""
    upload = sent_view.upload()
    sent_view.uploads.sets[upload.id] = sent_view.uploads.sets[upload.id].with_name("nowhere")
    outcome = await sent_view.gateway.run(sent_view.job(upload=upload))
    assert outcome.failure is not None
    assert not any(isinstance(change, FetchCompleted) for change in outcome.changes)


async def test_rate_limits_are_kept(asked_view: Any, sandbox: Sandbox) -> None:
    """After 429 nothing is asked for before the time that Retry-After names, and the run then ends well."""
    for seconds, as_date in ((1, False), (2, True)):  # a date is exact to the second only
        fault = faults.RateLimit(path=asked_view.face.people, times=1, retry_after=seconds, as_date=as_date)
        sandbox.faults.replace(fault)
        began = time.monotonic()
        outcome = await asked_view.sync(retry_after_seconds=5.0)
        assert time.monotonic() - began >= 1
        assert outcome.reports["enrollments"].served > 0


async def test_rate_limits_now_and_then(asked_view: Any, sandbox: Sandbox) -> None:
    """A provider that refuses a request every so often is read to the end all the same."""
    # A request is tried five times. Of the hundreds that one request a course makes, some would meet a refusal at each.
    every = 12 if asked_view.face.kind == "google-classroom" else 4
    sandbox.faults.replace(faults.RateLimit(every=every, path=asked_view.face.people, retry_after=0.02))
    await asked_view.sync(page_size=50)
    through_trouble = asked_view.roster()
    sandbox.faults.replace()
    await asked_view.sync()
    assert asked_view.roster() == through_trouble


async def test_cancelling_closes_everything(asked_view: Any, sandbox: Sandbox) -> None:
    """A run that is cancelled while it waits for an answer leaves no connection open."""
    sandbox.faults.replace(faults.Slow(path=asked_view.face.people, seconds=30))
    execution = asked_view.execution()
    task = execution.start()
    await wait_until(lambda: sum(sandbox.requests.values()) > 1 and sandbox.count_connections() > 0)
    await asyncio.sleep(0.2)
    assert sandbox.count_connections() > 0
    execution.stop(Code.RUN_CANCELLED, "Somebody stopped it.")
    async with asyncio.timeout(5):
        await task
        await wait_until(lambda: sandbox.count_connections() == 0)


async def test_the_end_closes_everything(asked_view: Any, sandbox: Sandbox) -> None:
    """A run that ended well leaves no connection open."""
    await asked_view.sync()
    async with asyncio.timeout(5):
        await wait_until(lambda: sandbox.count_connections() == 0)


async def test_cancelling_leaves_no_files(view: Any, tmp_path: Path) -> None:
    """A run that is cancelled at whatever moment leaves nothing in the folder for temporary files."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    for pause in (0.0, 0.01, 0.05, 0.1):
        execution = view.execution(workspace=str(workspace))
        task = execution.start()
        await asyncio.sleep(pause)
        execution.stop(Code.RUN_CANCELLED, "Somebody stopped it.")
        async with asyncio.timeout(5):
            await task
        assert list(workspace.iterdir()) == []


async def wait_until(true: Callable[[], bool]) -> None:
    """Look again and again, for five seconds at most."""
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.01)
