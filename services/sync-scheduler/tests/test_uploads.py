"""Uploaded sets of files: each starts a run by itself, in order, whatever happens in between (A2, A6)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from homeroom.bus import Message
from homeroom.bus.postgres import PostgresBus
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Applied, Bookmark, Claimed, Failed, Held, SyncJob, UploadReceived, read_job
from homeroom.roster import CANONICAL_VERSION
from sync_scheduler.runs import Limits
from sync_scheduler.ticking import Ticking

Read = Callable[[str], Awaitable[list[Message]]]
Hear = Callable[..., Awaitable[None]]

AT = datetime(2026, 9, 1, 18, 0, tzinfo=UTC)


class Inbox:
    """An integration that is fed by files."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        database: Database,
        ticking: Ticking,
        hear: Hear,
        read: Read,
        fed: dict[str, Any],
    ) -> None:
        self.client, self.database, self.ticking, self.hear, self.read = client, database, ticking, hear, read
        self.id = fed["id"]
        self.path = f"/v1/integrations/{self.id}"

    def received(self, upload: str) -> UploadReceived:
        """The fact that a set is complete."""
        return UploadReceived(
            upload_id=upload, integration_id=self.id, at=AT, via="sftp", files=8, bytes=4711, digest="ab" * 32
        )

    async def jobs(self) -> list[SyncJob]:
        """All jobs that went out, after whatever is due has."""
        await self.ticking.send_due()
        return [read_job(message) for message in await self.read("sync-jobs.us")]

    async def end(self, job: SyncJob, code: Code | None = None, **fields: Any) -> None:
        """Let a job end well, or with a code."""
        common: dict[str, Any] = {"run_id": job.run_id, "attempt": job.attempt, "integration_id": self.id, "at": AT}
        if code is None:
            await self.hear(Applied(fetch_id="f", apply=1, collections={}, **common))
        else:
            await self.hear(Failed(code=code, detail="It could not be read.", **common, **fields))

    async def states(self) -> dict[str, str]:
        """What became of each set."""
        rows = await self.database.fetch("SELECT id, state FROM upload ORDER BY number")
        return {row["id"]: row["state"] for row in rows}


@pytest.fixture
def inbox(
    client: httpx2.AsyncClient, database: Database, ticking: Ticking, hear: Hear, read: Read, fed: dict[str, Any]
) -> Inbox:
    """An integration nothing was uploaded to."""
    return Inbox(client, database, ticking, hear, read, fed)


async def test_an_upload_starts_a_run(inbox: Inbox) -> None:
    """A complete set begins a run that reads it, without anybody asking, and is used when it was applied (A2)."""
    await inbox.hear(inbox.received("u1"))
    (job,) = await inbox.jobs()
    run = (await inbox.client.get(f"/v1/runs/{job.run_id}")).json()
    log = (await inbox.client.get(f"/v1/runs/{job.run_id}/log")).json()["entries"]
    waiting = await inbox.states()
    await inbox.end(job)

    assert job.upload is not None
    assert (job.upload.id, job.upload.received_at, job.provider) == ("u1", AT, "oneroster-csv")
    assert run["upload"] == {"id": "u1", "number": job.upload.number, "received_at": "2026-09-01T18:00:00Z"}
    assert log[0]["sentence"] == (
        "A set of files was received. The files say whether they hold everything or only what changed."
    )
    assert await inbox.database.fetchval("SELECT created_by FROM run") == "upload"
    assert (waiting, await inbox.states()) == ({"u1": "pending"}, {"u1": "used"})
    assert len(await inbox.jobs()) == 1


