"""People who were erased, and what is kept for a time only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from homeroom.bus import Message
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Applied, Claimed, Erased, RecordIssue, to_erasures
from sync_scheduler.erasures import Erasures, Retention

ISSUES = tuple(
    RecordIssue(collection="users", sourced_id=one, code=Code.FIELD_MISSING, field="givenName")
    for one in ("zebra-7", "user-2", None)
)


async def end_with_issues(
    client: httpx2.AsyncClient, integration: str, hear: Callable[..., Awaitable[None]]
) -> dict[str, Any]:
    """A run that ends with these issues, as it is shown then."""
    answer = await client.post(f"/v1/integrations/{integration}/runs", json={})
    run_id = answer.raise_for_status().json()["run_id"]
    about: dict[str, Any] = {"run_id": run_id, "integration_id": integration, "at": datetime.now(UTC)}
    await hear(Claimed(attempt=1, worker="w", fetch_id="a", **about))
    await hear(Applied(attempt=1, fetch_id="a", apply=1, collections={}, issues=ISSUES, **about))
    shown: dict[str, Any] = (await client.get(f"/v1/runs/{run_id}")).raise_for_status().json()
    return shown


async def list_named(database: Database, run: dict[str, Any]) -> list[str | None]:
    """The records a run's issues are about."""
    issues = await database.fetchval("SELECT issues FROM run WHERE id = $1", run["id"])
    return [issue.get("sourcedId") for issue in issues]


async def test_runs_name_nobody_who_was_erased(
    client: httpx2.AsyncClient,
    database: Database,
    integration: dict[str, Any],
    organization_id: str,
    hear: Callable[..., Awaitable[None]],
) -> None:
    """What runs said of a person goes, and nothing is written down of them any more; all else stays (X10)."""
    before = await end_with_issues(client, integration["id"], hear)
    told = await list_named(database, before)
    out = to_erasures(
        Erased(
            erasure_id="e",
            integration_id=integration["id"],
            organization_id=organization_id,
            sourced_ids=("zebra-7", "enrollment-7"),
            at=datetime.now(UTC),
        )
    )
    for _ in range(2):
        await Erasures(database).handle([Message(out.topic, 0, 0, out.key, out.value, {}, datetime.now(UTC))])
    after = await end_with_issues(client, integration["id"], hear)

    assert told == ["zebra-7", "user-2", None]
    assert await list_named(database, before) == ["user-2", None]
    assert await list_named(database, after) == ["user-2", None]
    assert await database.fetchval("SELECT count(*) FROM run WHERE strpos(run::text, 'zebra-7') > 0") == 0


async def test_run_logs_and_audit_are_kept_for_a_time(
    client: httpx2.AsyncClient, database: Database, integration: dict[str, Any], hear: Callable[..., Awaitable[None]]
) -> None:
    """Issues, stories and audit entries older than their settings go; younger ones, and how runs ended, stay."""
    old = await end_with_issues(client, integration["id"], hear)
    young = await end_with_issues(client, integration["id"], hear)
    await database.fetch("UPDATE run SET finished_at = finished_at - interval '50 days' WHERE id = $1", old["id"])
    await database.fetch("UPDATE run_entry SET at = at - interval '50 days' WHERE run = $1", old["id"])
    entries = await database.fetchval("SELECT count(*) FROM audit_entry")
    async with database.connection() as connection:
        await connection.execute("ALTER TABLE audit_entry DISABLE TRIGGER USER")
        await connection.execute("UPDATE audit_entry SET at = at - interval '50 days' WHERE number = 1")
        await connection.execute("ALTER TABLE audit_entry ENABLE TRIGGER USER")
    retention = Retention(database, run_logs=timedelta(days=49), audit_log=timedelta(days=49))
    forgotten = await retention.forget()
    shown = [(await client.get(f"/v1/runs/{run['id']}")).json() for run in (old, young)]
    left = await database.fetch("SELECT DISTINCT run FROM run_entry")
    verified = (await client.post("/v1/audit/verifications")).json()

    assert forgotten["issues"] == 1
    assert forgotten["audit"] == 1
    assert [len(await list_named(database, run)) for run in shown] == [0, 3]
    assert shown[0]["state"] == old["state"]
    assert [str(row["run"]) for row in left] == [young["id"]]
    assert (verified["ok"], verified["entries"], verified["forgotten"]) == (True, entries - 1, 1)
    assert await retention.forget() == {"issues": 0, "entries": 0, "audit": 0}
