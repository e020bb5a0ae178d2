"""Runs over REST: start, read, log, cancel."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from homeroom.db import Database


async def test_start(client: httpx2.AsyncClient, integration: dict[str, Any]) -> None:
    """A run that was asked for is queued as full, says why in its log, and has the contract's shape."""
    answer = await client.post(f"/v1/integrations/{integration['id']}/runs", json={"mode": "auto", "evaluate": False})
    run_id = answer.json()["run_id"]
    run = (await client.get(f"/v1/runs/{run_id}")).json()
    log = (await client.get(f"/v1/runs/{run_id}/log")).json()

    assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/runs/{run_id}")
    shown = {
        "id": run_id,
        "integration_id": integration["id"],
        "kind": "sync",
        "evaluate": False,
        "hold": None,
        "plan": None,
        "slot": None,
        "restores": None,
        "links": {
            "integration": f"/v1/integrations/{integration['id']}",
            "log": f"/v1/runs/{run_id}/log",
            "plan": None,
            "changes": None,
            "received": None,
        },
        "state": "queued",
        "code": None,
        "message": "The run waits for a worker",
        "next_step": None,
        "mode": "full",
        "attempt": 1,
        "counts": {},
        "matched_students": 0,
        "matched_teachers": 0,
        "unmatched_users": 0,
        "imported_classes": 0,
        "started_at": None,
        "finished_at": None,
    }
    assert run | shown == run
    assert [entry["sentence"] for entry in log["entries"]] == [
        "A sync was asked for. Everything is read: this is the first sync."
    ]
    assert log["issues"] == []


async def test_start_without_body(client: httpx2.AsyncClient, integration: dict[str, Any]) -> None:
    """A run can be asked for without a body."""
    assert (await client.post(f"/v1/integrations/{integration['id']}/runs")).status_code == 202


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"mode": "delta"}, "body.mode"),
        ({"options": {"sync_parents": True}}, "body.options"),
        ({"evaluate": True, "options": {"sync_parent": True}}, "body.options.sync_parent"),
        ({"evaluate": "no"}, "body.evaluate"),
        ({"force": True}, "body.force"),
    ],
)
async def test_wrong_fields(
    client: httpx2.AsyncClient, integration: dict[str, Any], body: dict[str, Any], field: str
) -> None:
    """Unknown and wrong fields, and other options without an evaluation, are refused by name, and no run begins."""
    path = f"/v1/integrations/{integration['id']}/runs"
    answer = await client.post(path, json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert (await client.get(path)).json()["items"] == []


async def test_one_active_run(client: httpx2.AsyncClient, database: Database, integration: dict[str, Any]) -> None:
    """Of fifty requests at once one gets a run and the others its id (C2)."""
    path = f"/v1/integrations/{integration['id']}/runs"
    answers = await asyncio.gather(*(client.post(path, json={}) for _ in range(50)))
    accepted = [answer.json()["run_id"] for answer in answers if answer.status_code == 202]
    refused = [answer.json() for answer in answers if answer.status_code == 409]

    assert (len(accepted), len(refused)) == (1, 49)
    assert {(problem["code"], problem["run_id"]) for problem in refused} == {("SYNC_IN_PROGRESS", accepted[0])}
    assert await database.fetchval("SELECT count(*) FROM run") == 1


async def test_the_database_guarantees_it(database: Database, run_id: str) -> None:
    """Even past all our code a second active run can't be stored."""
    from asyncpg import UniqueViolationError

    with pytest.raises(UniqueViolationError):
        await database.fetch(
            "INSERT INTO run (id, integration, mode, today, created_by, deadline_at)"
            " SELECT gen_random_uuid(), integration, mode, today, 'test', deadline_at FROM run WHERE id = $1",
            run_id,
        )


async def test_one_after_the_other(client: httpx2.AsyncClient, integration: dict[str, Any]) -> None:
    """When a run has ended the next may begin; runs are listed newest first, in pages."""
    path = f"/v1/integrations/{integration['id']}/runs"
    ids = []
    for _ in range(3):
        ids.append((await client.post(path, json={})).json()["run_id"])
        await client.post(f"/v1/runs/{ids[-1]}/cancel")
    first = (await client.get(path, params={"limit": 2})).json()
    second = (await client.get(path, params={"limit": 2, "cursor": first["cursor"]})).json()

    assert [run["id"] for run in first["items"] + second["items"]] == ids[::-1]
    assert (first["more"], second["more"]) == (True, False)


async def test_filters(client: httpx2.AsyncClient, integration: dict[str, Any], run_id: str) -> None:
    """Runs can be listed by state and by kind; what is neither is refused."""
    path = f"/v1/integrations/{integration['id']}/runs"
    await client.post(f"/v1/runs/{run_id}/cancel")
    evaluation = (await client.post(path, json={"evaluate": True})).json()["run_id"]
    queries = ({"kind": "evaluation"}, {"kind": "sync", "state": "cancelled"}, {"state": "held"})
    found = [[run["id"] for run in (await client.get(path, params=query)).json()["items"]] for query in queries]

    assert found == [[evaluation], [run_id], []]
    assert (await client.get(path, params={"state": "done"})).json()["code"] == "REQUEST_INVALID"


async def test_cancel(client: httpx2.AsyncClient, run_id: str) -> None:
    """A queued run is cancelled at once, and cancelling it again changes nothing."""
    first = await client.post(f"/v1/runs/{run_id}/cancel")
    second = await client.post(f"/v1/runs/{run_id}/cancel")

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()
    assert (first.json()["state"], first.json()["code"]) == ("cancelled", "RUN_CANCELLED")
    assert first.json()["next_step"] == "Run the sync again when wanted."


async def test_unknown(client: httpx2.AsyncClient, unknown_id: str) -> None:
    """Unknown integrations and runs are NOT_FOUND, whatever is asked of them."""
    answers = [
        await client.get(f"/v1/integrations/{unknown_id}"),
        await client.patch(f"/v1/integrations/{unknown_id}", json={}),
        await client.delete(f"/v1/integrations/{unknown_id}"),
        await client.post(f"/v1/integrations/{unknown_id}/reset", json={"confirm": True}),
        await client.get(f"/v1/integrations/{unknown_id}/runs"),
        await client.post(f"/v1/integrations/{unknown_id}/runs", json={}),
        await client.get(f"/v1/runs/{unknown_id}"),
        await client.get(f"/v1/runs/{unknown_id}/log"),
        await client.post(f"/v1/runs/{unknown_id}/cancel"),
    ]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "NOT_FOUND")}