async def test_sets_of_changes(inbox: Inbox) -> None:
    """A run that read a set of changes shows that as its mode, says so in its log and is no full comparison (C6)."""
    await inbox.hear(inbox.received("u1"))
    (job,) = await inbox.jobs()
    bookmark = Bookmark(at=AT, canonical=CANONICAL_VERSION, state={"number": 1})
    common: dict[str, Any] = {"run_id": job.run_id, "attempt": 1, "integration_id": inbox.id, "at": AT}
    await inbox.hear(Applied(fetch_id="f", apply=1, collections={}, mode="delta", bookmark=bookmark, **common))
    run = (await inbox.client.get(f"/v1/runs/{job.run_id}")).json()
    log = (await inbox.client.get(f"/v1/runs/{job.run_id}/log")).json()["entries"]
    await inbox.hear(inbox.received("u2"))

    assert (run["mode"], run["mode_code"]) == ("delta", None)
    assert [entry["sentence"] for entry in log if entry["step"] == "mode"] == ["Only what changed was read."]
    assert (await inbox.client.get(inbox.path)).json()["last_full_at"] is None
    assert (await inbox.jobs())[-1].bookmark == bookmark


async def test_heard_again(inbox: Inbox) -> None:
    """The same set heard of again, before and after its run, is one set and one run."""
    await inbox.hear(inbox.received("u1"), inbox.received("u1"))
    (job,) = await inbox.jobs()
    await inbox.hear(inbox.received("u1"))
    await inbox.end(job)
    await inbox.hear(inbox.received("u1"))

    assert len(await inbox.jobs()) == 1
    assert await inbox.states() == {"u1": "used"}


async def test_one_after_the_other(inbox: Inbox) -> None:
    """Sets are read in the order they came, each by its own run, for changes build on each other."""
    await inbox.hear(*(inbox.received(f"u{number}") for number in (1, 2, 3)))
    read: list[str] = []
    for turn in range(1, 4):
        jobs = await inbox.jobs()
        assert len(jobs) == turn
        assert jobs[-1].upload is not None
        read.append(jobs[-1].upload.id)
        await inbox.end(jobs[-1])

    assert read == ["u1", "u2", "u3"]
    assert len(await inbox.jobs()) == 3


async def test_while_another_run_is_active(inbox: Inbox) -> None:
    """A set that comes while a run is under way waits for its end, and no replica begins a second run."""
    await inbox.hear(inbox.received("u1"))
    (first,) = await inbox.jobs()
    await inbox.hear(inbox.received("u2"))
    assert len(await inbox.jobs()) == 1
    await inbox.end(first)

    assert [job.upload.id for job in await inbox.jobs() if job.upload] == ["u1", "u2"]


async def test_three_replicas(inbox: Inbox, bus: PostgresBus, wanted: Callable[..., dict[str, Any]]) -> None:
    """However many replicas find a set waiting, it gets one run."""
    organization = (await inbox.client.get(inbox.path)).json()["organization_id"]
    fed = [inbox.id]
    for number in range(8):
        body = wanted(organization, name=f"I{number}", provider="oneroster-csv", connection={})
        fed.append((await inbox.client.post("/v1/integrations", json=body)).json()["id"])
    await inbox.hear(
        *(
            UploadReceived(upload_id=f"u-{one}", integration_id=one, at=AT, via="rest", files=1, bytes=1, digest="d")
            for one in fed
        )
    )
    replicas = [Ticking(inbox.database, bus, Limits(), tick_seconds=0.5) for _ in range(3)]
    for _ in range(3):
        await asyncio.gather(*(replica.send_due() for replica in replicas))

    assert sorted(job.integration_id for job in await inbox.jobs()) == sorted(fed)


async def test_failed_sets(inbox: Inbox) -> None:
    """A set that can't be read is failed with its code, and the next one goes on."""
    await inbox.hear(inbox.received("u1"), inbox.received("u2"))
    (first,) = await inbox.jobs()
    await inbox.end(first, Code.CSV_MANIFEST)
    second = (await inbox.jobs())[-1]

    assert await inbox.states() == {"u1": "failed", "u2": "pending"}
    assert await inbox.database.fetchval("SELECT code FROM upload WHERE id = 'u1'") == "CSV_MANIFEST"
    assert second.upload is not None
    assert second.upload.id == "u2"


