"""Teachers' refresh: one class, now, not too often, and what changed as the answer (C2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from homeroom.bus import Message
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Applied, Bookmark, ClassRef, CollectionReport, Failed, SyncFact, SyncJob, read_job
from homeroom.roster import CANONICAL_VERSION
from homeroom.testing.tokens import TestIssuer
from sync_scheduler import starts
from sync_scheduler.starts import StartLimits
from sync_scheduler.ticking import Ticking

Hear = Callable[..., Awaitable[None]]
Read = Callable[[str], Awaitable[list[Message]]]
BOOKMARK = Bookmark(at=datetime(2026, 9, 1, 6, 30, tzinfo=UTC), canonical=CANONICAL_VERSION, increments=True)
REPORTS = {"enrollments": CollectionReport(served=30, added=2, removed=1), "users": CollectionReport(served=31)}


class School:
    """An integration that was synced, whose teachers ask for their classes."""

    def __init__(
        self, client: httpx2.AsyncClient, ticking: Ticking, hear: Hear, read: Read, integration: dict[str, Any]
    ) -> None:
        self.client, self.ticking, self.hear, self.read = client, ticking, hear, read
        self.id = integration["id"]

    async def refresh(
        self, section: str = "c1", *, wait_seconds: float = 0, headers: dict[str, str] | None = None, **body: Any
    ) -> httpx2.Response:
        """Ask for a class."""
        path = f"/v1/classes/{quote(section, safe='')}/refresh"
        asked = {"integration_id": self.id, "wait_seconds": wait_seconds} | body
        return await self.client.post(path, json=asked, headers=headers)

    async def newest_job(self) -> SyncJob:
        """The job that went out last."""
        await self.ticking.send_due()
        return read_job((await self.read("sync-jobs.us"))[-1])

    def said(self, run_id: str) -> dict[str, Any]:
        """What all facts of a run have in common."""
        return {"run_id": run_id, "attempt": 1, "integration_id": self.id, "at": datetime.now(UTC)}

    def applied(self, run_id: str, reports: dict[str, CollectionReport]) -> SyncFact:
        """What the store says of a class that was read."""
        return Applied(fetch_id="f", apply=2, collections=reports, **self.said(run_id))

    @asynccontextmanager
    async def answering(self, fact: Callable[[str], SyncFact]) -> AsyncIterator[None]:
        """A worker that answers the refresh that is under way."""

        async def answer() -> None:
            path = f"/v1/integrations/{self.id}/runs"
            found: list[dict[str, Any]] = []
            while not found:
                await asyncio.sleep(0.05)
                query = {"kind": "refresh", "state": "queued"}
                found = (await self.client.get(path, params=query)).json()["items"]
            await self.hear(fact(found[0]["id"]))

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(answer())
            yield


@pytest.fixture
async def school(
    client: httpx2.AsyncClient,
    ticking: Ticking,
    hear: Hear,
    read: Read,
    database: Database,
    integration: dict[str, Any],
) -> School:
    """An integration that was synced yesterday."""
    await database.fetch(
        "UPDATE integration SET bookmark = $1, last_full_at = now(), needs_sync = false,"
        " last_success_at = now() - interval '1 day'",
        BOOKMARK,
    )
    return School(client, ticking, hear, read, integration)


async def test_what_changed(school: School, database: Database) -> None:
    """A teacher who waits is told what changed, and the integration's syncs are none the wiser."""
    before = await database.fetchrow("SELECT bookmark, last_success_at, last_full_at, needs_sync FROM integration")
    async with school.answering(lambda run_id: school.applied(run_id, REPORTS)):
        answer = await school.refresh(wait_seconds=15)
    run = (await school.client.get(f"/v1/runs/{answer.json()['run_id']}")).json()

    assert answer.status_code == 200
    assert answer.json() | {"state": "succeeded", "code": None, "changed": True} == answer.json()
    assert answer.json()["changes"] == {"enrollments": {"added": 2, "changed": 0, "removed": 1}}
    assert (run["kind"], run["message"]) == ("refresh", "The class is up to date")
    after = await database.fetchrow("SELECT bookmark, last_success_at, last_full_at, needs_sync FROM integration")
    assert after == before


async def test_nothing_changed(school: School) -> None:
    """A class that was up to date is answered so."""
    async with school.answering(lambda run_id: school.applied(run_id, {"users": CollectionReport(served=3)})):
        answer = await school.refresh(wait_seconds=15)

    assert (answer.json()["changed"], answer.json()["changes"]) == (False, {})
    assert answer.json()["detail"] == "The class was up to date already; nothing was changed."


