"""From complete files to a set that is stored and announced, whatever crashes in between."""

from __future__ import annotations

import asyncio
import io
import os
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from homeroom.codes import Code
from homeroom.messages import IntegrationState
from provider_gateway.inbox import sealing
from provider_gateway.inbox.sets import Rules
from provider_gateway.inbox.watching import opens


class Crash(BaseException):
    """The process ends here."""


def lay(harbour: Any, state: IntegrationState, files: dict[str, bytes]) -> None:
    """Put files where an uploader would."""
    for name, content in files.items():
        path = harbour.incoming(state) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


async def look(harbour: Any, state: IntegrationState) -> None:
    """Look twice, with a rest between."""
    spool = harbour.spools.of(state.id)
    await harbour.watcher.look(state.id, spool)
    await asyncio.sleep(1.1 * harbour.rules.rest.total_seconds())
    await harbour.watcher.look(state.id, spool)


async def restart(harbour: Any, tools: Any, state: IntegrationState) -> Any:
    """The process after a crash, on the same folder."""
    after = tools.harbour(harbour.folder)
    await after.tell(state)
    after.watcher.recover()
    return after


STEPS = ["write_plan", "_move", "sync_folder", "hash_file", "keep", "publish", "rmtree"]


@pytest.mark.parametrize("after_it", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_at_any_step(
    harbour: Any, tools: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, *, after_it: bool
) -> None:
    """Whichever step a crash comes before or after, the next process seals the same set, once in all but name."""
    state = await harbour.add()
    files = tools.make_set()
    lay(harbour, state, files)
    place, name = {
        "keep": (harbour.uploads, "keep"),
        "publish": (harbour.bus, "publish"),
        "rmtree": (sealing.shutil, "rmtree"),
    }.get(step, (sealing, step))
    original = getattr(place, name)

    def crash(*args: Any, **kwargs: Any) -> Any:
        if after_it and step not in {"keep", "publish"}:
            original(*args, **kwargs)
        raise Crash

    async def crash_later(*args: Any, **kwargs: Any) -> Any:
        if after_it:
            await original(*args, **kwargs)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(place, name, crash_later if step in {"keep", "publish"} else crash)
        with pytest.raises(Crash):
            await look(harbour, state)
    announced = {fact.upload_id for fact in harbour.bus.received}

    after = await restart(harbour, tools, state)
    await look(after, state)
    ids = {fact.upload_id for fact in after.bus.received} | announced
    assert len(ids) == 1, "the same set under the same id"
    fact = (after.bus.received or harbour.bus.received)[0]
    assert await after.read(fact, tmp_path) == files
    assert await after.uploads.ids(state.id) == [fact.upload_id]
    assert list(after.incoming(state).iterdir()) == []
    assert sealing.waiting(after.spools.of(state.id).root) == []


async def test_nothing_is_lost_while_the_bus_or_the_storage_is_away(
    harbour: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While either is away sets wait in their order, and others' are not held up."""
    from provider_gateway.inbox import watching

    monkeypatch.setattr(watching, "_RETRY_SECONDS", 0.1)
    first, second = await harbour.add(), await harbour.add()
    async with harbour.serve(), harbour.sftp(first) as client:
        harbour.bus.away = True
        await tools.put(client, tools.make_set())
        await tools.until(lambda: sealing.waiting(harbour.spools.of(first.id).root))
        await tools.put(client, tools.make_set(size=3_000))
        await asyncio.sleep(3 * tools.rest.total_seconds())
        assert harbour.bus.received == []
        harbour.bus.away = False
        one, two = await harbour.sealed(2)
        assert one.upload_id < two.upload_id
        assert (one.bytes < two.bytes, {one.integration_id, two.integration_id}) == (True, {first.id})
        blocked = harbour.folder / second.id
        blocked.write_text("a file where a folder is needed")
        async with harbour.sftp(second) as other:
            await tools.put(other, tools.make_set())
            await tools.put(client, tools.make_set(size=4_000))
            assert (await harbour.sealed(3))[2].integration_id == first.id
            blocked.unlink()
            assert (await harbour.sealed(4))[3].integration_id == second.id


async def test_a_file_that_changes_at_the_last_moment_is_not_taken(harbour: Any, tools: Any) -> None:
    """Between looking and taking nothing may have changed; if it has, the inbox looks again."""
    state = await harbour.add()
    files = tools.make_set("orgs")
    lay(harbour, state, files)
    spool = harbour.spools.of(state.id)
    stamps = [((one.name,), stamp) for one, stamp in spool.look(0.0)[()]]
    with (harbour.incoming(state) / "orgs.csv").open("ab") as file:
        file.write(b"more")
    with pytest.raises(sealing.Changed):
        harbour.sealer.take(spool, stamps)
    stamps = [((one.name,), stamp) for one, stamp in spool.look(0.0)[()]]
    handle = spool.open(("orgs.csv",), os.O_WRONLY)
    with pytest.raises(sealing.Changed):
        harbour.sealer.take(spool, stamps)
    spool.close(handle, finished=True)
    assert harbour.sealer.take(spool, stamps)


async def test_an_incomplete_set_is_told_and_kept(harbour: Any, tools: Any) -> None:
    """What is missing is noted at once, marked once it takes too long, and gone once the set is whole; files stay."""
    harbour = tools.harbour(harbour.folder, rules=Rules(rest=tools.rest, wait=timedelta(seconds=0.5)))
    state = await harbour.add()
    files = tools.make_set("orgs", "users")
    users = files.pop("users.csv")
    lay(harbour, state, {f"DailyImport/{name}": content for name, content in files.items()})
    spool = harbour.spools.of(state.id)
    await look(harbour, state)
    [one] = await harbour.uploads.expected(state.id)
    assert (one.folder, one.why, one.files, one.present, one.overdue) == (
        "DailyImport", "missing", ("users.csv",), 2, False,
    )  # fmt: skip
    await asyncio.sleep(0.5)
    await harbour.watcher.look(state.id, spool)
    [one] = await harbour.uploads.expected(state.id)
    assert one.overdue
    assert len(list((harbour.incoming(state) / "DailyImport").iterdir())) == 2
    after = await restart(harbour, tools, state)
    lay(after, state, {"DailyImport/users.csv": users})
    await look(after, state)
    await after.watcher.look(state.id, after.spools.of(state.id))
    assert await after.uploads.expected(state.id) == ()
    assert len(after.bus.received) == 1


async def test_two_nights(harbour: Any, tools: Any) -> None:
    """Files of which some came long before the others wait for those to come again (C1)."""
    harbour = tools.harbour(harbour.folder, rules=Rules(rest=tools.rest, window=timedelta(seconds=0.4)))
    state = await harbour.add()
    files = tools.make_set("orgs", "users")
    lay(harbour, state, {"users.csv": files["users.csv"]})
    await asyncio.sleep(0.6)
    lay(harbour, state, {name: content for name, content in files.items() if name != "users.csv"})
    await look(harbour, state)
    [one] = await harbour.uploads.expected(state.id)
    assert (one.why, one.files) == ("nights", ("users.csv",))
    for name, content in files.items():
        lay(harbour, state, {name: content})
    await look(harbour, state)
    assert len(harbour.bus.received) == 1


@pytest.mark.parametrize("change", [{"state": "deleted"}, {"provider": "oneroster"}])
async def test_nothing_is_sealed_for_those_who_take_no_files(harbour: Any, tools: Any, change: dict[str, str]) -> None:
    """Files of a deleted integration, or of one that is not fed by files, are left alone."""
    state = await harbour.add(**change)
    lay(harbour, state, tools.make_set())
    await look(harbour, state)
    assert harbour.bus.received == []
    assert len(list(harbour.incoming(state).iterdir())) == 7


def make_zip(files: dict[str, bytes]) -> bytes:
    """A zip."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


def test_half_a_zip_does_not_open(tmp_path: Path) -> None:
    """A zip opens only if all of it is there: cut off at any byte it does not."""
    whole = make_zip({"manifest.csv": b"a", "users.csv": b"b"})
    path = tmp_path / "a.zip"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert not opens(path), length
    for content in (whole, make_zip({}), whole[:-2] + b"\x05\x00hello"):
        path.write_bytes(content)
        assert opens(path)
    path.write_bytes(whole[10:])
    assert not opens(path)
    assert not opens(tmp_path / "missing.zip")


async def test_a_zip_cut_off_waits_longer_and_is_then_handed_on(harbour: Any, tools: Any, tmp_path: Path) -> None:
    """Half a zip gets time to become whole; if it does not, it is handed on for its run to fail in words."""
    state = await harbour.add()
    whole = make_zip(tools.make_set())
    lay(harbour, state, {"nightly.zip": whole[:-10]})
    await look(harbour, state)
    assert harbour.bus.received == []
    await asyncio.sleep(3 * tools.rest.total_seconds())
    await harbour.watcher.look(state.id, harbour.spools.of(state.id))
    [fact] = harbour.bus.received
    assert await harbour.read(fact, tmp_path) == {"nightly.zip": whole[:-10]}
    lay(harbour, state, {"nightly.zip": whole})
    await look(harbour, state)
    assert await harbour.read(harbour.bus.received[1], tmp_path) == {"nightly.zip": whole}


async def test_a_worker_reads_what_was_sealed(harbour: Any, tools: Any, tmp_path: Path) -> None:
    """A job's upload is found by its ids, and only under its own integration."""
    from provider_gateway.failures import ProviderError

    state, other = await harbour.add(), await harbour.add()
    lay(harbour, state, tools.make_set())
    await look(harbour, state)
    [fact] = harbour.bus.received
    assert (await harbour.uploads.fetch(state.id, fact.upload_id, tmp_path)).is_dir()
    with pytest.raises(ProviderError) as error:
        await harbour.uploads.fetch(other.id, fact.upload_id, tmp_path)
    assert error.value.code is Code.UPLOAD_MISSING