async def test_attempts_keep_their_set(inbox: Inbox) -> None:
    """Another attempt reads the same set, also when a newer one has come."""
    await inbox.hear(inbox.received("u1"))
    (first,) = await inbox.jobs()
    await inbox.hear(inbox.received("u2"))
    await inbox.end(first, Code.SFTP_IO, again=True)
    await inbox.database.fetch("UPDATE run SET not_before = NULL")
    second = (await inbox.jobs())[-1]

    assert (second.run_id, second.attempt, second.upload) == (first.run_id, 2, first.upload)
    assert (await inbox.states())["u1"] == "pending"


@pytest.mark.parametrize("ending", ["held", "cancelled"])
async def test_no_endless_turns(inbox: Inbox, ending: str) -> None:
    """A set whose run was held or cancelled is not read again by itself, but can be when somebody asks."""
    await inbox.hear(inbox.received("u1"))
    (job,) = await inbox.jobs()
    common: dict[str, Any] = {"run_id": job.run_id, "attempt": 1, "integration_id": inbox.id, "at": AT, "fetch_id": "f"}
    if ending == "held":
        held = Held(code=Code.GUARD_EMPTY_COLLECTION, detail="users arrived empty.", collections={}, **common)
        await inbox.hear(Claimed(worker="w", **common), held)
    else:
        await inbox.hear(Claimed(worker="w", **common))
        await inbox.client.post(f"/v1/runs/{job.run_id}/cancel")
        await inbox.end(job, Code.RUN_CANCELLED)
    assert len(await inbox.jobs()) == 1
    answer = await inbox.client.post(f"{inbox.path}/runs")
    again = (await inbox.jobs())[-1]

    assert (answer.status_code, again.run_id) == (202, answer.json()["run_id"])
    assert again.upload == job.upload


async def test_run_now_without_files(inbox: Inbox) -> None:
    """Who asks for a run before anything was uploaded is told that there is nothing to read."""
    answer = await inbox.client.post(f"{inbox.path}/runs")

    assert (answer.status_code, answer.json()["code"]) == (409, "UPLOAD_MISSING")
    assert await inbox.jobs() == []


async def test_run_now_reads_the_newest_again(inbox: Inbox) -> None:
    """Who asks for a run where no set waits has the newest one read again."""
    for upload in ("u1", "u2"):
        await inbox.hear(inbox.received(upload))
        await inbox.end((await inbox.jobs())[-1])
    await inbox.client.post(f"{inbox.path}/runs")
    job = (await inbox.jobs())[-1]
    await inbox.end(job, Code.CSV_STALE)
    await inbox.client.post(f"{inbox.path}/runs")
    after = (await inbox.jobs())[-1]

    assert job.upload is not None
    assert (job.upload.id, after.upload) == ("u2", job.upload)


async def test_deleted_integrations(inbox: Inbox) -> None:
    """With the integration its waiting sets are dropped, and what comes later is not taken."""
    await inbox.hear(inbox.received("u1"), inbox.received("u2"))
    (job,) = await inbox.jobs()
    await inbox.client.delete(inbox.path)
    await inbox.hear(inbox.received("u3"))
    await inbox.end(job, Code.RUN_CANCELLED)

    assert await inbox.states() == {"u1": "failed", "u2": "dropped"}
    assert len(await inbox.jobs()) == 1


async def test_sets_of_nobody(inbox: Inbox, integration: dict[str, Any], unknown_id: str) -> None:
    """Sets of unknown integrations, or of such that are fed by no files, are passed over."""
    for one in (unknown_id, "no id of ours", integration["id"]):
        fact = UploadReceived(upload_id="u", integration_id=one, at=AT, via="sftp", files=1, bytes=1, digest="d")
        await inbox.hear(fact)

    assert await inbox.states() == {}
    assert await inbox.jobs() == []