async def test_what_failed(school: School) -> None:
    """A class the provider does not know is answered with the code and what to do."""
    async with school.answering(
        lambda run_id: Failed(code=Code.CLASS_NOT_FOUND, detail="It answered 404.", **school.said(run_id))
    ):
        answer = await school.refresh(wait_seconds=15)

    assert (answer.status_code, answer.json()["state"], answer.json()["code"]) == (200, "failed", "CLASS_NOT_FOUND")
    assert (answer.json()["changed"], answer.json()["detail"]) == (False, "It answered 404.")
    assert answer.json()["next_step"]


async def test_the_job(school: School) -> None:
    """Of a slow provider the teacher is told where the result will be; the job names class and teacher and is short."""
    answer = await school.refresh(teacher_sourced_id="t1")
    job = await school.newest_job()

    assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/runs/{job.run_id}")
    assert job.refresh == ClassRef(class_sourced_id="c1", teacher_sourced_id="t1")
    assert (job.terms.purpose, job.mode, job.bookmark) == ("refresh", "full", BOOKMARK)
    assert job.deadline < datetime.now(UTC) + timedelta(minutes=3)


@pytest.mark.parametrize("section", ["a/b", "c 1 + 2", "ü%2F", "x/refresh", "?#&"])
async def test_any_id(school: School, section: str) -> None:
    """A class may have any sourcedId, percent-encoded in the path."""
    assert (await school.refresh(section)).status_code == 202
    job = await school.newest_job()

    assert job.refresh is not None
    assert job.refresh.class_sourced_id == section


async def test_impossible_ids(school: School) -> None:
    """What no record can be called is refused."""
    answers = [
        await school.refresh("a\0b"),
        await school.refresh("x" * 256),
        await school.refresh(teacher_sourced_id=""),
    ]

    assert [answer.json()["code"] for answer in answers] == ["REQUEST_INVALID"] * 3


async def test_the_same_class_at_once(school: School, database: Database) -> None:
    """Who asks for a class that is being refreshed waits for the same run; for another, the run is in the way."""
    answers = await asyncio.gather(*(school.refresh() for _ in range(10)))
    other = await school.refresh("c2")

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["run_id"] for answer in answers}) == 1
    assert (other.status_code, other.json()["code"], other.json()["run_id"]) == (
        409,
        "SYNC_IN_PROGRESS",
        answers[0].json()["run_id"],
    )
    assert await database.fetchval("SELECT count(*) FROM run") == 1


async def test_not_beside_a_sync(school: School) -> None:
    """While a sync is under way, it brings the class along."""
    run_id = (await school.client.post(f"/v1/integrations/{school.id}/runs")).json()["run_id"]
    answer = await school.refresh()

    assert (answer.json()["code"], answer.json()["run_id"]) == ("SYNC_IN_PROGRESS", run_id)


async def test_a_class_is_refreshed_once_in_a_while(school: School, database: Database) -> None:
    """The same class is not read twice within five minutes, whatever came of it; another may be, and later again."""
    run_id = (await school.refresh()).json()["run_id"]
    await school.hear(Failed(code=Code.PROV_5XX, detail="It answered 503.", **school.said(run_id)))
    soon = await school.refresh()
    other = await school.refresh("c2")
    await school.client.post(f"/v1/runs/{other.json()['run_id']}/cancel")
    again = await school.refresh("c2")
    await school.client.post(f"/v1/runs/{again.json()['run_id']}/cancel")
    await database.fetch("UPDATE run SET created_at = created_at - interval '301 seconds'")
    later = await school.refresh()

    assert (soon.status_code, soon.json()["code"]) == (429, "REFRESH_THROTTLED")
    assert 250 < int(soon.headers["Retry-After"]) <= 300
    assert (other.status_code, again.status_code, later.status_code) == (202, 202, 202)


async def test_an_integration_is_spared(school: School, database: Database) -> None:
    """Within an hour no more than so many classes of an integration are read; then the first leave room."""
    await database.fetch(
        "INSERT INTO run"
        " (id, integration, mode, today, created_by, deadline_at, state, kind, class_sourced_id, created_at)"
        " SELECT gen_random_uuid(), $1, 'full', now()::date, 't', now(), 'succeeded', 'refresh', 'x' || n,"
        " now() - interval '50 minutes' FROM generate_series(1, 60) AS n",
        school.id,
    )
    full = await school.refresh()
    await database.fetch("UPDATE run SET created_at = now() - interval '61 minutes'")
    free = await school.refresh()

    assert (full.status_code, full.json()["code"]) == (429, "REFRESH_THROTTLED")
    assert 590 < int(full.headers["Retry-After"]) <= 600
    assert free.status_code == 202


