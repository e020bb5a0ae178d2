"""Evaluations: a run that shows what a sync would change, and leaves everything as it is (C11)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from homeroom.bus import Message
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Bookmark, CollectionReport, Evaluated, HoldReason, SyncJob, UploadReceived, read_job
from homeroom.roster import CANONICAL_VERSION
from sync_scheduler.ticking import Ticking

Hear = Callable[..., Awaitable[None]]
Read = Callable[[str], Awaitable[list[Message]]]
PLAN = "ab12" * 16
BOOKMARK = Bookmark(at=datetime(2026, 9, 1, 6, 30, tzinfo=UTC), canonical=CANONICAL_VERSION, increments=True)


@pytest.fixture
def evaluate(
    client: httpx2.AsyncClient, ticking: Ticking, read: Read, integration: dict[str, Any]
) -> Callable[..., Awaitable[SyncJob]]:
    """Asks for an evaluation and returns the job that went out."""

    async def evaluate(**body: Any) -> SyncJob:
        path = f"/v1/integrations/{integration['id']}/runs"
        (await client.post(path, json={"evaluate": True, **body})).raise_for_status()
        await ticking.send_due()
        return read_job((await read("sync-jobs.us"))[-1])

    return evaluate


def _found(job: SyncJob, **more: Any) -> Evaluated:
    return Evaluated(
        run_id=job.run_id,
        attempt=job.attempt,
        integration_id=job.integration_id,
        at=datetime.now(UTC),
        fetch_id="f",
        plan=PLAN,
        collections={"users": CollectionReport(served=9, added=2, removed=3)},
        **more,
    )


async def test_from_request_to_result(
    client: httpx2.AsyncClient,
    database: Database,
    hear: Hear,
    integration: dict[str, Any],
    evaluate: Callable[..., Awaitable[SyncJob]],
) -> None:
    """An evaluation reads everything, ends with what would change and why it would be held, and changes nothing."""
    await database.fetch(
        "UPDATE integration SET bookmark = $1, last_full_at = now(), last_success_at = now() - interval '1 day'",
        BOOKMARK,
    )
    before = (await client.get(f"/v1/integrations/{integration['id']}")).json()
    job = await evaluate(mode="auto")
    reason = HoldReason(code=Code.GUARD_DELETE_HOLD, sentence="3 of 10 users would go.", collection="users")
    await hear(_found(job, configuration=1, reasons=(reason,)))
    run = (await client.get(f"/v1/runs/{job.run_id}")).json()
    log = (await client.get(f"/v1/runs/{job.run_id}/log")).json()["entries"]

    assert (job.terms.purpose, job.mode, job.bookmark) == ("evaluation", "full", BOOKMARK)
    assert (run["kind"], run["evaluate"], run["state"], run["code"]) == ("evaluation", True, "succeeded", None)
    assert (run["plan"], run["hold"]) == (PLAN, None)
    assert run["message"] == "The evaluation is there; nothing was changed"
    assert run["links"]["plan"] == f"/v1/plans/{job.run_id}"
    assert log[0]["sentence"].endswith("Everything is read and compared, and nothing will be changed.")
    assert [entry["step"] for entry in log[-2:]] == ["evaluated", "reason 1"]
    assert (await client.get(f"/v1/integrations/{integration['id']}")).json() == before
    assert await database.fetchval("SELECT bookmark FROM integration") is not None


async def test_other_options(
    client: httpx2.AsyncClient, integration: dict[str, Any], evaluate: Callable[..., Awaitable[SyncJob]]
) -> None:
    """Options can be tried before they are saved: what is left out is as it is saved, and nothing is saved."""
    path = f"/v1/integrations/{integration['id']}"
    await client.patch(path, json={"options": {"sync_parents": True}})
    job = await evaluate(options={"excluded_schools": ["s1"]})

    assert (job.options.sync_parents, job.options.excluded_schools) == (True, ("s1",))
    assert (await client.get(path)).json()["options"]["excluded_schools"] == []


async def test_options_are_checked(
    client: httpx2.AsyncClient, organization_id: str, wanted: Callable[..., dict[str, Any]]
) -> None:
    """Options that could not be saved can't be tried either."""
    key = {"type": "service_account", "client_email": "sync@project.test", "private_key": "PEM"}
    connection = {"domain": "example.org", "admin_email": "it@example.org", "service_account_key": json.dumps(key)}
    body = wanted(organization_id, provider="google-classroom", connection=connection)
    created = (await client.post("/v1/integrations", json=body)).raise_for_status()
    path = f"/v1/integrations/{created.json()['id']}/runs"
    answer = await client.post(path, json={"evaluate": True, "options": {"excluded_schools": ["s1"]}})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "body.options.excluded_schools")


async def test_paused_and_unlicensed(
    client: httpx2.AsyncClient, database: Database, integration: dict[str, Any], organization_id: str
) -> None:
    """A paused integration can be evaluated but not synced; without a license neither is possible (D5)."""
    path = f"/v1/integrations/{integration['id']}"
    await client.post(f"{path}/pause")
    paused = [await client.post(f"{path}/runs"), await client.post(f"{path}/runs", json={"evaluate": True})]
    await client.post(f"/v1/runs/{paused[1].json()['run_id']}/cancel")
    await database.fetch("UPDATE integration SET paused_at = NULL")
    product = (await client.post("/v1/products", json={"name": "Reader"})).json()["id"]
    await database.fetch(
        "INSERT INTO license (id, product, organization, valid_from, valid_until)"
        " VALUES (gen_random_uuid(), $1, $2, now() - interval '2 days', now() - interval '1 day')",
        product,
        organization_id,
    )
    expired = [await client.post(f"{path}/runs"), await client.post(f"{path}/runs", json={"evaluate": True})]

    assert [answer.status_code for answer in paused] == [409, 202]
    assert paused[0].json()["code"] == "INTEGRATION_PAUSED"
    assert [answer.json()["code"] for answer in expired] == ["LICENSE_INACTIVE"] * 2


async def test_files_stay_unread(
    client: httpx2.AsyncClient, database: Database, ticking: Ticking, hear: Hear, read: Read, fed: dict[str, Any]
) -> None:
    """An evaluation of files looks at those the next sync would read, and leaves them to it."""
    await hear(
        UploadReceived(
            upload_id="u1",
            integration_id=fed["id"],
            at=datetime.now(UTC),
            via="rest",
            files=8,
            bytes=1,
            digest="d",
        )
    )
    run_id = (await client.post(f"/v1/integrations/{fed['id']}/runs", json={"evaluate": True})).json()["run_id"]
    await ticking.send_due()
    job = read_job((await read("sync-jobs.us"))[-1])
    await hear(_found(job))
    state = await database.fetchval("SELECT state FROM upload")
    await ticking.send_due()
    following = read_job((await read("sync-jobs.us"))[-1])

    assert (job.run_id, job.upload and job.upload.id, state) == (run_id, "u1", "pending")
    assert (following.terms.purpose, following.upload and following.upload.id) == ("sync", "u1")
