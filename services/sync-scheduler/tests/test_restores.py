"""Restores: what a run and all after it did is undone, by the store and as a run of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from homeroom.bus import Message
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import (
    ROSTER_COMMANDS,
    Applied,
    Bookmark,
    CollectionReport,
    Evaluated,
    Failed,
    Held,
    HoldEnded,
    Restore,
    read_command,
)
from homeroom.roster import CANONICAL_VERSION
from homeroom.testing.tokens import TestIssuer
from sync_scheduler.ticking import Ticking

Hear = Callable[..., Awaitable[None]]
Read = Callable[[str], Awaitable[list[Message]]]
BOOKMARK = Bookmark(at=datetime(2026, 9, 1, 6, 30, tzinfo=UTC), canonical=CANONICAL_VERSION, increments=True)


class Past:
    """An integration with a sync that was applied."""

    def __init__(
        self, client: httpx2.AsyncClient, ticking: Ticking, hear: Hear, read: Read, integration: dict[str, Any]
    ) -> None:
        self.client, self.ticking, self.hear, self.read = client, ticking, hear, read
        self.path = f"/v1/integrations/{integration['id']}"
        self.integration_id = integration["id"]
        self.synced = ""

    def said(self, run_id: str, attempt: int = 1) -> dict[str, Any]:
        """What all facts of a run have in common."""
        now = datetime.now(UTC)
        return {"run_id": run_id, "attempt": attempt, "integration_id": self.integration_id, "at": now}

    async def sync(self) -> str:
        """A whole run."""
        run_id = str((await self.client.post(f"{self.path}/runs")).raise_for_status().json()["run_id"])
        await self.ticking.send_due()
        await self.apply(run_id, bookmark=BOOKMARK)
        return run_id

    async def apply(self, run_id: str, **more: Any) -> None:
        """Let the store have applied it."""
        reports = {"users": CollectionReport(changed=4, removed=1)}
        await self.hear(Applied(fetch_id="f", apply=1, collections=reports, **more, **self.said(run_id)))

    async def restore(self, run_id: str | None = None, **body: Any) -> httpx2.Response:
        """Ask for the undoing of a run."""
        return await self.client.post(f"/v1/runs/{run_id or self.synced}/restore", json={"confirm": True, **body})

    async def commands(self) -> list[Restore]:
        """What was sent to the store."""
        await self.ticking.send_due()
        sent = [read_command(message) for message in await self.read(ROSTER_COMMANDS.name)]
        return [one for one in sent if isinstance(one, Restore)]

    async def show(self, run_id: str) -> dict[str, Any]:
        """A run."""
        found: dict[str, Any] = (await self.client.get(f"/v1/runs/{run_id}")).json()
        return found

    async def look(self) -> dict[str, Any]:
        """The integration."""
        found: dict[str, Any] = (await self.client.get(self.path)).json()
        return found


@pytest.fixture
async def past(
    client: httpx2.AsyncClient, ticking: Ticking, hear: Hear, read: Read, integration: dict[str, Any]
) -> Past:
    """An integration that was synced once."""
    found = Past(client, ticking, hear, read, integration)
    found.synced = await found.sync()
    return found


async def test_from_request_to_result(past: Past, database: Database) -> None:
    """A restore goes to the store and to no worker; afterwards nothing builds on the past and the next sync waits."""
    before = await past.look()
    jobs = len(await past.read("sync-jobs.us"))
    answer = await past.restore()
    run_id = answer.json()["run_id"]
    (command,) = await past.commands()
    applying = await past.show(run_id)
    await past.apply(run_id)
    run, after = await past.show(run_id), await past.look()

    assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/runs/{run_id}")
    assert (command.run_id, command.before_run_id, command.attempt) == (run_id, past.synced, 1)
    assert (command.terms.purpose, command.run_number, len(await past.read("sync-jobs.us"))) == (
        "restore",
        applying["number"],
        jobs,
    )
    assert (applying["state"], applying["message"]) == ("applying", "The store brings the roster back")
    assert (run["kind"], run["state"], run["restores"]) == ("restore", "succeeded", past.synced)
    assert (before["needs_sync"], before["paused"], after["needs_sync"]) == (False, None, True)
    assert (
        after["paused"]["reason"] == "An earlier state of the roster was brought back; the next sync would undo that."
    )
    assert after["last_success_at"] == before["last_success_at"]
    row = await database.fetchrow("SELECT bookmark, bookmark_gone FROM integration")
    assert row is not None
    assert tuple(row) == (None, "restore")
    assert (await past.client.post(f"{past.path}/runs")).json()["code"] == "INTEGRATION_PAUSED"


async def test_after_the_pause(past: Past) -> None:
    """Once the integration is resumed, the next sync reads everything and says why."""
    run_id = (await past.restore()).json()["run_id"]
    await past.commands()
    await past.apply(run_id)
    await past.client.post(f"{past.path}/resume")
    following = (await past.client.post(f"{past.path}/runs")).json()["run_id"]
    log = (await past.client.get(f"/v1/runs/{following}/log")).json()["entries"]

    assert "an earlier state of the roster was brought back since the last sync" in log[0]["sentence"]


async def test_it_pauses_while_it_waits(past: Past) -> None:
    """A restore that is held pauses already, for a newer plan would take its place; undone is nothing yet."""
    run_id = (await past.restore()).json()["run_id"]
    await past.commands()
    await past.hear(
        Held(
            fetch_id="f",
            code=Code.GUARD_DELETE_HOLD,
            detail="Many would go.",
            collections={},
            plan="p" * 64,
            expires_at=datetime.now(UTC) + timedelta(days=1),
            **past.said(run_id),
        )
    )
    held = await past.look()
    approved = await past.client.post(f"/v1/runs/{run_id}/approve", json={"plan": "p" * 64})
    await past.apply(run_id)

    assert (held["paused"] is not None, held["needs_sync"], approved.status_code) == (True, False, 202)
    assert (await past.look())["needs_sync"] is True
    assert len(await past.commands()) == 1


async def test_sent_until_it_is_answered(past: Past, database: Database) -> None:
    """A restore the store does not answer is sent again every minute, and not after it was answered."""
    run_id = (await past.restore()).json()["run_id"]
    counts = []
    for _ in range(2):
        counts.append(len(await past.commands()))
        counts.append(len(await past.commands()))
        await database.fetch("UPDATE run SET published_at = now() - interval '61 seconds'")
    await past.apply(run_id)

    assert counts == [1, 1, 2, 2]
    assert len(await past.commands()) == 2


async def test_a_store_that_could_not(past: Past, database: Database) -> None:
    """What failed for a while is tried again; what is impossible fails with the reason, and pauses nothing."""
    run_id = (await past.restore()).json()["run_id"]
    await past.commands()
    await past.hear(Failed(code=Code.RUN_INTERNAL, detail="It broke.", again=True, **past.said(run_id)))
    await database.fetch("UPDATE run SET not_before = NULL")
    second = (await past.commands())[-1]
    await past.hear(Failed(code=Code.RESTORE_IMPOSSIBLE, detail="Too old.", **past.said(run_id, attempt=2)))
    run = await past.show(run_id)

    assert (second.attempt, run["state"], run["code"]) == (2, "failed", "RESTORE_IMPOSSIBLE")
    assert (await past.look())["paused"] is None


async def test_cancelled_before_it_was_sent(past: Past) -> None:
    """A restore that was cancelled while it was queued never reaches the store."""
    run_id = (await past.restore()).json()["run_id"]
    cancelled = (await past.client.post(f"/v1/runs/{run_id}/cancel")).json()

    assert cancelled["state"] == "cancelled"
    assert await past.commands() == []


async def test_not_beside_another_run(past: Past) -> None:
    """A restore is a run like any other: one at a time."""
    active = (await past.client.post(f"{past.path}/runs")).json()["run_id"]
    answer = await past.restore()

    assert (answer.status_code, answer.json()["code"], answer.json()["run_id"]) == (409, "SYNC_IN_PROGRESS", active)


async def test_what_can_be_undone(past: Past) -> None:
    """Only what was applied, wholly or in part, can be undone."""
    failed = (await past.client.post(f"{past.path}/runs")).json()["run_id"]
    await past.hear(Failed(code=Code.AUTH_INVALID, detail="It answered 401.", **past.said(failed)))
    evaluation = (await past.client.post(f"{past.path}/runs", json={"evaluate": True})).json()["run_id"]
    await past.hear(Evaluated(fetch_id="f", plan="p", collections={}, **past.said(evaluation)))
    part = (await past.client.post(f"{past.path}/runs")).json()["run_id"]
    held: dict[str, Any] = {"fetch_id": "f", "code": Code.GUARD_DELETE_HOLD, "detail": "x", "collections": {}}
    await past.hear(Held(plan="p" * 64, everything=False, **held, **past.said(part)))
    refused = [await past.restore(failed), await past.restore(evaluation)]
    allowed = await past.restore(part)
    await past.hear(HoldEnded(plan="p" * 64, code=Code.HOLD_REPLACED, **past.said(part)))

    assert [answer.json()["code"] for answer in refused] == ["RESTORE_IMPOSSIBLE"] * 2
    assert allowed.status_code == 202
    assert (await past.show(part))["state"] == "partial"


async def test_who_may(past: Past, client: httpx2.AsyncClient, issuer: TestIssuer, unknown_id: str) -> None:
    """A restore takes the scope of approvals, the run's organization and a confirmation, and is audited."""

    async def ask(token: str) -> str:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await client.post(f"/v1/runs/{past.synced}/restore", json={"confirm": True}, headers=headers)
        return str(answer.json()["code"])

    assert await ask(issuer.token(["runs.write", "integrations.write"])) == "SCOPE_MISSING"
    assert await ask(issuer.token(["runs.approve"], organization_id=unknown_id)) == "NOT_FOUND"
    assert (await past.restore(confirm=False)).json()["code"] == "CONFIRMATION_REQUIRED"
    assert (await past.restore(unknown_id)).json()["code"] == "NOT_FOUND"
    run_id = (await past.restore()).json()["run_id"]
    (entry,) = (await client.get("/v1/audit", params={"subject": f"run:{past.synced}"})).json()["items"]
    assert (entry["action"], entry["detail"]["run_id"]) == ("run.restore", run_id)