async def test_providers_that_can_not(school: School, database: Database, fed: dict[str, Any]) -> None:
    """Files hold no single class, and without a settled sync there is nothing a refresh could build on."""
    files = await school.refresh(integration_id=fed["id"])
    await database.fetch("UPDATE integration SET bookmark = NULL")
    unsettled = await school.refresh()

    assert [(answer.status_code, answer.json()["code"]) for answer in (files, unsettled)] == [
        (409, "REFRESH_UNSUPPORTED")
    ] * 2


async def test_paused(school: School) -> None:
    """A paused integration is not refreshed."""
    await school.client.post(f"/v1/integrations/{school.id}/pause")

    assert (await school.refresh()).json()["code"] == "INTEGRATION_PAUSED"


async def test_who_may(school: School, issuer: TestIssuer, unknown_id: str, integration: dict[str, Any]) -> None:
    """A refresh takes its own scope and organization, with which its result can be read, and no other run."""
    others = await school.refresh(headers=issuer.headers(["classes.refresh"], organization_id=unknown_id))
    without = await school.refresh(headers=issuer.headers(["runs.write"]))
    teacher = issuer.headers(["classes.refresh"], organization_id=integration["organization_id"])
    run_id = (await school.refresh(headers=teacher)).json()["run_id"]
    shown = await school.client.get(f"/v1/runs/{run_id}", headers=teacher)
    await school.client.post(f"/v1/runs/{run_id}/cancel")
    sync = (await school.client.post(f"/v1/integrations/{school.id}/runs")).json()["run_id"]
    hidden = await school.client.get(f"/v1/runs/{sync}", headers=teacher)

    assert [answer.json()["code"] for answer in (others, without, hidden)] == [
        "NOT_FOUND",
        "SCOPE_MISSING",
        "NOT_FOUND",
    ]
    assert shown.json()["id"] == run_id


async def test_a_teacher_refreshes_their_own(
    school: School, issuer: TestIssuer, unknown_id: str, integration: dict[str, Any]
) -> None:
    """A teacher's token counts for that teacher in that roster, and shows what came of it; other routes refuse it."""
    organization = integration["organization_id"]

    def sign(sourced_id: str, integration_id: str = school.id) -> dict[str, str]:
        who = {"integration_id": integration_id, "sourced_id": sourced_id}
        return issuer.headers(["classes.refresh", "admin"], organization_id=organization, teacher=who)

    tove, ada = sign("tove"), sign("ada")
    asked = await school.refresh(headers=tove)
    job = await school.newest_job()
    run = f"/v1/runs/{asked.json()['run_id']}"
    refused = [
        await school.refresh(headers=tove, teacher_sourced_id="ada"),
        await school.refresh(headers=sign("tove", unknown_id)),
        await school.client.get(f"{run}/log", headers=tove),
        await school.client.get("/v1/integrations", headers=tove),
        await school.client.get(run, headers=ada),
    ]

    assert asked.status_code == 202
    assert job.refresh == ClassRef(class_sourced_id="c1", teacher_sourced_id="tove")
    assert (await school.client.get(run, headers=tove)).json()["id"] == asked.json()["run_id"]
    assert (await school.refresh(headers=tove, teacher_sourced_id="tove")).json()["run_id"] == asked.json()["run_id"]
    assert [answer.json()["code"] for answer in refused] == [
        "TEACHER_REFUSED",
        "TEACHER_REFUSED",
        "SCOPE_MISSING",
        "SCOPE_MISSING",
        "NOT_FOUND",
    ]


async def test_first_in_line(
    school: School,
    client: httpx2.AsyncClient,
    database: Database,
    organization_id: str,
    wanted: Callable[..., dict[str, Any]],
) -> None:
    """A refresh goes out before syncs that were asked for earlier: somebody waits for it."""
    other = (await client.post("/v1/integrations", json=wanted(organization_id, name="Other"))).json()["id"]
    await client.post(f"/v1/integrations/{other}/runs")
    await school.refresh()
    async with database.transaction() as connection:
        ready = await starts.list_ready(connection, StartLimits(), 10)

    assert [row["kind"] for row in ready] == ["refresh", "sync"]
